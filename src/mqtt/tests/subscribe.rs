//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use super::*;

const SUBSCRIBE: u8 = 0x82;
const UNSUBSCRIBE: u8 = 0xA2;

/// Packet identifier 1, no properties, then `entries`.
fn body(version: Version, entries: &[u8]) -> Vec<u8> {
    join(&[b"\0\x01", if version.is_v5() { b"\0" } else { b"" }, entries])
}

#[test]
fn filters_and_options_come_back_in_order() {
    let body = body(V5, b"\0\x01a\x00\0\x03b/#\x2e\0\x01+\x15");
    let Ok(Packet::Subscribe(packet)) = decode(V5, SUBSCRIBE, &body) else { panic!("not a SUBSCRIBE") };
    let entries: Vec<_> = packet.filters().collect();
    assert_eq!(entries.iter().map(|e| e.filter).collect::<Vec<_>>(), ["a", "b/#", "+"]);
    assert_eq!(entries[0].options, SubscribeOptions::default());
    let of = |qos, no_local, retain_as_published, retain_handling| SubscribeOptions { qos, no_local, retain_as_published, retain_handling };
    assert_eq!(entries[1].options, of(QoS::ExactlyOnce, true, true, RetainHandling::DoNotSend));
    assert_eq!(entries[2].options, of(QoS::AtLeastOnce, true, false, RetainHandling::SendIfNew));
}

/// [MQTT-3.8.3-2] [MQTT-3.8.3-3] [MQTT-3.10.3-2]
#[test]
fn there_must_be_a_filter() {
    for first in [SUBSCRIBE, UNSUBSCRIBE] {
        assert_malformed(V31, first, &body(V31, b""));
        assert_malformed(V311, first, &body(V311, b""));
        assert_protocol_error(V5, first, &body(V5, b""));
    }
}

/// [MQTT-2.3.1-1] [MQTT-2.2.1-3]
#[test]
fn packet_identifier_0_is_refused() {
    for version in ALL {
        assert_protocol_error(version, SUBSCRIBE, b"\0\0\0\0\x01a\0");
        assert_protocol_error(version, UNSUBSCRIBE, b"\0\0\0\0\x01a");
    }
}

/// [MQTT-3.8.3-4] of 3.1.1
#[test]
fn in_3_x_only_the_qos_bits_may_be_set() {
    for version in [V31, V311] {
        for bits in 3..=255 {
            assert_malformed(version, SUBSCRIBE, &body(version, &[0, 1, b'a', bits]));
        }
    }
}

/// [MQTT-3.8.3-5] of 5.0
#[test]
fn reserved_subscription_options_are_malformed() {
    for bits in [0x40, 0x80, 0xC0, 0x41] {
        assert_malformed(V5, SUBSCRIBE, &body(V5, &[0, 1, b'a', bits]));
    }
}

#[test]
fn qos_3_and_retain_handling_3_are_protocol_errors() {
    for bits in [0x03, 0x30, 0x33] {
        assert_protocol_error(V5, SUBSCRIBE, &body(V5, &[0, 1, b'a', bits]));
    }
}

/// [MQTT-3.8.3-4] of 5.0
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    assert_protocol_error(V5, SUBSCRIBE, &body(V5, b"\0\x01x\x04\0\x0a$share/g/a\x04"));
    assert!(decode(V5, SUBSCRIBE, &body(V5, b"\0\x0a$share/g/a\x02")).is_ok());
    assert!(decode(V5, SUBSCRIBE, &body(V5, b"\0\x0a$shale/g/a\x04")).is_ok());
}

/// [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
#[test]
fn an_ill_formed_or_empty_filter_is_malformed_wherever_it_stands() {
    for version in ALL {
        for text in ILL_FORMED.iter().chain(&[&b"\0\0"[..]]) {
            assert_malformed(version, SUBSCRIBE, &body(version, &join(&[text, b"\0"])));
            assert_malformed(version, SUBSCRIBE, &body(version, &join(&[b"\0\x01a\0", text, b"\0"])));
            assert_malformed(version, UNSUBSCRIBE, &body(version, text));
            assert_malformed(version, UNSUBSCRIBE, &body(version, &join(&[b"\0\x01a", text])));
        }
    }
}

#[test]
fn a_list_cut_inside_an_entry_is_malformed() {
    for version in ALL {
        for entries in [&b"\0\x03a/"[..], b"\0", b"\0\x01a", b"\0\x01a\0\0"] {
            assert_malformed(version, SUBSCRIBE, &body(version, entries));
        }
        assert_malformed(version, UNSUBSCRIBE, &body(version, b"\0\x01a\0"));
    }
}

/// CVE-2019-11779: depth is no recursion.
#[test]
fn a_filter_of_65535_slashes_is_read() {
    let filter = join(&[&[0xFF, 0xFF], &[b'/'; 65_535]]);
    for version in ALL {
        assert!(decode(version, SUBSCRIBE, &body(version, &join(&[&filter, b"\0"]))).is_ok());
        assert!(decode(version, UNSUBSCRIBE, &body(version, &filter)).is_ok());
    }
}

#[test]
fn the_subscription_identifier_is_read_once() {
    let with = |block: &[u8]| join(&[b"\0\x01", &[block.len() as u8], block, b"\0\x01a\0"]);
    let body = with(b"\x0b\xff\x7f");
    let Ok(Packet::Subscribe(packet)) = decode(V5, SUBSCRIBE, &body) else { panic!("not a SUBSCRIBE") };
    assert_eq!(packet.properties.subscription_id, Some(16_383));
    assert_protocol_error(V5, SUBSCRIBE, &with(b"\x0b\x01\x0b\x02"));
    assert_protocol_error(V5, SUBSCRIBE, &with(b"\x0b\0"));
    assert_malformed(V5, SUBSCRIBE, &with(b"\x0b\x81\0")); // [MQTT-1.5.5-1]
    assert_malformed(V5, SUBSCRIBE, &with(b"\x0b\xff\xff\xff\xff\x01"));
    assert_malformed(V5, UNSUBSCRIBE, &with(b"\x0b\x01"));
}

/// [MQTT-3.9.3-1] [MQTT-3.9.3-2]
#[test]
fn suback_has_a_code_per_filter_and_3_x_knows_one_failure() {
    let codes = [0, 1, 2, 0x87, 0x97];
    let mut out = Vec::new();
    encode::suback(&mut out, V311, 9, &codes, &Properties::default());
    assert_eq!(out, [0x90, 7, 0, 9, 0, 1, 2, 0x80, 0x80]);
    out.clear();
    encode::suback(&mut out, V5, 9, &codes, &Properties::default());
    assert_eq!(out, [0x90, 8, 0, 9, 0, 0, 1, 2, 0x87, 0x97]);
    let Ok(Packet::Suback(packet)) = read(V5, &out) else { panic!("not a SUBACK") };
    assert_eq!((packet.packet_id, packet.codes), (9, &codes[..]));
    assert_protocol_error(V311, 0x90, &[0, 9, 0x87]);
    assert_protocol_error(V5, 0x90, &[0, 9, 0, 3]);
    assert_malformed(V311, 0x90, &[0, 9]);
    assert_malformed(V5, 0x90, &[0, 9, 0]);
}

/// [MQTT-3.11.3-1] [MQTT-3.11.3-2]
#[test]
fn unsuback_has_a_code_per_filter_in_5_0_only() {
    let mut out = Vec::new();
    encode::unsuback(&mut out, V311, 9, &[0, 0x11], &Properties::default());
    assert_eq!(out, [0xB0, 2, 0, 9]);
    out.clear();
    encode::unsuback(&mut out, V5, 9, &[0, 0x11], &Properties::default());
    assert_eq!(out, [0xB0, 5, 0, 9, 0, 0, 0x11]);
    assert_malformed(V311, 0xB0, &[0, 9, 0]);
    assert_malformed(V5, 0xB0, &[0, 9, 0]);
    assert_protocol_error(V5, 0xB0, &[0, 9, 0, 1]);
}
