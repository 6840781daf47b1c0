//! What a shard gives up when memory is short, in the stated order, and that the memory comes back.

#[path = "support/one_shard.rs"]
mod one_shard;

use one_shard::OneShard;
use ringmq::broker::{Command, ConnId, Origin};
use ringmq::config::Limits;
use ringmq::metrics::{CloseCause, RefuseReason};
use ringmq::mqtt::{Properties, PublishOut, QoS, SubscribeEntry, SubscribeOptions, Version, encode};

const BUDGET: u64 = 1024 * 1024;

fn small_world() -> OneShard {
    OneShard::new(Limits { memory_budget_bytes: BUDGET, ..Limits::default() })
}

fn try_open(world: &mut OneShard) -> Option<ConnId> {
    world.shard.open(world.now, Origin { listener: 0, peer: None })
}

/// The client's socket breaks.
fn end(world: &mut OneShard, conn: ConnId) {
    world.shard.ended(world.now, conn, CloseCause::ClientClosed);
    let mut commands = Vec::new();
    world.shard.take_commands(&mut commands);
    assert_eq!(commands, [Command::Close { conn, after_send: false }]);
    world.shard.closed(world.now, conn);
    world.finish_turn();
}

/// Publishes one message of 1,000 bytes.
fn publish(world: &mut OneShard, publisher: ConnId, topic: &str, qos: QoS, retain: bool) {
    let mut bytes = Vec::new();
    let payload = [1; 1_000];
    encode::publish(&mut bytes, Version::V5, &PublishOut { qos, retain, packet_id: 1, ..PublishOut::new(topic, &payload) });
    world.receive(publisher, &bytes);
}

/// A client that never acknowledges what it is sent holds messages until the shard takes no more for it.
fn fill_queue(world: &mut OneShard) -> (ConnId, u64) {
    let slow = world.connect("slow", Version::V5);
    world.subscribe(slow, Version::V5, "full", QoS::AtLeastOnce);
    let publisher = world.connect("publisher", Version::V5);
    let refused_before = world.shard.snapshot().counters.publishes_refused;
    let mut accepted = 0;
    while world.shard.snapshot().counters.publishes_refused == refused_before {
        publish(world, publisher, "full", QoS::AtLeastOnce, false);
        accepted += 1;
        assert!(accepted < 100_000, "nothing was refused");
    }
    (slow, accepted)
}

#[test]
fn queues_stop_growing_below_the_budget_and_the_publisher_is_told() {
    let mut world = small_world();
    let (_, accepted) = fill_queue(&mut world);
    let used = world.shard.memory_used();
    assert!(accepted > 500 && (BUDGET * 85 / 100..=BUDGET).contains(&used), "{accepted} accepted, {used} bytes used");
}

#[test]
fn near_the_budget_new_connections_subscriptions_and_retained_messages_are_refused() {
    let mut world = small_world();
    let early = world.connect("early", Version::V5);
    fill_queue(&mut world);
    let refused = |world: &OneShard| world.shard.snapshot().counters.refused[RefuseReason::Memory as usize];
    assert_eq!(refused(&world), 0);
    assert!(try_open(&mut world).is_none(), "a connection is taken although memory is short");
    assert_eq!(refused(&world), 1);
    world.subscribe(early, Version::V5, "more", QoS::AtMostOnce);
    assert_eq!(refused(&world), 2);
    publish(&mut world, early, "kept", QoS::AtLeastOnce, true);
    assert_eq!(world.shard.snapshot().gauges.retained_messages, 0);
}

#[test]
fn memory_comes_back_when_the_cause_goes() {
    let mut world = small_world();
    let (slow, _) = fill_queue(&mut world);
    end(&mut world, slow);
    let used = world.shard.memory_used();
    assert!(used < BUDGET / 100, "{used} bytes are still counted");
    assert!(try_open(&mut world).is_some());
}

#[test]
fn half_of_a_large_packet_counts_and_goes_with_its_connection() {
    let mut world = small_world();
    let conn = world.connect("large", Version::V5);
    let before = world.shard.memory_used();
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V5, &PublishOut::new("t", &vec![0; 100_000]));
    world.receive(conn, &bytes[..50_000]);
    assert_eq!(world.shard.memory_used() - before, 50_000);
    end(&mut world, conn);
    assert!(world.shard.memory_used() < before);
}

#[test]
fn the_slowest_client_goes_although_output_of_it_is_under_way_and_more_waits() {
    let mut world = small_world();
    let slow = world.connect("slow", Version::V5);
    world.subscribe(slow, Version::V5, "t", QoS::AtMostOnce);
    let publisher = world.connect("publisher", Version::V5);
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V5, &PublishOut::new("t", &vec![1; 500_000]));
    // The first batch is taken and never leaves, the second waits behind it: together they are more than the budget.
    let mut under_way = Vec::new();
    for _ in 0..4 {
        world.shard.receive(world.now, publisher, &bytes);
        world.shard.tick(world.now);
        under_way.extend(std::iter::from_fn(|| world.shard.next_output()));
    }
    let mut commands = Vec::new();
    world.shard.take_commands(&mut commands);
    assert!(commands.contains(&Command::Close { conn: slow, after_send: false }), "{commands:?}");
    world.shard.closed(world.now, slow);
    assert!(world.shard.memory_used() < BUDGET / 100, "{} bytes are still counted", world.shard.memory_used());
    world.subscribe(publisher, Version::V5, "t", QoS::AtMostOnce);
}

/// The same of a 3.1.1 client, within a turn: it cannot be told of a full queue.
fn publish_3_1_1(world: &mut OneShard, publisher: ConnId, topic: &str, packet_id: u16) {
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V311, &PublishOut { qos: QoS::AtLeastOnce, packet_id, ..PublishOut::new(topic, &[1; 1_000]) });
    world.shard.receive(world.now, publisher, &bytes);
}

#[test]
fn messages_that_are_held_for_a_full_queue_keep_to_the_budget() {
    let mut world = small_world();
    let slow = world.connect("slow", Version::V311);
    world.subscribe(slow, Version::V311, "full", QoS::AtLeastOnce);
    let publishers: Vec<ConnId> = (0..4).map(|number| world.connect(&format!("publisher-{number}"), Version::V311)).collect();
    for packet_id in 1..=1_000 {
        for &publisher in &publishers {
            publish_3_1_1(&mut world, publisher, "full", packet_id);
        }
        world.shard.tick(world.now);
        while let Some((conn, batch)) = world.shard.next_output() {
            world.shard.sent(world.now, conn, batch);
        }
    }
    let used = world.shard.memory_used();
    assert!((BUDGET * 85 / 100..=BUDGET).contains(&used), "{used} bytes used");
}

#[test]
fn one_turn_does_not_use_up_the_output_budget_many_times_over() {
    let budget = 4 * 1024 * 1024;
    let mut world = OneShard::new(Limits { out_budget_bytes: budget, ..Limits::default() });
    // Subscription identifiers make every client's packets its own.
    for id in 1..=50_u32 {
        let conn = world.connect(&format!("slow-{id}"), Version::V5);
        let mut bytes = Vec::new();
        let entry = SubscribeEntry { filter: "t", options: SubscribeOptions::default() };
        encode::subscribe(&mut bytes, Version::V5, 1, &[entry], &Properties { subscription_id: Some(id), ..Properties::default() });
        world.receive(conn, &bytes);
    }
    let publisher = world.connect("publisher", Version::V5);
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V5, &PublishOut::new("t", &[1; 10_000]));
    for _ in 0..200 {
        world.shard.receive(world.now, publisher, &bytes);
    }
    let mut left = 0;
    while let Some((_, batch)) = world.shard.next_output() {
        left += batch.len() as u64;
    }
    // Up to 64 KiB of a connection are not accounted for at once.
    assert!(left > budget / 2 && left <= budget + 50 * 80_000, "{left} bytes in one turn");
}
