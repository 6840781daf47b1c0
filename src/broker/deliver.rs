//! A message to one session: sent at once, queued, held, or dropped with a reason; and the acknowledgements of the subscriber.

use super::acks::TicketId;
use super::aliases::Alias;
use super::budget::Pressure;
use super::connection::{NONE, State};
use super::ids::ConnId;
use super::message::{Delivery, Incoming, Message, Transmission, remaining_s};
use super::outgoing::{Held, InFlight, Outgoing, Stage, packet_id};
use super::route::Job;
use super::shard::Shard;
use crate::config::{Limits, QueueFull};
use crate::metrics::{DropReason, RefuseReason};
use crate::mqtt::{Ack, DecodeError, PacketType, Properties, PublishOut, QoS, ReasonCode, encode};

impl Shard {
    /// QoS 0: into the client's output if it is connected and has room; never stored [MQTT-4.3.1-1]. A payload that `owned` holds is not copied.
    pub(super) fn deliver_at_most_once(
        &mut self,
        session: u32,
        incoming: &Incoming<'_>,
        owned: Option<&Message>,
        retain: bool,
        subscription_ids: &[u32],
    ) {
        self.counters.deliveries_matched += 1;
        let Some(slot) = self.sessions.get(session).map(|session| session.connection).filter(|&slot| slot != NONE) else {
            return self.counters.count_dropped(DropReason::Offline, 1);
        };
        let (now, allowed) = (self.now, self.allowed_unsent);
        let Some(conn) = self.output(slot) else { return };
        if conn.unsent() as u64 > allowed {
            return self.drop_for(session, DropReason::OutBufferFull, 1);
        }
        let packet = |alias: Alias| PublishOut {
            retain,
            forward: incoming.forward,
            message_expiry: remaining_s(incoming.expires_at, now),
            subscription_ids,
            topic_alias: alias.number,
            ..PublishOut::new(if alias.known { "" } else { incoming.topic }, incoming.payload)
        };
        let (version, maximum) = (conn.version, conn.max_packet_bytes as usize);
        let fits = |alias| maximum == u32::MAX as usize || encode::publish_len(version, &packet(alias)) <= maximum;
        let Some(alias) = conn.alias_of(|| incoming.topic).if_it_fits(fits) else {
            // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
            return self.drop_for(session, DropReason::PacketTooLargeForClient, 1);
        };
        let packet = packet(alias);
        match owned {
            Some(message) => message.encode(&mut conn.out, version, &packet),
            None => encode::publish(conn.out.own(), version, &packet),
        }
        conn.alias_sent(|| incoming.topic, alias);
        self.counters.packets_sent += 1;
        self.counters.publishes_sent[0] += 1;
        self.account_copies(slot);
    }

    /// A retained message that was fetched for a session: it had its room when it was asked for, and is not lost to what came live meanwhile.
    pub(super) fn deliver_fetched(&mut self, index: u32, delivery: Delivery) {
        if delivery.qos == QoS::AtMostOnce {
            let Delivery { message, retain, subscription_ids, .. } = &delivery;
            self.deliver_at_most_once(index, &message.as_incoming(), Some(message), *retain, subscription_ids);
        } else if let Some(delivery) = self.start_at_once(index, delivery, false) {
            self.enqueue(index, delivery);
        }
    }

    /// Puts a message behind those that wait.
    fn enqueue(&mut self, index: u32, delivery: Delivery) {
        let number = self.note_delivery(index, &delivery, false);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let outgoing = session.outgoing();
        if outgoing.queued() == 0 {
            outgoing.standstill.since = self.now;
        }
        if outgoing.held() == 0 {
            outgoing.enqueue(number, delivery);
        } else {
            outgoing.hold(Held { number, delivery, ticket: None });
        }
        self.counters.deliveries_matched += 1;
        self.counters.deliveries_queued += 1;
    }

    /// Sends a QoS 1 or 2 message if memory is not short, nothing waits before it and the window is open; gives it back otherwise.
    fn start_at_once(&mut self, index: u32, delivery: Delivery, memory_short: bool) -> Option<Delivery> {
        let session = self.sessions.get_mut(index)?;
        let slot = session.connection;
        if memory_short || session.outgoing().queued() > 0 || slot == NONE || !self.may_start(index, slot) {
            return Some(delivery);
        }
        self.counters.deliveries_matched += 1;
        let number = self.note_delivery(index, &delivery, true);
        self.start(index, slot, number, delivery);
        None
    }

    /// QoS 1 and 2: sent if the window is open, else queued, connected or not [MQTT-3.1.2-5] [MQTT-4.5.0-1]. An error says that the queue is full and
    /// the message was not taken.
    pub(super) fn deliver_acknowledged(&mut self, index: u32, delivery: Delivery, job: Option<&mut Job>) -> ReasonCode {
        let memory_short = self.pressure >= Pressure::RefuseMessages;
        if self.cannot_keep(index) {
            self.refuse_for(index, RefuseReason::Storage);
            self.counters.publishes_refused += 1;
            return ReasonCode::QUOTA_EXCEEDED;
        }
        let delivery = match self.start_at_once(index, delivery, memory_short) {
            Some(delivery) => delivery,
            None => return ReasonCode::SUCCESS,
        };
        let Some(session) = self.sessions.get_mut(index) else { return ReasonCode::SUCCESS };
        let outgoing = session.outgoing();
        if !memory_short && queue_has_room(&self.limits, outgoing, &delivery) {
            self.enqueue(index, delivery);
            return ReasonCode::SUCCESS;
        }
        if self.limits.queue_full == QueueFull::DropOldest {
            self.drop_oldest(index, delivery);
            return ReasonCode::SUCCESS;
        }
        if !memory_short {
            self.watch_full_queue(index);
        }
        self.refuse_for(index, RefuseReason::FullQueue);
        let Some(job) = job.filter(|job| job.holds()) else {
            self.counters.publishes_refused += 1;
            return ReasonCode::QUOTA_EXCEEDED;
        };
        let Some(session) = self.sessions.get_mut(index) else { return ReasonCode::SUCCESS };
        let outgoing = session.outgoing();
        // What is held takes memory as well as what is queued, and keeps to the same limits. But a message of which one copy is held (for a shared
        // subscription, say) is held as a whole, or it would be refused each time that it is sent.
        let begun = job.has_held(outgoing.last_held());
        let full =
            outgoing.held() >= self.limits.max_queued_messages as usize || outgoing.held_bytes() >= u64::from(self.limits.max_queued_bytes);
        if memory_short || full && !begun {
            self.counters.publishes_refused += 1;
            return ReasonCode::QUOTA_EXCEEDED;
        }
        let ticket: TicketId = job.wait(&mut self.tickets);
        let number = self.note_delivery(index, &delivery, false);
        if let Some(session) = self.sessions.get_mut(index) {
            session.outgoing().hold(Held { number, delivery, ticket: Some(ticket) });
        }
        self.counters.deliveries_matched += 1;
        self.counters.deliveries_queued += 1;
        ReasonCode::SUCCESS
    }

    fn drop_oldest(&mut self, index: u32, delivery: Delivery) {
        if self.pressure >= Pressure::RefuseMessages {
            self.drop_first(index, DropReason::QueueBytesFull);
        }
        let has_room = |shard: &mut Shard| {
            let session = shard.sessions.get_mut(index);
            session.is_none_or(|session| queue_has_room(&shard.limits, session.outgoing(), &delivery))
        };
        while !has_room(self) && self.drop_first(index, DropReason::QueueFull) {}
        self.enqueue(index, delivery);
        // Where memory was short it did not start at once; if nothing is under way either, no acknowledgement would start it.
        if let Some(slot) = self.sessions.get(index).map(|session| session.connection).filter(|&slot| slot != NONE) {
            self.send_waiting(slot);
        }
    }

    /// Drops the message that waits longest; false if none waits.
    fn drop_first(&mut self, index: u32, reason: DropReason) -> bool {
        let Some((number, _)) = self.sessions.get_mut(index).and_then(|session| session.outgoing().dequeue()) else { return false };
        self.drop_for(index, reason, 1);
        self.note_finished(index, number);
        true
    }

    /// Whether a connection can take one more QoS 1 or 2 message now.
    fn may_start(&self, index: u32, slot: u32) -> bool {
        let Some(conn) = self.connections.slot(slot) else { return false };
        let Some(outgoing) = self.sessions.get(index).and_then(|session| session.outgoing.as_ref()) else { return false };
        conn.state == State::Connected && conn.unsent() as u64 <= self.allowed_unsent && outgoing.window_open(conn.window)
    }

    /// Sends a message for the first time: DUP says nothing of how it came [MQTT-3.3.1-3] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2].
    /// The caller has seen that it may start.
    fn start(&mut self, index: u32, slot: u32, number: u64, delivery: Delivery) {
        let now = self.now;
        if self.output(slot).is_none() {
            return;
        }
        let (Some(conn), Some(session)) = (self.connections.slot_mut(slot), self.sessions.get_mut(index)) else { return };
        if delivery.message.expires_at < now {
            // [MQTT-3.3.2-5]
            self.counters.count_dropped(DropReason::Expired, 1);
            return self.note_finished(index, number);
        }
        let (version, max_packet_bytes) = (conn.version, conn.max_packet_bytes);
        let to = |alias| Transmission { version, packet_id: packet_id(number), dup: false, now, max_packet_bytes, alias };
        let Some(alias) = conn.alias_of(|| delivery.message.topic()).if_it_fits(|alias| delivery.fits(to(alias))) else {
            // As if it had been sent and acknowledged [MQTT-3.1.2-25].
            self.drop_for(index, DropReason::PacketTooLargeForClient, 1);
            return self.note_finished(index, number);
        };
        delivery.encode(&mut conn.out, to(alias));
        conn.alias_sent(|| delivery.message.topic(), alias);
        self.counters.publishes_sent[delivery.qos as usize] += 1;
        self.counters.packets_sent += 1;
        session.outgoing().start(number, delivery);
    }

    /// Sends what waits for a connection, as far as its window and its output have room: first what has to be sent again, then the queue without what has
    /// expired [MQTT-3.3.2-5].
    pub(super) fn send_waiting(&mut self, slot: u32) {
        let Some(index) = self.connections.slot(slot).map(|conn| conn.session) else { return };
        if self.sessions.get(index).is_none_or(|session| session.outgoing.is_none()) {
            return;
        }
        while self.resend_next(index, slot) {}
        while self.may_start(index, slot) {
            let Some((number, delivery)) = self.sessions.get_mut(index).and_then(|session| session.outgoing().dequeue()) else { break };
            self.note_sent(index, number, slot, delivery.qos);
            self.start(index, slot, number, delivery);
        }
        self.take_held(index);
    }

    /// Sends the next message again that the last connection left unfinished [MQTT-4.4.0-1], however old it is by now [MQTT-4.3.3-7], also one of a shared
    /// subscription [MQTT-4.8.2-4]; false when there is none or no room.
    fn resend_next(&mut self, index: u32, slot: u32) -> bool {
        let (now, allowed) = (self.now, self.allowed_unsent);
        let Some(conn) = self.output(slot) else { return false };
        if conn.unsent() as u64 > allowed || conn.state != State::Connected {
            return false;
        }
        let (Some(conn), Some(session)) = (self.connections.slot_mut(slot), self.sessions.get_mut(index)) else { return false };
        let Some((packet_id, entry)) = session.outgoing().next_resend(conn.window) else { return false };
        let to = Transmission {
            version: conn.version,
            packet_id,
            // [MQTT-3.3.1-1]
            dup: true,
            now,
            max_packet_bytes: conn.max_packet_bytes,
            // Rare enough to name its topic.
            alias: Alias::default(),
        };
        if resend(entry, to, &mut conn.out) {
            self.counters.packets_sent += 1;
        } else {
            // Too large for what the client allows now: as if it had been sent and acknowledged [MQTT-3.1.2-25].
            let finished = session.outgoing().finish(packet_id, |_| true);
            self.drop_for(index, DropReason::PacketTooLargeForClient, 1);
            finished.into_iter().for_each(|number| self.note_finished(index, number));
        }
        true
    }

    /// Moves messages that were held into the queue as it gets room, and lets their publishers be answered.
    fn take_held(&mut self, index: u32) {
        loop {
            let Some(session) = self.sessions.get_mut(index) else { return };
            let slot = session.connection;
            let outgoing = session.outgoing();
            if outgoing.next_held().is_none_or(|next| !fits_into_queue(&self.limits, outgoing, next)) {
                return;
            }
            let Some(Held { number, delivery, ticket }) = outgoing.take_held() else { return };
            if outgoing.queued() == 0 && slot != NONE && self.may_start(index, slot) {
                self.note_sent(index, number, slot, delivery.qos);
                self.start(index, slot, number, delivery);
            } else if let Some(session) = self.sessions.get_mut(index) {
                session.outgoing().enqueue(number, delivery);
            }
            ticket.into_iter().for_each(|ticket| self.settle(ticket, ReasonCode::SUCCESS));
        }
    }

    /// PUBACK: a QoS 1 message has arrived, or is refused for good [MQTT-4.4.0-2] [MQTT-4.8.2-6].
    pub(super) fn on_puback(&mut self, id: ConnId, ack: &Ack<'_>) {
        self.finish_delivery(id, ack.packet_id, |stage| matches!(stage, Stage::Published(delivery) if delivery.qos == QoS::AtLeastOnce));
    }

    /// PUBCOMP: a QoS 2 message has arrived, exactly once.
    pub(super) fn on_pubcomp(&mut self, id: ConnId, ack: &Ack<'_>) {
        self.finish_delivery(id, ack.packet_id, |stage| matches!(stage, Stage::Released));
    }

    /// PUBREC: the client has the QoS 2 message; from now on only PUBREL is sent [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-6], in the order of the
    /// PUBRECs [MQTT-4.6.0-4].
    pub(super) fn on_pubrec(&mut self, id: ConnId, ack: &Ack<'_>) {
        let Some(index) = self.session_of(id) else { return };
        if ack.reason.is_error() {
            // The client refuses it: the exchange is over [MQTT-4.3.3-4] [MQTT-4.4.0-2] [MQTT-4.8.2-6].
            return self.finish_delivery(
                id,
                ack.packet_id,
                |stage| matches!(stage, Stage::Published(delivery) if delivery.qos == QoS::ExactlyOnce),
            );
        }
        let mut outgoing = self.sessions.get_mut(index).and_then(|session| session.outgoing.as_mut());
        let known = outgoing.as_mut().and_then(|outgoing| outgoing.release(ack.packet_id));
        if known.is_none() && outgoing.is_some_and(|outgoing| outgoing.is_in_flight(ack.packet_id)) {
            return self.refuse(id, DecodeError::protocol(WRONG_ACKNOWLEDGEMENT));
        }
        if let Some(number) = known {
            self.note_released(index, number, id.slot);
            self.queue_moves(index);
        }
        let code = if known.is_some() { ReasonCode::SUCCESS } else { ReasonCode::PACKET_ID_NOT_FOUND };
        if let Some(conn) = self.output(id.slot) {
            // Without properties [MQTT-3.6.2-2] [MQTT-3.6.2-3].
            encode::ack(conn.out.own(), conn.version, PacketType::Pubrel, ack.packet_id, code, &Properties::default());
            self.counters.packets_sent += 1;
        }
    }

    fn finish_delivery(&mut self, id: ConnId, packet_id: u16, expected: impl Fn(&Stage) -> bool) {
        let Some(index) = self.session_of(id) else { return };
        let Some(outgoing) = self.sessions.get_mut(index).and_then(|session| session.outgoing.as_mut()) else { return };
        if let Some(number) = outgoing.finish(packet_id, expected) {
            self.note_finished(index, number);
            self.counters.deliveries_acknowledged += 1;
            self.queue_moves(index);
            self.send_waiting(id.slot);
            self.continue_fetches(id.slot);
        } else if outgoing.is_in_flight(packet_id) {
            self.refuse(id, DecodeError::protocol(WRONG_ACKNOWLEDGEMENT));
        }
    }
}

/// QoS 1 ends with PUBACK, QoS 2 with PUBREC and then PUBCOMP. An acknowledgement of what is not in flight may be late, and is no fault.
const WRONG_ACKNOWLEDGEMENT: &str = "an acknowledgement that does not belong to the QoS or the stage of its message";

/// Whether a message may join the queue. Behind one that is held, none does: it would overtake it [MQTT-4.6.0-5].
fn queue_has_room(limits: &Limits, outgoing: &Outgoing, delivery: &Delivery) -> bool {
    outgoing.held() == 0 && fits_into_queue(limits, outgoing, delivery)
}

/// Whether a queue with one more message keeps to its limits; an empty one takes a message of any size.
fn fits_into_queue(limits: &Limits, outgoing: &Outgoing, delivery: &Delivery) -> bool {
    outgoing.queued() < limits.max_queued_messages as usize
        && (outgoing.queued() == 0 || outgoing.queued_bytes() + u64::from(delivery.message.bytes()) <= u64::from(limits.max_queued_bytes))
}

/// Appends the packet of an unfinished exchange; false if the client would not take it.
fn resend(entry: &InFlight, to: Transmission, out: &mut super::outbox::OutBatch) -> bool {
    match &entry.stage {
        Stage::Published(delivery) if !delivery.fits(to) => return false,
        Stage::Published(delivery) => delivery.encode(out, to),
        Stage::Released => {
            encode::ack(out.own(), to.version, PacketType::Pubrel, to.packet_id, ReasonCode::SUCCESS, &Properties::default());
        }
        Stage::Done => {}
    }
    true
}
