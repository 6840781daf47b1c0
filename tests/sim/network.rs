//! Sockets and rings: what lies between clients and shards, and between shards. Everything arrives in order, late, and in pieces; a ring may be full.

use std::collections::VecDeque;

use ringmq::broker::{Batch, ConnId, Origin, OutBatch, ShardId};

use crate::faults::Saboteur;
use crate::history::{Seq, SocketIx};
use crate::rng::Rng;

/// Bytes on their way in one direction.
#[derive(Default)]
pub struct Pipe {
    segments: VecDeque<(u64, Vec<u8>)>,
    len: usize,
    latest: u64,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

impl Pipe {
    /// Bytes that nobody has read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes that arrive at `at`, but not before those that were added earlier.
    pub fn write(&mut self, bytes: Vec<u8>, at: u64) {
        self.latest = self.latest.max(at);
        self.len += bytes.len();
        if !bytes.is_empty() {
            self.segments.push_back((self.latest, bytes));
        }
    }

    /// At most `max` bytes that have arrived.
    pub fn read(&mut self, now: u64, max: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < max {
            let Some((at, bytes)) = self.segments.front_mut() else { break };
            if *at > now {
                break;
            }
            let take = bytes.len().min(max - out.len());
            out.extend(bytes.drain(..take));
            if bytes.is_empty() {
                self.segments.pop_front();
            }
        }
        self.len -= out.len();
        out
    }

    /// Loses all but the first `keep` bytes.
    pub fn truncate(&mut self, keep: usize) {
        let kept = self.read(u64::MAX, keep);
        self.segments.clear();
        self.len = 0;
        self.write(kept, 0);
    }
}

/// How a client left its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// Closed: what it sent arrives first.
    Eof,
    /// Broken: the network reports an error.
    Reset,
    /// Nobody will ever say that it is gone.
    Vanished,
}

/// How far the shell is with closing a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    Now,
    AfterSend { deadline: u64 },
}

/// One network connection.
#[derive(Debug, Default)]
pub struct Socket {
    pub up: Pipe,
    pub down: Pipe,
    /// Where the packets of the client end in the stream, and their `Sent` events.
    pub marks: VecDeque<(u64, Seq)>,
    pub written: u64,
    /// Bytes that any shard was given.
    pub fed: u64,
    /// When the last of them were.
    pub fed_at: u64,
    pub client_end: Option<ClientEnd>,
    /// The broker closed it; what is in `down` can still be read.
    pub broker_end: bool,
    /// The connection is at its home shard, and CONNECT was worked off.
    pub accepted: bool,
    /// The shard ended the connection.
    pub ended: bool,
    pub attached: Option<(ShardId, ConnId)>,
    pub paused: bool,
    /// The shard takes its packets and does not work them off.
    pub waiting: bool,
    /// Told the shard that the socket ended.
    pub told_end: bool,
    pub closing: Option<Closing>,
    pub moving_to: Option<ShardId>,
    /// Output that the network has not taken yet, and how much of it it has.
    pub sending: Option<(OutBatch, Vec<u8>, usize)>,
}

impl Socket {
    /// The client writes a packet; `seq` is its `Sent` event.
    pub fn client_writes(&mut self, bytes: Vec<u8>, seq: Seq, at: u64) {
        self.written += bytes.len() as u64;
        self.marks.push_back((self.written, seq));
        self.up.write(bytes, at);
    }

    /// The client leaves. Unless it closes in good order, what it wrote last may be lost in the middle of a packet.
    pub fn client_leaves(&mut self, end: ClientEnd, rng: &mut Rng) {
        if end != ClientEnd::Eof {
            let keep = rng.index(self.up.len() + 1);
            self.up.truncate(keep);
        }
        self.client_end = Some(end);
    }

    /// The broker is gone: what it had handed to the network may arrive.
    pub fn broker_dies(&mut self, rng: &mut Rng) {
        let keep = rng.index(self.down.len() + 1);
        self.down.truncate(keep);
        self.broker_end = true;
        (self.ended, self.told_end) = (true, true);
        (self.attached, self.closing, self.moving_to, self.sending) = (None, None, None, None);
        (self.paused, self.waiting) = (false, false);
    }

    /// Whether a session is using it.
    pub fn is_open(&self) -> bool {
        self.accepted && !self.ended && self.sending.is_none()
    }

    /// Moves output into the network, as much as it takes; true once all of it has left.
    pub fn push_output(&mut self, room: usize, at: u64) -> bool {
        let Some((_, bytes, done)) = &mut self.sending else { return true };
        if self.client_end.is_some_and(|end| end != ClientEnd::Vanished) {
            *done = bytes.len();
            return true;
        }
        let take = room.saturating_sub(self.down.len()).min(bytes.len() - *done);
        self.down.write(bytes[*done..*done + take].to_vec(), at);
        *done += take;
        *done == bytes.len()
    }
}

/// A connection on its way to its home shard.
#[derive(Debug)]
pub struct Moved {
    pub socket: SocketIx,
    pub origin: Origin,
    pub received: Vec<u8>,
}

/// What shards send one another.
#[derive(Debug)]
pub enum Parcel {
    Batch(Batch),
    Moved(Moved),
}

/// The ring from one shard to another.
#[derive(Debug)]
pub struct Ring {
    capacity: usize,
    parcels: VecDeque<(u64, Parcel)>,
    latest: u64,
}

impl Ring {
    pub fn new(capacity: usize) -> Ring {
        Ring { capacity, parcels: VecDeque::new(), latest: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Gives the parcel back when the ring is full.
    pub fn push(&mut self, parcel: Parcel, at: u64) -> Result<(), Parcel> {
        if self.parcels.len() >= self.capacity {
            return Err(parcel);
        }
        self.latest = self.latest.max(at);
        self.parcels.push_back((self.latest, parcel));
        Ok(())
    }

    pub fn pop(&mut self, now: u64) -> Option<Parcel> {
        if self.parcels.front()?.0 > now {
            return None;
        }
        self.parcels.pop_front().map(|(_, parcel)| parcel)
    }
}

/// All sockets and rings of a world.
#[derive(Debug)]
pub struct Network {
    pub sockets: Vec<Socket>,
    shards: usize,
    rings: Vec<Ring>,
    /// Sockets that wait to be accepted, by shard.
    pub arrivals: Vec<VecDeque<SocketIx>>,
    /// No write to the disk succeeds before.
    pub disk_full_until: u64,
    pub saboteur: Saboteur,
}

impl Network {
    pub fn new(shards: u16, ring_capacity: usize) -> Network {
        let shards = usize::from(shards);
        Network {
            sockets: Vec::new(),
            shards,
            rings: (0..shards * shards).map(|_| Ring::new(ring_capacity)).collect(),
            arrivals: vec![VecDeque::new(); shards],
            disk_full_until: 0,
            saboteur: Saboteur::default(),
        }
    }

    /// All shards are gone, with what was under way between them; others take their places.
    pub fn replace_shards(&mut self, shards: u16, capacity: usize) {
        self.shards = usize::from(shards);
        self.rings = (0..self.shards * self.shards).map(|_| Ring::new(capacity)).collect();
        self.arrivals = vec![VecDeque::new(); self.shards];
    }

    /// The ring from one shard to another.
    pub fn ring(&mut self, from: ShardId, to: ShardId) -> &mut Ring {
        &mut self.rings[usize::from(from.0) * self.shards + usize::from(to.0)]
    }

    /// Whether nothing is under way between shards, and nothing between living clients and shards.
    pub fn is_quiet(&self) -> bool {
        self.rings.iter().all(Ring::is_empty)
            && self.arrivals.iter().all(VecDeque::is_empty)
            && self.sockets.iter().all(|socket| {
                socket.moving_to.is_none()
                    && socket.closing.is_none()
                    && (socket.client_end.is_some()
                        || socket.broker_end
                        || (socket.up.len() == 0 && socket.down.len() == 0 && socket.sending.is_none()))
            })
    }
}
