//! Bytes in: cuts what a connection received into packets and hands each to its handler, in place.
//!
//! Only the packet that a read cut in two is copied, into a buffer that lives until its end has come; it grows with what arrives, never with what was
//! announced.

use super::connection::{Connection, State};
use super::disconnect::Will;
use super::ids::ConnId;
use super::shard::Shard;
use super::timers::TimerKey;
use crate::metrics::RefuseReason;
use crate::mqtt::frame::{self, FixedHeader};
use crate::mqtt::{DecodeError, Packet, PacketType, ReasonCode, decode, decode_publish};

/// Bytes of answers that a client may leave unread beyond the limit for messages.
const ANSWERS_BYTES: u64 = 1024 * 1024;
/// Bytes of a fixed header at most [MQTT-1.5.5-1].
const MAX_HEADER: usize = 5;

/// Types of packets that no client sends, one bit each.
const ONLY_FROM_SERVERS: u16 =
    1 << PacketType::Connack as u16 | 1 << PacketType::Suback as u16 | 1 << PacketType::Unsuback as u16 | 1 << PacketType::Pingresp as u16;

impl Shard {
    /// Bytes from a client. Returns whether the shell should go on reading; if not, [`Command::Resume`] follows later.
    pub fn receive(&mut self, now: u64, id: ConnId, bytes: &[u8]) -> bool {
        self.now = now;
        self.counters.bytes_received += bytes.len() as u64;
        let publishes_before = self.publishes_so_far();
        let Some(conn) = self.connections.get_mut(id) else { return true };
        match conn.state {
            State::Closing => return true,
            State::Moving => {
                conn.partial.extend_from_slice(bytes);
                return false;
            }
            _ => {}
        }
        if conn.paused.any() {
            conn.partial.extend_from_slice(bytes);
        } else {
            self.consume(id, bytes);
            self.finish_run();
        }
        self.look_ahead(id);
        self.check_reader(id);
        self.account_partial(id);
        self.charge_rate(id, publishes_before, bytes.len());
        self.goes_on_reading(id)
    }

    /// Messages stop at the output limit, but answers do not: a client that only asks and never reads is let go.
    fn check_reader(&mut self, id: ConnId) {
        let limit = u64::from(self.limits.out_buffer_bytes) + u64::from(self.limits.max_packet_bytes) + ANSWERS_BYTES;
        let Some(conn) = self.connections.get(id) else { return };
        if conn.state == State::Connected && conn.unsent() as u64 > limit {
            self.refuse_for(conn.session, RefuseReason::UnreadAnswers);
            self.disconnect(id, ReasonCode::QUOTA_EXCEEDED, Will::Publish);
        }
    }

    /// Goes on with a connection that was paused until its publishes were acknowledged, or one of them turned out never to be.
    pub(super) fn resume(&mut self, id: ConnId) {
        // One that was let go meanwhile stays as it was: what it had sent is not worked off.
        let waits = |conn: &&mut Connection| conn.paused.for_acks && conn.state == State::Connected;
        let Some(conn) = self.connections.get_mut(id).filter(waits) else { return };
        if conn.acks.as_ref().is_some_and(|acks| acks.withheld()) {
            return self.go_on_doomed(id);
        }
        conn.paused.for_acks = false;
        self.read_again(id);
    }

    /// Reads from a connection again, if nothing speaks against it any more.
    pub(super) fn read_again(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get_mut(id) else { return };
        if conn.paused.any() || conn.state != State::Connected {
            return self.resume_reading(id);
        }
        conn.last_seen = self.now;
        if let Some(timer) = conn.timer.take() {
            self.wheel.cancel(timer);
        }
        if conn.patience_ms > 0 {
            conn.timer = Some(self.wheel.schedule(self.now + u64::from(conn.patience_ms), TimerKey::Connection(id)));
        }
        let bytes = std::mem::take(&mut conn.partial);
        conn.looked_at = 0;
        let publishes_before = self.publishes_so_far();
        self.consume(id, &bytes);
        self.finish_run();
        self.look_ahead(id);
        self.account_partial(id);
        // The bytes were counted when they came.
        self.charge_rate(id, publishes_before, 0);
        self.resume_reading(id);
    }

    /// Nothing is done any more with what follows a refused CONNECT [MQTT-3.1.4-5] [MQTT-3.1.4-6] or a DISCONNECT.
    pub(super) fn consume(&mut self, id: ConnId, mut bytes: &[u8]) {
        if self.connections.get(id).is_some_and(|conn| !conn.partial.is_empty()) {
            bytes = self.complete_partial(id, bytes);
        }
        // The bytes from which on nothing was looked ahead for.
        let mut cold = if self.topics.is_large() { bytes.len() } else { 0 };
        while !bytes.is_empty() {
            // What a busy publisher sends on and on needs no decoding.
            let continued = self.continue_run(id, bytes);
            if continued > 0 {
                bytes = &bytes[continued..];
                continue;
            }
            let Some(conn) = self.connections.get_mut(id) else { return };
            if matches!(conn.state, State::Closing) {
                return;
            }
            if conn.paused.any() || conn.state == State::Moving {
                conn.partial.extend_from_slice(bytes);
                return;
            }
            match self.header(id, bytes) {
                Err(error) => return self.refuse(id, error),
                Ok(Some(header)) if header.total_len() <= bytes.len() => {
                    if bytes.len() <= cold {
                        cold = self.warm_packets(bytes);
                    }
                    let (packet, rest) = bytes.split_at(header.total_len());
                    bytes = rest;
                    self.on_packet(id, header, packet);
                }
                Ok(_) => {
                    if let Some(conn) = self.connections.get_mut(id) {
                        conn.partial.extend_from_slice(bytes);
                    }
                    return;
                }
            }
        }
    }

    /// Feeds the packet whose beginning is kept; gives what is left of `bytes`.
    fn complete_partial<'a>(&mut self, id: ConnId, mut bytes: &'a [u8]) -> &'a [u8] {
        let Some(conn) = self.connections.get_mut(id) else { return &[] };
        let mut partial = std::mem::take(&mut conn.partial);
        let header = loop {
            match self.header(id, &partial) {
                Err(error) => {
                    self.refuse(id, error);
                    return &[];
                }
                Ok(Some(header)) => break header,
                Ok(None) if bytes.is_empty() || partial.len() >= MAX_HEADER => {
                    self.keep_partial(id, partial);
                    return &[];
                }
                Ok(None) => {
                    partial.push(bytes[0]);
                    bytes = &bytes[1..];
                }
            }
        };
        let missing = header.total_len() - partial.len();
        let (end, rest) = bytes.split_at(missing.min(bytes.len()));
        partial.extend_from_slice(end);
        if partial.len() < header.total_len() {
            self.keep_partial(id, partial);
            return &[];
        }
        self.on_packet(id, header, &partial);
        rest
    }

    fn keep_partial(&mut self, id: ConnId, partial: Vec<u8>) {
        if let Some(conn) = self.connections.get_mut(id)
            && conn.partial.is_empty()
        {
            conn.partial = partial;
        }
    }

    /// The fixed header at the front of `bytes`, within the limit that holds for this connection now [MQTT-3.2.2-15].
    fn header(&self, id: ConnId, bytes: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
        let Some(conn) = self.connections.get(id) else { return Ok(None) };
        if conn.state == State::Opened && bytes.first().is_some_and(|first| first >> 4 != PacketType::Connect as u8) {
            // The first packet must be CONNECT [MQTT-3.1.0-1].
            return Err(DecodeError::protocol("the first packet is not CONNECT"));
        }
        if bytes.first().is_some_and(|first| ONLY_FROM_SERVERS >> (first >> 4) & 1 == 1) {
            // Whatever is in it.
            return Err(DecodeError::protocol("a packet that only a server sends"));
        }
        frame::peek(bytes, conn.terms.max_packet_bytes)
    }

    /// One whole packet.
    pub(super) fn on_packet(&mut self, id: ConnId, header: FixedHeader, packet: &[u8]) {
        // Whole packets count for the keep-alive, not bytes [MQTT-3.1.2-22] [MQTT-3.1.2-24].
        if let Some(conn) = self.connections.get_mut(id) {
            conn.last_seen = self.now;
        }
        self.counters.packets_received += 1;
        let body = &packet[header.header_len as usize..];
        let Some(conn) = self.connections.get(id) else { return };
        let version = conn.version;
        match conn.state {
            State::Connected => {}
            State::Opened => return self.on_connect(id, packet, body),
            State::Authenticating => return self.on_packet_before_connack(id, header, body),
            State::Moving | State::Closing => return,
        }
        if header.first >> 4 == PacketType::Publish as u8 {
            if header.first & conn.refused_publish_flags != 0 {
                return self.refuse_publish(id, header.first);
            }
            return match decode_publish(version, header.first, body) {
                Ok(publish) => self.on_publish(id, &publish),
                Err(error) => self.refuse(id, error),
            };
        }
        self.finish_run();
        if header.packet_type() == PacketType::Connect {
            // [MQTT-3.1.0-2] Whatever is in it: the answers to a bad CONNECT have no place in DISCONNECT.
            return self.refuse(id, DecodeError::protocol("a second CONNECT"));
        }
        match decode(version, header.first, body) {
            Ok(packet) => self.on_control(id, &packet),
            Err(error) => self.refuse(id, error),
        }
    }

    /// A PUBLISH that the client was told not to send: 5.0 is told again, every client is disconnected [MQTT-3.2.2-11] [MQTT-3.2.2-14].
    fn refuse_publish(&mut self, id: ConnId, first: u8) {
        let Some((refused, session)) = self.connections.get(id).map(|conn| (conn.refused_publish_flags, conn.session)) else { return };
        if first & refused & 0b0110 != 0 {
            self.refuse_for(session, RefuseReason::Qos);
            self.refuse_with(id, ReasonCode::QOS_NOT_SUPPORTED, "PUBLISH with a QoS above the maximum");
        } else {
            self.refuse_for(session, RefuseReason::Retain);
            self.refuse_with(id, ReasonCode::RETAIN_NOT_SUPPORTED, "PUBLISH with RETAIN, which is not available");
        }
    }

    /// Whatever waits for the client's acknowledgements: these are served at once [MQTT-4.9.0-3].
    fn on_control(&mut self, id: ConnId, packet: &Packet<'_>) {
        match packet {
            Packet::Puback(ack) => self.on_puback(id, ack),
            Packet::Pubrec(ack) => self.on_pubrec(id, ack),
            Packet::Pubrel(ack) => self.on_pubrel(id, ack),
            Packet::Pubcomp(ack) => self.on_pubcomp(id, ack),
            Packet::Subscribe(subscribe) => self.on_subscribe(id, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, unsubscribe),
            Packet::Pingreq => self.on_pingreq(id),
            Packet::Disconnect(disconnect) => self.on_disconnect(id, disconnect),
            Packet::Auth(auth) => self.on_auth(id, auth),
            // A second CONNECT, and what only servers send, were refused before.
            _ => self.refuse(id, DecodeError::protocol("a packet that a client may not send here")),
        }
    }

    fn on_pingreq(&mut self, id: ConnId) {
        if let Some(conn) = self.output(id.slot) {
            // [MQTT-3.12.4-1]
            crate::mqtt::encode::pingresp(conn.out.own());
            self.counters.packets_sent += 1;
        }
    }

    /// What came is no valid packet, or not allowed here: a 5.0 client is told why, every client is disconnected [MQTT-4.13.1-1] [MQTT-4.8.0-1].
    pub(super) fn refuse(&mut self, id: ConnId, error: DecodeError) {
        self.finish_run();
        if let Some(conn) = self.connections.get(id) {
            tracing::debug!(slot = id.slot, peer = ?peer(conn), "protocol error: {error}");
            if let Some(limit) = limit_of(error.reason) {
                self.refuse_for(conn.session, limit);
            }
        }
        match self.connections.get(id).map(|conn| conn.state) {
            // [MQTT-4.12.0-4]; no DISCONNECT before CONNACK [MQTT-3.14.0-1]
            Some(State::Authenticating) => self.refuse_connect(id, error.reason),
            _ => self.disconnect_because(id, error.reason, error.what, Will::Publish),
        }
    }

    /// What to tell a client that breaks a rule which has a reason code of its own.
    pub(super) fn refuse_with(&mut self, id: ConnId, reason: ReasonCode, what: &'static str) {
        self.refuse(id, DecodeError { reason, what });
    }
}

/// The limit that an error is about, if it is about one.
fn limit_of(reason: ReasonCode) -> Option<RefuseReason> {
    match reason {
        ReasonCode::PACKET_TOO_LARGE => Some(RefuseReason::PacketSize),
        ReasonCode::RECEIVE_MAXIMUM_EXCEEDED => Some(RefuseReason::ReceiveMaximum),
        ReasonCode::TOPIC_ALIAS_INVALID => Some(RefuseReason::TopicAlias),
        _ => None,
    }
}

fn peer(conn: &Connection) -> Option<std::net::SocketAddr> {
    conn.origin.as_ref().and_then(|origin| origin.peer)
}
