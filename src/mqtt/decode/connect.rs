//! CONNECT (section 3.1): the packet that says which version all others are in.

use super::super::packet::{Connect, Will};
use super::super::properties::Properties;
use super::super::property;
use super::super::topic::{TopicError, TopicName};
use super::super::types::{DecodeError, PacketType, QoS, ReasonCode, Version};
use super::super::wire::Reader;
use super::{properties, property_block};

/// Why a CONNECT is refused; the answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The protocol name is neither `MQTT` nor `MQIsdp`: close without an answer. [MQTT-3.1.2-1]
    ProtocolName,
    /// An MQTT that we do not speak: CONNACK 0x01, or 0x84 for levels above 4, then close. [MQTT-3.1.2-2]
    UnsupportedLevel { level: u8 },
    /// The packet is wrong. A 5.0 client (`version`) may be told by CONNACK; the others are only disconnected.
    Invalid { error: DecodeError, version: Option<Version> },
}

impl From<ConnectError> for DecodeError {
    fn from(error: ConnectError) -> DecodeError {
        match error {
            ConnectError::Invalid { error, .. } => error,
            ConnectError::ProtocolName => DecodeError { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, what: "unknown protocol name" },
            ConnectError::UnsupportedLevel { .. } => {
                DecodeError { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, what: "unsupported protocol level" }
            }
        }
    }
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        DecodeError::from(*self).fmt(f)
    }
}

impl std::error::Error for ConnectError {}

/// Reads the body of a CONNECT.
///
/// Errors: see [`ConnectError`].
pub fn decode_connect(body: &[u8]) -> Result<Connect<'_>, ConnectError> {
    let mut reader = Reader::new(body);
    let version = protocol(&mut reader)?;
    after_protocol(version, reader).map_err(|error| ConnectError::Invalid { error, version: Some(version) })
}

/// Protocol name and level. Bit 7 of the level marks a bridge, which Mosquitto sends with 3.1 and 3.1.1; such a peer is served as any other.
fn protocol(reader: &mut Reader<'_>) -> Result<Version, ConnectError> {
    let invalid = |error| ConnectError::Invalid { error, version: None };
    let name = reader.binary().map_err(invalid)?;
    if name != b"MQTT" && name != b"MQIsdp" {
        return Err(ConnectError::ProtocolName);
    }
    match (name, reader.u8().map_err(invalid)?) {
        (b"MQIsdp", 3 | 0x83) => Ok(Version::V31),
        (b"MQTT", 4 | 0x84) => Ok(Version::V311),
        (b"MQTT", 5) => Ok(Version::V5),
        (_, level) => Err(ConnectError::UnsupportedLevel { level }),
    }
}

/// The connect flags, consistent with each other.
#[derive(Clone, Copy)]
struct Flags {
    user_name: bool,
    password: bool,
    will: Option<(QoS, bool)>,
    clean_start: bool,
}

impl Flags {
    fn new(version: Version, bits: u8) -> Result<Flags, DecodeError> {
        // [MQTT-3.1.2-3]; in 3.1 the bit was merely unused
        if bits & 1 != 0 && version != Version::V31 {
            return Err(DecodeError::malformed("reserved CONNECT flag is set"));
        }
        // [MQTT-3.1.2-14] of 3.1.1, [MQTT-3.1.2-12] of 5.0
        let will_qos = QoS::from_bits((bits >> 3) & 3).ok_or(DecodeError::malformed("will QoS 3"))?;
        let will_retain = bits & 0x20 != 0;
        let will = (bits & 4 != 0).then_some((will_qos, will_retain));
        // [MQTT-3.1.2-13] [MQTT-3.1.2-15] of 3.1.1, [MQTT-3.1.2-11] [MQTT-3.1.2-13] of 5.0
        if will.is_none() && (will_retain || will_qos != QoS::AtMostOnce) {
            return Err(DecodeError::malformed("will QoS or will retain without a will"));
        }
        let (user_name, password) = (bits & 0x80 != 0, bits & 0x40 != 0);
        // [MQTT-3.1.2-22] of 3.1.1; 5.0 allows it
        if password && !user_name && !version.is_v5() {
            return Err(DecodeError::malformed("password without user name"));
        }
        Ok(Flags { user_name, password, will, clean_start: bits & 2 != 0 })
    }
}

/// What follows the protocol level; the payload's fields come in this order. [MQTT-3.1.3-1]
fn after_protocol(version: Version, mut reader: Reader<'_>) -> Result<Connect<'_>, DecodeError> {
    let flags = Flags::new(version, reader.u8()?)?;
    let keep_alive = reader.u16()?;
    let properties = properties(version, PacketType::Connect, &mut reader)?;
    // [MQTT-3.1.3-3] [MQTT-3.1.3-4]; length and emptiness are for the broker to judge
    let client_id = reader.name()?;
    let will = flags.will.map(|(qos, retain)| will(version, qos, retain, &mut reader)).transpose()?;
    // In 3.1 the remaining length takes precedence over the flags: either field may be missing at the end.
    let present = |flag: bool, reader: &Reader<'_>| flag && !(version == Version::V31 && reader.is_empty());
    // [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-12] of 5.0;
    // [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.3-11] of 3.1.1
    let user_name = if present(flags.user_name, &reader) { Some(reader.name()?) } else { None };
    let password = if present(flags.password, &reader) { Some(reader.binary()?) } else { None };
    reader.finish()?;
    Ok(Connect { version, clean_start: flags.clean_start, keep_alive, client_id, will, user_name, password, properties })
}

/// [MQTT-3.1.2-9] [MQTT-3.1.3-10] of 3.1.1, [MQTT-3.1.3-11] of 5.0
fn will<'a>(version: Version, qos: QoS, retain: bool, reader: &mut Reader<'a>) -> Result<Will<'a>, DecodeError> {
    let properties = if version.is_v5() { Properties::parse(property_block(reader)?, property::WILL)? } else { Properties::default() };
    let topic = reader.name()?;
    TopicName::new(topic).map_err(|error| match error {
        TopicError::WildcardInName => DecodeError { reason: ReasonCode::TOPIC_NAME_INVALID, what: "will topic contains a wildcard" },
        _ => DecodeError::malformed("will topic is empty"),
    })?;
    Ok(Will { topic, payload: reader.binary()?, qos, retain, properties })
}
