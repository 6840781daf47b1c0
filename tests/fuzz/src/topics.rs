//! Subscriptions of three shards that tell one another what they must, and of strangers that tell them anything, against plain lists and the standard's
//! rules taken level by level. Whoever wants a topic is found, nobody else; a group's turns are fair; and when all have left, nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use super::input::Input;
use ringmq::broker::ShardId;
use ringmq::broker::topics::{Choice, GroupId, InterestChange, Matches, SessionIx, SubOptions, Subscriber, Topics, is_wildcard};

/// Shards that are simulated, and others of which only messages are seen.
const SHARDS: usize = 3;
const STRANGERS: [u16; 3] = [3, 64, 127];
/// Sessions of a shard: enough for a list of subscribers to get its index.
const SESSIONS: usize = 150;
/// Levels of a topic or filter at most.
const LEVELS: usize = 5;
const GROUPS: [&str; 3] = ["g", "h", "group with a longer name"];
const STEPS: usize = 400;

/// The standard's rules. [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1]
fn wants(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([f, filter @ ..], [t, topic @ ..]) if f == t => levels(filter, topic),
            _ => false,
        }
    }
    let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
    !hidden && levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

#[derive(Default)]
struct World {
    shards: Vec<Topics>,
    /// Of each shard: (filter, session) -> subscription identifier.
    subscriptions: Vec<BTreeMap<(String, SessionIx), u32>>,
    /// (group, filter) -> (shard, session).
    members: BTreeMap<(String, String), BTreeSet<(usize, SessionIx)>>,
    /// What strangers announced and did not withdraw.
    strange: BTreeSet<(String, u16)>,
    /// Members of groups on the shards of strangers: (group, filter) -> shard -> number.
    strange_members: BTreeMap<(String, String), BTreeMap<u16, u32>>,
    scratch: Matches,
}

/// A sequence of changes, with matches between them.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World { shards: (0..SHARDS).map(|_| Topics::new(42)).collect(), ..World::default() };
    world.subscriptions.resize(SHARDS, BTreeMap::new());
    let mut topics = BTreeSet::from(["a".to_owned(), "a/b".to_owned()]);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input, &mut topics);
    }
    topics.iter().for_each(|topic| world.check(topic));
    world.leave_all();
    for topics in &world.shards {
        assert_eq!((topics.filter_count(), topics.node_count(), topics.remote_count(), topics.group_count()), (0, 0, 0, 0));
    }
}

impl World {
    fn step(&mut self, input: &mut Input<'_>, topics: &mut BTreeSet<String>) {
        let (what, shard) = (input.below(12), input.below(SHARDS));
        let session = input.below(6) as SessionIx;
        match what {
            0..3 => self.subscribe(shard, &input.filter(LEVELS), session, input.below(3) as u32),
            3..5 => {
                let filter = self.known_filter(input);
                self.unsubscribe(shard, &filter, session);
            }
            5 => self.join(shard, input.choose(&GROUPS), &input.filter(LEVELS), session),
            6 => {
                let (group, filter) = (input.choose(&GROUPS), self.known_filter(input));
                self.leave(shard, group, &filter, session);
            }
            7 => self.crowd(shard, input),
            8 => self.strange_interest(input),
            9 => self.strange_share(input),
            _ => {
                let topic = input.topic(LEVELS);
                self.check(&topic);
                topics.insert(topic);
            }
        }
    }

    /// A filter that somebody here used, if the input says so.
    fn known_filter(&self, input: &mut Input<'_>) -> String {
        let known: Vec<&String> = self.subscriptions.iter().flat_map(|of| of.keys().map(|(filter, _)| filter)).collect();
        let known: Vec<&String> = known.into_iter().chain(self.members.keys().map(|(_, filter)| filter)).collect();
        if known.is_empty() || input.one_in(8) { input.filter(LEVELS) } else { input.choose(&known).clone() }
    }

    fn tell(&mut self, from: usize, change: Option<InterestChange>) {
        let Some(change) = change else { return };
        for to in (0..SHARDS).filter(|&to| to != from) {
            self.shards[to].apply(ShardId(from as u16), &change);
        }
    }

    fn subscribe(&mut self, shard: usize, filter: &str, session: SessionIx, subscription_id: u32) {
        let before = self.shards[shard].generation();
        let added = self.shards[shard].subscribe(filter, subscriber(session, subscription_id));
        let old = self.subscriptions[shard].insert((filter.into(), session), subscription_id);
        assert_eq!(added.existed, old.is_some());
        assert_eq!(self.shards[shard].find(filter), Some(added.id));
        assert_eq!(self.shards[shard].filter(added.id), filter);
        assert_ne!(self.shards[shard].generation(), before, "a match may change");
        self.tell(shard, added.tell);
    }

    fn unsubscribe(&mut self, shard: usize, filter: &str, session: SessionIx) {
        let known = self.subscriptions[shard].remove(&(filter.into(), session)).is_some();
        let Some(id) = self.shards[shard].find(filter) else { return assert!(!known) };
        let before = self.shards[shard].generation();
        let removed = self.shards[shard].unsubscribe(id, session);
        assert_eq!(removed.existed, known);
        assert!(!known || self.shards[shard].generation() != before, "a match may change");
        self.tell(shard, removed.tell);
    }

    fn join(&mut self, shard: usize, group: &str, filter: &str, session: SessionIx) {
        let joined = self.shards[shard].subscribe_shared(group, filter, subscriber(session, 0));
        let is_new = self.members.entry((group.into(), filter.into())).or_default().insert((shard, session));
        assert_eq!(joined.existed, !is_new);
        assert_eq!(self.shards[shard].find_share(group, filter), Some(joined.id));
        self.tell(shard, joined.tell);
    }

    fn leave(&mut self, shard: usize, group: &str, filter: &str, session: SessionIx) {
        let members = self.members.get_mut(&(group.to_owned(), filter.to_owned()));
        let known = members.is_some_and(|members| members.remove(&(shard, session)));
        let Some(id) = self.shards[shard].find_share(group, filter) else { return assert!(!known) };
        let removed = self.shards[shard].unsubscribe_shared(id, session);
        assert_eq!(removed.existed, known);
        self.tell(shard, removed.tell);
    }

    /// Many sessions come to one filter or group, or leave it.
    fn crowd(&mut self, shard: usize, input: &mut Input<'_>) {
        let (filter, group) = (self.known_filter(input), input.option(|input| input.choose(&GROUPS)));
        let (come, first, count) = (input.flag(), input.below(SESSIONS), input.below(SESSIONS));
        for session in (first..SESSIONS.min(first + count)).map(|session| session as SessionIx) {
            match (group, come) {
                (None, true) => self.subscribe(shard, &filter, session, 1),
                (None, false) => self.unsubscribe(shard, &filter, session),
                (Some(group), true) => self.join(shard, group, &filter, session),
                (Some(group), false) => self.leave(shard, group, &filter, session),
            }
        }
    }

    /// A stranger announces or withdraws a filter, perhaps for the second time.
    fn strange_interest(&mut self, input: &mut Input<'_>) {
        let (filter, stranger, come) = (self.known_filter(input), input.choose(&STRANGERS), input.flag());
        self.announce(&filter, stranger, come);
        if come {
            self.strange.insert((filter, stranger));
        } else {
            self.strange.remove(&(filter, stranger));
        }
    }

    fn announce(&mut self, filter: &str, stranger: u16, come: bool) {
        let fingerprint = self.shards[0].fingerprint(filter);
        let change = match (is_wildcard(filter), come) {
            (true, true) => InterestChange::AddWildcard(filter.into()),
            (true, false) => InterestChange::RemoveWildcard(filter.into()),
            (false, true) => InterestChange::AddExact(fingerprint),
            (false, false) => InterestChange::RemoveExact(fingerprint),
        };
        self.shards.iter_mut().for_each(|topics| topics.apply(ShardId(stranger), &change));
    }

    fn strange_share(&mut self, input: &mut Input<'_>) {
        let (group, filter, stranger) = (input.choose(&GROUPS), self.known_filter(input), input.choose(&STRANGERS));
        self.set_strange_members(group, &filter, stranger, input.below(4) as u32);
    }

    fn set_strange_members(&mut self, group: &str, filter: &str, stranger: u16, members: u32) {
        let change = InterestChange::Share { group: group.into(), filter: filter.into(), members };
        self.shards.iter_mut().for_each(|topics| topics.apply(ShardId(stranger), &change));
        let of_group = self.strange_members.entry((group.into(), filter.into())).or_default();
        of_group.insert(stranger, members);
        of_group.retain(|_, members| *members > 0);
    }

    fn check(&mut self, topic: &str) {
        for shard in 0..SHARDS {
            self.check_subscribers(shard, topic);
            self.check_groups(shard, topic);
        }
    }

    fn check_subscribers(&mut self, shard: usize, topic: &str) {
        let topics = &self.shards[shard];
        topics.matches(topic, &mut self.scratch);
        let mut got = Vec::new();
        for &id in &self.scratch.filters {
            assert!(!topics.subscribers(id).is_empty());
            got.extend(topics.subscribers(id).iter().map(|s| (topics.filter(id).into_owned(), s.session, s.subscription_id)));
        }
        got.sort();
        let matching = |of: usize| self.subscriptions[of].iter().filter(|((filter, _), _)| wants(filter, topic));
        let wanted: Vec<_> = matching(shard).map(|((filter, session), id)| (filter.clone(), *session, *id)).collect();
        assert_eq!(got, wanted, "subscribers of {topic:?} on shard {shard}");
        let own = (0..SHARDS).filter(|&of| of != shard && matching(of).next().is_some()).map(|of| of as u16);
        let strange = self.strange.iter().filter(|(filter, _)| wants(filter, topic)).map(|&(_, stranger)| stranger);
        let others: BTreeSet<u16> = own.chain(strange).collect();
        assert!(self.scratch.remote.iter().map(|shard| shard.0).eq(others), "other shards for {topic:?} on {shard}");
    }

    fn check_groups(&mut self, shard: usize, topic: &str) {
        let topics = &mut self.shards[shard];
        topics.matches(topic, &mut self.scratch);
        let mut got = Vec::new();
        for &id in &self.scratch.groups {
            let (name, filter) = topics.share(id).expect("matched");
            let key = (name.to_owned(), topics.filter(filter).into_owned());
            let fingerprint = topics.share_fingerprint(&key.0, &key.1);
            assert_eq!(topics.fingerprint_of_share(id), Some(fingerprint));
            assert_eq!(topics.share_by_fingerprint(fingerprint), Some(id));
            check_round(topics, id, shard, self.members.get(&key), self.strange_members.get(&key));
            got.push(key);
        }
        got.sort();
        let own = self.members.iter().filter(|(_, members)| !members.is_empty()).map(|(key, _)| key);
        let strange = self.strange_members.iter().filter(|(_, members)| !members.is_empty()).map(|(key, _)| key);
        let wanted: BTreeSet<_> = own.chain(strange).filter(|(_, filter)| wants(filter, topic)).cloned().collect();
        assert!(got.iter().eq(&wanted), "groups of {topic:?} on shard {shard}: {got:?}");
    }

    fn leave_all(&mut self) {
        for shard in 0..SHARDS {
            for (filter, session) in self.subscriptions[shard].keys().cloned().collect::<Vec<_>>() {
                self.unsubscribe(shard, &filter, session);
            }
        }
        for ((group, filter), members) in self.members.clone() {
            members.into_iter().for_each(|(shard, session)| self.leave(shard, &group, &filter, session));
        }
        for (filter, stranger) in std::mem::take(&mut self.strange) {
            self.announce(&filter, stranger, false);
        }
        for ((group, filter), strangers) in self.strange_members.clone() {
            strangers.into_keys().for_each(|stranger| self.set_strange_members(&group, &filter, stranger, 0));
        }
    }
}

fn subscriber(session: SessionIx, subscription_id: u32) -> Subscriber {
    Subscriber { session, subscription_id, options: SubOptions::default() }
}

/// Two rounds, from wherever the group stands: every shard has two turns per member, and every member here its two.
fn check_round(
    topics: &mut Topics,
    id: GroupId,
    here: usize,
    members: Option<&BTreeSet<(usize, SessionIx)>>,
    strange: Option<&BTreeMap<u16, u32>>,
) {
    let mut turns = BTreeMap::<u16, u32>::new();
    let mut local = BTreeMap::<SessionIx, u32>::new();
    for &(shard, session) in members.into_iter().flatten() {
        *turns.entry(shard as u16).or_default() += 2;
        if shard == here {
            local.insert(session, 2);
        }
    }
    turns.extend(strange.into_iter().flatten().map(|(&stranger, &members)| (stranger, 2 * members)));
    for _ in 0..turns.values().sum::<u32>() {
        let shard = match topics.choose_shard(id).expect("the group has members") {
            Choice::Remote(shard) => shard.0,
            Choice::Local => {
                let member = topics.pick(id, |_| true).expect("chosen, so there is a member");
                *local.get_mut(&member.session).expect("a member") -= 1;
                here as u16
            }
        };
        *turns.get_mut(&shard).expect("a shard with members") -= 1;
    }
    assert!(turns.values().chain(local.values()).all(|&left| left == 0), "unfair: {turns:?} {local:?}");
}
