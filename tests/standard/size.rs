//! Maximum Packet Size (5.0 section 3.1.2.11.4): no packet that a client gets is larger than it takes, whatever the packet.

use ringmq::mqtt::{Connect, Packet, Properties, PublishOut, QoS, ReasonCode, SubscribeOptions, encode};

use super::world::{
    Client, DISCONNECT, V5, World, ack, ack_with, connack, connect, message, packet, packets, payloads, publish, subscribe,
};

/// CONNACK on the defaults is this large: a client that takes less cannot be let in.
const CONNACK_BYTES: u32 = 16;

fn asking(client_id: &str, maximum: u32) -> Connect<'_> {
    let properties = Properties { maximum_packet_size: Some(maximum), ..Properties::default() };
    Connect { properties, ..connect(V5, client_id) }
}

/// Everything that a client was sent, each packet within its maximum.
#[track_caller]
fn take_small(world: &mut World, client: Client, maximum: u32) -> Vec<u8> {
    let bytes = world.take(client);
    let sizes = packet_sizes(&bytes);
    assert!(sizes.iter().all(|&size| size <= maximum as usize), "{sizes:?} over {maximum}");
    bytes
}

fn packet_sizes(mut bytes: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Ok(Some(header)) = ringmq::mqtt::peek(bytes, u32::MAX) {
        sizes.push(header.total_len());
        bytes = &bytes[header.total_len()..];
    }
    sizes
}

/// [MQTT-3.1.2-24] of 5.0
#[test]
fn a_client_that_cannot_take_its_connack_is_not_let_in() {
    for maximum in 1..CONNACK_BYTES {
        let mut world = World::standard();
        let (durable, _) = world.durable(V5, "c");
        let client = world.open();
        world.send_connect(client, &asking("c", maximum));
        assert!(world.is_closed(client));
        let bytes = take_small(&mut world, client, maximum);
        if maximum >= 5 {
            assert_eq!(connack(V5, &bytes).code, ReasonCode::PACKET_TOO_LARGE.0);
        } else {
            assert_eq!(bytes, b"");
        }
        world.assert_silent(durable);
    }
    let mut world = World::standard();
    let client = world.open();
    world.send_connect(client, &asking("c", CONNACK_BYTES));
    assert_eq!(world.take(client).len(), CONNACK_BYTES as usize);
    // With an identifier of our choice, CONNACK is larger.
    let client = world.open();
    world.send_connect(client, &asking("", CONNACK_BYTES));
    assert!(world.is_closed(client));
    assert_eq!(world.sessions(), 1);
}

/// [MQTT-3.1.2-24] [MQTT-3.2.2-19] [MQTT-3.2.2-20] of 5.0
#[test]
fn a_refusal_is_not_larger_than_the_client_takes() {
    for maximum in 1..8 {
        let mut world = World::limited(|config| config.limits.max_client_id_bytes = 23);
        let client = world.open();
        world.send_connect(client, &asking("a client identifier too long by far", maximum));
        assert!(world.is_closed(client));
        let bytes = take_small(&mut world, client, maximum);
        assert_eq!(bytes.is_empty(), maximum < 5);
    }
}

/// [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] of 5.0
#[test]
fn acknowledgements_to_a_publisher_are_not_larger_than_it_takes() {
    for maximum in CONNACK_BYTES..64 {
        let mut world = World::standard();
        let client = world.open();
        world.send_connect(client, &asking("c", maximum));
        world.take(client);
        // Nobody subscribes; not allowed; unknown.
        for (topic, code) in [("a", ReasonCode::NO_MATCHING_SUBSCRIBERS), ("$SYS/a", ReasonCode::NOT_AUTHORIZED)] {
            for (qos, first) in [(QoS::AtLeastOnce, 0x40), (QoS::ExactlyOnce, 0x50)] {
                world.send(client, &publish(V5, message(topic, b"x", qos)));
                let bytes = take_small(&mut world, client, maximum);
                match packet(V5, &bytes) {
                    Packet::Puback(ack) | Packet::Pubrec(ack) => assert_eq!((bytes[0], ack.reason), (first, code)),
                    other => panic!("{other:?}"),
                }
                world.send(client, &ack(0x62, 1));
                take_small(&mut world, client, maximum);
            }
        }
        world.send(client, &ack(0x62, 77));
        let bytes = take_small(&mut world, client, maximum);
        assert!(matches!(packet(V5, &bytes), Packet::Pubcomp(ack) if ack.reason == ReasonCode::PACKET_ID_NOT_FOUND));
    }
}

/// [MQTT-3.6.2-2] [MQTT-3.6.2-3] of 5.0
#[test]
fn a_pubrel_is_not_larger_than_the_subscriber_takes() {
    for maximum in CONNACK_BYTES..64 {
        let mut world = World::standard();
        let client = world.open();
        world.send_connect(client, &asking("c", maximum));
        world.take(client);
        world.subscribe(client, V5, "t", QoS::ExactlyOnce);
        world.publish(message("t", b"x", QoS::ExactlyOnce));
        world.take(client);
        for id in [1, 2] {
            world.send(client, &ack(0x50, id));
            let bytes = take_small(&mut world, client, maximum);
            assert!(matches!(packet(V5, &bytes), Packet::Pubrel(ack) if ack.packet_id == id));
        }
    }
}

/// A SUBSCRIBE of `count` filters, or the UNSUBSCRIBE that takes them back.
fn many(count: usize, unsubscribe: bool) -> Vec<u8> {
    let filters: Vec<String> = (0..count).map(|number| format!("f/{number}")).collect();
    if unsubscribe {
        let mut bytes = Vec::new();
        encode::unsubscribe(&mut bytes, V5, 1, filters.iter().map(String::as_str), &Properties::default());
        return bytes;
    }
    let filters: Vec<_> = filters.iter().map(|filter| (&filter[..], SubscribeOptions::default())).collect();
    subscribe(V5, 1, &filters, None)
}

/// [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] of 5.0. One code less fits; one more cannot be answered at all, so the client is told
/// that instead, and its request not carried out.
#[test]
fn suback_and_unsuback_are_not_larger_than_the_client_takes() {
    for (maximum, fit) in [(16, 11), (129, 124), (130, 124), (131, 125), (1_000, 994)] {
        for unsubscribe in [false, true] {
            let mut world = World::standard();
            let client = world.open();
            world.send_connect(client, &asking("c", maximum));
            world.take(client);
            world.send(client, &many(fit, unsubscribe));
            let bytes = take_small(&mut world, client, maximum);
            match packet(V5, &bytes) {
                Packet::Suback(ack) | Packet::Unsuback(ack) => assert_eq!(ack.codes.len(), fit),
                other => panic!("{other:?}"),
            }
            world.send(client, &many(fit + 1, unsubscribe));
            let bytes = take_small(&mut world, client, maximum);
            assert!(matches!(packet(V5, &bytes), Packet::Disconnect(packet) if packet.reason == ReasonCode::PACKET_TOO_LARGE));
            assert!(world.is_closed(client));
        }
    }
}

/// [MQTT-3.14.2-3] [MQTT-3.14.2-4] of 5.0
#[test]
fn a_disconnect_is_not_larger_than_the_client_takes() {
    for maximum in CONNACK_BYTES..64 {
        for (wrong, reason) in
            [(&[0xC1, 0][..], 0x81), (&[0xD0, 0], 0x82), (b"\x30\x04\0\x01#\0", 0x90), (b"\x30\x06\0\x01a\x03\x23\0", 0x81)]
        {
            let mut world = World::standard();
            let client = world.open();
            world.send_connect(client, &asking("c", maximum));
            world.take(client);
            world.send(client, wrong);
            let bytes = take_small(&mut world, client, maximum);
            assert!(matches!(packet(V5, &bytes), Packet::Disconnect(packet) if packet.reason.0 == reason), "{bytes:?}");
        }
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25] of 5.0: what is too large counts as delivered, at every QoS, and what follows is delivered.
#[test]
fn a_message_that_is_too_large_is_left_out() {
    let sizes = [20, 21, 20, 4_000, 2];
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::standard();
        let around = if qos == QoS::AtMostOnce { 2 + 2 + 1 + 1 } else { 2 + 2 + 1 + 2 + 1 };
        let maximum = 20 + around;
        let client = world.open();
        world.send_connect(client, &asking("c", maximum));
        world.take(client);
        world.subscribe(client, V5, "t", qos);
        for size in sizes {
            world.publish(message("t", &vec![b'x'; size], qos));
        }
        let bytes = take_small(&mut world, client, maximum);
        let lengths: Vec<usize> = payloads(V5, &bytes).iter().map(|payload| payload.len()).collect();
        assert_eq!(lengths, [20, 20, 2]);
    }
}

/// [MQTT-3.1.2-25] of 5.0: also where it waited for a client that comes back with a smaller maximum.
#[test]
fn what_waited_and_became_too_large_is_left_out() {
    let mut world = World::standard();
    let (client, _) = world.durable(V5, "c");
    world.subscribe(client, V5, "t", QoS::ExactlyOnce);
    world.publish(message("t", &[b'x'; 100], QoS::AtLeastOnce));
    world.publish(message("t", &[b'x'; 100], QoS::ExactlyOnce));
    assert_eq!(payloads(V5, &world.take(client)).len(), 2);
    world.vanish(client);
    world.publish(message("t", &[b'x'; 100], QoS::AtLeastOnce));
    world.publish(message("t", b"small", QoS::AtLeastOnce));
    let properties = Properties { maximum_packet_size: Some(50), ..Properties::default() };
    let (client, present) = world.durable_with(V5, "c", properties);
    assert!(present);
    let bytes = take_small(&mut world, client, 50);
    assert_eq!(payloads(V5, &bytes), [b"small"]);
    world.assert_silent(client);
}

/// The largest packet that a client takes is as large as it says, its header included.
#[test]
fn the_header_counts() {
    let message = PublishOut::new("t", &[b'x'; 122]);
    assert_eq!(publish(V5, message).len(), 128);
    for (maximum, count) in [(127, 0), (128, 1)] {
        let mut world = World::standard();
        let client = world.open();
        world.send_connect(client, &asking("c", maximum));
        world.take(client);
        world.subscribe(client, V5, "t", QoS::AtMostOnce);
        world.publish(message);
        assert_eq!(packets(V5, &world.take(client)).len(), count);
        world.send(client, &ack_with(0x40, 9, ReasonCode::SUCCESS));
        world.send(client, &DISCONNECT);
        assert_eq!(world.take(client), b"");
    }
}
