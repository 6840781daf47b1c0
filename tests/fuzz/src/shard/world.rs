//! The surroundings of the shards: clock, sockets, rings. What the server does at once, this does one step at a time, in any order that could happen.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::input::Input;
use super::admission;
use super::client::{Client, Phase};
use super::limits::{self, Ceiling};
use super::packets;
use ringmq::broker::{Batch, Command, ConnId, Holdings, Origin, Shard, ShardConfig, ShardId};
use ringmq::metrics::CloseCause;

/// Connections at the same time.
const MAX_CLIENTS: usize = 12;
/// Bytes that one client may have on the way.
const MAX_UNREAD: usize = 128 * 1024;
/// Jumps of time, ms: within a tick of the timer wheel, over one, and over its levels.
const JUMPS: [u64; 10] = [0, 1, 63, 64, 500, 1_000, 1_500, 11_000, 100_000, 100_000_000];
/// Rounds in which shards must have told one another all that they have to tell, and timers that must be enough for the end.
const ROUNDS: usize = 2_000;

pub struct World {
    shards: Vec<Shard>,
    now: u64,
    clients: Vec<Client>,
    /// Batches under way, by target and source.
    rings: Vec<Vec<VecDeque<Batch>>>,
    ceiling: Ceiling,
    commands: Vec<Command>,
}

impl World {
    pub fn new(input: &mut Input<'_>) -> World {
        let limits = Arc::new(limits::choose(input));
        let count = 1 + input.below(2);
        let shard = |id| {
            let sys_interval_s = 0;
            Shard::new(ShardConfig { id: ShardId(id), shards: count as u16, limits: Arc::clone(&limits), sys_interval_s, seed: 7 }, 0)
        };
        let mut world = World {
            shards: (0..count as u16).map(shard).collect(),
            now: 0,
            clients: Vec::new(),
            rings: (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect(),
            ceiling: Ceiling::new(&limits),
            commands: Vec::new(),
        };
        world.set_admission(input);
        world
    }

    fn set_admission(&mut self, input: &mut Input<'_>) {
        let admission = Arc::new(admission::choose(input));
        self.shards.iter_mut().for_each(|shard| shard.set_admission(Arc::clone(&admission)));
    }

    pub fn step(&mut self, input: &mut Input<'_>) {
        let (what, shard) = (input.below(24), input.below(self.shards.len()));
        match what {
            0..2 => self.open(shard, input),
            2..9 => self.with_client(input, World::say),
            9 => self.with_client(input, |world, input, at| {
                let count = input.choose(&[1, 2, 7, 100, 4_096]);
                world.read(at, count, input.one_in(20));
            }),
            10 => self.outputs(shard),
            11 => self.with_client(input, |world, input, at| world.take_output(at, input.one_in(16))),
            12 => self.with_client(input, |world, input, at| {
                let count = 1 + input.below(8);
                (0..count).for_each(|_| world.clients[at].acknowledge(input.one_in(8)));
            }),
            13 => self.with_client(input, |world, input, at| world.end(at, input.flag())),
            14 => self.carry_out_commands(shard),
            15 => self.with_client(input, |world, input, at| world.go_on(at, input.flag())),
            16 => self.tick(shard, input.choose(&JUMPS)),
            17 => self.take_batches(shard, input.one_in(4)),
            18 => self.deliver_batch(shard),
            19 => self.rare(shard, input),
            20 => self.clients.iter_mut().for_each(|client| client.acknowledge(false)),
            _ => self.turn(),
        }
    }

    /// What a shard holds is within its limits, and its connections are those that it should have.
    pub fn check(&self) {
        for (at, shard) in self.shards.iter().enumerate() {
            self.ceiling.check(shard);
            let open = self.clients.iter().filter(|client| client.shard == at && client.phase != Phase::Closed).count();
            assert_eq!(shard.connections(), open);
        }
    }

    /// A new connection, nearly always with CONNECT on its way at once.
    fn open(&mut self, shard: usize, input: &mut Input<'_>) {
        self.clients.retain(|client| client.phase != Phase::Closed || client.in_driver.is_some());
        let listener = if input.one_in(3) { input.below(admission::LISTENERS.into()) as u16 } else { 0 };
        if self.clients.len() < MAX_CLIENTS
            && let Some(id) = self.shards[shard].open(self.now, Origin { listener, peer: None })
        {
            self.clients.push(Client::new(shard, id));
            if !input.one_in(8) {
                self.say(input, self.clients.len() - 1);
            }
        }
    }

    fn say(&mut self, input: &mut Input<'_>, at: usize) {
        let client = &mut self.clients[at];
        if client.unread.len() < MAX_UNREAD && !client.ended {
            packets::say(input, client);
        }
    }

    /// Does something with one of the clients.
    fn with_client(&mut self, input: &mut Input<'_>, action: impl FnOnce(&mut World, &mut Input<'_>, usize)) {
        if !self.clients.is_empty() {
            let at = input.below(self.clients.len());
            action(self, input, at);
        }
    }

    /// The shard reads from a connection; `late`: although it asked not to, as a read was under way.
    fn read(&mut self, at: usize, count: usize, late: bool) {
        let client = &mut self.clients[at];
        let readable = matches!(client.phase, Phase::Open) && !client.paused || late && client.phase != Phase::Closed;
        if client.unread.is_empty() || client.ended || !readable || self.shards[client.shard].congested() {
            return;
        }
        let bytes: Vec<u8> = client.unread.drain(..count.min(client.unread.len())).collect();
        let more = self.shards[client.shard].receive(self.now, client.id, &bytes);
        client.paused |= !more;
    }

    /// A shard gives output away: never for a connection that has some under way.
    fn outputs(&mut self, shard: usize) {
        while let Some((id, batch)) = self.shards[shard].next_output() {
            let client = self.client(shard, id);
            assert!(!batch.is_empty() && client.in_driver.replace(batch).is_none(), "one batch at a time");
        }
    }

    /// A client takes what it was sent, or the sending fails.
    fn take_output(&mut self, at: usize, fails: bool) {
        let client = &mut self.clients[at];
        let Some(batch) = client.in_driver.take() else { return };
        client.broken |= fails;
        if !client.broken && client.phase != Phase::Closed {
            client.arrive(&batch);
        }
        let (shard, id, phase) = (client.shard, client.id, client.phase);
        self.shards[shard].sent(self.now, id, batch);
        if fails && phase != Phase::Closed {
            self.end(at, true);
        }
    }

    fn end(&mut self, at: usize, broken: bool) {
        let client = &mut self.clients[at];
        if !client.ended && client.phase != Phase::Closed {
            client.ended = true;
            client.broken |= broken;
            let cause = if broken { CloseCause::SocketError } else { CloseCause::ClientClosed };
            self.shards[client.shard].ended(self.now, client.id, cause);
        }
    }

    fn client(&mut self, shard: usize, id: ConnId) -> &mut Client {
        let found = self.clients.iter_mut().find(|client| client.shard == shard && client.id == id && client.phase != Phase::Closed);
        found.expect("a shard speaks of connections that are open")
    }

    fn carry_out_commands(&mut self, shard: usize) {
        let mut commands = std::mem::take(&mut self.commands);
        self.shards[shard].take_commands(&mut commands);
        for &command in &commands {
            match command {
                Command::Close { conn, after_send } => {
                    let client = self.client(shard, conn);
                    assert!(!matches!(client.phase, Phase::Closing { .. }), "closed for the second time");
                    client.phase = Phase::Closing { after_send };
                }
                Command::HandOff { conn, to } => {
                    let client = self.client(shard, conn);
                    assert_eq!(client.phase, Phase::Open);
                    client.phase = Phase::Moving;
                    assert_ne!(usize::from(to.0), shard);
                }
                Command::Resume(conn) => self.client(shard, conn).paused = false,
            }
        }
        self.commands = commands;
    }

    /// A connection that is to be closed is closed, one that is to move moves. `hurried`: although there is output.
    fn go_on(&mut self, at: usize, hurried: bool) {
        let client = &self.clients[at];
        let (shard, id) = (client.shard, client.id);
        match client.phase {
            Phase::Closing { after_send } if !after_send || hurried || client.in_driver.is_none() && !self.shards[shard].has_output(id) => {
                self.shards[shard].closed(self.now, id);
                self.clients[at].phase = Phase::Closed;
            }
            Phase::Moving if !client.ended => {
                let (origin, received) = self.shards[shard].release(id).expect("it is there");
                let to = self.shards.len() - 1 - shard;
                let Some(id) = self.shards[to].open(self.now, origin) else { return self.clients[at].phase = Phase::Closed };
                let client = &mut self.clients[at];
                (client.shard, client.id, client.phase) = (to, id, Phase::Open);
                client.paused = !self.shards[to].receive(self.now, id, &received);
            }
            _ => {}
        }
    }

    fn tick(&mut self, shard: usize, later: u64) {
        self.now += later;
        self.shards[shard].tick(self.now);
    }

    /// The batches of a shard go into the rings; `full`: they come back, for now.
    fn take_batches(&mut self, shard: usize, full: bool) {
        for to in 0..self.shards.len() {
            let Some(batch) = self.shards[shard].take_batch(ShardId(to as u16)) else { continue };
            if full {
                self.shards[shard].untake_batch(ShardId(to as u16), batch);
            } else {
                self.rings[to][shard].push_back(batch);
            }
        }
    }

    fn deliver_batch(&mut self, shard: usize) {
        for from in 0..self.shards.len() {
            if let Some(batch) = self.rings[shard][from].pop_front() {
                self.shards[shard].peer_batch(self.now, ShardId(from as u16), batch);
            }
        }
    }

    fn rare(&mut self, shard: usize, input: &mut Input<'_>) {
        match input.below(7) {
            0 => self.shards[shard].shut_down(self.now),
            1 => self.shards[shard].set_sys_interval(input.below(3) as u32),
            // What the server does after a panic.
            2 => self.with_client(input, |world, _, at| {
                let client = &mut world.clients[at];
                world.shards[client.shard].abandon(world.now, client.id);
            }),
            // The driver could not take the socket, or lost it.
            3 => self.with_client(input, |world, _, at| {
                world.carry_out_commands(world.clients[at].shard);
                let client = &mut world.clients[at];
                if client.phase == Phase::Open {
                    world.shards[client.shard].closed(world.now, client.id);
                    client.phase = Phase::Closed;
                }
            }),
            4 => self.set_admission(input),
            _ => {
                let limits = Arc::new(limits::choose(input));
                self.ceiling.raise(&limits);
                self.shards.iter_mut().for_each(|shard| shard.set_limits(Arc::clone(&limits)));
            }
        }
    }

    /// All that one turn of the server does, on every shard.
    fn turn(&mut self) {
        for at in 0..self.clients.len() {
            self.read(at, usize::MAX, false);
        }
        for shard in 0..self.shards.len() {
            self.deliver_batch(shard);
            self.tick(shard, 1);
            self.carry_out_commands(shard);
            self.outputs(shard);
            self.take_batches(shard, false);
        }
        for at in 0..self.clients.len() {
            self.take_output(at, false);
            self.go_on(at, false);
        }
    }

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
        let fluent = self.clients.iter().all(|client| client.honest && !client.paused || client.phase == Phase::Closed);
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

    /// Timers run out, one after the other, until there are none; then nothing is left but retained messages.
    pub fn time_passes(&mut self) {
        for _ in 0..ROUNDS {
            (0..ROUNDS).find(|_| !self.exchange()).expect("shards have told one another everything");
            let Some(deadline) = self.shards.iter().filter_map(Shard::next_deadline).min() else { break };
            self.now = self.now.max(deadline) + 1;
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
            any |= self.shards[shard].has_work();
            self.tick(shard, 0);
        }
        for shard in 0..self.shards.len() {
            any |= self.rings[shard].iter().any(|ring| !ring.is_empty());
            self.deliver_batch(shard);
        }
        any
    }
}
