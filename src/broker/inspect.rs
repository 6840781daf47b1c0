//! What a shard holds, for tests and for an operator who looks for leaks. Read-only, and walks all sessions and connections.

use super::ids::ConnId;
use super::shard::Shard;
use crate::metrics::Snapshot;

/// Everything that a shard holds and that must be gone once its clients, their sessions and the retained messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub connections: usize,
    pub sessions: usize,
    /// Filters with local subscribers or shared groups, shared groups of all shards, nodes of the wildcard trie, exact filters of other shards.
    pub filters: usize,
    pub groups: usize,
    pub nodes: usize,
    pub remote_filters: usize,
    pub retained: usize,
    pub retained_bytes: u64,
    /// Retained messages being read: by other shards, and for connections here.
    pub cursors: usize,
    /// Levels of retained topics that are kept for readers.
    pub pins: usize,
    pub fetches: usize,
    /// Publishes that wait for an answer.
    pub tickets: usize,
    pub timers: usize,
    /// SUBACKs that wait for other shards.
    pub waiting_subacks: usize,
    /// Bytes of output that clients have not taken, of messages that sessions hold, and of packets whose end has not come.
    pub unsent_bytes: u64,
    pub held_bytes: u64,
    pub partial_bytes: u64,
}

impl Shard {
    /// Whether there is a session with this client identifier.
    pub fn has_session(&self, client_id: &str) -> bool {
        self.sessions.find(client_id).is_some()
    }

    /// Whether a connection is open whose packets are not worked off as they come.
    pub fn is_paused(&self, id: ConnId) -> bool {
        self.connections.get(id).is_some_and(|conn| conn.paused.any())
    }

    /// Whether every delivery that was owed is done, given up with a reason, in flight, queued or held: owed, and accounted for.
    pub fn deliveries(&self) -> (u64, u64) {
        let Snapshot { counters, gauges } = self.snapshot();
        let open = gauges.inflight_messages + gauges.queued_messages + gauges.held_messages;
        (counters.deliveries_matched, counters.deliveries_ended() + open)
    }

    /// What the shard holds now.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            connections: self.connections.len(),
            sessions: self.sessions.len(),
            filters: self.topics.filter_count(),
            groups: self.topics.group_count(),
            nodes: self.topics.node_count(),
            remote_filters: self.topics.remote_count(),
            retained: self.retained.len(),
            retained_bytes: self.retained_bytes,
            cursors: self.cursors.len(),
            pins: self.retained.pins(),
            fetches: self.fetching.len(),
            tickets: self.tickets.len(),
            timers: self.wheel.len(),
            waiting_subacks: self.interest.waiting(),
            unsent_bytes: self.unsent,
            held_bytes: self.held_bytes.get(),
            partial_bytes: self.partial_bytes,
        }
    }
}
