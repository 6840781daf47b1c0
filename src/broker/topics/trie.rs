//! The wildcard filters: a trie by level.
//!
//! Nodes stand in one slab, literal edges in ONE hash table keyed by (parent, level): no map per node, no pointer to chase but the index.
//! A `+` that more levels follow is a child with a field of its own. Where a filter ends, at a node or at the `+` or `#` behind it, its node has a place for
//! it: nearly every filter ends in one of them, and so takes one node and a publish one look less. What other shards want stands beside, as few nodes have
//! any of it. A node that leads nowhere is freed at once.
//!
//! Matching goes down level by level with the set of nodes that the topic has reached. A node is reached by one path only, so the work of
//! a level is bounded by the number of filters whose beginning matches, whatever the filters look like; nothing is recursive.
//! Levels are compared byte for byte. [MQTT-4.7.3-4]

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use super::warm::WARM_BATCH;
use crate::broker::hash::{self, Hashing};
use crate::broker::ids::{ShardId, ShardSet};

/// No node, no filter.
pub(super) const NONE: u32 = u32::MAX;

/// The node where every filter begins.
const ROOT: u32 = 0;

/// What a filter has behind its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Nothing,
    Plus,
    Multi,
}

const TAILS: [Tail; 3] = [Tail::Nothing, Tail::Plus, Tail::Multi];

/// Where a filter ends: a node, and what the filter has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End(u32);

impl End {
    fn new(node: u32, tail: Tail) -> End {
        End(node << 2 | tail as u32)
    }

    fn node(self) -> u32 {
        self.0 >> 2
    }

    fn tail(self) -> Tail {
        TAILS[(self.0 & 3) as usize]
    }
}

/// One line of the processor's cache: a match that has to wait for a node waits once.
#[repr(align(64))]
struct Node {
    /// The text of a literal level; empty for `+`.
    level: SmallVec<[u8; 16]>,
    parent: u32,
    /// The child for `+`, where more levels follow it.
    plus: u32,
    /// How many literal children there are: none, and the edge table need not be asked.
    literals: u32,
    /// The local filters that end here, by [`Tail`].
    filters: [u32; 3],
    /// Bits of the tails with which other shards have subscribers.
    remote: u8,
    is_plus: bool,
}

const _: () = assert!(size_of::<Node>() == 64);

/// What a node takes, with its place in the slab and in the table of edges just after both have grown to twice their size.
const NODE_BYTES: u64 = 144;
/// The same for an end that other shards have subscribers for.
const REMOTE_BYTES: u64 = 80;

impl Node {
    fn new(parent: u32, is_plus: bool, level: &str) -> Node {
        let level = SmallVec::from_slice(level.as_bytes());
        Node { level, parent, plus: NONE, literals: 0, filters: [NONE; 3], remote: 0, is_plus }
    }

    /// Bytes of its level outside of the node.
    fn text_bytes(&self) -> u64 {
        if self.level.spilled() { self.level.len() as u64 } else { 0 }
    }

    fn is_idle(&self) -> bool {
        self.filters == [NONE; 3] && self.remote == 0 && self.literals == 0 && self.plus == NONE
    }
}

/// The nodes that a topic has reached: room that is used again for every match.
#[derive(Default)]
pub(super) struct Frontier {
    here: Vec<u32>,
    below: Vec<u32>,
}

/// The nodes that several topics have reached, each with the place of its topic: room that is used again.
#[derive(Default)]
pub(super) struct Reached {
    here: Vec<(u8, u32)>,
    below: Vec<(u8, u32)>,
}

/// Levels, and nodes of one level, beyond which nothing is fetched ahead.
const WARM_LEVELS: usize = 8;
const WARM_NODES: usize = 4 * WARM_BATCH;

pub(super) struct Trie {
    nodes: Slab<Node>,
    /// Literal children by (parent, level).
    edges: HashTable<u32>,
    /// The shards that have subscribers for a filter, by its end.
    remote: HashTable<(End, ShardSet)>,
    /// Bytes of the levels that found no room in their node.
    text_bytes: u64,
}

/// The node that a filter leads to, as levels of its text, or none for the root; and what follows.
fn split(filter: &str) -> (Option<&str>, Tail) {
    let (above, last) = filter.rsplit_once('/').map_or((None, filter), |(above, last)| (Some(above), last));
    match last {
        "+" => (above, Tail::Plus),
        "#" => (above, Tail::Multi),
        _ => (Some(filter), Tail::Nothing),
    }
}

impl Trie {
    pub fn new() -> Trie {
        let mut nodes = Slab::new();
        nodes.insert(Node::new(NONE, false, ""));
        Trie { nodes, edges: HashTable::new(), remote: HashTable::new(), text_bytes: 0 }
    }

    /// Whether no wildcard filter exists on any shard.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes[ROOT as usize].is_idle()
    }

    /// Nodes beside the root.
    pub fn len(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Bytes of all nodes and their levels.
    pub fn held_bytes(&self) -> u64 {
        NODE_BYTES * self.len() as u64 + REMOTE_BYTES * self.remote.len() as u64 + self.text_bytes
    }

    /// Gives free room away.
    pub fn trim(&mut self, hashing: &Hashing) {
        let Trie { nodes, edges, remote, .. } = self;
        nodes.shrink_to_fit();
        edges.shrink_to(nodes.len() * 2, |&node| hash_of(hashing, &nodes[node as usize]));
        remote.shrink_to(remote.len() * 2, hash_of_remote);
    }

    /// The end of `filter`, made if need be. Whoever leaves it idle must call [`Trie::prune`].
    pub fn insert(&mut self, hashing: &Hashing, filter: &str) -> End {
        let (path, tail) = split(filter);
        let mut at = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            at = match self.child(hashing, at, level) {
                Some(child) => child,
                None => self.add_child(hashing, at, level),
            };
        }
        End::new(at, tail)
    }

    /// The end of `filter`, if something leads there.
    pub fn find(&self, hashing: &Hashing, filter: &str) -> Option<End> {
        let (path, tail) = split(filter);
        let mut at = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            at = self.child(hashing, at, level)?;
        }
        Some(End::new(at, tail))
    }

    /// The local filter that ends here, or [`NONE`].
    pub fn filter_at(&self, end: End) -> u32 {
        self.nodes[end.node() as usize].filters[end.tail() as usize]
    }

    /// Sets it; whoever sets [`NONE`] must call [`Trie::prune`].
    pub fn set_filter(&mut self, end: End, filter: u32) {
        self.nodes[end.node() as usize].filters[end.tail() as usize] = filter;
    }

    /// Another shard has a subscriber for the filter that ends here.
    pub fn add_remote(&mut self, end: End, shard: ShardId) {
        self.nodes[end.node() as usize].remote |= 1 << end.tail() as u32;
        let entry = self.remote.entry(hash_of_end(end), |e| e.0 == end, hash_of_remote);
        entry.or_insert((end, ShardSet::default())).get_mut().1.insert(shard);
    }

    /// It has none any more; [`Trie::prune`] must follow.
    pub fn remove_remote(&mut self, end: End, shard: ShardId) {
        let Ok(mut entry) = self.remote.find_entry(hash_of_end(end), |e| e.0 == end) else { return };
        entry.get_mut().1.remove(shard);
        if entry.get().1.is_empty() {
            entry.remove();
            self.nodes[end.node() as usize].remote &= !(1 << end.tail() as u32);
        }
    }

    /// Frees the node of an end and what above it has become useless.
    pub fn prune(&mut self, hashing: &Hashing, end: End) {
        let mut at = end.node();
        while at != ROOT && self.nodes[at as usize].is_idle() {
            let Node { parent, is_plus, .. } = self.nodes[at as usize];
            if is_plus {
                self.nodes[parent as usize].plus = NONE;
            } else {
                self.nodes[parent as usize].literals -= 1;
                if let Ok(entry) = self.edges.find_entry(hash_of(hashing, &self.nodes[at as usize]), |&e| e == at) {
                    entry.remove();
                }
            }
            self.text_bytes -= self.nodes.remove(at as usize).text_bytes();
            at = parent;
        }
    }

    /// The text of the filter that ends here.
    pub fn text(&self, end: End) -> String {
        let mut path = Vec::new();
        let mut at = end.node();
        while at != ROOT {
            path.push(at);
            at = self.nodes[at as usize].parent;
        }
        let mut text = Vec::new();
        for &at in path.iter().rev() {
            let node = &self.nodes[at as usize];
            text.extend_from_slice(if node.is_plus { b"+" } else { &node.level });
            text.push(b'/');
        }
        match end.tail() {
            Tail::Nothing => drop(text.pop()),
            Tail::Plus => text.push(b'+'),
            Tail::Multi => text.push(b'#'),
        }
        String::from_utf8(text).expect("the levels were cut out of a str at its slashes")
    }

    /// Calls `found` for every filter that matches `topic`, each once: the local one, or [`NONE`], and the other shards that have it.
    pub fn walk<F: FnMut(u32, ShardSet)>(&self, hashing: &Hashing, topic: &str, frontier: &mut Frontier, mut found: F) {
        let Frontier { here, below } = frontier;
        here.clear();
        here.push(ROOT);
        // A leading wildcard does not match a topic that begins with $. [MQTT-4.7.2-1]
        let mut wildcards = !topic.starts_with('$');
        let mut rest = Some(topic);
        while let Some(levels) = rest {
            let (level, after) = levels.split_once('/').map_or((levels, None), |(level, after)| (level, Some(after)));
            let mut level_hash = None;
            below.clear();
            for &at in here.iter() {
                let node = &self.nodes[at as usize];
                if wildcards {
                    self.report(at, node, Tail::Multi, &mut found);
                    if after.is_none() {
                        self.report(at, node, Tail::Plus, &mut found);
                    }
                    if node.plus != NONE {
                        below.push(node.plus);
                    }
                }
                if node.literals > 0 {
                    let level_hash = *level_hash.get_or_insert_with(|| hashing.text(level));
                    below.extend(self.literal(at, level.as_bytes(), level_hash));
                }
            }
            std::mem::swap(here, below);
            if here.is_empty() {
                return;
            }
            wildcards = true;
            rest = after;
        }
        for &at in here.iter() {
            let node = &self.nodes[at as usize];
            self.report(at, node, Tail::Nothing, &mut found);
            // `#` matches its parent too. [MQTT-4.7.1-2]
            self.report(at, node, Tail::Multi, &mut found);
        }
    }

    #[inline]
    fn report(&self, at: u32, node: &Node, tail: Tail, found: &mut impl FnMut(u32, ShardSet)) {
        let filter = node.filters[tail as usize];
        if node.remote & 1 << tail as u32 != 0 {
            let end = End::new(at, tail);
            let shards = self.remote.find(hash_of_end(end), |e| e.0 == end).map_or(ShardSet::default(), |e| e.1);
            found(filter, shards);
        } else if filter != NONE {
            found(filter, ShardSet::default());
        }
    }

    /// Looks at what [`Trie::walk`] will look at for each of these topics, level by level for all of them; adds the filters that it finds. What the table
    /// of edges offers is taken as it is, though it may be another child: so nothing waits for it.
    pub fn warm(&self, hashing: &Hashing, topics: &[&[u8]], reached: &mut Reached, filters: &mut Vec<u32>) {
        if self.is_empty() {
            return;
        }
        let Reached { here, below } = reached;
        here.clear();
        here.extend((0..topics.len().min(WARM_BATCH)).map(|topic| (topic as u8, ROOT)));
        let mut starts = [0; WARM_BATCH];
        for _ in 0..WARM_LEVELS {
            let mut hashes = [None; WARM_BATCH];
            for (hash, (topic, start)) in hashes.iter_mut().zip(topics.iter().zip(&mut starts)) {
                let Some(rest) = topic.get(*start..) else { continue };
                let level = rest.split(|&byte| byte == b'/').next().unwrap_or(rest);
                *hash = Some(hashing.bytes(level));
                *start += level.len() + 1;
            }
            below.clear();
            here.retain(|&(topic, at)| {
                let Some(node) = self.nodes.get(at as usize) else { return false };
                filters.extend(node.filters.iter().copied().filter(|&filter| filter != NONE));
                if node.plus != NONE && below.len() < WARM_NODES {
                    below.push((topic, node.plus));
                }
                node.literals > 0 && below.len() < WARM_NODES
            });
            for &(topic, at) in &*here {
                let Some(hash) = hashes[usize::from(topic)] else { continue };
                below.extend(self.edges.find(edge_hash(at, hash), |_| true).map(|&child| (topic, child)));
            }
            std::mem::swap(here, below);
            if here.is_empty() {
                return;
            }
        }
    }

    fn child(&self, hashing: &Hashing, parent: u32, level: &str) -> Option<u32> {
        if level == "+" {
            let plus = self.nodes[parent as usize].plus;
            return (plus != NONE).then_some(plus);
        }
        self.literal(parent, level.as_bytes(), hashing.text(level))
    }

    #[inline]
    fn literal(&self, parent: u32, level: &[u8], level_hash: u64) -> Option<u32> {
        let same = |&child: &u32| {
            let child = &self.nodes[child as usize];
            child.parent == parent && child.level[..] == *level
        };
        self.edges.find(edge_hash(parent, level_hash), same).copied()
    }

    fn add_child(&mut self, hashing: &Hashing, parent: u32, level: &str) -> u32 {
        let is_plus = level == "+";
        let node = Node::new(parent, is_plus, if is_plus { "" } else { level });
        self.text_bytes += node.text_bytes();
        let child = self.nodes.insert(node) as u32;
        if is_plus {
            self.nodes[parent as usize].plus = child;
        } else {
            self.nodes[parent as usize].literals += 1;
            let Trie { nodes, edges, .. } = self;
            edges.insert_unique(edge_hash(parent, hashing.text(level)), child, |&e| hash_of(hashing, &nodes[e as usize]));
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

#[inline]
fn hash_of_end(end: End) -> u64 {
    hash::number(u64::from(end.0))
}

fn hash_of_remote(entry: &(End, ShardSet)) -> u64 {
    hash_of_end(entry.0)
}
