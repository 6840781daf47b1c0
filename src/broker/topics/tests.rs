//! A broker of three shards against a list of subscriptions, and what hostile or many filters cost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::broker::hash;
use crate::mqtt::types::QoS;

const SHARDS: usize = 3;

fn sub(session: SessionIx) -> Subscriber {
    Subscriber { session, subscription_id: session + 100, options: SubOptions::new(QoS::AtLeastOnce, false, true) }
}

fn shard_id(shard: usize) -> ShardId {
    ShardId(shard as u16)
}

/// The standard's rules, level by level.
pub(in crate::broker) fn naive_match(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) => true,
            ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([f, filter @ ..], [t, topic @ ..]) if f == t => levels(filter, topic),
            _ => false,
        }
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    levels(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
}

/// Shards that tell one another what they must, and the same as plain lists.
struct World {
    shards: Vec<Topics>,
    subscriptions: Vec<BTreeMap<(String, SessionIx), u32>>,
    members: BTreeMap<(String, String), BTreeSet<(usize, SessionIx)>>,
    scratch: Matches,
}

impl World {
    fn new() -> World {
        World {
            shards: (0..SHARDS).map(|_| Topics::new(42)).collect(),
            subscriptions: vec![BTreeMap::new(); SHARDS],
            members: BTreeMap::new(),
            scratch: Matches::default(),
        }
    }

    fn tell(&mut self, from: usize, change: Option<InterestChange>) {
        let Some(change) = change else { return };
        for to in (0..SHARDS).filter(|&to| to != from) {
            self.shards[to].apply(shard_id(from), &change);
        }
    }

    fn subscribe(&mut self, shard: usize, filter: &str, session: SessionIx, subscription_id: u32) {
        let before = self.shards[shard].generation();
        let added = self.shards[shard].subscribe(filter, Subscriber { subscription_id, ..sub(session) });
        let old = self.subscriptions[shard].insert((filter.into(), session), subscription_id);
        assert_eq!(added.existed, old.is_some());
        assert_eq!(self.shards[shard].find(filter), Some(added.id));
        assert_eq!(self.shards[shard].filter(added.id), filter);
        assert_ne!(self.shards[shard].generation(), before);
        self.tell(shard, added.tell);
    }

    fn unsubscribe(&mut self, shard: usize, filter: &str, session: SessionIx) {
        let Some(id) = self.shards[shard].find(filter) else {
            assert!(!self.subscriptions[shard].contains_key(&(filter.into(), session)));
            return;
        };
        let removed = self.shards[shard].unsubscribe(id, session);
        assert_eq!(removed.existed, self.subscriptions[shard].remove(&(filter.into(), session)).is_some());
        self.tell(shard, removed.tell);
    }

    fn join(&mut self, shard: usize, group: &str, filter: &str, session: SessionIx) {
        let joined = self.shards[shard].subscribe_shared(group, filter, sub(session));
        let is_new = self.members.entry((group.into(), filter.into())).or_default().insert((shard, session));
        assert_eq!(joined.existed, !is_new);
        assert_eq!(self.shards[shard].find_share(group, filter), Some(joined.id));
        self.tell(shard, joined.tell);
    }

    fn leave(&mut self, shard: usize, group: &str, filter: &str, session: SessionIx) {
        let members = self.members.entry((group.into(), filter.into())).or_default();
        let existed = members.remove(&(shard, session));
        let Some(id) = self.shards[shard].find_share(group, filter) else { return assert!(!existed) };
        let removed = self.shards[shard].unsubscribe_shared(id, session);
        assert_eq!(removed.existed, existed);
        self.tell(shard, removed.tell);
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
        let matching = |of: usize| self.subscriptions[of].iter().filter(|((filter, _), _)| naive_match(filter, topic));
        let wanted: Vec<_> = matching(shard).map(|((filter, session), id)| (filter.clone(), *session, *id)).collect();
        assert_eq!(got, wanted, "subscribers of {topic:?} on shard {shard}");
        let others: Vec<_> = (0..SHARDS).filter(|&of| of != shard && matching(of).next().is_some()).map(shard_id).collect();
        assert_eq!(self.scratch.remote.iter().collect::<Vec<_>>(), others, "other shards for {topic:?} on {shard}");
    }

    fn check_groups(&mut self, shard: usize, topic: &str) {
        let topics = &mut self.shards[shard];
        topics.matches(topic, &mut self.scratch);
        let mut got = Vec::new();
        for &id in &self.scratch.groups {
            let (name, filter) = topics.share(id).expect("matched");
            let key = (name.to_owned(), topics.filter(filter).into_owned());
            assert_eq!(topics.fingerprint_of_share(id), Some(topics.share_fingerprint(&key.0, &key.1)));
            assert_eq!(topics.share_by_fingerprint(topics.share_fingerprint(&key.0, &key.1)), Some(id));
            check_round(topics, id, shard, &self.members[&key]);
            got.push(key);
        }
        got.sort();
        let wanted = self.members.iter().filter(|((_, filter), members)| !members.is_empty() && naive_match(filter, topic));
        assert_eq!(got, wanted.map(|(key, _)| key.clone()).collect::<Vec<_>>(), "groups of {topic:?} on shard {shard}");
    }

    fn leave_all(&mut self) {
        for shard in 0..SHARDS {
            for (filter, session) in self.subscriptions[shard].keys().cloned().collect::<Vec<_>>() {
                self.unsubscribe(shard, &filter, session);
            }
        }
        for ((group, filter), members) in self.members.clone() {
            for (shard, session) in members {
                self.leave(shard, &group, &filter, session);
            }
        }
    }
}

/// Two rounds, from wherever the group stands: every shard has two turns per member, and every member here its two.
fn check_round(topics: &mut Topics, id: GroupId, here: usize, members: &BTreeSet<(usize, SessionIx)>) {
    let mut turns = BTreeMap::<usize, usize>::new();
    let mut picked = BTreeMap::<SessionIx, usize>::new();
    for _ in 0..2 * members.len() {
        match topics.choose_shard(id).expect("the group has members") {
            Choice::Remote(shard) => *turns.entry(shard.0 as usize).or_default() += 1,
            Choice::Local => {
                *turns.entry(here).or_default() += 1;
                let member = topics.pick(id, |_| true).expect("chosen, so there is a member");
                *picked.entry(member.session).or_default() += 1;
            }
        }
    }
    let mut wanted = BTreeMap::<usize, usize>::new();
    for (shard, _) in members {
        *wanted.entry(*shard).or_default() += 2;
    }
    assert_eq!(turns, wanted);
    let local = members.iter().filter(|(shard, _)| *shard == here).map(|(_, session)| (*session, 2));
    assert_eq!(picked, local.collect::<BTreeMap<_, _>>());
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, String, SessionIx, u32),
    Unsubscribe(usize, String, SessionIx),
    Join(usize, &'static str, String, SessionIx),
    Leave(usize, &'static str, String, SessionIx),
    Check(String),
}

fn topic() -> impl Strategy<Value = String> {
    let level = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("$s"), 1 => Just("a level that is not held inline")];
    prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/")).prop_filter("empty", |t| !t.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("$s"), 4 => Just("+")];
    let levels = (prop::collection::vec(level, 0..5), prop::bool::weighted(0.3));
    let text = levels.prop_map(|(mut levels, multi)| {
        levels.extend(multi.then_some("#"));
        levels.join("/")
    });
    prop_oneof![1 => topic(), 2 => text.prop_filter("empty", |t| !t.is_empty())]
}

fn step() -> impl Strategy<Value = Step> {
    let group = || prop_oneof![Just("g"), Just("h")];
    prop_oneof![
        6 => (0..SHARDS, filter(), 0u32..4, 0u32..3).prop_map(|(shard, f, s, id)| Step::Subscribe(shard, f, s, id)),
        6 => (0..SHARDS, filter(), 0u32..4).prop_map(|(shard, f, s)| Step::Unsubscribe(shard, f, s)),
        3 => (0..SHARDS, group(), filter(), 0u32..4).prop_map(|(shard, g, f, s)| Step::Join(shard, g, f, s)),
        3 => (0..SHARDS, group(), filter(), 0u32..4).prop_map(|(shard, g, f, s)| Step::Leave(shard, g, f, s)),
        3 => topic().prop_map(Step::Check),
    ]
}

proptest! {
    /// [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.2-1] [MQTT-4.7.3-1] [MQTT-4.7.3-4] [MQTT-3.8.4-3]
    #[test]
    fn shards_agree_with_a_list_of_subscriptions(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        let mut seen = BTreeSet::new();
        for step in steps {
            match step {
                Step::Subscribe(shard, filter, session, id) => world.subscribe(shard, &filter, session, id),
                Step::Unsubscribe(shard, filter, session) => world.unsubscribe(shard, &filter, session),
                Step::Join(shard, group, filter, session) => world.join(shard, group, &filter, session),
                Step::Leave(shard, group, filter, session) => world.leave(shard, group, &filter, session),
                Step::Check(topic) => {
                    world.check(&topic);
                    seen.insert(topic);
                }
            }
        }
        seen.iter().for_each(|topic| world.check(topic));
        world.leave_all();
        for topics in &world.shards {
            prop_assert_eq!((topics.filter_count(), topics.node_count(), topics.remote_count(), topics.group_count()), (0, 0, 0, 0));
        }
    }
}

fn matching(topics: &Topics, topic: &str) -> Vec<String> {
    let mut matches = Matches::default();
    topics.matches(topic, &mut matches);
    let mut filters: Vec<_> = matches.filters.iter().map(|&id| topics.filter(id).into_owned()).collect();
    filters.sort();
    filters
}

/// The examples of the standard, section 4.7.
#[test]
fn the_standards_own_examples_match() {
    let mut topics = Topics::new(1);
    let filters =
        ["sport/tennis/player1/#", "sport/#", "sport/tennis/+", "+/+", "/+", "+", "#", "+/monitor/Clients", "$SYS/#", "$SYS/monitor/+"];
    for (session, filter) in filters.into_iter().enumerate() {
        topics.subscribe(filter, sub(session as u32));
    }
    assert_eq!(matching(&topics, "sport/tennis/player1"), ["#", "sport/#", "sport/tennis/+", "sport/tennis/player1/#"]);
    assert_eq!(matching(&topics, "sport/tennis/player1/score/wimbledon"), ["#", "sport/#", "sport/tennis/player1/#"]);
    assert_eq!(matching(&topics, "sport"), ["#", "+", "sport/#"]);
    assert_eq!(matching(&topics, "sport/"), ["#", "+/+", "sport/#"]);
    assert_eq!(matching(&topics, "/finance"), ["#", "+/+", "/+"]);
    assert_eq!(matching(&topics, "$SYS/monitor/Clients"), ["$SYS/#", "$SYS/monitor/+"]);
    assert_eq!(matching(&topics, "Sport"), ["#", "+"]);
}

/// A valid filter of the greatest length has 32,768 levels of one character each.
#[test]
fn the_deepest_filter_is_held_matched_and_freed() {
    let mut topics = Topics::new(1);
    let topic = vec!["a"; 32_768].join("/");
    let single = vec!["+"; 32_768].join("/");
    let multi = format!("{}/#", &topic[..topic.len() - 2]);
    assert_eq!(topic.len(), 65_535);
    let ids = [&topic, &single, &multi].map(|filter| topics.subscribe(filter, sub(1)).id);
    assert_eq!(matching(&topics, &topic).len(), 3);
    assert_eq!(matching(&topics, &topic[2..]).len(), 1, "`#` matches its parent");
    assert_eq!(topics.filter(ids[2]), multi);
    for id in ids {
        topics.unsubscribe(id, 1);
    }
    assert_eq!((topics.filter_count(), topics.node_count()), (0, 0));
}

/// Every mixture of `a` and `+` in 12 levels, of which all match: the work is one visit per node, not one per way to choose.
#[test]
fn hostile_mixtures_of_wildcards_are_walked_once() {
    let mut topics = Topics::new(1);
    let levels = 12;
    for bits in 0u32..1 << levels {
        let filter: Vec<_> = (0..levels).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
        topics.subscribe(&filter.join("/"), sub(bits));
    }
    let mut visited = 0;
    let topic = vec!["a"; levels].join("/");
    topics.trie.walk(&topics.hashing, &topic, &mut Frontier::default(), |_, _| visited += 1);
    assert_eq!(visited, (1 << levels) - 1, "all but the exact one");
    assert_eq!(matching(&topics, &topic).len(), 1 << levels);

    // One filter that alternates, and a topic that fits in all but its last level, meet nowhere but on one path.
    let mut topics = Topics::new(1);
    topics.subscribe(&vec!["a/+"; 10_000].join("/"), sub(1));
    assert!(matching(&topics, &format!("{}/b", vec!["a/a"; 9_999].join("/"))).is_empty());
}

#[test]
fn a_filter_is_announced_once_and_withdrawn_once() {
    let mut topics = Topics::new(1);
    let fingerprint = topics.fingerprint("a");
    let a = topics.subscribe("a", sub(1));
    assert_eq!(a.tell, Some(InterestChange::AddExact(fingerprint)));
    assert_eq!(topics.subscribe("a", sub(2)).tell, None);
    assert_eq!(topics.unsubscribe(a.id, 1).tell, None);
    assert_eq!(topics.unsubscribe(a.id, 1), Removed { existed: false, tell: None });
    assert_eq!(topics.unsubscribe(a.id, 2).tell, Some(InterestChange::RemoveExact(fingerprint)));

    let wild = topics.subscribe("a/+", sub(1));
    assert_eq!(wild.tell, Some(InterestChange::AddWildcard("a/+".into())));
    assert_eq!(topics.unsubscribe(wild.id, 1).tell, Some(InterestChange::RemoveWildcard("a/+".into())));
}

/// A member of a group is no subscriber: other shards send only what a group's turn brings.
#[test]
fn a_shared_subscription_is_announced_as_a_group_only() {
    let mut topics = Topics::new(1);
    let share = |members| Some(InterestChange::Share { group: "g".into(), filter: "a".into(), members });
    let joined = topics.subscribe_shared("g", "a", sub(1));
    assert_eq!(joined.tell, share(1));
    assert_eq!(topics.subscribe_shared("g", "a", sub(1)), Joined { id: joined.id, existed: true, tell: None });
    assert_eq!(topics.subscribe("a", sub(1)).tell, Some(InterestChange::AddExact(topics.fingerprint("a"))));
    assert_eq!(topics.subscribe_shared("g", "a", sub(2)).tell, share(2));
    assert_eq!(topics.unsubscribe_shared(joined.id, 1).tell, share(1));
    assert_eq!(topics.unsubscribe_shared(joined.id, 2).tell, share(0));
    assert_eq!(topics.unsubscribe_shared(joined.id, 2), Removed { existed: false, tell: None });
}

#[test]
fn a_group_passes_over_members_that_cannot_be_used() {
    let mut topics = Topics::new(1);
    for session in 0..4 {
        topics.subscribe_shared("g", "a", sub(session));
    }
    let id = topics.find_share("g", "a").unwrap();
    let picked: Vec<_> = (0..4).map(|_| topics.pick(id, |s| s % 2 == 1).unwrap().session).collect();
    assert_eq!(picked, [1, 3, 1, 3]);
    assert_eq!(topics.pick(id, |_| false), None);
}

/// Whoever leaves takes no turn from those who still wait for theirs in this round.
#[test]
fn a_member_that_leaves_costs_no_other_its_turn() {
    let mut topics = Topics::new(1);
    for session in 0..6 {
        topics.subscribe_shared("g", "a", sub(session));
    }
    let id = topics.find_share("g", "a").unwrap();
    let mut served: BTreeSet<_> = (0..3).map(|_| topics.pick(id, |_| true).unwrap().session).collect();
    let gone = *served.first().unwrap();
    topics.unsubscribe_shared(id, gone);
    for _ in 0..3 {
        assert!(served.insert(topics.pick(id, |_| true).unwrap().session), "served twice");
    }
    assert_eq!(served.len(), 6);
}

/// At most 200 bytes for each of 100,000 subscriptions to a filter of its own, all in; what is asked of the allocator is counted.
#[test]
fn a_fleet_of_exact_filters_is_small() {
    const FILTERS: u32 = 100_000;
    let mut topics = Topics::new(1);
    let used = allocation_counter::measure(|| {
        for n in 0..FILTERS {
            topics.subscribe(&format!("pickmeup/drivers/{n:08}/inbox"), sub(n));
        }
    });
    let each = used.bytes_current / i64::from(FILTERS);
    println!("{each} bytes for each exact filter of 31 bytes with one subscriber");
    assert!(each <= 200, "{each} bytes");

    let mut remote = Topics::new(1);
    let used = allocation_counter::measure(|| (0..FILTERS).for_each(|n| remote.add_remote_exact(remote_fingerprint(n), ShardId(1))));
    let each = used.bytes_current / i64::from(FILTERS);
    println!("{each} bytes for each exact filter of another shard");
    assert!(each <= 21, "{each} bytes");
}

fn remote_fingerprint(n: u32) -> u64 {
    remote::fingerprint(hash::number(u64::from(n)))
}

/// With `+` and `#` in its place no more than without.
#[test]
fn a_fleet_of_wildcard_filters_is_small() {
    const FILTERS: u32 = 100_000;
    for last in ["+", "#"] {
        let mut topics = Topics::new(1);
        let used = allocation_counter::measure(|| {
            for n in 0..FILTERS {
                topics.subscribe(&format!("pickmeup/drivers/{n:08}/{last}"), sub(n));
            }
        });
        let each = used.bytes_current / i64::from(FILTERS);
        println!("{each} bytes for each filter that ends in {last}");
        assert!(each <= 200, "{each} bytes");
    }
}

/// Looking ahead finds what there is to be found in any topic, and nothing comes of it.
#[test]
fn looking_ahead_takes_any_topics_and_allocates_nothing() {
    let mut topics = Topics::new(1);
    for n in 0..5_000 {
        topics.subscribe(&format!("a/{n}/c"), sub(n));
        topics.subscribe(&format!("+/{n}/#"), sub(n));
        topics.subscribe(&format!("+/+/{n}/+/b"), sub(n));
        topics.subscribe(&format!("{}/{n}", vec!["+"; 40].join("/")), sub(n));
    }
    assert!(topics.is_large());
    let deep = vec!["a"; 1_000].join("/");
    let names = [
        "a/7/c",
        "",
        "/",
        "a",
        "a/7/",
        "$SYS/a",
        "é/\u{1}",
        &deep,
        "a/7/7/7/b",
        "+/#",
        "x",
        "y",
        "z",
        "a/8/c",
        "a/9/c",
        "a/10",
        "too many",
    ];
    let names = names.map(str::as_bytes);
    let mut warmth = Warmth::default();
    topics.warm(&names, &mut warmth);
    let used = allocation_counter::measure(|| topics.warm(&names, &mut warmth));
    assert_eq!(used.count_total, 0);
    assert_eq!(matching(&topics, "a/7/c"), ["+/7/#", "a/7/c"]);
}

/// Nothing is allocated on the way of a message once the scratch has grown.
#[test]
fn matching_does_not_allocate() {
    let mut topics = Topics::new(1);
    for n in 0..1_000 {
        topics.subscribe(&format!("a/{n}/c"), sub(n));
        topics.subscribe(&format!("+/{n}/#"), sub(n));
        topics.subscribe_shared("g", &format!("a/{n}/+"), sub(n));
        topics.add_remote_wildcard(&format!("a/{n}/+/d"), ShardId(2));
    }
    let mut matches = Matches::default();
    topics.matches("a/1/c", &mut matches);
    let used = allocation_counter::measure(|| {
        for topic in ["a/7/c", "a/8/c/d", "b/9"] {
            topics.matches(topic, &mut matches);
        }
    });
    assert_eq!(used.count_total, 0);
    assert_eq!(matching(&topics, "a/7/c"), ["+/7/#", "a/7/c"]);
}

/// 100,000 subscribers of one topic, half of whom leave and come back: quadratic work would not end.
#[test]
fn a_topic_with_very_many_subscribers_lets_them_come_and_go() {
    let mut topics = Topics::new(1);
    for session in 0..100_000 {
        topics.subscribe("a", sub(session));
    }
    let id = topics.find("a").unwrap();
    for session in 0..50_000 {
        assert!(topics.unsubscribe(id, session).existed);
    }
    assert_eq!(topics.subscribers(id).len(), 50_000);
    for session in 0..50_000 {
        assert!(!topics.subscribe("a", sub(session)).existed);
    }
    assert_eq!(topics.subscribers(id).len(), 100_000);
}
