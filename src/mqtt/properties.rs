//! MQTT 5 properties as borrowed views (5.0 section 2.2.2). All other packets use [`Properties`]; PUBLISH, the hot one, has a light view.

use super::property::{self, Set};
use super::topic::TopicName;
use super::types::{DecodeError, QoS, ReasonCode};
use super::wire::{Reader, put_string};

/// Every property that any packet but PUBLISH can carry (and PUBLISH too, through [`PublishProperties::all`]); absent ones are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Properties<'a> {
    pub payload_format: Option<u8>,
    /// Seconds.
    pub message_expiry: Option<u32>,
    pub content_type: Option<&'a str>,
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    /// The first subscription identifier; PUBLISH may carry several, see [`PublishProperties::subscription_ids`].
    pub subscription_id: Option<u32>,
    /// Seconds; `u32::MAX` never expires.
    pub session_expiry: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    /// Seconds.
    pub server_keep_alive: Option<u16>,
    pub auth_method: Option<&'a str>,
    pub auth_data: Option<&'a [u8]>,
    pub request_problem: Option<bool>,
    /// Seconds.
    pub will_delay: Option<u32>,
    pub request_response: Option<bool>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub reason_string: Option<&'a str>,
    pub receive_maximum: Option<u16>,
    pub topic_alias_maximum: Option<u16>,
    pub topic_alias: Option<u16>,
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    pub user: UserProperties<'a>,
    /// Bytes.
    pub maximum_packet_size: Option<u32>,
    pub wildcard_available: Option<bool>,
    pub subscription_ids_available: Option<bool>,
    pub shared_available: Option<bool>,
}

/// The user properties of a packet, in order: the stretch of the property block from the first to the last, walked on demand.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserProperties<'a>(pub(crate) &'a [u8]);

/// The properties of a PUBLISH: what routing needs, and the block itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishProperties<'a> {
    /// The property block without its length; well-formed once decoded.
    pub raw: &'a [u8],
    /// Seconds.
    pub message_expiry: Option<u32>,
    /// 0 where none is given.
    pub topic_alias: u16,
    /// Whether the block holds no alias, expiry or subscription identifier, so that `raw` may be forwarded as it is.
    pub forward_as_is: bool,
}

impl<'a> Properties<'a> {
    /// Reads a whole property block.
    pub(crate) fn parse(block: &'a [u8], allowed: Set) -> Result<Properties<'a>, DecodeError> {
        let mut properties = Properties::default();
        let mut reader = Reader::new(block);
        let mut seen = Set::EMPTY;
        let mut user = 0..0;
        while !reader.is_empty() {
            let start = block.len() - reader.rest().len();
            let id = property::next_id(&mut reader, allowed, &mut seen)?;
            properties.read_value(id, &mut reader)?;
            if id == property::USER {
                user.start = if user.is_empty() { start } else { user.start };
                user.end = block.len() - reader.rest().len();
            }
        }
        properties.user = UserProperties(&block[user]);
        if properties.auth_data.is_some() && properties.auth_method.is_none() {
            return Err(DecodeError::protocol("authentication data without a method"));
        }
        Ok(properties)
    }

    /// Reads the value of property `id`; one flat match.
    fn read_value(&mut self, id: u8, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        match id {
            property::PAYLOAD_FORMAT => self.payload_format = Some(u8::from(flag(reader)?)),
            property::MESSAGE_EXPIRY => self.message_expiry = Some(reader.u32()?),
            // [MQTT-3.3.2-19]
            property::CONTENT_TYPE => self.content_type = Some(reader.string()?),
            property::RESPONSE_TOPIC => self.response_topic = Some(response_topic(reader)?),
            property::CORRELATION_DATA => self.correlation_data = Some(reader.binary()?),
            property::SUBSCRIPTION_ID => {
                let subscription_id = subscription_id(reader)?;
                self.subscription_id.get_or_insert(subscription_id);
            }
            property::SESSION_EXPIRY => self.session_expiry = Some(reader.u32()?),
            property::ASSIGNED_CLIENT_ID => self.assigned_client_id = Some(reader.string()?),
            property::SERVER_KEEP_ALIVE => self.server_keep_alive = Some(reader.u16()?),
            property::AUTH_METHOD => self.auth_method = Some(reader.string()?),
            property::AUTH_DATA => self.auth_data = Some(reader.binary()?),
            property::REQUEST_PROBLEM => self.request_problem = Some(flag(reader)?),
            property::WILL_DELAY => self.will_delay = Some(reader.u32()?),
            property::REQUEST_RESPONSE => self.request_response = Some(flag(reader)?),
            property::RESPONSE_INFORMATION => self.response_information = Some(reader.string()?),
            property::SERVER_REFERENCE => self.server_reference = Some(reader.string()?),
            property::REASON_STRING => self.reason_string = Some(reader.string()?),
            property::RECEIVE_MAXIMUM => self.receive_maximum = Some(non_zero(reader.u16()?, "receive maximum 0")?),
            property::TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = Some(reader.u16()?),
            property::TOPIC_ALIAS => self.topic_alias = Some(topic_alias(reader)?),
            property::MAXIMUM_QOS => self.maximum_qos = QoS::from_bits(u8::from(flag(reader)?)),
            property::RETAIN_AVAILABLE => self.retain_available = Some(flag(reader)?),
            property::USER => user_property(reader).map(drop)?,
            property::MAXIMUM_PACKET_SIZE => self.maximum_packet_size = Some(non_zero(reader.u32()?, "maximum packet size 0")?),
            property::WILDCARD_AVAILABLE => self.wildcard_available = Some(flag(reader)?),
            property::SUBSCRIPTION_IDS_AVAILABLE => self.subscription_ids_available = Some(flag(reader)?),
            property::SHARED_AVAILABLE => self.shared_available = Some(flag(reader)?),
            _ => return Err(DecodeError::malformed("unknown property")),
        }
        Ok(())
    }

    /// The same without reason string and user properties, for a client that asked for no problem information. [MQTT-3.1.2-29]
    pub fn without_problem_info(mut self) -> Properties<'a> {
        self.reason_string = None;
        self.user = UserProperties::default();
        self
    }
}

impl<'a> UserProperties<'a> {
    /// Appends name and value pairs in the form that [`UserProperties::new`] views.
    pub fn encode<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>, out: &mut Vec<u8>) {
        for (name, value) in pairs {
            out.push(property::USER);
            put_string(out, name);
            put_string(out, value);
        }
    }

    /// A view of encoded user properties.
    ///
    /// Errors: `block` holds anything else, or strings that are not allowed.
    pub fn new(block: &'a [u8]) -> Result<UserProperties<'a>, DecodeError> {
        Properties::parse(block, Set::of(&[property::USER])).map(|properties| properties.user)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in the order of the packet; a name may come more than once.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Walk { reader: Reader::new(self.0) }
            .filter(|one| one.id == property::USER)
            .filter_map(|one| user_property(&mut Reader::new(one.value)).ok())
    }
}

/// Equal if the pairs and their order are, whatever other properties stand between them.
impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Default for PublishProperties<'_> {
    fn default() -> Self {
        PublishProperties { raw: &[], message_expiry: None, topic_alias: 0, forward_as_is: true }
    }
}

impl<'a> PublishProperties<'a> {
    /// Checks a property block in one pass and notes what routing needs.
    #[inline]
    pub(crate) fn parse(block: &'a [u8]) -> Result<PublishProperties<'a>, DecodeError> {
        if block.is_empty() {
            return Ok(PublishProperties::default());
        }
        PublishProperties::scan(block)
    }

    fn scan(block: &'a [u8]) -> Result<PublishProperties<'a>, DecodeError> {
        let mut properties = PublishProperties { raw: block, ..PublishProperties::default() };
        let mut reader = Reader::new(block);
        let mut seen = Set::EMPTY;
        while !reader.is_empty() {
            let id = property::next_id(&mut reader, property::PUBLISH, &mut seen)?;
            properties.forward_as_is &= !HOP_BY_HOP.contains(id);
            match id {
                property::PAYLOAD_FORMAT => flag(&mut reader).map(drop)?,
                property::MESSAGE_EXPIRY => properties.message_expiry = Some(reader.u32()?),
                // [MQTT-3.3.2-19]
                property::CONTENT_TYPE => reader.string().map(drop)?,
                property::RESPONSE_TOPIC => response_topic(&mut reader).map(drop)?,
                property::CORRELATION_DATA => reader.binary().map(drop)?,
                property::SUBSCRIPTION_ID => subscription_id(&mut reader).map(drop)?,
                property::TOPIC_ALIAS => properties.topic_alias = topic_alias(&mut reader)?,
                _ => user_property(&mut reader).map(drop)?,
            }
        }
        Ok(properties)
    }

    /// Every property, for slow paths such as the history or a command-line client.
    pub fn all(&self) -> Properties<'a> {
        // A decoded block has been checked already; a hand-made one that is wrong counts as empty.
        Properties::parse(self.raw, property::PUBLISH).unwrap_or_default()
    }

    /// The subscription identifiers in order. Only a server may send them. [MQTT-3.3.4-6]
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        let block = if self.forward_as_is { &[] } else { self.raw };
        Walk { reader: Reader::new(block) }
            .filter(|one| one.id == property::SUBSCRIPTION_ID)
            .filter_map(|one| Reader::new(one.value).var_int().ok())
    }

    /// Appends what a subscriber must be given unaltered and in order: all but topic alias, message expiry and subscription identifiers.
    /// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
    pub fn forward_into(&self, out: &mut Vec<u8>) {
        if self.forward_as_is {
            out.extend_from_slice(self.raw);
            return;
        }
        for one in (Walk { reader: Reader::new(self.raw) }).filter(|one| !HOP_BY_HOP.contains(one.id)) {
            out.push(one.id);
            out.extend_from_slice(one.value);
        }
    }
}

/// The properties of a PUBLISH that each hop sets anew.
const HOP_BY_HOP: Set = Set::of(&[property::MESSAGE_EXPIRY, property::SUBSCRIPTION_ID, property::TOPIC_ALIAS]);

/// One property of a block that has been checked before.
struct OneProperty<'a> {
    id: u8,
    value: &'a [u8],
}

/// Walks a checked block; ends early on a block that nobody checked.
struct Walk<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = OneProperty<'a>;

    fn next(&mut self) -> Option<OneProperty<'a>> {
        let id = self.reader.u8().ok()?;
        let from = self.reader.rest();
        property::skip_value(id, &mut self.reader).ok()?;
        Some(OneProperty { id, value: &from[..from.len() - self.reader.rest().len()] })
    }
}

/// [MQTT-1.5.7-1]
fn user_property<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
    Ok((reader.string()?, reader.string()?))
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("property must be 0 or 1")),
    }
}

fn non_zero<T: Default + PartialEq>(value: T, what: &'static str) -> Result<T, DecodeError> {
    if value == T::default() { Err(DecodeError::protocol(what)) } else { Ok(value) }
}

fn subscription_id(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    non_zero(reader.var_int()?, "subscription identifier 0")
}

/// [MQTT-3.3.2-8]
fn topic_alias(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    match reader.u16()? {
        0 => Err(DecodeError { reason: ReasonCode::TOPIC_ALIAS_INVALID, what: "topic alias 0" }),
        alias => Ok(alias),
    }
}

/// [MQTT-3.3.2-13] [MQTT-3.3.2-14] and, in a will, [MQTT-4.7.3-1]
fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = reader.string()?;
    TopicName::new(topic).map_err(|_| DecodeError::protocol("response topic is empty or has a wildcard"))?;
    Ok(topic)
}
