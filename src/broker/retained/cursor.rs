//! Reading the retained messages that match a filter, in slices, while the store changes.
//!
//! A reader goes through the tree of topics, from a node to its children and to its neighbours, and leaves what cannot match alone: a level without wildcard
//! is one probe. Where `+` stands before such a level there are two ways: through all children that the `+` stands for, asking each of them for the level; or
//! through all nodes of that level's name, asking each whether it lies where it should. The shorter list is taken. So `fleet/+/depot` costs a look at each
//! depot of the store, not at each car of the fleet.
//!
//! Between two slices the reader stands on the node that comes next, and that node stays (`Tree::pin`), whatever happens to its message. What is new goes
//! before all that he still has to read, so he reads nothing twice and comes to an end.

use super::tree::{NONE, ROOT, Tree};

/// The place of a reader among the retained messages. One that is not read to its end has to be given back: [`Retained::close`](super::Retained::close).
#[derive(Debug)]
pub struct Cursor {
    /// The empty text, which is no filter, stands for everything.
    filter: Box<str>,
    /// The node to be looked at next; [`NONE`] at the end.
    at: u32,
    /// Where in the filter the level begins that its children must match; behind the end, if it must have none.
    rest: usize,
    /// By how many levels it lies below the node whose children `#` stands for.
    below: usize,
    /// The lists of nodes of one name that the reader is going through, outermost first.
    lists: Vec<List>,
    /// Whether the nodes are pinned: between two slices.
    pinned: bool,
}

/// A list of nodes of one name, of which those count that lie two levels below `under`.
#[derive(Clone, Copy, Debug)]
struct List {
    under: u32,
    /// [`Cursor::rest`] at `under`, and at the nodes of the list.
    rest: usize,
    rest_of_nodes: usize,
}

impl Cursor {
    /// A reader of the topics that match `filter`, which must be valid.
    pub fn new(filter: &str) -> Cursor {
        Cursor { filter: filter.into(), at: ROOT, rest: 0, below: 0, lists: Vec::new(), pinned: false }
    }

    /// A reader of all topics, also those that begin with `$`.
    pub fn everything() -> Cursor {
        Cursor::new("")
    }

    /// The filter that is read.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Calls `found` for the messages of matching topics until it says false; looks at `max` nodes at most. True at the end.
    pub(super) fn walk<F: FnMut(u32) -> bool>(&mut self, tree: &mut Tree, max: usize, mut found: F) -> bool {
        let pinned = self.pinned.then(|| (self.at, self.lists.clone()));
        let mut more = true;
        for _ in 0..max {
            if !more || self.at == NONE {
                break;
            }
            let (node, fits) = (tree.node(self.at), self.fits(tree));
            if fits && node.message != NONE && self.is_match() {
                more = found(node.message);
            }
            let down = if fits { self.down(tree) } else { None };
            self.at = down.or_else(|| self.up(tree)).unwrap_or(NONE);
        }
        self.pin(tree);
        if let Some((at, lists)) = pinned {
            tree.unpin(at);
            lists.iter().for_each(|list| tree.unpin(list.under));
        }
        self.at == NONE
    }

    fn pin(&mut self, tree: &mut Tree) {
        self.pinned = self.at != NONE;
        if self.pinned {
            tree.pin(self.at);
            self.lists.iter().for_each(|list| tree.pin(list.under));
        }
    }

    /// Lets go of the nodes.
    pub(super) fn close(self, tree: &mut Tree) {
        if self.pinned {
            tree.unpin(self.at);
            self.lists.iter().for_each(|list| tree.unpin(list.under));
        }
    }

    /// The level of the filter that begins at `start`.
    fn level(&self, start: usize) -> &str {
        self.filter.get(start..).and_then(|rest| rest.split('/').next()).unwrap_or("")
    }

    /// Whether the node that is looked at, and what is below it, may match. If not, it is only on the way to the next one.
    fn fits(&self, tree: &Tree) -> bool {
        let mut node = tree.node(self.at);
        if let Some(list) = self.lists.last().filter(|list| self.below == 0 && list.rest_of_nodes == self.rest) {
            node = tree.node(node.parent);
            if node.parent != list.under {
                return false;
            }
        }
        // A leading wildcard does not match a topic that begins with $ [MQTT-4.7.2-1].
        let hidden = node.parent == ROOT && self.filter.starts_with(['+', '#']) && tree.names.text(node.name).starts_with('$');
        !hidden
    }

    /// Whether the node's own topic matches: the filter ends here, or `#` follows, which matches its parent too [MQTT-4.7.1-2].
    fn is_match(&self) -> bool {
        self.below > 0 || self.rest > self.filter.len() || self.is_multi(self.rest)
    }

    fn is_multi(&self, start: usize) -> bool {
        self.filter.is_empty() || self.level(start) == "#"
    }

    /// The first node below that may match.
    fn down(&mut self, tree: &Tree) -> Option<u32> {
        let node = tree.node(self.at);
        if node.first_child == NONE {
            return None;
        }
        if self.below > 0 || self.is_multi(self.rest) {
            self.below += 1;
            return Some(node.first_child);
        }
        if self.rest > self.filter.len() {
            return None;
        }
        let level = self.level(self.rest);
        let after = self.rest + level.len() + 1;
        if level != "+" {
            let child = tree.child(self.at, level)?;
            self.rest = after;
            return Some(child);
        }
        let under = self.level(after);
        if after <= self.filter.len() && under != "+" && under != "#" {
            let name = tree.names.get(tree.name(under)?);
            if name.count < node.children {
                let rest_of_nodes = after + under.len() + 1;
                self.lists.push(List { under: self.at, rest: self.rest, rest_of_nodes });
                self.rest = rest_of_nodes;
                return Some(name.first);
            }
        }
        self.rest = after;
        Some(node.first_child)
    }

    /// The next node beside this one, or beside one above it.
    fn up(&mut self, tree: &Tree) -> Option<u32> {
        while self.at != ROOT {
            let node = tree.node(self.at);
            if self.below > 0 {
                if node.next != NONE {
                    return Some(node.next);
                }
                self.below -= 1;
                self.at = node.parent;
                continue;
            }
            if let Some(&list) = self.lists.last().filter(|list| list.rest_of_nodes == self.rest) {
                if node.next_alike != NONE {
                    return Some(node.next_alike);
                }
                self.lists.pop();
                (self.at, self.rest) = (list.under, list.rest);
                continue;
            }
            let start = self.filter[..self.rest - 1].rfind('/').map_or(0, |slash| slash + 1);
            if &self.filter[start..self.rest - 1] == "+" && node.next != NONE {
                return Some(node.next);
            }
            self.rest = start;
            self.at = node.parent;
        }
        None
    }
}
