//! MQTT 5 properties that a client sets, owned; each packet takes those that it may carry.

use crate::mqtt::{DecodeError, Properties, UserProperties};

/// The properties that a client can send, absent ones `None`. Units as in [`Properties`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnedProperties {
    pub payload_format: Option<u8>,
    pub message_expiry: Option<u32>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Vec<u8>>,
    pub subscription_id: Option<u32>,
    pub session_expiry: Option<u32>,
    pub auth_method: Option<String>,
    pub auth_data: Option<Vec<u8>>,
    pub request_problem: Option<bool>,
    pub request_response: Option<bool>,
    pub will_delay: Option<u32>,
    pub receive_maximum: Option<u16>,
    pub topic_alias_maximum: Option<u16>,
    pub topic_alias: Option<u16>,
    pub maximum_packet_size: Option<u32>,
    /// In order; a name may come more than once.
    pub user: Vec<(String, String)>,
}

impl OwnedProperties {
    /// A view for the encoder; `scratch` holds the user properties.
    ///
    /// # Errors
    /// User properties that MQTT does not allow, such as a NUL character.
    pub(super) fn view<'a>(&'a self, scratch: &'a mut Vec<u8>) -> Result<Properties<'a>, DecodeError> {
        UserProperties::encode(self.user.iter().map(|(name, value)| (name.as_str(), value.as_str())), scratch);
        Ok(Properties {
            payload_format: self.payload_format,
            message_expiry: self.message_expiry,
            content_type: self.content_type.as_deref(),
            response_topic: self.response_topic.as_deref(),
            correlation_data: self.correlation_data.as_deref(),
            subscription_id: self.subscription_id,
            session_expiry: self.session_expiry,
            auth_method: self.auth_method.as_deref(),
            auth_data: self.auth_data.as_deref(),
            request_problem: self.request_problem,
            request_response: self.request_response,
            will_delay: self.will_delay,
            receive_maximum: self.receive_maximum,
            topic_alias_maximum: self.topic_alias_maximum,
            topic_alias: self.topic_alias,
            maximum_packet_size: self.maximum_packet_size,
            user: UserProperties::new(scratch)?,
            ..Properties::default()
        })
    }
}
