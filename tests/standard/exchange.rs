//! The exchanges of QoS 1 and 2 (section 4.3): when nothing is sent again, and what comes of a message that cannot be taken.

use ringmq::config::{Limits, QueueFull};
use ringmq::mqtt::{Packet, PublishOut, QoS, ReasonCode, Version};

use super::world::{Client, LATE_MS, V5, V311, World, ack, ack_with, message, packet, payloads, publish};

/// A subscriber with a kept session, at QoS 2.
fn subscriber(world: &mut World, version: Version) -> Client {
    let (client, _) = world.durable(version, "subscriber");
    world.subscribe(client, version, "t", QoS::ExactlyOnce);
    client
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

/// [MQTT-2.2.1-4] [MQTT-2.3.1-4]: a message that is not acknowledged keeps its identifier, and holds nothing else up, however often the others go round.
#[test]
fn a_message_that_is_never_acknowledged_stops_no_other() {
    // As it was sent, and after PUBREC.
    for released in [false, true] {
        let mut world = World::standard();
        let client = subscriber(&mut world, V5);
        world.publish(message("t", b"held", QoS::ExactlyOnce));
        assert_eq!(payloads(V5, &world.take(client)), [b"held"]);
        if released {
            world.send(client, &ack(0x50, 1));
            assert_eq!(world.take(client), ack(0x62, 1));
        }
        let publisher = world.client(V5, "publisher");
        let other = publish(V5, message("t", b"other", QoS::AtLeastOnce));
        for _ in 0..70_000 {
            world.send(publisher, &other);
            world.take(publisher);
            let sent = world.take(client);
            let Packet::Publish(publish) = packet(V5, &sent) else { panic!("{sent:02x?} is no PUBLISH") };
            assert_ne!(publish.packet_id, 1);
            world.send(client, &ack(0x40, publish.packet_id));
        }
        // After all that it is still known.
        world.vanish(client);
        let (client, _) = world.durable(V5, "subscriber");
        let again = world.take(client);
        match packet(V5, &again) {
            Packet::Publish(publish) => {
                assert_eq!((publish.packet_id, publish.dup, publish.payload, released), (1, true, &b"held"[..], false))
            }
            _ => assert_eq!((again, released), (ack(0x62, 1), true)),
        }
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
