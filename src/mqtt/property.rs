//! The table of 5.0 section 2.2.2.2: which property has which number and type, and which packet may carry it.
//!
//! Every number is below 64, so a set of properties is a `u64`; that is also how duplicates are found, in constant space and linear time.

use super::types::{DecodeError, PacketType};
use super::wire::Reader;

pub(crate) const PAYLOAD_FORMAT: u8 = 1;
pub(crate) const MESSAGE_EXPIRY: u8 = 2;
pub(crate) const CONTENT_TYPE: u8 = 3;
pub(crate) const RESPONSE_TOPIC: u8 = 8;
pub(crate) const CORRELATION_DATA: u8 = 9;
pub(crate) const SUBSCRIPTION_ID: u8 = 11;
pub(crate) const SESSION_EXPIRY: u8 = 17;
pub(crate) const ASSIGNED_CLIENT_ID: u8 = 18;
pub(crate) const SERVER_KEEP_ALIVE: u8 = 19;
pub(crate) const AUTH_METHOD: u8 = 21;
pub(crate) const AUTH_DATA: u8 = 22;
pub(crate) const REQUEST_PROBLEM: u8 = 23;
pub(crate) const WILL_DELAY: u8 = 24;
pub(crate) const REQUEST_RESPONSE: u8 = 25;
pub(crate) const RESPONSE_INFORMATION: u8 = 26;
pub(crate) const SERVER_REFERENCE: u8 = 28;
pub(crate) const REASON_STRING: u8 = 31;
pub(crate) const RECEIVE_MAXIMUM: u8 = 33;
pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 34;
pub(crate) const TOPIC_ALIAS: u8 = 35;
pub(crate) const MAXIMUM_QOS: u8 = 36;
pub(crate) const RETAIN_AVAILABLE: u8 = 37;
pub(crate) const USER: u8 = 38;
pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 39;
pub(crate) const WILDCARD_AVAILABLE: u8 = 40;
pub(crate) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 41;
pub(crate) const SHARED_AVAILABLE: u8 = 42;

/// A set of property numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) const EMPTY: Set = Set(0);

    pub(crate) const fn of(ids: &[u8]) -> Set {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= 1 << ids[index];
            index += 1;
        }
        Set(bits)
    }

    #[inline]
    pub(crate) fn contains(self, id: u8) -> bool {
        id < 64 && self.0 & (1 << id) != 0
    }

    /// Adds `id` (below 64) and says whether it was new.
    #[inline]
    fn insert(&mut self, id: u8) -> bool {
        let new = !self.contains(id);
        self.0 |= 1 << id;
        new
    }
}

pub(crate) const WILL: Set = Set::of(&[PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, WILL_DELAY, USER]);
pub(crate) const PUBLISH: Set =
    Set::of(&[PAYLOAD_FORMAT, MESSAGE_EXPIRY, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, SUBSCRIPTION_ID, TOPIC_ALIAS, USER]);
const CONNECT: Set = Set::of(&[
    SESSION_EXPIRY,
    AUTH_METHOD,
    AUTH_DATA,
    REQUEST_PROBLEM,
    REQUEST_RESPONSE,
    RECEIVE_MAXIMUM,
    TOPIC_ALIAS_MAXIMUM,
    USER,
    MAXIMUM_PACKET_SIZE,
]);
const CONNACK: Set = Set::of(&[
    SESSION_EXPIRY,
    ASSIGNED_CLIENT_ID,
    SERVER_KEEP_ALIVE,
    AUTH_METHOD,
    AUTH_DATA,
    RESPONSE_INFORMATION,
    SERVER_REFERENCE,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    TOPIC_ALIAS_MAXIMUM,
    MAXIMUM_QOS,
    RETAIN_AVAILABLE,
    USER,
    MAXIMUM_PACKET_SIZE,
    WILDCARD_AVAILABLE,
    SUBSCRIPTION_IDS_AVAILABLE,
    SHARED_AVAILABLE,
]);

/// The properties that a packet of this type may carry.
pub(crate) const fn allowed(kind: PacketType) -> Set {
    match kind {
        PacketType::Connect => CONNECT,
        PacketType::Connack => CONNACK,
        PacketType::Publish => PUBLISH,
        PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp | PacketType::Suback | PacketType::Unsuback => {
            Set::of(&[REASON_STRING, USER])
        }
        PacketType::Subscribe => Set::of(&[SUBSCRIPTION_ID, USER]),
        PacketType::Unsubscribe => Set::of(&[USER]),
        PacketType::Disconnect => Set::of(&[SESSION_EXPIRY, SERVER_REFERENCE, REASON_STRING, USER]),
        PacketType::Auth => Set::of(&[AUTH_METHOD, AUTH_DATA, REASON_STRING, USER]),
        PacketType::Pingreq | PacketType::Pingresp => Set::EMPTY,
    }
}

/// Reads the number of the next property and checks that it may stand here.
///
/// Errors: one that is unknown or not for this packet is malformed (5.0 section 2.2.2.2), one that comes twice is a protocol error.
#[inline]
pub(crate) fn next_id(reader: &mut Reader<'_>, allowed: Set, seen: &mut Set) -> Result<u8, DecodeError> {
    let id = reader.u8()?;
    if !allowed.contains(id) {
        return Err(DecodeError::malformed("property is unknown or not allowed in this packet"));
    }
    let may_repeat = id == USER || (id == SUBSCRIPTION_ID && allowed == PUBLISH);
    if !seen.insert(id) && !may_repeat {
        return Err(DecodeError::protocol("property included more than once"));
    }
    Ok(id)
}

/// Passes over the value of property `id`, which has been checked before.
pub(crate) fn skip_value(id: u8, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match id {
        PAYLOAD_FORMAT
        | REQUEST_PROBLEM
        | REQUEST_RESPONSE
        | MAXIMUM_QOS
        | RETAIN_AVAILABLE
        | WILDCARD_AVAILABLE
        | SUBSCRIPTION_IDS_AVAILABLE
        | SHARED_AVAILABLE => reader.u8().map(drop),
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => reader.u16().map(drop),
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => reader.u32().map(drop),
        SUBSCRIPTION_ID => reader.var_int().map(drop),
        USER => reader.binary().and_then(|_| reader.binary()).map(drop),
        _ => reader.binary().map(drop),
    }
}
