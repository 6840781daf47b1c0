//! Per-shard counters as plain data.
