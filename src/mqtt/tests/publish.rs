//! PUBLISH.

use super::*;

#[track_caller]
fn publish(version: Version, first: u8, body: &[u8]) -> Publish<'_> {
    decode_publish(version, first, body).expect("valid")
}

#[test]
fn flags_topic_and_payload() {
    let p = publish(V311, 0x3D, b"\0\x03a/b\x12\x34hello");
    assert_eq!((p.dup, p.qos, p.retain, p.topic, p.packet_id, p.payload), (true, QoS::ExactlyOnce, true, "a/b", 0x1234, &b"hello"[..]));
    let p = publish(V5, 0x30, b"\0\x03a/b\0");
    assert_eq!((p.dup, p.qos, p.retain, p.packet_id, p.payload), (false, QoS::AtMostOnce, false, 0, &b""[..]));
    assert!(p.properties.forward_as_is);
}

/// [MQTT-3.3.1-4]
#[test]
fn both_qos_bits_are_malformed() {
    for version in ALL {
        let error = decode_publish(version, 0x36, b"\0\x01a\0\x01").expect_err("QoS 3");
        assert_eq!(error.reason, ReasonCode::MALFORMED_PACKET);
        assert_malformed(version, 0x36, b"\0\x01a\0\x01\0");
    }
}

/// [MQTT-3.3.1-2]
#[test]
fn dup_at_qos_0_is_malformed_and_never_sent() {
    for version in ALL {
        assert_malformed(version, 0x38, b"\0\x01a\0");
        let mut out = Vec::new();
        encode::publish(&mut out, version, &PublishOut { dup: true, ..PublishOut::new("a", b"") });
        assert_eq!(out[0], 0x30);
    }
}

/// [MQTT-2.3.1-1] [MQTT-2.2.1-3]
#[test]
fn packet_identifier_0_is_refused() {
    for version in ALL {
        assert_protocol_error(version, 0x32, b"\0\x01a\0\0\0");
    }
}

/// [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.0-1]
#[test]
fn a_topic_name_has_no_wildcard() {
    for version in ALL {
        for topic in [&b"\0\x01#"[..], b"\0\x01+", b"\0\x03a/#", b"\0\x03a+b", b"\0\x05\xC3\xA9/+/"] {
            assert_eq!(refused(version, 0x30, &join(&[topic, b"\0"])), ReasonCode::TOPIC_NAME_INVALID);
        }
    }
}

/// [MQTT-3.3.2-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-1.5.4-1] [MQTT-1.5.4-2]; CVE-2017-7653
#[test]
fn an_ill_formed_topic_is_malformed() {
    for version in ALL {
        for topic in ILL_FORMED {
            assert_malformed(version, 0x30, &join(&[topic, b"\0payload"]));
        }
        // Past the length from which UTF-8 is checked by SIMD.
        let long = join(&[&[0, 101], &[b'a'; 100], b"\xFF\0"]);
        assert_malformed(version, 0x30, &long);
    }
}

/// [MQTT-4.7.3-1]; CVE-2021-34432
#[test]
fn an_empty_topic_needs_an_alias() {
    for version in [V31, V311] {
        assert_malformed(version, 0x30, b"\0\0hello");
    }
    assert_protocol_error(V5, 0x30, b"\0\0\0hello");
    let p = publish(V5, 0x30, b"\0\0\x03\x23\0\x07hello");
    assert_eq!((p.topic, p.properties.topic_alias, p.payload), ("", 7, &b"hello"[..]));
    assert!(!p.properties.forward_as_is);
}

/// [MQTT-3.3.2-8]
#[test]
fn topic_alias_0_is_invalid() {
    assert_eq!(refused(V5, 0x30, b"\0\x01a\x03\x23\0\0"), ReasonCode::TOPIC_ALIAS_INVALID);
}

#[test]
fn a_publish_cut_before_its_payload_is_malformed() {
    let whole = b"\0\x03a/b\0\x01\x05\x02\0\0\0\x09";
    assert!(read(V5, &frame(0x32, whole)).is_ok());
    for len in 0..whole.len() {
        assert_malformed(V5, 0x32, &whole[..len]);
    }
    for len in 0..7 {
        assert_malformed(V311, 0x32, &whole[..len]);
    }
}

#[test]
fn the_payload_is_opaque() {
    let payload: Vec<u8> = (0..=255).collect();
    for version in ALL {
        let body = join(&[b"\0\x01a", if version.is_v5() { b"\0" } else { b"" }, &payload]);
        assert_eq!(publish(version, 0x30, &body).payload, payload);
    }
}

/// [MQTT-3.3.2-14]
#[test]
fn a_response_topic_has_no_wildcard() {
    assert_protocol_error(V5, 0x30, b"\0\x01a\x06\x08\0\x03r/#");
    assert_protocol_error(V5, 0x30, b"\0\x01a\x03\x08\0\0");
    assert!(read(V5, &frame(0x30, b"\0\x01a\x06\x08\0\x03r/s")).is_ok());
}

#[test]
fn property_values_out_of_range_are_protocol_errors() {
    assert_protocol_error(V5, 0x30, b"\0\x01a\x02\x01\x02"); // payload format 2
    assert_protocol_error(V5, 0x30, b"\0\x01a\x02\x0b\0"); // subscription identifier 0
    assert_protocol_error(V5, 0x30, b"\0\x01a\x04\x01\x01\x01\x01"); // payload format twice
}

#[test]
fn a_property_of_another_packet_is_malformed() {
    for id in (0..=255u8).filter(|id| ![1, 2, 3, 8, 9, 11, 35, 38].contains(id)) {
        assert_malformed(V5, 0x30, &[0, 1, b'a', 5, id, 0, 0, 0, 0]);
    }
}

/// [MQTT-3.3.2-13] [MQTT-3.3.2-19]
#[test]
fn every_string_property_must_be_well_formed() {
    for text in ILL_FORMED {
        for before in [&[3][..], &[8], &[38], &[38, 0, 1, b'k']] {
            let after: &[u8] = if before == [38] { b"\0\x01v" } else { b"" };
            let block = join(&[before, text, after]);
            assert_malformed(V5, 0x30, &join(&[b"\0\x01a", &[block.len() as u8], &block]));
        }
    }
}

/// [MQTT-3.3.4-6]: decoded here, refused by the broker, which looks.
#[test]
fn subscription_identifiers_are_listed_in_order() {
    let p = publish(V5, 0x30, b"\0\x01a\x05\x0b\x05\x0b\x80\x01");
    assert_eq!(p.properties.subscription_ids().collect::<Vec<_>>(), [5, 128]);
}

#[test]
fn forwarding_drops_what_each_hop_sets_anew_and_keeps_the_rest_in_order() {
    // user a=1, alias 3, content type t, expiry 9 s, subscription identifiers 5 and 128, user a=2
    let block = b"\x26\0\x01a\0\x011\x23\0\x03\x03\0\x01t\x02\0\0\0\x09\x0b\x05\x0b\x80\x01\x26\0\x01a\0\x012";
    let body = join(&[b"\0\x01x", &[block.len() as u8], block, b"pay"]);
    let p = publish(V5, 0x30, &body);
    assert_eq!((p.properties.topic_alias, p.properties.message_expiry, p.properties.forward_as_is), (3, Some(9), false));
    assert_eq!(p.properties.subscription_ids().collect::<Vec<_>>(), [5, 128]);
    let mut forward = Vec::new();
    p.properties.forward_into(&mut forward);
    assert_eq!(forward, b"\x26\0\x01a\0\x011\x03\0\x01t\x26\0\x01a\0\x012");
    let all = p.properties.all();
    assert_eq!((all.content_type, all.subscription_id), (Some("t"), Some(5)));
    assert_eq!(all.user.iter().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
}

#[test]
fn a_block_with_nothing_of_the_hop_is_forwarded_as_it_is() {
    let block = b"\x01\x01\x09\0\x02\0\xFF";
    let body = join(&[b"\0\x01x", &[block.len() as u8], block]);
    let p = publish(V5, 0x30, &body);
    assert!(p.properties.forward_as_is);
    let mut forward = Vec::new();
    p.properties.forward_into(&mut forward);
    assert_eq!(forward, block);
}

#[test]
fn the_wire_is_minimal() {
    let wire = |version, publish: &PublishOut<'_>| {
        let mut out = Vec::new();
        encode::publish(&mut out, version, publish);
        out
    };
    assert_eq!(wire(V311, &PublishOut::new("t", b"x")), b"\x30\x04\0\x01tx");
    assert_eq!(wire(V5, &PublishOut::new("t", b"x")), b"\x30\x05\0\x01t\0x");
    let full = PublishOut {
        dup: true,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: 0x0102,
        forward: b"\x01\x01",
        message_expiry: Some(3),
        topic_alias: 4,
        subscription_ids: &[5, 200],
        ..PublishOut::new("t", b"x")
    };
    assert_eq!(wire(V311, &full), b"\x3b\x06\0\x01t\x01\x02x");
    assert_eq!(wire(V5, &full), b"\x3b\x16\0\x01t\x01\x02\x0f\x23\0\x04\x02\0\0\0\x03\x0b\x05\x0b\xc8\x01\x01\x01x");
}

#[test]
fn a_publish_at_each_border_of_the_length_field() {
    for payload_len in [122, 123, 124, 125, 16_378, 16_379, 16_380, 2_097_146, 2_097_147, 2_097_148] {
        let payload = vec![7; payload_len];
        for version in ALL {
            let mut out = Vec::new();
            let publish = PublishOut::new("a/b", &payload);
            encode::publish(&mut out, version, &publish);
            assert_eq!(out.len(), encode::publish_len(version, &publish));
            match read(version, &out).expect("valid") {
                Packet::Publish(p) => assert_eq!((p.topic, p.payload.len()), ("a/b", payload_len)),
                other => panic!("{other:?}"),
            }
        }
    }
}
