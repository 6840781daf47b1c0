//! The retained messages that this shard owns: kept, replaced, deleted.

use super::budget::Pressure;
use super::message::{Incoming, Message, NEVER};
use super::retained::Cursor;
use super::shard::Shard;
use super::timers::TimerKey;
use crate::metrics::DropReason;
use crate::mqtt::ReasonCode;

/// Between two looks for messages whose time is over, and how many messages one looks at.
const SWEEP_MS: u64 = 2_000;
const SWEEP_SLICE: usize = 10_000;

/// The search for retained messages whose time is over: nobody may ever ask for them again.
#[derive(Debug, Default)]
pub struct Sweep {
    cursor: Option<Cursor>,
    /// Messages that have an expiry.
    expiring: u64,
    scheduled: bool,
}

impl Shard {
    /// A message with RETAIN for a topic of this shard: it replaces what was there [MQTT-3.3.1-5]; without payload it only deletes [MQTT-3.3.1-6]
    /// [MQTT-3.3.1-7] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
    pub(super) fn store_retained(&mut self, incoming: &Incoming<'_>) -> ReasonCode {
        if incoming.payload.is_empty() {
            // What was there may be gone here and not yet on disk: who is told that it is gone waits for that as well.
            if self.retained.get(incoming.topic).is_some() || self.journal.as_ref().is_some_and(|journal| journal.due().is_some()) {
                self.clear_retained(incoming.topic);
                self.note_retained(incoming.topic, None);
            }
            return ReasonCode::NO_MATCHING_SUBSCRIBERS;
        }
        let bytes = incoming.stored_bytes();
        let known = self.retained.get(incoming.topic).map(|old| u64::from(old.bytes()));
        let full = known.is_none() && self.retained.len() >= self.limits.max_retained_messages as usize
            || known.is_none() && self.pressure >= Pressure::RefuseMessages
            || self.journal.as_ref().is_some_and(|journal| journal.is_full())
            || self.retained_bytes - known.unwrap_or(0) + bytes > self.limits.max_retained_bytes;
        if full {
            self.counters.count_dropped(DropReason::RetainedLimit, 1);
            return ReasonCode::QUOTA_EXCEEDED;
        }
        self.set_retained(incoming);
        self.note_retained(incoming.topic, Some(incoming));
        ReasonCode::NO_MATCHING_SUBSCRIBERS
    }

    pub(super) fn set_retained(&mut self, incoming: &Incoming<'_>) {
        let message = incoming.to_message();
        self.retained_bytes += u64::from(message.bytes());
        self.sweep.expiring += u64::from(message.expires_at != NEVER);
        if let Some(old) = self.retained.set(incoming.topic, message) {
            self.forget(&old);
        }
        if self.sweep.expiring > 0 && !self.sweep.scheduled {
            self.sweep.scheduled = true;
            self.wheel.schedule(self.now + SWEEP_MS, TimerKey::Sweep);
        }
    }

    fn forget(&mut self, old: &Message) {
        self.retained_bytes -= u64::from(old.bytes());
        self.sweep.expiring -= u64::from(old.expires_at != NEVER);
    }

    /// Takes out messages whose time is over [MQTT-3.3.2-5]; goes on as long as there are any that will be.
    pub(super) fn on_sweep(&mut self) {
        let now = self.now;
        let mut over: Vec<Box<str>> = Vec::new();
        let mut cursor = self.sweep.cursor.take().unwrap_or_else(Cursor::everything);
        let done = self.retained.next_batch(&mut cursor, SWEEP_SLICE, |message| {
            if message.expires_at <= now {
                over.push(message.topic().into());
            }
            true
        });
        self.sweep.cursor = (!done).then_some(cursor);
        for topic in over {
            self.clear_retained(&topic);
            self.note_retained(&topic, None);
        }
        self.sweep.scheduled = self.sweep.expiring > 0;
        if self.sweep.scheduled {
            self.wheel.schedule(now + SWEEP_MS, TimerKey::Sweep);
        } else if let Some(cursor) = self.sweep.cursor.take() {
            self.retained.close(cursor);
        }
    }

    pub(super) fn clear_retained(&mut self, topic: &str) {
        if let Some(old) = self.retained.remove(topic) {
            self.forget(&old);
        }
    }
}
