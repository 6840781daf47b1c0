//! MQTT 5 properties as borrowed views (5.0 section 2.2.2). All other packets use [`Properties`]; PUBLISH, the hot one, has a light view.

use super::types::QoS;

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

/// The user properties of a packet, in order: the whole property block, walked on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UserProperties<'a>(pub(crate) &'a [u8]);

/// The properties of a PUBLISH: what routing needs, and the block itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
