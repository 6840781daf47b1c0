//! The fixed header, as its bytes arrive.

use super::*;

#[track_caller]
fn reason(bytes: &[u8]) -> ReasonCode {
    peek(bytes, NO_LIMIT).expect_err("refused").reason
}

#[test]
fn a_header_is_found_as_soon_as_it_is_complete() {
    assert_eq!(peek(&[], NO_LIMIT), Ok(None));
    assert_eq!(peek(&[0x30], NO_LIMIT), Ok(None));
    assert_eq!(peek(&[0x30, 0x80], NO_LIMIT), Ok(None));
    assert_eq!(peek(&[0x30, 0xFF, 0xFF, 0xFF], NO_LIMIT), Ok(None));
    let header = peek(&[0x30, 0x80, 0x01], NO_LIMIT).expect("valid").expect("complete");
    assert_eq!(header, FixedHeader { first: 0x30, header_len: 3, body_len: 128 });
    assert_eq!((header.packet_type(), header.total_len()), (PacketType::Publish, 131));
}

#[test]
fn the_largest_length_takes_four_bytes() {
    let header = peek(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], NO_LIMIT).expect("valid").expect("complete");
    assert_eq!((header.body_len, header.header_len), (MAX_VAR_INT, 5));
}

/// CVE-2026-21888, CVE-2025-66168: a fifth byte must not even be waited for.
#[test]
fn a_length_of_five_bytes_is_malformed() {
    assert_eq!(reason(&[0x30, 0x80, 0x80, 0x80, 0x80]), ReasonCode::MALFORMED_PACKET);
    assert_eq!(reason(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]), ReasonCode::MALFORMED_PACKET);
}

/// [MQTT-1.5.5-1]
#[test]
fn a_length_of_more_bytes_than_needed_is_malformed() {
    for bytes in [&[0xC0, 0x80, 0x00][..], &[0x30, 0xFF, 0x00], &[0x30, 0x80, 0x80, 0x00], &[0x30, 0x81, 0x80, 0x80, 0x00]] {
        assert_eq!(reason(bytes), ReasonCode::MALFORMED_PACKET, "{bytes:x?}");
    }
}

/// [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
#[test]
fn flags_are_checked_on_the_first_byte_alone() {
    for first in 0..=255u8 {
        let (kind, flags) = (first >> 4, first & 15);
        let right = match kind {
            0 => false,
            3 => ![6, 7, 8, 9, 14, 15].contains(&flags), // [MQTT-3.3.1-4] [MQTT-3.3.1-2]
            6 | 8 | 10 => flags == 2 || flags == 10,
            _ => flags == 0,
        };
        assert_eq!(peek(&[first], NO_LIMIT).is_ok(), right, "{first:#x}");
    }
}

#[test]
fn dup_on_pubrel_subscribe_and_unsubscribe_is_of_3_1_only() {
    for (first, body) in [(0x6A, &b"\0\x01"[..]), (0x8A, b"\0\x01\0\x01a\0"), (0xAA, b"\0\x01\0\x01a")] {
        assert!(read(V31, &frame(first, body)).is_ok(), "{first:#x}");
        assert_malformed(V311, first, body);
        assert_malformed(V5, first, &join(&[&body[..2], b"\0", &body[2..]]));
    }
}

/// CVE-2017-7651: an announced length costs nothing.
#[test]
fn a_packet_over_the_limit_is_refused_with_its_header_and_the_header_counts() {
    let bytes = [0x30, 100];
    assert!(peek(&bytes, 102).expect("at the limit").is_some());
    assert_eq!(peek(&bytes, 101).expect_err("one over").reason, ReasonCode::PACKET_TOO_LARGE);
    assert_eq!(peek(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F], 1 << 20).expect_err("over").reason, ReasonCode::PACKET_TOO_LARGE);
}

#[test]
fn decode_checks_type_and_flags_itself() {
    for version in ALL {
        assert!(decode(version, 0x00, &[]).is_err());
        assert!(decode(version, 0xC1, &[]).is_err());
        assert_eq!(decode(version, 0xC0, &[]), Ok(Packet::Pingreq));
        assert_eq!(decode(version, 0xD0, &[]), Ok(Packet::Pingresp));
    }
}

#[test]
fn ping_carries_nothing() {
    for version in ALL {
        assert_malformed(version, 0xC0, &[0]);
        assert_malformed(version, 0xD0, &[0]);
    }
}

#[test]
fn variable_byte_integers_come_back_in_the_fewest_bytes() {
    for (value, len) in [(0, 1), (127, 1), (128, 2), (16_383, 2), (16_384, 3), (2_097_151, 3), (2_097_152, 4), (MAX_VAR_INT, 4)] {
        let mut out = Vec::new();
        wire::put_var_int(&mut out, value);
        assert_eq!(out.len(), len);
        assert_eq!(wire::var_int_len(value), len);
        assert_eq!(wire::var_int(&out), Ok(Some((value, len))));
    }
}

#[test]
fn a_text_too_long_for_its_field_is_cut_between_characters() {
    let text = "é".repeat(40_000);
    let mut out = Vec::new();
    wire::put_string(&mut out, &text);
    assert_eq!(out.len(), 2 + 65_534);
    assert!(std::str::from_utf8(&out[2..]).is_ok());
}
