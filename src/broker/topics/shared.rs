//! Shared subscriptions, as [`Topics`] offers them: joining, leaving, choosing. `groups` keeps the groups themselves.

use super::groups::{Choice, GroupId};
use super::subscriber::{SessionIx, Subscriber};
use super::{FilterId, InterestChange, Joined, Removed, Topics, remote};
use crate::broker::ids::ShardId;

impl Topics {
    /// Makes a session a member of the group `group` on `filter`, or replaces its options.
    pub fn subscribe_shared(&mut self, group: &str, filter: &str, sub: Subscriber) -> Joined {
        self.generation += 1;
        let id = self.intern_group(group, filter);
        let Some(entry) = self.groups.get_mut(id) else { return Joined { id, existed: false, tell: None } };
        let existed = entry.insert(sub);
        let members = entry.local();
        let tell = (!existed).then(|| InterestChange::Share { group: group.into(), filter: filter.into(), members });
        Joined { id, existed, tell }
    }

    /// Takes a member out. `id` is invalid afterwards if no shard has members left.
    pub fn unsubscribe_shared(&mut self, id: GroupId, session: SessionIx) -> Removed {
        let Some(entry) = self.groups.get_mut(id) else { return Removed { existed: false, tell: None } };
        if !entry.remove(session) {
            return Removed { existed: false, tell: None };
        }
        self.generation += 1;
        let (group, filter, members) = (entry.name.clone(), entry.filter, entry.local());
        let tell = InterestChange::Share { group, filter: self.filter(filter).into(), members };
        self.release_group(id);
        Removed { existed: true, tell: Some(tell) }
    }

    /// Another shard has this many members of a group; 0 for none any more.
    pub fn set_remote_share(&mut self, group: &str, filter: &str, shard: ShardId, members: u32) {
        self.generation += 1;
        let id = if members > 0 { Some(self.intern_group(group, filter)) } else { self.find_share(group, filter) };
        let Some(id) = id else { return };
        if let Some(entry) = self.groups.get_mut(id) {
            entry.set_remote(shard, members);
        }
        self.release_group(id);
    }

    /// The group of this name on this filter, if any shard has a member.
    pub fn find_share(&self, group: &str, filter: &str) -> Option<GroupId> {
        let fingerprint = self.share_fingerprint(group, filter);
        self.groups.find(fingerprint, group, self.find(filter)?)
    }

    /// The fingerprint by which shards name a group to one another.
    pub fn share_fingerprint(&self, group: &str, filter: &str) -> u64 {
        remote::fingerprint(self.hashing.pair(group, filter))
    }

    /// The fingerprint of a group that exists.
    pub fn fingerprint_of_share(&self, id: GroupId) -> Option<u64> {
        self.groups.get(id).map(|g| g.fingerprint)
    }

    /// The group with this fingerprint. Should two have the same, either may come: compare the filter with the topic where it matters.
    pub fn share_by_fingerprint(&self, fingerprint: u64) -> Option<GroupId> {
        self.groups.by_fingerprint(fingerprint)
    }

    /// A shared subscription as a client writes it, `$share/group/filter`.
    pub fn text_of_share(&self, id: GroupId) -> Option<String> {
        let (group, filter) = self.share(id)?;
        Some(format!("$share/{group}/{}", self.filter(filter)))
    }

    /// The subscription of a member on this shard.
    pub fn member(&self, id: GroupId, session: SessionIx) -> Option<Subscriber> {
        self.groups.get(id)?.member(session)
    }

    /// The name of a group and its filter.
    pub fn share(&self, id: GroupId) -> Option<(&str, FilterId)> {
        self.groups.get(id).map(|g| (&*g.name, g.filter))
    }

    /// The next local member of a group, in turn, for which `usable` holds.
    pub fn pick<F: FnMut(SessionIx) -> bool>(&mut self, id: GroupId, usable: F) -> Option<Subscriber> {
        self.groups.get_mut(id)?.pick(usable)
    }

    /// The shard whose turn it is to deliver a message of a group: one turn per member. `None` if there is no such group.
    pub fn choose_shard(&mut self, id: GroupId) -> Option<Choice> {
        self.groups.get_mut(id).map(|g| g.choose())
    }

    /// The entry of a group, made if need be. Whoever leaves it idle must call [`Topics::release_group`].
    fn intern_group(&mut self, group: &str, filter: &str) -> GroupId {
        let fingerprint = self.share_fingerprint(group, filter);
        let on = self.intern(filter);
        if let Some(id) = self.groups.find(fingerprint, group, on) {
            return id;
        }
        let mut head = self.filters.get(on).map_or(super::NONE, |f| f.groups);
        let id = self.groups.insert(fingerprint, group, on, &mut head);
        if let Some(filter) = self.filters.get_mut(on) {
            filter.groups = head;
        }
        id
    }

    /// Frees a group without members on any shard, and its filter if that was its last use.
    fn release_group(&mut self, id: GroupId) {
        let Some(on) = self.groups.get(id).filter(|g| g.is_idle()).map(|g| g.filter) else { return };
        if let Some(filter) = self.filters.get_mut(on) {
            self.groups.remove(id, &mut filter.groups);
        }
        self.release(on);
    }
}
