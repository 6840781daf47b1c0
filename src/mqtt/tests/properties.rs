//! Property blocks of 5.0.

use super::*;

/// A block of one property of every number, with valid values.
fn one(id: u8) -> Vec<u8> {
    let value: &[u8] = match id {
        2 | 17 | 24 | 39 => b"\0\0\0\x01",
        19 | 33..=35 => b"\0\x01",
        3 | 8 | 9 | 18 | 21 | 22 | 26 | 28 | 31 => b"\0\x01x",
        38 => b"\0\x01k\0\x01v",
        _ => b"\x01",
    };
    join(&[&[id], value])
}

/// `block` inside a packet of the type that `first` names.
fn around(first: u8, block: &[u8]) -> Vec<u8> {
    let properties = join(&[&[block.len() as u8], block]);
    let (before, after): (&[u8], &[u8]) = match first >> 4 {
        1 => (b"\0\x04MQTT\x05\x02\0\x0a", b"\0\x01c"),
        2 => (b"\0\0", b""),
        3 => (b"\0\x01t", b""),
        4..=7 => (b"\0\x01\0", b""),
        8 => (b"\0\x01", b"\0\x01a\0"),
        9 | 11 => (b"\0\x01", b"\0"),
        10 => (b"\0\x01", b"\0\x01a"),
        _ => (b"\0", b""),
    };
    join(&[before, &properties, after])
}

const FIRST_BYTES: [u8; 13] = [0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xE0, 0xF0];

/// The table of 5.0 section 2.2.2.2, by packet type.
fn table(kind: u8) -> &'static [u8] {
    match kind {
        1 => &[17, 21, 23, 25, 33, 34, 38, 39],
        2 => &[17, 18, 19, 21, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42],
        3 => &[1, 2, 3, 8, 9, 11, 35, 38],
        8 => &[11, 38],
        10 => &[38],
        14 => &[17, 28, 31, 38],
        15 => &[21, 31, 38],
        _ => &[31, 38],
    }
}

#[test]
fn a_packet_carries_the_properties_of_its_row_and_no_others() {
    for first in FIRST_BYTES {
        for id in (0..=255u8).filter(|&id| id != 22) {
            let result = decode(V5, first, &around(first, &one(id))).map(drop);
            if table(first >> 4).contains(&id) {
                assert_eq!(result, Ok(()), "{first:#x} {id}");
            } else {
                assert_eq!(result.map_err(|e| e.reason), Err(ReasonCode::MALFORMED_PACKET), "{first:#x} {id}");
            }
        }
        // Authentication data never comes alone.
        let authentication = around(first, &join(&[&one(21), &one(22)]));
        assert_eq!(decode(V5, first, &authentication).is_ok(), [1, 2, 15].contains(&(first >> 4)), "{first:#x}");
    }
}

#[test]
fn what_comes_twice_is_a_protocol_error_but_for_user_properties() {
    for first in FIRST_BYTES {
        for &id in table(first >> 4) {
            let twice = around(first, &join(&[&one(id), &one(id)]));
            if id == 38 || (id == 11 && first == 0x30) {
                assert!(decode(V5, first, &twice).is_ok(), "{first:#x} {id}");
            } else {
                assert_protocol_error(V5, first, &twice);
            }
        }
    }
}

#[test]
fn values_out_of_range_are_protocol_errors() {
    for (first, block) in [
        (0x10, &b"\x21\0\0"[..]), // receive maximum 0
        (0x20, b"\x21\0\0"),
        (0x10, b"\x27\0\0\0\0"), // maximum packet size 0
        (0x20, b"\x27\0\0\0\0"),
        (0x10, b"\x17\x02"), // request problem information
        (0x10, b"\x19\x02"), // request response information
        (0x20, b"\x24\x02"), // maximum QoS
        (0x20, b"\x25\x02"), // retain available
        (0x20, b"\x28\x02"), // wildcard subscriptions available
        (0x20, b"\x29\xff"), // subscription identifiers available
        (0x20, b"\x2a\x02"), // shared subscriptions available
        (0x82, b"\x0b\0"),   // subscription identifier 0
    ] {
        assert_protocol_error(V5, first, &around(first, block));
    }
}

#[test]
fn a_property_number_is_one_byte() {
    // 0x9F 0x00 would be reason string in two bytes. [MQTT-1.5.5-1]
    assert_malformed(V5, 0x40, &around(0x40, b"\x9f\0\0\x01x"));
}

#[test]
fn the_length_of_the_block_must_be_right() {
    assert_malformed(V5, 0x40, b"\0\x01\0\x05\x1f\0\x01x"); // one too long
    assert_malformed(V5, 0x40, b"\0\x01\0\x03\x1f\0\x01x"); // one too short
    assert_malformed(V5, 0x40, b"\0\x01\0\x84\0\x1f\0\x01x"); // in two bytes [MQTT-1.5.5-1]
}

/// [MQTT-1.5.7-1]
#[test]
fn every_string_must_be_well_formed() {
    for text in ILL_FORMED {
        for (first, id) in [(0x10, 21), (0x20, 18), (0x20, 21), (0x20, 26), (0x20, 28), (0x40, 31), (0xE0, 28), (0xE0, 31)] {
            assert_malformed(V5, first, &around(first, &join(&[&[id], text])));
        }
        for first in FIRST_BYTES {
            assert_malformed(V5, first, &around(first, &join(&[b"\x26", text, b"\0\x01v"])));
            assert_malformed(V5, first, &around(first, &join(&[b"\x26\0\x01k", text])));
        }
    }
}

/// CVE-2021-41039: linear time; a quadratic search for duplicates would take minutes here.
#[test]
fn a_megabyte_of_user_properties_is_read_in_order() {
    let names: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let mut block = Vec::new();
    UserProperties::encode(names.iter().map(|name| (name.as_str(), "")), &mut block);
    assert!(block.len() > 900_000);
    let properties = Properties { user: UserProperties::new(&block).expect("valid"), ..Properties::default() };
    let mut out = Vec::new();
    encode::disconnect(&mut out, V5, ReasonCode::UNSPECIFIED_ERROR, &properties);
    let Ok(Packet::Disconnect(packet)) = read(V5, &out) else { panic!("not a DISCONNECT") };
    assert!(packet.properties.user.iter().map(|(name, _)| name).eq(names.iter().map(String::as_str)));
}

#[test]
fn user_properties_keep_their_order_between_others() {
    let block = join(&[b"\x26\0\x01b\0\x011", b"\x1f\0\x02no", b"\x26\0\x01a\0\x012", b"\x26\0\x01b\0\x013"]);
    let body = around(0xE0, &block);
    let Ok(Packet::Disconnect(packet)) = decode(V5, 0xE0, &body) else { panic!("not a DISCONNECT") };
    assert_eq!(packet.properties.user.iter().collect::<Vec<_>>(), [("b", "1"), ("a", "2"), ("b", "3")]);
    assert!(!packet.properties.user.is_empty());
}

#[test]
fn user_properties_are_equal_by_content_not_by_place() {
    let scattered = around(0xE0, b"\x26\0\x01a\0\x011\x1f\0\x02no\x26\0\x01b\0\x012");
    let Ok(Packet::Disconnect(packet)) = decode(V5, 0xE0, &scattered) else { panic!("not a DISCONNECT") };
    let mut block = Vec::new();
    UserProperties::encode([("a", "1"), ("b", "2")], &mut block);
    assert_eq!(packet.properties.user, UserProperties::new(&block).expect("valid"));
    assert_ne!(packet.properties.user, UserProperties::default());
}

#[test]
fn a_view_of_user_properties_takes_nothing_else() {
    assert!(UserProperties::new(b"").expect("empty is fine").is_empty());
    assert!(UserProperties::new(b"\x1f\0\x01x").is_err());
    assert!(UserProperties::new(b"\x26\0\x01a\0").is_err());
}

/// [MQTT-3.1.2-29]
#[test]
fn problem_information_can_be_left_out() {
    let mut block = Vec::new();
    UserProperties::encode([("a", "1")], &mut block);
    let user = UserProperties::new(&block).expect("valid");
    let properties = Properties { reason_string: Some("no"), session_expiry: Some(7), user, ..Properties::default() };
    assert_eq!(properties.without_problem_info(), Properties { session_expiry: Some(7), ..Properties::default() });
}

#[test]
fn encoding_leaves_out_what_the_packet_may_not_carry() {
    let properties = Properties { session_expiry: Some(1), will_delay: Some(2), reason_string: Some("no"), ..Properties::default() };
    let bytes = |kind| {
        let mut out = Vec::new();
        properties.encode(kind, &mut out);
        out
    };
    assert_eq!(bytes(PacketType::Puback), b"\x05\x1f\0\x02no");
    assert_eq!(bytes(PacketType::Connect), b"\x05\x11\0\0\0\x01");
    assert_eq!(bytes(PacketType::Unsubscribe), b"\0");
    let mut will = Vec::new();
    properties.encode_will(&mut will);
    assert_eq!(will, b"\x05\x18\0\0\0\x02");
}

#[test]
fn a_hand_made_publish_block_is_never_trusted() {
    let broken = PublishProperties { raw: b"\x0b\xff\xff", forward_as_is: false, ..PublishProperties::default() };
    assert_eq!(broken.subscription_ids().count(), 0);
    assert_eq!(broken.all(), Properties::default());
    broken.forward_into(&mut Vec::new());
}
