//! The store against a map, readers while it changes, and what reading costs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::broker::topics::tests::naive_match;

/// Levels that sort before, around and after the slash and the `$`.
fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("$s"), 1 => Just("a!"), 1 => Just("\u{1}"), 1 => Just("é")]
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5).prop_map(|levels| levels.join("/")).prop_filter("empty", |t| !t.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![1 => level(), 1 => Just("+")];
    let levels = (prop::collection::vec(level, 0..5), prop::bool::weighted(0.3));
    let text = levels.prop_map(|(mut levels, multi)| {
        levels.extend(multi.then_some("#"));
        levels.join("/")
    });
    text.prop_filter("empty", |t| !t.is_empty())
}

#[derive(Clone, Debug)]
enum Step {
    Set(String),
    Remove(String),
    /// Read on, this many steps at most.
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![4 => topic().prop_map(Step::Set), 2 => topic().prop_map(Step::Remove), 3 => (1usize..5).prop_map(Step::Read)]
}

/// A store, the same as a map, and what a reader of it has seen and must see.
struct World {
    store: Retained<u32>,
    map: BTreeMap<String, u32>,
    cursor: Cursor,
    /// Matching topics that have been there since the reader began.
    throughout: BTreeSet<String>,
    seen: BTreeSet<String>,
    next_message: u32,
}

impl World {
    fn set(&mut self, topic: &str) {
        self.next_message += 1;
        assert_eq!(self.store.set(topic, self.next_message), self.map.insert(topic.into(), self.next_message));
    }

    fn remove(&mut self, topic: &str) {
        assert_eq!(self.store.remove(topic), self.map.remove(topic));
        assert_eq!(self.store.get(topic), None);
        self.throughout.remove(topic);
    }

    fn read(&mut self, max: usize) -> bool {
        let World { store, map, cursor, seen, .. } = self;
        let filter = cursor.filter().to_owned();
        let mut found = 0;
        let done = store.next_batch(cursor, max, |topic, message| {
            found += 1;
            assert!(naive_match(&filter, topic), "{topic:?} for {filter:?}");
            assert_eq!(map.get(topic), Some(message));
            assert!(seen.insert(topic.into()), "{topic:?} came twice");
            true
        });
        assert!(found <= max);
        done
    }
}

proptest! {
    /// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-4.7.2-1]
    #[test]
    fn a_reader_sees_what_stays_exactly_once(
        before in prop::collection::vec(topic(), 0..60),
        filter in filter(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World {
            store: Retained::new(3),
            map: BTreeMap::new(),
            cursor: Cursor::new(&filter),
            throughout: BTreeSet::new(),
            seen: BTreeSet::new(),
            next_message: 0,
        };
        before.iter().for_each(|topic| world.set(topic));
        world.throughout = world.map.keys().filter(|topic| naive_match(&filter, topic)).cloned().collect();
        for step in steps {
            match step {
                Step::Set(topic) => world.set(&topic),
                Step::Remove(topic) => world.remove(&topic),
                Step::Read(max) => drop(world.read(max)),
            }
            prop_assert_eq!(world.store.len(), world.map.len());
        }
        while !world.read(3) {}
        let missed: Vec<_> = world.throughout.difference(&world.seen).collect();
        prop_assert!(missed.is_empty(), "{missed:?} for {filter:?}");
        for topic in world.map.keys().cloned().collect::<Vec<_>>() {
            world.remove(&topic);
        }
        prop_assert!(world.store.is_empty() && world.store.order.is_empty());
    }
}

/// What a filter finds, and the number of steps.
fn read_all(store: &Retained<u32>, filter: &str) -> (usize, usize) {
    let mut cursor = Cursor::new(filter);
    let (mut found, mut steps) = (0, 1);
    let mut count = |_: &str, _: &u32| {
        found += 1;
        true
    };
    while !store.next_batch(&mut cursor, 1, &mut count) {
        steps += 1;
    }
    (found, steps)
}

fn fleet() -> Retained<u32> {
    let mut store = Retained::new(3);
    for n in 0..100_000 {
        store.set(&format!("fleet/{:02}/car{n:06}/position", n % 20), n);
    }
    for depot in 0..20 {
        store.set(&format!("fleet/{depot:02}/depot"), depot);
    }
    store
}

/// Beside 100,000 topics that do not match: twenty levels stand for the `+`, and each costs two or three steps.
#[test]
fn a_filter_that_matches_few_looks_at_few() {
    let store = fleet();
    let (found, steps) = read_all(&store, "fleet/+/depot");
    assert_eq!(found, 20);
    assert!(steps <= 3 * 20 + 2, "{steps} steps");
    for (filter, wanted) in [("fleet/07/depot", 1), ("fleet/07/depot/#", 1), ("other/#", 0), ("fleet/+", 0), ("$SYS/#", 0), ("+", 0)] {
        let (found, steps) = read_all(&store, filter);
        assert_eq!(found, wanted, "{filter}");
        assert!(steps <= 43, "{steps} steps for {filter}");
    }
}

#[test]
fn a_filter_that_matches_all_takes_one_step_a_topic() {
    let store = fleet();
    assert_eq!(read_all(&store, "#"), (100_020, 100_021));
    let (found, steps) = read_all(&store, "fleet/+/+/position");
    assert_eq!(found, 100_000);
    assert!(steps <= 100_000 + 3 * 20 + 2, "{steps} steps");
}

/// A slice ends after `max` steps although nothing has matched.
#[test]
fn steps_that_find_nothing_count() {
    let store = fleet();
    let mut cursor = Cursor::new("fleet/+/+/speed");
    let mut slices = 0;
    while !store.next_batch(&mut cursor, 100, |topic, _| panic!("{topic} does not match")) {
        slices += 1;
    }
    assert!(slices >= 1_000, "{slices} slices");
}

#[test]
fn a_reader_that_is_done_stays_done() {
    let mut store = Retained::new(3);
    let mut cursor = Cursor::new("#");
    assert!(store.next_batch(&mut cursor, 10, |_, _| true));
    store.set("late", 1);
    assert!(store.next_batch(&mut cursor, 10, |topic, _| panic!("{topic} came after the end")));
}

#[test]
fn a_topic_that_is_set_again_allocates_nothing() {
    let mut store = fleet();
    let used = allocation_counter::measure(|| assert_eq!(store.set("fleet/07/car000007/position", 8), Some(7)));
    assert_eq!(used.count_total, 0);
    assert_eq!(store.get("fleet/07/car000007/position"), Some(&8));
}

/// The memory of a topic beside its message, of which it holds the text once: 29 bytes here.
#[test]
fn a_topic_is_small() {
    let mut store = None;
    let used = allocation_counter::measure(|| store = Some(fleet()));
    let each = used.bytes_current / 100_020;
    println!("{each} bytes for each retained topic of 29 bytes");
    assert!(each <= 160, "{each} bytes");
}

#[test]
fn a_reader_that_has_enough_goes_on_behind_it() {
    let mut store = Retained::new(3);
    for (topic, number) in [("a", 1), ("a/b", 2), ("b", 3), ("c/d", 4), ("e", 5)] {
        store.set(topic, number);
    }
    for filter in ["#", "+/#"] {
        let mut cursor = Cursor::new(filter);
        let mut found = Vec::new();
        while !store.next_batch(&mut cursor, 100, |_, &number| {
            found.push(number);
            false
        }) {}
        assert_eq!(found, [1, 2, 3, 4, 5], "{filter}");
    }
}
