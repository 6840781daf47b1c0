//! The filters with local subscribers or shared groups: one slab for all of them, and a hash table for the exact ones.
//!
//! An exact filter's text stands here and nowhere else; a wildcard filter's text is its path in the trie.

use hashbrown::HashTable;
use slab::Slab;

use super::remote::spread;
use super::subscriber::Subscribers;
use super::trie::{End, NONE};

/// A filter of this shard: valid as long as it has a local subscriber or member, and used again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub(super) u32);

pub(super) enum Name {
    Exact {
        fingerprint: u64,
        text: Box<str>,
    },
    /// Where in the trie the filter ends.
    Wildcard(End),
}

pub(super) struct Filter {
    pub name: Name,
    pub subscribers: Subscribers,
    /// The first of the shared groups on this filter.
    pub groups: u32,
}

const _: () = assert!(size_of::<Filter>() == 48);

impl Filter {
    /// Whether nothing hangs on the filter any more.
    pub fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && self.groups == NONE
    }
}

#[derive(Default)]
pub(super) struct Filters {
    slab: Slab<Filter>,
    exact: HashTable<u32>,
    text_bytes: u64,
}

impl Filters {
    #[inline]
    pub fn get(&self, id: FilterId) -> Option<&Filter> {
        self.slab.get(id.0 as usize)
    }

    #[inline]
    pub fn get_mut(&mut self, id: FilterId) -> Option<&mut Filter> {
        self.slab.get_mut(id.0 as usize)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes of the exact filters' texts.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// The exact filter with this text.
    #[inline]
    pub fn find(&self, fingerprint: u64, text: &str) -> Option<FilterId> {
        let same = |&id: &u32| match &self.slab[id as usize].name {
            Name::Exact { fingerprint: f, text: t } => *f == fingerprint && **t == *text,
            Name::Wildcard(_) => false,
        };
        self.exact.find(spread(fingerprint), same).map(|&id| FilterId(id))
    }

    /// A filter that may be the exact one with this fingerprint: nothing but the table is looked at.
    #[inline]
    pub fn candidate(&self, fingerprint: u64) -> Option<u32> {
        self.exact.find(spread(fingerprint), |_| true).copied()
    }

    /// Whether any exact filter with this fingerprint has a local subscriber.
    pub fn is_subscribed(&self, fingerprint: u64) -> bool {
        self.exact.iter_hash(spread(fingerprint)).any(|&id| {
            let filter = &self.slab[id as usize];
            fingerprint_of(filter) == fingerprint && !filter.subscribers.is_empty()
        })
    }

    /// Gives free room away.
    pub fn trim(&mut self) {
        self.slab.shrink_to_fit();
        let slab = &self.slab;
        self.exact.shrink_to(slab.len() * 2, |&id| spread(fingerprint_of(&slab[id as usize])));
    }

    /// Adds a filter that is not there yet.
    pub fn insert(&mut self, name: Name) -> FilterId {
        let Filters { slab, exact, text_bytes } = self;
        let id = slab.insert(Filter { name, subscribers: Subscribers::default(), groups: NONE }) as u32;
        if let Name::Exact { fingerprint, text } = &slab[id as usize].name {
            *text_bytes += text.len() as u64;
            exact.insert_unique(spread(*fingerprint), id, |&id| spread(fingerprint_of(&slab[id as usize])));
        }
        FilterId(id)
    }

    /// Takes a filter out.
    pub fn remove(&mut self, id: FilterId) -> Option<Filter> {
        let filter = self.slab.try_remove(id.0 as usize)?;
        if let Name::Exact { text, .. } = &filter.name {
            self.text_bytes -= text.len() as u64;
        }
        if let Name::Exact { fingerprint, .. } = &filter.name
            && let Ok(entry) = self.exact.find_entry(spread(*fingerprint), |&e| e == id.0)
        {
            entry.remove();
        }
        Some(filter)
    }
}

/// The fingerprint of an exact filter; only those stand in the table.
fn fingerprint_of(filter: &Filter) -> u64 {
    match &filter.name {
        Name::Exact { fingerprint, .. } => *fingerprint,
        Name::Wildcard(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::subscriber::{SubOptions, Subscriber};
    use super::*;

    #[test]
    fn two_texts_with_one_fingerprint_are_told_apart() {
        let mut filters = Filters::default();
        let [a, b] = ["a", "b"].map(|text| filters.insert(Name::Exact { fingerprint: 0x80, text: text.into() }));
        assert_eq!((filters.find(0x80, "a"), filters.find(0x80, "b"), filters.find(0x80, "c")), (Some(a), Some(b), None));
        assert!(!filters.is_subscribed(0x80));
        let sub = Subscriber { session: 1, subscription_id: 0, options: SubOptions::default() };
        filters.get_mut(b).unwrap().subscribers.insert(sub);
        assert!(filters.is_subscribed(0x80));
        assert!(!filters.is_subscribed(0x100));
        filters.remove(b);
        assert!(!filters.is_subscribed(0x80));
        assert_eq!((filters.find(0x80, "a"), filters.find(0x80, "b")), (Some(a), None));
    }
}
