//! ringmq: an MQTT broker for Linux, thread-per-core on io_uring.
//!
//! The layers, from the top down; an arrow may only point down (`tests/tidy.rs` holds them):
//!
//! ```text
//! cli          one file per subcommand
//! server       the I/O shell: one pinned thread = one shard; io_uring and epoll drivers, listeners, hand-off, bell
//! broker       the state of ONE shard, synchronous: no I/O, no clock, no thread, no unsafe
//! ring         SPSC rings between shards: the only lock-free code
//! mqtt         bytes <-> packets; topic names and filters
//! config, metrics   plain data, usable everywhere
//! ```

#[warn(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod broker;
#[cfg(feature = "runtime")]
pub mod cli;
pub mod config;
pub mod metrics;
#[warn(clippy::disallowed_methods, clippy::disallowed_types)]
pub mod mqtt;
pub mod ring;
#[cfg(feature = "runtime")]
pub mod server;
pub mod storage;
