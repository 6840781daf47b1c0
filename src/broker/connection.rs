//! One network connection as the shard sees it: how far it has come, what it may be sent, and what is under way to it.

use std::net::SocketAddr;
use std::rc::Rc;

use super::acks::PendingAcks;
use super::aliases::{Alias, TopicAliases};
use super::authenticate::Authentication;
use super::budget::{Counted, HeldBytes};
use super::ids::ConnId;
use super::outbox::OutBatch;
use super::rate::Rate;
use super::wheel::TimerId;
use crate::config::Terms;
use crate::mqtt::Version;

/// No session.
pub const NONE: u32 = u32::MAX;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No CONNECT yet: nothing is trusted, nearly nothing allocated.
    Opened,
    /// CONNECT waits for the client to prove who it is.
    Authenticating,
    /// CONNECT accepted.
    Connected,
    /// On its way to its home shard; received bytes are only kept.
    Moving,
    /// Nothing is read any more; what is in the outbox still leaves.
    Closing,
}

/// Why a connection is not read from, if it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    /// 3.x: too many of its publishes wait for their acknowledgement.
    pub for_acks: bool,
    /// It sent more than it may in this time.
    pub by_rate: bool,
}

impl Paused {
    #[inline]
    pub fn any(self) -> bool {
        self.for_acks | self.by_rate
    }
}

/// Topics by alias, from 1 on; few clients set any, so that a connection only has a place for them once one does.
#[derive(Debug)]
pub struct ClientAliases {
    topics: Vec<Option<Rc<str>>>,
    counted: Counted,
}

impl ClientAliases {
    pub fn new(total: &HeldBytes) -> ClientAliases {
        ClientAliases { topics: Vec::new(), counted: Counted::new(0, total) }
    }

    /// The topic of an alias, if it was set.
    pub fn get(&self, alias: u16) -> Option<Rc<str>> {
        self.topics.get(usize::from(alias) - 1).cloned().flatten()
    }

    /// Sets an alias, from 1 on, or sets it anew.
    pub fn set(&mut self, alias: u16, topic: &str) {
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        let before = self.topics[index].replace(topic.into()).map_or(0, |before| before.len());
        self.counted.set(self.counted.get() + topic.len() as u64 - before as u64);
    }
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
    /// The commit that `out` waits for.
    pub gate: u64,
    pub session: u32,
    pub generation: u32,
    /// In-flight limit towards the client: ours and its Receive Maximum, whichever is lower.
    pub window: u16,
    pub state: State,
    pub version: Version,
    /// What the client was granted.
    pub terms: Terms,
    /// Stands in the shard's list of connections with output.
    pub dirty: bool,
    pub paused: Paused,
    /// The shell was told not to read from it.
    pub unread: bool,
    /// Flags in the first byte of a PUBLISH that the terms do not allow.
    pub refused_publish_flags: u8,
    /// The client wants reason strings and user properties (Request Problem Information).
    pub problem_info: bool,
    /// Subscriptions of its session wait for retained messages.
    pub fetches: bool,
    /// Keep-alive times one and a half, ms; 0 without.
    pub patience_ms: u32,
    pub last_seen: u64,
    pub timer: Option<TimerId>,
    /// The beginning of a packet whose end has not come; while paused, everything that came.
    pub partial: Vec<u8>,
    /// Bytes of `partial` that were looked through for acknowledgements, while paused.
    pub looked_at: u32,
    /// Bytes of `partial` that the shard's memory budget already knows of.
    pub partial_accounted: u32,
    pub acks: Option<Box<PendingAcks>>,
    /// Topics by alias, as the client set them.
    pub aliases: Option<Box<ClientAliases>>,
    /// Aliases that we set towards the client, where it allows them.
    pub own_aliases: Option<Box<TopicAliases>>,
    pub origin: Option<Box<Origin>>,
    /// Where it has an authentication method.
    pub authentication: Option<Box<Authentication>>,
    /// Where rates are limited.
    pub rate: Option<Box<Rate>>,
}

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub listener: u16,
    pub peer: Option<SocketAddr>,
}

impl Connection {
    pub fn new(generation: u32, origin: Origin, terms: Terms, now: u64) -> Connection {
        Connection {
            out: OutBatch::default(),
            in_driver: 0,
            accounted: 0,
            max_packet_bytes: u32::MAX,
            gate: 0,
            session: NONE,
            generation,
            window: 0,
            state: State::Opened,
            version: Version::V311,
            terms,
            dirty: false,
            paused: Paused::default(),
            unread: false,
            looked_at: 0,
            refused_publish_flags: 0,
            problem_info: true,
            fetches: false,
            patience_ms: 0,
            last_seen: now,
            timer: None,
            partial: Vec::new(),
            partial_accounted: 0,
            acks: None,
            aliases: None,
            own_aliases: None,
            origin: Some(Box::new(origin)),
            authentication: None,
            rate: None,
        }
    }

    /// The alias of a topic towards the client, if it is to have one.
    #[inline]
    pub fn alias_of<'t>(&self, topic: impl FnOnce() -> &'t str) -> Alias {
        self.own_aliases.as_ref().map_or(Alias::default(), |aliases| aliases.look_up(topic()))
    }

    /// A PUBLISH with this alias was written.
    #[inline]
    pub fn alias_sent<'t>(&mut self, topic: impl FnOnce() -> &'t str, alias: Alias) {
        if let Some(aliases) = &mut self.own_aliases {
            aliases.learn(topic(), alias);
        }
    }

    /// Appends a packet, unless it is larger than the client accepts: then false [MQTT-3.1.2-24].
    pub fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.out.own().len();
        encode(self.out.own());
        let fits = self.out.own().len() - before <= self.max_packet_bytes as usize;
        if !fits {
            self.out.own().truncate(before);
        }
        fits
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
    pub fn open(&mut self, origin: Origin, terms: Terms, now: u64) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert(Connection::new(self.generation, origin, terms, now)) as u32;
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

    /// Gives the free room behind the last connection away.
    pub fn trim(&mut self) {
        self.slots.shrink_to_fit();
    }

    /// All connections, in the order of their slots.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.slots.iter().map(|(slot, conn)| ConnId { slot: slot as u32, generation: conn.generation })
    }
}
