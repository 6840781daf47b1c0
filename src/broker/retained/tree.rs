//! The levels of all retained topics as a tree.
//!
//! Nodes stand in one slab. ONE hash table finds a node by its path, which is hashed level by level: so a whole topic is found by one probe, and a child of
//! a node by one as well. Two lists go through the nodes: the children of a node, and the nodes of one name. What is new comes to the front of both, so
//! that a reader, who goes through them from the front, never meets it: whatever he reads was there when he came by.
//!
//! A node without message and children is freed at once, unless a reader stands on it (a *pin*): then when he goes on.

use hashbrown::HashTable;
use slab::Slab;

use super::names::Names;
use crate::broker::hash::{self, Hashing};

/// No node, no message.
pub(super) const NONE: u32 = u32::MAX;

/// The node above all first levels. It is always there.
pub(super) const ROOT: u32 = 0;

/// What a node takes, with its places in slab and table just after both have grown to twice their size.
const NODE_BYTES: u64 = 112;
/// What a name takes beside its text, likewise.
const NAME_BYTES: u64 = 80;

pub(super) struct Node {
    pub parent: u32,
    /// The last level of its path.
    pub name: u32,
    /// Where its message stands, or [`NONE`].
    pub message: u32,
    /// The hash of its path, under which it stands in the table.
    path: u32,
    /// The child that came last, and how many there are.
    pub first_child: u32,
    pub children: u32,
    /// Neighbours among the children of its parent: those that came before it, and after.
    pub next: u32,
    previous: u32,
    /// Neighbours among the nodes of its name.
    pub next_alike: u32,
    previous_alike: u32,
    /// Readers that stand on it.
    pins: u32,
}

const _: () = assert!(size_of::<Node>() == 44);

pub(super) struct Tree {
    hashing: Hashing,
    nodes: Slab<Node>,
    by_path: HashTable<u32>,
    pub names: Names,
    pins: usize,
}

impl Tree {
    pub fn new(seed: u64) -> Tree {
        let root = Node {
            parent: NONE,
            name: NONE,
            message: NONE,
            path: 0,
            first_child: NONE,
            children: 0,
            next: NONE,
            previous: NONE,
            next_alike: NONE,
            previous_alike: NONE,
            pins: 0,
        };
        let mut nodes = Slab::new();
        nodes.insert(root);
        Tree { hashing: Hashing::new(seed), nodes, by_path: HashTable::new(), names: Names::default(), pins: 0 }
    }

    #[inline]
    pub fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    pub fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// Nodes beside the root.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Bytes of nodes and names.
    pub fn held_bytes(&self) -> u64 {
        NODE_BYTES * self.len() as u64 + NAME_BYTES * self.names.len() as u64 + self.names.text_bytes()
    }

    /// Pins of all nodes.
    pub fn pins(&self) -> usize {
        self.pins
    }

    /// A node whose path has the hash of `topic`'s and for which `same` holds.
    #[inline]
    pub fn find(&self, topic: &str, mut same: impl FnMut(&Node) -> bool) -> Option<u32> {
        let path = topic.split('/').fold(0, |path, level| extend(path, self.hashing.text(level)));
        let found = |&node: &u32| {
            let node = self.node(node);
            node.path == path && same(node)
        };
        self.by_path.find(spread(path), found).copied()
    }

    /// The child of a node for a level.
    #[inline]
    pub fn child(&self, parent: u32, level: &str) -> Option<u32> {
        self.child_hashed(parent, level, self.hashing.text(level))
    }

    #[inline]
    fn child_hashed(&self, parent: u32, level: &str, level_hash: u64) -> Option<u32> {
        let path = extend(self.node(parent).path, level_hash);
        let same = |&node: &u32| {
            let node = self.node(node);
            node.parent == parent && self.names.text(node.name) == level
        };
        self.by_path.find(spread(path), same).copied()
    }

    /// The name of a level, if any node bears it.
    pub fn name(&self, level: &str) -> Option<u32> {
        self.names.find(self.hashing.text(level), level)
    }

    /// The node of a topic, made if need be. Whoever leaves it idle must call [`Tree::prune`].
    pub fn make(&mut self, topic: &str) -> u32 {
        let mut at = ROOT;
        for level in topic.split('/') {
            let level_hash = self.hashing.text(level);
            at = match self.child_hashed(at, level, level_hash) {
                Some(child) => child,
                None => self.add_child(at, level, level_hash),
            };
        }
        at
    }

    fn add_child(&mut self, parent: u32, level: &str, level_hash: u64) -> u32 {
        let Tree { hashing, nodes, by_path, names, .. } = self;
        let name = names.intern(hashing, level_hash, level);
        let path = extend(nodes[parent as usize].path, level_hash);
        let child = Node {
            parent,
            name,
            message: NONE,
            path,
            first_child: NONE,
            children: 0,
            next: nodes[parent as usize].first_child,
            previous: NONE,
            next_alike: names.get(name).first,
            previous_alike: NONE,
            pins: 0,
        };
        let (next, next_alike) = (child.next, child.next_alike);
        let child = nodes.insert(child) as u32;
        if let Some(next) = nodes.get_mut(next as usize) {
            next.previous = child;
        }
        if let Some(next) = nodes.get_mut(next_alike as usize) {
            next.previous_alike = child;
        }
        let above = &mut nodes[parent as usize];
        (above.first_child, above.children) = (child, above.children + 1);
        let name = names.get_mut(name);
        (name.first, name.count) = (child, name.count + 1);
        by_path.insert_unique(spread(path), child, |&node| spread(nodes[node as usize].path));
        child
    }

    /// A reader stands on a node.
    pub fn pin(&mut self, node: u32) {
        self.nodes[node as usize].pins += 1;
        self.pins += 1;
    }

    /// A reader goes on. Whatever he may need of the node must be looked at, or pinned, before.
    pub fn unpin(&mut self, node: u32) {
        self.nodes[node as usize].pins -= 1;
        self.pins -= 1;
        self.prune(node);
    }

    /// Frees a node and what above it has become useless.
    pub fn prune(&mut self, node: u32) {
        let mut at = node;
        while at != ROOT {
            let node = &self.nodes[at as usize];
            if node.message != NONE || node.first_child != NONE || node.pins > 0 {
                return;
            }
            at = self.remove(at);
        }
    }

    /// Takes a node out; gives its parent.
    fn remove(&mut self, at: u32) -> u32 {
        let Tree { hashing, nodes, by_path, names, .. } = self;
        let node = nodes.remove(at as usize);
        if let Ok(entry) = by_path.find_entry(spread(node.path), |&e| e == at) {
            entry.remove();
        }
        if by_path.len() < by_path.capacity() / 8 {
            by_path.shrink_to(by_path.len() * 2, |&node| spread(nodes[node as usize].path));
        }
        match nodes.get_mut(node.previous as usize) {
            Some(previous) => previous.next = node.next,
            None => nodes[node.parent as usize].first_child = node.next,
        }
        if let Some(next) = nodes.get_mut(node.next as usize) {
            next.previous = node.previous;
        }
        nodes[node.parent as usize].children -= 1;
        match nodes.get_mut(node.previous_alike as usize) {
            Some(previous) => previous.next_alike = node.next_alike,
            None => names.get_mut(node.name).first = node.next_alike,
        }
        if let Some(next) = nodes.get_mut(node.next_alike as usize) {
            next.previous_alike = node.previous_alike;
        }
        names.get_mut(node.name).count -= 1;
        names.release(hashing, node.name);
        node.parent
    }

    /// Gives free room away.
    pub fn trim(&mut self) {
        self.nodes.shrink_to_fit();
        self.names.trim();
    }
}

/// The hash of a path and one more level.
#[inline]
fn extend(path: u32, level_hash: u64) -> u32 {
    (hash::number(level_hash ^ u64::from(path) << 32) >> 32) as u32
}

/// The hash under which a path stands in the table: both ends of the word must vary.
#[inline]
fn spread(path: u32) -> u64 {
    u64::from(path) << 32 | u64::from(path)
}
