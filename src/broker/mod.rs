//! The state of ONE shard: a synchronous object without I/O, clock, thread or `unsafe`.

pub mod hash;
pub mod ids;
pub mod outbox;
pub mod retained;
pub mod topics;
pub mod wheel;
