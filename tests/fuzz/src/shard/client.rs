//! A client as the network sees it: what it has yet to send, what the broker wrote to it, and whether that keeps to the standard.

use std::collections::{BTreeMap, VecDeque};

use ringmq::broker::{ConnId, OutBatch};
use ringmq::mqtt::{Packet, PacketType, Properties, QoS, ReasonCode, Version, decode, encode, peek};

pub const VERSIONS: [Version; 3] = [Version::V5, Version::V311, Version::V31];

/// How a connection stands with its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// The shard has asked for it on another shard; nothing of it is read until it is there.
    Moving,
    /// The shard has said that it is to be closed; `after_send`: when its output has left.
    Closing {
        after_send: bool,
    },
    Closed,
}

/// One network connection and the client at its other end.
pub struct Client {
    pub shard: usize,
    pub id: ConnId,
    pub phase: Phase,
    /// The shard does not want to be given more for now.
    pub paused: bool,
    /// The client has closed its side, or the connection broke.
    pub ended: bool,
    /// Nothing arrives any more.
    pub broken: bool,
    /// The version of its CONNECT, once it has sent one.
    pub version: Version,
    pub greeted: bool,
    /// It sent nothing but what a client may say; of others, less can be expected.
    pub honest: bool,
    /// Bytes on the way to the broker.
    pub unread: VecDeque<u8>,
    /// Output that the shard has given away and not been told the fate of.
    pub in_driver: Option<OutBatch>,
    /// What the client announced in CONNECT.
    pub max_packet_bytes: u32,
    pub receive_maximum: u16,
    /// Bytes that arrived and are no whole packet yet.
    arrived: Vec<u8>,
    connected: bool,
    told_to_go: bool,
    /// Exchanges that the client has not finished: packet identifier -> QoS, and whether PUBREC is out.
    pub exchanges: BTreeMap<u16, (QoS, bool)>,
    /// Identifiers in the order in which they wait for an answer.
    pub to_answer: VecDeque<u16>,
}

impl Client {
    pub fn new(shard: usize, id: ConnId) -> Client {
        Client {
            shard,
            id,
            phase: Phase::Open,
            paused: false,
            ended: false,
            broken: false,
            version: Version::V311,
            greeted: false,
            honest: true,
            unread: VecDeque::new(),
            in_driver: None,
            max_packet_bytes: u32::MAX,
            receive_maximum: u16::MAX,
            arrived: Vec::new(),
            connected: false,
            told_to_go: false,
            exchanges: BTreeMap::new(),
            to_answer: VecDeque::new(),
        }
    }

    /// Output of the broker: whole packets, valid in the client's version, that a server may send here.
    pub fn arrive(&mut self, batch: &OutBatch) {
        let before = self.arrived.len();
        batch.for_each_slice(|slice| self.arrived.extend_from_slice(slice));
        assert_eq!(self.arrived.len() - before, batch.len(), "a batch is as long as it says");
        let arrived = std::mem::take(&mut self.arrived);
        let mut rest = &arrived[..];
        while !rest.is_empty() {
            let header = peek(rest, u32::MAX).expect("the broker writes valid headers").expect("the broker writes whole packets");
            let (packet, after) = rest.split_at_checked(header.total_len()).expect("the broker writes whole packets");
            rest = after;
            let body = &packet[usize::from(header.header_len)..];
            if self.honest {
                assert!(packet.len() <= self.max_packet_bytes as usize, "[MQTT-3.1.2-24]");
                self.packet(&decode(self.version, header.first, body).expect("the broker writes valid packets"));
            } else {
                // Nobody knows what the broker took it for.
                let readable = VERSIONS.iter().any(|&version| decode(version, header.first, body).is_ok());
                assert!(readable, "the broker writes valid packets: {packet:x?}");
            }
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        assert!(!self.told_to_go, "[MQTT-3.14.4-1] nothing after DISCONNECT, but {packet:?}");
        match packet {
            Packet::Auth(_) if self.version.is_v5() => return,
            Packet::Connack(_) => assert!(!self.connected, "[MQTT-3.2.0-2] CONNACK comes once"),
            _ => assert!(self.connected, "[MQTT-3.2.0-1] CONNACK is the first packet, not {packet:?}"),
        }
        match packet {
            Packet::Connack(connack) => {
                self.connected = true;
                self.told_to_go = connack.code != 0;
            }
            Packet::Publish(publish) => {
                if publish.qos != QoS::AtMostOnce {
                    self.publish(publish.packet_id, publish.qos, publish.dup);
                }
            }
            Packet::Pubrel(ack) => {
                self.exchanges.remove(&ack.packet_id);
                // An error is the answer to a PUBREC for what the broker does not know.
                if ack.reason == ReasonCode::SUCCESS {
                    self.answer(PacketType::Pubcomp, ack.packet_id);
                }
            }
            Packet::Puback(_) | Packet::Pubrec(_) | Packet::Pubcomp(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {}
            Packet::Disconnect(_) if self.version.is_v5() => self.told_to_go = true,
            other => panic!("not for a server to send: {other:?}"),
        }
    }

    fn publish(&mut self, packet_id: u16, qos: QoS, dup: bool) {
        let known = self.exchanges.insert(packet_id, (qos, false));
        assert!(known.is_none(), "[MQTT-2.2.1-4] identifier {packet_id} is in use, dup {dup}");
        assert!(self.exchanges.len() <= usize::from(self.receive_maximum), "[MQTT-3.3.4-9]");
        self.to_answer.push_back(packet_id);
    }

    /// The client answers the message that waits longest.
    pub fn acknowledge(&mut self, refuse: bool) {
        let Some(packet_id) = self.to_answer.pop_front() else { return };
        match self.exchanges.get_mut(&packet_id) {
            Some((QoS::ExactlyOnce, received)) if !*received => {
                *received = true;
                if refuse && self.version.is_v5() {
                    self.exchanges.remove(&packet_id);
                    let mut bytes = Vec::new();
                    let (reason, none) = (ReasonCode::UNSPECIFIED_ERROR, Properties::default());
                    encode::ack(&mut bytes, self.version, PacketType::Pubrec, packet_id, reason, &none);
                    self.unread.extend(bytes);
                } else {
                    self.answer(PacketType::Pubrec, packet_id);
                }
            }
            Some((QoS::AtLeastOnce, _)) => {
                self.exchanges.remove(&packet_id);
                self.answer(PacketType::Puback, packet_id);
            }
            _ => {}
        }
    }

    fn answer(&mut self, kind: PacketType, packet_id: u16) {
        let mut bytes = Vec::new();
        encode::ack(&mut bytes, self.version, kind, packet_id, ReasonCode::SUCCESS, &Properties::default());
        self.unread.extend(bytes);
    }
}
