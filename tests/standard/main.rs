//! Normative statements that no other test proves, by the sections of the standard: one shard, driven with bytes and without sockets; and, in `across`, two.
//!
//! The statements that a test proves stand above it; 3.1.1 and 5.0 number them differently, so both may stand there. `docs/PROTOCOL.md` lists all
//! statements with their tests, and `tests/protocol_table.rs` compares it with the code and the tests. `disk` is about what waits for the disk.

mod acknowledge;
mod across;
mod connect;
mod disconnect;
mod disk;
mod exchange;
mod full_queue;
mod journal;
mod message;
mod repeated;
mod session;
mod size;
mod world;
