//! One shard: the object that everything about its connections and sessions goes through, and the only owner of their state.
//!
//! It is synchronous and knows neither sockets nor clocks: the server, the simulator, the fuzzer and the benches hand it bytes, batches of other shards and
//! the time, and drain what it leaves: output of connections, commands for sockets, batches for other shards, the next deadline.

use std::sync::Arc;

use hashbrown::HashMap;

use super::acks::Tickets;
use super::admission::{Admission, Entropy};
use super::budget::{HeldBytes, Pressure};
use super::connection::{Connections, Origin, State};
use super::ids::{ConnId, ShardId};
use super::interest::InterestState;
use super::journal::Journal;
use super::limited::Limited;
use super::message::Chunks;
use super::outbox::OutBatch;
use super::peer::{Batch, Peers};
use super::retain::Sweep;
use super::retained::{Cursor, Retained};
use super::route::Scratch;
use super::run::Run;
use super::session::{FixedHasher, Sessions};
use super::sys::SysState;
use super::timers::TimerKey;
use super::topics::Topics;
use super::wheel::Wheel;
use crate::config::Limits;
use crate::metrics::{CloseCause, Counters, RefuseReason};

/// What a shard must know of its surroundings.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    pub id: ShardId,
    /// Number of shards, at most [`super::ids::MAX_SHARDS`].
    pub shards: u16,
    pub limits: Arc<Limits>,
    /// Seconds between two publications of `$SYS`; 0 switches them off.
    pub sys_interval_s: u32,
    /// For assigned client identifiers and hash seeds.
    pub seed: u64,
}

/// What the shell is to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Close it; `after_send`: once its output has left, in a way that lets the client read it.
    Close { conn: ConnId, after_send: bool },
    /// Take it from this shard and open it on `to`, where the bytes that [`Shard::release`] gives are received first.
    HandOff { conn: ConnId, to: ShardId },
    /// Read from it again.
    Resume(ConnId),
}

/// The state of one shard.
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) shards: u16,
    pub(super) limits: Arc<Limits>,
    pub(super) admission: Arc<Admission>,
    pub(super) entropy: Entropy,
    /// Milliseconds, as last handed in.
    pub(super) now: u64,
    pub(super) connections: Connections,
    pub(super) sessions: Sessions,
    pub(super) topics: Topics,
    pub(super) interest: InterestState,
    pub(super) retained: Retained<super::message::Message>,
    pub(super) retained_bytes: u64,
    pub(super) sweep: Sweep,
    /// Retained messages that other shards are reading, slice by slice.
    pub(super) cursors: HashMap<(ShardId, u64), Cursor, FixedHasher>,
    /// Connections of this shard by the fetches that are read for them.
    pub(super) fetching: HashMap<u64, ConnId, FixedHasher>,
    pub(super) last_fetch: u64,
    pub(super) tickets: Tickets,
    pub(super) wheel: Wheel<TimerKey>,
    pub(super) peers: Peers,
    /// Boxed: the hot fields of the shard stay close together.
    pub(super) run: Box<Run>,
    pub(super) scratch: Scratch,
    pub(super) chunks: Chunks,
    pub(super) counters: Counters,
    pub(super) limited: Limited,
    pub(super) sys: SysState,
    /// What is to outlive the process; `None` where nothing is.
    pub(super) journal: Option<Box<Journal>>,
    commands: Vec<Command>,
    /// Slots of connections whose output grew.
    dirty: Vec<u32>,
    pub(super) spare_batches: Vec<OutBatch>,
    /// Bytes that all clients together have not taken.
    pub(super) unsent: u64,
    /// Messages that sessions hold, and packets whose end has not come, bytes.
    pub(super) held_bytes: HeldBytes,
    pub(super) partial_bytes: u64,
    pub(super) pressure: Pressure,
    /// Sessions that have a connection.
    pub(super) connected: u64,
    /// Publishers that may be read from again.
    pub(super) resuming: Vec<ConnId>,
    /// Bytes that one connection may have unsent: falls as the shard's budget is used up.
    pub(super) allowed_unsent: u64,
}

/// Empty output batches kept for reuse, and the largest of them, bytes.
const KEEP_BATCHES: usize = 1_024;
const KEEP_BATCH_BYTES: usize = 16 * 1024;
/// Unsent output that a connection may have although the others use up the budget.
const READER_BYTES: u64 = 16 * 1024;
/// Copies for one connection are accounted for when they have grown by this much, or at the end of the turn.
const ACCOUNT_STEP_BYTES: u32 = 64 * 1024;
/// A shard that has more than this for one other shard does not read from its publishers until the other has taken some.
const PEER_HIGH_WATER_BYTES: usize = 8 * 1024 * 1024;

impl Shard {
    /// A shard without connections.
    pub fn new(config: ShardConfig, now: u64) -> Shard {
        let held_bytes = HeldBytes::default();
        let allowed_unsent = u64::from(config.limits.out_buffer_bytes).min(config.limits.out_budget_bytes / 2);
        let mut shard = Shard {
            id: config.id,
            shards: config.shards,
            admission: Arc::default(),
            entropy: Entropy::from_seed(config.seed, config.id.0),
            now,
            connections: Connections::default(),
            sessions: Sessions::new(config.seed, held_bytes.clone()),
            held_bytes,
            partial_bytes: 0,
            pressure: Pressure::None,
            topics: Topics::new(config.seed),
            interest: InterestState::new(config.shards),
            retained: Retained::new(config.seed),
            retained_bytes: 0,
            sweep: Sweep::default(),
            cursors: HashMap::with_hasher(FixedHasher::default()),
            fetching: HashMap::with_hasher(FixedHasher::default()),
            last_fetch: 0,
            tickets: Tickets::default(),
            wheel: Wheel::new(now),
            peers: Peers::new(config.shards),
            run: Box::default(),
            scratch: Scratch::default(),
            chunks: Chunks::default(),
            counters: Counters::default(),
            limited: Limited::default(),
            sys: SysState::new(config.sys_interval_s, config.shards, now),
            journal: None,
            commands: Vec::new(),
            dirty: Vec::new(),
            spare_batches: Vec::new(),
            unsent: 0,
            connected: 0,
            resuming: Vec::new(),
            allowed_unsent,
            limits: config.limits,
        };
        shard.schedule_sys();
        shard
    }

    /// The index of this shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Connections that are open here.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether a connection has output that the shell has not taken yet.
    pub fn has_output(&self, id: ConnId) -> bool {
        self.connections.get(id).is_some_and(|conn| !conn.out.is_empty())
    }

    /// A new connection. `None`: there is no room for one more; the shell closes the socket.
    pub fn open(&mut self, now: u64, origin: Origin) -> Option<ConnId> {
        self.now = now;
        if self.pressure >= Pressure::RefuseConnections {
            self.counters.count_refused(RefuseReason::Memory);
            return None;
        }
        if self.connections.len() >= self.limits.max_connections as usize {
            self.counters.count_refused(RefuseReason::ShardFull);
            self.counters.count_closed(CloseCause::TooManyConnections);
            return None;
        }
        let terms = self.terms_before_connect(origin.listener);
        let id = self.connections.open(origin, terms, now);
        self.counters.connections_opened += 1;
        let timer = self.wheel.schedule(now + u64::from(self.limits.connect_timeout_ms), TimerKey::Connection(id));
        if let Some(conn) = self.connections.get_mut(id) {
            conn.timer = Some(timer);
        }
        Some(id)
    }

    /// Nothing more will come from this connection: the peer closed it, or it broke. The shell still has to close the socket.
    pub fn ended(&mut self, now: u64, id: ConnId, cause: CloseCause) {
        self.now = now;
        self.work_off_rest(id);
        if self.connections.get(id).is_some_and(|conn| conn.state != State::Closing) {
            self.end_connection(id, super::disconnect::Will::Publish, cause);
            self.commands.push(Command::Close { conn: id, after_send: false });
        }
        self.finish_run();
    }

    /// The broker failed while it handled this connection: it is closed, the rest goes on.
    pub fn abandon(&mut self, now: u64, id: ConnId) {
        self.now = now;
        self.run.abandon();
        self.disconnect(id, crate::mqtt::ReasonCode::UNSPECIFIED_ERROR, super::disconnect::Will::Publish);
    }

    /// The socket is closed, its slot free. Gives where the connection came from.
    pub fn closed(&mut self, now: u64, id: ConnId) -> Option<Origin> {
        self.now = now;
        if self.connections.get(id).is_some_and(|conn| conn.state != State::Closing) {
            self.end_connection(id, super::disconnect::Will::Publish, CloseCause::SocketError);
        }
        let removed = self.connections.remove(id);
        if let Some(conn) = &removed {
            self.unsent = self.unsent.saturating_sub(u64::from(conn.in_driver) + u64::from(conn.accounted));
            self.recompute_allowed();
        }
        self.finish_run();
        removed.and_then(|conn| conn.origin).map(|origin| *origin)
    }

    /// The shell has taken the socket for its home shard: gives where it came from and what was received, and forgets the connection.
    pub fn release(&mut self, id: ConnId) -> Option<(Origin, Vec<u8>)> {
        let conn = self.connections.remove(id)?;
        self.partial_bytes = self.partial_bytes.saturating_sub(u64::from(conn.partial_accounted));
        if let Some(timer) = conn.timer {
            self.wheel.cancel(timer);
        }
        Some((conn.origin.map_or(Origin { listener: 0, peer: None }, |origin| *origin), conn.partial))
    }

    /// A batch of another shard. It comes back for reuse.
    pub fn peer_batch(&mut self, now: u64, from: ShardId, batch: Batch) {
        self.now = now;
        self.on_batch(from, &batch);
        self.finish_run();
        self.peers.recycle(batch);
    }

    /// Timers up to `now`, and what the shard told itself. To be called once a turn, after everything that came in.
    pub fn tick(&mut self, now: u64) {
        self.now = now;
        self.fire_timers();
        for id in std::mem::take(&mut self.resuming) {
            self.resume(id);
        }
        let own = self.id;
        if let Some(batch) = self.peers.take(own) {
            self.peer_batch(now, own, batch);
        }
        self.finish_run();
    }

    /// Whether another turn has work to do although nothing came in.
    pub fn has_work(&self) -> bool {
        let rewriting = self.journal.as_ref().is_some_and(|journal| journal.is_rewriting());
        rewriting || self.peers.waiting_bytes(self.id) > 0 || !self.resuming.is_empty()
    }

    /// When the next timer is due, ms; waking earlier is harmless.
    pub fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// What the shard has for another shard since it was last asked.
    pub fn take_batch(&mut self, to: ShardId) -> Option<Batch> {
        if to == self.id { None } else { self.peers.take(to) }
    }

    /// A batch that was just taken could not be handed over; it is given again later, with what comes after it.
    pub fn untake_batch(&mut self, to: ShardId, batch: Batch) {
        self.peers.untake(to, batch);
    }

    /// Bytes that wait for other shards.
    pub fn waiting_for_others(&self) -> u64 {
        (0..self.shards).map(|shard| self.peers.waiting_bytes(ShardId(shard)) as u64).sum()
    }

    /// Whether other shards, or the disk, lag so far behind that publishers must wait.
    pub fn congested(&self) -> bool {
        (0..self.shards).any(|shard| self.peers.waiting_bytes(ShardId(shard)) > PEER_HIGH_WATER_BYTES)
            || self.journal.as_ref().is_some_and(|journal| journal.congested())
    }

    /// All commands at once, in order; `into` is emptied first.
    pub fn take_commands(&mut self, into: &mut Vec<Command>) {
        into.clear();
        std::mem::swap(&mut self.commands, into);
    }

    pub(super) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// The next connection that has output and none under way, with that output. The shell sends it and reports [`Shard::sent`].
    #[inline]
    pub fn next_output(&mut self) -> Option<(ConnId, OutBatch)> {
        while let Some(slot) = self.dirty.pop() {
            let Some(conn) = self.connections.slot_mut(slot) else { continue };
            conn.dirty = false;
            let length = conn.out.len() as u32;
            // Less than was accounted where output was thrown away.
            self.unsent = (self.unsent + u64::from(length)).saturating_sub(u64::from(conn.accounted));
            conn.accounted = length;
            if conn.in_driver > 0 || length == 0 {
                continue;
            }
            let gate = conn.gate;
            if gate > 0 && self.is_gated(slot, gate) {
                continue;
            }
            let Some(conn) = self.connections.slot_mut(slot) else { continue };
            conn.in_driver = length;
            conn.accounted = 0;
            let batch = std::mem::take(&mut conn.out);
            let id = ConnId { slot, generation: conn.generation };
            self.counters.bytes_sent += u64::from(length);
            return Some((id, batch));
        }
        self.recompute_allowed();
        None
    }

    /// A batch has left (or failed to: then [`Shard::ended`] follows).
    pub fn sent(&mut self, now: u64, id: ConnId, mut batch: OutBatch) {
        self.now = now;
        if batch.capacity() > 0 && batch.capacity() <= KEEP_BATCH_BYTES && self.spare_batches.len() < KEEP_BATCHES {
            batch.clear();
            self.spare_batches.push(batch);
        }
        let Some(conn) = self.connections.get_mut(id) else { return };
        self.unsent -= u64::from(conn.in_driver);
        conn.in_driver = 0;
        if !conn.out.is_empty() && !conn.dirty {
            conn.dirty = true;
            self.dirty.push(id.slot);
        }
        if conn.state == State::Connected {
            let fetches = conn.fetches.is_some();
            self.send_waiting(id.slot);
            if fetches {
                self.continue_fetches(id.slot);
            }
        }
    }

    /// The output of a connection, for appending: it will be sent at the end of the turn.
    #[inline]
    pub(super) fn output(&mut self, slot: u32) -> Option<&mut super::connection::Connection> {
        let conn = self.connections.slot_mut(slot)?;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(slot);
            if conn.out.capacity() == 0
                && let Some(spare) = self.spare_batches.pop()
            {
                conn.out = spare;
            }
        }
        Some(conn)
    }

    /// Puts a connection whose output waited back into the list of those that have some.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(conn) = self.connections.slot_mut(slot)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Takes note of output that was copied for one connection without waiting for the end of the turn: a turn may bring enough for many connections to
    /// use up the budget many times over.
    #[inline]
    pub(super) fn account_copies(&mut self, slot: u32) {
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        let length = conn.out.len() as u32;
        let grown = length.saturating_sub(conn.accounted);
        if grown >= ACCOUNT_STEP_BYTES {
            conn.accounted = length;
            self.unsent += u64::from(grown);
            self.allowed_unsent = self.allowed_now();
        }
    }

    fn allowed_now(&self) -> u64 {
        let free = self.limits.out_budget_bytes.saturating_sub(self.unsent);
        // Half of what is left: one slow client may hold much, many may hold little each (dynamic thresholds). And however much others hold, those who
        // read what they get are to get it.
        self.pressure.bound_output(u64::from(self.limits.out_buffer_bytes).min((free / 2).max(READER_BYTES)))
    }

    /// Once a turn; not a part of the loop over the outputs.
    #[inline(never)]
    fn recompute_allowed(&mut self) {
        self.update_pressure();
        self.allowed_unsent = self.allowed_now();
    }

    /// New limits, for everything from now on.
    pub fn set_limits(&mut self, limits: Arc<Limits>) {
        self.limits = limits;
        self.recompute_allowed();
    }
}
