//! The fifteen control packets as borrowed views: a decoded packet points into the received bytes and allocates nothing.

use super::properties::{Properties, PublishProperties};
use super::types::{QoS, ReasonCode, Version};

/// Any control packet. A CONNECT with its will is large (560 bytes), but boxing it would allocate before a peer is known.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Suback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// CONNECT: the first packet of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect<'a> {
    pub version: Version,
    /// Clean session (3.x) or clean start (5.0).
    pub clean_start: bool,
    /// Seconds; 0 switches the keep-alive off.
    pub keep_alive: u16,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub properties: Properties<'a>,
}

/// The will carried by CONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Will<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties<'a>,
}

/// CONNACK. `code` is a return code 0 to 5 in 3.x, a reason code in 5.0.
#[derive(Clone, Debug, PartialEq)]
pub struct Connack<'a> {
    pub session_present: bool,
    pub code: u8,
    pub properties: Properties<'a>,
}

/// PUBLISH. `packet_id` is 0 at QoS 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty only in 5.0, together with a topic alias.
    pub topic: &'a str,
    pub packet_id: u16,
    pub properties: PublishProperties<'a>,
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug, PartialEq)]
pub struct Ack<'a> {
    pub packet_id: u16,
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

/// SUBSCRIBE: a checked list of filters with options, walked by [`Subscribe::filters`].
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    /// The payload of the packet; well-formed once decoded.
    pub(crate) entries: &'a [u8],
}

/// One entry of SUBSCRIBE. The filter is well-formed UTF-8, but its wildcards are not checked yet (see `TopicFilter::new`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeEntry<'a> {
    pub filter: &'a str,
    pub options: SubscribeOptions,
}

/// Subscription options (5.0 section 3.8.3.1); in 3.x only `qos` differs from the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Which retained messages a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// SUBACK or UNSUBACK: one code per filter (3.x UNSUBACK carries none).
#[derive(Clone, Debug, PartialEq)]
pub struct Suback<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub codes: &'a [u8],
}

/// UNSUBSCRIBE: a checked list of filters, walked by [`Unsubscribe::filters`].
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub(crate) entries: &'a [u8],
}

/// DISCONNECT. 3.x carries neither reason nor properties.
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect<'a> {
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

/// AUTH (5.0 only).
#[derive(Clone, Debug, PartialEq)]
pub struct Auth<'a> {
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}
