//! The end of a connection, in all its ways, and what becomes of the session and its will.

use super::connection::{Connection, NONE, State};
use super::ids::ConnId;
use super::message::NEVER;
use super::outgoing::Outgoing;
use super::shard::{Command, Shard};
use super::timers::TimerKey;
use crate::metrics::{CloseCause, DropReason, RefuseReason};
use crate::mqtt::{DecodeError, Disconnect, Properties, ReasonCode, encode};

/// Whether the will is to be sent when a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Will {
    Publish,
    /// After DISCONNECT with reason 0x00 [MQTT-3.1.2-10] [MQTT-3.14.4-3].
    Drop,
}

/// For ever, as a session expiry.
const FOREVER_S: u32 = u32::MAX;

impl Shard {
    pub(super) fn on_disconnect(&mut self, id: ConnId, packet: &Disconnect<'_>) {
        let Some(conn) = self.connections.get(id) else { return };
        if let Some(expiry_s) = packet.properties.session_expiry {
            let Some(session) = self.sessions.get_mut(conn.session) else { return };
            if session.expiry_s == 0 && expiry_s != 0 {
                // A session that was to end with the connection cannot be prolonged now (5.0 section 3.14.2.2.2).
                return self.refuse(id, DecodeError::protocol("DISCONNECT sets a session expiry where CONNECT had none"));
            }
            session.expiry_s = expiry_s.min(self.limits.max_session_expiry_s);
            let index = conn.session;
            self.note_session(index);
        }
        // [MQTT-3.1.2-10] [MQTT-3.14.4-3]
        let will = if packet.reason == ReasonCode::SUCCESS { Will::Drop } else { Will::Publish };
        // The client closes [MQTT-3.14.4-1]; if it does not, we do [MQTT-3.14.4-2].
        self.end_connection(id, will, CloseCause::ClientDisconnect);
        self.command(Command::Close { conn: id, after_send: true });
    }

    /// Ends a connection from our side: a 5.0 client is told the reason, then the socket is closed [MQTT-3.14.4-2] [MQTT-4.13.2-1].
    pub(super) fn disconnect(&mut self, id: ConnId, reason: ReasonCode, will: Will) {
        self.disconnect_because(id, reason, "", will);
    }

    /// The same with the reason in words; empty where there is nothing to add.
    pub(super) fn disconnect_because(&mut self, id: ConnId, reason: ReasonCode, what: &str, will: Will) {
        let Some(conn) = self.connections.get(id) else { return };
        if conn.state == State::Closing {
            return;
        }
        // No DISCONNECT before CONNACK [MQTT-3.14.0-1].
        let tell = conn.version.is_v5() && conn.state == State::Connected;
        if tell && let Some(conn) = self.output(id.slot) {
            // [MQTT-3.14.4-1]; with no other property [MQTT-3.14.2-2] [MQTT-3.14.2-4]
            let properties = Properties { reason_string: reason_string(conn, what), ..Properties::default() };
            encode::disconnect(conn.out.own(), conn.version, reason, &properties);
            self.counters.packets_sent += 1;
        }
        let told = self.connections.get(id).is_some_and(|conn| !conn.out.is_empty());
        self.end_connection(id, will, cause_of(reason));
        self.command(Command::Close { conn: id, after_send: told });
    }

    /// Takes everything from a connection but its unsent output; the shell is told by the caller.
    pub(super) fn end_connection(&mut self, id: ConnId, will: Will, cause: CloseCause) {
        self.finish_run();
        self.counters.count_closed(cause);
        let Some(conn) = self.connections.get_mut(id) else { return };
        conn.state = State::Closing;
        conn.partial = Vec::new();
        self.partial_bytes = self.partial_bytes.saturating_sub(u64::from(std::mem::take(&mut conn.partial_accounted)));
        conn.acks = None;
        // [MQTT-3.3.2-7]
        conn.aliases = None;
        conn.authentication = None;
        let session = std::mem::replace(&mut conn.session, NONE);
        if let Some(timer) = conn.timer.take() {
            self.wheel.cancel(timer);
        }
        if session != NONE {
            self.leave_session(session, will);
        }
    }

    /// The session goes on without a connection [MQTT-3.1.2-4] [MQTT-3.1.2-23], or ends.
    fn leave_session(&mut self, index: u32, will: Will) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.connection = NONE;
        self.connected -= 1;
        if session.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_empty()) {
            session.outgoing = None;
        }
        let generation = session.generation;
        let expiry_s = session.expiry_s;
        // The will is sent when its delay or the session is over, whichever comes first [MQTT-3.1.3-9].
        let delay_s = session.will.as_ref().map(|will| will.delay_s.min(expiry_s)).filter(|_| will == Will::Publish);
        let dropped = will == Will::Drop && session.will.take().is_some();
        if dropped {
            self.note_will_gone(index);
        }
        self.note_left(index);
        match delay_s {
            Some(0) => self.publish_will(index),
            Some(delay_s) => {
                let timer = self.wheel.schedule(self.now + u64::from(delay_s) * 1_000, TimerKey::WillDelay { session: index, generation });
                if let Some(session) = self.sessions.get_mut(index) {
                    session.will_timer = Some(timer);
                }
            }
            None => {}
        }
        let offline = self.sessions.len() as u64 - self.connected;
        if expiry_s == 0 {
            self.end_session(index, DropReason::SessionExpired);
        } else if offline > u64::from(self.limits.max_offline_sessions) {
            self.counters.count_refused(RefuseReason::OfflineSessions);
            self.end_session(index, DropReason::NoSession);
        } else if expiry_s != FOREVER_S {
            let timer = self.wheel.schedule(self.now + u64::from(expiry_s) * 1_000, TimerKey::SessionExpiry { session: index, generation });
            if let Some(session) = self.sessions.get_mut(index) {
                session.expiry_timer = Some(timer);
            }
        }
    }

    /// Sends the will of a session, if it still has one [MQTT-3.1.2-8].
    pub(super) fn publish_will(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        if let Some(timer) = session.will_timer.take() {
            self.wheel.cancel(timer);
        }
        // Only once, and only where there was one [MQTT-3.1.2-10] [MQTT-3.1.2-12].
        let Some(will) = session.will.take() else { return };
        self.note_will_gone(index);
        let mut message = will.message;
        message.expires_at = will.expiry_s.map_or(NEVER, |seconds| self.now + u64::from(seconds) * 1_000);
        self.counters.wills_published += 1;
        self.publish_from_broker(&message.as_incoming(), index);
    }

    /// The end of a session: subscriptions, queue and identifiers go. `reason` is that of the messages which are lost with it.
    pub(super) fn end_session(&mut self, index: u32, reason: DropReason) {
        // Whatever happens first, a pending will is not forgotten with the session [MQTT-3.1.3-9].
        self.publish_will(index);
        self.forget_exchanges(index);
        self.cancel_fetches(index);
        let Some(mut session) = self.sessions.remove(index) else { return };
        self.note_ended(&session);
        if let Some(timer) = session.expiry_timer.take() {
            self.wheel.cancel(timer);
        }
        self.drop_subscriptions(index, &session.subscriptions);
        if let Some(outgoing) = session.outgoing.take() {
            self.drop_outgoing(*outgoing, reason);
        }
    }

    /// What a session that ends has not taken goes to another member of its shared subscription, or is lost for this reason.
    fn drop_outgoing(&mut self, mut outgoing: Outgoing, reason: DropReason) {
        let released = outgoing.released();
        let lost = u64::from(outgoing.in_flight() - released) + outgoing.queued() as u64;
        self.counters.deliveries_acknowledged += u64::from(released);
        let shared = outgoing.take_shared();
        self.counters.count_dropped(reason, lost - shared.len() as u64);
        shared.iter().for_each(|delivery| self.give_back(delivery, reason));
        while let Some(held) = outgoing.take_held() {
            self.give_back(&held.delivery, reason);
            held.ticket.into_iter().for_each(|ticket| self.settle(ticket, ReasonCode::SUCCESS));
        }
    }

    /// Tells every client that the broker stops, and ends all connections [MQTT-4.13.1-1].
    pub fn shut_down(&mut self, now: u64) {
        self.now = now;
        let all: Vec<ConnId> = self.connections.ids().collect();
        for id in all {
            self.disconnect(id, ReasonCode::SERVER_SHUTTING_DOWN, Will::Publish);
        }
    }
}

/// The reason of a DISCONNECT in words, for a client that wants them and has room for them [MQTT-3.14.2-3].
fn reason_string<'w>(conn: &Connection, what: &'w str) -> Option<&'w str> {
    // Two bytes of fixed header, the reason code, and one, one and two bytes that announce the properties, this one, and its length.
    let length = 7 + what.len();
    (conn.problem_info && !what.is_empty() && length <= conn.max_packet_bytes as usize).then_some(what)
}

/// The counter of a connection that we end for this reason.
fn cause_of(reason: ReasonCode) -> CloseCause {
    match reason {
        ReasonCode::KEEP_ALIVE_TIMEOUT => CloseCause::KeepAliveTimeout,
        ReasonCode::SESSION_TAKEN_OVER => CloseCause::TakenOver,
        ReasonCode::SERVER_SHUTTING_DOWN => CloseCause::Shutdown,
        ReasonCode::MAXIMUM_CONNECT_TIME => CloseCause::ConnectTimeout,
        ReasonCode::PACKET_TOO_LARGE => CloseCause::PacketTooLarge,
        ReasonCode::QUOTA_EXCEEDED => CloseCause::SlowReader,
        ReasonCode::ADMINISTRATIVE_ACTION | ReasonCode::SERVER_BUSY => CloseCause::Administrative,
        _ => CloseCause::ProtocolError,
    }
}
