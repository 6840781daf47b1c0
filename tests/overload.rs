//! What a shard gives up when memory is short, in the stated order, and that the memory comes back.

#[path = "support/one_shard.rs"]
mod one_shard;

use one_shard::OneShard;
use ringmq::broker::{Command, ConnId, Origin};
use ringmq::config::Limits;
use ringmq::metrics::{CloseCause, RefuseReason};
use ringmq::mqtt::{PublishOut, QoS, Version, encode};

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
    assert!(accepted > 500 && used <= BUDGET && used >= BUDGET * 85 / 100, "{accepted} accepted, {used} bytes used");
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
