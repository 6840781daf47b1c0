//! Fetching from memory, all at once, what the matches of the next topics are going to look at.
//!
//! Among very many filters each step of a match waits for memory (about 100 ns), and the next step needs what this one finds: a match is four to six such
//! waits in a row. Here the same steps are taken for several topics side by side, step by step, so that a processor that reads ahead waits for all of them at
//! once. Nothing comes of it but that the matches, a moment later, find near what they need. `bench/trie.rs` shows what is lost without it.

use std::hint::black_box;

use super::filters::{FilterId, Name};
use super::trie::Reached;
use super::{Topics, remote};

/// Topics that are looked ahead for at a time: about as many waits as a core has under way at once.
pub const WARM_BATCH: usize = 16;

/// An index with fewer filters than this lies in the core's caches, most of it.
const LARGE: usize = 4_096;

/// Room that is used again.
#[derive(Default)]
pub struct Warmth {
    reached: Reached,
    filters: Vec<u32>,
}

impl Topics {
    /// Whether it is worth looking ahead.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.filters.len() + self.trie.len() + self.remote.len() >= LARGE
    }

    /// Fetches what the matches of these topics, [`WARM_BATCH`] at most, will look at.
    pub fn warm(&self, topics: &[&[u8]], warmth: &mut Warmth) {
        let Warmth { reached, filters } = warmth;
        filters.clear();
        let mut fingerprints = [0; WARM_BATCH];
        for (fingerprint, topic) in fingerprints.iter_mut().zip(topics) {
            *fingerprint = remote::fingerprint(self.hashing.bytes(topic));
        }
        let mut seen = 0;
        for &fingerprint in &fingerprints[..topics.len().min(WARM_BATCH)] {
            filters.extend(self.filters.candidate(fingerprint));
            seen ^= self.remote.shards(fingerprint).len();
        }
        self.trie.warm(&self.hashing, topics, reached, filters);
        for &id in &*filters {
            seen ^= self.filters.get(FilterId(id)).map_or(0, |filter| filter.groups);
        }
        for &id in &*filters {
            let Some(filter) = self.filters.get(FilterId(id)) else { continue };
            seen ^= filter.subscribers.as_slice().first().map_or(0, |subscriber| subscriber.session);
            if let Name::Exact { text, .. } = &filter.name {
                seen ^= u32::from(text.as_bytes().first().copied().unwrap_or(0));
            }
        }
        black_box(seen);
    }
}
