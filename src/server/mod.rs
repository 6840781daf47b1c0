//! The I/O shell: one pinned thread runs one shard.
