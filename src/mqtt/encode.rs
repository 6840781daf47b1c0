//! Packets to bytes: functions that append to a buffer, each in the fewest bytes that the version allows.
//!
//! PUBLISH, the hot one, has a file of its own and writes every byte once. The others write their body behind one byte and put the
//! length in afterwards; they are small and rare. What 3.x cannot say (properties, reasons) is left out there.

mod properties;
mod publish;

pub use publish::{PublishOut, publish, publish_head, publish_len};

use super::packet::{Connect, SubscribeEntry, SubscribeOptions, Will};
use super::properties::Properties;
use super::types::{PacketType, QoS, ReasonCode, Version};
use super::wire::{put_binary, put_string, put_u16, var_int_len, with_length};

/// First byte of a packet whose flags are fixed. [MQTT-2.2.2-1] [MQTT-2.1.3-1]
fn first_byte(kind: PacketType) -> u8 {
    let flags = match kind {
        // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
        PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 2,
        _ => 0,
    };
    (kind as u8) << 4 | flags
}

fn packet(out: &mut Vec<u8>, kind: PacketType, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first_byte(kind));
    with_length(out, body);
}

/// Appends a CONNECT of the version that it names.
pub fn connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    packet(out, PacketType::Connect, |out| {
        put_string(out, if connect.version == Version::V31 { "MQIsdp" } else { "MQTT" });
        out.push(connect.version as u8);
        out.push(connect_flags(connect));
        put_u16(out, connect.keep_alive);
        if connect.version.is_v5() {
            connect.properties.encode(PacketType::Connect, out);
        }
        put_string(out, connect.client_id);
        if let Some(will) = &connect.will {
            put_will(out, connect.version, will);
        }
        if let Some(user_name) = connect.user_name {
            put_string(out, user_name);
        }
        if let Some(password) = connect.password {
            put_binary(out, password);
        }
    });
}

fn connect_flags(connect: &Connect<'_>) -> u8 {
    let will = connect.will.as_ref().map_or(0, |will| 4 | (will.qos as u8) << 3 | u8::from(will.retain) << 5);
    will | u8::from(connect.clean_start) << 1 | u8::from(connect.password.is_some()) << 6 | u8::from(connect.user_name.is_some()) << 7
}

fn put_will(out: &mut Vec<u8>, version: Version, will: &Will<'_>) {
    if version.is_v5() {
        will.properties.encode_will(out);
    }
    put_string(out, will.topic);
    put_binary(out, will.payload);
}

/// Appends a CONNACK; `code` is a return code in 3.x, a reason code in 5.0. A refusal never reports a session.
/// [MQTT-3.2.2-4] of 3.1.1, [MQTT-3.2.2-6] of 5.0
pub fn connack(out: &mut Vec<u8>, version: Version, session_present: bool, code: u8, properties: &Properties<'_>) {
    packet(out, PacketType::Connack, |out| {
        // In 3.1 the byte is reserved. [MQTT-3.2.2-1] of 5.0
        out.push(u8::from(session_present && code == 0 && version != Version::V31));
        out.push(code);
        if version.is_v5() {
            properties.encode(PacketType::Connack, out);
        }
    });
}

/// Appends a PUBACK, PUBREC, PUBREL or PUBCOMP (`kind`): four bytes on success without properties and in 3.x.
pub fn ack(out: &mut Vec<u8>, version: Version, kind: PacketType, packet_id: u16, reason: ReasonCode, properties: &Properties<'_>) {
    let [high, low] = packet_id.to_be_bytes();
    let plain = reason == ReasonCode::SUCCESS && properties.reason_string.is_none() && properties.user.is_empty();
    if plain || !version.is_v5() {
        out.extend_from_slice(&[first_byte(kind), 2, high, low]);
        return;
    }
    packet(out, kind, |out| {
        out.extend_from_slice(&[high, low]);
        put_reason(out, kind, reason, properties);
    });
}

/// A reason code and properties; what says nothing at the end is left out.
fn put_reason(out: &mut Vec<u8>, kind: PacketType, reason: ReasonCode, properties: &Properties<'_>) {
    let at = out.len();
    out.push(reason.0);
    properties.encode(kind, out);
    if out.len() == at + 2 {
        out.truncate(if reason == ReasonCode::SUCCESS { at } else { at + 1 });
    }
}

/// Appends a SUBSCRIBE; 3.x takes only the QoS of the options.
pub fn subscribe(out: &mut Vec<u8>, version: Version, packet_id: u16, filters: &[SubscribeEntry<'_>], properties: &Properties<'_>) {
    packet(out, PacketType::Subscribe, |out| {
        put_u16(out, packet_id);
        if version.is_v5() {
            properties.encode(PacketType::Subscribe, out);
        }
        for entry in filters {
            put_string(out, entry.filter);
            out.push(if version.is_v5() { option_bits(entry.options) } else { entry.options.qos as u8 });
        }
    });
}

fn option_bits(options: SubscribeOptions) -> u8 {
    options.qos as u8 | u8::from(options.no_local) << 2 | u8::from(options.retain_as_published) << 3 | (options.retain_handling as u8) << 4
}

/// Appends a SUBACK with one code per filter; every failure is 0x80 in 3.x. [MQTT-3.9.3-1] [MQTT-3.9.3-2]
pub fn suback(out: &mut Vec<u8>, version: Version, packet_id: u16, codes: &[u8], properties: &Properties<'_>) {
    packet(out, PacketType::Suback, |out| {
        put_u16(out, packet_id);
        if version.is_v5() {
            properties.encode(PacketType::Suback, out);
            out.extend_from_slice(codes);
        } else {
            out.extend(codes.iter().map(|&code| code.min(0x80)));
        }
    });
}

/// Bytes of a SUBACK or UNSUBACK of 5.0 with this many codes and no properties.
pub fn codes_len(codes: usize) -> usize {
    let body = 2 + 1 + codes;
    1 + var_int_len(body as u32) + body
}

/// Appends an UNSUBSCRIBE.
pub fn unsubscribe<'f>(
    out: &mut Vec<u8>,
    version: Version,
    packet_id: u16,
    filters: impl IntoIterator<Item = &'f str>,
    properties: &Properties<'_>,
) {
    packet(out, PacketType::Unsubscribe, |out| {
        put_u16(out, packet_id);
        if version.is_v5() {
            properties.encode(PacketType::Unsubscribe, out);
        }
        filters.into_iter().for_each(|filter| put_string(out, filter));
    });
}

/// Appends an UNSUBACK; the codes, one per filter, are left out in 3.x. [MQTT-3.11.3-1]
pub fn unsuback(out: &mut Vec<u8>, version: Version, packet_id: u16, codes: &[u8], properties: &Properties<'_>) {
    packet(out, PacketType::Unsuback, |out| {
        put_u16(out, packet_id);
        if version.is_v5() {
            properties.encode(PacketType::Unsuback, out);
            out.extend_from_slice(codes);
        }
    });
}

/// Appends a PINGREQ.
pub fn pingreq(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first_byte(PacketType::Pingreq), 0]);
}

/// Appends a PINGRESP.
pub fn pingresp(out: &mut Vec<u8>) {
    out.extend_from_slice(&[first_byte(PacketType::Pingresp), 0]);
}

/// Appends a DISCONNECT: two bytes on success without properties and in 3.x.
pub fn disconnect(out: &mut Vec<u8>, version: Version, reason: ReasonCode, properties: &Properties<'_>) {
    packet(out, PacketType::Disconnect, |out| {
        if version.is_v5() {
            put_reason(out, PacketType::Disconnect, reason, properties);
        }
    });
}

/// Appends an AUTH, which only 5.0 has.
pub fn auth(out: &mut Vec<u8>, reason: ReasonCode, properties: &Properties<'_>) {
    packet(out, PacketType::Auth, |out| put_reason(out, PacketType::Auth, reason, properties));
}

/// First byte of a PUBLISH.
#[inline]
fn publish_first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    // [MQTT-3.3.1-2] DUP is 0 at QoS 0
    let dup = dup && qos != QoS::AtMostOnce;
    (PacketType::Publish as u8) << 4 | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain)
}
