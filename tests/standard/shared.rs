//! Shared subscriptions (5.0 section 4.8.2): one member gets a message, at its own QoS, and nobody else gets what it leaves.

use ringmq::mqtt::{Properties, QoS, ReasonCode};

use super::world::{Client, V5, World, ack, ack_with, connect, message, payloads, publishes};

const FILTER: &str = "$share/group/t";

fn member(world: &mut World, name: &str, qos: QoS) -> Client {
    let (client, _) = world.durable(V5, name);
    world.subscribe(client, V5, FILTER, qos);
    client
}

/// [MQTT-4.8.2-3] of 5.0
#[test]
fn each_member_gets_messages_at_the_qos_that_it_was_granted() {
    let mut world = World::standard();
    let granted = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let members = granted.map(|qos| member(&mut world, &format!("member {qos:?}"), qos));
    for _ in 0..12 {
        world.publish(message("t", b"x", QoS::ExactlyOnce));
    }
    for (member, granted) in members.into_iter().zip(granted) {
        let bytes = world.take(member);
        let publishes = publishes(V5, &bytes);
        assert_eq!(publishes.len(), 4, "each in its turn");
        assert!(publishes.iter().all(|publish| publish.qos == granted));
    }
}

/// [MQTT-4.8.2-4] of 5.0
#[test]
fn a_qos_2_message_under_way_waits_for_the_member_that_began_with_it() {
    for released in [false, true] {
        let mut world = World::standard();
        let first = member(&mut world, "first", QoS::ExactlyOnce);
        world.publish(message("t", b"x", QoS::ExactlyOnce));
        world.take(first);
        if released {
            world.send(first, &ack(0x50, 1));
        }
        let second = member(&mut world, "second", QoS::ExactlyOnce);
        world.vanish(first);
        world.pass(1_000_000);
        world.assert_silent(second);
        let (first, present) = world.durable(V5, "first");
        assert!(present);
        let bytes = world.take(first);
        if released {
            assert_eq!(bytes, ack(0x62, 1));
        } else {
            let [ref publish] = publishes(V5, &bytes)[..] else { panic!("{bytes:?}") };
            assert_eq!((publish.payload, publish.packet_id, publish.dup), (&b"x"[..], 1, true));
        }
        world.assert_silent(second);
    }
}

/// [MQTT-4.8.2-5] of 5.0
#[test]
fn a_qos_2_message_under_way_ends_with_the_session_of_its_member() {
    let mut world = World::standard();
    let first = world.open();
    let properties = Properties { session_expiry: Some(10), ..Properties::default() };
    world.send_connect(first, &ringmq::mqtt::Connect { properties, ..connect(V5, "first") });
    world.take(first);
    world.subscribe(first, V5, FILTER, QoS::ExactlyOnce);
    world.publish(message("t", b"x", QoS::ExactlyOnce));
    assert_eq!(payloads(V5, &world.take(first)), [b"x"]);
    let second = member(&mut world, "second", QoS::ExactlyOnce);
    world.vanish(first);
    world.pass(100_000);
    assert_eq!(world.sessions(), 1, "the first one's session is over");
    world.assert_silent(second);
}

/// [MQTT-4.8.2-6] [MQTT-4.4.0-2] of 5.0
#[test]
fn a_message_that_a_member_refuses_goes_to_no_other() {
    for (qos, first_byte) in [(QoS::AtLeastOnce, 0x40), (QoS::ExactlyOnce, 0x50)] {
        let mut world = World::standard();
        let first = member(&mut world, "first", QoS::ExactlyOnce);
        world.publish(message("t", b"x", qos));
        world.take(first);
        let second = member(&mut world, "second", QoS::ExactlyOnce);
        world.send(first, &ack_with(first_byte, 1, ReasonCode::NOT_AUTHORIZED));
        world.assert_silent(first);
        world.assert_silent(second);
        world.vanish(first);
        world.assert_silent(second);
        let (first, _) = world.durable(V5, "first");
        world.assert_silent(first);
    }
}
