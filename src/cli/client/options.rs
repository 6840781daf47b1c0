//! What a client wants: where to connect, as whom, and what to publish.

use std::net::IpAddr;

use super::OwnedProperties;
use crate::mqtt::{QoS, Version};

/// How to connect.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectOptions {
    /// Name or address of the broker.
    pub host: String,
    pub port: u16,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
    pub version: Version,
    /// Empty: the broker chooses one (not in 3.1).
    pub client_id: String,
    pub clean_start: bool,
    /// Seconds; 0 switches the keep-alive off.
    pub keep_alive_s: u16,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    /// What the broker publishes when the connection ends without DISCONNECT.
    pub will: Option<Message>,
    /// Properties of CONNECT (5.0).
    pub properties: OwnedProperties,
    /// QoS 1 and 2 messages that may be on the way at once; the broker's Receive Maximum lowers it.
    pub max_inflight: u16,
    /// Whether to write a line to standard error for each packet.
    pub trace: bool,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            host: "localhost".to_owned(),
            port: 1883,
            bind: None,
            version: Version::V311,
            client_id: String::new(),
            clean_start: true,
            keep_alive_s: 60,
            user_name: None,
            password: None,
            will: None,
            properties: OwnedProperties::default(),
            max_inflight: 20,
            trace: false,
        }
    }
}

/// An application message to publish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    /// 5.0 only.
    pub properties: OwnedProperties,
}

impl Message {
    /// A QoS 0 message without anything else.
    pub fn new(topic: impl Into<String>, payload: impl Into<Vec<u8>>) -> Message {
        Message { topic: topic.into(), payload: payload.into(), ..Message::default() }
    }
}
