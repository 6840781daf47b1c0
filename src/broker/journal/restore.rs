//! The shard as an earlier run left it: retained messages as they come by, sessions when a log is read to its end.
//!
//! A log is written anew as a whole by that. Where what is live stays as it is kept, only what is different now is noted.

use std::collections::{BTreeMap, BTreeSet};

use super::exchange::Taken;
use super::image::{Image, KeptDelivery, KeptSession};
use super::record::{self, Record, Stored, shift};
use super::rewrite::Rewrite;
use crate::broker::message::{Delivery, NEVER};
use crate::broker::peer::Exchange;
use crate::broker::publish::is_sys;
use crate::broker::session::{Durable, Kept, Received, Refusal, Subscription, Will, home_of, owner_of};
use crate::broker::shard::Shard;
use crate::broker::timers::TimerKey;
use crate::broker::topics::{SubOptions, Subscriber};
use crate::mqtt::{QoS, SharedFilter, TopicFilter, TopicName};

impl Shard {
    /// Takes in the logs of an earlier run, one for each shard that it had, each the commits in their order: of all of them, what belongs to this shard. All
    /// of it is written to the new log, unless told not to ([`Shard::rewrite_journal_after`]); once [`Shard::is_durable`], the old ones are not needed any
    /// more.
    pub fn restore(&mut self, now: u64, logs: &[Vec<Vec<u8>>]) {
        self.now = now;
        let Some(journal) = &mut self.journal else { return };
        let unix_ms = journal.unix_ms;
        journal.rewrite = journal.rewrite_bytes.map(|_| Rewrite::everything());
        let mut names = BTreeSet::new();
        // 0 is nobody's name.
        let mut restored = BTreeSet::from([0]);
        let mut taken: BTreeMap<_, Taken> = BTreeMap::new();
        for log in logs {
            let image = self.read_log(log, unix_ms);
            // Whoever has taken a message may live here now.
            for (exchange, other) in image.taken {
                taken.entry(exchange).or_insert_with(Taken::default).merge(other);
            }
            names.extend(image.names);
            for (id, kept) in image.sessions {
                // Two sessions of one name come from a damaged log only. The second gets a new one: in the new log they would be one session.
                let mut id = id;
                while !restored.insert(id) {
                    id = self.entropy.fresh_number();
                }
                self.restore_session(id, kept, unix_ms);
            }
        }
        for &(session, packet_id) in taken.keys().filter(|(session, _)| !names.contains(session)) {
            self.note_if_kept_in_place(|| Record::TakenEnded { session, packet_id });
        }
        taken.retain(|(session, _), _| names.contains(session));
        self.restore_refused(&taken);
        if let Some(journal) = &mut self.journal {
            journal.taken.extend(taken.into_iter().map(|((session, packet_id), taken)| (Exchange { session, packet_id }, taken)));
        }
    }

    /// Notes something that is different from what the store of an earlier run says, and that no rewriting will say.
    fn note_if_kept_in_place<'r>(&mut self, record: impl FnOnce() -> Record<'r>) {
        if let Some(journal) = self.journal.as_mut().filter(|journal| journal.rewrite_bytes.is_none()) {
            journal.put(&record());
        }
    }

    /// Exchanges that were interrupted count as refused: nobody was told of the outcome.
    fn restore_refused(&mut self, taken: &BTreeMap<(u64, u16), Taken>) {
        let by_name: BTreeMap<u64, u32> = self.sessions.iter().map(|(index, session)| (session.durable_id(), index)).collect();
        for (session, packet_id) in taken.keys() {
            let Some(session) = by_name.get(session).and_then(|&index| self.sessions.get_mut(index)) else { continue };
            if session.received().get(*packet_id).is_none() {
                let refusal = Refusal { code: None, message: 0, noted: true };
                session.received().refuse(*packet_id, refusal, usize::MAX);
            }
        }
    }

    fn read_log<'a>(&mut self, log: &'a [Vec<u8>], unix_ms: u64) -> Image<'a> {
        let (own, shards) = (self.id, self.shards);
        let clock = |moment| shift(moment, |moment: u64| moment.saturating_sub(unix_ms));
        let mut image = Image::default();
        for commit in log {
            let mut records = &commit[..];
            while let Some(record) = record::next(&mut records) {
                match record {
                    Record::SetRetained(stored) => self.restore_retained(Stored { expires_at: clock(stored.expires_at), ..stored }),
                    Record::ClearRetained { topic } => self.clear_retained(topic),
                    record => image.apply(record, |client_id| home_of(client_id, shards) == own, clock),
                }
            }
        }
        image
    }

    fn restore_retained(&mut self, retained: Stored<'_>) {
        let topic = retained.topic;
        if owner_of(topic, self.shards) != self.id || TopicName::new(topic).is_err() || is_sys(topic) {
            return;
        }
        if retained.expires_at > self.now {
            self.set_retained(&retained);
        } else {
            self.clear_retained(topic);
            self.note_if_kept_in_place(|| Record::ClearRetained { topic });
        }
    }

    fn restore_session(&mut self, id: u64, kept: KeptSession<'_>, unix_ms: u64) {
        if self.sessions.find(kept.client_id).is_some() {
            return;
        }
        let index = self.sessions.insert(kept.client_id, kept.version);
        let left_unix_ms = kept.left_unix_ms.unwrap_or(unix_ms + self.now);
        if kept.left_unix_ms.is_none() {
            self.note_if_kept_in_place(|| Record::SessionLeft { session: id, unix_ms: left_unix_ms });
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.durable = Some(Box::new(Durable { id, left_unix_ms: Some(left_unix_ms) }));
        session.expiry_s = kept.expiry_s;
        session.user = (!kept.user.is_empty()).then(|| kept.user.into());
        session.will = kept.will.as_ref().map(|will| {
            let expiry_s = (will.expiry_s != u32::MAX).then_some(will.expiry_s);
            let message = Stored { expires_at: NEVER, ..will.message }.to_message();
            Box::new(Will::new(message, expiry_s, will.delay_s, &self.held_bytes))
        });
        for (packet_id, elsewhere) in kept.received {
            let kept = if elsewhere { Kept::Elsewhere } else { Kept::Here };
            session.received().set(packet_id, Received::Held(kept));
        }
        for (filter, (subscription_id, options)) in kept.subscriptions {
            self.restore_subscription(index, filter, subscription_id, SubOptions::from_bits(options));
        }
        for (number, delivery) in kept.deliveries {
            self.restore_delivery(index, number, delivery, number <= kept.sent);
        }
        // Who lost the connection by our death, and is on the way back, has not gone.
        let grace_s = if kept.left_unix_ms.is_some() { 0 } else { self.limits.will_grace_after_crash_s };
        self.restore_timers(index, left_unix_ms.saturating_sub(unix_ms), grace_s);
    }

    fn restore_subscription(&mut self, index: u32, filter: &str, subscription_id: u32, options: SubOptions) {
        let subscriber = Subscriber { session: index, subscription_id, options };
        let subscription = match SharedFilter::parse(filter) {
            Some(Ok(shared)) => {
                let joined = self.topics.subscribe_shared(shared.group, shared.filter.as_str(), subscriber);
                self.tell_interest(joined.tell);
                Subscription::Shared(joined.id)
            }
            None if TopicFilter::new(filter).is_ok() => {
                let added = self.topics.subscribe(filter, subscriber);
                self.tell_interest(added.tell);
                Subscription::Filter(added.id)
            }
            _ => return,
        };
        if let Some(session) = self.sessions.get_mut(index) {
            session.subscribe(subscription);
        }
    }

    fn restore_delivery(&mut self, index: u32, number: u64, kept: KeptDelivery<'_>, sent: bool) {
        let share = match SharedFilter::parse(kept.share) {
            Some(Ok(shared)) => self.topics.share_fingerprint(shared.group, shared.filter.as_str()),
            _ => 0,
        };
        let KeptDelivery { message, qos, retain, subscription_ids, .. } = kept;
        let delivery = message.map(|message| Delivery { message, qos, retain, subscription_ids, share });
        if qos == QoS::AtMostOnce {
            return;
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        self.counters.deliveries_matched += 1;
        self.counters.deliveries_queued += u64::from(!sent);
        session.outgoing().restore(number, delivery, sent);
    }

    /// The time of a session goes on while the broker does not run, and so does that of a will that waits.
    fn restore_timers(&mut self, index: u32, left_at: u64, will_grace_s: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let (generation, expiry_s) = (session.generation, session.expiry_s);
        let due = |seconds: u32| left_at.saturating_add(u64::from(seconds) * 1_000).max(self.now);
        if let Some(will) = &session.will {
            let key = TimerKey::WillDelay { session: index, generation };
            session.will_timer = Some(self.wheel.schedule(due(will.delay_s.max(will_grace_s).min(expiry_s)), key));
        }
        if expiry_s != u32::MAX {
            session.expiry_timer = Some(self.wheel.schedule(due(expiry_s), TimerKey::SessionExpiry { session: index, generation }));
        }
    }
}
