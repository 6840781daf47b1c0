//! What kind of world a seed gives: sizes, limits, delays, and how wild its clients are.

use std::sync::Arc;

use ringmq::config::{Limits, QueueFull};

use crate::rng::Rng;

/// How a world differs from others.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shards: u16,
    pub clients: usize,
    /// Steps of chaos.
    pub steps: u32,
    pub limits: Arc<Limits>,
    /// Batches and sockets that a ring between two shards holds.
    pub ring_capacity: usize,
    /// Longest delay of a ring, ms.
    pub ring_delay_ms: u64,
    /// Longest delay of a network, ms.
    pub network_delay_ms: u64,
    /// Bytes that a socket takes before its reader reads.
    pub socket_bytes: usize,
    /// Longest time between two steps, ms.
    pub step_ms: u64,
    /// Steps of 1,000 after which time jumps.
    pub jump_permille: u64,
    /// Percent of the subscriptions that are shared.
    pub shared_percent: u64,
    /// Percent of the messages that are large.
    pub large_percent: u64,
    /// Largest payload of a large message, bytes.
    pub large_bytes: u64,
    /// Weights of what clients do: see `behaviour`.
    pub weights: Weights,
    /// Percent of steps in which a client does something of its own.
    pub activity_percent: u64,
    /// Percent of steps in which a client sends acknowledgements that are due.
    pub ack_percent: u64,
    pub sys_interval_s: u32,
    /// Clients acknowledge in any order, which the standard does not allow them and brokers have to live with.
    pub rude: bool,
    /// No limit is near, and the disk never full: not even a message of QoS 0 may be lost.
    pub roomy: bool,
    /// What is to outlive a crash is written to a disk.
    pub disk: Option<DiskSettings>,
}

/// A disk, and what happens to it and to the machine.
#[derive(Clone, Copy, Debug)]
pub struct DiskSettings {
    /// Longest time that a write takes, ms.
    pub delay_ms: u64,
    /// Bytes beyond what is live after which a log is written anew.
    pub rewrite_bytes: u64,
    /// Steps of 1,000 after which the machine stops at once.
    pub crash_permille: u64,
    /// Steps of 1,000 after which the disk is full for a while.
    pub full_permille: u64,
    /// Percent of the crashes over which the disk loses some of what it had.
    pub rot_percent: u64,
}

/// How often a client does what.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    pub publish: u64,
    pub subscribe: u64,
    pub unsubscribe: u64,
    pub ping: u64,
    pub stall: u64,
    pub disconnect: u64,
    pub drop: u64,
    pub take_over: u64,
}

impl Settings {
    pub fn new(rng: &mut Rng) -> Settings {
        let limits = limits(rng);
        let restless = rng.pick(&[0, 1, 1, 3]);
        let disk = rng.percent(50).then(|| DiskSettings {
            delay_ms: rng.pick(&[0, 5, 40, 300]),
            rewrite_bytes: rng.pick(&[500, 10_000, u64::MAX / 2]),
            crash_permille: rng.pick(&[0, 2, 5, 20]),
            full_permille: rng.pick(&[0, 0, 5]),
            rot_percent: rng.pick(&[0, 0, 0, 0, 0, 0, 0, 30]),
        });
        Settings {
            shards: rng.pick(&[1, 2, 2, 3, 4]),
            clients: rng.range(2, 9) as usize,
            steps: rng.range(100, 900) as u32,
            ring_capacity: rng.pick(&[1, 2, 8, 64]),
            ring_delay_ms: rng.pick(&[0, 5, 40]),
            network_delay_ms: rng.pick(&[0, 5, 40]),
            socket_bytes: rng.pick(&[64, 1_000, 100_000, 100_000]),
            step_ms: rng.pick(&[2, 10, 40]),
            jump_permille: rng.pick(&[0, 2, 10]),
            shared_percent: rng.pick(&[0, 0, 10, 40]),
            large_percent: rng.pick(&[0, 5, 20]),
            large_bytes: rng.pick(&[600, 3_000, 70_000]),
            weights: Weights {
                publish: 60,
                subscribe: rng.pick(&[5, 15, 30]),
                unsubscribe: rng.pick(&[0, 5, 15]),
                ping: 2,
                stall: rng.pick(&[0, 2, 5]),
                disconnect: restless,
                drop: restless * 2,
                take_over: restless,
            },
            activity_percent: rng.pick(&[10, 40, 90]),
            ack_percent: rng.pick(&[10, 50, 100]),
            sys_interval_s: rng.pick(&[0, 0, 0, 1]),
            rude: rng.percent(20),
            roomy: disk.is_none_or(|disk| disk.full_permille == 0)
                && limits.max_queued_messages == Limits::default().max_queued_messages
                && limits.out_buffer_bytes == Limits::default().out_buffer_bytes,
            limits: Arc::new(limits),
            disk,
        }
    }

    /// Whether queues are so short, or the disk so full, that publishers of 3.x have to wait.
    pub fn tight(&self) -> bool {
        let largest = if self.large_percent > 0 { self.large_bytes } else { 0 };
        let short = self.limits.max_queued_messages < 1_000 || u64::from(self.limits.max_queued_bytes) < 100_000.max(50 * largest);
        self.disk.is_some_and(|disk| disk.full_permille > 0) || self.limits.queue_full == QueueFull::RejectNew && short
    }

    /// Whether nothing ever stops the machine.
    pub fn immortal(&self) -> bool {
        self.disk.is_none_or(|disk| disk.crash_permille == 0)
    }
}

fn limits(rng: &mut Rng) -> Limits {
    let small = rng.percent(60);
    let defaults = Limits::default();
    if !small {
        return defaults;
    }
    Limits {
        receive_maximum: rng.pick(&[2, 5, 1_024]),
        max_inflight: rng.pick(&[1, 3, 1_024]),
        max_queued_messages: rng.pick(&[5, 10, 20, 10_000]),
        max_queued_bytes: rng.pick(&[500, 4_000, 1_000_000]),
        queue_full: if rng.percent(20) { QueueFull::DropOldest } else { QueueFull::RejectNew },
        full_queue_patience_ms: rng.pick(&[3_000, 5_000, 20_000]),
        full_session_patience_s: u32::MAX,
        out_buffer_bytes: rng.pick(&[100, 2_000, 1_000_000]),
        out_budget_bytes: rng.pick(&[400, 10_000, 100_000_000]),
        max_session_expiry_s: rng.pick(&[10, u32::MAX]),
        v3_session_expiry_s: rng.pick(&[10, u32::MAX]),
        max_keep_alive_s: rng.pick(&[20, u16::MAX]),
        connect_timeout_ms: rng.pick(&[1_000, 10_000]),
        topic_alias_maximum: rng.pick(&[0, 2, 64]),
        topic_alias_out_maximum: rng.pick(&[0, 3]),
        ..defaults
    }
}
