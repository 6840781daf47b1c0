//! A session: what outlives a network connection [MQTT-4.1.0-1]. It lives on one shard for life, the home of its client identifier.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{HashMap, HashSet, HashTable};
use slab::Slab;

use super::acks::TicketId;
use super::budget::{Counted, HeldBytes, SUBSCRIPTION_BYTES};
use super::connection::NONE;
use super::ids::ShardId;
use super::message::Message;
use super::outgoing::Outgoing;
use super::topics::{FilterId, GroupId};
use super::wheel::TimerId;
use crate::mqtt::{QoS, ReasonCode, Version};

/// A hasher that is the same in every run: behaviour must not depend on chance. Keys that a client chooses are hashed with a seed of the shard.
pub type FixedHasher = foldhash::fast::FixedState;

/// One subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subscription {
    Filter(FilterId),
    Shared(GroupId),
}

/// How a message that a client published with QoS 2 stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Not in its place on every shard yet: PUBREC is due to this ticket.
    Pending(TicketId),
    /// PUBREC left or may leave; a PUBLISH with this identifier is a repetition until PUBREL [MQTT-4.3.3-10].
    Held(Kept),
    /// PUBREL came; PUBCOMP is due to this ticket, when no shard would take the identifier for a repetition any more.
    Ending(TicketId),
}

/// Where a QoS 2 identifier is kept for the next run of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Nowhere,
    /// In the journal of the publisher's shard.
    Here,
    /// Also in those of shards that its message went to.
    Elsewhere,
}

/// A QoS 2 message that was not taken by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What its repetition is answered; `None`: it is tried again, because its client cannot be told.
    pub code: Option<ReasonCode>,
    /// The message: see [`Incoming::digest`](super::message::Incoming::digest).
    pub message: u32,
    /// Journals name those who have it: see [`exchange`](super::journal::exchange).
    pub noted: bool,
}

/// The QoS 2 packet identifiers of what a client published.
#[derive(Debug, Default)]
pub struct ReceivedIds {
    open: HashMap<u16, Received, FixedHasher>,
    /// Refused, which the client may not know yet: should it send the same PUBLISH again, it gets the same answer, because some sessions may have taken the
    /// message before another one's queue was full. Overwritten when the identifier is used again.
    refused: HashMap<u16, (u64, Refusal), FixedHasher>,
    /// Refusals in their order, by number; not all of them stand any more.
    order: VecDeque<(u64, u16)>,
    refusals: u64,
}

impl ReceivedIds {
    /// How the message with this identifier stands.
    pub fn get(&self, packet_id: u16) -> Option<Received> {
        self.open.get(&packet_id).copied()
    }

    /// What was refused under this identifier.
    pub fn refused(&self, packet_id: u16) -> Option<Refusal> {
        self.refused.get(&packet_id).map(|(_, refusal)| *refusal)
    }

    /// The answer to a PUBLISH that was refused before.
    pub fn refusal(&self, packet_id: u16, message: u32) -> Option<ReasonCode> {
        self.refused(packet_id).filter(|refusal| refusal.message == message)?.code
    }

    /// A new message, or one that has come further.
    pub fn set(&mut self, packet_id: u16, received: Received) {
        self.refused.remove(&packet_id);
        self.open.insert(packet_id, received);
    }

    /// What the journal must keep: identifiers whose PUBREC may have left.
    pub fn kept(&self) -> impl Iterator<Item = (u16, Kept)> {
        self.open.iter().filter_map(|(&packet_id, received)| match received {
            Received::Held(kept @ (Kept::Here | Kept::Elsewhere)) => Some((packet_id, *kept)),
            // Its record goes with PUBCOMP.
            Received::Ending(_) => Some((packet_id, Kept::Elsewhere)),
            Received::Held(Kept::Nowhere) | Received::Pending(_) => None,
        })
    }

    /// Refused messages that journals know of.
    pub fn noted(&self) -> impl Iterator<Item = u16> {
        self.refused.iter().filter(|(_, (_, refusal))| refusal.noted).map(|(&packet_id, _)| packet_id)
    }

    /// The message was not taken. Of `most` messages under way the client must have heard of the first when one more is refused, because answers come in
    /// order: it is forgotten, and its identifier given back if journals know of it.
    pub fn refuse(&mut self, packet_id: u16, refusal: Refusal, most: usize) -> Option<u16> {
        self.open.remove(&packet_id);
        self.refused.remove(&packet_id);
        if refusal.code.is_none() && !refusal.noted {
            return None;
        }
        self.refusals += 1;
        self.refused.insert(packet_id, (self.refusals, refusal));
        self.order.push_back((self.refusals, packet_id));
        if self.order.len() <= most {
            return None;
        }
        let (number, first) = self.order.pop_front()?;
        // It may have been used again meanwhile.
        self.refused.get(&first).filter(|(other, _)| *other == number)?;
        self.forget_refused(first).filter(|refusal| refusal.noted).map(|_| first)
    }

    /// What was refused under this identifier is of no interest any more.
    pub fn forget_refused(&mut self, packet_id: u16) -> Option<Refusal> {
        self.refused.remove(&packet_id).map(|(_, refusal)| refusal)
    }

    /// PUBREL: the identifier is free.
    pub fn release(&mut self, packet_id: u16) {
        self.open.remove(&packet_id);
    }

    /// Messages that are not released.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.refused.is_empty()
    }
}

/// A will that has not been sent.
#[derive(Debug)]
pub struct Will {
    pub message: Message,
    /// Its bytes, until it is published or dropped.
    _counted: Counted,
    /// Seconds that the message lives once it is published.
    pub expiry_s: Option<u32>,
    pub delay_s: u32,
}

impl Will {
    /// A will whose bytes count in `total`.
    pub fn new(message: Message, expiry_s: Option<u32>, delay_s: u32, total: &HeldBytes) -> Will {
        let counted = Counted::new(message.bytes() as usize, total);
        Will { message, _counted: counted, expiry_s, delay_s }
    }
}

/// What a session needs to outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Its name in the journal, the same over all runs; not 0.
    pub id: u64,
    /// When its last connection ended, milliseconds since 1970; `None` while it has one.
    pub left_unix_ms: Option<u64>,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub client_id: Box<str>,
    /// Who has proven to be its owner; `None` for anybody's session.
    pub user: Option<Box<str>>,
    pub generation: u32,
    /// Slot of its connection, or [`NONE`].
    pub connection: u32,
    /// The version of the present or last connection.
    pub version: Version,
    /// Seconds that it outlives its connection; `u32::MAX` for ever, 0 not at all.
    pub expiry_s: u32,
    /// Runs while there is no connection: the end of the session.
    pub expiry_timer: Option<TimerId>,
    /// Runs while there is no connection: the delayed will.
    pub will_timer: Option<TimerId>,
    pub will: Option<Box<Will>>,
    pub subscriptions: HashSet<Subscription, FixedHasher>,
    pub outgoing: Option<Box<Outgoing>>,
    /// What `outgoing` is counted in.
    held_bytes: HeldBytes,
    /// QoS 2 packet identifiers that the client has not released.
    pub received: Option<Box<ReceivedIds>>,
    /// Where there is a journal and the session outlives its connection.
    pub durable: Option<Box<Durable>>,
}

impl Session {
    #[inline]
    pub fn outgoing(&mut self) -> &mut Outgoing {
        self.outgoing.get_or_insert_with(|| Box::new(Outgoing::new(self.held_bytes.clone())))
    }

    /// Its name in the journal, or 0 if it is not there.
    #[inline]
    pub fn durable_id(&self) -> u64 {
        self.durable.as_ref().map_or(0, |durable| durable.id)
    }

    /// Notes one more subscription. (One less is noted by whoever takes it out, or ends the session.)
    pub fn subscribe(&mut self, subscription: Subscription) {
        if self.subscriptions.insert(subscription) {
            self.held_bytes.add(SUBSCRIPTION_BYTES);
        }
    }

    pub fn is_connected(&self) -> bool {
        self.connection != NONE
    }

    /// The QoS 2 identifiers of the client, for a change.
    pub fn received(&mut self) -> &mut ReceivedIds {
        self.received.get_or_insert_with(Box::default)
    }

    /// QoS 2 publishes of the client that are not released.
    pub fn received_len(&self) -> usize {
        self.received.as_ref().map_or(0, |received| received.len())
    }
}

/// The sessions of a shard, by index and by client identifier.
#[derive(Debug)]
pub struct Sessions {
    slots: Slab<Session>,
    by_client_id: HashTable<u32>,
    hasher: foldhash::quality::FixedState,
    generation: u32,
    held_bytes: HeldBytes,
}

impl Sessions {
    /// `seed` keeps clients from choosing identifiers that collide.
    pub fn new(seed: u64, held_bytes: HeldBytes) -> Sessions {
        Sessions {
            slots: Slab::new(),
            by_client_id: HashTable::new(),
            hasher: foldhash::quality::FixedState::with_seed(seed),
            held_bytes,
            generation: 0,
        }
    }

    /// The session of a client identifier [MQTT-3.1.3-2].
    pub fn find(&self, client_id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(client_id);
        self.by_client_id.find(hash, |&index| *self.slots[index as usize].client_id == *client_id).copied()
    }

    /// Makes a session; there must be none with this client identifier.
    pub fn insert(&mut self, client_id: &str, version: Version) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.held_bytes.add(client_id.len() as u64);
        let index = self.slots.insert(Session {
            client_id: client_id.into(),
            user: None,
            generation: self.generation,
            connection: NONE,
            version,
            expiry_s: 0,
            expiry_timer: None,
            will_timer: None,
            will: None,
            subscriptions: HashSet::with_hasher(FixedHasher::default()),
            outgoing: None,
            held_bytes: self.held_bytes.clone(),
            received: None,
            durable: None,
        }) as u32;
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_client_id.insert_unique(hasher.hash_one(client_id), index, |&index| hasher.hash_one(&*slots[index as usize].client_id));
        index
    }

    pub fn remove(&mut self, index: u32) -> Option<Session> {
        let session = self.slots.try_remove(index as usize)?;
        self.held_bytes.subtract(session.client_id.len() as u64);
        if let Ok(entry) = self.by_client_id.find_entry(self.hasher.hash_one(&*session.client_id), |&other| other == index) {
            entry.remove();
        }
        Some(session)
    }

    #[inline]
    pub fn get(&self, index: u32) -> Option<&Session> {
        self.slots.get(index as usize)
    }

    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.slots.get_mut(index as usize)
    }

    /// The session at `index`, if it is still the one of this generation.
    pub fn get_same(&mut self, index: u32, generation: u32) -> Option<&mut Session> {
        self.get_mut(index).filter(|session| session.generation == generation)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Gives the free room behind the last session away.
    pub fn trim(&mut self) {
        self.slots.shrink_to_fit();
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_client_id.shrink_to(slots.len() * 2, |&index| hasher.hash_one(&*slots[index as usize].client_id));
    }

    /// One more than the largest index that is or was in use.
    pub fn end(&self) -> u32 {
        self.slots.capacity() as u32
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slots.iter().map(|(index, session)| (index as u32, session))
    }
}

/// The shard that a client identifier belongs to: the same on every shard and in every run.
pub fn home_of(client_id: &str, shards: u16) -> ShardId {
    let hash = foldhash::quality::FixedState::with_seed(0x72696e67).hash_one(client_id.as_bytes());
    ShardId((hash % u64::from(shards.max(1))) as u16)
}

/// The shard that owns the retained message of a topic.
pub fn owner_of(topic: &str, shards: u16) -> ShardId {
    home_of(topic, shards)
}

/// The QoS that a subscriber gets: the lower of published and granted [MQTT-3.8.4-6] [MQTT-3.8.4-8].
pub fn delivered_qos(published: QoS, granted: QoS) -> QoS {
    published.min(granted)
}
