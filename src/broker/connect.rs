//! CONNECT: from a stranger to a session, on whatever shard the session lives.

use super::admission::{announce, refused_publish_flags};
use super::aliases::TopicAliases;
use super::authenticate::Proven;
use super::connection::{NONE, State};
use super::disconnect::Will as Last;
use super::ids::ConnId;
use super::message::{Incoming, NEVER};
use super::session::{Will, home_of};
use super::shard::{Command, Shard};
use super::timers::TimerKey;
use crate::config::{Limits, Terms};
use crate::metrics::{CloseCause, DropReason, RefuseReason};
use crate::mqtt::{Connect, ConnectError, Properties, ReasonCode, TopicName, Version, decode_connect, encode};

impl Shard {
    /// The first packet of a connection; `packet` is all of it, `body` what follows the fixed header.
    pub(super) fn on_connect(&mut self, id: ConnId, packet: &[u8], body: &[u8]) {
        let connect = match decode_connect(body) {
            Ok(connect) => connect,
            Err(error) => return self.refuse_undecoded(id, error),
        };
        if let Some(conn) = self.connections.get_mut(id) {
            conn.version = connect.version;
            conn.max_packet_bytes = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
        }
        if self.turned_away(id) {
            return;
        }
        let terms = self.terms_of(id);
        if let Err(code) = self.check_connect(&connect).and_then(|()| self.check_admission(&connect, terms)) {
            return self.refuse_connect(id, code);
        }
        let assigned = connect.client_id.is_empty().then(|| self.assign_client_id());
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let home = home_of(client_id, self.shards);
        if home != self.id {
            // The whole packet moves along: its home decodes it anew, as if it had come there in the first place.
            if let Some(conn) = self.connections.get_mut(id) {
                conn.state = State::Moving;
                conn.partial = packet.to_vec();
            }
            return self.command(Command::HandOff { conn: id, to: home });
        }
        if connect.properties.auth_method.is_some() {
            return self.start_authentication(id, &connect, body, assigned);
        }
        self.accept(id, &connect, client_id, assigned.as_deref(), None);
    }

    /// A CONNECT that breaks the format [MQTT-3.1.4-1].
    fn refuse_undecoded(&mut self, id: ConnId, error: ConnectError) {
        match error {
            // [MQTT-3.1.2-1]
            ConnectError::ProtocolName => {}
            // [MQTT-3.1.2-2]
            ConnectError::UnsupportedLevel { level } => {
                let (version, code) =
                    if level > 4 { (Version::V5, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION.0) } else { (Version::V311, 1) };
                self.send_connack(id, version, false, code, &Properties::default());
            }
            ConnectError::Invalid { error, version: Some(Version::V5) } => {
                self.send_connack(id, Version::V5, false, error.reason.0, &Properties::default());
            }
            ConnectError::Invalid { .. } => {}
        }
        tracing::debug!(slot = id.slot, "CONNECT refused: {error}");
        self.end_refused(id);
    }

    /// Refuses with a code of 5.0, put into the words of the client's version [MQTT-3.2.2-4] [MQTT-3.2.2-5].
    pub(super) fn refuse_connect(&mut self, id: ConnId, code: ReasonCode) {
        self.refuse_connect_with(id, code, &Properties::default());
    }

    pub(super) fn refuse_connect_with(&mut self, id: ConnId, code: ReasonCode, properties: &Properties<'_>) {
        let Some(version) = self.connections.get(id).map(|conn| conn.version) else { return };
        let code = match (version, code) {
            (Version::V5, code) => Some(code.0),
            (_, ReasonCode::CLIENT_ID_NOT_VALID) => Some(2),
            (_, ReasonCode::SERVER_UNAVAILABLE | ReasonCode::SERVER_BUSY | ReasonCode::QUOTA_EXCEEDED) => Some(3),
            (_, ReasonCode::USE_ANOTHER_SERVER | ReasonCode::SERVER_MOVED) => Some(3),
            (_, ReasonCode::BAD_USER_NAME_OR_PASSWORD) => Some(4),
            (_, ReasonCode::NOT_AUTHORIZED) => Some(5),
            // 3.x has no code for the rest: closed without CONNACK [MQTT-3.2.2-6].
            _ => None,
        };
        if let Some(code) = code {
            self.send_connack(id, version, false, code, properties);
        }
        self.end_refused(id);
    }

    /// Closes what is not let in [MQTT-3.2.2-7]; what comes behind the CONNECT is not looked at [MQTT-3.1.4-5] [MQTT-3.1.4-6].
    fn end_refused(&mut self, id: ConnId) {
        self.counters.connects_refused += 1;
        let told = self.connections.get(id).is_some_and(|conn| !conn.out.is_empty());
        self.end_connection(id, Last::Drop, CloseCause::ConnectRefused);
        self.command(Command::Close { conn: id, after_send: told });
    }

    /// Does nothing where the client's Maximum Packet Size does not allow it [MQTT-3.1.2-24].
    fn send_connack(&mut self, id: ConnId, version: Version, session_present: bool, code: u8, properties: &Properties<'_>) {
        if let Some(conn) = self.output(id.slot)
            && conn.append(|out| encode::connack(out, version, session_present, code, properties))
        {
            self.counters.packets_sent += 1;
        }
    }

    fn check_connect(&mut self, connect: &Connect<'_>) -> Result<(), ReasonCode> {
        if connect.client_id.is_empty() && (connect.version == Version::V31 || connect.version == Version::V311 && !connect.clean_start) {
            // [MQTT-3.1.3-7] [MQTT-3.1.3-8]
            return Err(ReasonCode::CLIENT_ID_NOT_VALID);
        }
        if connect.client_id.len() > usize::from(self.limits.max_client_id_bytes) {
            // [MQTT-3.1.3-8] [MQTT-3.1.3-9]
            self.counters.count_refused(RefuseReason::ClientId);
            return Err(ReasonCode::CLIENT_ID_NOT_VALID);
        }
        if let Some(will) = &connect.will {
            if !self.topic_within_limits(will.topic) {
                self.counters.count_refused(RefuseReason::Topic);
                return Err(ReasonCode::TOPIC_NAME_INVALID);
            }
            if TopicName::new(will.topic).is_err() {
                return Err(ReasonCode::TOPIC_NAME_INVALID);
            }
            if super::publish::is_sys(will.topic) {
                return Err(ReasonCode::NOT_AUTHORIZED);
            }
        }
        Ok(())
    }

    /// A client identifier that no other client has and whose home is this shard [MQTT-3.1.3-6] [MQTT-3.2.2-16].
    fn assign_client_id(&mut self) -> String {
        // Nobody can tell it from the one before: whoever knows it may take the session over.
        let fresh = self.entropy.fresh();
        let mut unique = fresh.iter().fold(0_u64, |unique, &byte| unique << 8 | u64::from(byte));
        loop {
            unique = unique.wrapping_add(1);
            let client_id = format!("auto-{unique:016x}");
            if home_of(&client_id, self.shards) == self.id && self.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// Lets a client in; `proven`: it has said who it is, and proven it. Before this nothing of its session is touched.
    pub(super) fn accept(&mut self, id: ConnId, connect: &Connect<'_>, client_id: &str, assigned: Option<&str>, proven: Option<&Proven>) {
        let user = proven.map(|proven| &*proven.user);
        if self.belongs_to_another(client_id, user) {
            self.counters.count_refused(RefuseReason::SessionOfAnother);
            return self.refuse_connect(id, ReasonCode::NOT_AUTHORIZED);
        }
        let terms = self.terms_of(id);
        let (expiry_s, keep_alive_s) = (granted_expiry(connect, &self.limits), granted_keep_alive(connect, terms));
        let mut properties = connack_properties(connect, terms, assigned, expiry_s, keep_alive_s);
        if let Some(proven) = proven {
            // [MQTT-4.12.0-5]; nobody else hears of a method [MQTT-4.12.0-6]
            properties.auth_method = Some(&proven.method);
            properties.auth_data = (!proven.data.is_empty()).then_some(&proven.data);
        }
        if !fits(connect, &properties) {
            return self.refuse_connect(id, ReasonCode::PACKET_TOO_LARGE);
        }
        let mark = self.journal_mark();
        let (session, present) = self.open_session(client_id, connect, expiry_s);
        if let Some(session) = self.sessions.get_mut(session) {
            session.user = user.map(Box::from);
        }
        self.note_session(session);
        self.attach(id, session, connect, terms, keep_alive_s);
        self.counters.connects_accepted += 1;
        // The first packet that a client gets, and the only CONNACK [MQTT-3.1.4-4] [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1]
        // [MQTT-3.2.2-2] [MQTT-3.2.2-3]. No extension of the standard was asked for [MQTT-7.0.0-2].
        self.send_connack(id, connect.version, present, 0, &properties);
        // What the client is told of its session holds after a crash, too.
        self.gate(id.slot, self.commit_since(mark));
        if !present {
            self.gate_on_ended(id.slot, client_id);
        }
        if present {
            if let Some(outgoing) = self.sessions.get_mut(session).and_then(|session| session.outgoing.as_mut()) {
                outgoing.rewind();
            }
            self.queue_moves(session);
            self.send_waiting(id.slot);
            self.resume_fetches(session);
        }
    }

    /// Whether the session of this client identifier was made by a user who has to prove that it is his.
    fn belongs_to_another(&self, client_id: &str, user: Option<&str>) -> bool {
        let session = self.sessions.find(client_id).and_then(|index| self.sessions.get(index));
        session.is_some_and(|session| session.user.is_some() && session.user.as_deref() != user)
    }

    /// Finds or makes the session [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6]; whoever had it before is told to go [MQTT-3.1.4-2] [MQTT-3.1.4-3].
    fn open_session(&mut self, client_id: &str, connect: &Connect<'_>, expiry_s: u32) -> (u32, bool) {
        if let Some(index) = self.sessions.find(client_id) {
            self.take_over(index, connect.clean_start);
        }
        let (index, present) = match self.sessions.find(client_id) {
            Some(index) => (index, true),
            None => (self.sessions.insert(client_id, connect.version), false),
        };
        let will = connect.will.as_ref().map(|will| Box::new(self.will(will)));
        if let Some(session) = self.sessions.get_mut(index) {
            session.version = connect.version;
            session.expiry_s = expiry_s;
            // [MQTT-3.1.2-7] [MQTT-3.1.2-8]
            session.will = will;
            for timer in [session.expiry_timer.take(), session.will_timer.take()].into_iter().flatten() {
                self.wheel.cancel(timer);
            }
        }
        (index, present)
    }

    /// Ends what the new connection replaces: the old connection and, if nothing is to go on, the old session.
    fn take_over(&mut self, index: u32, clean_start: bool) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let slot = std::mem::replace(&mut session.connection, NONE);
        // A session without expiry is over with its connection, also for a client that would go on with it (5.0 section 3.1.4).
        let over = clean_start || session.expiry_s == 0;
        if let Some(conn) = self.connections.slot_mut(slot) {
            let id = ConnId { slot, generation: conn.generation };
            // The session is not left, as it would be by a client that goes: it is taken from the connection first.
            conn.session = NONE;
            self.connected -= 1;
            self.disconnect(id, ReasonCode::SESSION_TAKEN_OVER, Last::Publish);
        }
        if over {
            // [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.1.4-4]
            return self.end_session(index, if clean_start { DropReason::SessionDiscarded } else { DropReason::SessionExpired });
        }
        // The will of a connection that is closed is due, unless it has a delay and the session goes on within it [MQTT-3.1.3-9]; one that has been waiting
        // has one.
        match self.sessions.get_mut(index) {
            // Its record goes with that of the connection that follows.
            Some(session) if slot == NONE || session.will.as_ref().is_some_and(|will| will.delay_s > 0) => session.will = None,
            _ => self.publish_will(index),
        }
    }

    /// The will to keep: its QoS and RETAIN are those of its message [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-16] [MQTT-3.1.2-17].
    fn will(&mut self, will: &crate::mqtt::Will<'_>) -> Will {
        let mut forward = Vec::new();
        will.properties.encode_forward(&mut forward);
        let incoming =
            Incoming { topic: will.topic, payload: will.payload, forward: &forward, qos: will.qos, retain: will.retain, expires_at: NEVER };
        let Properties { message_expiry, will_delay, .. } = &will.properties;
        Will::new(incoming.to_message(), *message_expiry, will_delay.unwrap_or(0), &self.held_bytes)
    }

    fn attach(&mut self, id: ConnId, session: u32, connect: &Connect<'_>, terms: Terms, keep_alive_s: u16) {
        let properties = &connect.properties;
        let Some(conn) = self.connections.get_mut(id) else { return };
        conn.state = State::Connected;
        conn.session = session;
        conn.terms = terms;
        conn.refused_publish_flags = refused_publish_flags(terms);
        // [MQTT-3.3.4-9] [MQTT-4.9.0-1]
        conn.window = self.limits.max_inflight.min(properties.receive_maximum.unwrap_or(u16::MAX));
        // [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
        conn.own_aliases = TopicAliases::new(self.limits.topic_alias_out_maximum.min(properties.topic_alias_maximum.unwrap_or(0)));
        conn.problem_info = properties.request_problem.unwrap_or(true);
        conn.patience_ms = u32::from(keep_alive_s) * 1_500;
        conn.last_seen = self.now;
        if let Some(timer) = conn.timer.take() {
            self.wheel.cancel(timer);
        }
        if conn.patience_ms > 0 {
            conn.timer = Some(self.wheel.schedule(self.now + u64::from(conn.patience_ms), TimerKey::Connection(id)));
        }
        if let Some(session) = self.sessions.get_mut(session) {
            debug_assert_eq!(session.connection, NONE);
            session.connection = id.slot;
            self.connected += 1;
        }
    }
}

/// Whether a CONNACK that lets the client in is small enough for it: if not, it cannot be let in [MQTT-3.1.2-24].
fn fits(connect: &Connect<'_>, properties: &Properties<'_>) -> bool {
    let Some(maximum) = connect.properties.maximum_packet_size else { return true };
    let mut bytes = Vec::new();
    encode::connack(&mut bytes, connect.version, false, 0, properties);
    bytes.len() <= maximum as usize
}

/// How long the session outlives the connection, seconds.
fn granted_expiry(connect: &Connect<'_>, limits: &Limits) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.session_expiry.unwrap_or(0).min(limits.max_session_expiry_s),
        // [MQTT-3.1.2-6]
        _ if connect.clean_start => 0,
        _ => limits.v3_session_expiry_s,
    }
}

/// The keep-alive that holds: the client's [MQTT-3.2.2-22], within our limit; 0 for none.
fn granted_keep_alive(connect: &Connect<'_>, terms: Terms) -> u16 {
    match (connect.keep_alive, terms.max_keep_alive_s) {
        (asked, u16::MAX) => asked,
        (asked, _) if !connect.version.is_v5() => asked,
        (0, maximum) => maximum,
        (asked, maximum) => asked.min(maximum),
    }
}

/// What the client has to know: its identifier if we chose it [MQTT-3.1.3-7], and every limit that is not the standard's default. Neither response
/// information [MQTT-3.1.2-28] nor reason string nor user properties [MQTT-3.2.2-19] [MQTT-3.2.2-20].
fn connack_properties<'a>(
    connect: &Connect<'_>,
    terms: Terms,
    assigned: Option<&'a str>,
    expiry_s: u32,
    keep_alive_s: u16,
) -> Properties<'a> {
    if !connect.version.is_v5() {
        return Properties::default();
    }
    Properties {
        session_expiry: (connect.properties.session_expiry.unwrap_or(0) != expiry_s).then_some(expiry_s),
        assigned_client_id: assigned,
        // [MQTT-3.1.2-21] [MQTT-3.2.2-21]
        server_keep_alive: (connect.keep_alive != keep_alive_s).then_some(keep_alive_s),
        ..announce(terms)
    }
}
