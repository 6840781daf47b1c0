//! Bytes to packets: views into the received bytes, nothing allocated, linear in the length of the packet.
//!
//! Everything that the standard calls malformed or a protocol error and that a single packet can show is refused here; what depends on
//! the session, the direction or a setting is the broker's business. Packets of both directions are read, since our own clients use
//! this too. CONNECT, SUBSCRIBE with UNSUBSCRIBE, and the reason codes have files of their own.

mod connect;
mod reason;
mod subscribe;

pub use connect::{ConnectError, decode_connect};

use super::frame::check_first;
use super::packet::{Ack, Auth, Connack, Disconnect, Packet, Publish, Suback};
use super::properties::{Properties, PublishProperties};
use super::property;
use super::types::{DecodeError, PacketType, QoS, ReasonCode, Version};
use super::wire::{CONTROL, Reader, has_control, may_be_control, utf8};

/// Reads one packet: `first` is its first byte, `body` all that follows the fixed header.
///
/// CONNECT brings its own version, so `version` plays no part in it; call [`decode_connect`] to tell its errors apart.
///
/// Errors: what to tell a 5.0 peer, and why.
pub fn decode<'a>(version: Version, first: u8, body: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
    let kind = check_first(version, first)?;
    match kind {
        PacketType::Connect => decode_connect(body).map(Packet::Connect).map_err(DecodeError::from),
        PacketType::Connack => connack(version, body).map(Packet::Connack),
        PacketType::Publish => decode_publish(version, first, body).map(Packet::Publish),
        PacketType::Puback => ack(version, kind, body).map(Packet::Puback),
        PacketType::Pubrec => ack(version, kind, body).map(Packet::Pubrec),
        PacketType::Pubrel => ack(version, kind, body).map(Packet::Pubrel),
        PacketType::Pubcomp => ack(version, kind, body).map(Packet::Pubcomp),
        PacketType::Subscribe => subscribe::subscribe(version, body).map(Packet::Subscribe),
        PacketType::Suback => suback(version, kind, body).map(Packet::Suback),
        PacketType::Unsubscribe => subscribe::unsubscribe(version, body).map(Packet::Unsubscribe),
        PacketType::Unsuback => suback(version, kind, body).map(Packet::Unsuback),
        PacketType::Pingreq => Reader::new(body).finish().map(|()| Packet::Pingreq),
        PacketType::Pingresp => Reader::new(body).finish().map(|()| Packet::Pingresp),
        PacketType::Disconnect => disconnect(version, body).map(Packet::Disconnect),
        PacketType::Auth => auth(version, body).map(Packet::Auth),
    }
}

/// Reads a PUBLISH, the one packet whose cost counts; `first` has passed [`super::frame::peek`].
///
/// Errors: as [`decode`]; a wildcard in the topic is 0x90.
#[inline]
pub fn decode_publish<'a>(version: Version, first: u8, body: &'a [u8]) -> Result<Publish<'a>, DecodeError> {
    // [MQTT-3.3.1-4] [MQTT-3.3.1-2]
    let qos = QoS::from_bits((first >> 1) & 3).ok_or(DecodeError::malformed("PUBLISH with both QoS bits set"))?;
    let dup = first & 8 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("PUBLISH with DUP at QoS 0"));
    }
    let mut reader = Reader::new(body);
    let topic = publish_topic(&mut reader)?;
    // [MQTT-2.3.1-5] [MQTT-2.2.1-2] none at QoS 0
    let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
    let properties = if version.is_v5() { PublishProperties::parse(property_block(&mut reader)?)? } else { PublishProperties::default() };
    if topic.is_empty() {
        // [MQTT-4.7.3-1]
        match version {
            Version::V5 if properties.topic_alias != 0 => {}
            Version::V5 => return Err(DecodeError::protocol("PUBLISH with neither topic name nor topic alias")),
            _ => return Err(DecodeError::malformed("PUBLISH with an empty topic name")),
        }
    }
    Ok(Publish { dup, qos, retain: first & 1 != 0, topic, packet_id, properties, payload: reader.rest() })
}

/// A topic name or nothing. One pass finds control characters and wildcards together, as both are rare. [MQTT-3.3.2-1] [MQTT-3.3.2-2]
#[inline]
fn publish_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = utf8(reader.binary()?)?;
    let suspicious = topic.bytes().fold(false, |found, byte| found | may_be_control(byte) | (byte == b'+') | (byte == b'#'));
    if suspicious { check_suspicious(topic) } else { Ok(topic) }
}

#[cold]
fn check_suspicious(topic: &str) -> Result<&str, DecodeError> {
    if has_control(topic) {
        return Err(CONTROL);
    }
    if topic.contains(['+', '#']) {
        return Err(DecodeError { reason: ReasonCode::TOPIC_NAME_INVALID, what: "topic name contains a wildcard" });
    }
    Ok(topic)
}

/// The property block that follows, without its length.
#[inline]
fn property_block<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let len = reader.var_int()?;
    reader.take(len as usize)
}

/// The properties that follow, in versions that have them.
fn properties<'a>(version: Version, kind: PacketType, reader: &mut Reader<'a>) -> Result<Properties<'a>, DecodeError> {
    if !version.is_v5() {
        return Ok(Properties::default());
    }
    Properties::parse(property_block(reader)?, property::allowed(kind))
}

/// A reason code and properties to the end of the packet; either may be left out at the end of a 5.0 packet.
fn reason_and_properties<'a>(kind: PacketType, mut reader: Reader<'a>) -> Result<(ReasonCode, Properties<'a>), DecodeError> {
    let reason = if reader.is_empty() { ReasonCode::SUCCESS } else { ReasonCode(reader.u8()?) };
    reason::check(Version::V5, kind, reason.0)?;
    let properties = if reader.is_empty() { Properties::default() } else { properties(Version::V5, kind, &mut reader)? };
    reader.finish()?;
    Ok((reason, properties))
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP: two bytes in 3.x, two or more in 5.0.
fn ack(version: Version, kind: PacketType, body: &[u8]) -> Result<Ack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if !version.is_v5() {
        reader.finish()?;
        return Ok(Ack { packet_id, reason: ReasonCode::SUCCESS, properties: Properties::default() });
    }
    let (reason, properties) = reason_and_properties(kind, reader)?;
    Ok(Ack { packet_id, reason, properties })
}

fn connack(version: Version, body: &[u8]) -> Result<Connack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    let code = reader.u8()?;
    // In 3.1 the first byte is reserved and means nothing.
    let session_present = version != Version::V31 && flags == 1;
    if flags > 1 && version != Version::V31 {
        return Err(DecodeError::malformed("reserved CONNACK flags are set")); // [MQTT-3.2.2-1] of 5.0
    }
    reason::check(version, PacketType::Connack, code)?;
    if session_present && code != 0 {
        // [MQTT-3.2.2-4] of 3.1.1, [MQTT-3.2.2-6] of 5.0
        return Err(DecodeError::protocol("CONNACK refuses and yet has a session"));
    }
    let properties = properties(version, PacketType::Connack, &mut reader)?;
    reader.finish()?;
    Ok(Connack { session_present, code, properties })
}

/// SUBACK and UNSUBACK: at least one code, but none in an UNSUBACK of 3.x.
fn suback(version: Version, kind: PacketType, body: &[u8]) -> Result<Suback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = properties(version, kind, &mut reader)?;
    let codes = reader.rest();
    if kind == PacketType::Unsuback && !version.is_v5() {
        reader.finish()?;
    } else if codes.is_empty() {
        return Err(DecodeError::malformed("acknowledgement without a code"));
    }
    codes.iter().try_for_each(|&code| reason::check(version, kind, code))?;
    Ok(Suback { packet_id, properties, codes })
}

fn disconnect(version: Version, body: &[u8]) -> Result<Disconnect<'_>, DecodeError> {
    let reader = Reader::new(body);
    if !version.is_v5() {
        reader.finish()?;
    }
    let (reason, properties) = reason_and_properties(PacketType::Disconnect, reader)?;
    Ok(Disconnect { reason, properties })
}

/// AUTH: a method must be named, unless nothing is said at all (5.0 section 3.15.2.1).
fn auth(version: Version, body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    if !version.is_v5() {
        return Err(DecodeError::malformed("AUTH exists in 5.0 only"));
    }
    let (reason, properties) = reason_and_properties(PacketType::Auth, Reader::new(body))?;
    if properties.auth_method.is_none() && reason != ReasonCode::SUCCESS {
        return Err(DecodeError::protocol("AUTH without an authentication method"));
    }
    Ok(Auth { reason, properties })
}
