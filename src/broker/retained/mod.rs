//! The retained messages that this shard owns.
//!
//! A hash table holds them by topic, so that setting a topic again - a vehicle's position, many times a second - is one probe. Beside it
//! an ordered set of the same texts, touched only when a topic appears or disappears, is what wildcard reading walks ([`Cursor`]).
//! Text is stored once. A topic costs about 100 bytes beside its text and message.

mod cursor;
mod order;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::rc::Rc;

pub use cursor::Cursor;
use hashbrown::HashTable;
use order::Topic;

use super::hash::Hashing;

struct Entry<M> {
    topic: Rc<str>,
    message: M,
}

/// Retained messages by topic.
pub struct Retained<M> {
    hashing: Hashing,
    entries: HashTable<Entry<M>>,
    order: BTreeSet<Topic>,
}

impl<M> Retained<M> {
    /// No messages.
    pub fn new(seed: u64) -> Retained<M> {
        Retained { hashing: Hashing::new(seed), entries: HashTable::new(), order: BTreeSet::new() }
    }

    /// Topics with a retained message.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Retains `message`; returns the one that it replaces. [MQTT-3.3.1-5]
    pub fn set(&mut self, topic: &str, message: M) -> Option<M> {
        let Retained { hashing, entries, order } = self;
        let hash = hashing.text(topic);
        if let Some(entry) = entries.find_mut(hash, |e| *e.topic == *topic) {
            return Some(std::mem::replace(&mut entry.message, message));
        }
        let topic: Rc<str> = topic.into();
        order.insert(Topic(topic.clone()));
        entries.insert_unique(hash, Entry { topic, message }, |e| hashing.text(&e.topic));
        None
    }

    /// Removes the message of a topic. [MQTT-3.3.1-6]
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        let Retained { hashing, entries, order } = self;
        let entry = entries.find_entry(hashing.text(topic), |e| *e.topic == *topic).ok()?;
        let (Entry { topic, message }, _) = entry.remove();
        order.remove(order::key(&&*topic));
        if entries.len() < entries.capacity() / 8 {
            entries.shrink_to(entries.len() * 2, |e| hashing.text(&e.topic));
        }
        Some(message)
    }

    /// The message of a topic.
    pub fn get(&self, topic: &str) -> Option<&M> {
        self.entries.find(self.hashing.text(topic), |e| *e.topic == *topic).map(|e| &e.message)
    }

    /// Hands out the next messages whose topics match the cursor's filter, after at most `max` steps, or until `found` is content with false; true when
    /// all have been read.
    ///
    /// A step is a match, or a look at a topic that does not match. The store may change between calls: a topic that is there all the
    /// time is handed out exactly once, one that comes or goes meanwhile once or not at all.
    pub fn next_batch<F: FnMut(&str, &M) -> bool>(&self, cursor: &mut Cursor, max: usize, mut found: F) -> bool {
        cursor.walk(&self.order, max, |topic| self.get(topic).is_none_or(|message| found(topic, message)))
    }
}
