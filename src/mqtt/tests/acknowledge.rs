//! PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT and AUTH: reason codes that may be left out.

use super::*;

const ACKS: [(PacketType, u8); 4] =
    [(PacketType::Puback, 0x40), (PacketType::Pubrec, 0x50), (PacketType::Pubrel, 0x62), (PacketType::Pubcomp, 0x70)];

fn ack(packet: Packet<'_>) -> Ack<'_> {
    match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => ack,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_acknowledgement_of_3_x_is_two_bytes_exactly() {
    for (_, first) in ACKS {
        for version in [V31, V311] {
            assert_eq!(ack(decode(version, first, b"\x01\x02").expect("valid")).packet_id, 0x0102);
            assert_malformed(version, first, b"\x01");
            assert_malformed(version, first, b"\x01\x02\0");
        }
    }
}

#[test]
fn reason_and_properties_may_be_left_out_in_5_0() {
    for (kind, first) in ACKS {
        let code = if matches!(kind, PacketType::Puback | PacketType::Pubrec) { 0x87 } else { 0x92 };
        assert_eq!(ack(decode(V5, first, b"\0\x01").expect("valid")).reason, ReasonCode::SUCCESS);
        assert_eq!(ack(decode(V5, first, &[0, 1, code]).expect("valid")).reason, ReasonCode(code));
        assert_eq!(ack(decode(V5, first, &[0, 1, code, 0]).expect("valid")).reason, ReasonCode(code));
        let body = [0, 1, code, 5, 0x1f, 0, 2, b'n', b'o'];
        assert_eq!(ack(decode(V5, first, &body).expect("valid")).properties.reason_string, Some("no"));
        assert_malformed(V5, first, &[0, 1, code, 1]);
        assert_malformed(V5, first, &[0, 1, code, 0, 0]);
    }
}

/// [MQTT-2.3.1-1] [MQTT-2.2.1-3]
#[test]
fn packet_identifier_0_is_refused() {
    for (_, first) in ACKS {
        ALL.into_iter().for_each(|version| assert_protocol_error(version, first, b"\0\0"));
    }
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
#[test]
fn only_the_codes_of_its_table_may_stand_in_a_packet() {
    let publish = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    for code in 0..=255u8 {
        for (kind, first) in ACKS {
            let table: &[u8] = if matches!(kind, PacketType::Puback | PacketType::Pubrec) { &publish } else { &[0, 0x92] };
            assert_eq!(decode(V5, first, &[0, 1, code]).is_ok(), table.contains(&code), "{kind:?} {code:#x}");
        }
        let disconnect = [0, 4, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b].contains(&code)
            || (0x8c..=0x90).contains(&code)
            || (0x93..=0xa2).contains(&code);
        assert_eq!(decode(V5, 0xE0, &[code]).is_ok(), disconnect, "DISCONNECT {code:#x}");
        let auth = [0, 0x18, 0x19].contains(&code);
        assert_eq!(decode(V5, 0xF0, &[code, 4, 0x15, 0, 1, b'm']).is_ok(), auth, "AUTH {code:#x}");
    }
}

#[test]
fn acknowledgements_on_the_wire_are_minimal() {
    let none = Properties::default();
    let reason_string = Properties { reason_string: Some("no"), ..none };
    for (kind, first) in ACKS {
        for version in ALL {
            let mut out = Vec::new();
            encode::ack(&mut out, version, kind, 0x0102, ReasonCode::SUCCESS, &none);
            assert_eq!(out, [first, 2, 1, 2]);
        }
        let mut out = Vec::new();
        encode::ack(&mut out, V5, kind, 1, ReasonCode(0x92), &none);
        assert_eq!(out, [first, 3, 0, 1, 0x92]);
        out.clear();
        encode::ack(&mut out, V5, kind, 1, ReasonCode(0x92), &reason_string);
        assert_eq!(out, [first, 9, 0, 1, 0x92, 5, 0x1f, 0, 2, b'n', b'o']);
        out.clear();
        encode::ack(&mut out, V311, kind, 1, ReasonCode(0x92), &reason_string);
        assert_eq!(out, [first, 2, 0, 1]);
    }
}

#[test]
fn properties_that_an_acknowledgement_cannot_carry_leave_no_trace() {
    let properties = Properties { session_expiry: Some(1), ..Properties::default() };
    let mut out = Vec::new();
    encode::ack(&mut out, V5, PacketType::Puback, 1, ReasonCode::SUCCESS, &properties);
    encode::ack(&mut out, V5, PacketType::Puback, 1, ReasonCode::NOT_AUTHORIZED, &properties);
    assert_eq!(out, [0x40, 2, 0, 1, 0x40, 3, 0, 1, 0x87]);
}

/// [MQTT-3.14.1-1]
#[test]
fn disconnect_of_3_x_is_empty() {
    for version in [V31, V311] {
        assert!(decode(version, 0xE0, b"").is_ok());
        assert_malformed(version, 0xE0, &[0]);
        let mut out = Vec::new();
        encode::disconnect(&mut out, version, ReasonCode::SERVER_SHUTTING_DOWN, &Properties::default());
        assert_eq!(out, [0xE0, 0]);
    }
}

#[test]
fn disconnect_of_5_0_in_all_its_lengths() {
    let reason = |body| match decode(V5, 0xE0, body) {
        Ok(Packet::Disconnect(packet)) => (packet.reason.0, packet.properties.session_expiry),
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(b""), (0, None));
    assert_eq!(reason(&[4]), (4, None));
    assert_eq!(reason(&[4, 0]), (4, None));
    assert_eq!(reason(&[0, 5, 0x11, 0, 0, 0, 9]), (0, Some(9)));
    assert_malformed(V5, 0xE0, &[0, 5, 0x11, 0, 0, 0]);
    assert_malformed(V5, 0xE0, &[0, 0, 0]);
    let mut out = Vec::new();
    encode::disconnect(&mut out, V5, ReasonCode::SUCCESS, &Properties::default());
    encode::disconnect(&mut out, V5, ReasonCode::SESSION_TAKEN_OVER, &Properties::default());
    assert_eq!(out, [0xE0, 0, 0xE0, 1, 0x8E]);
}

#[test]
fn auth_is_of_5_0_only_and_names_a_method() {
    assert_malformed(V31, 0xF0, b"");
    assert_malformed(V311, 0xF0, b"");
    assert!(decode(V5, 0xF0, b"").is_ok());
    assert_protocol_error(V5, 0xF0, &[0x18, 0]);
    assert_protocol_error(V5, 0xF0, &[0x18, 4, 0x16, 0, 1, b'd']);
    let properties = Properties { auth_method: Some("m"), auth_data: Some(b"d"), ..Properties::default() };
    let mut out = Vec::new();
    encode::auth(&mut out, ReasonCode::CONTINUE_AUTHENTICATION, &properties);
    assert_eq!(out, [0xF0, 10, 0x18, 8, 0x15, 0, 1, b'm', 0x16, 0, 1, b'd']);
    assert_eq!(read(V5, &out), Ok(Packet::Auth(Auth { reason: ReasonCode::CONTINUE_AUTHENTICATION, properties })));
}
