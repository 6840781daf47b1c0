//! The retained messages that this shard owns.
//!
//! The topics form a tree by level (`tree`), of which a message hangs on its topic's node. A hash table over the paths of all nodes finds a whole topic
//! with one probe, so that setting a topic again - a vehicle's position, many times a second - does not go through its levels; wildcard reading goes
//! through the tree ([`Cursor`]). A level takes about 55 bytes beside its name, and each name stands once: how much that is for a topic depends on
//! how many levels it shares with others.

mod cursor;
mod names;
#[cfg(test)]
mod tests;
mod tree;

pub use cursor::Cursor;
use slab::Slab;
use tree::{NONE, Tree};

/// Nodes that a reader looks at for each message that it may hand out.
const LOOKS_A_MESSAGE: usize = 4;

/// Nodes that are looked at before it is worth the way to find out what matches.
const FEW_LOOKS: usize = 16;

/// What is retained must know its topic: the store does not hold it as one text.
pub trait HasTopic {
    /// Whether this is the topic.
    fn is_for(&self, topic: &str) -> bool;
}

/// Retained messages by topic.
pub struct Retained<M> {
    tree: Tree,
    messages: Slab<M>,
}

impl<M: HasTopic> Retained<M> {
    /// No messages.
    pub fn new(seed: u64) -> Retained<M> {
        Retained { tree: Tree::new(seed), messages: Slab::new() }
    }

    /// Topics with a retained message.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of the tree and of the names of levels, which clients choose.
    pub fn held_bytes(&self) -> u64 {
        self.tree.held_bytes()
    }

    /// Nodes that readers have pinned: none where nobody is in the middle of reading.
    pub fn pins(&self) -> usize {
        self.tree.pins()
    }

    #[inline]
    fn find(&self, topic: &str) -> Option<u32> {
        self.tree.find(topic, |node| self.messages.get(node.message as usize).is_some_and(|message| message.is_for(topic)))
    }

    /// Retains `message`, which must be for `topic`; returns the one that it replaces. [MQTT-3.3.1-5]
    pub fn set(&mut self, topic: &str, message: M) -> Option<M> {
        if let Some(node) = self.find(topic) {
            let before = &mut self.messages[self.tree.node(node).message as usize];
            return Some(std::mem::replace(before, message));
        }
        let node = self.tree.make(topic);
        self.tree.node_mut(node).message = self.messages.insert(message) as u32;
        None
    }

    /// Removes the message of a topic. [MQTT-3.3.1-6]
    pub fn remove(&mut self, topic: &str) -> Option<M> {
        let node = self.find(topic)?;
        let message = std::mem::replace(&mut self.tree.node_mut(node).message, NONE);
        self.tree.prune(node);
        self.messages.try_remove(message as usize)
    }

    /// The message of a topic.
    pub fn get(&self, topic: &str) -> Option<&M> {
        self.messages.get(self.tree.node(self.find(topic)?).message as usize)
    }

    /// Hands out the next messages whose topics match the cursor's filter: `max` of them at most, fewer where many nodes had to be looked at, or until
    /// `found` is content with false; true when all have been read.
    ///
    /// The store may change between calls: a topic that is there all the time is handed out exactly once, one that comes or goes meanwhile once or not
    /// at all. The order depends on nothing but the order in which topics came.
    pub fn next_batch<F: FnMut(&M) -> bool>(&mut self, cursor: &mut Cursor, max: usize, mut found: F) -> bool {
        let messages = &self.messages;
        let mut left = max;
        cursor.walk(&mut self.tree, max.saturating_mul(LOOKS_A_MESSAGE), |message| {
            left = left.saturating_sub(1);
            messages.get(message as usize).is_none_or(&mut found) && left > 0
        })
    }

    /// Whether no topic matches `filter`, as far as a few looks can tell.
    pub fn has_none_for(&mut self, filter: &str) -> bool {
        let (mut cursor, mut found) = (Cursor::new(filter), false);
        let end = cursor.walk(&mut self.tree, FEW_LOOKS, |_| {
            found = true;
            false
        });
        cursor.close(&mut self.tree);
        end && !found
    }

    /// A cursor is given up before its end.
    pub fn close(&mut self, cursor: Cursor) {
        cursor.close(&mut self.tree);
    }

    /// Gives free room away.
    pub fn trim(&mut self) {
        self.messages.shrink_to_fit();
        self.tree.trim();
    }
}
