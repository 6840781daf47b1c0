//! CONNECT and CONNACK (section 3.1, 3.2): who is accepted, with which session, and what the others are told.

use super::support::packets::{self, PINGREQ, PINGRESP, field, packet};
use super::support::{Broker, Connect, Publish, V5, V31, V311, VERSIONS, Version, Will, on_every_configuration, property};

on_every_configuration! {
    []
    the_answer_to_a_first_connect_is_exact,
    session_present_tells_of_a_session_that_was_kept,
    without_a_lasting_session_nothing_is_present,
    a_client_that_connects_again_takes_over,
    a_session_survives_its_take_over,
    a_take_over_with_clean_start_ends_the_session,
    an_unknown_protocol_name_gets_no_answer,
    an_unknown_level_is_told_so,
    an_empty_client_id_is_replaced_where_the_version_allows_it,
    an_assigned_client_id_is_told_and_can_be_resumed,
    client_ids_of_all_lengths_are_accepted,
    client_ids_differ_by_bytes_only,
    wrong_connect_flags_are_refused,
    a_user_name_and_password_are_read_past,
    a_second_connect_ends_the_connection,
    what_comes_before_connect_ends_the_connection,
    what_follows_connect_in_the_same_segment_is_served,
    a_connect_may_come_byte_by_byte,
    what_follows_a_refused_connect_is_not_served,
    an_authentication_method_that_nobody_offers_is_refused,
    a_5_0_client_is_told_the_limits,
    connack_is_the_first_packet_even_of_a_busy_session,
}

/// [MQTT-3.1.4-4] [MQTT-7.0.0-2] [MQTT-7.1.1-1] of 3.1.1, [MQTT-3.1.4-5] [MQTT-4.2-1] of 5.0; [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1]
/// [MQTT-2.2.2-1]
fn the_answer_to_a_first_connect_is_exact(broker: &Broker) {
    for version in [V31, V311] {
        let mut client = broker.open();
        client.send(&Connect::new(version, &broker.client_id("exact", 0)).bytes());
        client.expect(&[0x20, 2, 0, 0]);
        client.expect_silence();
    }
    let mut client = broker.open();
    client.send(&Connect::new(V5, &broker.client_id("exact", 0)).bytes());
    // Receive Maximum 1,024, Topic Alias Maximum 64, Maximum Packet Size 16 MiB: what differs from the standard's defaults.
    client.expect(&[0x20, 14, 0, 0, 11, 0x21, 4, 0, 0x22, 0, 64, 0x27, 1, 0, 0, 0]);
    client.version = V5;
    client.expect_silence();
}

/// [MQTT-3.1.2-4] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] of 3.1.1; [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.2.2-2] [MQTT-3.2.2-3] of
/// 5.0
fn session_present_tells_of_a_session_that_was_kept(broker: &Broker) {
    for version in VERSIONS {
        for shard in 0..broker.shards {
            let id = broker.client_id("kept", shard);
            let durable = Connect::new(version, &id).durable(60);
            let first = broker.connect(&durable);
            assert!(!first.connack.session_present);
            first.disconnect();
            let second = broker.connect(&durable);
            // In 3.1 the byte was reserved.
            assert_eq!(second.connack.session_present, version != V31);
            second.disconnect();
            let clean = broker.connect(&Connect::new(version, &id));
            assert!(!clean.connack.session_present);
            clean.disconnect();
            assert!(!broker.connect(&durable).connack.session_present);
        }
    }
}

/// [MQTT-3.1.2-6] of 3.1.1; [MQTT-3.2.2-3] [MQTT-4.1.0-2] of 5.0
fn without_a_lasting_session_nothing_is_present(broker: &Broker) {
    for version in [V311, V5] {
        let id = broker.client_id("passing", 0);
        broker.connect(&Connect::new(version, &id)).disconnect();
        assert!(!broker.connect(&Connect::new(version, &id).resume()).connack.session_present);
    }
    // Without a session expiry, a session of 5.0 ends with its connection, clean start or not.
    let id = broker.client_id("passing", 0);
    broker.connect(&Connect::new(V5, &id).resume()).disconnect();
    assert!(!broker.connect(&Connect::new(V5, &id).resume()).connack.session_present);
}

/// [MQTT-3.1.4-2] of 3.1.1; [MQTT-3.1.4-3] of 5.0
fn a_client_that_connects_again_takes_over(broker: &Broker) {
    for old in VERSIONS {
        for new in VERSIONS {
            for shard in 0..broker.shards {
                let id = broker.client_id("again", shard);
                let mut first = broker.connect(&Connect::new(old, &id));
                first.subscribe("again/+", 0);
                let mut second = broker.connect(&Connect::new(new, &id).resume());
                first.expect_disconnect(0x8E);
                second.expect_silence();
            }
        }
    }
}

/// [MQTT-3.1.2-5] [MQTT-4.1.0-1]
fn a_session_survives_its_take_over(broker: &Broker) {
    for version in [V311, V5] {
        for &(here, there) in broker.places() {
            let id = broker.client_id("survivor", here);
            let topic = broker.topic("survivor", 0);
            let durable = Connect::new(version, &id).durable(60);
            let mut first = broker.connect(&durable);
            first.subscribe(&topic, 1);
            let mut second = broker.connect(&durable);
            assert!(second.connack.session_present);
            first.expect_disconnect(0x8E);
            broker.connect(&Connect::new(V5, &broker.client_id("publisher", there))).publish_to(&topic, "still there", 1);
            assert_eq!(second.publish_acknowledged().text(), "still there");
        }
    }
}

/// [MQTT-3.1.2-6] [MQTT-3.1.4-3] of 3.1.1; [MQTT-3.1.2-4] [MQTT-3.1.4-4] of 5.0
fn a_take_over_with_clean_start_ends_the_session(broker: &Broker) {
    for version in VERSIONS {
        let id = broker.client_id("ended", 0);
        let topic = broker.topic("ended", 0);
        let mut first = broker.connect(&Connect::new(version, &id).durable(60));
        first.subscribe(&topic, 1);
        let mut second = broker.connect(&Connect::new(version, &id));
        assert!(!second.connack.session_present);
        first.expect_disconnect(0x8E);
        second.publish_to(&topic, "nobody wants this", 1);
        second.expect_silence();
    }
}

fn connect_as(name: &[u8], level: u8) -> Vec<u8> {
    packet(0x10, &[field(name), vec![level, 2, 0, 0], field(b"somebody")].concat())
}

/// [MQTT-3.1.2-1] [MQTT-3.1.4-1]
fn an_unknown_protocol_name_gets_no_answer(broker: &Broker) {
    for name in [&b"MQTTX"[..], b"mqtt", b"", b"MQT", b"HTTP", b"MQIsdpX", &[0xFF, 0xFE]] {
        let mut client = broker.open();
        client.send(&connect_as(name, 4));
        client.expect_close();
    }
}

/// [MQTT-3.1.2-2]
fn an_unknown_level_is_told_so(broker: &Broker) {
    for (name, level) in [(&b"MQTT"[..], 0), (b"MQTT", 3), (b"MQIsdp", 4), (b"MQIsdp", 2)] {
        let mut client = broker.open();
        client.send(&connect_as(name, level));
        client.expect(&[0x20, 2, 0, 1]);
        client.expect_close();
    }
    for (name, level) in [(&b"MQTT"[..], 6), (b"MQTT", 255), (b"MQIsdp", 5)] {
        let mut client = broker.open();
        client.send(&connect_as(name, level));
        client.expect(&[0x20, 3, 0, 0x84, 0]);
        client.expect_close();
    }
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.1.3-8] of 3.1.1
fn an_empty_client_id_is_replaced_where_the_version_allows_it(broker: &Broker) {
    for connect in [Connect::new(V31, ""), Connect::new(V31, "").resume(), Connect::new(V311, "").resume()] {
        let mut client = broker.open();
        client.send(&connect.bytes());
        client.expect(&[0x20, 2, 0, 2]);
        client.expect_close();
    }
    // Each gets an identifier of its own: nobody takes over.
    let mut clients: Vec<_> = (0..8).map(|_| broker.connect(&Connect::new(V311, ""))).collect();
    clients.iter_mut().for_each(|client| client.expect_silence());
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] of 5.0
fn an_assigned_client_id_is_told_and_can_be_resumed(broker: &Broker) {
    let mut clients = std::collections::BTreeMap::new();
    for _ in 0..16 {
        let client = broker.connect(&Connect::new(V5, "").durable(60));
        let id = client.connack.property(0x12).expect("an assigned client identifier")[2..].to_vec();
        assert!(clients.insert(id, client).is_none(), "an identifier was assigned twice");
    }
    for (id, mut client) in clients {
        client.expect_silence();
        let id = String::from_utf8(id).unwrap();
        let again = broker.connect(&Connect::new(V5, &id).durable(60));
        assert!(again.connack.session_present);
        assert_eq!(again.connack.property(0x12), None, "an identifier that the client chose is not assigned");
    }
}

/// [MQTT-3.1.3-5]
fn client_ids_of_all_lengths_are_accepted(broker: &Broker) {
    let unique = broker.client_id("length", 0);
    for version in VERSIONS {
        for length in [1, 2, 22, 23, 24, 100, 65_535 - unique.len()] {
            let id = format!("{unique}{}", "9aZ".repeat(length)[..length].to_owned());
            broker.connect(&Connect::new(version, &id)).expect_silence();
        }
        broker.connect(&Connect::new(version, &"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[..23])).expect_silence();
    }
}

/// [MQTT-3.1.3-2] [MQTT-1.5.3-3] of 3.1.1; [MQTT-3.1.3-2] [MQTT-1.5.4-3] of 5.0
fn client_ids_differ_by_bytes_only(broker: &Broker) {
    let id = broker.client_id("bytes", 0);
    let ids = [id.clone(), id.to_uppercase(), format!("\u{FEFF}{id}"), format!("{id}\u{e9}"), format!("{id}e\u{301}"), format!("{id}/+#$")];
    let mut clients = ids.map(|id| broker.connect(&Connect::new(V5, &id)));
    clients.iter_mut().for_each(|client| client.expect_silence());
}

/// A CONNECT with these flags and this payload, correct otherwise.
fn connect_with_flags(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = field(if version == V31 { b"MQIsdp" } else { b"MQTT" });
    body.extend([version as u8, flags, 0, 0]);
    if version == V5 {
        body.push(0);
    }
    body.extend(payload);
    packet(0x10, &body)
}

/// [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-22] of 3.1.1;
/// [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] of 5.0; [MQTT-3.1.4-1]
fn wrong_connect_flags_are_refused(broker: &Broker) {
    let id = broker.client_id("flags", 0);
    let will = |properties: &[u8]| [properties, &field(b"will/topic"), &field(b"payload")].concat();
    for version in [V311, V5] {
        let will = will(if version == V5 { &[0] } else { &[] });
        let cases = [
            ("reserved flag", 0x03, vec![]),
            ("will QoS without will", 0x0A, vec![]),
            ("will retain without will", 0x22, vec![]),
            ("will QoS 3", 0x1E, will.clone()),
            ("will announced and missing", 0x06, vec![]),
            ("will payload missing", 0x06, will[..will.len() - 9].to_vec()),
            ("user name announced and missing", 0x82, vec![]),
            ("password announced and missing", 0xC2, field(b"user")),
            ("bytes behind the last field", 0x02, vec![0]),
        ];
        for (what, flags, payload) in cases {
            let mut client = broker.open();
            client.send(&connect_with_flags(version, flags, &[field(id.as_bytes()), payload].concat()));
            let said = client.drain_to_close();
            let expected: &[Vec<u8>] = if version == V5 { &[vec![0x20, 3, 0, 0x81, 0]] } else { &[] };
            assert_eq!(said, expected, "{version:?}: {what}");
        }
    }
    let mut client = broker.open();
    client.send(&connect_with_flags(V311, 0x42, &[field(id.as_bytes()), field(b"password")].concat()));
    client.expect_close();
}

/// [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] of 3.1.1; [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
/// [MQTT-3.1.3-12] of 5.0; [MQTT-3.1.3-1]
fn a_user_name_and_password_are_read_past(broker: &Broker) {
    let id = broker.client_id("user", 0);
    for version in VERSIONS {
        for (flags, rest) in [(0x82, field(b"user")), (0xC2, [field(b"user"), field(&[0, 0xFF])].concat())] {
            let mut client = broker.open();
            client.send(&connect_with_flags(version, flags, &[field(id.as_bytes()), rest].concat()));
            client.expect_connack(version);
            assert_eq!(client.connack.code, 0);
        }
    }
    // Only 5.0 allows a password alone.
    let mut client = broker.open();
    client.send(&connect_with_flags(V5, 0x42, &[field(id.as_bytes()), field(b"password")].concat()));
    client.expect_connack(V5);
    assert_eq!(client.connack.code, 0);
}

/// [MQTT-3.1.0-2]; [MQTT-3.2.0-2] of 5.0
fn a_second_connect_ends_the_connection(broker: &Broker) {
    for version in VERSIONS {
        let connect = Connect::new(version, &broker.client_id("second", 0));
        let mut client = broker.connect(&connect);
        client.send(&connect.bytes());
        client.expect_disconnect(0x82);
    }
}

/// [MQTT-3.1.0-1] [MQTT-3.14.0-1]
fn what_comes_before_connect_ends_the_connection(broker: &Broker) {
    let topic = broker.topic("early", 0);
    let mut witness = broker.connect(&Connect::new(V5, &broker.client_id("witness", 0)));
    witness.subscribe(&topic, 2);
    for first in [0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0] {
        let mut client = broker.open();
        client.send(&packet(first, &[0, 1]));
        client.expect_close();
    }
    let mut client = broker.open();
    client.send(&Publish::new(V311, &topic, "too early").qos(1, 1).bytes());
    client.expect_close();
    broker.connect(&Connect::new(V5, &broker.client_id("publisher", 0))).publish_to(&topic, "only this", 1);
    assert_eq!(witness.publish_acknowledged().text(), "only this");
}

/// [MQTT-3.1.4-5] of 3.1.1: a client need not wait for CONNACK. Also when the connection moves to another shard.
fn what_follows_connect_in_the_same_segment_is_served(broker: &Broker) {
    for version in VERSIONS {
        for shard in 0..broker.shards {
            let topic = broker.topic("segment", 0);
            let bytes = [
                Connect::new(version, &broker.client_id("segment", shard)).bytes(),
                packets::subscribe(version, 1, &[], &[(&topic, 0)]),
                PINGREQ.to_vec(),
                Publish::new(version, &topic, "all at once").bytes(),
            ];
            let mut client = broker.open();
            client.send(&bytes.concat());
            client.expect_connack(version);
            // The SUBACK waits for the other shards, the PINGRESP does not.
            let mut others: Vec<_> = (0..3).map(|_| client.packet()).collect();
            others.sort();
            let mut expected = [packets::suback(version, 1, &[0]), PINGRESP.to_vec(), Publish::new(version, &topic, "all at once").bytes()];
            expected.sort();
            assert_eq!(others, expected);
        }
    }
}

/// Small devices write a byte at a time.
fn a_connect_may_come_byte_by_byte(broker: &Broker) {
    for version in VERSIONS {
        for shard in 0..broker.shards {
            let topic = broker.topic("bytewise", 0);
            let mut client = broker.open();
            for byte in Connect::new(version, &broker.client_id("bytewise", shard)).bytes() {
                client.send(&[byte]);
            }
            client.expect_connack(version);
            for byte in packets::subscribe(version, 7, &[], &[(&topic, 1)]) {
                client.send(&[byte]);
            }
            client.expect(&packets::suback(version, 7, &[1]));
            for byte in Publish::new(version, &topic, "drop by drop").qos(1, 8).bytes() {
                client.send(&[byte]);
            }
            let packets = [client.packet(), client.packet()];
            assert!(packets.contains(&Publish::new(version, &topic, "drop by drop").qos(1, 1).bytes()), "{packets:02x?}");
            assert!(packets.contains(&packets::puback(8)), "{packets:02x?}");
        }
    }
}

/// [MQTT-3.1.4-5] of 3.1.1; [MQTT-3.1.4-6] [MQTT-3.2.2-7] of 5.0
fn what_follows_a_refused_connect_is_not_served(broker: &Broker) {
    let topic = broker.topic("refused", 0);
    let mut witness = broker.connect(&Connect::new(V5, &broker.client_id("witness", 0)));
    witness.subscribe(&topic, 0);
    let refused = Connect::new(V5, "refused").will(Will::new("will/#", "wildcard in the topic"));
    let mut client = broker.open();
    client.send(&[refused.bytes(), Publish::new(V5, &topic, "must not arrive").bytes()].concat());
    client.expect(&[0x20, 3, 0, 0x90, 0]);
    client.expect_close();
    witness.publish_to(&topic, "only this", 0);
    assert_eq!(witness.publish().text(), "only this");
}

/// [MQTT-4.12.0-1] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT-4.13.2-1]
fn an_authentication_method_that_nobody_offers_is_refused(broker: &Broker) {
    let id = broker.client_id("auth", 0);
    let mut client = broker.open();
    client.send(&Connect::new(V5, &id).properties(&[property::auth_method("TELEPATHY"), property::auth_data(b"42")]).bytes());
    client.expect_connack(V5);
    assert_eq!(client.connack.code, 0x8C);
    client.expect_close();
    let mut client = broker.open();
    client.send(&Connect::new(V5, &id).properties(&[property::auth_data(b"42")]).bytes());
    client.expect_connack(V5);
    assert_eq!(client.connack.code, 0x82);
    client.expect_close();
}

/// What is not told is the standard's default: QoS 2, retained messages, wildcards, identifiers and shared subscriptions all are to be had.
fn a_5_0_client_is_told_the_limits(broker: &Broker) {
    let client = broker.connect(&Connect::new(V5, &broker.client_id("limits", 0)).properties(&[property::session_expiry(u32::MAX)]));
    let told: Vec<u8> = client.connack.properties.iter().map(|(id, _)| *id).collect();
    assert_eq!(told, [0x21, 0x22, 0x27]);
}

/// [MQTT-3.2.0-1]
fn connack_is_the_first_packet_even_of_a_busy_session(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("busy", 0);
        let durable = Connect::new(V5, &broker.client_id("busy", here)).durable(60);
        let mut first = broker.connect(&durable);
        first.subscribe(&topic, 1);
        first.disconnect();
        let mut publisher = broker.connect(&Connect::new(V5, &broker.client_id("publisher", there)));
        for number in 0..20 {
            publisher.publish_to(&topic, &number.to_string(), 1);
        }
        // `connect` takes nothing but a CONNACK.
        let mut second = broker.connect(&durable);
        for number in 0..20 {
            assert_eq!(second.publish_acknowledged().text(), number.to_string());
        }
    }
}
