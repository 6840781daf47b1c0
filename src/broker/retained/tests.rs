//! The store against a map, readers while it changes, and what reading and holding cost.

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

/// What is retained here: its topic, and a number that tells it from others.
#[derive(Clone, Debug, PartialEq)]
struct Numbered {
    topic: Box<str>,
    number: u32,
}

impl HasTopic for Numbered {
    fn is_for(&self, topic: &str) -> bool {
        *self.topic == *topic
    }
}

fn numbered(topic: &str, number: u32) -> Numbered {
    Numbered { topic: topic.into(), number }
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
    store: Retained<Numbered>,
    map: BTreeMap<String, Numbered>,
    cursor: Cursor,
    /// Matching topics that have been there since the reader began.
    throughout: BTreeSet<String>,
    seen: BTreeSet<String>,
    next_message: u32,
}

impl World {
    fn set(&mut self, topic: &str) {
        self.next_message += 1;
        let message = numbered(topic, self.next_message);
        assert_eq!(self.store.set(topic, message.clone()), self.map.insert(topic.into(), message));
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
        let done = store.next_batch(cursor, max, |message| {
            found += 1;
            let topic = &*message.topic;
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
        prop_assert_eq!((world.store.len(), world.store.pins(), world.store.tree.len(), world.store.tree.names.len()), (0, 0, 0, 0));
    }
}

/// What a filter finds, and the number of looks at a node that it takes.
fn read_all(store: &mut Retained<Numbered>, filter: &str) -> (usize, usize) {
    let mut cursor = Cursor::new(filter);
    let (mut found, mut looks) = (0, 1);
    while !cursor.walk(&mut store.tree, 1, |_| {
        found += 1;
        true
    }) {
        looks += 1;
    }
    (found, looks)
}

fn set_all(store: &mut Retained<Numbered>, topics: impl Iterator<Item = String>) {
    topics.enumerate().for_each(|(number, topic)| drop(store.set(&topic, numbered(&topic, number as u32))));
}

fn fleet(cars: usize) -> Retained<Numbered> {
    let mut store = Retained::new(3);
    set_all(&mut store, (0..cars).map(|n| format!("fleet/{:02}/car{n:06}/position", n % 20)));
    set_all(&mut store, (0..20).map(|depot| format!("fleet/{depot:02}/depot")));
    store
}

/// Beside 100,000 topics that do not match, each costs as much as beside 1,000.
#[test]
fn a_filter_that_matches_few_looks_at_few_in_any_store() {
    let (mut large, mut small) = (fleet(100_000), fleet(1_000));
    let filters = [
        ("fleet/+/depot", 20),
        ("fleet/07/depot", 1),
        ("fleet/07/depot/#", 1),
        ("+/07/depot", 1),
        ("fleet/+/car000007/position", 1),
        ("fleet/+/car000007/#", 1),
        ("+/+/car000007/position", 1),
        ("fleet/+/car000007/speed", 0),
        ("other/#", 0),
        ("fleet/+", 0),
        ("$SYS/#", 0),
        ("+", 0),
    ];
    for (filter, wanted) in filters {
        let (found, looks) = read_all(&mut large, filter);
        assert_eq!((found, looks), read_all(&mut small, filter), "{filter}");
        assert_eq!(found, wanted, "{filter}");
        assert!(looks <= 3 * 20 + 3, "{looks} looks for {filter}");
    }
}

/// `+` stands for 100,000 cars, of which three have an alarm: those are asked where they lie, not the cars what they have.
#[test]
fn a_rare_level_below_a_plus_is_looked_for_by_its_name() {
    let mut store = fleet(100_000);
    set_all(&mut store, [7, 77, 777].into_iter().map(|n| format!("fleet/07/car{n:06}/alarm")));
    set_all(&mut store, ["elsewhere/alarm", "$fleet/07/car000007/alarm", "fleet/07/alarm"].map(String::from).into_iter());
    for (filter, wanted) in [("fleet/07/+/alarm", 3), ("fleet/07/+/alarm/#", 3), ("fleet/+/+/alarm", 3), ("+/alarm", 1), ("+/+/alarm", 1)] {
        let (found, looks) = read_all(&mut store, filter);
        assert_eq!(found, wanted, "{filter}");
        assert!(looks <= 200, "{looks} looks for {filter}");
    }
}

#[test]
fn a_filter_that_matches_all_takes_a_look_at_each_level() {
    let mut store = fleet(100_000);
    let levels = store.tree.len();
    assert_eq!(levels, 1 + 20 + 20 + 2 * 100_000);
    let (found, looks) = read_all(&mut store, "#");
    assert_eq!(found, 100_020);
    assert!(looks <= levels + 2, "{looks} looks");
    let (found, looks) = read_all(&mut store, "fleet/+/+/position");
    assert_eq!(found, 100_000);
    assert!(looks <= levels + 2, "{looks} looks");
}

/// A slice ends after some looks although nothing has matched.
#[test]
fn looks_that_find_nothing_count() {
    let mut store = fleet(100_000);
    set_all(&mut store, (0..200_000).map(|n| format!("fleet/speed/{n}/speed")));
    let mut cursor = Cursor::new("fleet/+/+/speed/none");
    let mut slices = 0;
    while !store.next_batch(&mut cursor, 100, |message| panic!("{} does not match", message.topic)) {
        slices += 1;
    }
    assert!(slices >= 100_000 / (100 * LOOKS_A_MESSAGE), "{slices} slices");
}

/// Most filters of a fleet match nothing that is retained, and that is soon seen.
#[test]
fn a_filter_for_which_there_is_nothing_is_seen_through_at_once() {
    let mut store = fleet(1_000);
    for filter in ["other/+", "fleet/07/car000007/+/+", "fleet/99/#", "+/07/none", "$SYS/#"] {
        assert!(store.has_none_for(filter), "{filter}");
    }
    for filter in ["fleet/07/depot/#", "fleet/07/car000007/+", "#", "fleet/+/+/none"] {
        assert!(!store.has_none_for(filter), "{filter}: there is one, or it takes long to tell");
    }
    assert_eq!(store.pins(), 0);
}

#[test]
fn a_reader_that_is_done_stays_done() {
    let mut store = Retained::new(3);
    let mut cursor = Cursor::new("#");
    assert!(store.next_batch(&mut cursor, 10, |_: &Numbered| true));
    store.set("late", numbered("late", 1));
    assert!(store.next_batch(&mut cursor, 10, |message| panic!("{} came after the end", message.topic)));
}

/// Whoever sets topics faster than a reader reads does not keep it from its end.
#[test]
fn a_reader_comes_to_its_end_whatever_is_added() {
    let mut store = Retained::new(3);
    set_all(&mut store, (0..10).map(|n| format!("a/{n}/b")));
    for filter in ["#", "a/+/b", "a/+/+"] {
        let mut cursor = Cursor::new(filter);
        let mut slices = 0;
        while !store.next_batch(&mut cursor, 1, |_| true) {
            set_all(&mut store, (0..20).map(|n| format!("a/{filter:?} {slices} {n}/b")));
            slices += 1;
            assert!(slices < 1_000, "no end");
        }
    }
}

/// A reader that is given up in the middle of it leaves nothing behind.
#[test]
fn a_reader_that_is_given_up_keeps_nothing() {
    let mut store = fleet(100);
    for filter in ["#", "fleet/+/depot", "fleet/+/+/position"] {
        let mut cursor = Cursor::new(filter);
        assert!(!store.next_batch(&mut cursor, 3, |_| true));
        assert!(store.pins() > 0);
        store.close(cursor);
        assert_eq!(store.pins(), 0);
    }
}

#[test]
fn a_topic_that_is_set_again_allocates_nothing() {
    let mut store = fleet(100_000);
    let message = numbered("fleet/07/car000007/position", 8);
    let used = allocation_counter::measure(|| assert!(store.set("fleet/07/car000007/position", message).is_some()));
    assert_eq!(used.count_total, 0);
    assert_eq!(store.get("fleet/07/car000007/position").map(|message| message.number), Some(8));
}

/// The memory of a topic beside its message, where it has two levels of its own, and where it has one.
#[test]
fn a_topic_is_small() {
    struct Nothing;
    impl HasTopic for Nothing {
        fn is_for(&self, _: &str) -> bool {
            true
        }
    }
    let measure = |topic: fn(u32) -> String| {
        let mut store = Retained::new(3);
        let used = allocation_counter::measure(|| (0..100_000).for_each(|n| _ = store.set(&topic(n), Nothing)));
        println!("{} bytes for each topic such as {}", used.bytes_current / 100_000, topic(99_999));
        used.bytes_current / 100_000
    };
    let each = measure(|n| format!("fleet/{:02}/car{n:06}/position", n % 20));
    assert!(each <= 220, "{each} bytes");
    let each = measure(|n| format!("fleet/{}/{}", n / 100, n % 100));
    assert!(each <= 100, "{each} bytes");
}

#[test]
fn a_reader_that_has_enough_goes_on_behind_it() {
    let mut store = Retained::new(3);
    set_all(&mut store, ["e", "c/d", "b", "a/b", "a"].map(String::from).into_iter());
    for filter in ["#", "+/#"] {
        let mut cursor = Cursor::new(filter);
        let mut found = Vec::new();
        while !store.next_batch(&mut cursor, 100, |message| {
            found.push(message.number);
            false
        }) {}
        assert_eq!(found, [4, 3, 2, 1, 0], "the last one first, what is below it behind it: {filter}");
    }
}
