//! The exchanges of QoS 1 and 2 (section 4.3), and what is sent again and when (section 4.4).

use ringmq::config::{Limits, QueueFull};
use ringmq::mqtt::{Packet, PublishOut, QoS, ReasonCode, Version};

use super::world::{Client, LATE_MS, V5, V311, World, ack, ack_with, message, packets, payloads, publish, publishes};

/// A subscriber with a kept session, at QoS 2.
fn subscriber(world: &mut World, version: Version) -> Client {
    let (client, _) = world.durable(version, "subscriber");
    world.subscribe(client, version, "t", QoS::ExactlyOnce);
    client
}

/// [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1]; [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT-4.3.3-6] of 5.0; [MQTT-4.3.2-1] [MQTT-4.3.3-1] of 3.1.1
#[test]
fn what_is_unacknowledged_is_sent_again_with_the_session_in_order() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let client = subscriber(&mut world, version);
        for number in 1..=6 {
            let qos = if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            world.publish(message("t", &[b'0' + number], qos));
        }
        let bytes = world.take(client);
        let first: Vec<_> = publishes(version, &bytes).iter().map(|publish| (publish.packet_id, publish.payload[0], publish.dup)).collect();
        assert_eq!(first, [1, 2, 3, 4, 5, 6].map(|id| (id, b'0' + id as u8, false)));
        // 1 is done, 4 is released, 6 is done.
        world.send(client, &[ack(0x40, 1), ack(0x50, 4), ack(0x50, 6), ack(0x70, 6)].concat());
        assert_eq!(world.take(client), [ack(0x62, 4), ack(0x62, 6)].concat());
        for _ in 0..2 {
            world.vanish(world.sockets.len() - 1);
            let (again, present) = world.durable(version, "subscriber");
            assert!(present);
            let bytes = world.take(again);
            let got: Vec<_> = packets(version, &bytes)
                .iter()
                .map(|packet| match packet {
                    Packet::Publish(publish) => (publish.packet_id, publish.payload.to_vec(), publish.dup),
                    Packet::Pubrel(ack) => (ack.packet_id, Vec::new(), false),
                    other => panic!("{other:?}"),
                })
                .collect();
            let publish = |id: u16| (id, vec![b'0' + id as u8], true);
            assert_eq!(got, [publish(2), publish(3), (4, vec![], false), publish(5)]);
        }
    }
}

/// [MQTT-4.4.0-1] of 5.0: at no other time.
#[test]
fn nothing_is_sent_again_on_the_same_connection() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let client = subscriber(&mut world, version);
        world.publish(message("t", b"one", QoS::AtLeastOnce));
        world.publish(message("t", b"two", QoS::ExactlyOnce));
        world.publish(message("t", b"three", QoS::ExactlyOnce));
        world.send(client, &ack(0x50, 3));
        world.take(client);
        world.pass(24 * 3_600_000);
        world.assert_silent(client);
    }
}

/// [MQTT-4.4.0-1]: a clean start leaves nothing to be sent again.
#[test]
fn after_a_clean_start_nothing_is_sent_again() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let client = subscriber(&mut world, version);
        world.publish(message("t", b"one", QoS::AtLeastOnce));
        world.vanish(client);
        let client = world.client(version, "subscriber");
        world.assert_silent(client);
    }
}

/// A world in which a session has room for one message in its queue, and none for its one subscriber in flight.
fn full() -> World {
    let mut world = World::limited(|config| {
        config.limits.max_queued_messages = 1;
        config.limits.queue_full = QueueFull::RejectNew;
    });
    let client = subscriber(&mut world, V5);
    world.vanish(client);
    world.publish(message("t", b"fills the queue", QoS::AtLeastOnce));
    world
}

/// [MQTT-4.3.3-9] of 5.0
#[test]
fn a_packet_identifier_that_was_refused_names_a_new_message() {
    let mut world = full();
    let publisher = world.client(V5, "publisher");
    world.send(publisher, &publish(V5, message("t", b"refused", QoS::ExactlyOnce)));
    assert_eq!(world.take(publisher), ack_with(0x50, 1, ReasonCode::QUOTA_EXCEEDED));
    let (subscriber, _) = world.durable(V5, "subscriber");
    world.take(subscriber);
    world.send(publisher, &publish(V5, message("t", b"taken", QoS::ExactlyOnce)));
    assert_eq!(world.take(publisher), ack(0x50, 1));
    assert_eq!(payloads(V5, &world.take(subscriber)), [b"taken"]);
    world.send(publisher, &ack(0x62, 1));
    assert_eq!(world.take(publisher), ack(0x70, 1));
}

/// [MQTT-4.8.0-2] of 3.1.1: a message that cannot be taken now, of a client that cannot be told so, which is given some time for it to pass.
#[test]
fn a_transient_error_that_does_not_pass_ends_the_connection() {
    let mut world = full();
    let publisher = world.client(V311, "publisher");
    // This one is held, with its acknowledgement.
    world.send(publisher, &publish(V311, message("t", b"waits", QoS::AtLeastOnce)));
    assert_eq!(world.take(publisher), b"");
    world.send(publisher, &publish(V311, PublishOut { packet_id: 2, ..message("t", b"too many", QoS::AtLeastOnce) }));
    world.pass(u64::from(Limits::default().full_queue_patience_ms) + LATE_MS);
    assert!(world.is_closed(publisher));
    assert_eq!(world.take(publisher), b"", "no acknowledgement");
}

/// [MQTT-4.5.0-1]: before the publisher hears of it, the message is in each session that wants it.
#[test]
fn an_acknowledged_message_is_in_every_session_that_wants_it() {
    for version in [V311, V5] {
        let mut world = World::new(2, &Default::default());
        let names: Vec<String> = (0..10).map(|number| format!("sleeper {number}")).collect();
        for name in &names {
            let (client, _) = world.durable(version, name);
            world.subscribe(client, version, "t/#", QoS::AtLeastOnce);
            world.vanish(client);
        }
        let publisher = world.client(version, "publisher");
        world.send(publisher, &publish(version, message("t/x", b"kept", QoS::ExactlyOnce)));
        assert_eq!(world.take(publisher), ack(0x50, 1));
        world.vanish(publisher);
        for name in &names {
            let (client, present) = world.durable(version, name);
            assert!(present);
            assert_eq!(payloads(version, &world.take(client)), [b"kept"]);
        }
    }
}
