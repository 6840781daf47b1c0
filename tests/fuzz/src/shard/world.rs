//! The surroundings of the shards: clock, sockets, rings. What the server does at once, this does one step at a time, in any order that could happen.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::input::Input;
use super::admission;
use super::client::{Client, Phase};
use super::limits::{self, Ceiling};
use super::log::{self, Log};
use super::packets;
use ringmq::broker::{Batch, Command, ConnId, Origin, Shard, ShardConfig, ShardId};
use ringmq::config::Limits;
use ringmq::metrics::CloseCause;

/// Connections at the same time.
const MAX_CLIENTS: usize = 12;
/// Bytes that one client may have on the way.
const MAX_UNREAD: usize = 128 * 1024;
/// Jumps of time, ms: within a tick of the timer wheel, over one, and over its levels.
const JUMPS: [u64; 10] = [0, 1, 63, 64, 500, 1_000, 1_500, 11_000, 100_000, 100_000_000];

pub struct World {
    pub(super) shards: Vec<Shard>,
    pub(super) now: u64,
    pub(super) clients: Vec<Client>,
    /// Batches under way, by target and source.
    pub(super) rings: Vec<Vec<VecDeque<Batch>>>,
    /// What the shards want to outlive the process, and whether they do.
    pub(super) logs: Vec<Log>,
    pub(super) durable: bool,
    /// `$SYS` was switched on: retained messages that no log holds.
    pub(super) reported: bool,
    ceiling: Ceiling,
    commands: Vec<Command>,
}

impl World {
    pub fn new(input: &mut Input<'_>) -> World {
        let limits = Arc::new(limits::choose(input));
        let (count, durable) = [(1, false), (2, false), (1, true), (2, true)][input.below(4)];
        let mut world = World {
            shards: (0..count).map(|id| shard(id, count, &limits, durable)).collect(),
            now: 0,
            clients: Vec::new(),
            rings: (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect(),
            logs: (0..count).map(|_| Log::default()).collect(),
            durable,
            reported: false,
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
            18 => {
                self.deliver_batch(shard);
                self.write_log(shard, 1);
            }
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
    pub(super) fn outputs(&mut self, shard: usize) {
        while let Some((id, batch)) = self.shards[shard].next_output() {
            let client = self.client(shard, id);
            assert!(!batch.is_empty() && client.in_driver.replace(batch).is_none(), "one batch at a time");
        }
    }

    /// A client takes what it was sent, or the sending fails.
    pub(super) fn take_output(&mut self, at: usize, fails: bool) {
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

    pub(super) fn end(&mut self, at: usize, broken: bool) {
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

    pub(super) fn carry_out_commands(&mut self, shard: usize) {
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
    pub(super) fn go_on(&mut self, at: usize, hurried: bool) {
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

    pub(super) fn tick(&mut self, shard: usize, later: u64) {
        self.now += later;
        self.shards[shard].tick(self.now);
    }

    /// The batches of a shard go into the rings; `full`: they come back, for now.
    pub(super) fn take_batches(&mut self, shard: usize, full: bool) {
        for to in 0..self.shards.len() {
            let Some(batch) = self.shards[shard].take_batch(ShardId(to as u16)) else { continue };
            if full {
                self.shards[shard].untake_batch(ShardId(to as u16), batch);
            } else {
                self.rings[to][shard].push_back(batch);
            }
        }
    }

    pub(super) fn deliver_batch(&mut self, shard: usize) {
        for from in 0..self.shards.len() {
            if let Some(batch) = self.rings[shard][from].pop_front() {
                self.shards[shard].peer_batch(self.now, ShardId(from as u16), batch);
            }
        }
    }

    /// The log's writer: what was under way becomes durable, what the shard has now is under way. False if there was nothing to do.
    pub(super) fn write_log(&mut self, shard: usize, commits: usize) -> bool {
        let committed = self.logs[shard].commit(&mut self.shards[shard], self.now, commits);
        self.logs[shard].take_jobs(&mut self.shards[shard]) | committed
    }

    fn rare(&mut self, shard: usize, input: &mut Input<'_>) {
        match input.below(8) {
            0 => self.shards[shard].shut_down(self.now),
            1 => {
                self.reported = true;
                self.shards[shard].set_sys_interval(input.below(3) as u32);
            }
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
            5 => self.shards[shard].commit_failing(),
            _ => {
                let limits = Arc::new(limits::choose(input));
                self.ceiling.raise(&limits);
                self.shards.iter_mut().for_each(|shard| shard.set_limits(Arc::clone(&limits)));
            }
        }
    }

    /// All that one turn of the server does, on every shard.
    pub(super) fn turn(&mut self) {
        for at in 0..self.clients.len() {
            self.read(at, usize::MAX, false);
        }
        for shard in 0..self.shards.len() {
            self.deliver_batch(shard);
            self.tick(shard, 1);
            self.carry_out_commands(shard);
            self.outputs(shard);
            self.take_batches(shard, false);
            self.write_log(shard, usize::MAX);
        }
        for at in 0..self.clients.len() {
            self.take_output(at, false);
            self.go_on(at, false);
        }
    }
}

/// A shard without connections.
pub fn shard(id: u16, shards: u16, limits: &Arc<Limits>, durable: bool) -> Shard {
    let config = ShardConfig { id: ShardId(id), shards, limits: Arc::clone(limits), sys_interval_s: 0, seed: 7 };
    let mut shard = Shard::new(config, 0);
    if durable {
        shard.keep_journal(log::UNIX_MS);
        shard.restore(0, &[]);
    }
    shard
}
