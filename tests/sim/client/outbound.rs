//! What a client writes. Every packet is noted in the history together with the place where it ends in the stream.

use std::collections::BTreeMap;

use ringmq::mqtt::{Connect, PacketType, Properties, PublishOut, QoS, ReasonCode, SubscribeEntry, Version, Will, encode};

use super::{Client, Flight, Link, Stage};
use crate::history::{Connection, Entry, Event, MessageIx, Sent, SocketIx, WillPlan};
use crate::host::Surroundings;
use crate::network::Socket;

/// What a client asks for when it connects.
#[derive(Clone, Debug, Default)]
pub struct ConnectWish {
    pub clean_start: bool,
    pub keep_alive_s: u16,
    /// 5.0 only.
    pub expiry_s: u32,
    /// 5.0 only.
    pub receive_maximum: Option<u16>,
    /// 5.0 only.
    pub max_packet_bytes: Option<u32>,
    pub will: Option<WillPlan>,
    /// 5.0 only: topic aliases that the broker may set.
    pub alias_maximum: Option<u16>,
    /// Send only the beginning of CONNECT.
    pub half: bool,
}

impl Client {
    /// Opens a connection to some shard and sends CONNECT.
    pub fn connect(&mut self, mut wish: ConnectWish, around: &mut Surroundings<'_>) {
        wish.clean_start |= self.forgetting;
        self.forgetting = wish.clean_start;
        let socket = around.network.sockets.len();
        around.network.sockets.push(Socket::default());
        let shard = around.rng.index(around.network.arrivals.len());
        around.network.arrivals[shard].push_back(socket);
        if wish.clean_start {
            self.flights.clear();
            self.received.clear();
        }
        let connection = self.connection(&wish, around);
        let mut bytes = self.connect_packet(&wish, around);
        self.link = Some(Link {
            socket,
            connected: false,
            opened_at: around.history.now,
            inbox: Vec::new(),
            last_sent: around.history.now,
            keep_alive_s: connection.keep_alive_s,
            stalled_until: 0,
            silent_until: 0,
            due: Default::default(),
            asked: Default::default(),
            pings: 0,
            open: Default::default(),
            server_receive_maximum: u16::MAX,
            alias_maximum: 0,
            aliases: Vec::new(),
            broker_aliases: BTreeMap::new(),
            leaving: false,
        });
        around.history.connections.push(connection);
        if wish.half {
            bytes.truncate(around.rng.index(bytes.len()));
            let at = around.history.now;
            return around.network.sockets[socket].up.write(bytes, at);
        }
        self.send(Sent::Connect, bytes, around);
    }

    /// The connection as it is in force once the broker has applied its limits.
    fn connection(&self, wish: &ConnectWish, around: &Surroundings<'_>) -> Connection {
        let limits = &around.settings.limits;
        let v5 = self.version.is_v5();
        let keep_alive_s = match wish.keep_alive_s {
            asked if !v5 || limits.max_keep_alive_s == u16::MAX => asked,
            0 => limits.max_keep_alive_s,
            asked => asked.min(limits.max_keep_alive_s),
        };
        let expiry_s = match (v5, wish.clean_start) {
            (true, _) => wish.expiry_s.min(limits.max_session_expiry_s),
            (false, true) => 0,
            (false, false) => limits.v3_session_expiry_s,
        };
        Connection {
            client: self.ix,
            version: self.version,
            clean_start: wish.clean_start,
            keep_alive_s,
            expiry_s,
            receive_maximum: wish.receive_maximum.filter(|_| v5).unwrap_or(u16::MAX),
            max_packet_bytes: wish.max_packet_bytes.filter(|_| v5).unwrap_or(u32::MAX),
            will: wish.will.clone(),
            alias_maximum: wish.alias_maximum.filter(|_| v5).unwrap_or(0),
            half: wish.half,
        }
    }

    fn connect_packet(&self, wish: &ConnectWish, around: &Surroundings<'_>) -> Vec<u8> {
        let message = wish.will.as_ref().map(|will| &around.history.messages[will.message]);
        let will = message.zip(wish.will.as_ref()).map(|(message, plan)| Will {
            topic: &message.topic,
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: Properties {
                will_delay: (plan.delay_s > 0).then_some(plan.delay_s),
                message_expiry: message.expiry_s,
                ..Properties::default()
            },
        });
        let packet = Connect {
            version: self.version,
            clean_start: wish.clean_start,
            keep_alive: wish.keep_alive_s,
            client_id: &around.history.clients[self.ix].client_id,
            will,
            user_name: None,
            password: None,
            properties: Properties {
                session_expiry: (wish.expiry_s > 0).then_some(wish.expiry_s),
                receive_maximum: wish.receive_maximum,
                maximum_packet_size: wish.max_packet_bytes,
                topic_alias_maximum: wish.alias_maximum,
                ..Properties::default()
            },
        };
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &packet);
        bytes
    }

    /// Writes a packet.
    pub(super) fn send(&mut self, packet: Sent, bytes: Vec<u8>, around: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        link.last_sent = around.history.now;
        let at = around.history.now + around.rng.below(around.settings.network_delay_ms + 1);
        let socket: SocketIx = link.socket;
        let seq = around.history.push(Event::Sent { socket, packet });
        around.network.sockets[socket].client_writes(bytes, seq, at);
    }

    /// Publishes a message for the first time.
    pub fn publish(&mut self, message: MessageIx, around: &mut Surroundings<'_>) {
        let qos = around.history.messages[message].qos;
        let mut packet_id = 0;
        if qos != QoS::AtMostOnce {
            packet_id = self.fresh_id();
            self.flights.push(Flight { packet_id, message, qos, stage: Stage::Published });
        }
        self.send_publish(message, packet_id, false, around);
    }

    fn send_publish(&mut self, message: MessageIx, packet_id: u16, dup: bool, around: &mut Surroundings<'_>) {
        let (topic_alias, named) = self.alias_for(message, around);
        let published = &around.history.messages[message];
        let out = PublishOut {
            dup,
            qos: published.qos,
            retain: published.retain,
            packet_id,
            forward: &published.forward,
            message_expiry: published.expiry_s,
            topic_alias,
            ..PublishOut::new(if named { &published.topic } else { "" }, &published.payload)
        };
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, self.version, &out);
        self.send(Sent::Publish { message, packet_id, dup }, bytes, around);
    }

    /// The topic alias of a PUBLISH, 0 for none, and whether the topic is named too.
    fn alias_for(&mut self, message: MessageIx, around: &mut Surroundings<'_>) -> (u16, bool) {
        let topic = &around.history.messages[message].topic;
        let Some(link) = self.link.as_mut().filter(|link| link.alias_maximum > 0) else { return (0, true) };
        let known = link.aliases.iter().position(|known| known == topic);
        match known {
            Some(index) => (index as u16 + 1, around.rng.percent(20)),
            None if around.rng.percent(50) => (0, true),
            None if link.aliases.len() < usize::from(link.alias_maximum.min(3)) => {
                link.aliases.push(topic.clone());
                (link.aliases.len() as u16, true)
            }
            None => {
                let index = around.rng.index(link.aliases.len());
                link.aliases[index].clone_from(topic);
                (index as u16 + 1, true)
            }
        }
    }

    /// Sends again what the last connection left unacknowledged, in the order of the first time [MQTT-4.4.0-1] [MQTT-4.6.0-1].
    pub(super) fn resend(&mut self, around: &mut Surroundings<'_>) {
        for flight in self.flights.clone() {
            match flight.stage {
                Stage::Published => self.send_publish(flight.message, flight.packet_id, true, around),
                Stage::Released => self.send_ack(PacketType::Pubrel, flight.packet_id, around),
            }
        }
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(super) fn send_ack(&mut self, kind: PacketType, packet_id: u16, around: &mut Surroundings<'_>) {
        let mut bytes = Vec::new();
        encode::ack(&mut bytes, self.version, kind, packet_id, ReasonCode::SUCCESS, &Properties::default());
        let packet = match kind {
            PacketType::Puback => Sent::Puback(packet_id),
            PacketType::Pubrec => Sent::Pubrec(packet_id),
            PacketType::Pubrel => Sent::Pubrel(packet_id),
            _ => Sent::Pubcomp(packet_id),
        };
        self.send(packet, bytes, around);
    }

    pub fn subscribe(&mut self, entries: Vec<Entry>, around: &mut Surroundings<'_>) {
        let packet_id = self.fresh_id();
        let Some(link) = &mut self.link else { return };
        link.asked.insert(packet_id);
        let wire: Vec<_> = entries.iter().map(|entry| SubscribeEntry { filter: &entry.filter, options: entry.options }).collect();
        let subscription_id = entries.first().map(|entry| entry.subscription_id).filter(|&id| id != 0);
        let mut bytes = Vec::new();
        encode::subscribe(&mut bytes, self.version, packet_id, &wire, &Properties { subscription_id, ..Properties::default() });
        self.filters.extend(entries.iter().map(|entry| entry.filter.clone()));
        self.send(Sent::Subscribe { packet_id, entries }, bytes, around);
    }

    pub fn unsubscribe(&mut self, filters: Vec<String>, around: &mut Surroundings<'_>) {
        let packet_id = self.fresh_id();
        let Some(link) = &mut self.link else { return };
        link.asked.insert(packet_id);
        let mut bytes = Vec::new();
        encode::unsubscribe(&mut bytes, self.version, packet_id, filters.iter().map(String::as_str), &Properties::default());
        self.send(Sent::Unsubscribe { packet_id, filters }, bytes, around);
    }

    pub fn ping(&mut self, around: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        link.pings += 1;
        let mut bytes = Vec::new();
        encode::pingreq(&mut bytes);
        self.send(Sent::Pingreq, bytes, around);
    }

    /// DISCONNECT; from then on the client only waits for the end.
    pub fn disconnect(&mut self, reason: ReasonCode, expiry_s: Option<u32>, around: &mut Surroundings<'_>) {
        let (reason, expiry_s) = if self.version == Version::V5 { (reason, expiry_s) } else { (ReasonCode::SUCCESS, None) };
        let mut bytes = Vec::new();
        encode::disconnect(&mut bytes, self.version, reason, &Properties { session_expiry: expiry_s, ..Properties::default() });
        let expiry_s = expiry_s.map(|asked| asked.min(around.settings.limits.max_session_expiry_s));
        self.send(Sent::Disconnect { reason: reason.0, expiry_s }, bytes, around);
        if let Some(link) = &mut self.link {
            link.leaving = true;
        }
    }
}
