//! A publishing client: stamps and encodes its messages, answers the broker's acknowledgements, knows what is in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmq::mqtt::{PacketType, Properties, PublishOut, QoS, ReasonCode, encode};

use super::latency::Latency;
use super::packets::{self, Stamp};
use super::plan::{PublisherPlan, Settings};
use super::shared::Tally;
use super::window::Window;

pub struct Publisher {
    /// Its place on its thread, as in the payload.
    id: u32,
    /// Its connection.
    pub client: usize,
    topics: Arc<[String]>,
    fan: u32,
    /// The shard that it is to live on.
    pub home: u16,
    qos: QoS,
    pub sent: u32,
    pub window: Window,
    /// Already in the list of those that have room.
    pub queued: bool,
    /// Where neither a subscriber nor an acknowledgement tells how far the broker is, a PINGREQ follows each write: messages before each.
    pings: Option<VecDeque<u32>>,
    /// QoS 1 and 2: the time stamps of messages that are not acknowledged, and how many have each. Acknowledgements come in the order of the publishes.
    unacknowledged: VecDeque<(u64, u32)>,
    /// Whether the broker knows the topic by its alias, which is always 1; `None` where topics are written out.
    alias: Option<bool>,
    random: u64,
    payload: Vec<u8>,
}

/// Where it is noted how long acknowledgements took, while it is measured.
pub struct Acknowledgements<'a> {
    pub latency: Option<&'a mut Latency>,
    pub now: u64,
}

impl Publisher {
    pub fn new(id: u32, client: usize, plan: &PublisherPlan, settings: &Settings) -> Publisher {
        let asks = plan.fan == 0 && settings.qos == QoS::AtMostOnce;
        Publisher {
            id,
            client,
            topics: Arc::clone(&plan.topics),
            fan: plan.fan,
            home: plan.home,
            qos: settings.qos,
            sent: 0,
            window: Window::new(settings.window, plan.fan, asks || settings.qos != QoS::AtMostOnce),
            queued: false,
            pings: asks.then(VecDeque::new),
            unacknowledged: VecDeque::new(),
            alias: (settings.topic_aliases && plan.topics.len() == 1).then_some(false),
            random: u64::from(id) * 2 + 1,
            payload: vec![b'.'; settings.payload_bytes],
        }
    }

    /// The broker allows fewer unacknowledged messages (5.0's Receive Maximum).
    pub fn limit_window(&mut self, most: u32) {
        self.window.shrink(most);
    }

    /// Appends `count` messages with the time stamp `time`.
    pub fn publish(&mut self, count: u32, time: u64, settings: &Settings, tally: &mut Tally, out: &mut Vec<u8>) {
        for _ in 0..count {
            Stamp { publisher: self.id, number: self.sent, time }.put(&mut self.payload);
            let topic = self.next_topic();
            let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { (self.sent % u32::from(u16::MAX)) as u16 + 1 };
            let (topic, topic_alias) = match &mut self.alias {
                None => (self.topics[topic].as_str(), 0),
                Some(true) => ("", 1),
                Some(known) => {
                    *known = true;
                    (self.topics[topic].as_str(), 1)
                }
            };
            let message = PublishOut { qos: self.qos, packet_id, topic_alias, ..PublishOut::new(topic, &self.payload) };
            encode::publish(out, settings.version, &message);
            self.sent += 1;
        }
        let count = u64::from(count);
        tally.sent += count;
        tally.expected += count * u64::from(self.fan);
        if self.qos != QoS::AtMostOnce || self.pings.is_some() {
            tally.expected_acknowledged += count;
        }
        if self.qos != QoS::AtMostOnce {
            self.unacknowledged.push_back((time, count as u32));
        }
        if let Some(pings) = &mut self.pings {
            pings.push_back(count as u32);
            encode::pingreq(out);
        }
    }

    fn next_topic(&mut self) -> usize {
        if self.topics.len() == 1 {
            return 0;
        }
        // xorshift64: any order will do that the broker cannot foresee.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % self.topics.len() as u64) as usize
    }

    /// Takes the packets at the start of `bytes`, appends what must be answered, and gives the bytes used. `latency` gets when acknowledged messages were sent.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        settings: &Settings,
        tally: &mut Tally,
        latency: &mut Acknowledgements<'_>,
        answers: &mut Vec<u8>,
    ) -> usize {
        let mut at = 0;
        while let Some((packet, length)) = packets::next(&bytes[at..]) {
            at += length;
            match PacketType::from_first(packet.first) {
                Some(PacketType::Puback | PacketType::Pubcomp) => {
                    self.note_latency(latency);
                    self.acknowledged(1, tally);
                }
                Some(PacketType::Pubrec) => {
                    let packet_id = packets::u16_at(packet.body, 0).unwrap_or(0);
                    encode::ack(answers, settings.version, PacketType::Pubrel, packet_id, ReasonCode::SUCCESS, &Properties::default());
                }
                Some(PacketType::Pingresp) => {
                    let count = self.pings.as_mut().and_then(VecDeque::pop_front).unwrap_or(0);
                    self.acknowledged(count, tally);
                }
                _ => tally.foreign += 1,
            }
        }
        at
    }

    fn note_latency(&mut self, Acknowledgements { latency, now }: &mut Acknowledgements<'_>) {
        let Some((stamped, count)) = self.unacknowledged.front_mut() else { return };
        if let Some(latency) = latency {
            latency.record(now.saturating_sub(*stamped));
        }
        *count -= 1;
        if *count == 0 {
            self.unacknowledged.pop_front();
        }
    }

    fn acknowledged(&mut self, count: u32, tally: &mut Tally) {
        tally.acknowledged += u64::from(count);
        self.window.acknowledge(count);
    }
}
