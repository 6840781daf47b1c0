//! Which sessions of this shard, which other shards and which shared groups want a topic.
//!
//! The shape: exact filters in one hash table by fingerprint (`filters`); wildcard filters, of all shards, in a trie (`trie`); other
//! shards' exact filters as fingerprints only (`remote`); shared groups, of all shards, in lists on their filter (`groups`).
//! The cost: a publish is one hash of its topic, two probes, and a walk through the trie if any wildcard filter exists; it allocates
//! nothing once [`Matches`] has grown. Subscribing and unsubscribing cost O(levels), whatever the number of subscribers.
//!
//! Filters are taken as valid: who decodes a SUBSCRIBE has checked them. What a change means for the other shards is handed back as an
//! [`InterestChange`]; sending it, and waiting for it before SUBACK, is the caller's.

mod filters;
mod groups;
mod remote;
mod shared;
mod subscriber;
#[cfg(test)]
pub(super) mod tests;
mod trie;
mod warm;

use std::borrow::Cow;

pub use filters::FilterId;
use filters::{Filters, Name};
use groups::Groups;
pub use groups::{Choice, GroupId};
use remote::RemoteExact;
pub use subscriber::{SessionIx, SubOptions, Subscriber};
use trie::{Frontier, NONE, Trie};
pub use warm::{WARM_BATCH, Warmth};

use super::hash::Hashing;
use super::ids::{ShardId, ShardSet};

/// What another shard's exact filter takes, with the table's free room.
const REMOTE_BYTES: u64 = 16;

/// What the other shards must learn of a change here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterestChange {
    /// The first subscriber under this fingerprint of an exact filter.
    AddExact(u64),
    /// The last one has gone.
    RemoveExact(u64),
    /// The first subscriber of this wildcard filter.
    AddWildcard(Box<str>),
    /// The last one has gone.
    RemoveWildcard(Box<str>),
    /// A shared group has this many members here now; 0 when the last one has gone.
    Share { group: Box<str>, filter: Box<str>, members: u32 },
}

/// The outcome of [`Topics::subscribe`].
#[derive(Debug, PartialEq, Eq)]
pub struct Added {
    pub id: FilterId,
    /// The session had this subscription; its options are replaced. [MQTT-3.8.4-3]
    pub existed: bool,
    /// What the other shards must learn before SUBACK.
    pub tell: Option<InterestChange>,
}

/// The outcome of [`Topics::subscribe_shared`].
#[derive(Debug, PartialEq, Eq)]
pub struct Joined {
    pub id: GroupId,
    /// The session was a member; its options are replaced.
    pub existed: bool,
    /// What the other shards must learn before SUBACK.
    pub tell: Option<InterestChange>,
}

/// The outcome of [`Topics::unsubscribe`] and [`Topics::unsubscribe_shared`].
#[derive(Debug, PartialEq, Eq)]
pub struct Removed {
    /// The session had this subscription.
    pub existed: bool,
    /// What the other shards must learn.
    pub tell: Option<InterestChange>,
}

/// Who wants a topic. Used again for every match: it keeps its room.
#[derive(Default)]
pub struct Matches {
    /// Matching filters with local subscribers: [`Topics::subscribers`].
    pub filters: Vec<FilterId>,
    /// Matching shared groups, wherever their members are: [`Topics::choose_shard`].
    pub groups: Vec<GroupId>,
    /// Other shards with subscribers (members of shared groups do not count).
    pub remote: ShardSet,
    frontier: Frontier,
}

/// The subscriptions of one shard and the interest of the others.
pub struct Topics {
    hashing: Hashing,
    filters: Filters,
    trie: Trie,
    remote: RemoteExact,
    groups: Groups,
    generation: u64,
}

/// Whether a filter holds a wildcard. A valid filter has `+` and `#` nowhere else.
pub fn is_wildcard(filter: &str) -> bool {
    filter.bytes().any(|b| b == b'+' || b == b'#')
}

impl Topics {
    /// No subscriptions. All shards of a broker must be given the same `seed`.
    pub fn new(seed: u64) -> Topics {
        Topics {
            hashing: Hashing::new(seed),
            filters: Filters::default(),
            trie: Trie::new(),
            remote: RemoteExact::default(),
            groups: Groups::default(),
            generation: 0,
        }
    }

    /// Changes whenever the outcome of any match may have changed.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The fingerprint of a topic or an exact filter: the same on every shard of this broker, and of 57 bits.
    #[inline]
    pub fn fingerprint(&self, topic: &str) -> u64 {
        remote::fingerprint(self.hashing.text(topic))
    }

    /// Filters with local subscribers or with shared groups.
    pub fn filter_count(&self) -> usize {
        self.filters.len()
    }

    /// Bytes of the texts and levels of filters, which clients choose.
    pub fn held_bytes(&self) -> u64 {
        self.filters.text_bytes() + self.trie.held_bytes() + REMOTE_BYTES * self.remote.len() as u64
    }

    /// Gives free room away.
    pub fn trim(&mut self) {
        self.filters.trim();
        self.trie.trim(&self.hashing);
    }

    /// Shared groups of all shards.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Nodes of the wildcard trie.
    pub fn node_count(&self) -> usize {
        self.trie.len()
    }

    /// Other shards' exact filters: (fingerprint, shard).
    pub fn remote_count(&self) -> usize {
        self.remote.len()
    }

    /// Adds a subscription or replaces the session's own one to the same filter.
    pub fn subscribe(&mut self, filter: &str, sub: Subscriber) -> Added {
        self.generation += 1;
        let id = self.intern(filter);
        let was_idle = self.subscribers(id).is_empty();
        let tell = if was_idle { self.first_subscriber(id, filter) } else { None };
        let existed = self.filters.get_mut(id).is_some_and(|f| f.subscribers.insert(sub));
        Added { id, existed, tell }
    }

    /// Takes a session's subscription away. `id` is invalid afterwards if nobody else uses the filter.
    pub fn unsubscribe(&mut self, id: FilterId, session: SessionIx) -> Removed {
        let Some(filter) = self.filters.get_mut(id) else { return Removed { existed: false, tell: None } };
        let Some(at) = filter.subscribers.position(session) else { return Removed { existed: false, tell: None } };
        self.generation += 1;
        filter.subscribers.swap_remove(at);
        let is_last = filter.subscribers.is_empty();
        let tell = if is_last { self.last_subscriber(id) } else { None };
        self.release(id);
        Removed { existed: true, tell }
    }

    /// The filter with this text, if it has a local subscriber or a shared group.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if is_wildcard(filter) {
            let id = self.trie.filter_at(self.trie.find(&self.hashing, filter)?);
            (id != NONE).then_some(FilterId(id))
        } else {
            self.filters.find(self.fingerprint(filter), filter)
        }
    }

    /// The text of a filter; a wildcard filter's is put together from its levels.
    pub fn filter(&self, id: FilterId) -> Cow<'_, str> {
        match self.filters.get(id).map(|f| &f.name) {
            Some(Name::Exact { text, .. }) => Cow::Borrowed(text),
            Some(Name::Wildcard(end)) => Cow::Owned(self.trie.text(*end)),
            None => Cow::Borrowed(""),
        }
    }

    /// The local subscribers of a filter, in no particular order.
    #[inline]
    pub fn subscribers(&self, id: FilterId) -> &[Subscriber] {
        self.filters.get(id).map_or(&[], |f| f.subscribers.as_slice())
    }

    /// A session's subscription to a filter.
    pub fn subscriber(&self, id: FilterId, session: SessionIx) -> Option<Subscriber> {
        let subscribers = &self.filters.get(id)?.subscribers;
        subscribers.position(session).map(|at| subscribers.as_slice()[at])
    }

    /// Finds everyone who wants `topic`; each filter and group appears once.
    pub fn matches(&self, topic: &str, out: &mut Matches) {
        let Matches { filters, groups, remote, frontier } = out;
        filters.clear();
        groups.clear();
        let fingerprint = self.fingerprint(topic);
        *remote = self.remote.shards(fingerprint);
        if let Some(id) = self.filters.find(fingerprint, topic) {
            self.collect(id, filters, groups);
        }
        if !self.trie.is_empty() {
            self.trie.walk(&self.hashing, topic, frontier, |filter, shards| {
                *remote = remote.union(shards);
                if filter != NONE {
                    self.collect(FilterId(filter), filters, groups);
                }
            });
        }
    }

    /// Notes what another shard tells of its subscribers; telling the same twice changes nothing.
    pub fn apply(&mut self, from: ShardId, change: &InterestChange) {
        match change {
            InterestChange::AddExact(fingerprint) => self.add_remote_exact(*fingerprint, from),
            InterestChange::RemoveExact(fingerprint) => self.remove_remote_exact(*fingerprint, from),
            InterestChange::AddWildcard(filter) => self.add_remote_wildcard(filter, from),
            InterestChange::RemoveWildcard(filter) => self.remove_remote_wildcard(filter, from),
            InterestChange::Share { group, filter, members } => self.set_remote_share(group, filter, from, *members),
        }
    }

    /// Another shard has a subscriber for an exact filter.
    pub fn add_remote_exact(&mut self, fingerprint: u64, shard: ShardId) {
        self.generation += 1;
        self.remote.add(fingerprint, shard);
    }

    /// It has none any more.
    pub fn remove_remote_exact(&mut self, fingerprint: u64, shard: ShardId) {
        self.generation += 1;
        self.remote.remove(fingerprint, shard);
    }

    /// Another shard has a subscriber for a wildcard filter.
    pub fn add_remote_wildcard(&mut self, filter: &str, shard: ShardId) {
        self.generation += 1;
        let end = self.trie.insert(&self.hashing, filter);
        self.trie.add_remote(end, shard);
    }

    /// It has none any more.
    pub fn remove_remote_wildcard(&mut self, filter: &str, shard: ShardId) {
        self.generation += 1;
        if let Some(end) = self.trie.find(&self.hashing, filter) {
            self.trie.remove_remote(end, shard);
            self.trie.prune(&self.hashing, end);
        }
    }

    fn collect(&self, id: FilterId, filters: &mut Vec<FilterId>, groups: &mut Vec<GroupId>) {
        let Some(filter) = self.filters.get(id) else { return };
        if !filter.subscribers.is_empty() {
            filters.push(id);
        }
        if filter.groups != NONE {
            groups.extend(self.groups.list(filter.groups));
        }
    }

    /// The entry of a filter, made if need be. Whoever leaves it idle must call [`Topics::release`].
    fn intern(&mut self, filter: &str) -> FilterId {
        if is_wildcard(filter) {
            let end = self.trie.insert(&self.hashing, filter);
            let mut id = self.trie.filter_at(end);
            if id == NONE {
                id = self.filters.insert(Name::Wildcard(end)).0;
                self.trie.set_filter(end, id);
            }
            return FilterId(id);
        }
        let fingerprint = self.fingerprint(filter);
        match self.filters.find(fingerprint, filter) {
            Some(id) => id,
            None => self.filters.insert(Name::Exact { fingerprint, text: filter.into() }),
        }
    }

    /// Frees a filter on which nothing hangs any more.
    fn release(&mut self, id: FilterId) {
        if self.filters.get(id).is_some_and(|f| f.is_idle())
            && let Some(filter) = self.filters.remove(id)
            && let Name::Wildcard(end) = filter.name
        {
            self.trie.set_filter(end, NONE);
            self.trie.prune(&self.hashing, end);
        }
    }

    /// What to tell before the first subscriber of `id` is added. Another filter may have announced the fingerprint already.
    fn first_subscriber(&self, id: FilterId, filter: &str) -> Option<InterestChange> {
        match &self.filters.get(id)?.name {
            Name::Exact { fingerprint, .. } => {
                (!self.filters.is_subscribed(*fingerprint)).then_some(InterestChange::AddExact(*fingerprint))
            }
            Name::Wildcard(_) => Some(InterestChange::AddWildcard(filter.into())),
        }
    }

    /// What to tell after the last subscriber of `id` has gone.
    fn last_subscriber(&self, id: FilterId) -> Option<InterestChange> {
        match &self.filters.get(id)?.name {
            Name::Exact { fingerprint, .. } => {
                (!self.filters.is_subscribed(*fingerprint)).then_some(InterestChange::RemoveExact(*fingerprint))
            }
            Name::Wildcard(end) => Some(InterestChange::RemoveWildcard(self.trie.text(*end).into())),
        }
    }
}
