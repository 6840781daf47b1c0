//! The names of levels, each once, with the nodes that bear it: a fleet's topics all end in the same few names.
//!
//! A name lives as long as a node bears it. Its nodes form a list through the tree (`tree`), of which this holds the beginning and the length: so a filter that
//! asks for a rare name below `+` need not look at every level that the `+` stands for.

use hashbrown::HashTable;
use slab::Slab;

use super::tree::NONE;
use crate::broker::hash::Hashing;

pub(super) struct Name {
    text: Box<str>,
    /// The node that got it last.
    pub first: u32,
    /// Nodes that bear it.
    pub count: u32,
}

#[derive(Default)]
pub(super) struct Names {
    slab: Slab<Name>,
    by_text: HashTable<u32>,
    text_bytes: u64,
}

impl Names {
    /// The name with this text, whose hash is `hash`.
    #[inline]
    pub fn find(&self, hash: u64, text: &str) -> Option<u32> {
        self.by_text.find(hash, |&id| *self.slab[id as usize].text == *text).copied()
    }

    /// The same; a name that is made has no node yet, and whoever asked gives it one.
    pub fn intern(&mut self, hashing: &Hashing, hash: u64, text: &str) -> u32 {
        if let Some(id) = self.find(hash, text) {
            return id;
        }
        let Names { slab, by_text, text_bytes } = self;
        *text_bytes += text.len() as u64;
        let id = slab.insert(Name { text: text.into(), first: NONE, count: 0 }) as u32;
        by_text.insert_unique(hash, id, |&id| hashing.text(&slab[id as usize].text));
        id
    }

    #[inline]
    pub fn get(&self, id: u32) -> &Name {
        &self.slab[id as usize]
    }

    pub fn get_mut(&mut self, id: u32) -> &mut Name {
        &mut self.slab[id as usize]
    }

    #[inline]
    pub fn text(&self, id: u32) -> &str {
        &self.slab[id as usize].text
    }

    /// Forgets a name that no node bears any more.
    pub fn release(&mut self, hashing: &Hashing, id: u32) {
        if self.slab[id as usize].count > 0 {
            return;
        }
        let Names { slab, by_text, text_bytes } = self;
        let name = slab.remove(id as usize);
        *text_bytes -= name.text.len() as u64;
        if let Ok(entry) = by_text.find_entry(hashing.text(&name.text), |&e| e == id) {
            entry.remove();
        }
        if by_text.len() < by_text.capacity() / 8 {
            by_text.shrink_to(by_text.len() * 2, |&id| hashing.text(&slab[id as usize].text));
        }
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Bytes of all texts.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Gives free room away.
    pub fn trim(&mut self) {
        self.slab.shrink_to_fit();
    }
}
