//! Sessions (sections 3.1.2.4, 3.1.2.11.2 and 4.1): how long they last and what they keep.

use ringmq::mqtt::{Connect, Properties, QoS};

use super::world::{DISCONNECT, LATE_MS, V5, V311, World, connect, message, payloads};

/// A CONNECT of 5.0 that goes on with a session, which lasts this many seconds after it.
fn lasting(expiry_s: u32) -> Connect<'static> {
    let properties = Properties { session_expiry: Some(expiry_s), ..Properties::default() };
    Connect { clean_start: false, properties, ..connect(V5, "c") }
}

/// [MQTT-3.1.2-23] [MQTT-4.1.0-2] of 5.0
#[test]
fn a_session_ends_when_its_expiry_is_over_and_not_before() {
    for expiry_s in [1, 10, 100_000] {
        let mut world = World::standard();
        let client = world.connect(&lasting(expiry_s));
        world.subscribe(client, V5, "t", QoS::AtLeastOnce);
        world.vanish(client);
        world.pass(u64::from(expiry_s) * 1_000 - 1);
        assert_eq!(world.sessions(), 1);
        world.publish(message("t", b"kept", QoS::AtLeastOnce));
        let (client, present) = world.durable(V5, "c");
        assert!(present);
        assert_eq!(payloads(V5, &world.take(client)), [b"kept"]);
        world.send(client, &DISCONNECT);
        // The new connection has set its own expiry: never.
        world.pass(u64::from(expiry_s) * 2_000);
        assert_eq!(world.sessions(), 1);
        let client = world.connect(&lasting(expiry_s));
        world.vanish(client);
        world.pass(u64::from(expiry_s) * 1_000 + LATE_MS);
        assert_eq!(world.sessions(), 0);
    }
}

/// [MQTT-4.1.0-1] of 5.0; [MQTT-4.1.0-2] of 3.1.1
#[test]
fn a_session_does_not_end_while_it_is_connected() {
    let mut world = World::standard();
    let client = world.connect(&lasting(1));
    world.subscribe(client, V5, "t", QoS::AtLeastOnce);
    let clean = world.client(V311, "clean");
    world.subscribe(clean, V311, "t", QoS::AtLeastOnce);
    world.pass(10_000_000);
    world.publish(message("t", b"x", QoS::AtLeastOnce));
    assert_eq!(payloads(V5, &world.take(client)), [b"x"]);
    assert_eq!(payloads(V311, &world.take(clean)), [b"x"]);
}

/// [MQTT-3.1.2-5] [MQTT-4.1.0-1] of 3.1.1
#[test]
fn a_session_without_connection_takes_messages_of_qos_1_and_2() {
    let mut world = World::standard();
    let (client, _) = world.durable(V311, "c");
    world.subscribe(client, V311, "t", QoS::ExactlyOnce);
    world.send(client, &DISCONNECT);
    for (payload, qos) in [(b"0", QoS::AtMostOnce), (b"1", QoS::AtLeastOnce), (b"2", QoS::ExactlyOnce)] {
        world.publish(message("t", payload, qos));
    }
    world.pass(1_000_000_000);
    let (client, present) = world.durable(V311, "c");
    assert!(present);
    assert_eq!(payloads(V311, &world.take(client)), [b"1", b"2"]);
}

/// 3.1.1 section 3.1.2.4, the statement `MQTT-3.1.2.7`: retained messages are no part of a session.
#[test]
fn retained_messages_outlive_the_session_of_their_publisher() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let publisher = world.client(version, "publisher");
        let retained = ringmq::mqtt::PublishOut { retain: true, ..message("t", b"kept", QoS::AtLeastOnce) };
        world.send(publisher, &super::world::publish(version, retained));
        world.vanish(publisher);
        assert_eq!(world.sessions(), 0);
        let late = world.client(V5, "late");
        world.subscribe(late, V5, "t", QoS::AtMostOnce);
        assert_eq!(payloads(V5, &world.take(late)), [b"kept"]);
    }
}

/// 5.0 section 3.14.2.2.2: DISCONNECT may set another expiry, but not one where CONNECT had none.
#[test]
fn a_disconnect_may_change_the_expiry_of_its_session() {
    let with_expiry = |seconds: u32| [&[0xE0, 7, 0, 5, 0x11][..], &seconds.to_be_bytes()].concat();
    let mut world = World::standard();
    let client = world.connect(&lasting(10));
    world.send(client, &with_expiry(1_000));
    world.pass(999_999);
    assert_eq!(world.sessions(), 1);
    world.pass(1 + LATE_MS);
    assert_eq!(world.sessions(), 0);
    let client = world.connect(&lasting(10));
    world.send(client, &with_expiry(0));
    assert_eq!(world.sessions(), 0);
    let client = world.connect(&lasting(0));
    world.send(client, &with_expiry(10));
    assert_eq!(world.take(client), [0xE0, 1, 0x82]);
    assert_eq!(world.sessions(), 0);
}
