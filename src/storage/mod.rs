//! What must outlive the process: an append-only log per shard, with group commit beside the shards.
//!
//! - [`frame`]: one commit as bytes. [`commits`]: which of those that are found count. `directory`: which files there are. `log`: the writer of one shard's log.
//! - `journal`: the two ends between a shard and its writer. `file`: the same file over glommio, or over blocking calls where io_uring is refused. `store`: all
//!   of it together.
//! - `fjall`, with the feature `engine-fjall`: an embedded engine in place of the logs.
//!
//! A shard hands over what a turn left to be kept, under a number, and goes on. Its writer takes everything that has gathered, writes it in one piece,
//! syncs, and reports the number; then the next: so the size of a commit grows with the load by itself, and nobody waits for more than two syncs. There is
//! no snapshot: the shard writes what is live anew, a little at a time, and the segments behind it are deleted.
//!
//! The payloads mean nothing here; the broker writes and reads them. What they look like on a disk needs no operating system, and the simulator's disk has
//! the same.

pub mod commits;
#[cfg(feature = "runtime")]
mod directory;
#[cfg(test)]
#[cfg(feature = "runtime")]
mod faulty;
#[cfg(feature = "runtime")]
mod file;
#[cfg(feature = "engine-fjall")]
mod fjall;
pub mod frame;
#[cfg(feature = "runtime")]
mod journal;
#[cfg(feature = "runtime")]
mod log;
#[cfg(feature = "runtime")]
mod store;
#[cfg(test)]
#[cfg(feature = "runtime")]
mod tests;

#[cfg(feature = "runtime")]
pub use directory::{Contents, Damage, Recovered, make};
#[cfg(feature = "engine-fjall")]
pub use fjall::{Changes, Keyed};
#[cfg(feature = "runtime")]
pub use journal::{Done, Job, Journal};
#[cfg(feature = "runtime")]
pub use log::SEGMENT_BYTES;
#[cfg(feature = "runtime")]
pub use store::{Backend, Engine, Storage};
