//! Which codes each packet may carry (5.0 section 2.4, tables of section 3; 3.x CONNACK and SUBACK).

use super::super::types::{DecodeError, PacketType, Version};

/// Errors: a code that this packet never carries is a protocol error.
#[inline]
pub(super) fn check(version: Version, kind: PacketType, code: u8) -> Result<(), DecodeError> {
    let allowed = if version.is_v5() { v5(kind) } else { v3(kind) };
    // Success is allowed everywhere, and nearly always what stands there.
    if code == 0 || allowed.contains(&code) { Ok(()) } else { Err(DecodeError::protocol("code is not allowed in this packet")) }
}

/// [MQTT-3.2.2-8] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.14.2-1] [MQTT-3.15.2-1]
fn v5(kind: PacketType) -> &'static [u8] {
    match kind {
        PacketType::Connack => {
            &[0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F]
        }
        PacketType::Puback | PacketType::Pubrec => &[0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        PacketType::Pubrel | PacketType::Pubcomp => &[0x92],
        PacketType::Suback => &[0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
        PacketType::Unsuback => &[0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
        // 0x8C stands in table 2-6 and is missing in section 3.14 only.
        PacketType::Disconnect => &[
            0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
            0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        PacketType::Auth => &[0x18, 0x19],
        _ => &[],
    }
}

fn v3(kind: PacketType) -> &'static [u8] {
    match kind {
        PacketType::Connack => &[1, 2, 3, 4, 5],
        PacketType::Suback => &[1, 2, 0x80], // [MQTT-3.9.3-2]
        _ => &[],
    }
}
