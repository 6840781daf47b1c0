//! Rates per client: beyond them a client is read later.

use ringmq::config::Config;
use ringmq::metrics::RefuseReason;
use ringmq::mqtt::{Connect, PublishOut, QoS, Version, encode};

use super::world::{LATE_MS, World, connect};

fn config(publishes: u32, bytes: u32) -> Config {
    let mut config = Config::default();
    config.limits.max_publish_per_second = publishes;
    config.limits.max_publish_bytes_per_second = bytes;
    config
}

/// `count` publishes of 10 bytes each.
fn publishes(count: usize, qos: QoS) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet_id in 1..=count as u16 {
        let payload = if qos == QoS::AtMostOnce { &b"12345"[..] } else { b"123" };
        encode::publish(&mut bytes, Version::V311, &PublishOut { qos, packet_id, ..PublishOut::new("a", payload) });
    }
    assert_eq!(bytes.len(), count * 10);
    bytes
}

fn received(world: &World) -> u64 {
    world.counters().publishes_received.iter().sum()
}

#[test]
fn a_client_within_its_rate_is_read_all_the_time() {
    let mut world = World::new(1, &config(100, 0));
    let client = world.connect(&connect(Version::V311, "c"));
    for _ in 0..50 {
        world.send(client, &publishes(10, QoS::AtMostOnce));
        world.pass(100);
        assert!(world.is_read(client));
    }
    assert_eq!((received(&world), world.refused(RefuseReason::PublishRate)), (500, 0));
}

#[test]
fn a_client_beyond_its_rate_is_read_later_and_nothing_is_lost() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::new(1, &config(100, 0));
        let client = world.connect(&connect(Version::V311, "c"));
        world.send(client, &publishes(100, qos));
        assert!(world.is_read(client), "a second's worth at once");
        world.send(client, &publishes(150, qos));
        assert!(!world.is_read(client));
        assert_eq!((received(&world), world.refused(RefuseReason::PublishRate)), (250, 1));
        world.pass(1_499);
        assert!(!world.is_read(client));
        world.pass(1 + LATE_MS);
        assert!(world.is_read(client));
        world.send(client, &publishes(1 + LATE_MS as usize / 10, qos));
        assert!(!world.is_read(client), "no more was earned meanwhile");
    }
}

#[test]
fn what_was_under_way_when_reading_stopped_is_taken_afterwards_in_order() {
    let mut world = World::new(1, &config(10, 0));
    let client = world.connect(&connect(Version::V311, "c"));
    world.send(client, &publishes(20, QoS::AtMostOnce));
    let late = publishes(5, QoS::AtMostOnce);
    // Cut in the middle of a packet.
    world.send_late(client, &late[..25]);
    world.send_late(client, &late[25..]);
    assert_eq!(received(&world), 20);
    world.pass(999);
    assert_eq!(received(&world), 20);
    world.pass(1 + LATE_MS);
    assert_eq!(received(&world), 25);
    assert!(!world.is_read(client), "those count, too");
    world.pass(500);
    assert!(world.is_read(client));
}

#[test]
fn bytes_count_as_they_come_and_only_once() {
    let mut world = World::new(1, &config(0, 1_000));
    let client = world.connect(&connect(Version::V311, "c"));
    world.pass(1_000);
    // One packet of 3,000 bytes in six reads.
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V311, &PublishOut::new("a", &[0; 2_994]));
    assert_eq!(bytes.len(), 3_000);
    let started = world.now;
    for part in bytes.chunks(500) {
        while !world.is_read(client) {
            world.pass(10);
        }
        world.send(client, part);
    }
    while !world.is_read(client) {
        world.pass(10);
    }
    assert_eq!(received(&world), 1);
    let took = world.now - started;
    assert!((2_000..=2_000 + LATE_MS).contains(&took), "a second's worth was free, and the rest took {took} ms");
}

#[test]
fn a_client_that_is_read_later_is_not_taken_for_dead() {
    let mut world = World::new(1, &config(1, 0));
    let client = world.connect(&Connect { keep_alive: 1, ..connect(Version::V311, "c") });
    world.send(client, &publishes(11, QoS::AtMostOnce));
    world.pass(9_999);
    assert!(!world.is_closed(client) && !world.is_read(client));
    world.pass(1 + LATE_MS);
    assert!(world.is_read(client));
    world.pass(1_499 - LATE_MS);
    assert!(!world.is_closed(client), "its silence counts from when it is read again");
    world.pass(1 + 2 * LATE_MS);
    assert!(world.is_closed(client));
}

#[test]
fn each_client_has_a_rate_of_its_own() {
    let mut world = World::new(1, &config(10, 0));
    let (greedy, modest) = (world.connect(&connect(Version::V311, "g")), world.connect(&connect(Version::V311, "m")));
    world.send(greedy, &publishes(100, QoS::AtMostOnce));
    world.send(modest, &publishes(10, QoS::AtMostOnce));
    assert!(!world.is_read(greedy) && world.is_read(modest));
}

#[test]
fn a_client_that_is_read_later_may_be_closed() {
    let mut world = World::new(1, &config(1, 0));
    let client = world.connect(&connect(Version::V311, "c"));
    world.send(client, &publishes(5, QoS::AtMostOnce));
    assert!(!world.is_read(client));
    let other = world.connect(&connect(Version::V311, "c"));
    assert!(world.is_closed(client) && !world.is_closed(other));
    world.pass(10_000);
    assert!(world.is_read(other));
}

#[test]
fn without_rates_nothing_is_counted() {
    let mut world = World::new(1, &config(0, 0));
    let client = world.connect(&connect(Version::V311, "c"));
    world.send(client, &publishes(10_000, QoS::AtMostOnce));
    assert!(world.is_read(client));
}
