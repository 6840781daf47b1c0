//! Planted faults: the world around healthy shards does once what a broken broker might do, and the checker in question must notice.

use ringmq::broker::{Batch, ShardId};
use ringmq::mqtt::{PacketType, peek};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A batch of publishes reaches another shard than it was meant for.
    MisdirectBatch,
    /// Shards lose what they tell one another of subscriptions.
    LoseInterest,
    /// A PUBLISH reaches its subscriber twice.
    RepeatPublish,
    /// Two PUBLISH packets to one subscriber change places.
    SwapPublishes,
    /// A PUBLISH reaches another client as well.
    MisdeliverPublish,
    /// A byte of a payload changes.
    CorruptPayload,
    /// A PUBACK or PUBREC is lost.
    LoseAck,
    /// Two PUBACKs or PUBRECs change places.
    SwapAcks,
    /// CONNACK says the opposite of whether the session was there.
    LieAboutSession,
    /// The clock of a shard runs ahead.
    HurryTimers,
    /// A shard does not look at the clock for a while.
    DelayTimers,
    /// A retained message is lost on its way to its reader.
    LoseRetained,
    /// Wills are lost on their way to those who subscribe to them.
    LoseWills,
    /// A shard is never told that a socket has closed.
    ForgetClose,
    /// A shard counts one delivery too many.
    Miscount,
    /// The disk says that it has a commit, and has not.
    LoseCommit,
    /// The writer reports what it has not synced.
    ForgetSync,
    /// The writer takes a sync for success that follows one that failed.
    TrustSync,
    /// The writer deletes the newer ones of some segments, and fails to delete the older ones.
    DeleteNewest,
    /// Nobody is told that records were damaged.
    HideDamage,
}

impl Fault {
    /// All faults, with the checker that must notice.
    pub const ALL: &[(Fault, &str)] = &[
        (Fault::MisdirectBatch, "delivery"),
        (Fault::LoseInterest, "replicas"),
        (Fault::RepeatPublish, "delivery"),
        (Fault::SwapPublishes, "order"),
        (Fault::MisdeliverPublish, "delivery"),
        (Fault::CorruptPayload, "delivery"),
        (Fault::LoseAck, "acks"),
        (Fault::SwapAcks, "acks"),
        (Fault::LieAboutSession, "sessions"),
        (Fault::HurryTimers, "timers"),
        (Fault::DelayTimers, "timers"),
        (Fault::LoseRetained, "retained"),
        (Fault::LoseWills, "wills"),
        (Fault::ForgetClose, "accounting"),
        (Fault::Miscount, "accounting"),
        (Fault::LoseCommit, "retained"),
        (Fault::ForgetSync, "sessions"),
        (Fault::TrustSync, "retained"),
        (Fault::DeleteNewest, "delivery"),
        (Fault::HideDamage, "rot"),
    ];
}

/// A packet of the stream to a client.
#[derive(Clone, Debug)]
struct Packet(Vec<u8>);

impl Packet {
    fn kind(&self) -> Option<PacketType> {
        PacketType::from_first(self.0[0])
    }

    fn is_publish(&self) -> bool {
        self.kind() == Some(PacketType::Publish)
    }

    fn is_will(&self) -> bool {
        self.is_publish() && self.topic().get(2..).is_some_and(|topic| topic.starts_with(b"w/"))
    }

    fn is_ack(&self) -> bool {
        matches!(self.kind(), Some(PacketType::Puback | PacketType::Pubrec))
    }

    /// The topic of a PUBLISH with its length, which tells two topics apart.
    fn topic(&self) -> &[u8] {
        let Ok(Some(header)) = peek(&self.0, u32::MAX) else { return &[] };
        let start = usize::from(header.header_len);
        let len = usize::from(self.0[start]) << 8 | usize::from(self.0[start + 1]);
        &self.0[start..start + 2 + len]
    }
}

/// Cuts a batch of output, which holds whole packets, into them.
fn packets(mut bytes: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Ok(Some(header)) = peek(bytes, u32::MAX) {
        let (packet, rest) = bytes.split_at(header.total_len());
        packets.push(Packet(packet.to_vec()));
        bytes = rest;
    }
    packets
}

/// A fault that waits for its chance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Saboteur {
    pub fault: Option<Fault>,
    /// Chances that are let pass first.
    pub patience: u32,
    /// How often it struck.
    pub struck: u32,
    /// When the clock stopped.
    frozen: Option<u64>,
}

impl Saboteur {
    /// Strikes at some chance, which `seed` chooses.
    pub fn new(fault: Fault, seed: u32) -> Saboteur {
        Saboteur { fault: Some(fault), patience: seed % 7 * 5, ..Saboteur::default() }
    }

    /// Whether a chance for `fault` is taken: once, unless `again`.
    pub fn strikes(&mut self, fault: Fault, again: bool) -> bool {
        if self.fault != Some(fault) || (self.struck > 0 && !again) {
            return false;
        }
        if self.patience > 0 {
            self.patience -= 1;
            return false;
        }
        self.struck += 1;
        true
    }

    /// The time that a shard is told.
    pub fn clock(&mut self, shard: ShardId, now: u64) -> u64 {
        if shard != ShardId(0) {
            return now;
        }
        if self.strikes(Fault::HurryTimers, true) {
            return now + 4_000;
        }
        if self.frozen.is_none() && self.strikes(Fault::DelayTimers, false) {
            self.frozen = Some(now);
        }
        self.frozen.filter(|&since| now < since + 15_000).unwrap_or(now)
    }

    /// Changes a batch between shards, and says where it goes.
    pub fn sabotage_batch(&mut self, batch: &mut Batch, from: ShardId, to: ShardId, shards: u16) -> ShardId {
        let is = |message: &dyn std::fmt::Debug, kind: &str| format!("{message:?}").starts_with(kind);
        if self.fault == Some(Fault::LoseRetained) {
            batch.messages.retain(|message| !is(message, "RetainedItem") || !self.strikes(Fault::LoseRetained, true));
        }
        if self.fault == Some(Fault::LoseInterest) {
            // The last one is left: all up to it will be acknowledged.
            let mut left = batch.messages.iter().filter(|message| is(message, "Interest {")).count();
            batch.messages.retain(|message| {
                left -= usize::from(is(message, "Interest {"));
                !is(message, "Interest {") || left == 0 || !self.strikes(Fault::LoseInterest, true)
            });
        }
        let other = (0..shards).map(ShardId).find(|&other| other != from && other != to);
        match other {
            Some(other) if batch.messages.iter().all(|message| is(message, "Publish(")) && self.strikes(Fault::MisdirectBatch, false) => {
                other
            }
            _ => to,
        }
    }

    /// Changes the output of one connection; gives a packet that another one is to get.
    pub fn sabotage(&mut self, bytes: Vec<u8>) -> (Vec<u8>, Option<Vec<u8>>) {
        if self.fault.is_none() {
            return (bytes, None);
        }
        let mut packets = packets(&bytes);
        let stray = self.sabotage_packets(&mut packets);
        (packets.into_iter().flat_map(|packet| packet.0).collect(), stray.map(|packet| packet.0))
    }

    fn sabotage_packets(&mut self, packets: &mut Vec<Packet>) -> Option<Packet> {
        if self.fault == Some(Fault::LoseWills) {
            packets.retain(|packet| !packet.is_will() || !self.strikes(Fault::LoseWills, true));
        }
        let publish = packets.iter().position(Packet::is_publish);
        let ack = packets.iter().position(Packet::is_ack);
        let connack = packets.iter().position(|packet| packet.kind() == Some(PacketType::Connack));
        let swap = |wanted: fn(&Packet) -> bool, packets: &[Packet]| {
            let same = |pair: &[Packet]| pair[0].0[0] == pair[1].0[0] && (pair[0].is_ack() || pair[0].topic() == pair[1].topic());
            packets.windows(2).position(|pair| wanted(&pair[0]) && wanted(&pair[1]) && same(pair) && pair[0].0 != pair[1].0)
        };
        if let Some(at) = publish {
            if self.strikes(Fault::RepeatPublish, false) {
                packets.insert(at, packets[at].clone());
            }
            if self.strikes(Fault::CorruptPayload, false) {
                let last = packets[at].0.len() - 1;
                packets[at].0[last] ^= 1;
            }
            if self.strikes(Fault::MisdeliverPublish, false) {
                return Some(packets[at].clone());
            }
        }
        if let Some(at) = swap(Packet::is_publish, packets).filter(|_| self.strikes(Fault::SwapPublishes, false)) {
            packets.swap(at, at + 1);
        }
        if let Some(at) = swap(Packet::is_ack, packets).filter(|_| self.strikes(Fault::SwapAcks, false)) {
            packets.swap(at, at + 1);
        }
        if let Some(at) = ack.filter(|_| self.strikes(Fault::LoseAck, false)) {
            packets.remove(at);
        }
        if let Some(at) = connack.filter(|_| self.strikes(Fault::LieAboutSession, false)) {
            packets[at].0[2] ^= 1;
        }
        None
    }
}
