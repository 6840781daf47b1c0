//! The seeded hash of every table of a shard that is keyed by a client's text.
//!
//! The seed is handed in once, drawn by the server at its start: a client cannot prepare colliding topics, and a simulated run can be
//! repeated. All shards of one broker get the same seed, because a fingerprint travels between them; it means nothing outside the process.
//! Not a cryptographic hash: who can measure collisions for long enough may find some, and pays for each with a packet.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// Hashes text under one seed. Costs a few nanoseconds for a short topic.
#[derive(Clone)]
pub struct Hashing {
    seed: u64,
    shared: SharedSeed,
}

impl Hashing {
    /// A hash that the same `seed` repeats.
    pub fn new(seed: u64) -> Hashing {
        Hashing { seed, shared: SharedSeed::from_u64(seed) }
    }

    /// The hash of a text.
    #[inline]
    pub fn text(&self, text: &str) -> u64 {
        self.bytes(text.as_bytes())
    }

    /// The hash of the bytes of a text.
    #[inline]
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of two texts, of which the first holds no `/`.
    #[inline]
    pub fn pair(&self, first: &str, second: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(first.as_bytes());
        hasher.write_u8(b'/');
        hasher.write(second.as_bytes());
        hasher.finish()
    }
}

/// The hash of a small number that no client chooses: an index, or two of them.
#[inline]
pub fn number(value: u64) -> u64 {
    let product = u128::from(value ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_repeats() {
        assert_eq!(Hashing::new(7).text("a/b"), Hashing::new(7).text("a/b"));
        assert_ne!(Hashing::new(7).text("a/b"), Hashing::new(8).text("a/b"));
        assert_eq!(Hashing::new(7).pair("g", "a"), Hashing::new(7).pair("g", "a"));
        assert_ne!(Hashing::new(7).pair("g", "a"), Hashing::new(7).pair("ga", ""));
    }

    #[test]
    fn neighbouring_numbers_spread() {
        let low: std::collections::BTreeSet<u64> = (0..64).map(|n| number(n) & 0x3FF).collect();
        assert!(low.len() > 48, "{} of 64 distinct", low.len());
    }
}
