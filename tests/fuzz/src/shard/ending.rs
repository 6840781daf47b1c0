//! How a sequence of operations ends, and what must hold then.

use std::sync::Arc;

use super::client::{Client, Phase};
use super::world::{World, shard};
use ringmq::broker::{Holdings, Shard};

/// Binary logarithm of a time, ms, after which everything expires.
const LONGEST_JUMP: usize = 43;
/// Rounds in which shards must have told one another all that they have to tell, and timers that must be enough for the end.
const ROUNDS: usize = 2_000;

impl World {
    /// Everyone reads and answers everything until there is nothing more to say. Then no message waits for a client that could have it.
    pub fn everything_arrives(&mut self) {
        let quiet = (0..ROUNDS).any(|_| {
            let before = self.progress();
            for client in &mut self.clients {
                (0..client.to_answer.len()).for_each(|_| client.acknowledge(false));
            }
            self.turn();
            !self.exchange() && before == self.progress() && !self.clients.iter().any(|client| self.is_owed(client))
        });
        assert!(quiet, "shards and clients come to rest");
        // Nobody is waited for: not for who may never answer, nor for whose answers stand behind publishes that have to wait.
        let waits = |client: &Client| client.paused || self.shards[client.shard].is_paused(client.id);
        let fluent = self.clients.iter().all(|client| client.honest && !waits(client) || client.phase == Phase::Closed);
        for shard in &self.shards {
            let (held, gauges) = (shard.holdings(), shard.snapshot().gauges);
            assert_eq!((held.waiting_subacks, held.unsent_bytes), (0, 0));
            if fluent && self.shards.iter().all(|shard| shard.snapshot().gauges.sessions_offline == 0) {
                assert_eq!((held.fetches, held.cursors, held.tickets), (0, 0, 0));
                assert_eq!((gauges.inflight_messages, gauges.queued_messages), (0, 0));
            }
        }
    }

    /// Whether there is output for an open connection.
    fn is_owed(&self, client: &Client) -> bool {
        client.phase != Phase::Closed && (client.in_driver.is_some() || self.shards[client.shard].has_output(client.id))
    }

    /// Changes whenever something has moved.
    fn progress(&self) -> Vec<u64> {
        let counted = self.shards.iter().map(Shard::snapshot).map(|snapshot| {
            let counters = snapshot.counters;
            [counters.bytes_received, counters.bytes_sent, counters.peer_messages_received, counters.connections_closed.iter().sum()]
        });
        counted.flatten().chain([self.clients.iter().map(|client| client.unread.len() as u64).sum()]).collect()
    }

    /// Every connection ends; the shard names each of them once, if it has not before.
    pub fn everyone_leaves(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.set_sys_interval(0));
        (0..self.shards.len()).for_each(|shard| self.carry_out_commands(shard));
        (0..self.clients.len()).for_each(|at| self.end(at, false));
        for shard in 0..self.shards.len() {
            self.carry_out_commands(shard);
            self.outputs(shard);
        }
        for at in 0..self.clients.len() {
            let phase = self.clients[at].phase;
            assert!(matches!(phase, Phase::Closing { .. } | Phase::Closed), "nobody was told to close it: {phase:?}");
            self.take_output(at, false);
            self.go_on(at, true);
        }
    }

    /// Timers run out, first one after the other, then in ever greater jumps, until there are none; then nothing is left but retained messages.
    pub fn time_passes(&mut self) {
        for round in 0..ROUNDS {
            (0..ROUNDS).find(|_| !self.exchange()).expect("shards have told one another everything");
            let Some(deadline) = self.shards.iter().filter_map(Shard::next_deadline).min() else { break };
            self.now = self.now.max(deadline) + (1 << (round / 16).min(LONGEST_JUMP));
            (0..self.shards.len()).for_each(|shard| self.tick(shard, 0));
        }
        for shard in &self.shards {
            let held = shard.holdings();
            let retained = Holdings { retained: held.retained, retained_bytes: held.retained_bytes, ..Holdings::default() };
            assert_eq!((held, shard.has_work(), shard.next_deadline()), (retained, false, None));
        }
    }

    /// Everything that shards have for one another and for themselves; false if there was nothing.
    fn exchange(&mut self) -> bool {
        let mut any = false;
        for shard in 0..self.shards.len() {
            self.take_batches(shard, false);
            any |= self.shards[shard].has_work() | self.write_log(shard, usize::MAX);
            self.tick(shard, 0);
        }
        for shard in 0..self.shards.len() {
            any |= self.rings[shard].iter().any(|ring| !ring.is_empty());
            self.deliver_batch(shard);
        }
        any
    }

    /// The next run, with any number of shards, finds the retained messages that this one had.
    pub fn the_log_is_read(&self, shards: u16) {
        if !self.durable || self.reported {
            return;
        }
        let limits = Arc::default();
        let mut next: Vec<Shard> = (0..shards).map(|id| shard(id, shards, &limits, true)).collect();
        for shard in &mut next {
            self.logs.iter().for_each(|log| log.replay(shard, self.now));
        }
        let retained = |shards: &[Shard]| -> (usize, u64) {
            let held = shards.iter().map(Shard::holdings);
            held.fold((0, 0), |(messages, bytes), held| (messages + held.retained, bytes + held.retained_bytes))
        };
        assert!(self.shards.iter().all(Shard::is_durable));
        assert_eq!(retained(&next), retained(&self.shards), "retained messages and their bytes, read and held");
    }
}
