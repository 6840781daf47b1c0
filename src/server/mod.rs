//! The I/O shell: one pinned thread runs one shard.

#[allow(unsafe_code)]
pub mod driver;
