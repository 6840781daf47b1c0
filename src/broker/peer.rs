//! What shards say to one another: one batch per target and turn, in order. Publishes are copied into the batch's buffer, so that nothing that is
//! reference-counted ever crosses a core (a shared count costs ten times the copy).

use super::acks::TicketId;
use super::ids::ShardId;
use super::message::Incoming;
use super::topics::InterestChange;
use crate::config::Durability;
use crate::metrics::Snapshot;
use crate::mqtt::{QoS, ReasonCode};

/// A publish in a batch: where its parts stand in the batch's buffer, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPublish {
    start: u32,
    topic_len: u16,
    forward_len: u32,
    payload_len: u32,
    pub qos: QoS,
    /// The RETAIN flag as published.
    pub retain: bool,
    /// Deliver to the target's subscribers.
    pub deliver: bool,
    /// The target owns the topic's retained message: store or delete it.
    pub store: bool,
    /// The publisher cannot be told of a full queue: hold the message instead of refusing it.
    pub hold: bool,
    /// What the answer promises.
    pub durability: Durability,
    pub expires_at: u64,
    /// Shared subscriptions of which the target is to serve a member: their fingerprints, 8 bytes each behind the payload.
    shares: u16,
    /// The publisher's session and packet identifier stand behind the shares: see [`Exchange`].
    has_exchange: bool,
    /// Answer with [`PeerMessage::PublishDone`]; at QoS 1 and 2.
    pub ticket: Option<TicketId>,
}

/// A QoS 2 exchange that must not be repeated after a restart: the publisher's session, as journals name it, and the packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    pub session: u64,
    pub packet_id: u16,
}

impl PeerPublish {
    /// Whether the target is to serve members of shared subscriptions.
    pub fn has_shares(&self) -> bool {
        self.shares > 0
    }

    fn shares_start(&self) -> usize {
        self.start as usize + self.topic_len as usize + self.forward_len as usize + self.payload_len as usize
    }
}

/// PUBLISH packets of a run: they stand behind their topic in the batch's buffer, as they came, one behind the other. A message of a run so takes its bytes
/// and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRun {
    start: u32,
    topic_len: u16,
    /// Packets of 5.0, without properties; else of 3.x.
    pub v5: bool,
    packets_len: u32,
    pub count: u32,
    /// The largest packet, bytes.
    pub largest: u32,
}

/// How a publish is to be treated by the shard that gets it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerOptions {
    pub deliver: bool,
    pub store: bool,
    pub hold: bool,
    pub durability: Durability,
    pub exchange: Option<Exchange>,
    pub ticket: Option<TicketId>,
}

/// One message between shards.
#[derive(Debug)]
pub enum PeerMessage {
    Publish(PeerPublish),
    /// More messages of a run, for the target's subscribers.
    Run(PeerRun),
    /// The publish with this ticket has found its place, or was refused.
    PublishDone {
        ticket: TicketId,
        code: ReasonCode,
        /// The QoS 2 identifier is kept in a journal until [`PeerMessage::Forget`].
        kept: bool,
    },
    /// An exchange is over. Answered with [`PeerMessage::PublishDone`] if somebody waits for that.
    Forget {
        exchange: Exchange,
        ticket: Option<TicketId>,
    },
    Interest {
        number: u64,
        change: InterestChange,
    },
    /// All changes up to this number are applied.
    InterestApplied {
        number: u64,
    },
    /// Give me the next retained messages that match (the first time: from the beginning).
    RetainedRead {
        fetch: u64,
        filter: Box<str>,
        max: u32,
    },
    /// A retained message for a fetch.
    RetainedItem {
        fetch: u64,
        message: PeerPublish,
    },
    /// The end of one answer to `RetainedRead`.
    RetainedSlice {
        fetch: u64,
        done: bool,
    },
    /// Nobody waits for the rest.
    RetainedCancel {
        fetch: u64,
    },
    /// Counters of a shard, for `$SYS`.
    Snapshot(Box<Snapshot>),
}

/// Messages of one turn for one target.
#[derive(Debug, Default)]
pub struct Batch {
    pub messages: Vec<PeerMessage>,
    /// Exact filters that got their first subscriber or lost their last one. One word each: a fleet that comes, or goes, tells all of it to every
    /// shard at once.
    exact: Vec<u64>,
    /// The number of the last of them.
    pub exact_number: u64,
    bytes: Vec<u8>,
}

/// Set where the last subscriber has gone; no fingerprint has this bit.
const GONE: u64 = 1;

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.exact.is_empty()
    }

    /// Adds a change of interest: of an exact filter in short, of another one as a message.
    pub fn push_interest(&mut self, number: u64, change: InterestChange) {
        match change {
            InterestChange::AddExact(fingerprint) => self.exact.push(fingerprint & !GONE),
            InterestChange::RemoveExact(fingerprint) => self.exact.push(fingerprint | GONE),
            change => return self.messages.push(PeerMessage::Interest { number, change }),
        }
        self.exact_number = number;
    }

    /// The changes of exact filters, in order. Those of others may be applied before or after them: no two of them are about one filter.
    pub fn exact_changes(&self) -> impl Iterator<Item = InterestChange> + '_ {
        self.exact.iter().map(|&word| match word & GONE {
            0 => InterestChange::AddExact(word),
            _ => InterestChange::RemoveExact(word & !GONE),
        })
    }

    /// Bytes that the batch keeps when it is empty.
    fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + self.exact.capacity() * size_of::<u64>() + self.messages.capacity() * size_of::<PeerMessage>()
    }

    /// Bytes that the batch holds in memory, about.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len() + self.exact.len() * size_of::<u64>() + self.messages.len() * size_of::<PeerMessage>()
    }

    pub fn clear(&mut self) {
        self.messages.clear();
        self.exact.clear();
        self.bytes.clear();
    }

    /// Copies a publish into the buffer.
    pub fn copy(&mut self, publish: &Incoming<'_>, options: PeerOptions, shares: &[u64]) -> PeerPublish {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(publish.topic.as_bytes());
        self.bytes.extend_from_slice(publish.forward);
        self.bytes.extend_from_slice(publish.payload);
        for share in shares {
            self.bytes.extend_from_slice(&share.to_le_bytes());
        }
        if let Some(exchange) = options.exchange {
            self.bytes.extend_from_slice(&exchange.session.to_le_bytes());
            self.bytes.extend_from_slice(&exchange.packet_id.to_le_bytes());
        }
        PeerPublish {
            start,
            topic_len: publish.topic.len() as u16,
            forward_len: publish.forward.len() as u32,
            payload_len: publish.payload.len() as u32,
            qos: publish.qos,
            retain: publish.retain,
            deliver: options.deliver,
            store: options.store,
            hold: options.hold,
            durability: options.durability,
            expires_at: publish.expires_at,
            shares: shares.len() as u16,
            has_exchange: options.exchange.is_some(),
            ticket: options.ticket,
        }
    }

    /// Copies PUBLISH packets of a run into the buffer.
    pub fn push_run(&mut self, topic: &str, v5: bool, packets: &[u8], count: u32, largest: u32) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(topic.as_bytes());
        self.bytes.extend_from_slice(packets);
        let run = PeerRun { start, topic_len: topic.len() as u16, v5, packets_len: packets.len() as u32, count, largest };
        self.messages.push(PeerMessage::Run(run));
    }

    /// The topic and the packets that `run` describes.
    pub fn run(&self, run: &PeerRun) -> (&str, &[u8]) {
        let topic = run.start as usize;
        let packets = topic + run.topic_len as usize;
        (std::str::from_utf8(&self.bytes[topic..packets]).unwrap_or(""), &self.bytes[packets..packets + run.packets_len as usize])
    }

    /// The publish that `publish` describes.
    pub fn view(&self, publish: &PeerPublish) -> Incoming<'_> {
        let topic = publish.start as usize;
        let forward = topic + publish.topic_len as usize;
        let payload = forward + publish.forward_len as usize;
        Incoming {
            topic: std::str::from_utf8(&self.bytes[topic..forward]).unwrap_or(""),
            forward: &self.bytes[forward..payload],
            payload: &self.bytes[payload..payload + publish.payload_len as usize],
            qos: publish.qos,
            retain: publish.retain,
            expires_at: publish.expires_at,
        }
    }

    /// The fingerprints of the shared subscriptions that the target is to serve.
    pub fn shares(&self, publish: &PeerPublish) -> impl Iterator<Item = u64> + '_ {
        let start = publish.shares_start();
        self.bytes[start..start + 8 * usize::from(publish.shares)]
            .chunks_exact(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or([0; 8])))
    }

    /// The exchange that the publish is part of, where it has to be remembered.
    pub fn exchange(&self, publish: &PeerPublish) -> Option<Exchange> {
        let start = publish.shares_start() + 8 * usize::from(publish.shares);
        let bytes = self.bytes.get(start..start + 10).filter(|_| publish.has_exchange)?;
        let (session, packet_id) = bytes.split_at(8);
        Some(Exchange { session: u64::from_le_bytes(session.try_into().ok()?), packet_id: u16::from_le_bytes(packet_id.try_into().ok()?) })
    }
}

/// The batches of one shard for the others, and empty ones for reuse.
#[derive(Debug)]
pub struct Peers {
    outbound: Vec<Batch>,
    spare: Vec<Batch>,
}

impl Peers {
    /// Empty batches kept for reuse.
    const KEEP: usize = 32;
    /// Largest batch kept for reuse, bytes.
    const KEEP_BYTES: usize = 1024 * 1024;

    pub fn new(shards: u16) -> Peers {
        Peers { outbound: (0..shards).map(|_| Batch::default()).collect(), spare: Vec::new() }
    }

    /// The batch for a shard. The own shard has one too: what a shard tells itself takes the same way as what it tells others.
    pub fn to(&mut self, shard: ShardId) -> &mut Batch {
        &mut self.outbound[usize::from(shard.0)]
    }

    /// Takes the batch for a shard if there is anything in it.
    pub fn take(&mut self, shard: ShardId) -> Option<Batch> {
        let batch = &mut self.outbound[usize::from(shard.0)];
        (!batch.is_empty()).then(|| std::mem::replace(batch, self.spare.pop().unwrap_or_default()))
    }

    /// Puts a batch back that could not be handed over; it must be the one that was just taken.
    pub fn untake(&mut self, shard: ShardId, batch: Batch) {
        let empty = std::mem::replace(&mut self.outbound[usize::from(shard.0)], batch);
        self.recycle(empty);
    }

    /// Takes a used batch for reuse.
    pub fn recycle(&mut self, mut batch: Batch) {
        if self.spare.len() < Self::KEEP && batch.capacity_bytes() <= Self::KEEP_BYTES {
            batch.clear();
            self.spare.push(batch);
        }
    }

    /// Keeps nothing for reuse.
    pub fn trim(&mut self) {
        self.spare = Vec::new();
    }

    /// Bytes that wait for one shard.
    pub fn waiting_bytes(&self, shard: ShardId) -> usize {
        self.outbound[usize::from(shard.0)].len_bytes()
    }
}
