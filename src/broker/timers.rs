//! What the timer wheel holds, and what happens when it fires.

use super::connection::{NONE, State};
use super::disconnect::Will;
use super::ids::ConnId;
use super::shard::Shard;
use crate::metrics::DropReason;
use crate::mqtt::ReasonCode;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerKey {
    /// The deadline of CONNECT, later the keep-alive.
    Connection(ConnId),
    SessionExpiry {
        session: u32,
        generation: u32,
    },
    WillDelay {
        session: u32,
        generation: u32,
    },
    /// The end of a session whose queue is full, if nothing moves in it.
    FullQueue {
        session: u32,
        generation: u32,
    },
    /// A client may be read from again.
    Rate(ConnId),
    /// The next publication of `$SYS`.
    Sys,
    /// The next look for retained messages whose time is over.
    Sweep,
    /// The next report of who hit limits.
    Limited,
}

impl Shard {
    pub(super) fn fire_timers(&mut self) {
        let mut due = std::mem::take(&mut self.scratch.timers);
        due.clear();
        while let Some(key) = self.wheel.pop(self.now) {
            due.push(key);
        }
        for &key in &due {
            match key {
                TimerKey::Connection(id) => self.on_connection_timer(id),
                TimerKey::SessionExpiry { session, generation } => self.on_session_expiry(session, generation),
                TimerKey::WillDelay { session, generation } => {
                    if let Some(found) = self.sessions.get_same(session, generation) {
                        found.will_timer = None;
                        self.publish_will(session);
                    }
                }
                TimerKey::FullQueue { session, generation } => self.on_full_queue_timer(session, generation),
                TimerKey::Rate(id) => self.on_rate_timer(id),
                TimerKey::Sys => self.on_sys_timer(),
                TimerKey::Sweep => self.on_sweep(),
                TimerKey::Limited => self.report_limited(),
            }
        }
        self.scratch.timers = due;
    }

    fn on_connection_timer(&mut self, id: ConnId) {
        let now = self.now;
        let patience_ms = u64::from(self.limits.full_queue_patience_ms);
        let Some(conn) = self.connections.get_mut(id) else { return };
        conn.timer = None;
        match conn.state {
            State::Opened | State::Authenticating => {
                self.disconnect(id, ReasonCode::MAXIMUM_CONNECT_TIME, Will::Publish);
            }
            State::Connected => {
                // While we do not read from a client, its silence is ours; but it may not wait for ever.
                let limit = if conn.paused.for_acks { patience_ms } else { u64::from(conn.patience_ms) };
                let due = conn.last_seen + limit;
                if limit == 0 {
                    return;
                }
                if due > now {
                    conn.timer = Some(self.wheel.schedule(due, TimerKey::Connection(id)));
                } else if conn.paused.by_rate {
                    conn.timer = Some(self.wheel.schedule(now + limit, TimerKey::Connection(id)));
                } else if conn.paused.for_acks {
                    self.on_paused_too_long(id);
                } else {
                    // One and a half times the keep-alive without a packet [MQTT-3.1.2-22] [MQTT-3.1.2-24].
                    self.disconnect(id, ReasonCode::KEEP_ALIVE_TIMEOUT, Will::Publish);
                }
            }
            State::Moving | State::Closing => {}
        }
    }

    fn on_session_expiry(&mut self, index: u32, generation: u32) {
        let Some(session) = self.sessions.get_same(index, generation) else { return };
        session.expiry_timer = None;
        // Never while it is connected [MQTT-4.1.0-1] [MQTT-4.1.0-2].
        if session.connection == NONE {
            // [MQTT-3.1.2-23] [MQTT-4.1.0-2]
            self.counters.sessions_expired += 1;
            self.end_session(index, DropReason::SessionExpired);
        }
    }
}
