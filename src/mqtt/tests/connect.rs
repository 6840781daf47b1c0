//! CONNECT and CONNACK.

use super::*;

const CONNECT: u8 = 0x10;

/// Name, level, flags, keep-alive of 60 s.
fn start(version: Version, flags: u8) -> Vec<u8> {
    let name: &[u8] = if version == V31 { b"\0\x06MQIsdp" } else { b"\0\x04MQTT" };
    join(&[name, &[version as u8, flags, 0, 60]])
}

/// A CONNECT of client `c`, with `payload` after the client id and no properties.
fn connect(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version.is_v5() { b"\0" } else { b"" };
    join(&[&start(version, flags), properties, b"\0\x01c", payload])
}

fn connect_v5(properties: &[u8]) -> Vec<u8> {
    join(&[&start(V5, 2), &[properties.len() as u8], properties, b"\0\x01c"])
}

#[track_caller]
fn invalid(body: &[u8]) -> (ReasonCode, Option<Version>) {
    match decode_connect(body) {
        Err(ConnectError::Invalid { error, version }) => (error.reason, version),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_plain_connect_of_each_version() {
    for version in ALL {
        let body = connect(version, 2, b"");
        let packet = decode_connect(&body).expect("valid");
        assert_eq!((packet.version, packet.clean_start, packet.keep_alive, packet.client_id), (version, true, 60, "c"));
        assert_eq!((packet.will, packet.user_name, packet.password), (None, None, None));
        assert_eq!(packet.properties, Properties::default());
    }
}

#[test]
fn all_fields_of_the_payload_in_their_order() {
    let will_properties = b"\x05\x18\0\0\0\x09"; // will delay 9 s
    for version in ALL {
        let properties: &[u8] = if version.is_v5() { will_properties } else { b"" };
        let body = connect(version, 0b1111_0110, &join(&[properties, b"\0\x02w/\0\x03bye\0\x04anna\0\x02\0\xFF"]));
        let packet = decode_connect(&body).expect("valid");
        let will = packet.will.expect("a will");
        assert_eq!((will.topic, will.payload, will.qos, will.retain), ("w/", &b"bye"[..], QoS::ExactlyOnce, true));
        assert_eq!(will.properties.will_delay, version.is_v5().then_some(9));
        assert_eq!((packet.user_name, packet.password), (Some("anna"), Some(&b"\0\xFF"[..])));
    }
}

/// [MQTT-3.1.2-1]
#[test]
fn a_wrong_protocol_name_is_told_apart() {
    for body in [
        &b"\0\x04HTTP\x04\x02\0\x3c\0\0"[..],
        b"\0\x04mqtt\x04\x02\0\x3c\0\0",
        b"\0\0\x04\x02\0\x3c\0\0",
        b"\0\x05MQTT5\x05\x02\0\x3c\0\0\0",
    ] {
        assert_eq!(decode_connect(body), Err(ConnectError::ProtocolName));
    }
    assert_eq!(invalid(b"\0\x04MQ"), (ReasonCode::MALFORMED_PACKET, None));
    assert_eq!(invalid(b"\0\x04MQTT"), (ReasonCode::MALFORMED_PACKET, None));
}

/// [MQTT-3.1.2-2]
#[test]
fn an_unsupported_level_is_told_with_its_number() {
    for level in [0, 1, 2, 3, 6, 0x83, 0x85, 255] {
        assert_eq!(decode_connect(&join(&[b"\0\x04MQTT", &[level]])), Err(ConnectError::UnsupportedLevel { level }));
    }
    for level in [0, 4, 5, 0x84] {
        assert_eq!(decode_connect(&join(&[b"\0\x06MQIsdp", &[level]])), Err(ConnectError::UnsupportedLevel { level }));
    }
    let error = DecodeError::from(ConnectError::UnsupportedLevel { level: 6 });
    assert_eq!(error.reason, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
}

#[test]
fn the_bridge_bit_of_mosquitto_is_no_other_version() {
    assert_eq!(decode_connect(b"\0\x04MQTT\x84\x02\0\x3c\0\x01c").map(|c| c.version), Ok(V311));
    assert_eq!(decode_connect(b"\0\x06MQIsdp\x83\x02\0\x3c\0\x01c").map(|c| c.version), Ok(V31));
}

#[test]
fn an_invalid_connect_names_its_version_once_known() {
    for version in ALL {
        for end in start(version, 2).len() - 3..connect(version, 2, b"").len() {
            assert_eq!(invalid(&connect(version, 2, b"")[..end]), (ReasonCode::MALFORMED_PACKET, Some(version)), "cut at {end}");
        }
    }
}

/// [MQTT-3.1.2-3]
#[test]
fn the_reserved_flag_must_be_zero() {
    assert_malformed(V311, CONNECT, &connect(V311, 3, b""));
    assert_malformed(V5, CONNECT, &connect(V5, 3, b""));
}

/// [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]
#[test]
fn without_a_will_its_qos_and_retain_must_be_zero() {
    for version in ALL {
        for flags in [0x08, 0x10, 0x20, 0x28] {
            assert_malformed(version, CONNECT, &connect(version, flags, b""));
        }
    }
}

/// [MQTT-3.1.2-12] [MQTT-3.1.2-14]
#[test]
fn will_qos_3_is_malformed() {
    for version in ALL {
        assert_malformed(version, CONNECT, &connect(version, 0x1C, b"\0\x01w\0\0"));
    }
}

#[test]
fn a_will_topic_is_a_topic_name() {
    for version in ALL {
        let properties: &[u8] = if version.is_v5() { b"\0" } else { b"" };
        assert_malformed(version, CONNECT, &connect(version, 4, &join(&[properties, b"\0\0\0\0"])));
        let wildcard = connect(version, 4, &join(&[properties, b"\0\x03w/#\0\0"]));
        assert_eq!(refused(version, CONNECT, &wildcard), ReasonCode::TOPIC_NAME_INVALID);
    }
}

/// [MQTT-3.1.2-22] of 3.1.1; 5.0 section 3.1.2.9 allows it.
#[test]
fn a_password_without_user_name_is_of_5_0_only() {
    assert_malformed(V31, CONNECT, &connect(V31, 0x42, b"\0\x01p"));
    assert_malformed(V311, CONNECT, &connect(V311, 0x42, b"\0\x01p"));
    let body = connect(V5, 0x42, b"\0\x01p");
    let packet = decode_connect(&body).expect("valid");
    assert_eq!((packet.user_name, packet.password), (None, Some(&b"p"[..])));
}

#[test]
fn a_user_name_without_password_is_fine() {
    for version in ALL {
        let body = connect(version, 0x82, b"\0\x01u");
        let packet = decode_connect(&body).expect("valid");
        assert_eq!((packet.user_name, packet.password), (Some("u"), None));
    }
}

#[test]
fn in_3_1_a_user_name_may_be_missing_although_flagged() {
    for payload in [&b""[..], b"\0\x01u"] {
        let body = connect(V31, 0xC2, payload);
        assert_eq!(decode_connect(&body).expect("valid").user_name, (!payload.is_empty()).then_some("u"));
        assert_malformed(V311, CONNECT, &connect(V311, 0xC2, payload));
    }
}

/// [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-1.5.4-1] [MQTT-1.5.4-2]
#[test]
fn every_string_must_be_well_formed() {
    for version in ALL {
        let none: &[u8] = if version.is_v5() { b"\0" } else { b"" };
        for text in ILL_FORMED {
            assert_malformed(version, CONNECT, &join(&[&start(version, 2), none, text]));
            assert_malformed(version, CONNECT, &connect(version, 4, &join(&[none, text, b"\0\0"])));
            assert_malformed(version, CONNECT, &connect(version, 0x82, text));
        }
    }
}

/// [MQTT-1.5.3-3] [MQTT-1.5.4-3]
#[test]
fn a_byte_order_mark_stays() {
    for version in ALL {
        let none: &[u8] = if version.is_v5() { b"\0" } else { b"" };
        let body = join(&[&start(version, 2), none, b"\0\x04\xEF\xBB\xBFc"]);
        assert_eq!(decode_connect(&body).expect("valid").client_id, "\u{FEFF}c");
    }
}

#[test]
fn nothing_may_follow_the_last_field() {
    for version in ALL {
        assert_malformed(version, CONNECT, &connect(version, 2, b"\0"));
    }
}

#[test]
fn an_empty_client_id_is_left_to_the_broker() {
    assert_eq!(decode_connect(b"\0\x04MQTT\x04\x02\0\x3c\0\0").map(|c| c.client_id.len()), Ok(0));
}

#[test]
fn properties_of_a_5_0_connect() {
    let body = connect_v5(b"\x11\0\0\0\x0a\x15\x00\x01m\x16\0\x01d\x17\0\x19\x01\x21\0\x14\x22\0\x05\x26\0\x01k\0\x01v\x27\0\0\x10\0");
    let properties = decode_connect(&body).expect("valid").properties;
    assert_eq!((properties.session_expiry, properties.receive_maximum, properties.topic_alias_maximum), (Some(10), Some(20), Some(5)));
    assert_eq!((properties.auth_method, properties.auth_data), (Some("m"), Some(&b"d"[..])));
    assert_eq!((properties.request_problem, properties.request_response), (Some(false), Some(true)));
    assert_eq!(properties.maximum_packet_size, Some(4096));
    assert_eq!(properties.user.iter().collect::<Vec<_>>(), [("k", "v")]);
}

#[test]
fn authentication_data_needs_a_method() {
    assert_protocol_error(V5, CONNECT, &connect_v5(b"\x16\0\x01d"));
}

/// CVE-2021-34431: a property block cut at any place is refused.
#[test]
fn a_property_block_cut_anywhere_is_malformed() {
    let block = b"\x11\0\0\0\x0a\x15\0\x01m\x26\0\x01k\0\x01v";
    let whole = connect_v5(block);
    assert!(decode_connect(&whole).is_ok());
    let boundaries = [0, 5, 9, block.len()];
    for len in (0..=block.len()).filter(|len| !boundaries.contains(len)) {
        assert_malformed(V5, CONNECT, &connect_v5(&block[..len]));
    }
}

#[test]
fn connack_in_each_version() {
    for version in ALL {
        let mut out = Vec::new();
        encode::connack(&mut out, version, true, 0, &Properties::default());
        let flag = if version == V31 { 0 } else { 1 };
        let wire: &[u8] = if version.is_v5() { &[0x20, 3, flag, 0, 0] } else { &[0x20, 2, flag, 0] };
        assert_eq!(out, wire);
    }
}

/// [MQTT-3.2.2-4] of 3.1.1, [MQTT-3.2.2-6] of 5.0
#[test]
fn a_refusal_never_reports_a_session() {
    let mut out = Vec::new();
    encode::connack(&mut out, V311, true, 5, &Properties::default());
    assert_eq!(out, [0x20, 2, 0, 5]);
    assert_protocol_error(V311, 0x20, &[1, 5]);
    assert_protocol_error(V5, 0x20, &[1, 0x87, 0]);
}

#[test]
fn connack_flags_and_codes_are_checked() {
    assert_malformed(V311, 0x20, &[2, 0]);
    assert_malformed(V5, 0x20, &[0x80, 0, 0]);
    assert_protocol_error(V311, 0x20, &[0, 6]);
    assert_protocol_error(V5, 0x20, &[0, 1, 0]);
    assert_malformed(V311, 0x20, &[0, 0, 0]);
}
