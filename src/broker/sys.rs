//! `$SYS`: every shard sends its counters to the first one, which publishes what changed as retained messages.

use std::time::Duration;

use super::connection::NONE;
use super::ids::ShardId;
use super::message::{Incoming, NEVER};
use super::peer::PeerMessage;
use super::shard::Shard;
use super::timers::TimerKey;
use crate::metrics::{Gauges, Snapshot, SysTree};
use crate::mqtt::QoS;

/// The shard that publishes.
const REPORTER: ShardId = ShardId(0);

/// The first publication comes this long after the start.
const FIRST_MS: u64 = 1_000;

/// What a shard remembers for `$SYS`.
#[derive(Debug)]
pub struct SysState {
    /// 0: switched off.
    interval_ms: u64,
    started: u64,
    /// On the reporter only: the last counters of every shard.
    snapshots: Vec<Snapshot>,
    tree: SysTree,
}

impl SysState {
    pub fn new(interval_s: u32, shards: u16, now: u64) -> SysState {
        SysState {
            interval_ms: u64::from(interval_s) * 1_000,
            started: now,
            snapshots: vec![Snapshot::default(); usize::from(shards)],
            tree: SysTree::new(concat!("ringmq version ", env!("CARGO_PKG_VERSION"))),
        }
    }
}

impl Shard {
    /// What the shard counted and what it holds.
    pub fn snapshot(&self) -> Snapshot {
        let mut gauges = Gauges {
            connections: self.connections.len() as u64,
            sessions: self.sessions.len() as u64,
            sessions_offline: self.sessions.len() as u64 - self.connected,
            retained_messages: self.retained.len() as u64,
            retained_bytes: self.retained_bytes,
            out_bytes: self.unsent,
            limited_clients: self.limited.clients(self.now),
            ..Gauges::default()
        };
        for (_, session) in self.sessions.iter() {
            gauges.subscriptions += session.subscriptions.len() as u64;
            if let Some(outgoing) = &session.outgoing {
                gauges.inflight_messages += u64::from(outgoing.in_flight());
                gauges.queued_messages += outgoing.queued() as u64;
                gauges.queued_bytes += outgoing.queued_bytes();
                gauges.held_messages += outgoing.held() as u64;
            }
        }
        Snapshot { counters: self.counters.clone(), gauges }
    }

    /// Seconds between two publications from now on; 0 stops them.
    pub fn set_sys_interval(&mut self, interval_s: u32) {
        let was_off = self.sys.interval_ms == 0;
        self.sys.interval_ms = u64::from(interval_s) * 1_000;
        if was_off {
            self.schedule_sys();
        }
    }

    pub(super) fn schedule_sys(&mut self) {
        if self.sys.interval_ms > 0 {
            // The first time soon, so that a new broker has values to show.
            let delay_ms = if self.now == self.sys.started { self.sys.interval_ms.min(FIRST_MS) } else { self.sys.interval_ms };
            self.wheel.schedule(self.now + delay_ms, TimerKey::Sys);
        }
    }

    pub(super) fn on_sys_timer(&mut self) {
        if self.sys.interval_ms == 0 {
            return;
        }
        let snapshot = Box::new(self.snapshot());
        self.peers.to(REPORTER).messages.push(PeerMessage::Snapshot(snapshot));
        self.schedule_sys();
        if self.id == REPORTER {
            self.publish_sys();
        }
    }

    pub(super) fn on_snapshot(&mut self, from: ShardId, snapshot: &Snapshot) {
        if let Some(last) = self.sys.snapshots.get_mut(usize::from(from.0)) {
            last.clone_from(snapshot);
        }
    }

    /// Publishes what changed since the last time.
    fn publish_sys(&mut self) {
        let own = self.snapshot();
        self.on_snapshot(REPORTER, &own);
        let uptime = Duration::from_millis(self.now.saturating_sub(self.sys.started));
        for (topic, value) in self.sys.tree.update(uptime, &self.sys.snapshots) {
            let incoming =
                Incoming { topic: &topic, payload: value.as_bytes(), forward: &[], qos: QoS::AtMostOnce, retain: true, expires_at: NEVER };
            self.publish_from_broker(&incoming, NONE);
        }
    }
}
