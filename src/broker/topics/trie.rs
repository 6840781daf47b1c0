//! The wildcard filters: a trie by level.
//!
//! Nodes stand in one slab, literal edges in ONE hash table keyed by (parent, level): no map per node, no pointer to chase but the index.
//! `+` and `#` are children with a field of their own. A node that leads nowhere is freed at once.
//!
//! Matching goes down level by level with the set of nodes that the topic has reached. A node is reached by one path only, so the work of
//! a level is bounded by the number of filters whose beginning matches, whatever the filters look like; nothing is recursive.
//! Levels are compared byte for byte. [MQTT-4.7.3-4]

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::broker::hash::{self, Hashing};
use crate::broker::ids::ShardSet;

/// No node, no filter.
pub(super) const NONE: u32 = u32::MAX;

/// The node where every filter begins.
const ROOT: u32 = 0;

/// How a node hangs on its parent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Literal,
    Plus,
    Multi,
}

pub(super) struct Node {
    /// Other shards with subscribers of the filter that ends here.
    pub remote: ShardSet,
    /// The text of a literal level; empty for the other edges.
    level: SmallVec<[u8; 16]>,
    parent: u32,
    /// The child for `+`.
    plus: u32,
    /// The child for `#`.
    multi: u32,
    /// How many literal children there are: none, and the edge table need not be asked.
    literals: u32,
    /// The local filter that ends here.
    pub filter: u32,
    edge: Edge,
}

const _: () = assert!(size_of::<Node>() == 64);

/// What a node takes, with its place in the slab and in the table of edges just after both have grown to twice their size.
const NODE_BYTES: u64 = 160;

impl Node {
    fn new(parent: u32, edge: Edge, level: &str) -> Node {
        let level = SmallVec::from_slice(level.as_bytes());
        Node { remote: ShardSet::default(), level, parent, plus: NONE, multi: NONE, literals: 0, filter: NONE, edge }
    }

    /// Bytes of its level outside of the node.
    fn text_bytes(&self) -> u64 {
        if self.level.spilled() { self.level.len() as u64 } else { 0 }
    }

    fn is_idle(&self) -> bool {
        self.filter == NONE && self.remote.is_empty() && self.literals == 0 && self.plus == NONE && self.multi == NONE
    }
}

/// The nodes that a topic has reached: room that is used again for every match.
#[derive(Default)]
pub(super) struct Frontier {
    here: Vec<u32>,
    below: Vec<u32>,
}

pub(super) struct Trie {
    nodes: Slab<Node>,
    /// Literal children by (parent, level).
    edges: HashTable<u32>,
    /// Bytes of the levels that found no room in their node.
    text_bytes: u64,
}

impl Trie {
    pub fn new() -> Trie {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(NONE, Edge::Literal, ""));
        Trie { nodes, edges: HashTable::new(), text_bytes: 0 }
    }

    /// Whether no wildcard filter exists on any shard.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Nodes beside the root.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Bytes of all nodes and their levels.
    pub fn held_bytes(&self) -> u64 {
        NODE_BYTES * self.len() as u64 + self.text_bytes
    }

    /// Gives free room away.
    pub fn trim(&mut self, hashing: &Hashing) {
        let Trie { nodes, edges, .. } = self;
        nodes.shrink_to_fit();
        edges.shrink_to(nodes.len() * 2, |&node| hash_of(hashing, &nodes[node as usize]));
    }

    pub fn node_mut(&mut self, node: u32) -> &mut Node {
        &mut self.nodes[node as usize]
    }

    /// The node where `filter` ends, made if need be. Whoever leaves it idle must call [`Trie::prune`].
    pub fn insert(&mut self, hashing: &Hashing, filter: &str) -> u32 {
        let mut at = ROOT;
        for level in filter.split('/') {
            at = match self.child(hashing, at, level) {
                Some(child) => child,
                None => self.add_child(hashing, at, level),
            };
        }
        at
    }

    /// The node where `filter` ends.
    pub fn find(&self, hashing: &Hashing, filter: &str) -> Option<u32> {
        let mut at = ROOT;
        for level in filter.split('/') {
            at = self.child(hashing, at, level)?;
        }
        Some(at)
    }

    pub fn filter_at(&self, node: u32) -> Option<u32> {
        let filter = self.nodes[node as usize].filter;
        (filter != NONE).then_some(filter)
    }

    /// Frees `node` and what above it has become useless.
    pub fn prune(&mut self, hashing: &Hashing, node: u32) {
        let mut at = node;
        while at != ROOT && self.nodes[at as usize].is_idle() {
            let parent = self.nodes[at as usize].parent;
            match self.nodes[at as usize].edge {
                Edge::Plus => self.nodes[parent as usize].plus = NONE,
                Edge::Multi => self.nodes[parent as usize].multi = NONE,
                Edge::Literal => {
                    self.nodes[parent as usize].literals -= 1;
                    let hash = edge_hash(parent, hashing.bytes(&self.nodes[at as usize].level));
                    if let Ok(entry) = self.edges.find_entry(hash, |&e| e == at) {
                        entry.remove();
                    }
                }
            }
            self.text_bytes -= self.nodes.remove(at as usize).text_bytes();
            at = parent;
        }
    }

    /// The text of the filter that ends at `node`.
    pub fn text(&self, node: u32) -> String {
        let mut path = Vec::new();
        let mut at = node;
        while at != ROOT {
            path.push(at);
            at = self.nodes[at as usize].parent;
        }
        let mut text = Vec::new();
        for (depth, &at) in path.iter().rev().enumerate() {
            if depth > 0 {
                text.push(b'/');
            }
            let node = &self.nodes[at as usize];
            match node.edge {
                Edge::Plus => text.push(b'+'),
                Edge::Multi => text.push(b'#'),
                Edge::Literal => text.extend_from_slice(&node.level),
            }
        }
        String::from_utf8(text).expect("the levels were cut out of a str at its slashes")
    }

    /// Calls `found` for every node whose filter matches `topic`, each once.
    pub fn walk<F: FnMut(&Node)>(&self, hashing: &Hashing, topic: &str, frontier: &mut Frontier, mut found: F) {
        let Frontier { here, below } = frontier;
        here.clear();
        here.push(ROOT);
        // A leading wildcard does not match a topic that begins with $. [MQTT-4.7.2-1]
        let mut wildcards = !topic.starts_with('$');
        for level in topic.split('/') {
            let hash = hashing.text(level);
            below.clear();
            for &at in here.iter() {
                let node = &self.nodes[at as usize];
                if wildcards {
                    if node.multi != NONE {
                        found(&self.nodes[node.multi as usize]);
                    }
                    if node.plus != NONE {
                        below.push(node.plus);
                    }
                }
                if node.literals > 0 {
                    below.extend(self.literal(at, level, hash));
                }
            }
            std::mem::swap(here, below);
            if here.is_empty() {
                return;
            }
            wildcards = true;
        }
        for &at in here.iter() {
            let node = &self.nodes[at as usize];
            found(node);
            // `#` matches its parent too. [MQTT-4.7.1-2]
            if node.multi != NONE {
                found(&self.nodes[node.multi as usize]);
            }
        }
    }

    fn child(&self, hashing: &Hashing, parent: u32, level: &str) -> Option<u32> {
        let node = &self.nodes[parent as usize];
        match level {
            "+" => (node.plus != NONE).then_some(node.plus),
            "#" => (node.multi != NONE).then_some(node.multi),
            _ => self.literal(parent, level, hashing.text(level)),
        }
    }

    #[inline]
    fn literal(&self, parent: u32, level: &str, level_hash: u64) -> Option<u32> {
        let same = |&child: &u32| {
            let child = &self.nodes[child as usize];
            child.parent == parent && child.level[..] == *level.as_bytes()
        };
        self.edges.find(edge_hash(parent, level_hash), same).copied()
    }

    fn add_child(&mut self, hashing: &Hashing, parent: u32, level: &str) -> u32 {
        let (edge, text) = match level {
            "+" => (Edge::Plus, ""),
            "#" => (Edge::Multi, ""),
            _ => (Edge::Literal, level),
        };
        let node = Node::new(parent, edge, text);
        self.text_bytes += node.text_bytes();
        let child = self.nodes.insert(node) as u32;
        match edge {
            Edge::Plus => self.nodes[parent as usize].plus = child,
            Edge::Multi => self.nodes[parent as usize].multi = child,
            Edge::Literal => {
                self.nodes[parent as usize].literals += 1;
                let Trie { nodes, edges, .. } = self;
                edges.insert_unique(edge_hash(parent, hashing.text(level)), child, |&e| hash_of(hashing, &nodes[e as usize]));
            }
        }
        child
    }
}

/// The hash under which a literal node stands in the table of edges.
fn hash_of(hashing: &Hashing, node: &Node) -> u64 {
    edge_hash(node.parent, hashing.bytes(&node.level))
}

#[inline]
fn edge_hash(parent: u32, level_hash: u64) -> u64 {
    hash::number(level_hash.wrapping_add(u64::from(parent).wrapping_mul(0x9E37_79B9_7F4A_7C15)))
}
