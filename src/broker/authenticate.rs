//! Enhanced authentication on a connection (5.0 section 4.12): from CONNECT to CONNACK, and again while connected.
//!
//! A client that is about to prove who it is has no session, and touches none: its CONNECT waits, and is carried out when the method says so. That
//! is bounded by `limits.connect_timeout_ms`, by `limits.max_connect_packet_bytes` for each packet, and by [`MAX_MESSAGES`].

use super::auth::{Exchange, Step};
use super::connection::State;
use super::disconnect::Will;
use super::ids::ConnId;
use super::shard::{Command, Shard};
use crate::metrics::{CloseCause, RefuseReason};
use crate::mqtt::{
    Auth, Connect, DecodeError, FixedHeader, Packet, PacketType, Properties, ReasonCode, Version, decode, decode_connect, encode,
};

/// Messages of the client in one exchange; SCRAM needs two.
const MAX_MESSAGES: u8 = 16;

/// The authentication of one connection: under way, or done and able to be repeated.
#[derive(Debug)]
pub struct Authentication {
    /// As CONNECT named it.
    method: Box<str>,
    exchange: Option<Box<dyn Exchange>>,
    /// Messages of the client in this exchange.
    messages: u8,
    /// Until the client is let in.
    connect: Option<WaitingConnect>,
}

/// A CONNECT that waits for its sender to prove who it is.
#[derive(Debug)]
struct WaitingConnect {
    body: Vec<u8>,
    /// The client identifier that we chose, if we did.
    assigned: Option<String>,
}

/// What a client that has proven who it is gets in CONNACK.
#[derive(Clone, Debug)]
pub(super) struct Proven {
    pub method: Box<str>,
    pub data: Vec<u8>,
    pub user: Box<str>,
}

impl Shard {
    /// CONNECT with an Authentication Method, on the shard where its session would be.
    pub(super) fn start_authentication(&mut self, id: ConnId, connect: &Connect<'_>, body: &[u8], assigned: Option<String>) {
        let name = connect.properties.auth_method.unwrap_or_default();
        let fresh = self.entropy.fresh();
        let Some(exchange) = self.admission.method(name).map(|method| method.begin(fresh)) else {
            return self.refuse_connect(id, ReasonCode::BAD_AUTHENTICATION_METHOD);
        };
        let Some(conn) = self.connections.get_mut(id) else { return };
        conn.state = State::Authenticating;
        let connect_waits = WaitingConnect { body: body.to_vec(), assigned };
        let authentication = Authentication { method: name.into(), exchange: Some(exchange), messages: 0, connect: Some(connect_waits) };
        conn.authentication = Some(Box::new(authentication));
        self.take_authentication_data(id, connect.properties.auth_data.unwrap_or_default());
    }

    /// A packet between CONNECT and CONNACK: only AUTH and DISCONNECT may come [MQTT-3.1.2-30].
    pub(super) fn on_packet_before_connack(&mut self, id: ConnId, header: FixedHeader, body: &[u8]) {
        if !matches!(PacketType::from_first(header.first), Some(PacketType::Auth | PacketType::Disconnect)) {
            return self.refuse(id, DecodeError::protocol("a packet other than AUTH and DISCONNECT before CONNACK"));
        }
        match decode(Version::V5, header.first, body) {
            Ok(Packet::Auth(auth)) if auth.reason != ReasonCode::CONTINUE_AUTHENTICATION => {
                // [MQTT-4.12.0-3]
                self.refuse(id, DecodeError::protocol("AUTH before CONNACK that does not continue the authentication"));
            }
            Ok(Packet::Auth(auth)) => self.on_auth(id, &auth),
            Ok(Packet::Disconnect(_)) => {
                self.counters.count_refused(RefuseReason::AuthenticationFailed);
                self.end_connection(id, Will::Drop, CloseCause::ClientDisconnect);
                self.command(Command::Close { conn: id, after_send: false });
            }
            Ok(_) => {}
            Err(error) => self.refuse(id, error),
        }
    }

    pub(super) fn on_auth(&mut self, id: ConnId, packet: &Auth<'_>) {
        let Some(authentication) = self.connections.get_mut(id).map(|conn| conn.authentication.as_deref_mut()) else { return };
        let Some(authentication) = authentication else {
            // [MQTT-4.12.0-6] [MQTT-4.12.0-7]
            return self.refuse(id, DecodeError::protocol("AUTH without an authentication method in CONNECT"));
        };
        if packet.properties.auth_method != Some(&*authentication.method) {
            // [MQTT-4.12.0-5] [MQTT-4.12.1-1]
            return self.refuse(id, DecodeError::protocol("AUTH with another authentication method than CONNECT"));
        }
        match packet.reason {
            ReasonCode::CONTINUE_AUTHENTICATION if authentication.exchange.is_some() => {}
            // Asked for in the middle of an exchange, it begins again.
            ReasonCode::REAUTHENTICATE => {
                let fresh = self.entropy.fresh();
                authentication.exchange = self.admission.method(&authentication.method).map(|method| method.begin(fresh));
                authentication.messages = 0;
            }
            // [MQTT-3.15.2-1]: success is the server's to say.
            _ => return self.refuse(id, DecodeError::protocol("AUTH with a reason that is not for here")),
        }
        self.take_authentication_data(id, packet.properties.auth_data.unwrap_or_default());
    }

    /// Hands the client's data to the method and does what it says.
    fn take_authentication_data(&mut self, id: ConnId, data: &[u8]) {
        let Some(authentication) = self.connections.get_mut(id).and_then(|conn| conn.authentication.as_deref_mut()) else { return };
        authentication.messages += 1;
        let step = match &mut authentication.exchange {
            Some(exchange) if authentication.messages <= MAX_MESSAGES => exchange.next(data),
            // The method is not configured any more, or the client does not come to an end.
            _ => Step::Fail,
        };
        match step {
            Step::Continue(data) => {
                // [MQTT-4.12.0-2]
                if !self.send_auth(id, ReasonCode::CONTINUE_AUTHENTICATION, &data) {
                    self.authentication_failed(id);
                }
            }
            Step::Success { data, user } => self.authentication_succeeded(id, data, user),
            Step::Fail => self.authentication_failed(id),
        }
    }

    fn authentication_succeeded(&mut self, id: ConnId, data: Vec<u8>, user: Box<str>) {
        let Some(conn) = self.connections.get_mut(id) else { return };
        let session = conn.session;
        let Some(authentication) = conn.authentication.as_deref_mut() else { return };
        authentication.exchange = None;
        if let Some(waiting) = authentication.connect.take() {
            let proven = Proven { method: authentication.method.clone(), data, user };
            return self.carry_out_connect(id, &waiting, &proven);
        }
        // The session belongs to whom it belonged to.
        let same = self.sessions.get(session).is_some_and(|session| session.user.as_ref() == Some(&user));
        if !same || !self.send_auth(id, ReasonCode::SUCCESS, &data) {
            self.authentication_failed(id);
        }
    }

    fn carry_out_connect(&mut self, id: ConnId, waiting: &WaitingConnect, proven: &Proven) {
        // It was decoded before, and is the same.
        let Ok(connect) = decode_connect(&waiting.body) else { return };
        let assigned = waiting.assigned.as_deref();
        self.accept(id, &connect, assigned.unwrap_or(connect.client_id), assigned, Some(proven));
    }

    /// The client is told that it is not let in [MQTT-4.12.0-4], or, while connected, that it may not stay [MQTT-4.12.1-2].
    fn authentication_failed(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get(id) else { return };
        self.counters.count_refused(RefuseReason::AuthenticationFailed);
        match conn.state {
            State::Authenticating => self.refuse_connect(id, ReasonCode::NOT_AUTHORIZED),
            _ => self.disconnect(id, ReasonCode::NOT_AUTHORIZED, Will::Publish),
        }
    }

    /// False where the client's Maximum Packet Size does not allow it [MQTT-3.1.2-24].
    fn send_auth(&mut self, id: ConnId, reason: ReasonCode, data: &[u8]) -> bool {
        let Some(conn) = self.connections.get(id) else { return false };
        let Some(authentication) = &conn.authentication else { return false };
        // [MQTT-4.12.0-5] [MQTT-3.15.1-1]; neither reason string nor user properties [MQTT-3.15.2-2] [MQTT-3.15.2-3]
        let auth_data = (!data.is_empty()).then_some(data);
        let properties = Properties { auth_method: Some(&authentication.method), auth_data, ..Properties::default() };
        let mut bytes = Vec::new();
        encode::auth(&mut bytes, reason, &properties);
        if bytes.len() > conn.max_packet_bytes as usize {
            return false;
        }
        if let Some(conn) = self.output(id.slot) {
            conn.out.own().extend_from_slice(&bytes);
            self.counters.packets_sent += 1;
        }
        true
    }
}
