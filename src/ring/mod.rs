//! SPSC rings between shards: the only lock-free code.
