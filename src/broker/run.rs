//! A run: QoS 0 publishes to one topic, one behind the other, as a busy publisher sends them. Who gets them is found out once, each message is encoded once
//! per protocol version, and each subscriber gets the whole run in one piece. That takes the fan-out of a message from nanoseconds per subscriber to
//! nanoseconds per run (`bench/turn.rs` shows what is lost without it).
//!
//! A run never outlives the bytes that one call handed in, and everything else that a shard does finishes it first: the order of a publisher's messages
//! stays [MQTT-4.6.0-5].

use std::rc::Rc;

use super::connection::NONE;
use super::ids::ShardSet;
use super::message::{Incoming, NEVER, remaining_s};
use super::outbox::Chunk;
use super::peer::{PeerMessage, PeerOptions};
use super::shard::Shard;
use crate::metrics::DropReason;
use crate::mqtt::{PublishOut, QoS, Version, encode};

/// From this many subscribers and bytes on, a run is sent out of one shared buffer; below, a copy is cheaper than a reference.
const SHARE_SUBSCRIBERS: usize = 4;
const SHARE_BYTES: usize = 256;

/// The encodings of a run for one protocol family.
#[derive(Debug, Default)]
struct Encoded {
    /// Slots of the subscribers' connections.
    slots: Vec<u32>,
    /// PUBLISH packets, one behind the other.
    chunk: Chunk,
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
    v3: Encoded,
    v5: Encoded,
    remote: ShardSet,
}

impl Shard {
    /// A QoS 0 publish without RETAIN, of a session or, with [`NONE`], of another shard. False where its subscribers do not all get the same bytes, and
    /// nothing was done: then it goes its own way.
    #[inline]
    pub(super) fn run_publish(&mut self, publisher: u32, incoming: &Incoming<'_>) -> bool {
        if !(self.run.active
            && self.run.publisher == publisher
            && self.run.topic == incoming.topic
            && self.run.generation == self.topics.generation())
        {
            self.finish_run();
            if !self.start_run(publisher, incoming) {
                return false;
            }
        }
        self.add_to_run(incoming);
        true
    }

    /// Looks the subscribers up. False where they do not all get the same bytes.
    fn start_run(&mut self, publisher: u32, incoming: &Incoming<'_>) -> bool {
        let mut matches = std::mem::take(&mut self.scratch.matches);
        let mut targets = std::mem::take(&mut self.scratch.targets);
        // What comes from another shard was matched there for the other shards and for shared subscriptions; here only the own subscribers count.
        self.topics.matches(incoming.topic, &mut matches);
        let mut plain = publisher == NONE || matches.groups.is_empty();
        if plain {
            targets.resolve(&self.topics, &matches, publisher);
            plain = targets.plain();
        }
        if plain {
            let run = &mut self.run;
            run.active = true;
            run.publisher = publisher;
            run.topic.clear();
            run.topic.push_str(incoming.topic);
            run.generation = self.topics.generation();
            run.count = 0;
            run.remote = if publisher == NONE { ShardSet::default() } else { matches.remote };
            for encoded in [&mut run.v3, &mut run.v5] {
                encoded.slots.clear();
                encoded.largest = 0;
                encoded.chunk = self.chunks.take();
            }
            for target in &targets.list {
                // QoS 0 is never stored for a session without a connection [MQTT-4.3.1-1].
                let Some(slot) = self.sessions.get(target.session).map(|session| session.connection).filter(|&slot| slot != NONE) else {
                    continue;
                };
                let v5 = self.connections.slot(slot).is_some_and(|conn| conn.version.is_v5());
                if v5 { run.v5.slots.push(slot) } else { run.v3.slots.push(slot) }
            }
        }
        self.scratch.matches = matches;
        self.scratch.targets = targets;
        plain
    }

    fn add_to_run(&mut self, incoming: &Incoming<'_>) {
        let now = self.now;
        self.run.count += 1;
        for (encoded, version) in [(&mut self.run.v3, Version::V311), (&mut self.run.v5, Version::V5)] {
            if encoded.slots.is_empty() {
                continue;
            }
            let Some(chunk) = Rc::get_mut(&mut encoded.chunk) else { continue };
            let before = chunk.len();
            let message_expiry = if incoming.expires_at == NEVER { None } else { remaining_s(incoming.expires_at, now) };
            let packet = PublishOut { forward: incoming.forward, message_expiry, ..PublishOut::new(incoming.topic, incoming.payload) };
            encode::publish(chunk, version, &packet);
            encoded.largest = encoded.largest.max(chunk.len() - before);
        }
        for shard in self.run.remote.iter() {
            if self.peers.waiting_bytes(shard) > super::route::PEER_LIMIT_BYTES {
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
        let mut run = std::mem::take(&mut self.run);
        for encoded in [&mut run.v3, &mut run.v5] {
            self.flush_encoded(encoded, run.count);
        }
        run.active = false;
        self.run = run;
    }

    fn flush_encoded(&mut self, encoded: &mut Encoded, count: u64) {
        let chunk = std::mem::take(&mut encoded.chunk);
        let share = encoded.slots.len() >= SHARE_SUBSCRIBERS && chunk.len() >= SHARE_BYTES;
        let allowed = self.allowed_unsent;
        let mut delivered = 0;
        for &slot in &encoded.slots {
            let Some(conn) = self.output(slot) else { continue };
            if conn.unsent() as u64 > allowed {
                self.counters.count_dropped(DropReason::OutBufferFull, count);
                continue;
            }
            if encoded.largest > conn.max_packet_bytes as usize {
                self.deliver_those_that_fit(slot, &chunk);
                continue;
            }
            if share {
                conn.out.push_shared(&chunk, 0, chunk.len() as u32);
            } else {
                conn.out.own().extend_from_slice(&chunk);
            }
            delivered += count;
        }
        self.counters.publishes_sent[QoS::AtMostOnce as usize] += delivered;
        self.counters.packets_sent += delivered;
        self.chunks.lend(&chunk);
    }

    /// The run for a client whose Maximum Packet Size is smaller than the largest message [MQTT-3.1.2-24].
    fn deliver_those_that_fit(&mut self, slot: u32, chunk: &Chunk) {
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        let mut rest = &chunk[..];
        while let Ok(Some(header)) = crate::mqtt::peek(rest, u32::MAX) {
            let (packet, after) = rest.split_at(header.total_len().min(rest.len()));
            rest = after;
            if packet.len() <= conn.max_packet_bytes as usize {
                conn.out.own().extend_from_slice(packet);
                self.counters.publishes_sent[0] += 1;
                self.counters.packets_sent += 1;
            } else {
                self.counters.count_dropped(DropReason::PacketTooLargeForClient, 1);
            }
        }
    }
}
