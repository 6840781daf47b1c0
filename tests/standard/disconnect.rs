//! DISCONNECT (section 3.14) and the end of a connection (5.0 section 4.13).

use ringmq::mqtt::{Packet, PublishOut, QoS, ReasonCode};

use super::world::{DISCONNECT, PINGREQ, V5, V31, V311, World, message, packet, publish, told_off};

/// What ends a connection, and what a client of 5.0 is told. [MQTT-3.14.2-1]
const WRONG: [(&[u8], ReasonCode); 6] = [
    (&[0xC1, 0], ReasonCode::MALFORMED_PACKET),
    (&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], ReasonCode::MALFORMED_PACKET),
    (&[0xD0, 0], ReasonCode::PROTOCOL_ERROR),
    (b"\x32\x07\0\x01a\0\0\0x", ReasonCode::PROTOCOL_ERROR),
    (b"\x30\x05\0\x01#\0x", ReasonCode::TOPIC_NAME_INVALID),
    (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PACKET_TOO_LARGE),
];

/// [MQTT-4.13.1-1] [MQTT-4.13.2-1] [MQTT-3.14.2-1] [MQTT-3.14.2-2] [MQTT-3.14.4-1] [MQTT-3.14.4-2] of 5.0; [MQTT-4.8.0-1] of 3.1.1
#[test]
fn who_breaks_the_rules_is_told_once_and_closed() {
    for version in [V31, V311, V5] {
        for (wrong, reason) in WRONG {
            let mut world = World::standard();
            let (client, _) = world.durable(version, "c");
            world.subscribe(client, version, "t", QoS::AtLeastOnce);
            // What would have to be answered comes right behind.
            world.send(client, &[wrong, &PINGREQ, &publish(version, message("t", b"x", QoS::AtLeastOnce))].concat());
            world.publish(PublishOut::new("t", b"y"));
            assert!(world.is_closed(client));
            let bytes = world.take(client);
            if version == V5 {
                assert_eq!(told_off(&bytes), reason);
            } else {
                assert_eq!(bytes, b"", "3.x has no DISCONNECT from the server");
            }
        }
    }
}

/// [MQTT-3.14.4-1] [MQTT-3.14.4-2]: after a client's DISCONNECT nothing is sent or processed, and we close where it does not.
#[test]
fn nothing_follows_a_disconnect() {
    for version in [V31, V311, V5] {
        let mut world = World::standard();
        let listener = world.client(V5, "listener");
        world.subscribe(listener, V5, "t", QoS::AtMostOnce);
        let (client, _) = world.durable(version, "c");
        world.subscribe(client, version, "t", QoS::AtMostOnce);
        world.send(client, &[&DISCONNECT[..], &PINGREQ, &publish(version, PublishOut::new("t", b"too late"))].concat());
        assert!(world.is_closed(client));
        assert_eq!(world.take(client), b"");
        world.assert_silent(listener);
    }
}

/// [MQTT-3.14.1-1]
#[test]
fn a_disconnect_with_reserved_flags_is_malformed() {
    for flags in 1..16 {
        for version in [V31, V311, V5] {
            let mut world = World::standard();
            let client = world.client(version, "c");
            world.send(client, &[0xE0 | flags, 0]);
            assert!(world.is_closed(client));
            let bytes = world.take(client);
            match version {
                V5 => assert!(matches!(packet(V5, &bytes), Packet::Disconnect(told) if told.reason == ReasonCode::MALFORMED_PACKET)),
                _ => assert_eq!(bytes, b""),
            }
        }
    }
}

/// [MQTT-3.12.4-1]
#[test]
fn every_pingreq_is_answered() {
    for version in [V31, V311, V5] {
        let mut world = World::standard();
        let client = world.client(version, "c");
        world.send(client, &PINGREQ.repeat(100));
        assert_eq!(world.take(client), [0xD0, 0].repeat(100));
    }
}
