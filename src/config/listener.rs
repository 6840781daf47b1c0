//! Listeners: where clients connect, how many of them, and on what terms.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Durability, Limits, parse_address};

/// A socket that accepts MQTT clients over TCP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// How logs and counters call it; its address where none is given. Unique.
    #[serde(default)]
    pub name: String,
    #[serde(deserialize_with = "address")]
    pub address: SocketAddr,
    /// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
    #[serde(default = "default_backlog")]
    pub backlog: u32,

    /// Connections that are open at one time, over all shards.
    #[serde(default = "unlimited")]
    pub max_connections: u32,
    /// Of these, connections from one IPv4 address or one IPv6 network of 64 bits.
    #[serde(default = "unlimited")]
    pub max_connections_per_address: u32,
    /// New connections in a second, over all shards; those beyond are closed before anything is read from them.
    #[serde(default = "unlimited")]
    pub connects_per_second: u32,

    /// None: `limits.max_packet_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_packet_bytes: Option<u32>,
    /// None: `limits.receive_maximum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_maximum: Option<u16>,
    /// None: `limits.topic_alias_maximum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic_alias_maximum: Option<u16>,
    /// None: `limits.max_keep_alive_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keep_alive_s: Option<u16>,
    /// None: `storage.durability`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,

    /// Highest QoS of a client's publishes, and of what it is sent.
    #[serde(default = "highest_qos")]
    pub max_qos: u8,
    /// Whether a client may publish retained messages and is sent any.
    #[serde(default = "yes")]
    pub retain_available: bool,
    #[serde(default = "yes")]
    pub wildcard_available: bool,
    #[serde(default = "yes")]
    pub shared_available: bool,
    #[serde(default = "yes")]
    pub subscription_ids_available: bool,
}

impl Listener {
    /// A listener with the defaults on `address`, named after it.
    pub fn on(address: SocketAddr) -> Listener {
        Listener {
            name: address.to_string(),
            address,
            backlog: default_backlog(),
            max_connections: unlimited(),
            max_connections_per_address: unlimited(),
            connects_per_second: unlimited(),
            max_packet_bytes: None,
            receive_maximum: None,
            topic_alias_maximum: None,
            max_keep_alive_s: None,
            durability: None,
            max_qos: highest_qos(),
            retain_available: true,
            wildcard_available: true,
            shared_available: true,
            subscription_ids_available: true,
        }
    }

    /// What holds for the clients of this listener where `limits` hold in general.
    pub fn terms(&self, limits: &Limits) -> Terms {
        let general = Terms::of(limits);
        Terms {
            max_packet_bytes: self.max_packet_bytes.unwrap_or(general.max_packet_bytes),
            receive_maximum: self.receive_maximum.unwrap_or(general.receive_maximum),
            topic_alias_maximum: self.topic_alias_maximum.unwrap_or(general.topic_alias_maximum),
            max_keep_alive_s: self.max_keep_alive_s.unwrap_or(general.max_keep_alive_s),
            max_qos: self.max_qos,
            retain: self.retain_available,
            wildcards: self.wildcard_available,
            shared: self.shared_available,
            subscription_ids: self.subscription_ids_available,
            durability: self.durability.unwrap_or(general.durability),
        }
    }
}

/// What one client is granted and told of in CONNACK; it holds as long as the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Largest packet that the client may send, fixed header included.
    pub max_packet_bytes: u32,
    /// QoS 1 and 2 messages that the client may have in flight towards us.
    pub receive_maximum: u16,
    /// Topic aliases that the client may set.
    pub topic_alias_maximum: u16,
    /// Longest keep-alive; the largest value stands for any, and for none.
    pub max_keep_alive_s: u16,
    /// 0, 1 or 2.
    pub max_qos: u8,
    pub retain: bool,
    pub wildcards: bool,
    pub shared: bool,
    pub subscription_ids: bool,
    /// What acknowledgements promise, where there is a data directory.
    pub durability: Durability,
}

impl Terms {
    /// What holds where no listener says otherwise.
    pub fn of(limits: &Limits) -> Terms {
        Terms {
            max_packet_bytes: limits.max_packet_bytes,
            receive_maximum: limits.receive_maximum,
            topic_alias_maximum: limits.topic_alias_maximum,
            max_keep_alive_s: limits.max_keep_alive_s,
            max_qos: highest_qos(),
            retain: true,
            wildcards: true,
            shared: true,
            subscription_ids: true,
            durability: Durability::default(),
        }
    }
}

fn default_backlog() -> u32 {
    4096
}

fn unlimited() -> u32 {
    u32::MAX
}

fn highest_qos() -> u8 {
    2
}

fn yes() -> bool {
    true
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_says_nothing_grants_what_the_limits_grant() {
        let limits = Limits { receive_maximum: 7, max_keep_alive_s: 60, ..Limits::default() };
        assert_eq!(Listener::on(parse_address("1").unwrap()).terms(&limits), Terms::of(&limits));
    }

    #[test]
    fn a_listener_goes_over_the_limits_in_both_directions() {
        let limits = Limits { receive_maximum: 7, max_packet_bytes: 1000, ..Limits::default() };
        let listener = Listener {
            receive_maximum: Some(9),
            max_packet_bytes: Some(100),
            max_qos: 1,
            retain_available: false,
            ..Listener::on(parse_address("1").unwrap())
        };
        let terms = listener.terms(&limits);
        assert_eq!((terms.receive_maximum, terms.max_packet_bytes, terms.max_qos, terms.retain), (9, 100, 1, false));
        assert_eq!((terms.topic_alias_maximum, terms.shared), (limits.topic_alias_maximum, true));
    }
}
