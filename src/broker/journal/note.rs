//! What the shard notes where something changes that is to outlive the process. Each of these costs nothing where there is no journal, and for a session
//! that ends with its connection.

use super::Journal;
use super::record::{Record, Stored, shift};
use crate::broker::message::{Delivery, Incoming, Message};
use crate::broker::publish::is_sys;
use crate::broker::session::{Durable, Session, Will};
use crate::broker::shard::Shard;
use crate::broker::topics::{SubOptions, Topics};
use crate::mqtt::QoS;

impl Journal {
    /// A message as it is kept.
    fn stored<'a>(&self, incoming: Incoming<'a>) -> Stored<'a> {
        Stored { expires_at: shift(incoming.expires_at, |moment| moment + self.unix_ms), ..incoming }
    }

    pub(super) fn put_retained(&mut self, incoming: Incoming<'_>) {
        let stored = self.stored(incoming);
        self.put(&Record::SetRetained(stored));
    }

    pub(super) fn put_session(&mut self, session: &Session) {
        let Some(Durable { id, left_unix_ms }) = session.durable.as_deref().copied() else { return };
        self.put(&Record::Session {
            session: id,
            version: session.version,
            expiry_s: session.expiry_s,
            client_id: &session.client_id,
            user: session.user.as_deref().unwrap_or(""),
        });
        match &session.will {
            Some(will) => self.put_will(id, will),
            None => self.put(&Record::WillGone { session: id }),
        }
        if let Some(unix_ms) = left_unix_ms {
            self.put(&Record::SessionLeft { session: id, unix_ms });
        }
    }

    fn put_ended(&mut self, session: u64, client_id: &str) {
        self.put(&Record::SessionEnded { session });
        self.ended.push_back((self.number, client_id.into()));
    }

    fn put_will(&mut self, session: u64, will: &Will) {
        let message = self.stored(will.message.as_incoming());
        self.put(&Record::Will { session, delay_s: will.delay_s, expiry_s: will.expiry_s.unwrap_or(u32::MAX), message });
    }

    /// The number by which deliveries of this turn name a message, which is written if the last delivery was of another one.
    fn message_number(&mut self, message: &Message) -> u64 {
        if self.last_message.as_ref().is_none_or(|last| !last.is_same(message)) {
            self.message_number += 1;
            let stored = self.stored(message.as_incoming());
            self.put(&Record::Message { message: self.message_number, stored });
            self.last_message = Some(message.clone());
        }
        self.message_number
    }

    pub(super) fn put_delivery(&mut self, session: u64, number: u64, delivery: &Delivery, share: &str) {
        let message = self.message_number(&delivery.message);
        self.put(&Record::Delivery {
            session,
            number,
            message,
            qos: delivery.qos,
            retain: delivery.retain,
            share,
            subscription_ids: delivery.subscription_ids.clone(),
        });
    }
}

impl Shard {
    /// Notes that a topic's retained message changed; `None`: it is gone.
    pub(in crate::broker) fn note_retained(&mut self, topic: &str, publish: Option<&Incoming<'_>>) {
        // What the broker says of itself is made anew by the next run.
        let Some(journal) = self.journal.as_mut().filter(|_| !is_sys(topic)) else { return };
        match publish {
            Some(publish) => journal.put_retained(*publish),
            None => journal.put(&Record::ClearRetained { topic }),
        }
    }

    /// A client was let in, or its session's expiry has changed: the session is durable if it is to outlive the connection, and its record is written anew.
    pub(in crate::broker) fn note_session(&mut self, index: u32) {
        let Some(journal) = &mut self.journal else { return };
        let Some(session) = self.sessions.get_mut(index) else { return };
        if session.expiry_s == 0 && session.durable.is_none() {
            // One that was durable stays so until it ends with its connection: it has a name by which shards know its QoS 2 exchanges.
            return;
        }
        if let Some(durable) = &mut session.durable {
            durable.left_unix_ms = None;
        } else {
            let id = self.entropy.fresh_number();
            session.durable = Some(Box::new(Durable { id, left_unix_ms: None }));
        }
        journal.put_session(session);
    }

    /// The session has no connection any more.
    pub(in crate::broker) fn note_left(&mut self, index: u32) {
        let Some(journal) = &mut self.journal else { return };
        let Some(durable) = self.sessions.get_mut(index).and_then(|session| session.durable.as_mut()) else { return };
        let unix_ms = journal.unix_ms + self.now;
        durable.left_unix_ms = Some(unix_ms);
        journal.put(&Record::SessionLeft { session: durable.id, unix_ms });
    }

    /// The journal and the session's name in it, if it is there.
    fn journal_of(&mut self, index: u32) -> Option<(&mut Journal, u64)> {
        let session = self.sessions.get(index)?.durable_id();
        let journal = self.journal.as_mut().filter(|_| session != 0)?;
        Some((journal, session))
    }

    pub(in crate::broker) fn note_will_gone(&mut self, index: u32) {
        if let Some((journal, session)) = self.journal_of(index) {
            journal.put(&Record::WillGone { session });
        }
    }

    pub(in crate::broker) fn note_ended(&mut self, session: &Session) {
        if let Some(journal) = self.journal.as_mut().filter(|_| session.durable.is_some()) {
            journal.put_ended(session.durable_id(), &session.client_id);
        }
    }

    /// Whoever is told that it has no session waits until the end of its last one is durable: a crash would bring it back.
    pub(in crate::broker) fn gate_on_ended(&mut self, slot: u32, client_id: &str) {
        let ended = self.journal.as_ref().and_then(|journal| journal.ended.iter().rfind(|(_, ended)| **ended == *client_id));
        if let Some(&(commit, _)) = ended {
            self.gate(slot, commit);
        }
    }

    pub(in crate::broker) fn note_subscribed(&mut self, index: u32, filter: &str, subscription_id: u32, options: SubOptions) {
        if let Some((journal, session)) = self.journal_of(index) {
            journal.put(&Record::Subscribed { session, subscription_id, options: options.bits(), filter });
        }
    }

    pub(in crate::broker) fn note_unsubscribed(&mut self, index: u32, filter: &str) {
        if let Some((journal, session)) = self.journal_of(index) {
            journal.put(&Record::Unsubscribed { session, filter });
        }
    }

    /// A message is a session's from now on; `sent`: it is not queued. Gives its number.
    pub(in crate::broker) fn note_delivery(&mut self, index: u32, delivery: &Delivery, sent: bool) -> u64 {
        let Some(session) = self.sessions.get_mut(index) else { return 0 };
        let number = session.outgoing().give_number();
        let (id, slot) = (session.durable_id(), session.connection);
        let Some(journal) = self.journal.as_mut().filter(|_| id != 0) else { return number };
        let share = share_text(&self.topics, delivery);
        journal.put_delivery(id, number, delivery, &share);
        if sent {
            self.note_sent(index, number, slot, delivery.qos);
        }
        number
    }

    /// The message with this number is about to be sent for the first time. One of QoS 2 must not be sent before it is known that it keeps its packet
    /// identifier: its receiver would take another message under the same identifier for a repetition.
    pub(in crate::broker) fn note_sent(&mut self, index: u32, number: u64, slot: u32, qos: QoS) {
        let Some((journal, session)) = self.journal_of(index) else { return };
        journal.put(&Record::Sent { session, number });
        if qos == QoS::ExactlyOnce {
            self.gate_on_all(slot);
        }
    }

    /// PUBREC: PUBREL must not leave before this is durable, or the receiver might get the message once more after it has forgotten it.
    pub(in crate::broker) fn note_released(&mut self, index: u32, number: u64, slot: u32) {
        let Some((journal, session)) = self.journal_of(index) else { return };
        journal.put(&Record::Released { session, number });
        self.gate_on_all(slot);
    }

    pub(in crate::broker) fn note_finished(&mut self, index: u32, number: u64) {
        if let Some((journal, session)) = self.journal_of(index) {
            journal.put(&Record::Finished { session, number });
        }
    }

    /// Whether a message for this session can be promised: not while the disk takes nothing.
    pub(in crate::broker) fn cannot_keep(&self, index: u32) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_full())
            && self.sessions.get(index).is_some_and(|session| session.durable.is_some())
    }
}

/// The shared subscription that a message came by; empty for the session's own.
pub(super) fn share_text(topics: &Topics, delivery: &Delivery) -> String {
    if delivery.share == 0 {
        return String::new();
    }
    topics.share_by_fingerprint(delivery.share).and_then(|group| topics.text_of_share(group)).unwrap_or_default()
}
