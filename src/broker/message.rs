//! An application message: borrowed while it is routed, owned while it waits.
//!
//! [`Incoming`] points into received bytes and costs nothing. [`Message`] owns one buffer `topic | properties | payload`, shared by every session
//! that must keep it; cloning one is a reference count. A [`Delivery`] is a message as one subscriber is to get it.

use std::hash::BuildHasher;
use std::rc::Rc;

use smallvec::SmallVec;

use super::aliases::Alias;
use super::outbox::{Chunk, OutBatch};
use super::retained::HasTopic;
use super::session::FixedHasher;
use crate::mqtt::encode::{self, PublishOut};
use crate::mqtt::{QoS, Version};

/// A moment that never comes: no expiry.
pub const NEVER: u64 = u64::MAX;

/// Counted for a message besides its bytes.
const OVERHEAD_BYTES: u32 = 64;
/// From this payload size on, a message is sent out of the shared buffer instead of being copied for each subscriber.
const SHARE_PAYLOAD_BYTES: usize = 1_024;

/// A publish on its way through the shard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Incoming<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// The v5 properties that are passed on, encoded, without length.
    pub forward: &'a [u8],
    pub qos: QoS,
    /// The RETAIN flag as it was published.
    pub retain: bool,
    /// Milliseconds of the shard's clock, or [`NEVER`].
    pub expires_at: u64,
}

/// Bytes of the payload that [`Incoming::digest`] looks at.
const DIGEST_BYTES: usize = 64;

impl Incoming<'_> {
    /// Bytes that the message will hold in memory once it is owned.
    pub fn stored_bytes(&self) -> u64 {
        (self.topic.len() + self.forward.len() + self.payload.len()) as u64 + u64::from(OVERHEAD_BYTES)
    }

    /// Tells this message from others, most probably: out of its topic, the length and the beginning of its payload.
    pub fn digest(&self) -> u32 {
        let start = &self.payload[..self.payload.len().min(DIGEST_BYTES)];
        FixedHasher::default().hash_one((self.topic, self.payload.len(), start)) as u32
    }

    /// Copies the message out of the received bytes, into a buffer of just its size: it may wait for long.
    pub fn to_message(self) -> Message {
        let mut body = Vec::with_capacity(self.topic.len() + self.forward.len() + self.payload.len());
        body.extend_from_slice(self.topic.as_bytes());
        body.extend_from_slice(self.forward);
        body.extend_from_slice(self.payload);
        Message {
            topic_len: self.topic.len() as u16,
            forward_len: self.forward.len() as u32,
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            body: Rc::new(body),
        }
    }
}

/// An owned message. Cloning it shares the body.
#[derive(Clone, Debug)]
pub struct Message {
    body: Chunk,
    pub expires_at: u64,
    forward_len: u32,
    topic_len: u16,
    pub qos: QoS,
    pub retain: bool,
}

impl Message {
    /// Whether both are the same message, not only equal ones.
    pub fn is_same(&self, other: &Message) -> bool {
        Rc::ptr_eq(&self.body, &other.body) && self.expires_at == other.expires_at
    }

    /// The topic name.
    pub fn topic(&self) -> &str {
        // The body was made from a `&str`; a check costs less than `unsafe` is worth here.
        std::str::from_utf8(&self.body[..self.topic_len as usize]).unwrap_or("")
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.body[self.payload_start()..]
    }

    fn forward(&self) -> &[u8] {
        &self.body[self.topic_len as usize..self.payload_start()]
    }

    fn payload_start(&self) -> usize {
        self.topic_len as usize + self.forward_len as usize
    }

    /// Appends a PUBLISH with this message's payload; a large one is not copied.
    #[inline]
    pub fn encode(&self, out: &mut OutBatch, version: Version, packet: &PublishOut<'_>) {
        if packet.payload.len() < SHARE_PAYLOAD_BYTES {
            encode::publish(out.own(), version, packet);
        } else {
            encode::publish_head(out.own(), version, packet);
            out.push_shared(&self.body, self.payload_start() as u32, self.body.len() as u32);
        }
    }

    /// Bytes that the message holds in memory.
    pub fn bytes(&self) -> u32 {
        self.body.len() as u32 + OVERHEAD_BYTES
    }

    /// The message as a borrowed view, to be routed again.
    pub fn as_incoming(&self) -> Incoming<'_> {
        Incoming {
            topic: self.topic(),
            payload: self.payload(),
            forward: self.forward(),
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
        }
    }
}

impl HasTopic for Message {
    #[inline]
    fn is_for(&self, topic: &str) -> bool {
        self.body[..self.topic_len as usize] == *topic.as_bytes()
    }
}

/// Subscription identifiers of one delivery; nearly always none or one.
pub type SubscriptionIds = SmallVec<[u32; 2]>;

/// A message as one subscriber is to get it.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Message,
    pub qos: QoS,
    /// The RETAIN flag towards the subscriber.
    pub retain: bool,
    pub subscription_ids: SubscriptionIds,
    /// Fingerprint of the shared subscription whose message this is: another member gets it if this one does not take it. 0 for the session's own.
    pub share: u64,
}

/// What the encoder must know of the receiver and of this transmission.
#[derive(Clone, Copy, Debug)]
pub struct Transmission {
    pub version: Version,
    pub packet_id: u16,
    pub dup: bool,
    /// The shard's clock, for the remaining expiry.
    pub now: u64,
    /// The receiver's largest packet.
    pub max_packet_bytes: u32,
    /// The topic alias to set or to use; see [`super::aliases`].
    pub alias: Alias,
}

/// Seconds that are left of an expiry, as a receiver is told [MQTT-3.3.2-6]; at least 1 while the message is alive.
pub fn remaining_s(expires_at: u64, now: u64) -> Option<u32> {
    (expires_at != NEVER).then(|| u32::try_from(expires_at.saturating_sub(now).div_ceil(1_000)).unwrap_or(u32::MAX))
}

impl Delivery {
    /// Whether the PUBLISH is small enough for the receiver [MQTT-3.1.2-24].
    pub fn fits(&self, to: Transmission) -> bool {
        to.max_packet_bytes == u32::MAX || encode::publish_len(to.version, &self.packet(to)) <= to.max_packet_bytes as usize
    }

    /// Appends the PUBLISH to a connection's output.
    pub fn encode(&self, out: &mut OutBatch, to: Transmission) {
        self.message.encode(out, to.version, &self.packet(to));
    }

    fn packet(&self, to: Transmission) -> PublishOut<'_> {
        PublishOut {
            dup: to.dup,
            qos: self.qos,
            retain: self.retain,
            packet_id: to.packet_id,
            forward: self.message.forward(),
            message_expiry: remaining_s(self.message.expires_at, to.now),
            subscription_ids: &self.subscription_ids,
            topic_alias: to.alias.number,
            ..PublishOut::new(if to.alias.known { "" } else { self.message.topic() }, self.message.payload())
        }
    }
}

/// Buffers that fan-outs were built in, kept for reuse: in steady state nothing is allocated for a QoS 0 message.
#[derive(Debug, Default)]
pub struct Chunks {
    lent: std::collections::VecDeque<Chunk>,
}

impl Chunks {
    /// Buffers remembered at most.
    const KEEP: usize = 64;
    /// Largest buffer that is remembered, bytes.
    const KEEP_BYTES: usize = 64 * 1024;

    /// An empty buffer that only the caller holds.
    pub fn take(&mut self) -> Chunk {
        if let Some(mut oldest) = self.lent.pop_front() {
            if let Some(bytes) = Rc::get_mut(&mut oldest) {
                bytes.clear();
                return oldest;
            }
            // Still waiting somewhere: look at it again later, as long as there is room.
            if self.lent.len() < Self::KEEP / 2 {
                self.lent.push_back(oldest);
            }
        }
        Rc::new(Vec::new())
    }

    /// Remembers a buffer, now that it is filled, to take it again once its last user has dropped it.
    pub fn lend(&mut self, chunk: &Chunk) {
        if self.lent.len() < Self::KEEP && chunk.capacity() <= Self::KEEP_BYTES {
            self.lent.push_back(Rc::clone(chunk));
        }
    }
}
