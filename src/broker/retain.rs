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
            if let Some(old) = self.retained.remove(incoming.topic) {
                self.retained_bytes -= u64::from(old.bytes());
            }
            return ReasonCode::NO_MATCHING_SUBSCRIBERS;
        }
        let message = incoming.to_message();
        let bytes = u64::from(message.bytes());
        let known = self.retained.get(incoming.topic).map(|old| u64::from(old.bytes()));
        let full = known.is_none() && self.retained.len() >= self.limits.max_retained_messages as usize
            || known.is_none() && self.pressure >= Pressure::RefuseMessages
            || self.retained_bytes - known.unwrap_or(0) + bytes > self.limits.max_retained_bytes;
        if full {
            self.counters.count_dropped(DropReason::RetainedLimit, 1);
            return ReasonCode::QUOTA_EXCEEDED;
        }
        self.retained_bytes = self.retained_bytes - known.unwrap_or(0) + bytes;
        self.retained.set(incoming.topic, message);
        ReasonCode::NO_MATCHING_SUBSCRIBERS
    }
}
