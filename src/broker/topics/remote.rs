//! Which other shards have subscribers for an exact filter, without its text.
//!
//! A million devices with a topic of their own, times the number of shards, must not cost a million texts on each. So an entry is one
//! word: 57 bits of the filter's fingerprint and 7 bits of shard. That is 9 bytes with the table's control byte, 10 to 21 with its free
//! room. Two filters with one fingerprint cost a needless hop; the shard that owns the subscription matches the real text.
//! An entry is there or not: who owns several filters with one fingerprint announces the first and withdraws the last.

use hashbrown::HashTable;

use crate::broker::ids::{MAX_SHARDS, ShardId, ShardSet};

/// The bits of a packed entry that name the shard.
const SHARD_BITS: u64 = 0x7F;

const _: () = assert!(MAX_SHARDS as u64 <= SHARD_BITS + 1);

/// Makes a hash a fingerprint: leaves room for the shard.
#[inline]
pub(super) fn fingerprint(hash: u64) -> u64 {
    hash & !SHARD_BITS
}

/// The hash under which a fingerprint stands in a table: both ends of the word must vary.
#[inline]
pub(super) fn spread(fingerprint: u64) -> u64 {
    fingerprint ^ (fingerprint >> 32)
}

/// A set of (fingerprint, shard).
#[derive(Default)]
pub(super) struct RemoteExact {
    entries: HashTable<u64>,
}

impl RemoteExact {
    /// True if it was not there.
    pub fn add(&mut self, fingerprint: u64, shard: ShardId) -> bool {
        let packed = pack(fingerprint, shard);
        if self.entries.find(hash_of(&packed), |&e| e == packed).is_some() {
            return false;
        }
        self.entries.insert_unique(hash_of(&packed), packed, hash_of);
        true
    }

    /// True if it was there.
    pub fn remove(&mut self, fingerprint: u64, shard: ShardId) -> bool {
        let packed = pack(fingerprint, shard);
        let Ok(entry) = self.entries.find_entry(hash_of(&packed), |&e| e == packed) else { return false };
        entry.remove();
        if self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2, hash_of);
        }
        true
    }

    /// The shards that have subscribers under this fingerprint.
    #[inline]
    pub fn shards(&self, fingerprint: u64) -> ShardSet {
        let mut shards = ShardSet::default();
        if !self.entries.is_empty() {
            for entry in self.entries.iter_hash(spread(fingerprint)) {
                if entry & !SHARD_BITS == fingerprint {
                    shards.insert(ShardId((entry & SHARD_BITS) as u16));
                }
            }
        }
        shards
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

fn pack(fingerprint: u64, shard: ShardId) -> u64 {
    fingerprint & !SHARD_BITS | u64::from(shard.0) & SHARD_BITS
}

fn hash_of(packed: &u64) -> u64 {
    spread(packed & !SHARD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_of_one_fingerprint_are_told_apart() {
        let mut remote = RemoteExact::default();
        let (a, b) = (fingerprint(0x1234_5678_9ABC_DEF0), fingerprint(0x1234_5678_9ABC_0000));
        assert!(remote.add(a, ShardId(0)));
        assert!(remote.add(a, ShardId(127)));
        assert!(remote.add(b, ShardId(3)));
        assert!(!remote.add(a, ShardId(127)));
        assert_eq!(remote.shards(a).iter().collect::<Vec<_>>(), [ShardId(0), ShardId(127)]);
        assert!(remote.remove(a, ShardId(0)));
        assert!(!remote.remove(a, ShardId(0)));
        assert_eq!(remote.shards(a).iter().collect::<Vec<_>>(), [ShardId(127)]);
        assert_eq!(remote.shards(b).iter().collect::<Vec<_>>(), [ShardId(3)]);
    }

    #[test]
    fn memory_comes_back() {
        let mut remote = RemoteExact::default();
        let key = |n: u64| fingerprint(crate::broker::hash::number(n));
        for n in 0..10_000 {
            remote.add(key(n), ShardId(1));
        }
        assert!(remote.entries.allocation_size() <= 21 * 10_000, "{}", remote.entries.allocation_size());
        for n in 0..10_000 {
            assert!(remote.remove(key(n), ShardId(1)));
        }
        assert!(remote.entries.allocation_size() < 1_000, "{}", remote.entries.allocation_size());
    }
}
