//! SUBSCRIBE and UNSUBSCRIBE.

use smallvec::SmallVec;

use super::budget::{Pressure, SUBSCRIPTION_BYTES};
use super::fetch::MAX_FETCHES;
use super::ids::ConnId;
use super::interest::WaitingSuback;
use super::session::{FixedHasher, Subscription};
use super::shard::Shard;
use super::topics::{SubOptions, Subscriber};
use crate::metrics::RefuseReason;
use crate::mqtt::{
    DecodeError, Properties, QoS, ReasonCode, RetainHandling, SharedFilter, Subscribe, SubscribeEntry, TopicFilter, Unsubscribe, encode,
};

impl Shard {
    pub(super) fn on_subscribe(&mut self, id: ConnId, packet: &Subscribe<'_>) {
        let Some(session) = self.session_of(id) else { return };
        if !self.codes_fit(id, packet.filters()) {
            return self.refuse_with(id, ReasonCode::PACKET_TOO_LARGE, "SUBSCRIBE whose SUBACK the client would not take");
        }
        let mut suback = WaitingSuback::new(id, packet.packet_id);
        let subscription_id = packet.properties.subscription_id.unwrap_or(0);
        let mark = self.journal_mark();
        for entry in packet.filters() {
            // One answer per filter, in order [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.9.3-1].
            match self.subscribe_one(id, session, &entry, subscription_id) {
                Ok(code) => suback.codes.push(code.0),
                Err(error) => return self.refuse(id, error),
            }
        }
        suback.last_fetch = self.last_fetch;
        suback.commit = self.commit_since(mark);
        self.suback_when_known(suback);
    }

    /// Whether an answer with a code for each filter is small enough for the client [MQTT-3.1.2-24]. One that is not cannot be given, and the client
    /// would wait for it for ever.
    fn codes_fit<F>(&self, id: ConnId, filters: impl Iterator<Item = F>) -> bool {
        let maximum = self.connections.get(id).map_or(u32::MAX, |conn| conn.max_packet_bytes);
        maximum == u32::MAX || encode::codes_len(filters.count()) <= maximum as usize
    }

    fn subscribe_one(
        &mut self,
        id: ConnId,
        index: u32,
        entry: &SubscribeEntry<'_>,
        subscription_id: u32,
    ) -> Result<ReasonCode, DecodeError> {
        let Some(v5) = self.sessions.get(index).map(|session| session.version.is_v5()) else { return Ok(ReasonCode::UNSPECIFIED_ERROR) };
        let shared = SharedFilter::parse(entry.filter);
        let valid = match &shared {
            Some(shared) => shared.is_ok(),
            None => TopicFilter::new(entry.filter).is_ok(),
        };
        if !valid && !v5 {
            // 3.x has no code for it: a violation of the rules for filters ends the connection [MQTT-4.8.0-1].
            return Err(DecodeError { reason: ReasonCode::TOPIC_FILTER_INVALID, what: "invalid topic filter" });
        }
        let within = self.topic_within_limits(entry.filter);
        if !within {
            self.refuse_for(index, RefuseReason::Topic);
        }
        if !valid || !within {
            return Ok(failure(v5, ReasonCode::TOPIC_FILTER_INVALID));
        }
        let Some(terms) = self.connections.get(id).map(|conn| conn.terms) else { return Ok(ReasonCode::UNSPECIFIED_ERROR) };
        if let Some(refused) = self.refuse_subscription(terms, entry.filter, shared.is_some(), subscription_id, v5) {
            return refused;
        }
        if let Some(limit) = self.no_room_for(index, entry.filter) {
            self.refuse_for(index, limit);
            return Ok(failure(v5, ReasonCode::QUOTA_EXCEEDED));
        }
        // A lower QoS is granted than was asked for, never an error [MQTT-3.2.2-10].
        let qos = entry.options.qos.min(QoS::from_bits(terms.max_qos).unwrap_or_default());
        let options = SubOptions::new(qos, entry.options.no_local, entry.options.retain_as_published);
        let subscriber = Subscriber { session: index, subscription_id, options };
        let subscription = match shared {
            Some(Ok(shared)) => {
                let joined = self.topics.subscribe_shared(shared.group, shared.filter.as_str(), subscriber);
                self.tell_interest(joined.tell);
                Subscription::Shared(joined.id)
            }
            _ => {
                // The same filter again replaces the subscription [MQTT-3.8.4-3].
                let added = self.topics.subscribe(entry.filter, subscriber);
                self.tell_interest(added.tell);
                // Retained messages: never for shared subscriptions, else as the client asks [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
                let wanted = match entry.options.retain_handling {
                    _ if !terms.retain => false,
                    RetainHandling::Send => true,
                    RetainHandling::SendIfNew => !added.existed,
                    RetainHandling::DoNotSend => false,
                };
                if wanted {
                    self.add_fetch(entry.filter, subscriber);
                }
                Subscription::Filter(added.id)
            }
        };
        if let Some(session) = self.sessions.get_mut(index) {
            session.subscribe(subscription);
        }
        self.note_subscribed(index, entry.filter, subscription_id, options);
        // [MQTT-3.8.4-5] [MQTT-3.8.4-7]
        Ok(ReasonCode(qos as u8))
    }

    /// The limit that stands against one more subscription of a session.
    fn no_room_for(&self, index: u32, filter: &str) -> Option<RefuseReason> {
        let session = self.sessions.get(index);
        let subscribed = session.map_or(0, |session| session.subscriptions.len());
        let fetches = session.and_then(|session| session.fetches.as_ref()).map_or(0, |fetches| fetches.len());
        let full = subscribed >= self.limits.max_subscriptions_per_client as usize;
        if fetches >= MAX_FETCHES || full && !self.has_subscription(index, filter) {
            return Some(RefuseReason::Subscriptions);
        }
        // Looked at for each filter: those of one turn may take many times what their bytes do.
        (self.pressure_now() >= Pressure::RefuseSubscriptions).then_some(RefuseReason::Memory)
    }

    /// Every shard knows the subscriptions: the client is told, and gets the retained messages [MQTT-3.8.4-1] [MQTT-3.8.4-2].
    pub(super) fn send_suback(&mut self, suback: &WaitingSuback) {
        let Some(session) = self.session_of(suback.conn) else { return };
        let Some(conn) = self.output(suback.conn.slot) else { return };
        // [MQTT-2.2.1-6] [MQTT-2.3.1-7]; without properties [MQTT-3.9.2-1] [MQTT-3.9.2-2]
        let version = conn.version;
        if !conn.append(|out| encode::suback(out, version, suback.packet_id, &suback.codes, &Properties::default())) {
            return self.refuse_with(suback.conn, ReasonCode::PACKET_TOO_LARGE, "SUBSCRIBE whose answer is larger than the client accepts");
        }
        self.counters.packets_sent += 1;
        self.gate(suback.conn.slot, suback.commit);
        self.release_fetches(session, suback.last_fetch);
    }

    pub(super) fn on_unsubscribe(&mut self, id: ConnId, packet: &Unsubscribe<'_>) {
        let Some(index) = self.session_of(id) else { return };
        if !self.codes_fit(id, packet.filters()) {
            return self.refuse_with(id, ReasonCode::PACKET_TOO_LARGE, "UNSUBSCRIBE whose UNSUBACK the client would not take");
        }
        let mut codes: SmallVec<[u8; 8]> = SmallVec::new();
        let mark = self.journal_mark();
        // [MQTT-3.10.4-6]
        for filter in packet.filters() {
            let existed = match SharedFilter::parse(filter) {
                Some(Ok(shared)) => {
                    let group = self.topics.find_share(shared.group, shared.filter.as_str());
                    group.is_some_and(|group| self.unsubscribe_one(index, Subscription::Shared(group)))
                }
                Some(Err(_)) => false,
                // Filters are compared as text [MQTT-3.10.4-1].
                None => self.topics.find(filter).is_some_and(|filter| self.unsubscribe_one(index, Subscription::Filter(filter))),
            };
            if existed {
                self.cancel_fetch(index, filter);
                self.note_unsubscribed(index, filter);
            }
            codes.push(if existed { ReasonCode::SUCCESS.0 } else { ReasonCode::NO_SUBSCRIPTION_EXISTED.0 });
        }
        self.gate(id.slot, self.commit_since(mark));
        if let Some(conn) = self.output(id.slot) {
            // [MQTT-3.10.4-4] [MQTT-3.10.4-5]; without properties [MQTT-3.11.2-1] [MQTT-3.11.2-2]
            let version = conn.version;
            if !conn.append(|out| encode::unsuback(out, version, packet.packet_id, &codes, &Properties::default())) {
                return self.refuse_with(id, ReasonCode::PACKET_TOO_LARGE, "UNSUBSCRIBE whose answer is larger than the client accepts");
            }
            self.counters.packets_sent += 1;
        }
    }

    /// Whether a session has a subscription with this filter, shared or not.
    fn has_subscription(&self, index: u32, filter: &str) -> bool {
        let subscription = match SharedFilter::parse(filter) {
            Some(Ok(shared)) => self.topics.find_share(shared.group, shared.filter.as_str()).map(Subscription::Shared),
            Some(Err(_)) => None,
            None => self.topics.find(filter).map(Subscription::Filter),
        };
        let session = self.sessions.get(index);
        subscription.is_some_and(|subscription| session.is_some_and(|session| session.subscriptions.contains(&subscription)))
    }

    /// No message is added any more [MQTT-3.10.4-2]; what the session has already is delivered [MQTT-3.10.4-3].
    fn unsubscribe_one(&mut self, index: u32, subscription: Subscription) -> bool {
        let existed = self.sessions.get_mut(index).is_some_and(|session| session.subscriptions.remove(&subscription));
        if existed {
            self.remove_subscription(index, subscription);
        }
        existed
    }

    fn remove_subscription(&mut self, index: u32, subscription: Subscription) {
        let removed = match subscription {
            Subscription::Filter(filter) => self.topics.unsubscribe(filter, index),
            Subscription::Shared(group) => self.topics.unsubscribe_shared(group, index),
        };
        self.held_bytes.subtract(SUBSCRIPTION_BYTES);
        self.tell_interest(removed.tell);
    }

    /// The subscriptions of a session that ends.
    pub(super) fn drop_subscriptions(&mut self, index: u32, subscriptions: &hashbrown::HashSet<Subscription, FixedHasher>) {
        for &subscription in subscriptions {
            self.remove_subscription(index, subscription);
        }
    }
}

/// A failure as the client's version can be told it.
fn failure(v5: bool, code: ReasonCode) -> ReasonCode {
    if v5 { code } else { ReasonCode::UNSPECIFIED_ERROR }
}
