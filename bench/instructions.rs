//! Turns of a shard for an instruction counter: `scripts/instructions.sh` runs this under callgrind, with few turns and with many, and takes the difference.
//! Instructions do not depend on what else the machine does, so they show steps that a clock cannot.
//!
//! `instructions SCENARIO TURNS` runs one scenario; without arguments each runs once.

#[path = "../tests/support/mesh.rs"]
mod mesh;
#[path = "../tests/support/one_shard.rs"]
mod one_shard;
#[path = "../tests/support/publishes.rs"]
mod publishes;

use mesh::Mesh;
use one_shard::OneShard;
use publishes::publishes;
use ringmq::broker::ConnId;
use ringmq::config::Limits;
use ringmq::mqtt::{PublishOut, QoS, Version, encode};

/// Messages in one turn.
const MESSAGES: usize = 100;

/// Makes a world and gives what one turn does in it.
type Scenario = fn() -> Box<dyn FnMut()>;

/// A busy publisher and its subscriber: a run.
fn one_to_one() -> Box<dyn FnMut()> {
    let (mut world, publisher) = world(1, "a/b", QoS::AtMostOnce);
    let bytes = publishes(Version::V311, &["a/b"], MESSAGES);
    Box::new(move || world.receive(publisher, &bytes))
}

/// Each message to another topic than the one before: no run.
fn alternating() -> Box<dyn FnMut()> {
    let (mut world, publisher) = world(1, "a/+", QoS::AtMostOnce);
    let bytes = publishes(Version::V311, &["a/b", "a/c"], MESSAGES);
    Box::new(move || world.receive(publisher, &bytes))
}

/// A run to a hundred subscribers.
fn fan_out() -> Box<dyn FnMut()> {
    let (mut world, publisher) = world(100, "a/b", QoS::AtMostOnce);
    let bytes = publishes(Version::V311, &["a/b"], MESSAGES);
    Box::new(move || world.receive(publisher, &bytes))
}

/// QoS 1 all the way: publish, deliver, acknowledge on both sides.
fn acknowledged() -> Box<dyn FnMut()> {
    let mut world = OneShard::new(Limits::default());
    let subscriber = world.connect("subscriber", Version::V311);
    world.subscribe(subscriber, Version::V311, "a/b", QoS::AtLeastOnce);
    let publisher = world.connect("publisher", Version::V311);
    let mut bytes = Vec::new();
    for packet_id in 1..=MESSAGES as u16 {
        let packet = PublishOut { qos: QoS::AtLeastOnce, packet_id, ..PublishOut::new("a/b", &[7; 64]) };
        encode::publish(&mut bytes, Version::V311, &packet);
    }
    let mut next: u16 = 1;
    Box::new(move || {
        world.receive(publisher, &bytes);
        let mut acks = Vec::with_capacity(4 * MESSAGES);
        for _ in 0..MESSAGES {
            acks.extend_from_slice(&[0x40, 2, (next >> 8) as u8, next as u8]);
            next = next.checked_add(1).unwrap_or(1);
        }
        world.receive(subscriber, &acks);
    })
}

/// From a shard to another one: a run, as `one_to_one`, that crosses.
fn across() -> Box<dyn FnMut()> {
    let mut mesh = Mesh::new(2);
    let subscriber = mesh.connect(1, "subscriber");
    mesh.subscribe(1, subscriber, "a/b");
    let publisher = mesh.connect(0, "publisher");
    let bytes = publishes(Version::V311, &["a/b"], MESSAGES);
    Box::new(move || {
        mesh.shards[0].receive(0, publisher, &bytes);
        mesh.settle();
    })
}

fn world(subscribers: usize, filter: &str, qos: QoS) -> (OneShard, ConnId) {
    let mut world = OneShard::new(Limits::default());
    for index in 0..subscribers {
        let conn = world.connect(&format!("subscriber-{index}"), Version::V311);
        world.subscribe(conn, Version::V311, filter, qos);
    }
    let publisher = world.connect("publisher", Version::V311);
    (world, publisher)
}

const SCENARIOS: [(&str, Scenario); 5] =
    [("one_to_one", one_to_one), ("alternating", alternating), ("fan_out", fan_out), ("acknowledged", acknowledged), ("across", across)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let turns = arguments.get(1).map_or(1, |turns| turns.parse().expect("a number of turns"));
    for (name, scenario) in SCENARIOS {
        if arguments.first().is_none_or(|wanted| wanted == name) {
            let mut turn = scenario();
            (0..turns).for_each(|_| turn());
        }
    }
}
