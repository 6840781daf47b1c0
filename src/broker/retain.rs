//! The retained messages that this shard owns: kept, replaced, deleted.

use super::budget::Pressure;
use super::message::Incoming;
use super::shard::Shard;
use crate::metrics::DropReason;
use crate::mqtt::ReasonCode;

impl Shard {
    /// A message with RETAIN for a topic of this shard: it replaces what was there [MQTT-3.3.1-5]; without payload it only deletes [MQTT-3.3.1-6]
    /// [MQTT-3.3.1-7] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
    pub(super) fn store_retained(&mut self, incoming: &Incoming<'_>) -> ReasonCode {
        if incoming.payload.is_empty() {
            if self.retained.get(incoming.topic).is_some() {
                self.clear_retained(incoming.topic);
                self.journal_retained(incoming.topic, None);
            }
            return ReasonCode::NO_MATCHING_SUBSCRIBERS;
        }
        let bytes = incoming.stored_bytes();
        let known = self.retained.get(incoming.topic).map(|old| u64::from(old.bytes()));
        let full = known.is_none() && self.retained.len() >= self.limits.max_retained_messages as usize
            || known.is_none() && self.pressure >= Pressure::RefuseMessages
            || self.journal.as_ref().is_some_and(|journal| journal.is_failing())
            || self.retained_bytes - known.unwrap_or(0) + bytes > self.limits.max_retained_bytes;
        if full {
            self.counters.count_dropped(DropReason::RetainedLimit, 1);
            return ReasonCode::QUOTA_EXCEEDED;
        }
        self.set_retained(incoming);
        self.journal_retained(incoming.topic, Some(incoming));
        ReasonCode::NO_MATCHING_SUBSCRIBERS
    }

    pub(super) fn set_retained(&mut self, incoming: &Incoming<'_>) {
        let message = incoming.to_message();
        self.retained_bytes += u64::from(message.bytes());
        if let Some(old) = self.retained.set(incoming.topic, message) {
            self.retained_bytes -= u64::from(old.bytes());
        }
    }

    pub(super) fn clear_retained(&mut self, topic: &str) {
        if let Some(old) = self.retained.remove(topic) {
            self.retained_bytes -= u64::from(old.bytes());
        }
    }
}
