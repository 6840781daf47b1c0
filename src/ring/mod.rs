//! Rings between shards, and the protocol by which a shard goes to sleep beside them: the only lock-free code of the broker.
//!
//! - [`spsc`]: a bounded ring with one producer and one consumer.
//! - [`mesh`](mesh()): one such ring for every ordered pair of shards, so that no two threads ever write to the same index.
//! - [`park`]: the flag and the two fences that keep a wake-up from getting lost between "is there work?" and "sleep".
//!
//! The atomics come from one file, `sync.rs`, which `--cfg loom` swaps for the model checker's:
//! `RUSTFLAGS="--cfg loom" cargo test --release --no-default-features --lib ring::` tries every interleaving at a tiny size.
//!
//! Cost: 5 to 10 ns a message for both sides together when messages are handed over in batches, one cache line per transfer of an index.
//! What it deliberately does not do: block, grow, or wake anybody. A full ring hands the message back, and the caller has a policy.

pub mod mesh;
pub mod park;
#[allow(unsafe_code)]
pub mod spsc;
mod sync;

pub use mesh::{Ports, mesh};
pub use park::Park;
pub use spsc::{Consumer, Producer, ring};
