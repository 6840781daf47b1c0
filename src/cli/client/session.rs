//! What a client remembers between packets: packet identifiers in use, QoS handshakes both ways, topic aliases. No I/O: packets in, replies
//! appended to a buffer, events out.
//!
//! A QoS 2 message is handed out when PUBREL arrives, once; the memory of it survives a reconnect to the same session.

use std::collections::HashMap;

use super::ClientError;
use crate::mqtt::{Ack, DecodeError, Disconnect, Packet, PacketType, Properties, Publish, PublishProperties, QoS, ReasonCode, Version};
use crate::mqtt::{decode, encode};

/// What [`super::Connection::next`] reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A message for one of our subscriptions.
    Message(Received),
    /// The broker has taken over a QoS 1 or 2 message, or refused it.
    Published { packet_id: u16, reason: ReasonCode },
    /// One code per filter: the granted QoS, or an error from 0x80 up.
    Subscribed { packet_id: u16, codes: Vec<u8> },
    /// One code per filter in 5.0, none before.
    Unsubscribed { packet_id: u16, codes: Vec<u8> },
    /// The other descriptor that was waited for has something to read.
    InputReady,
    /// The deadline has passed.
    TimedOut,
}

/// A message that arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    /// As in the PUBLISH, without its length; see [`Received::properties`].
    pub(in crate::cli) property_block: Vec<u8>,
}

impl Received {
    /// The 5.0 properties.
    pub fn properties(&self) -> Properties<'_> {
        self.publish_properties().all()
    }

    /// The identifiers of the subscriptions that matched (5.0).
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> {
        self.publish_properties().subscription_ids()
    }

    fn publish_properties(&self) -> PublishProperties<'_> {
        PublishProperties { raw: &self.property_block, forward_as_is: false, ..PublishProperties::default() }
    }
}

/// What a packet identifier of ours waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Puback,
    Pubrec,
    Pubcomp,
    Suback,
    Unsuback,
}

/// The session of one client.
#[derive(Debug)]
pub(super) struct Session {
    version: Version,
    last_packet_id: u16,
    waiting: HashMap<u16, Waiting>,
    /// Of those waiting, QoS 1 and 2 messages.
    in_flight: u16,
    received: HashMap<u16, Received>,
    aliases: HashMap<u16, String>,
}

impl Session {
    pub(super) fn new(version: Version) -> Session {
        Session { version, last_packet_id: 0, waiting: HashMap::new(), in_flight: 0, received: HashMap::new(), aliases: HashMap::new() }
    }

    /// After a reconnect: what belongs to the network connection is forgotten; QoS 2 messages half received stay if the broker kept its part.
    pub(super) fn reconnected(&mut self, session_present: bool) {
        self.aliases.clear();
        self.waiting.clear();
        self.in_flight = 0;
        if !session_present {
            self.received.clear();
        }
    }

    /// QoS 1 and 2 messages on the way to the broker.
    pub(super) fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// A packet identifier that is not in use, never 0. [MQTT-2.3.1-1] [MQTT-2.2.1-3]
    pub(super) fn reserve(&mut self, waiting: Waiting) -> Result<u16, ClientError> {
        let free = (0..u16::MAX).map(|step| self.last_packet_id.wrapping_add(step)).map(|id| id % u16::MAX + 1);
        let id = free.into_iter().find(|id| !self.waiting.contains_key(id));
        let id = id.ok_or_else(|| ClientError::Invalid("all 65,535 packet identifiers are in use".to_owned()))?;
        self.last_packet_id = id;
        self.waiting.insert(id, waiting);
        self.in_flight += u16::from(matches!(waiting, Waiting::Puback | Waiting::Pubrec));
        Ok(id)
    }

    /// Takes one packet in; appends what must be answered to `out`.
    pub(super) fn receive(&mut self, first: u8, body: &[u8], out: &mut Vec<u8>) -> Result<Option<Event>, ClientError> {
        match decode(self.version, first, body)? {
            Packet::Publish(publish) => self.on_publish(&publish, out),
            Packet::Puback(ack) => self.on_published(&ack, Waiting::Puback),
            Packet::Pubrec(ack) => self.on_pubrec(&ack, out),
            Packet::Pubcomp(ack) => self.on_published(&ack, Waiting::Pubcomp),
            Packet::Pubrel(ack) => Ok(self.on_pubrel(&ack, out)),
            Packet::Suback(ack) => {
                self.release(ack.packet_id, Waiting::Suback)?;
                Ok(Some(Event::Subscribed { packet_id: ack.packet_id, codes: ack.codes.to_vec() }))
            }
            Packet::Unsuback(ack) => {
                self.release(ack.packet_id, Waiting::Unsuback)?;
                Ok(Some(Event::Unsubscribed { packet_id: ack.packet_id, codes: ack.codes.to_vec() }))
            }
            Packet::Pingresp => Ok(None),
            Packet::Disconnect(disconnect) => Err(disconnected(&disconnect)),
            _ => Err(DecodeError::protocol("a packet that only a client may send").into()),
        }
    }

    fn on_publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> Result<Option<Event>, ClientError> {
        let message = Received {
            topic: self.topic(publish)?,
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            property_block: publish.properties.raw.to_vec(),
        };
        match publish.qos {
            QoS::AtMostOnce => Ok(Some(Event::Message(message))),
            QoS::AtLeastOnce => {
                self.ack(out, PacketType::Puback, publish.packet_id, ReasonCode::SUCCESS);
                Ok(Some(Event::Message(message)))
            }
            QoS::ExactlyOnce => {
                // A repetition replaces what it repeats; handed out is what PUBREL releases. [MQTT-4.3.3-2] [MQTT-4.3.3-10]
                self.received.insert(publish.packet_id, message);
                self.ack(out, PacketType::Pubrec, publish.packet_id, ReasonCode::SUCCESS);
                Ok(None)
            }
        }
    }

    /// The topic, where the broker may have sent an alias for it. [MQTT-3.3.2-12]
    fn topic(&mut self, publish: &Publish<'_>) -> Result<String, ClientError> {
        let alias = publish.properties.topic_alias;
        if publish.topic.is_empty() {
            let known = self.aliases.get(&alias).cloned();
            return known.ok_or_else(|| DecodeError::protocol("a topic alias that was never set").into());
        }
        if alias != 0 {
            self.aliases.insert(alias, publish.topic.to_owned());
        }
        Ok(publish.topic.to_owned())
    }

    fn on_pubrel(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) -> Option<Event> {
        let message = self.received.remove(&ack.packet_id);
        let reason = if message.is_some() { ReasonCode::SUCCESS } else { ReasonCode::PACKET_ID_NOT_FOUND };
        self.ack(out, PacketType::Pubcomp, ack.packet_id, reason);
        message.map(Event::Message)
    }

    fn on_pubrec(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) -> Result<Option<Event>, ClientError> {
        // A reason code from 0x80 up ends the exchange. [MQTT-4.3.3-4]
        if ack.reason.is_error() {
            return self.on_published(ack, Waiting::Pubrec);
        }
        match self.waiting.get_mut(&ack.packet_id) {
            Some(waiting @ (Waiting::Pubrec | Waiting::Pubcomp)) => {
                *waiting = Waiting::Pubcomp;
                self.ack(out, PacketType::Pubrel, ack.packet_id, ReasonCode::SUCCESS);
            }
            _ => self.ack(out, PacketType::Pubrel, ack.packet_id, ReasonCode::PACKET_ID_NOT_FOUND),
        }
        Ok(None)
    }

    fn on_published(&mut self, ack: &Ack<'_>, expected: Waiting) -> Result<Option<Event>, ClientError> {
        self.release(ack.packet_id, expected)?;
        self.in_flight -= 1;
        Ok(Some(Event::Published { packet_id: ack.packet_id, reason: ack.reason }))
    }

    fn release(&mut self, packet_id: u16, expected: Waiting) -> Result<(), ClientError> {
        match self.waiting.remove(&packet_id) {
            Some(waiting) if waiting == expected => Ok(()),
            _ => Err(DecodeError::protocol("an acknowledgement of something that was not sent").into()),
        }
    }

    fn ack(&self, out: &mut Vec<u8>, kind: PacketType, packet_id: u16, reason: ReasonCode) {
        encode::ack(out, self.version, kind, packet_id, reason, &Properties::default());
    }
}

fn disconnected(disconnect: &Disconnect<'_>) -> ClientError {
    let reason_string = disconnect.properties.reason_string.map(str::to_owned);
    ClientError::Disconnected { reason: disconnect.reason, reason_string }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::PublishOut;

    fn feed(session: &mut Session, packet: &[u8]) -> (Result<Option<Event>, ClientError>, Vec<u8>) {
        let mut out = Vec::new();
        let event = session.receive(packet[0], &packet[2..], &mut out);
        (event, out)
    }

    fn publish(qos: QoS, packet_id: u16, dup: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode::publish(&mut out, Version::V311, &PublishOut { qos, packet_id, dup, ..PublishOut::new("a", b"x") });
        out
    }

    #[test]
    fn a_qos_2_message_is_handed_out_once_when_pubrel_releases_it() {
        let mut session = Session::new(Version::V311);
        let (event, out) = feed(&mut session, &publish(QoS::ExactlyOnce, 7, false));
        assert_eq!((event.unwrap(), &out[..]), (None, &[0x50, 2, 0, 7][..]));
        let (event, out) = feed(&mut session, &publish(QoS::ExactlyOnce, 7, true));
        assert_eq!((event.unwrap(), &out[..]), (None, &[0x50, 2, 0, 7][..]));
        let (event, out) = feed(&mut session, &[0x62, 2, 0, 7]);
        let Some(Event::Message(message)) = event.unwrap() else { panic!() };
        assert_eq!((message.payload.as_slice(), &out[..]), (&b"x"[..], &[0x70, 2, 0, 7][..]));
        let (event, out) = feed(&mut session, &[0x62, 2, 0, 7]);
        assert_eq!((event.unwrap(), &out[..]), (None, &[0x70, 2, 0, 7][..]));
    }

    #[test]
    fn a_half_received_qos_2_message_survives_a_reconnect_to_the_same_session_only() {
        for (session_present, expected) in [(true, true), (false, false)] {
            let mut session = Session::new(Version::V311);
            feed(&mut session, &publish(QoS::ExactlyOnce, 7, false)).0.unwrap();
            session.reconnected(session_present);
            assert_eq!(feed(&mut session, &[0x62, 2, 0, 7]).0.unwrap().is_some(), expected);
        }
    }

    #[test]
    fn our_own_qos_2_message_goes_through_all_four_packets() {
        let mut session = Session::new(Version::V311);
        let id = session.reserve(Waiting::Pubrec).unwrap();
        assert_eq!((id, session.in_flight()), (1, 1));
        assert_eq!(feed(&mut session, &[0x50, 2, 0, 1]), (Ok(None), vec![0x62, 2, 0, 1]));
        assert_eq!(feed(&mut session, &[0x50, 2, 0, 1]), (Ok(None), vec![0x62, 2, 0, 1]));
        let published = Event::Published { packet_id: 1, reason: ReasonCode::SUCCESS };
        assert_eq!(feed(&mut session, &[0x70, 2, 0, 1]), (Ok(Some(published)), Vec::new()));
        assert_eq!(session.in_flight(), 0);
    }

    #[test]
    fn a_pubrec_with_an_error_ends_the_exchange() {
        let mut session = Session::new(Version::V5);
        session.reserve(Waiting::Pubrec).unwrap();
        let published = Event::Published { packet_id: 1, reason: ReasonCode::QUOTA_EXCEEDED };
        assert_eq!(feed(&mut session, &[0x50, 3, 0, 1, 0x97]), (Ok(Some(published)), Vec::new()));
        assert_eq!(session.in_flight(), 0);
    }

    #[test]
    fn an_acknowledgement_of_nothing_or_of_something_else_breaks_the_protocol() {
        for packet in [&[0x40, 2, 0, 1][..], &[0x70, 2, 0, 1], &[0x90, 3, 0, 1, 0], &[0xB0, 2, 0, 1]] {
            let mut session = Session::new(Version::V311);
            assert!(matches!(feed(&mut session, packet).0, Err(ClientError::Protocol(_))), "{packet:?}");
            session.reserve(Waiting::Pubrec).unwrap();
            assert!(matches!(feed(&mut session, packet).0, Err(ClientError::Protocol(_))), "{packet:?}");
        }
    }

    #[test]
    fn packet_identifiers_skip_those_in_use_and_never_are_0() {
        let mut session = Session::new(Version::V311);
        assert_eq!(session.reserve(Waiting::Pubrec).unwrap(), 1);
        session.last_packet_id = u16::MAX - 1;
        assert_eq!(session.reserve(Waiting::Pubrec).unwrap(), u16::MAX);
        assert_eq!(session.reserve(Waiting::Pubrec).unwrap(), 2);
        while session.waiting.len() < usize::from(u16::MAX) {
            session.reserve(Waiting::Suback).unwrap();
        }
        assert!(session.reserve(Waiting::Suback).is_err());
    }

    #[test]
    fn a_topic_alias_stands_for_the_topic_it_was_set_for() {
        let mut session = Session::new(Version::V5);
        let packet = |topic, topic_alias| {
            let mut out = Vec::new();
            encode::publish(&mut out, Version::V5, &PublishOut { topic_alias, ..PublishOut::new(topic, b"x") });
            out
        };
        for (topic, alias, expected) in
            [("a/b", 3, Some("a/b")), ("", 3, Some("a/b")), ("", 4, None), ("c", 3, Some("c")), ("", 3, Some("c"))]
        {
            match feed(&mut session, &packet(topic, alias)).0 {
                Ok(Some(Event::Message(message))) => assert_eq!(Some(message.topic.as_str()), expected),
                other => assert_eq!((other.is_err(), None), (true, expected)),
            }
        }
    }

    #[test]
    fn the_broker_may_say_goodbye_with_a_reason() {
        let mut session = Session::new(Version::V5);
        let error = feed(&mut session, &[0xE0, 1, 0x8E]).0.unwrap_err();
        assert_eq!(error, ClientError::Disconnected { reason: ReasonCode::SESSION_TAKEN_OVER, reason_string: None });
    }
}
