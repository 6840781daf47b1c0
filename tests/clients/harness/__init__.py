"""What the cases are built from: the broker as a process, foreign clients behind one interface, and waiting for conditions."""
