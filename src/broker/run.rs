//! A run: QoS 0 publishes to one topic, one behind the other, as a busy publisher sends them. Who gets them is found out once; the packets that follow the
//! first are recognised by their first bytes, not decoded; each is encoded once per protocol family (and where publisher and subscriber are of the same
//! family, not at all: the packet is the same); and each subscriber gets the whole run in one piece. That takes the fan-out of a message from nanoseconds
//! per subscriber to nanoseconds per run (`bench/turn.rs` shows what is lost without it).
//!
//! A run never outlives the bytes that one call handed in, and everything else that a shard does finishes it first: the order of a publisher's messages
//! stays [MQTT-4.6.0-5].

use std::rc::Rc;

use super::connection::{Connection, NONE};
use super::ids::{ConnId, ShardSet};
use super::message::{Incoming, NEVER, remaining_s};
use super::outbox::Chunk;
use super::peer::{Batch, PeerMessage, PeerOptions, PeerRun};
use super::route::{PEER_LIMIT_BYTES, Targets};
use super::shard::Shard;
use crate::metrics::DropReason;
use crate::mqtt::{PacketType, PublishOut, QoS, Version, encode};

/// From this many subscribers and bytes on, a run is sent out of one shared buffer; below, a copy is cheaper than a reference.
const SHARE_SUBSCRIBERS: usize = 4;
const SHARE_BYTES: usize = 256;
/// First byte of a PUBLISH with QoS 0, without RETAIN and DUP.
const PLAIN_PUBLISH: u8 = (PacketType::Publish as u8) << 4;

/// What a run is for one protocol family.
#[derive(Debug, Default)]
struct Family {
    /// Slots of the subscribers' connections.
    slots: Vec<u32>,
    /// PUBLISH packets, one behind the other; `None` where they go straight to the only subscriber, or nobody wants them.
    chunk: Option<Chunk>,
    /// The largest of them, bytes.
    largest: usize,
}

/// The run that is being gathered.
#[derive(Debug, Default)]
pub struct Run {
    active: bool,
    /// Session of the publisher, or [`NONE`].
    publisher: u32,
    topic: String,
    /// Of the topics, when the subscribers were looked up.
    generation: u64,
    count: u64,
    /// Matching sessions without a connection.
    offline: u64,
    /// For clients of 3.x and of 5.0.
    families: [Family; 2],
    remote: ShardSet,
    /// The connection whose packets continue the run if they begin like the first one, and its family; empty `prefix`: none do.
    source: Option<(ConnId, usize)>,
    /// The largest packet that this connection may send.
    max_packet_bytes: u32,
    /// What stands between the fixed header and the payload.
    prefix: Vec<u8>,
}

fn family_of(version: Version) -> usize {
    usize::from(version.is_v5())
}

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

impl Run {
    /// Forgets what was gathered: something went wrong in the middle.
    pub(super) fn abandon(&mut self) {
        *self = Run::default();
    }

    /// The only subscriber, if there is just one.
    fn only_one(&self) -> Option<(usize, u32)> {
        match (&self.families[0].slots[..], &self.families[1].slots[..]) {
            (&[slot], []) => Some((0, slot)),
            ([], &[slot]) => Some((1, slot)),
            _ => None,
        }
    }

    fn continues(&self, publisher: u32, topic: &str, generation: u64) -> bool {
        self.active && self.publisher == publisher && self.generation == generation && self.topic == topic
    }
}

/// Plain PUBLISH packets of one topic and one family, one behind the other.
#[derive(Clone, Copy)]
struct Packets<'a> {
    family: usize,
    bytes: &'a [u8],
    count: u64,
    /// The largest of them, bytes.
    largest: usize,
}

impl<'a> Packets<'a> {
    /// What they bring, one by one.
    fn messages(self, topic: &'a str) -> impl Iterator<Item = Incoming<'a>> {
        // Topic length, topic; in 5.0 the length of no properties.
        let prefix = 2 + topic.len() + self.family;
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (header, total) = plain_publish(rest)?;
            let (packet, after) = rest.split_at_checked(total)?;
            rest = after;
            let payload = packet.get(header + prefix..)?;
            Some(Incoming { topic, payload, forward: &[], qos: QoS::AtMostOnce, retain: false, expires_at: NEVER })
        })
    }
}

/// Lengths of the fixed header and of the whole packet, for a plain PUBLISH of up to 16,387 bytes in the shortest form; other packets take the long way.
#[inline]
fn plain_publish(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [PLAIN_PUBLISH, low, ..] if low < 0x80 => Some((2, 2 + usize::from(low))),
        [PLAIN_PUBLISH, low, high, ..] if high < 0x80 && high != 0 => Some((3, 3 + usize::from(low & 0x7F) + (usize::from(high) << 7))),
        _ => None,
    }
}

/// The packets at the front of `bytes` that begin like the first one of the run: their bytes, how many they are, and the bytes of the largest.
#[inline(never)]
fn scan(bytes: &[u8], prefix: &[u8], limit: usize) -> (usize, u64, usize) {
    let (mut end, mut count, mut largest) = (0, 0, 0);
    while let Some((header, total)) = plain_publish(&bytes[end..]) {
        let next = &bytes[end..];
        if total > next.len() || total > limit || !next[header..total].starts_with(prefix) {
            break;
        }
        end += total;
        count += 1;
        largest = largest.max(total);
    }
    (end, count, largest)
}

impl Shard {
    /// A QoS 0 publish without RETAIN, of a session or, with [`NONE`], of another shard. `source` is the connection that it came from, if it came from one
    /// and without properties. False where its subscribers do not all get the same bytes, and nothing was done: then it goes its own way.
    #[inline]
    pub(super) fn run_publish(&mut self, publisher: u32, source: Option<ConnId>, incoming: &Incoming<'_>) -> bool {
        if !self.run.continues(publisher, incoming.topic, self.topics.generation()) {
            self.finish_run();
            if !self.start_run(publisher, source, incoming.topic) {
                return false;
            }
        }
        self.add_to_run(incoming);
        true
    }

    /// Takes the packets at the front of `bytes` that continue the run; gives how many bytes they are.
    #[inline]
    pub(super) fn continue_run(&mut self, id: ConnId, bytes: &[u8]) -> usize {
        match self.run.source {
            Some((source, family)) if self.run.active && source == id => self.continue_run_of(id, family, bytes),
            _ => 0,
        }
    }

    fn continue_run_of(&mut self, id: ConnId, family: usize, bytes: &[u8]) -> usize {
        let (end, count, largest) = scan(bytes, &self.run.prefix, self.run.max_packet_bytes as usize);
        if count == 0 {
            return 0;
        }
        self.counters.packets_received += count;
        if let Some(conn) = self.connections.get_mut(id) {
            conn.last_seen = self.now;
        }
        self.counters.publishes_received[0] += count;
        self.send_packets_to_shards(Packets { family, bytes: &bytes[..end], count, largest });
        self.add_packets(Packets { family, bytes: &bytes[..end], count, largest });
        end
    }

    /// Packets that continue the run, for the subscribers here.
    fn add_packets(&mut self, packets: Packets<'_>) {
        let Packets { family, bytes, count, largest } = packets;
        let run = &mut self.run;
        run.count += count;
        let same = &mut run.families[family];
        same.largest = same.largest.max(largest);
        if let Some(chunk) = same.chunk.as_mut().and_then(Rc::get_mut) {
            chunk.extend_from_slice(bytes);
        } else if run.only_one().is_some_and(|(only, _)| only == family) {
            self.send_to_only_one(largest, count, |conn| conn.out.own().extend_from_slice(bytes));
        }
        if self.run.families[1 - family].slots.is_empty() {
            return;
        }
        // Subscribers of the other family need them one by one.
        let topic = std::mem::take(&mut self.run.topic);
        for incoming in packets.messages(&topic) {
            self.encode_for_family(1 - family, &incoming);
        }
        self.run.topic = topic;
    }

    fn send_packets_to_shards(&mut self, packets: Packets<'_>) {
        for shard in self.run.remote.iter() {
            if self.peers.waiting_bytes(shard) > PEER_LIMIT_BYTES {
                self.counters.count_dropped(DropReason::PeerRingFull, packets.count);
                continue;
            }
            let (count, largest) = (packets.count as u32, packets.largest as u32);
            self.peers.to(shard).push_run(&self.run.topic, packets.family == 1, packets.bytes, count, largest);
        }
    }

    /// More of a run of another shard.
    pub(super) fn on_peer_run(&mut self, run: &PeerRun, batch: &Batch) {
        let (topic, bytes) = batch.run(run);
        let packets = Packets { family: usize::from(run.v5), bytes, count: u64::from(run.count), largest: run.largest as usize };
        if !self.run.continues(NONE, topic, self.topics.generation()) {
            self.finish_run();
            if !self.start_run(NONE, None, topic) {
                return packets.messages(topic).for_each(|incoming| self.deliver_here(&incoming));
            }
        }
        self.add_packets(packets);
    }

    /// Looks the subscribers up. False where they do not all get the same bytes.
    fn start_run(&mut self, publisher: u32, source: Option<ConnId>, topic: &str) -> bool {
        let mut matches = self.scratch.matches.take().unwrap_or_default();
        let mut targets = self.scratch.targets.take().unwrap_or_default();
        self.topics.matches(topic, &mut matches);
        // What comes from another shard was matched there for the other shards and for shared subscriptions; here only the own subscribers count.
        let mut plain = publisher == NONE || matches.groups.is_empty();
        if plain {
            targets.resolve(&self.topics, &matches, publisher);
            plain = targets.plain();
        }
        plain = plain && self.gather_subscribers(&targets);
        if plain {
            let remote = if publisher == NONE { ShardSet::default() } else { matches.remote };
            self.begin_run(publisher, source, topic, remote);
        }
        self.scratch.matches = Some(matches);
        self.scratch.targets = Some(targets);
        plain
    }

    /// Sorts the subscribers' connections by protocol family. False where one of them is sent packets of its own, with topic aliases.
    fn gather_subscribers(&mut self, targets: &Targets) -> bool {
        let run = &mut *self.run;
        run.offline = 0;
        for family in &mut run.families {
            family.slots.clear();
            family.largest = 0;
        }
        for target in &targets.list {
            // QoS 0 is never stored for a session without a connection [MQTT-4.3.1-1].
            let Some(slot) = self.sessions.get(target.session).map(|session| session.connection).filter(|&slot| slot != NONE) else {
                run.offline += 1;
                continue;
            };
            match self.connections.slot(slot) {
                Some(conn) if conn.own_aliases.is_some() => return false,
                Some(conn) => run.families[family_of(conn.version)].slots.push(slot),
                None => {}
            }
        }
        true
    }

    fn begin_run(&mut self, publisher: u32, source: Option<ConnId>, topic: &str, remote: ShardSet) {
        let run = &mut *self.run;
        run.active = true;
        run.publisher = publisher;
        run.topic.clear();
        run.topic.push_str(topic);
        run.generation = self.topics.generation();
        run.count = 0;
        run.remote = remote;
        let alone = run.only_one().is_some();
        for family in &mut run.families {
            family.chunk = (!alone && !family.slots.is_empty()).then(|| self.chunks.take());
        }
        self.set_source(source, topic);
    }

    fn set_source(&mut self, source: Option<ConnId>, topic: &str) {
        let run = &mut self.run;
        let from = source.and_then(|id| Some((id, self.connections.get(id)?)));
        run.source = from.map(|(id, conn)| (id, family_of(conn.version)));
        run.max_packet_bytes = from.map_or(0, |(_, conn)| conn.terms.max_packet_bytes);
        run.prefix.clear();
        if let Some((_, family)) = run.source {
            run.prefix.extend_from_slice(&(topic.len() as u16).to_be_bytes());
            run.prefix.extend_from_slice(topic.as_bytes());
            // 5.0: no properties.
            run.prefix.extend(std::iter::repeat_n(0, family));
        }
    }

    fn add_to_run(&mut self, incoming: &Incoming<'_>) {
        self.run.count += 1;
        self.encode_for_family(0, incoming);
        self.encode_for_family(1, incoming);
        self.send_run_to_shards(incoming);
    }

    fn encode_for_family(&mut self, family: usize, incoming: &Incoming<'_>) {
        let now = self.now;
        if let Some((only, _)) = self.run.only_one() {
            if only == family {
                let packet = packet(incoming, now);
                let length = encode::publish_len(VERSIONS[family], &packet);
                self.send_to_only_one(length, 1, |conn| encode::publish(conn.out.own(), VERSIONS[family], &packet));
            }
            return;
        }
        let encoded = &mut self.run.families[family];
        let Some(chunk) = encoded.chunk.as_mut().and_then(Rc::get_mut) else { return };
        let before = chunk.len();
        encode::publish(chunk, VERSIONS[family], &packet(incoming, now));
        encoded.largest = encoded.largest.max(chunk.len() - before);
    }

    /// A run with a single subscriber needs no buffer of its own.
    fn send_to_only_one(&mut self, largest: usize, count: u64, append: impl FnOnce(&mut Connection)) {
        let Some((_, slot)) = self.run.only_one() else { return };
        let allowed = self.allowed_unsent;
        let Some(conn) = self.output(slot) else { return };
        if conn.unsent() as u64 > allowed {
            let session = conn.session;
            return self.drop_for(session, DropReason::OutBufferFull, count);
        }
        if largest > conn.max_packet_bytes as usize {
            let before = conn.out.own().len();
            append(conn);
            let added = conn.out.own().split_off(before);
            return self.deliver_those_that_fit(slot, &added);
        }
        append(conn);
        self.counters.publishes_sent[QoS::AtMostOnce as usize] += count;
        self.counters.packets_sent += count;
        self.account_copies(slot);
    }

    fn send_run_to_shards(&mut self, incoming: &Incoming<'_>) {
        for shard in self.run.remote.iter() {
            if self.peers.waiting_bytes(shard) > PEER_LIMIT_BYTES {
                self.counters.count_dropped(DropReason::PeerRingFull, 1);
                continue;
            }
            let batch = self.peers.to(shard);
            let publish = batch.copy(incoming, PeerOptions { deliver: true, ..PeerOptions::default() }, &[]);
            batch.messages.push(PeerMessage::Publish(publish));
        }
    }

    /// Hands the run to its subscribers. Does nothing where there is none.
    #[inline]
    pub(super) fn finish_run(&mut self) {
        if self.run.active {
            self.flush_run();
        }
    }

    fn flush_run(&mut self) {
        self.run.active = false;
        self.run.source = None;
        let subscribers = self.run.families.iter().map(|family| family.slots.len() as u64).sum::<u64>() + self.run.offline;
        self.counters.deliveries_matched += subscribers * self.run.count;
        self.counters.count_dropped(DropReason::Offline, self.run.offline * self.run.count);
        for family in 0..2 {
            if self.run.families[family].chunk.is_some() {
                self.flush_family(family);
            }
        }
    }

    fn flush_family(&mut self, family: usize) {
        let count = self.run.count;
        let Family { slots, chunk, largest } = std::mem::take(&mut self.run.families[family]);
        let Some(chunk) = chunk else { return };
        let share = slots.len() >= SHARE_SUBSCRIBERS && chunk.len() >= SHARE_BYTES;
        let mut delivered = 0;
        for &slot in &slots {
            // It shrinks with each copy.
            let allowed = self.allowed_unsent;
            let Some(conn) = self.output(slot) else { continue };
            if conn.unsent() as u64 > allowed {
                let session = conn.session;
                self.drop_for(session, DropReason::OutBufferFull, count);
                continue;
            }
            if largest > conn.max_packet_bytes as usize {
                self.deliver_those_that_fit(slot, &chunk);
                continue;
            }
            if share {
                conn.out.push_shared(&chunk, 0, chunk.len() as u32);
            } else {
                conn.out.own().extend_from_slice(&chunk);
                self.account_copies(slot);
            }
            delivered += count;
        }
        self.counters.publishes_sent[QoS::AtMostOnce as usize] += delivered;
        self.counters.packets_sent += delivered;
        self.chunks.lend(&chunk);
        self.run.families[family].slots = slots;
    }

    /// Packets for a client whose Maximum Packet Size is smaller than the largest of them [MQTT-3.1.2-24].
    fn deliver_those_that_fit(&mut self, slot: u32, packets: &[u8]) {
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        let (session, mut too_large) = (conn.session, 0);
        let mut rest = packets;
        while let Ok(Some(header)) = crate::mqtt::peek(rest, u32::MAX) {
            let (packet, after) = rest.split_at(header.total_len().min(rest.len()));
            rest = after;
            if packet.len() <= conn.max_packet_bytes as usize {
                conn.out.own().extend_from_slice(packet);
                self.counters.publishes_sent[0] += 1;
                self.counters.packets_sent += 1;
            } else {
                too_large += 1;
            }
        }
        if too_large > 0 {
            self.drop_for(session, DropReason::PacketTooLargeForClient, too_large);
        }
        self.account_copies(slot);
    }
}

/// The packet that every subscriber of a run gets.
fn packet<'a>(incoming: &Incoming<'a>, now: u64) -> PublishOut<'a> {
    let message_expiry = if incoming.expires_at == NEVER { None } else { remaining_s(incoming.expires_at, now) };
    PublishOut { forward: incoming.forward, message_expiry, ..PublishOut::new(incoming.topic, incoming.payload) }
}
