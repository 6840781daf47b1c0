//! The memory that a shard may use, and what it gives up, in this order, when it comes near: QoS 0 output, new connections, new subscriptions, new
//! retained messages and queued ones, the slowest client. Below the first threshold nothing of this costs more than a comparison.
//!
//! What is counted: whatever a client can choose the size of (unsent output, messages of sessions, wills, half-received packets, retained messages, client
//! identifiers, topic aliases, the texts and levels of filters and of retained topics), and a flat price for each connection, session, filter and
//! subscription. A message that several sessions hold counts for each of them: the estimate is on the safe side.

use std::cell::Cell;
use std::rc::Rc;

use super::connection::State;
use super::disconnect::Will;
use super::ids::ConnId;
use super::message::Chunks;
use super::shard::{Command, Shard};
use crate::metrics::CloseCause;
use crate::mqtt::ReasonCode;

/// Flat prices, bytes: what the structures of one take, with room for the allocator.
const CONNECTION_BYTES: u64 = 512;
const SESSION_BYTES: u64 = 384;
const FILTER_BYTES: u64 = 192;
/// One session's subscription to a filter that is there.
pub(super) const SUBSCRIPTION_BYTES: u64 = 48;
/// A retained message beside its bytes and the levels of its topic: its place in the store.
const RETAINED_BYTES: u64 = 48;
/// Unsent output that every connection may still have when QoS 0 is shed.
const SHED_OUTPUT_BYTES: u64 = 64 * 1024;
/// A client that leaves less than this unread is not worth disconnecting.
const SLOW_BYTES: usize = 64 * 1024;
/// Half-received packets may be this large when nothing large is begun any more.
const SMALL_PACKET_BYTES: usize = 64 * 1024;

/// How near a shard is to its budget; each step includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    #[default]
    None,
    /// From 70 %: QoS 0 messages for clients that are behind.
    ShedOutput,
    /// From 80 %: new connections.
    RefuseConnections,
    /// From 85 %: new subscriptions.
    RefuseSubscriptions,
    /// From 90 %: retained messages for new topics, messages for queues, large packets.
    RefuseMessages,
    /// From 95 %: the client that has most unread.
    DropSlowest,
}

impl Pressure {
    fn of(used: u64, budget: u64) -> Pressure {
        match used.saturating_mul(100) / budget.max(1) {
            0..70 => Pressure::None,
            70..80 => Pressure::ShedOutput,
            80..85 => Pressure::RefuseConnections,
            85..90 => Pressure::RefuseSubscriptions,
            90..95 => Pressure::RefuseMessages,
            _ => Pressure::DropSlowest,
        }
    }

    /// The most that one connection may have unsent.
    pub fn bound_output(self, allowed: u64) -> u64 {
        if self >= Pressure::ShedOutput { allowed.min(SHED_OUTPUT_BYTES) } else { allowed }
    }
}

/// Bytes that the sessions and connections of a shard hold for their clients; each of them keeps it up to date for its own part.
#[derive(Clone, Debug, Default)]
pub struct HeldBytes(Rc<Cell<u64>>);

impl HeldBytes {
    pub fn add(&self, bytes: u64) {
        self.0.set(self.0.get() + bytes);
    }

    pub fn subtract(&self, bytes: u64) {
        self.0.set(self.0.get().saturating_sub(bytes));
    }

    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Bytes that count for as long as this lives.
#[derive(Debug)]
pub struct Counted {
    bytes: u64,
    total: HeldBytes,
}

impl Counted {
    pub fn new(bytes: usize, total: &HeldBytes) -> Counted {
        let mut counted = Counted { bytes: 0, total: total.clone() };
        counted.set(bytes as u64);
        counted
    }

    /// So many bytes it is now.
    pub fn set(&mut self, bytes: u64) {
        self.total.subtract(std::mem::replace(&mut self.bytes, bytes));
        self.total.add(bytes);
    }

    pub fn get(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.total.subtract(self.bytes);
    }
}

impl Shard {
    /// Bytes that count against the budget.
    pub fn memory_used(&self) -> u64 {
        self.unsent
            + self.held_bytes.get()
            + self.partial_bytes
            + self.retained_bytes
            + CONNECTION_BYTES * self.connections.len() as u64
            + SESSION_BYTES * self.sessions.len() as u64
            + FILTER_BYTES * self.topics.filter_count() as u64
            + self.topics.held_bytes()
            + RETAINED_BYTES * self.retained.len() as u64
            + self.retained.held_bytes()
    }

    /// How near the budget is now; `pressure` is how near it was at the end of the last turn.
    pub(super) fn pressure_now(&self) -> Pressure {
        Pressure::of(self.memory_used(), self.limits.memory_budget_bytes)
    }

    /// Looks anew how near the budget is; once a turn.
    pub(super) fn update_pressure(&mut self) {
        self.pressure = self.pressure_now();
        if self.pressure == Pressure::DropSlowest {
            self.drop_slowest();
        }
    }

    /// Gives away what is only kept for reuse: a load that has gone needed it, and the next one can have it made again.
    pub fn trim(&mut self) {
        self.spare_batches = Vec::new();
        self.chunks = Chunks::default();
        self.peers.trim();
        self.connections.trim();
        self.sessions.trim();
        self.topics.trim();
        self.retained.trim();
        if let Some(journal) = &mut self.journal {
            journal.trim();
        }
    }

    /// Disconnects the client with the most unread output. One a turn: the memory has to come back before the next one is judged.
    fn drop_slowest(&mut self) {
        let connected = self.connections.ids().filter_map(|id| Some((id, self.connections.get(id)?)));
        let slowest = connected.filter(|(_, conn)| conn.state == State::Connected).max_by_key(|(_, conn)| conn.unsent());
        let Some((id, _)) = slowest.filter(|(_, conn)| conn.unsent() >= SLOW_BYTES) else { return };
        tracing::warn!(slot = id.slot, "memory is short: the client that has most unread is disconnected");
        // What it did not read is what has to go; it would not read a DISCONNECT either.
        self.end_connection(id, Will::Publish, CloseCause::SlowReader);
        if let Some(conn) = self.connections.get_mut(id) {
            conn.out.clear();
            self.unsent -= u64::from(std::mem::take(&mut conn.accounted));
        }
        self.command(Command::Close { conn: id, after_send: false });
    }

    /// Keeps count of half-received packets. Large ones are not gone on with when memory is short.
    pub(super) fn account_partial(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get_mut(id) else { return };
        let (after, state) = (conn.partial.len(), conn.state);
        let before = std::mem::replace(&mut conn.partial_accounted, after as u32);
        self.partial_bytes = (self.partial_bytes + after as u64).saturating_sub(u64::from(before));
        if self.pressure >= Pressure::RefuseMessages && after > SMALL_PACKET_BYTES && matches!(state, State::Opened | State::Connected) {
            self.disconnect(id, ReasonCode::QUOTA_EXCEEDED, Will::Publish);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_grows_with_what_is_used() {
        let steps: Vec<Pressure> = [0, 69, 70, 80, 85, 90, 95, 200].map(|used| Pressure::of(used, 100)).to_vec();
        assert_eq!(
            steps,
            [
                Pressure::None,
                Pressure::None,
                Pressure::ShedOutput,
                Pressure::RefuseConnections,
                Pressure::RefuseSubscriptions,
                Pressure::RefuseMessages,
                Pressure::DropSlowest,
                Pressure::DropSlowest,
            ]
        );
        assert!(steps.is_sorted());
        assert_eq!(Pressure::of(u64::MAX, u64::MAX), Pressure::None, "a budget without a bound is never near");
    }
}
