//! Reason codes and what goes with them (5.0 sections 3.4 to 3.11): whatever goes wrong, an answer holds nothing that its client did not ask for.

use ringmq::config::{Config, QueueFull};
use ringmq::mqtt::{Connect, Packet, Properties, QoS, ReasonCode, SubscribeOptions};

use super::world::{Client, V5, World, ack, connect, message, packets, publish, subscribe};

/// A client that asks for problem information or not, where next to nothing is granted; and a session with a full queue.
fn strict_world(request_problem: bool) -> (World, Client) {
    let mut config = Config::default();
    config.limits.max_queued_messages = 1;
    config.limits.queue_full = QueueFull::RejectNew;
    config.limits.max_subscriptions_per_client = 2;
    let mut world = World::new(1, &config);
    let (sleeper, _) = world.durable(V5, "sleeper");
    world.subscribe(sleeper, V5, "full", QoS::AtLeastOnce);
    world.vanish(sleeper);
    world.publish(message("full", b"x", QoS::AtLeastOnce));
    let properties = Properties { request_problem: Some(request_problem), ..Properties::default() };
    let client = world.connect(&Connect { properties, ..connect(V5, "c") });
    (world, client)
}

/// Asks for all kinds of answers; gives them.
fn answers(world: &mut World, client: Client) -> Vec<u8> {
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
    world.send(client, &subscribe(V5, 9, &[("t", options), ("a#", options), ("u", options), ("too/many", options)], None));
    world.send(client, b"\xA2\x0D\0\x0A\0\0\x02a#\0\x04none");
    for topic in ["nobody", "full", "$SYS/x", "t"] {
        world.send(client, &publish(V5, message(topic, b"x", QoS::AtLeastOnce)));
        world.send(client, &publish(V5, message(topic, b"x", QoS::ExactlyOnce)));
        world.send(client, &ack(0x62, 1));
    }
    // Nobody knows these, and the last one is of the QoS 2 message that came.
    world.send(client, &[ack(0x40, 70), ack(0x50, 70), ack(0x62, 70), ack(0x70, 70), ack(0x50, 2)].concat());
    world.take(client)
}

/// [MQTT-3.1.2-29] of 5.0: reason strings and user properties are for who wants them.
#[test]
fn a_client_that_wants_no_problem_information_gets_none() {
    let (mut world, client) = strict_world(false);
    let bytes = answers(&mut world, client);
    let mut looked_at = 0;
    for packet in packets(V5, &bytes) {
        let properties = match packet {
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => ack.properties,
            Packet::Suback(ack) | Packet::Unsuback(ack) => ack.properties,
            Packet::Publish(_) => continue,
            other => panic!("{other:?}"),
        };
        assert_eq!((properties.reason_string, properties.user.is_empty()), (None, true));
        looked_at += 1;
    }
    assert_eq!(looked_at, 2 + 4 * 3 + 3);
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] of 5.0: the decoder takes no other codes.
#[test]
fn an_answer_has_a_reason_code_of_its_table() {
    let (mut world, client) = strict_world(true);
    let bytes = answers(&mut world, client);
    let mut codes: Vec<(u8, u8)> = Vec::new();
    for packet in packets(V5, &bytes) {
        match packet {
            Packet::Puback(ack) => codes.push((0x40, ack.reason.0)),
            Packet::Pubrec(ack) => codes.push((0x50, ack.reason.0)),
            Packet::Pubrel(ack) => codes.push((0x62, ack.reason.0)),
            Packet::Pubcomp(ack) => codes.push((0x70, ack.reason.0)),
            Packet::Suback(ack) => codes.extend(ack.codes.iter().map(|&code| (0x90, code))),
            Packet::Unsuback(ack) => codes.extend(ack.codes.iter().map(|&code| (0xB0, code))),
            _ => {}
        }
    }
    codes.sort_unstable();
    codes.dedup();
    let (nobody, quota, denied) = (ReasonCode::NO_MATCHING_SUBSCRIBERS.0, ReasonCode::QUOTA_EXCEEDED.0, ReasonCode::NOT_AUTHORIZED.0);
    let unknown = ReasonCode::PACKET_ID_NOT_FOUND.0;
    let expected = [
        (0x40, 0),
        (0x40, nobody),
        (0x40, denied),
        (0x40, quota),
        (0x50, 0),
        (0x50, nobody),
        (0x50, denied),
        (0x50, quota),
        (0x62, 0),
        (0x62, unknown),
        (0x70, 0),
        (0x70, unknown),
        (0x90, 2),
        (0x90, ReasonCode::TOPIC_FILTER_INVALID.0),
        (0x90, quota),
        (0xB0, ReasonCode::NO_SUBSCRIPTION_EXISTED.0),
    ];
    assert_eq!(codes, expected);
}
