//! What the broker counts, as plain data: no atomics, no registry, no clock.
//!
//! Each shard owns one [`Counters`] and one [`Gauges`] and changes them as ordinary integers; whoever reports takes copies and merges them.
//! [`SysTree`] turns copies into the `$SYS/broker` topics; other exporters walk `iter()`. Counting costs one addition on a cache line that the
//! shard owns already.

mod counters;
mod labels;
mod load;
mod sys;

pub use counters::{Counters, Gauges, Metric, Snapshot};
pub use labels::{CloseCause, DropReason, Limit, RefuseReason};
pub use load::LoadAverage;
pub use sys::SysTree;
