//! PUBLISH from a client, and the acknowledgements of what it publishes: PUBACK, PUBREC, PUBREL, PUBCOMP towards the publisher.

use std::rc::Rc;

use super::acks::{AnswerTo, TicketId};
use super::connection::{ClientAliases, Connection, NONE, State};
use super::disconnect::Will;
use super::ids::ConnId;
use super::message::{Incoming, NEVER};
use super::route::{Publisher, Settled};
use super::session::{Kept, Received, Refusal};
use super::shard::Shard;
use super::timers::TimerKey;
use crate::config::Durability;
use crate::metrics::RefuseReason;
use crate::mqtt::{Ack, DecodeError, PacketType, Properties, Publish, QoS, ReasonCode, encode};

impl Shard {
    /// A PUBLISH from a client.
    #[inline]
    pub(super) fn on_publish(&mut self, id: ConnId, publish: &Publish<'_>) {
        self.counters.publishes_received[publish.qos as usize] += 1;
        if publish.properties.raw.is_empty() {
            if publish.topic.is_empty() {
                return self.refuse(id, DecodeError::protocol("PUBLISH with neither topic nor topic alias"));
            }
            return self.on_publish_to(id, publish, publish.topic, &[]);
        }
        if publish.properties.subscription_ids().next().is_some() {
            // [MQTT-3.3.4-6]
            return self.refuse(id, DecodeError::protocol("a client may not send a subscription identifier in PUBLISH"));
        }
        let Some(topic) = self.resolve_alias(id, publish) else { return };
        let topic = topic.as_deref().unwrap_or(publish.topic);
        if publish.properties.forward_as_is {
            return self.on_publish_to(id, publish, topic, publish.properties.raw);
        }
        let mut forward = std::mem::take(&mut self.scratch.forward);
        forward.clear();
        publish.properties.forward_into(&mut forward);
        self.on_publish_to(id, publish, topic, &forward);
        self.scratch.forward = forward;
    }

    /// The topic that an alias stands for; `Some(None)` where the packet names its topic itself; `None` if the connection was ended.
    #[allow(clippy::option_option)]
    fn resolve_alias(&mut self, id: ConnId, publish: &Publish<'_>) -> Option<Option<Rc<str>>> {
        let alias = publish.properties.topic_alias;
        if alias == 0 {
            if publish.topic.is_empty() {
                self.refuse(id, DecodeError::protocol("PUBLISH with neither topic nor topic alias"));
                return None;
            }
            return Some(None);
        }
        if alias > self.connections.get(id)?.terms.topic_alias_maximum {
            // [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-3.3.2-9]; all others are accepted [MQTT-3.3.2-12]
            self.refuse_with(id, ReasonCode::TOPIC_ALIAS_INVALID, "topic alias above the maximum");
            return None;
        }
        let held_bytes = &self.held_bytes;
        let aliases = self.connections.get_mut(id)?.aliases.get_or_insert_with(|| Box::new(ClientAliases::new(held_bytes)));
        if publish.topic.is_empty() {
            let topic = aliases.get(alias);
            if topic.is_none() {
                self.refuse(id, DecodeError::protocol("topic alias that was never set"));
                return None;
            }
            return Some(topic);
        }
        aliases.set(alias, publish.topic);
        Some(None)
    }

    fn on_publish_to(&mut self, id: ConnId, publish: &Publish<'_>, topic: &str, forward: &[u8]) {
        if !self.topic_within_limits(topic) {
            if let Some(session) = self.session_of(id) {
                self.refuse_for(session, RefuseReason::Topic);
            }
            return self.refuse_with(id, ReasonCode::TOPIC_NAME_INVALID, "topic name longer or deeper than the limit");
        }
        let incoming = Incoming {
            topic,
            payload: publish.payload,
            forward,
            qos: publish.qos,
            retain: publish.retain,
            expires_at: publish.properties.message_expiry.map_or(NEVER, |seconds| self.now + u64::from(seconds) * 1_000),
        };
        if publish.qos == QoS::AtMostOnce {
            return self.publish_at_most_once(id, &incoming, !publish.properties.raw.is_empty());
        }
        self.finish_run();
        self.publish_acknowledged(id, publish.packet_id, publish.dup, &incoming);
    }

    /// Whether a topic name or filter keeps to the configured limits.
    pub(super) fn topic_within_limits(&self, topic: &str) -> bool {
        let levels = self.limits.max_topic_levels;
        // Counting levels is only worth it where the text is long enough to have too many. The largest limit is none: there may be one level more.
        topic.len() <= usize::from(self.limits.max_topic_bytes)
            && (topic.len() < usize::from(levels)
                || levels == u16::MAX
                || topic.bytes().filter(|&byte| byte == b'/').count() < usize::from(levels))
    }

    fn publish_at_most_once(&mut self, id: ConnId, incoming: &Incoming<'_>, has_properties: bool) {
        let Some(conn) = self.connections.get(id) else { return };
        let session = conn.session;
        if !incoming.retain && !is_sys(incoming.topic) && self.run_publish(session, (!has_properties).then_some(id), incoming) {
            return;
        }
        self.finish_run();
        self.publish(incoming, Publisher::unanswered(session));
    }

    /// QoS 1 and 2: an acknowledgement is due once the message is in its place [MQTT-3.3.4-1] [MQTT-4.3.2-2] [MQTT-4.3.2-4] [MQTT-4.3.3-8]
    /// [MQTT-4.5.0-1]. At QoS 1 each PUBLISH is a new message, whatever its identifier and DUP [MQTT-4.3.2-5].
    fn publish_acknowledged(&mut self, id: ConnId, packet_id: u16, dup: bool, incoming: &Incoming<'_>) {
        let message = if incoming.qos == QoS::ExactlyOnce { incoming.digest() } else { 0 };
        if incoming.qos == QoS::ExactlyOnce && self.repeat_pubrec(id, packet_id, dup.then_some(message)) {
            return;
        }
        let Some(conn) = self.connections.get(id) else { return };
        let (session, v5, durability) = (conn.session, conn.version.is_v5(), conn.terms.durability);
        let Some((generation, unreleased)) = self.sessions.get(session).map(|session| (session.generation, session.received_len())) else {
            return;
        };
        let open = unreleased + conn.acks.as_ref().map_or(0, |acks| acks.at_qos1());
        if v5 && open >= usize::from(conn.terms.receive_maximum) {
            // [MQTT-3.3.4-7]
            return self.refuse_with(id, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, "more publishes in flight than Receive Maximum allows");
        }
        let number =
            self.connections.get_mut(id).map_or(0, |conn| conn.acks.get_or_insert_with(Box::default).push(packet_id, incoming.qos, None));
        let answer = AnswerTo::Client { conn: id, number, session, session_generation: generation, packet_id, qos: incoming.qos, message };
        let exchange = if incoming.qos == QoS::ExactlyOnce { self.exchange_of(session, packet_id) } else { None };
        let again = exchange.is_some() && self.begin_exchange(session, packet_id, dup, incoming);
        let mark = self.journal_mark();
        let durability = self.admission.durability_of(incoming.topic).unwrap_or(durability);
        match self.publish(incoming, Publisher { session, hold: !v5, answer, exchange, durability }) {
            Settled::Now(code) => {
                let kept = match self.recorded_since(mark) {
                    _ if again => Kept::Elsewhere,
                    true => Kept::Here,
                    false => Kept::Nowhere,
                };
                let commit = if durability == Durability::Commit { self.commit_since(mark) } else { 0 };
                self.answer(answer, code, kept, commit);
            }
            Settled::Later(ticket) => {
                if let Some(ticket) = self.tickets.get_mut(ticket) {
                    ticket.kept_elsewhere |= again;
                }
                self.answer_later(id, session, packet_id, incoming.qos, ticket);
            }
        }
    }

    /// A QoS 2 PUBLISH that was sent again: it gets its answer again and is not delivered again [MQTT-4.3.3-2] [MQTT-4.3.3-10]. False for a new one, as
    /// every one is after a refusal [MQTT-4.3.3-9]; but one that repeats it is refused once more. `repeated` is the message of one with DUP.
    fn repeat_pubrec(&mut self, id: ConnId, packet_id: u16, repeated: Option<u32>) -> bool {
        let Some(conn) = self.connections.get_mut(id) else { return true };
        let Some(received) = self.sessions.get(conn.session).and_then(|session| session.received.as_ref()) else { return false };
        let refusal = repeated.and_then(|message| received.refusal(packet_id, message));
        let code = match received.get(packet_id) {
            Some(Received::Pending(ticket)) => {
                let acks = conn.acks.get_or_insert_with(Box::default);
                if let Some(AnswerTo::Client { conn, number, .. }) = self.tickets.get_mut(ticket).map(|ticket| &mut ticket.answer)
                    && *conn != id
                {
                    (*conn, *number) = (id, acks.push(packet_id, QoS::ExactlyOnce, None));
                }
                return true;
            }
            Some(Received::Held(_) | Received::Ending(_)) => ReasonCode::SUCCESS,
            None => match refusal {
                Some(code) => code,
                None => return false,
            },
        };
        conn.acks.get_or_insert_with(Box::default).push(packet_id, QoS::ExactlyOnce, Some(code));
        self.send_acks(id);
        // Behind an answer that waits, repetitions must not pile up without end.
        let waits = |conn: &Connection| conn.acks.as_ref().is_some_and(|acks| acks.len() > usize::from(conn.terms.receive_maximum));
        if self.connections.get(id).is_some_and(waits) {
            self.pause_publisher(id);
        }
        true
    }

    fn answer_later(&mut self, id: ConnId, session: u32, packet_id: u16, qos: QoS, ticket: TicketId) {
        if qos == QoS::ExactlyOnce
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.received().set(packet_id, Received::Pending(ticket));
        }
        let Some(conn) = self.connections.get(id) else { return };
        let full = usize::from(conn.terms.receive_maximum);
        // A 3.x client knows no Receive Maximum: it is slowed down by not being read.
        if !conn.version.is_v5() && conn.acks.as_ref().is_some_and(|acks| acks.len() >= full) {
            self.pause_publisher(id);
        }
    }

    /// Stops reading from a publisher whose messages find no room; it is let go if that lasts for too long.
    fn pause_publisher(&mut self, id: ConnId) {
        let patience_ms = u64::from(self.limits.full_queue_patience_ms);
        let Some(conn) = self.connections.get_mut(id).filter(|conn| !conn.paused.for_acks) else { return };
        conn.paused.for_acks = true;
        self.counters.publishers_paused += 1;
        if let Some(timer) = conn.timer.take() {
            self.wheel.cancel(timer);
        }
        conn.timer = Some(self.wheel.schedule(self.now + patience_ms, TimerKey::Connection(id)));
    }

    /// Answers whoever waits for a publish. `kept`: where something of it is to outlive the process; `commit`: what the answer has to wait for, or 0.
    pub(super) fn answer(&mut self, answer: AnswerTo, code: ReasonCode, kept: Kept, commit: u64) {
        match answer {
            AnswerTo::Nobody => {}
            AnswerTo::Peer { shard, ticket, kept } => self.reply(shard, ticket, code, kept, commit),
            AnswerTo::Release { conn, session, session_generation, packet_id } => {
                if self.sessions.get_same(session, session_generation).is_some() {
                    self.finish_release(conn, session, packet_id);
                }
            }
            AnswerTo::Client { conn, number, session, session_generation, packet_id, qos, message } => {
                let mark = self.journal_mark();
                if qos == QoS::ExactlyOnce && self.sessions.get_same(session, session_generation).is_some() {
                    self.settle_exchange(session, packet_id, code, message, kept);
                }
                self.answer_client(conn, number, code);
                if self.connections.get(conn).is_some() {
                    self.gate(conn.slot, self.commit_since(mark));
                    self.hold_back(conn.slot, commit);
                }
            }
        }
    }

    /// A QoS 2 publish has found its place, or was refused.
    fn settle_exchange(&mut self, index: u32, packet_id: u16, code: ReasonCode, message: u32, kept: Kept) {
        if code.is_error() {
            // 3.x cannot be told: there the message must be tried again.
            let told = self.sessions.get(index).is_some_and(|session| session.version.is_v5());
            let refusal = Refusal { code: told.then_some(code), message, noted: false };
            return self.note_refused(index, packet_id, kept == Kept::Elsewhere, refusal);
        }
        let kept = self.note_received(index, packet_id, kept);
        if let Some(session) = self.sessions.get_mut(index) {
            session.received().set(packet_id, Received::Held(kept));
        }
    }

    /// A client of 3.x that cannot be told of an error is let go, unless the error passes in time [MQTT-4.8.0-2].
    fn answer_client(&mut self, id: ConnId, number: u64, code: ReasonCode) {
        let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.state == State::Connected) else { return };
        let Some(acks) = &mut conn.acks else { return };
        if code.is_error() && !conn.version.is_v5() {
            // 3.x has no way to refuse a publish: without an acknowledgement the client keeps it, and sends it again when it reconnects. To disconnect it
            // at once would make it come back at once, with all that it has not got acknowledged.
            acks.withhold();
            self.resuming.push(id);
            return self.pause_publisher(id);
        }
        acks.settle(number, code);
        self.send_acks(id);
    }

    /// Sends what is settled, in the order of the publishes [MQTT-4.6.0-2] [MQTT-4.6.0-3], under their identifiers [MQTT-2.2.1-5] [MQTT-2.3.1-6] and
    /// without properties, which not every client wants [MQTT-3.1.2-29] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3].
    fn send_acks(&mut self, id: ConnId) {
        let Some(conn) = self.output(id.slot) else { return };
        let half = usize::from(conn.terms.receive_maximum) / 2;
        let Some(acks) = &mut conn.acks else { return };
        let mut sent = 0;
        while let Some((packet_id, qos, code)) = acks.pop_settled() {
            let kind = if qos == QoS::AtLeastOnce { PacketType::Puback } else { PacketType::Pubrec };
            encode::ack(conn.out.own(), conn.version, kind, packet_id, code, &Properties::default());
            sent += 1;
        }
        let resume = conn.paused.for_acks && acks.len() <= half && !acks.withheld();
        self.counters.packets_sent += sent;
        if resume {
            self.resuming.push(id);
        }
    }

    /// PUBREL: the client will not send this PUBLISH again [MQTT-4.3.3-2] [MQTT-4.3.3-11], and its identifier is free [MQTT-4.3.3-12]. What has become
    /// of the message meanwhile plays no part [MQTT-4.3.3-13].
    pub(super) fn on_pubrel(&mut self, id: ConnId, ack: &Ack<'_>) {
        let Some(index) = self.session_of(id) else { return };
        let received = self.sessions.get(index).and_then(|session| session.received.as_ref());
        match received.and_then(|received| received.get(ack.packet_id)) {
            Some(Received::Held(Kept::Elsewhere)) => self.release_elsewhere(id, index, ack.packet_id),
            Some(Received::Held(kept)) => {
                if kept == Kept::Here {
                    self.note_received_ended(index, ack.packet_id, id.slot);
                }
                self.free_received(index, ack.packet_id);
                self.send_pubcomp(id, ack.packet_id, ReasonCode::SUCCESS);
            }
            Some(Received::Ending(ticket)) => {
                // Said again, on another connection perhaps: one answer, to the last who asked.
                if let Some(AnswerTo::Release { conn, .. }) = self.tickets.get_mut(ticket).map(|ticket| &mut ticket.answer) {
                    *conn = id;
                }
            }
            Some(Received::Pending(_)) | None => {
                self.forget_refused(index, ack.packet_id);
                self.send_pubcomp(id, ack.packet_id, ReasonCode::PACKET_ID_NOT_FOUND);
            }
        }
    }

    /// No shard knows the identifier any more.
    fn finish_release(&mut self, id: ConnId, index: u32, packet_id: u16) {
        self.note_received_ended(index, packet_id, id.slot);
        self.free_received(index, packet_id);
        if self.session_of(id) == Some(index) {
            self.send_pubcomp(id, packet_id, ReasonCode::SUCCESS);
        }
    }

    fn free_received(&mut self, index: u32, packet_id: u16) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let received = session.received();
        received.release(packet_id);
        if received.is_empty() {
            session.received = None;
        }
    }

    /// Without properties [MQTT-3.7.2-2] [MQTT-3.7.2-3].
    fn send_pubcomp(&mut self, id: ConnId, packet_id: u16, code: ReasonCode) {
        if let Some(conn) = self.output(id.slot) {
            encode::ack(conn.out.own(), conn.version, PacketType::Pubcomp, packet_id, code, &Properties::default());
            self.counters.packets_sent += 1;
        }
    }

    /// A message of the broker's own (a will, `$SYS`): nobody waits for it. `session` is the publisher, or [`NONE`].
    pub(super) fn publish_from_broker(&mut self, incoming: &Incoming<'_>, session: u32) {
        self.finish_run();
        self.publish(incoming, Publisher::unanswered(session));
    }

    /// The publish with this ticket has one part less to wait for.
    pub(super) fn settle(&mut self, ticket: TicketId, code: ReasonCode) {
        if let Some(done) = self.tickets.settle(ticket, code) {
            self.answer(done.answer, done.code, if done.kept_elsewhere { Kept::Elsewhere } else { Kept::Here }, done.commit);
        }
    }

    /// The answer of a publish must not leave before this commit is durable.
    pub(super) fn wait_for_commit(&mut self, ticket: TicketId, commit: u64) {
        if let Some(ticket) = self.tickets.get_mut(ticket) {
            ticket.commit = if ticket.durability == Durability::Commit { ticket.commit.max(commit) } else { 0 };
        }
    }

    /// A paused publisher has waited long enough for a full queue: it is let go, without an acknowledgement.
    pub(super) fn on_paused_too_long(&mut self, id: ConnId) {
        if self.give_publishes_up(id) {
            let patience_ms = u64::from(self.limits.full_queue_patience_ms);
            let timer = self.wheel.schedule(self.now + patience_ms, TimerKey::Connection(id));
            if let Some(conn) = self.connections.get_mut(id) {
                conn.timer = Some(timer);
            }
            return;
        }
        if let Some(session) = self.session_of(id) {
            self.refuse_for(session, RefuseReason::FullQueuePatience);
        }
        self.disconnect(id, ReasonCode::SERVER_BUSY, Will::Publish);
    }

    /// Whether a connection's session is still there.
    pub(super) fn session_of(&self, id: ConnId) -> Option<u32> {
        self.connections.get(id).map(|conn| conn.session).filter(|&session| session != NONE)
    }
}

/// Topics that only the broker publishes to.
pub(super) fn is_sys(topic: &str) -> bool {
    topic.starts_with("$SYS/") || topic == "$SYS"
}
