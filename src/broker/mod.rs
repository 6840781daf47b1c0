//! The state of ONE shard: a synchronous object without I/O, clock, thread or `unsafe`.

pub mod ids;
pub mod outbox;
