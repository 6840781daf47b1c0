//! Which other shards have subscribers for an exact filter, without its text.
//!
//! A million devices with a topic of their own, times the number of shards, must not cost a million texts on each. So an entry is one
//! word: 57 bits of the filter's fingerprint and 7 bits of shard, and a byte that the table keeps with it. Two filters with one fingerprint cost a
//! needless hop; the shard that owns the subscription matches the real text.
//!
//! A hash table doubles when it is full, and then an entry costs twice as much: 10 to 21 bytes. So there are several tables of unequal shares, which
//! double one after the other: together an entry costs 14 to 15 bytes whatever their number, and no growth moves more than a sixth of all entries.
//!
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

const TABLES: usize = 8;

/// The last of each table's share of 2^16 numbers: a share is 2^(1/8) times as large as the one before it.
const LAST: [u16; TABLES] = [5_931, 12_399, 19_453, 27_145, 35_533, 44_681, 54_657, u16::MAX];

/// A set of (fingerprint, shard).
#[derive(Default)]
pub(super) struct RemoteExact {
    tables: [HashTable<u64>; TABLES],
    len: usize,
}

/// Which table. The bits that it looks at are not those by which an entry is found in it.
#[inline]
fn table_of(fingerprint: u64) -> usize {
    let share = (fingerprint >> 8) as u16;
    LAST[..TABLES - 1].iter().map(|&last| usize::from(share > last)).sum()
}

impl RemoteExact {
    /// True if it was not there.
    pub fn add(&mut self, fingerprint: u64, shard: ShardId) -> bool {
        let packed = pack(fingerprint, shard);
        let entries = &mut self.tables[table_of(fingerprint)];
        if entries.find(hash_of(&packed), |&e| e == packed).is_some() {
            return false;
        }
        entries.insert_unique(hash_of(&packed), packed, hash_of);
        self.len += 1;
        true
    }

    /// True if it was there.
    pub fn remove(&mut self, fingerprint: u64, shard: ShardId) -> bool {
        let packed = pack(fingerprint, shard);
        let entries = &mut self.tables[table_of(fingerprint)];
        let Ok(entry) = entries.find_entry(hash_of(&packed), |&e| e == packed) else { return false };
        entry.remove();
        if entries.len() < entries.capacity() / 8 {
            entries.shrink_to(entries.len() * 2, hash_of);
        }
        self.len -= 1;
        true
    }

    /// The shards that have subscribers under this fingerprint.
    #[inline]
    pub fn shards(&self, fingerprint: u64) -> ShardSet {
        let mut shards = ShardSet::default();
        if self.len > 0 {
            for entry in self.tables[table_of(fingerprint)].iter_hash(spread(fingerprint)) {
                if entry & !SHARD_BITS == fingerprint {
                    shards.insert(ShardId((entry & SHARD_BITS) as u16));
                }
            }
        }
        shards
    }

    pub fn len(&self) -> usize {
        self.len
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

    fn allocated(remote: &RemoteExact) -> usize {
        remote.tables.iter().map(HashTable::allocation_size).sum()
    }

    fn key(n: u64) -> u64 {
        fingerprint(crate::broker::hash::number(n))
    }

    #[test]
    fn an_entry_costs_at_most_16_bytes_whatever_their_number() {
        let mut remote = RemoteExact::default();
        for n in 1..=200_000 {
            remote.add(key(n), ShardId(1));
            let bytes = allocated(&remote);
            assert!(n < 10_000 || bytes <= 16 * remote.len(), "{n} entries in {bytes} bytes");
        }
        assert_eq!(remote.len(), 200_000);
    }

    #[test]
    fn memory_comes_back() {
        let mut remote = RemoteExact::default();
        for n in 0..10_000 {
            remote.add(key(n), ShardId(1));
        }
        for n in 0..10_000 {
            assert!(remote.remove(key(n), ShardId(1)));
        }
        assert_eq!(remote.len(), 0);
        assert!(allocated(&remote) < 2_000, "{}", allocated(&remote));
    }
}
