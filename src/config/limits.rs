//! Every limit that the core checks: plain data with the unit in the name. Zero never means "unlimited", the largest value does; only a rate is
//! switched off by zero.

use serde::{Deserialize, Serialize};

/// What happens to a QoS 1 or 2 message for a session whose queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFull {
    /// The publisher is told (5.0: reason code 0x97) or slowed down (3.x); nothing that was acknowledged is lost.
    #[default]
    RejectNew,
    /// The oldest queued message is dropped and counted, the new one is accepted.
    DropOldest,
}

/// Limits of one shard and of the connections on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest packet that a client may send, fixed header included.
    pub max_packet_bytes: u32,
    /// Largest CONNECT, fixed header included: the limit before anything is known of the client.
    pub max_connect_packet_bytes: u32,
    /// From the TCP connection to a complete CONNECT.
    pub connect_timeout_ms: u32,
    /// Longest keep-alive that is granted; a 5.0 client that asks for more (or for none) is told this one.
    pub max_keep_alive_s: u16,
    pub max_client_id_bytes: u16,
    pub max_topic_bytes: u16,
    pub max_topic_levels: u16,
    pub max_subscriptions_per_client: u32,
    /// QoS 1 and 2 messages that a client may have in flight towards us (5.0: Receive Maximum).
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that we have in flight towards a client; its own Receive Maximum lowers it.
    pub max_inflight: u16,
    /// QoS 1 and 2 messages that wait for one session beyond those in flight.
    pub max_queued_messages: u32,
    pub max_queued_bytes: u32,
    pub queue_full: QueueFull,
    /// How long a 3.x publisher whose messages find no room is left waiting (unread) before it is disconnected.
    pub full_queue_patience_ms: u32,
    /// How long a session whose queue is full may hold publishers up without taking anything; then it ends. `4294967295` means for ever.
    pub full_session_patience_s: u32,
    /// Unsent output of one connection; QoS 0 messages beyond it are dropped and counted.
    pub out_buffer_bytes: u32,
    /// Unsent output of all connections of a shard. The more of it is used, the less one connection may hold.
    pub out_budget_bytes: u64,
    /// Memory of a shard, all in, as far as clients decide of it. Near it the shard gives up, in this order: QoS 0 output, new connections, new
    /// subscriptions, new messages for store and queues, the slowest client.
    pub memory_budget_bytes: u64,
    /// Topic aliases that a client may set (5.0).
    pub topic_alias_maximum: u16,
    /// Topic aliases that we set towards a client that allows them (5.0).
    pub topic_alias_out_maximum: u16,
    /// Longest session expiry that is granted (5.0); `4294967295` means never.
    pub max_session_expiry_s: u32,
    /// Session expiry of 3.x clients without clean session; `4294967295` means never.
    pub v3_session_expiry_s: u32,
    /// Seconds that clients whose broker died under them get to come back before their wills are sent, at least.
    pub will_grace_after_crash_s: u32,
    /// Sessions without a connection that a shard keeps; beyond it a new session is not kept when its connection ends.
    pub max_offline_sessions: u32,
    pub max_retained_messages: u32,
    pub max_retained_bytes: u64,
    /// Connections of one shard.
    pub max_connections: u32,
    /// PUBLISH packets that one client may send; beyond it the client is not read from for a while. 0: no limit.
    pub max_publish_per_second: u32,
    /// Bytes that one client may send, likewise. 0: no limit.
    pub max_publish_bytes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_packet_bytes: 16 * 1024 * 1024,
            max_connect_packet_bytes: 256 * 1024,
            connect_timeout_ms: 10_000,
            max_keep_alive_s: u16::MAX,
            max_client_id_bytes: u16::MAX,
            max_topic_bytes: u16::MAX,
            max_topic_levels: 1_000,
            max_subscriptions_per_client: 1_000_000,
            receive_maximum: 1_024,
            max_inflight: 1_024,
            max_queued_messages: 10_000,
            max_queued_bytes: 64 * 1024 * 1024,
            queue_full: QueueFull::RejectNew,
            full_queue_patience_ms: 20_000,
            full_session_patience_s: 60,
            out_buffer_bytes: 64 * 1024 * 1024,
            out_budget_bytes: 256 * 1024 * 1024,
            memory_budget_bytes: 4 * 1024 * 1024 * 1024,
            topic_alias_maximum: 64,
            topic_alias_out_maximum: 0,
            max_session_expiry_s: u32::MAX,
            v3_session_expiry_s: 7 * 24 * 3_600,
            will_grace_after_crash_s: 30,
            max_offline_sessions: 10_000_000,
            max_retained_messages: 10_000_000,
            max_retained_bytes: 4 * 1024 * 1024 * 1024,
            max_connections: u32::MAX,
            max_publish_per_second: 0,
            max_publish_bytes_per_second: 0,
        }
    }
}
