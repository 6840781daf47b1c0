//! What no client may send (sections 1.5, 2, 4.7, 4.8 of both standards, 4.13 of 5.0), and what other brokers let pass or fell over.
//!
//! Every case is sent on a fresh connection and must end it, with the right reason where the version has one, and with nothing of what followed served.
//! Meanwhile a canary on every shard must notice nothing.

use super::support::packets::{self, field, packet};
use super::support::{Broker, Canary, Client, Connect, Publish, V5, V31, V311, VERSIONS, Version, on_every_configuration, property};

on_every_configuration! {
    []
    wrong_flags_in_the_fixed_header_are_refused,
    packets_of_the_server_are_refused,
    acknowledgements_of_another_length_are_refused,
    bodies_where_none_may_be_are_refused,
    remaining_lengths_of_more_bytes_than_needed_are_refused,
    remaining_lengths_of_five_bytes_are_refused,
    a_packet_identifier_of_zero_is_refused,
    ill_formed_strings_are_refused,
    control_characters_in_names_are_refused,
    fields_that_do_not_fit_are_refused,
    wrong_topic_names_are_refused,
    subscribes_that_break_the_format_are_refused,
    wrong_properties_are_refused,
    properties_that_come_twice_are_refused,
    wrong_reason_codes_are_refused,
    auth_without_a_method_is_refused,
    connects_that_break_the_format_are_refused,
    what_was_served_before_the_error_stays_served,
    random_bytes_end_in_a_close,
}

fn connect(broker: &Broker, version: Version) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id("malformed", 0)))
}

/// Sends the bytes on a connection of this version, with a publish behind them that must not be served; the connection must end, with this reason.
fn refused(broker: &Broker, version: Version, bytes: &[u8], reason: u8) {
    let mut client = connect(broker, version);
    client.send(&[bytes, &Publish::new(version, "smuggled", "").retain().bytes()].concat());
    let said = client.drain_to_close();
    let last = said.last().map_or(&[][..], |packet| &packet[..]);
    if version == V5 {
        let found = (said.len(), last.first(), last.get(2));
        assert_eq!(found, (1, Some(&0xE0), Some(&reason)), "{bytes:02x?} was answered with {said:02x?}");
    } else {
        assert!(said.is_empty(), "{version:?}: {bytes:02x?} was answered with {said:02x?}");
    }
}

/// The same in every version.
fn refused_by_all(broker: &Broker, bytes: &[u8], reason: u8) {
    VERSIONS.into_iter().for_each(|version| refused(broker, version, bytes, reason));
}

/// Runs the cases while canaries sing; afterwards nothing was smuggled in.
fn with_canary(broker: &Broker, cases: impl FnOnce()) {
    let mut canary = Canary::new(broker);
    cases();
    canary.check();
    let mut late = connect(broker, V5);
    late.subscribe("smuggled", 0);
    late.expect_silence();
}

/// [MQTT-2.2.2-2] [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] of 3.1.1;
/// [MQTT-2.1.3-1] [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1] of 5.0
fn wrong_flags_in_the_fixed_header_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for kind in 0..16u8 {
            let right: &[u8] = match kind {
                0 => &[],
                3 => &[0, 1, 2, 3, 4, 5, 10, 11, 12, 13],
                6 | 8 | 10 => &[2],
                _ => &[0],
            };
            for flags in (0..16).filter(|flags| !right.contains(flags)) {
                for version in VERSIONS {
                    // 3.1 had DUP in these three as well.
                    if version == V31 && [6, 8, 10].contains(&kind) && flags == 10 {
                        continue;
                    }
                    // What only servers send is refused for that.
                    let reason = if [2, 9, 11, 13].contains(&kind) { 0x82 } else { 0x81 };
                    refused(broker, version, &packet(kind << 4 | flags, &[0, 1, b'a', 0, 0]), reason);
                }
            }
        }
    });
}

/// [MQTT-4.13.1-1] [MQTT-4.8.0-1]; AUTH exists in 5.0 only.
fn packets_of_the_server_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for version in VERSIONS {
            let properties: &[u8] = if version == V5 { &[0] } else { &[] };
            refused(broker, version, &packet(0x20, &[&[0, 0], properties].concat()), 0x82);
            refused(broker, version, &packet(0x90, &[&[0, 1], properties, &[0]].concat()), 0x82);
            let codes: &[u8] = if version == V5 { &[0] } else { &[] };
            refused(broker, version, &packet(0xB0, &[&[0, 1], properties, codes].concat()), 0x82);
            refused(broker, version, &packets::PINGRESP, 0x82);
        }
        for version in [V31, V311] {
            refused(broker, version, &packet(0xF0, &[]), 0x81);
        }
    });
}

fn acknowledgements_of_another_length_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for first in [0x40, 0x50, 0x62, 0x70] {
            refused_by_all(broker, &packet(first, &[]), 0x81);
            refused_by_all(broker, &packet(first, &[0]), 0x81);
            // With a reason code they are well-formed in 5.0 only.
            refused(broker, V311, &packet(first, &[0, 1, 0]), 0x81);
            refused(broker, V31, &packet(first, &[0, 1, 0]), 0x81);
            refused(broker, V5, &packet(first, &[0, 1, 0, 0, 0]), 0x81);
            refused(broker, V5, &packet(first, &[0, 1, 0, 1]), 0x81);
        }
    });
}

fn bodies_where_none_may_be_are_refused(broker: &Broker) {
    with_canary(broker, || {
        refused_by_all(broker, &packet(0xC0, &[0]), 0x81);
        refused_by_all(broker, &packet(0xC0, &[0; 200]), 0x81);
        refused(broker, V311, &packet(0xE0, &[0]), 0x81);
        refused(broker, V31, &packet(0xE0, &[0, 0]), 0x81);
        refused(broker, V5, &packet(0xE0, &[0, 0, 0]), 0x81);
    });
}

/// [MQTT-1.5.5-1]
fn remaining_lengths_of_more_bytes_than_needed_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for length in [&[0x80, 0][..], &[0x80, 0x80, 0], &[0x80, 0x80, 0x80, 0]] {
            refused_by_all(broker, &[&[0xC0][..], length].concat(), 0x81);
        }
        let publish = Publish::new(V311, "a", "x").bytes();
        refused_by_all(broker, &[&publish[..1], &[publish[1] | 0x80, 0], &publish[2..]].concat(), 0x81);
        // A property length, and a subscription identifier.
        refused(broker, V5, &packet(0x30, &[0, 1, b'a', 0x80, 0]), 0x81);
        refused(broker, V5, &packet(0x82, &[0, 1, 3, 0x0B, 0x81, 0, 0, 1, b'a', 0]), 0x81);
    });
}

/// Section 1.5.5 of 5.0, 2.2.3 of 3.1.1: at the fourth byte, whatever follows; a fifth one would be read as the next packet by some.
fn remaining_lengths_of_five_bytes_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for length in [&[0xFF; 4][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F], &[0x80, 0x80, 0x80, 0x80, 1], &[0x80; 8]] {
            for first in [0x30, 0x82, 0xC0] {
                refused_by_all(broker, &[&[first][..], length].concat(), 0x81);
            }
        }
        refused(broker, V5, &packet(0x30, &[0, 1, b'a', 0x80, 0x80, 0x80, 0x80, 1]), 0x81);
    });
}

/// [MQTT-2.3.1-1] of 3.1.1; [MQTT-2.2.1-3] of 5.0
fn a_packet_identifier_of_zero_is_refused(broker: &Broker) {
    with_canary(broker, || {
        for version in VERSIONS {
            for qos in [1, 2] {
                refused(broker, version, &Publish::new(version, "a", "").qos(qos, 0).bytes(), 0x82);
            }
            refused(broker, version, &packets::subscribe(version, 0, &[], &[("a", 0)]), 0x82);
            refused(broker, version, &packets::unsubscribe(version, 0, &["a"]), 0x82);
            for first in [0x40, 0x50, 0x62, 0x70] {
                refused(broker, version, &packets::ack(first, 0), 0x82);
            }
        }
    });
}

/// Bytes that are no UTF-8, among them surrogates and characters in more bytes than needed; and U+0000.
const ILL_FORMED: [&[u8]; 12] = [
    &[0xFF],
    &[b'a', 0x80],
    &[0xC3],
    &[0xC0, 0x80],
    &[0xE0, 0x80, 0xAF],
    &[0xED, 0xA0, 0x80],
    &[0xED, 0xBF, 0xBF],
    &[0xF0, 0x80, 0x80, 0xAF],
    &[0xF4, 0x90, 0x80, 0x80],
    &[0xF8, 0x88, 0x80, 0x80, 0x80],
    &[b'a', 0, b'b'],
    &[0],
];

/// [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2] of 3.1.1;
/// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2] of 5.0
fn ill_formed_strings_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for text in ILL_FORMED {
            let text = field(text);
            for version in VERSIONS {
                let no_properties: &[u8] = if version == V5 { &[0] } else { &[] };
                refused(broker, version, &packet(0x30, &[&text, no_properties].concat()), 0x81);
                refused(broker, version, &packet(0x82, &[&[0, 1], no_properties, &text, &[0]].concat()), 0x81);
                refused(broker, version, &packet(0xA2, &[&[0, 1], no_properties, &text].concat()), 0x81);
            }
            for properties in [
                [&[0x03], &text[..]].concat(),
                [&[0x08], &text[..]].concat(),
                [&[0x26], &text[..], &field(b"value")].concat(),
                [&[0x26], &field(b"name")[..], &text].concat(),
            ] {
                refused(broker, V5, &packet(0x30, &[field(b"a"), packets::block(&properties)].concat()), 0x81);
            }
            let reason = packets::block(&[&[0x1F], &text[..]].concat());
            refused(broker, V5, &packet(0xE0, &[vec![0], reason.clone()].concat()), 0x81);
            refused(broker, V5, &packet(0x40, &[vec![0, 1, 0], reason].concat()), 0x81);
        }
    });
}

/// The standard leaves it to the receiver (3.1.1 section 1.5.3, 5.0 section 1.5.4). Texts that name nothing may have them.
fn control_characters_in_names_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for text in ["a\u{1}", "\u{1b}[2J", "a\nb", "\u{7f}", "\u{80}", "a/\u{9f}"] {
            for version in VERSIONS {
                let no_properties: &[u8] = if version == V5 { &[0] } else { &[] };
                let name = field(text.as_bytes());
                refused(broker, version, &packet(0x30, &[&name, no_properties].concat()), 0x81);
                refused(broker, version, &packet(0x82, &[&[0, 1], no_properties, &name, &[0]].concat()), 0x81);
                refused(broker, version, &packet(0xA2, &[&[0, 1], no_properties, &name].concat()), 0x81);
                let named = Connect::new(version, text);
                let willing = Connect::new(version, &broker.client_id("control", 0)).will(super::support::Will::new(text, ""));
                for connect in [named, willing] {
                    let mut client = broker.open();
                    client.send(&connect.bytes());
                    let said = client.drain_to_close();
                    assert!(if version == V5 { said[0][3] == 0x81 } else { said.is_empty() }, "{version:?} {text:?}: {said:02x?}");
                }
            }
        }
        let mut client = connect(broker, V5);
        client.subscribe("control", 0);
        let property = [&[0x26], &field("two\nlines".as_bytes())[..], &field("\t\u{85}".as_bytes())].concat();
        client.send(&Publish::new(V5, "control", "\u{1}").properties(std::slice::from_ref(&property)).bytes());
        assert_eq!(client.publish().property(0x26), [property[1..].to_vec()]);
    });
}

/// Lengths that point beyond the packet.
fn fields_that_do_not_fit_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for version in VERSIONS {
            let whole = [
                Publish::new(version, "a/b", "").qos(1, 1).bytes(),
                packets::subscribe(version, 1, &[], &[("a/b", 0)]),
                packets::unsubscribe(version, 1, &["a/b"]),
            ];
            for packet in whole {
                // Each shorter body under a length that fits it.
                for end in 2..packet.len() {
                    let body = &packet[2..end];
                    // What only lacks its topic filters is well-formed [MQTT-3.8.3-2] [MQTT-3.10.3-2].
                    let no_filter = packet[0] != 0x32 && body.len() == 3;
                    refused(broker, version, &packets::packet(packet[0], body), if no_filter { 0x82 } else { 0x81 });
                }
            }
            refused(broker, version, &packet(0x30, &[0xFF, 0xFF, b'a']), 0x81);
        }
        for properties in
            [&[0x01][..], &[0x02, 0, 0, 0], &[0x03, 0, 9, b'a'], &[0x23, 1], &[0x26, 0, 1, b'a'], &[0x26, 0, 1, b'a', 0, 2, b'b']]
        {
            refused(broker, V5, &packet(0x30, &[field(b"a"), packets::block(properties)].concat()), 0x81);
        }
        // A property length beyond the packet.
        refused(broker, V5, &packet(0x30, &[0, 1, b'a', 100, 1, 0]), 0x81);
        refused(broker, V5, &packet(0x40, &[0, 1, 0, 5]), 0x81);
    });
}

/// [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1] of 3.1.1; [MQTT-3.3.2-2] [MQTT-3.3.2-14] [MQTT-4.7.0-1] [MQTT-4.7.3-1] of 5.0
fn wrong_topic_names_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "#a", "a/b#c"] {
            for version in VERSIONS {
                for qos in 0..=2 {
                    refused(broker, version, &Publish::new(version, topic, "").qos(qos, 1).bytes(), 0x90);
                }
            }
            refused(broker, V5, &Publish::new(V5, "a", "").properties(&[property::response_topic(topic)]).bytes(), 0x82);
        }
        refused(broker, V5, &Publish::new(V5, "a", "").properties(&[property::response_topic("")]).bytes(), 0x82);
        for version in [V31, V311] {
            refused(broker, version, &Publish::new(version, "", "").bytes(), 0x81);
        }
    });
}

/// [MQTT-3.8.3-3] [MQTT-3.8.3-4] [MQTT-3.10.3-2] of 3.1.1; [MQTT-3.8.3-2] [MQTT-3.8.3-4] [MQTT-3.8.3-5] [MQTT-3.10.3-2] of 5.0
fn subscribes_that_break_the_format_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for version in VERSIONS {
            let v5 = version == V5;
            refused(broker, version, &packets::subscribe(version, 1, &[], &[]), if v5 { 0x82 } else { 0x81 });
            refused(broker, version, &packets::unsubscribe(version, 1, &[]), if v5 { 0x82 } else { 0x81 });
            refused(broker, version, &packets::subscribe(version, 1, &[], &[("", 0)]), 0x81);
            refused(broker, version, &packets::unsubscribe(version, 1, &[""]), 0x81);
            refused(broker, version, &packets::subscribe(version, 1, &[], &[("a", 3)]), if v5 { 0x82 } else { 0x81 });
            for reserved in [0x40, 0x80, 0xC1] {
                refused(broker, version, &packets::subscribe(version, 1, &[], &[("a", 0), ("b", reserved)]), 0x81);
            }
        }
        for reserved in [4, 8, 0x10, 0x20] {
            refused(broker, V311, &packets::subscribe(V311, 1, &[], &[("a", reserved)]), 0x81);
        }
        refused(broker, V5, &packets::subscribe(V5, 1, &[], &[("a", 0x30)]), 0x82);
        refused(broker, V5, &packets::subscribe(V5, 1, &[], &[("$share/g/a", 4)]), 0x82);
        refused(broker, V5, &packets::subscribe(V5, 1, &property::subscription_id(0), &[("a", 0)]), 0x82);
    });
}

/// [MQTT-3.3.4-6]; section 2.2.2.2: a property in a packet that cannot carry it is malformed.
fn wrong_properties_are_refused(broker: &Broker) {
    with_canary(broker, || {
        let publish = |properties: &[u8]| packet(0x30, &[field(b"a"), packets::block(properties)].concat());
        refused(broker, V5, &publish(&property::subscription_id(1)), 0x82);
        refused(broker, V5, &publish(&property::subscription_id(0)), 0x82);
        for wrong in [
            property::session_expiry(1),
            property::will_delay(1),
            property::reason_string("no"),
            property::receive_maximum(1),
            property::topic_alias_maximum(1),
            property::maximum_packet_size(1),
            property::auth_method("no"),
            property::request_problem(1),
            vec![0, 0],
            vec![0x04, 0],
            vec![0x7F, 0],
            vec![0xFF, 0xFF, 0x7F, 0],
        ] {
            refused(broker, V5, &publish(&wrong), 0x81);
            refused(broker, V5, &packets::subscribe(V5, 1, &wrong, &[("a", 0)]), 0x81);
        }
        refused(broker, V5, &publish(&property::payload_format(2)), 0x82);
        refused(broker, V5, &packets::subscribe(V5, 1, &property::topic_alias(1), &[("a", 0)]), 0x81);
        refused(broker, V5, &packet(0x40, &[vec![0, 1, 0], packets::block(&property::topic_alias(1))].concat()), 0x81);
        refused(broker, V5, &packet(0xE0, &[vec![0], packets::block(&property::topic_alias(1))].concat()), 0x81);
    });
}

/// Section 2.2.2.2: all but user properties may come once.
fn properties_that_come_twice_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for property in [
            property::payload_format(1),
            property::message_expiry(1),
            property::content_type("a"),
            property::response_topic("a"),
            property::correlation_data(b"a"),
            property::topic_alias(1),
        ] {
            let between = property::user("a", "b");
            refused(broker, V5, &Publish::new(V5, "a", "").properties(&[property.clone(), between, property]).bytes(), 0x82);
        }
        let twice = [property::subscription_id(1), property::subscription_id(2)].concat();
        refused(broker, V5, &packets::subscribe(V5, 1, &twice, &[("a", 0)]), 0x82);
        let twice = packets::block(&[property::session_expiry(1), property::session_expiry(1)].concat());
        refused(broker, V5, &packet(0xE0, &[vec![0], twice].concat()), 0x82);
        for property in
            [property::session_expiry(1), property::receive_maximum(1), property::request_problem(1), property::request_response(0)]
        {
            let mut client = broker.open();
            client.send(&Connect::new(V5, &broker.client_id("twice", 0)).properties(&[property.clone(), property]).bytes());
            client.expect_connack(V5);
            assert_eq!(client.connack.code, 0x82);
            client.expect_close();
        }
    });
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1]
fn wrong_reason_codes_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for (first, code) in [(0x40, 0x01), (0x40, 0x92), (0x50, 0x11), (0x62, 0x10), (0x62, 0x80), (0x70, 0x91), (0x70, 0xFF)] {
            refused(broker, V5, &packets::ack_with(first, 1, code), 0x82);
        }
        for code in [0x01, 0x10, 0x18, 0x84, 0xFF] {
            refused(broker, V5, &packets::disconnect(code), 0x82);
        }
    });
}

/// [MQTT-4.12.0-6]
fn auth_without_a_method_is_refused(broker: &Broker) {
    with_canary(broker, || {
        refused(broker, V5, &packet(0xF0, &[]), 0x82);
        refused(broker, V5, &packet(0xF0, &[0x19, 0]), 0x82);
        refused(broker, V5, &packet(0xF0, &[vec![0x19], packets::block(&property::auth_method("X"))].concat()), 0x82);
        refused(broker, V5, &packet(0xF0, &[vec![0x18], packets::block(&property::auth_data(b"X"))].concat()), 0x82);
    });
}

/// A CONNECT that ends early, at every byte; and one with what may not be in it. [MQTT-3.1.4-1] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
fn connects_that_break_the_format_are_refused(broker: &Broker) {
    with_canary(broker, || {
        for version in VERSIONS {
            let will = super::support::Will::new("will", "gone");
            let whole = Connect::new(version, &broker.client_id("broken", 0)).will(will).bytes();
            for end in 2..whole.len() {
                let mut client = broker.open();
                client.send(&packet(0x10, &whole[2..end]));
                let said = client.drain_to_close();
                assert!(
                    said.is_empty() || version == V5 && said.len() == 1 && said[0][3] >= 0x80,
                    "{version:?}, cut at {end}: {said:02x?}"
                );
            }
            for text in ILL_FORMED {
                let at = whole.len() - 4 - 2 - 4 - 2;
                for (from, to) in [(at, at + 6), (at + 6, whole.len())] {
                    let mut broken = whole[2..].to_vec();
                    if from == at {
                        broken.splice(from - 2..to - 2, field(text));
                        let mut client = broker.open();
                        client.send(&packet(0x10, &broken));
                        let said = client.drain_to_close();
                        assert!(said.is_empty() || version == V5 && said[0][3] == 0x81, "{version:?} {text:02x?}: {said:02x?}");
                    }
                }
            }
        }
        for properties in [
            property::receive_maximum(0),
            property::maximum_packet_size(0),
            property::request_problem(2),
            property::request_response(2),
            property::topic_alias(1),
            property::will_delay(1),
            property::auth_data(b"without a method"),
            vec![0x11, 0, 0],
        ] {
            let mut client = broker.open();
            client.send(&Connect::new(V5, &broker.client_id("broken", 0)).properties(std::slice::from_ref(&properties)).bytes());
            client.expect_connack(V5);
            assert!([0x81, 0x82].contains(&client.connack.code), "{properties:02x?}");
            client.expect_close();
        }
    });
}

/// [MQTT-4.8.0-1] [MQTT-4.13.1-1]: an error ends the connection, not what came before it.
fn what_was_served_before_the_error_stays_served(broker: &Broker) {
    for &(here, there) in broker.places() {
        for version in VERSIONS {
            let topic = broker.topic("before", 0);
            let mut witness = broker.connect(&Connect::new(V5, &broker.client_id("witness", here)));
            witness.subscribe(&topic, 1);
            let mut client = broker.connect(&Connect::new(version, &broker.client_id("client", there)));
            let publish = |text: &str, id| Publish::new(version, &topic, text).qos(1, id).bytes();
            client.send(&[publish("before", 1), vec![0xC1, 0], publish("after", 2)].concat());
            client.drain_to_close();
            assert_eq!(witness.publish_acknowledged().text(), "before");
            broker.connect(&Connect::new(V5, &broker.client_id("client", there))).publish_to(&topic, "end", 1);
            assert_eq!(witness.publish_acknowledged().text(), "end");
        }
    }
}

/// Whatever they are, half of them behind a CONNECT.
fn random_bytes_end_in_a_close(broker: &Broker) {
    with_canary(broker, || {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        for round in 0..300 {
            let length = next() % 200 + 1;
            let bytes: Vec<u8> = (0..length).map(|_| next() as u8).collect();
            let mut client = broker.open();
            if round % 2 == 0 {
                let version = VERSIONS[round / 2 % 3];
                client.connect(&Connect::new(version, &broker.client_id("random", 0)));
            }
            client.send(&bytes);
            // Whoever announced more than it sends would be waited for.
            client.shut_down_write();
            client.drain_to_close();
        }
    });
}
