//! What the fuzz targets do with their input, without the fuzzer: `tests/corpus.rs` runs the same on the committed corpus with every `cargo test`.
//!
//! Each target is a function of bytes that panics on a finding. An input is read from its front, decision by decision, so that a change in one place
//! leaves what comes before it as it was.

pub mod decode;
mod input;
mod packets;
pub mod recovery;
pub mod round_trip;
pub mod shard;
pub mod topics;
