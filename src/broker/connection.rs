//! One network connection as the shard sees it: how far it has come, what it may be sent, and what is under way to it.

use std::net::SocketAddr;
use std::rc::Rc;

use super::acks::PendingAcks;
use super::fetch::Fetches;
use super::ids::ConnId;
use super::outbox::OutBatch;
use super::wheel::TimerId;
use crate::mqtt::Version;

/// No session.
pub const NONE: u32 = u32::MAX;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No CONNECT yet: nothing is trusted, nearly nothing allocated.
    Opened,
    /// CONNECT accepted.
    Connected,
    /// On its way to its home shard; received bytes are only kept.
    Moving,
    /// Nothing is read any more; what is in the outbox still leaves.
    Closing,
}

/// A connection. The first fields are those that a delivery touches.
#[derive(Debug)]
pub struct Connection {
    pub out: OutBatch,
    /// Bytes handed to the driver and not confirmed.
    pub in_driver: u32,
    /// Bytes of `out` that the shard's budget already knows of.
    pub accounted: u32,
    /// The client's Maximum Packet Size; `u32::MAX` without one.
    pub max_packet_bytes: u32,
    pub session: u32,
    pub generation: u32,
    /// In-flight limit towards the client: ours and its Receive Maximum, whichever is lower.
    pub window: u16,
    pub state: State,
    pub version: Version,
    /// Stands in the shard's list of connections with output.
    pub dirty: bool,
    /// Reading is switched off until something is settled.
    pub paused: bool,
    /// The client wants reason strings and user properties (Request Problem Information).
    pub problem_info: bool,
    /// Subscriptions that wait for retained messages.
    pub fetches: Option<Box<Fetches>>,
    /// Keep-alive times one and a half, ms; 0 without.
    pub patience_ms: u32,
    pub last_seen: u64,
    pub timer: Option<TimerId>,
    /// The beginning of a packet whose end has not come.
    pub partial: Vec<u8>,
    pub acks: Option<Box<PendingAcks>>,
    /// Topics by alias, as the client set them.
    pub aliases: Vec<Option<Rc<str>>>,
    pub origin: Option<Box<Origin>>,
}

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub listener: u16,
    pub peer: Option<SocketAddr>,
}

impl Connection {
    pub fn new(generation: u32, origin: Origin, now: u64) -> Connection {
        Connection {
            out: OutBatch::default(),
            in_driver: 0,
            accounted: 0,
            max_packet_bytes: u32::MAX,
            session: NONE,
            generation,
            window: 0,
            state: State::Opened,
            version: Version::V311,
            dirty: false,
            paused: false,
            problem_info: true,
            fetches: None,
            patience_ms: 0,
            last_seen: now,
            timer: None,
            partial: Vec::new(),
            acks: None,
            aliases: Vec::new(),
            origin: Some(Box::new(origin)),
        }
    }

    /// Bytes that the client has not taken yet.
    #[inline]
    pub fn unsent(&self) -> usize {
        self.out.len() + self.in_driver as usize
    }
}

/// The connections of a shard, by slot. A slot is small and reused; the generation tells its users apart.
#[derive(Debug, Default)]
pub struct Connections {
    slots: slab::Slab<Connection>,
    generation: u32,
}

impl Connections {
    pub fn open(&mut self, origin: Origin, now: u64) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert(Connection::new(self.generation, origin, now)) as u32;
        ConnId { slot, generation: self.generation }
    }

    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        self.slots.get(id.slot as usize).filter(|conn| conn.generation == id.generation)
    }

    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slots.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation)
    }

    /// The connection in a slot, whoever uses it now.
    #[inline]
    pub fn slot_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slots.get_mut(slot as usize)
    }

    #[inline]
    pub fn slot(&self, slot: u32) -> Option<&Connection> {
        self.slots.get(slot as usize)
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Connection> {
        self.get(id)?;
        Some(self.slots.remove(id.slot as usize))
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// All connections, in the order of their slots.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.slots.iter().map(|(slot, conn)| ConnId { slot: slot as u32, generation: conn.generation })
    }
}
