//! Limits of all sizes that a configuration may give, and what a shard may hold under them.

use super::super::input::Input;
use ringmq::broker::Shard;
use ringmq::config::{Limits, QueueFull};

/// Bytes of answers that the broker lets a client leave unread beyond its limits, with room for what one read leads to.
const ANSWERS: u64 = 1024 * 1024 + 256 * 1024;
/// Bytes that the broker counts for a message beside its topic, properties and payload.
const MESSAGE_OVERHEAD: u64 = 64;

/// Slices of retained messages that may be under way to a session, and bytes after which a slice ends.
const RETAINED_SLICES: u64 = 4 * 2;
const SLICE_BYTES: u64 = 64 * 1024;

/// Limits that a configuration may give. No session lives for ever: at the end, all are to be gone.
pub fn choose(input: &mut Input<'_>) -> Limits {
    let max_packet_bytes = input.choose(&[65_536, 64, 256, 4_096]);
    let out_buffer_bytes = input.choose(&[65_536, 4_096]);
    let limits = Limits {
        max_packet_bytes,
        max_connect_packet_bytes: max_packet_bytes.min(1_024),
        connect_timeout_ms: input.choose(&[10_000, 10]),
        max_keep_alive_s: input.choose(&[u16::MAX, 1, 30]),
        max_client_id_bytes: input.choose(&[u16::MAX, 23]),
        max_topic_bytes: input.choose(&[u16::MAX, 10]),
        max_topic_levels: input.choose(&[1_000, 2]),
        max_subscriptions_per_client: input.choose(&[1_000, 1, 5]),
        receive_maximum: input.choose(&[1_024, 1, 2, 10]),
        max_inflight: input.choose(&[1_024, 1, 2, 10]),
        max_queued_messages: input.choose(&[100, 1, 3]),
        max_queued_bytes: input.choose(&[65_536, 1_024]),
        queue_full: input.choose(&[QueueFull::RejectNew, QueueFull::DropOldest]),
        full_queue_patience_ms: input.choose(&[20_000, 1, 1_000]),
        out_buffer_bytes,
        out_budget_bytes: u64::from(out_buffer_bytes) * input.choose(&[4, 1, 100]),
        topic_alias_maximum: input.choose(&[64, 0, 2]),
        topic_alias_out_maximum: input.choose(&[0, 2]),
        max_session_expiry_s: input.choose(&[100_000, 0, 10]),
        v3_session_expiry_s: input.choose(&[100_000, 0, 10]),
        max_offline_sessions: input.choose(&[100, 0, 1]),
        max_retained_messages: input.choose(&[1_000, 0, 2]),
        max_retained_bytes: input.choose(&[100_000, 0, 1_000]),
        max_connections: input.choose(&[1_000, 1, 3]),
        memory_budget_bytes: input.choose(&[1 << 30, 1 << 20, 200_000, 10_000]),
        max_publish_per_second: input.choose(&[0, 1, 100]),
        max_publish_bytes_per_second: input.choose(&[0, 100, 10_000]),
        full_session_patience_s: u32::MAX,
        will_grace_after_crash_s: 30,
    };
    // Chosen together, so that the corpus keeps its meaning.
    let full_session_patience_s = if limits.full_queue_patience_ms == 1 { u32::MAX } else { limits.full_queue_patience_ms / 500 };
    Limits { full_session_patience_s, ..limits }
}

/// The highest limits that ever held: what was accepted under them may stay when they are lowered.
#[derive(Clone)]
pub struct Ceiling(Limits);

impl Ceiling {
    pub fn new(limits: &Limits) -> Ceiling {
        Ceiling(limits.clone())
    }

    pub fn raise(&mut self, limits: &Limits) {
        let Ceiling(most) = self;
        most.max_packet_bytes = most.max_packet_bytes.max(limits.max_packet_bytes);
        most.max_subscriptions_per_client = most.max_subscriptions_per_client.max(limits.max_subscriptions_per_client);
        most.max_inflight = most.max_inflight.max(limits.max_inflight);
        most.max_queued_messages = most.max_queued_messages.max(limits.max_queued_messages);
        most.max_queued_bytes = most.max_queued_bytes.max(limits.max_queued_bytes);
        most.out_buffer_bytes = most.out_buffer_bytes.max(limits.out_buffer_bytes);
        most.max_offline_sessions = most.max_offline_sessions.max(limits.max_offline_sessions);
        most.max_retained_messages = most.max_retained_messages.max(limits.max_retained_messages);
        most.max_retained_bytes = most.max_retained_bytes.max(limits.max_retained_bytes);
    }

    /// Nothing has grown beyond its limit.
    pub fn check(&self, shard: &Shard) {
        let (gauges, most) = (shard.snapshot().gauges, &self.0);
        let packet = u64::from(most.max_packet_bytes);
        assert!(gauges.sessions_offline <= u64::from(most.max_offline_sessions), "sessions without a connection: {gauges:?}");
        assert!(gauges.sessions <= gauges.sessions_offline + gauges.connections, "sessions: {gauges:?}");
        assert!(gauges.retained_messages <= u64::from(most.max_retained_messages), "retained messages: {gauges:?}");
        assert!(gauges.retained_bytes <= most.max_retained_bytes, "retained bytes: {gauges:?}");
        let each = |limit: u64| gauges.sessions * limit;
        assert!(gauges.subscriptions <= each(most.max_subscriptions_per_client.into()), "subscriptions: {gauges:?}");
        assert!(gauges.inflight_messages <= each(most.max_inflight.into()), "in flight: {gauges:?}");
        // Beside a full queue there may be as many retained messages, which had room when they were asked for.
        assert!(gauges.queued_messages <= each(2 * u64::from(most.max_queued_messages)), "queued messages: {gauges:?}");
        // A message that finds an empty queue may be larger than the limit.
        let message = packet + MESSAGE_OVERHEAD;
        let queue = u64::from(most.max_queued_bytes) + message + RETAINED_SLICES * (SLICE_BYTES + message);
        assert!(gauges.queued_bytes <= each(queue), "queued bytes: {gauges:?}");
        assert!(gauges.out_bytes <= gauges.connections * (u64::from(most.out_buffer_bytes) + packet + ANSWERS), "output: {gauges:?}");
    }
}
