//! Joins what the broker knows, its records as changes of keys, to what storage takes; neither knows the other.

use crate::broker::journal::keyed::{self, Change};
use crate::storage::Changes;

/// What the records of a commit of shard `shard` of `shards` change.
pub fn changes(records: &[u8], shard: u16, shards: u16, changes: &mut dyn Changes) {
    keyed::changes(records, shard, shards, |change| match change {
        Change::Put { key, value } => changes.put(key, value),
        Change::Remove { key } => changes.remove(key),
        Change::RemoveRange { from, to } => changes.remove_range(from, to),
    });
}
