//! Control packets as bytes, written down from the standard.

use super::property;
use super::{V5, V31, Version};

/// A packet: first byte, remaining length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &var_int(body.len() as u32), body].concat()
}

/// A variable byte integer in the fewest bytes.
pub fn var_int(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = if value > 127 { 0x80 } else { 0 };
        bytes.push((value & 0x7F) as u8 | more);
        value >>= 7;
        if value == 0 {
            return bytes;
        }
    }
}

/// Reads a variable byte integer; gives its value and length.
pub fn read_var_int(bytes: &[u8]) -> Option<(usize, usize)> {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let value = bytes[..length].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7F));
    Some((value, length))
}

/// A string or binary field.
pub fn field(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a field of at most 65,535 bytes");
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A property block with its length.
pub fn block(properties: &[u8]) -> Vec<u8> {
    [var_int(properties.len() as u32), properties.to_vec()].concat()
}

pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const PINGRESP: [u8; 2] = [0xD0, 0];
/// DISCONNECT with reason 0x00, in every version.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A DISCONNECT of 5.0 with a reason; without properties.
pub fn disconnect(reason: u8) -> Vec<u8> {
    packet(0xE0, &[reason])
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP without a reason.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

pub fn puback(id: u16) -> Vec<u8> {
    ack(0x40, id)
}

pub fn pubrec(id: u16) -> Vec<u8> {
    ack(0x50, id)
}

pub fn pubrel(id: u16) -> Vec<u8> {
    ack(0x62, id)
}

pub fn pubcomp(id: u16) -> Vec<u8> {
    ack(0x70, id)
}

/// The same four with a reason code of 5.0.
pub fn ack_with(first: u8, id: u16, reason: u8) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()[..], &[reason]].concat())
}

/// SUBSCRIBE; each filter with its options byte.
pub fn subscribe(version: Version, id: u16, properties: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == V5 {
        body.extend(block(properties));
    }
    for (filter, options) in filters {
        body.extend(field(filter.as_bytes()));
        body.push(*options);
    }
    packet(0x82, &body)
}

pub fn suback(version: Version, id: u16, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == V5 { &[0] } else { &[] };
    packet(0x90, &[&id.to_be_bytes()[..], properties, codes].concat())
}

pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == V5 {
        body.push(0);
    }
    filters.iter().for_each(|filter| body.extend(field(filter.as_bytes())));
    packet(0xA2, &body)
}

/// UNSUBACK; the codes are left out where the version has none.
pub fn unsuback(version: Version, id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == V5 {
        body.push(0);
        body.extend(codes);
    }
    packet(0xB0, &body)
}

/// The will in a CONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    /// 5.0 only.
    pub properties: Vec<u8>,
}

impl Will {
    /// QoS 0, not retained.
    pub fn new(topic: &str, payload: &str) -> Will {
        Will { topic: topic.into(), payload: payload.into(), qos: 0, retain: false, properties: Vec::new() }
    }

    pub fn qos(self, qos: u8) -> Will {
        Will { qos, ..self }
    }

    pub fn retain(self) -> Will {
        Will { retain: true, ..self }
    }

    pub fn properties(self, properties: &[Vec<u8>]) -> Will {
        Will { properties: properties.concat(), ..self }
    }
}

/// CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean_start: bool,
    /// Seconds.
    pub keep_alive: u16,
    pub will: Option<Will>,
    pub properties: Vec<u8>,
}

impl Connect {
    /// Clean start, no keep-alive.
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect { version, client_id: client_id.into(), clean_start: true, keep_alive: 0, will: None, properties: Vec::new() }
    }

    /// Goes on with the session that there may be.
    pub fn resume(self) -> Connect {
        Connect { clean_start: false, ..self }
    }

    /// A session that outlives the connection: without clean session in 3.x, with a session expiry of `seconds` in 5.0.
    pub fn durable(self, seconds: u32) -> Connect {
        let connect = self.resume();
        if connect.version == V5 { connect.properties(&[property::session_expiry(seconds)]) } else { connect }
    }

    pub fn keep_alive(self, seconds: u16) -> Connect {
        Connect { keep_alive: seconds, ..self }
    }

    pub fn will(self, will: Will) -> Connect {
        Connect { will: Some(will), ..self }
    }

    /// Adds properties.
    pub fn properties(mut self, properties: &[Vec<u8>]) -> Connect {
        self.properties.extend(properties.concat());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = field(if self.version == V31 { b"MQIsdp" } else { b"MQTT" });
        let will = self.will.as_ref().map_or(0, |will| 0x04 | will.qos << 3 | u8::from(will.retain) << 5);
        body.extend([self.version as u8, will | u8::from(self.clean_start) << 1]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == V5 {
            body.extend(block(&self.properties));
        }
        body.extend(field(self.client_id.as_bytes()));
        if let Some(will) = &self.will {
            if self.version == V5 {
                body.extend(block(&will.properties));
            }
            body.extend(field(will.topic.as_bytes()));
            body.extend(field(&will.payload));
        }
        packet(0x10, &body)
    }
}

/// What a CONNACK said.
#[derive(Clone, Debug, Default)]
pub struct Connack {
    pub session_present: bool,
    pub code: u8,
    /// Number and value.
    pub properties: Vec<(u8, Vec<u8>)>,
}

impl Connack {
    pub fn parse(version: Version, bytes: &[u8]) -> Connack {
        assert_eq!(bytes[0], 0x20, "not a CONNACK: {bytes:02x?}");
        let (length, length_bytes) = read_var_int(&bytes[1..]).expect("a whole packet");
        let body = &bytes[1 + length_bytes..];
        assert_eq!(body.len(), length);
        assert!(body[0] <= 1, "reserved CONNACK flags are set: {bytes:02x?}");
        let properties = if version == V5 {
            let (length, length_bytes) = read_var_int(&body[2..]).expect("a property length");
            assert_eq!(body.len(), 2 + length_bytes + length);
            property::parse(&body[2 + length_bytes..])
        } else {
            assert_eq!(body.len(), 2);
            Vec::new()
        };
        Connack { session_present: body[0] == 1, code: body[1], properties }
    }

    /// The value of a property that may stand there once.
    pub fn property(&self, id: u8) -> Option<&[u8]> {
        self.properties.iter().find(|(found, _)| *found == id).map(|(_, value)| &value[..])
    }
}

/// PUBLISH, to be sent or as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub version: Version,
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    /// 0 at QoS 0.
    pub id: u16,
    /// Without length; 5.0 only.
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Publish {
    /// QoS 0.
    pub fn new(version: Version, topic: &str, payload: &str) -> Publish {
        let payload = payload.as_bytes().to_vec();
        Publish { version, dup: false, qos: 0, retain: false, topic: topic.into(), id: 0, properties: Vec::new(), payload }
    }

    pub fn qos(self, qos: u8, id: u16) -> Publish {
        Publish { qos, id, ..self }
    }

    pub fn retain(self) -> Publish {
        Publish { retain: true, ..self }
    }

    pub fn dup(self) -> Publish {
        Publish { dup: true, ..self }
    }

    pub fn properties(self, properties: &[Vec<u8>]) -> Publish {
        Publish { properties: properties.concat(), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = field(self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if self.version == V5 {
            body.extend(block(&self.properties));
        }
        body.extend(&self.payload);
        packet(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }

    pub fn parse(version: Version, bytes: &[u8]) -> Publish {
        assert_eq!(bytes[0] >> 4, 3, "not a PUBLISH: {bytes:02x?}");
        let (_, length_bytes) = read_var_int(&bytes[1..]).expect("a whole packet");
        let body = &bytes[1 + length_bytes..];
        let (topic, mut rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
        let qos = bytes[0] >> 1 & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            assert_ne!(id, 0, "packet identifier 0");
            rest = &rest[2..];
        }
        let mut properties = &rest[..0];
        if version == V5 {
            let (length, length_bytes) = read_var_int(rest).expect("a property length");
            (properties, rest) = rest[length_bytes..].split_at(length);
        }
        Publish {
            version,
            dup: bytes[0] & 8 != 0,
            qos,
            retain: bytes[0] & 1 != 0,
            topic: String::from_utf8(topic.to_vec()).expect("a topic name is UTF-8"),
            id,
            properties: properties.to_vec(),
            payload: rest.to_vec(),
        }
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the tests publish text")
    }

    /// The values of all properties with this number.
    pub fn property(&self, id: u8) -> Vec<Vec<u8>> {
        property::parse(&self.properties).into_iter().filter(|(found, _)| *found == id).map(|(_, value)| value).collect()
    }

    /// The subscription identifiers, sorted.
    pub fn subscription_ids(&self) -> Vec<usize> {
        let mut ids: Vec<_> = self.property(0x0B).iter().filter_map(|value| read_var_int(value)).map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }
}
