//! The shared groups: who gets a message that only one of many may get.
//!
//! A group is a name and a filter. Every shard knows every group, but only the members of its own; of the others it knows how many there
//! are on each shard. The publisher's shard chooses a shard in turn, one turn per member, so that over a round every member gets one
//! message; the chosen shard picks the member, again in turn. Each shard keeps a turn of its own: nothing is shared but the counts.
//! The groups of one filter form a list through the slab; adding, finding and removing one costs O(1) whatever their number.

use hashbrown::HashTable;
use slab::Slab;

use super::filters::FilterId;
use super::remote::spread;
use super::subscriber::{SessionIx, Subscriber, Subscribers};
use super::trie::NONE;
use crate::broker::ids::ShardId;

/// A shared group: valid as long as it has a member on any shard, and used again afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(super) u32);

/// Where the next message of a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// To a member on this shard: [`Topics::pick`](super::Topics::pick).
    Local,
    Remote(ShardId),
}

pub(super) struct Group {
    pub name: Box<str>,
    pub filter: FilterId,
    pub fingerprint: u64,
    /// Members on this shard. Those before `cursor` have had their turn in this round.
    members: Subscribers,
    cursor: usize,
    /// Members on other shards, by shard; no zeros.
    remote: Vec<(ShardId, u32)>,
    /// The place among all members of all shards at which [`Group::choose`] goes on.
    turn: u64,
    next: u32,
    previous: u32,
}

impl Group {
    pub fn is_idle(&self) -> bool {
        self.members.is_empty() && self.remote.is_empty()
    }

    /// Members on this shard.
    pub fn local(&self) -> u32 {
        self.members.len() as u32
    }

    /// The entry of a member on this shard.
    pub fn member(&self, session: SessionIx) -> Option<Subscriber> {
        self.members.position(session).map(|at| self.members.as_slice()[at])
    }

    /// True if the session was a member.
    pub fn insert(&mut self, sub: Subscriber) -> bool {
        self.members.insert(sub)
    }

    /// True if the session was a member. Those who have not had their turn in this round keep it.
    pub fn remove(&mut self, session: SessionIx) -> bool {
        let Some(mut at) = self.members.position(session) else { return false };
        if at < self.cursor {
            self.cursor -= 1;
            self.members.swap(at, self.cursor);
            at = self.cursor;
        }
        self.members.swap_remove(at);
        true
    }

    /// Sets the number of members on another shard.
    pub fn set_remote(&mut self, shard: ShardId, members: u32) {
        match self.remote.iter().position(|&(s, _)| s == shard) {
            Some(at) if members == 0 => drop(self.remote.swap_remove(at)),
            Some(at) => self.remote[at].1 = members,
            None if members == 0 => {}
            None => self.remote.push((shard, members)),
        }
    }

    /// The next member on this shard that is `usable`. Costs one call per member that is not.
    pub fn pick<F: FnMut(SessionIx) -> bool>(&mut self, mut usable: F) -> Option<Subscriber> {
        let members = self.members.as_slice();
        for _ in 0..members.len() {
            if self.cursor >= members.len() {
                self.cursor = 0;
            }
            let member = members[self.cursor];
            self.cursor += 1;
            if usable(member.session) {
                return Some(member);
            }
        }
        None
    }

    /// The shard whose turn it is.
    pub fn choose(&mut self) -> Choice {
        let local = u64::from(self.local());
        let all = self.remote.iter().fold(local, |sum, &(_, members)| sum + u64::from(members));
        let turn = if self.turn < all { self.turn } else { 0 };
        self.turn = turn + 1;
        let mut before = local;
        if turn < before {
            return Choice::Local;
        }
        for &(shard, members) in &self.remote {
            before += u64::from(members);
            if turn < before {
                return Choice::Remote(shard);
            }
        }
        Choice::Local
    }
}

#[derive(Default)]
pub(super) struct Groups {
    slab: Slab<Group>,
    by_fingerprint: HashTable<u32>,
}

impl Groups {
    pub fn get(&self, id: GroupId) -> Option<&Group> {
        self.slab.get(id.0 as usize)
    }

    pub fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slab.get_mut(id.0 as usize)
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// The group of this name on this filter.
    pub fn find(&self, fingerprint: u64, name: &str, filter: FilterId) -> Option<GroupId> {
        let same = |&id: &u32| {
            let group = &self.slab[id as usize];
            group.fingerprint == fingerprint && group.filter == filter && *group.name == *name
        };
        self.by_fingerprint.find(spread(fingerprint), same).map(|&id| GroupId(id))
    }

    /// A group with this fingerprint.
    pub fn by_fingerprint(&self, fingerprint: u64) -> Option<GroupId> {
        let same = |&id: &u32| self.slab[id as usize].fingerprint == fingerprint;
        self.by_fingerprint.find(spread(fingerprint), same).map(|&id| GroupId(id))
    }

    /// Adds a group that is not there yet at the front of its filter's list, which begins at `head`.
    pub fn insert(&mut self, fingerprint: u64, name: &str, filter: FilterId, head: &mut u32) -> GroupId {
        let Groups { slab, by_fingerprint } = self;
        let group = Group {
            name: name.into(),
            filter,
            fingerprint,
            members: Subscribers::default(),
            cursor: 0,
            remote: Vec::new(),
            turn: 0,
            next: *head,
            previous: NONE,
        };
        let id = slab.insert(group) as u32;
        if let Some(next) = slab.get_mut(*head as usize) {
            next.previous = id;
        }
        *head = id;
        by_fingerprint.insert_unique(spread(fingerprint), id, |&id| spread(slab[id as usize].fingerprint));
        GroupId(id)
    }

    /// Takes a group out, also of its filter's list.
    pub fn remove(&mut self, id: GroupId, head: &mut u32) {
        let Some(group) = self.slab.try_remove(id.0 as usize) else { return };
        if let Ok(entry) = self.by_fingerprint.find_entry(spread(group.fingerprint), |&e| e == id.0) {
            entry.remove();
        }
        match self.slab.get_mut(group.previous as usize) {
            Some(previous) => previous.next = group.next,
            None => *head = group.next,
        }
        if let Some(next) = self.slab.get_mut(group.next as usize) {
            next.previous = group.previous;
        }
    }

    /// The groups of the list that begins at `head`.
    #[inline]
    pub fn list(&self, head: u32) -> impl Iterator<Item = GroupId> {
        let mut at = head;
        std::iter::from_fn(move || {
            let group = self.slab.get(at as usize)?;
            Some(GroupId(std::mem::replace(&mut at, group.next)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_one_fingerprint_are_told_apart() {
        let mut groups = Groups::default();
        let (mut on_first, mut on_second) = (NONE, NONE);
        let a = groups.insert(0x80, "g", FilterId(1), &mut on_first);
        let b = groups.insert(0x80, "g", FilterId(2), &mut on_second);
        let c = groups.insert(0x80, "h", FilterId(2), &mut on_second);
        assert_eq!(groups.find(0x80, "g", FilterId(1)), Some(a));
        assert_eq!(groups.find(0x80, "g", FilterId(2)), Some(b));
        assert_eq!(groups.find(0x80, "h", FilterId(2)), Some(c));
        assert_eq!(groups.find(0x80, "h", FilterId(1)), None);
        groups.remove(b, &mut on_second);
        assert_eq!(groups.find(0x80, "g", FilterId(2)), None);
        assert_eq!(groups.list(on_first).collect::<Vec<_>>(), [a]);
        assert_eq!(groups.list(on_second).collect::<Vec<_>>(), [c]);
    }
}
