//! Flow control (5.0 sections 3.3.4 and 4.9): the client's Receive Maximum, and what it does not hold up.

use ringmq::mqtt::{Properties, PublishOut, QoS, ReasonCode};

use super::world::{Client, PINGREQ, PINGRESP, V5, World, ack, ack_with, message, packets, payloads, publish, publishes};

/// A subscriber that takes this many messages at once, in a session that is kept.
fn subscriber(world: &mut World, receive_maximum: u16) -> Client {
    let properties = Properties { receive_maximum: Some(receive_maximum), ..Properties::default() };
    let (client, _) = world.durable_with(V5, "subscriber", properties);
    client
}

fn publish_all(world: &mut World, count: u8) {
    for number in 0..count {
        world.publish(message("t", &[number], if number % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce }));
    }
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2] of 5.0: the quota is full at first, goes down with each PUBLISH, and up with PUBACK, PUBCOMP, and a
/// PUBREC that refuses; not with a PUBREC that accepts.
#[test]
fn no_more_messages_are_in_flight_than_the_client_takes() {
    for receive_maximum in [1, 2, 7] {
        let mut world = World::standard();
        let client = subscriber(&mut world, receive_maximum);
        world.subscribe(client, V5, "t", QoS::ExactlyOnce);
        publish_all(&mut world, 40);
        let mut in_flight = payloads(V5, &world.take(client)).len();
        assert_eq!(in_flight, usize::from(receive_maximum), "at first");
        let mut next = in_flight as u8;
        for id in 1..=40u16 {
            let releases = match id % 4 {
                // QoS 2 is every second one: refused, or released in two steps.
                0 => ack_with(0x50, id, ReasonCode::UNSPECIFIED_ERROR),
                2 => {
                    world.send(client, &ack(0x50, id));
                    assert_eq!(world.take(client), ack(0x62, id), "no message before PUBCOMP");
                    ack(0x70, id)
                }
                _ => ack(0x40, id),
            };
            world.send(client, &releases);
            in_flight -= 1;
            let bytes = world.take(client);
            let more = publishes(V5, &bytes);
            in_flight += more.len();
            assert!(more.iter().all(|publish| publish.payload == [next]), "in order");
            next += more.len() as u8;
            assert_eq!(in_flight, usize::from(receive_maximum).min(usize::from(40 - id)));
        }
    }
}

/// [MQTT-4.9.0-1] of 5.0: the quota starts anew with each connection; what is sent again counts.
#[test]
fn what_is_sent_again_counts() {
    let mut world = World::standard();
    let client = subscriber(&mut world, 10);
    world.subscribe(client, V5, "t", QoS::ExactlyOnce);
    publish_all(&mut world, 10);
    assert_eq!(payloads(V5, &world.take(client)).len(), 10);
    world.vanish(client);
    let client = subscriber(&mut world, 3);
    assert_eq!(payloads(V5, &world.take(client)), [[0], [1], [2]]);
    world.send(client, &ack(0x40, 1));
    assert_eq!(payloads(V5, &world.take(client)), [[3]]);
}

/// [MQTT-3.3.4-10] [MQTT-4.9.0-3] of 5.0
#[test]
fn nothing_but_messages_waits_for_the_quota() {
    let mut world = World::standard();
    let client = subscriber(&mut world, 1);
    world.subscribe(client, V5, "t", QoS::ExactlyOnce);
    publish_all(&mut world, 2);
    assert_eq!(payloads(V5, &world.take(client)).len(), 1);
    world.send(client, &PINGREQ);
    assert_eq!(world.take(client), PINGRESP);
    world.subscribe(client, V5, "other", QoS::AtMostOnce);
    world.send(client, b"\xA2\x0A\0\x07\0\0\x05other");
    assert_eq!(world.take(client), b"\xB0\x04\0\x07\0\0");
    world.send(client, &publish(V5, message("x", b"", QoS::AtLeastOnce)));
    assert_eq!(world.take(client), ack_with(0x40, 1, ReasonCode::NO_MATCHING_SUBSCRIBERS));
    world.send(client, &publish(V5, message("x", b"", QoS::ExactlyOnce)));
    assert_eq!(world.take(client), ack_with(0x50, 1, ReasonCode::NO_MATCHING_SUBSCRIBERS));
    world.send(client, &ack(0x62, 1));
    assert_eq!(world.take(client), ack(0x70, 1));
    // Messages of QoS 0 do not count.
    world.publish(PublishOut::new("t", b"at most once"));
    assert_eq!(payloads(V5, &world.take(client)), [b"at most once"]);
    world.send(client, &ack(0x50, 9));
    assert_eq!(world.take(client), ack_with(0x62, 9, ReasonCode::PACKET_ID_NOT_FOUND));
}

/// [MQTT-3.3.4-7] of 5.0: a client that sends more than it was told to.
#[test]
fn a_client_that_exceeds_our_receive_maximum_is_disconnected() {
    let mut world = World::limited(|config| config.limits.receive_maximum = 3);
    let client = world.client(V5, "publisher");
    for packet_id in 1..=3 {
        world.send(client, &publish(V5, PublishOut { packet_id, ..message("t", b"", QoS::ExactlyOnce) }));
    }
    // The first of them is released, so one more may come.
    world.send(client, &ack(0x62, 1));
    world.send(client, &publish(V5, PublishOut { packet_id: 4, ..message("t", b"", QoS::ExactlyOnce) }));
    assert_eq!(packets(V5, &world.take(client)).len(), 5);
    world.send(client, &publish(V5, PublishOut { packet_id: 5, ..message("t", b"", QoS::AtLeastOnce) }));
    assert_eq!(world.take(client), [0xE0, 1, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED.0]);
    assert!(world.is_closed(client));
}
