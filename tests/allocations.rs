//! The promises about memory that the core keeps by construction, held by counting: no allocation for a QoS 0 message, little for an idle client.

#[path = "support/one_shard.rs"]
mod one_shard;
#[path = "support/publishes.rs"]
mod publishes;

use one_shard::OneShard;
use publishes::publishes;
use ringmq::config::Limits;
use ringmq::mqtt::{QoS, Version};

/// Sends `bytes` often enough for all buffers to have grown, then counts.
fn allocations_per_turn(world: &mut OneShard, publisher: ringmq::broker::ConnId, bytes: &[u8]) -> u64 {
    for _ in 0..200 {
        world.receive(publisher, bytes);
    }
    let before = world.sent_bytes;
    let info = allocation_counter::measure(|| {
        for _ in 0..100 {
            world.receive(publisher, bytes);
        }
    });
    assert!(world.sent_bytes > before, "messages were delivered meanwhile");
    info.count_total
}

fn world_with(subscribers: usize, versions: &[Version], filter: &str) -> (OneShard, ringmq::broker::ConnId) {
    let mut world = OneShard::new(Limits::default());
    for index in 0..subscribers {
        let version = versions[index % versions.len()];
        let conn = world.connect(&format!("subscriber-{index}"), version);
        world.subscribe(conn, version, filter, QoS::AtMostOnce);
    }
    let publisher = world.connect("publisher", Version::V311);
    (world, publisher)
}

#[test]
fn a_qos_0_message_to_one_subscriber_allocates_nothing() {
    let (mut world, publisher) = world_with(1, &[Version::V311], "a/b");
    assert_eq!(allocations_per_turn(&mut world, publisher, &publishes(Version::V311, &["a/b"], 16)), 0);
}

#[test]
fn a_qos_0_fan_out_to_both_protocol_families_allocates_nothing() {
    let (mut world, publisher) = world_with(100, &[Version::V311, Version::V5], "a/+");
    assert_eq!(allocations_per_turn(&mut world, publisher, &publishes(Version::V311, &["a/b", "a/c"], 16)), 0);
}

#[test]
fn a_packet_that_is_cut_in_two_allocates_once_at_most() {
    let (mut world, publisher) = world_with(1, &[Version::V311], "a/b");
    let bytes = publishes(Version::V311, &["a/b"], 2);
    let (first, second) = bytes.split_at(30);
    for _ in 0..200 {
        world.receive(publisher, first);
        world.receive(publisher, second);
    }
    let info = allocation_counter::measure(|| {
        for _ in 0..100 {
            world.receive(publisher, first);
            world.receive(publisher, second);
        }
    });
    // The beginning is kept in a buffer that lives until the end has come: one allocation and one growth.
    assert!(info.count_total <= 200, "{info:?}");
}

#[test]
fn an_idle_client_with_one_subscription_costs_less_than_a_kibibyte() {
    const CLIENTS: u64 = 10_000;
    let info = allocation_counter::measure(|| {
        let mut world = OneShard::new(Limits::default());
        for index in 0..CLIENTS {
            let client_id = format!("client-{index:08}");
            let conn = world.connect(&client_id, Version::V311);
            world.subscribe(conn, Version::V311, &format!("device/{index:08}/commands"), QoS::AtLeastOnce);
        }
        std::mem::forget(world);
    });
    let each = info.bytes_current as u64 / CLIENTS;
    println!("{each} bytes in the core for each idle client with a subscription of its own");
    assert!(each <= 900, "{each} bytes; the driver's slot and the allocator's rounding come on top, and 1,024 is the promise");
}
