//! Shards with clients and without sockets: what the server does around them, done at once and in order.

use std::net::IpAddr;
use std::sync::Arc;

use ringmq::broker::{Admission, Command, ConnId, Origin, Shard, ShardConfig, ShardId};
use ringmq::config::Config;
use ringmq::metrics::Counters;
use ringmq::mqtt::{Connect, Packet, Properties, Version, decode, encode, peek};

/// Milliseconds of the clock at the start: not zero, so that nothing is right by chance.
const START_MS: u64 = 1_000_000;

/// How late a timer may be.
pub const LATE_MS: u64 = 2 * ringmq::broker::wheel::TICK_MS;

/// A number that stands for a client.
pub type Client = usize;

pub struct Socket {
    /// Where it is now; `None` once it is closed.
    pub place: Option<(usize, ConnId)>,
    /// Whether the shell reads from it.
    pub reading: bool,
    pub received: Vec<u8>,
}

/// All shards of a broker, their clock, and clients.
pub struct World {
    pub shards: Vec<Shard>,
    pub now: u64,
    pub sockets: Vec<Socket>,
}

impl World {
    /// A broker with this configuration.
    pub fn new(count: u16, config: &Config) -> World {
        let admission = Arc::new(Admission::new(config));
        World::with_admission(count, config, admission)
    }

    pub fn with_admission(count: u16, config: &Config, admission: Arc<Admission>) -> World {
        let limits = Arc::new(config.limits.clone());
        let shard = |index| {
            let id = ShardId(index);
            let mut shard =
                Shard::new(ShardConfig { id, shards: count, limits: Arc::clone(&limits), sys_interval_s: 0, seed: 1 }, START_MS);
            shard.set_admission(Arc::clone(&admission));
            shard
        };
        World { shards: (0..count).map(shard).collect(), now: START_MS, sockets: Vec::new() }
    }

    /// A connection that was accepted by a shard through a listener.
    pub fn open_on(&mut self, shard: usize, listener: u16) -> Client {
        let peer = Some((IpAddr::from([127, 0, 0, 1]), 7).into());
        let conn = self.shards[shard].open(self.now, Origin { listener, peer }).expect("there is room");
        self.sockets.push(Socket { place: Some((shard, conn)), reading: true, received: Vec::new() });
        self.sockets.len() - 1
    }

    pub fn open(&mut self) -> Client {
        self.open_on(0, 0)
    }

    /// A client that is let in with this CONNECT; its CONNACK is not looked at.
    pub fn connect(&mut self, connect: &Connect<'_>) -> Client {
        let client = self.open();
        self.send_connect(client, connect);
        assert!(self.take(client).starts_with(&[0x20]), "CONNACK");
        assert!(!self.is_closed(client), "let in");
        client
    }

    pub fn send_connect(&mut self, client: Client, connect: &Connect<'_>) {
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, connect);
        self.send(client, &bytes);
    }

    /// Bytes of a client, and everything that follows from them.
    pub fn send(&mut self, client: Client, bytes: &[u8]) {
        let Some((shard, conn)) = self.sockets[client].place else { return };
        assert!(self.sockets[client].reading, "nothing is read from this client");
        self.sockets[client].reading = self.shards[shard].receive(self.now, conn, bytes);
        self.settle();
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(next) = self.shards.iter().filter_map(Shard::next_deadline).min().filter(|&next| next <= end) {
            self.now = next.max(self.now + 1);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// What a client was sent since it was last asked.
    pub fn take(&mut self, client: Client) -> Vec<u8> {
        std::mem::take(&mut self.sockets[client].received)
    }

    pub fn is_closed(&self, client: Client) -> bool {
        self.sockets[client].place.is_none()
    }

    /// What all shards counted.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.merge(&shard.snapshot().counters));
        sum
    }

    pub fn sessions(&self) -> u64 {
        self.shards.iter().map(|shard| shard.snapshot().gauges.sessions).sum()
    }

    /// Turns of all shards until nothing happens any more.
    pub fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for index in 0..self.shards.len() {
                self.shards[index].tick(self.now);
                self.take_output(index);
                let mut commands = Vec::new();
                self.shards[index].take_commands(&mut commands);
                quiet &= commands.is_empty() && !self.shards[index].has_work();
                commands.into_iter().for_each(|command| self.carry_out(index, command));
                for to in 0..self.shards.len() {
                    if let Some(batch) = self.shards[index].take_batch(ShardId(to as u16)) {
                        self.shards[to].peer_batch(self.now, ShardId(index as u16), batch);
                        quiet = false;
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn take_output(&mut self, index: usize) {
        while let Some((conn, batch)) = self.shards[index].next_output() {
            if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.place == Some((index, conn))) {
                batch.for_each_slice(|slice| socket.received.extend_from_slice(slice));
            }
            self.shards[index].sent(self.now, conn, batch);
        }
    }

    fn carry_out(&mut self, index: usize, command: Command) {
        let (Command::Close { conn, .. } | Command::HandOff { conn, .. } | Command::Resume(conn)) = command;
        self.take_output(index);
        let Some(client) = self.sockets.iter().position(|socket| socket.place == Some((index, conn))) else { return };
        match command {
            Command::Close { .. } => {
                self.sockets[client].place = None;
                let origin = self.shards[index].closed(self.now, conn).expect("a connection says where it came from");
                assert!(origin.peer.is_some());
            }
            Command::HandOff { to, .. } => {
                let (origin, received) = self.shards[index].release(conn).expect("a connection that moves");
                let to = usize::from(to.0);
                let conn = self.shards[to].open(self.now, origin).expect("there is room");
                self.sockets[client].place = Some((to, conn));
                self.sockets[client].reading = self.shards[to].receive(self.now, conn, &received);
            }
            Command::Resume(_) => self.sockets[client].reading = true,
        }
    }
}

/// A CONNECT that asks for nothing special.
pub fn connect(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: Properties::default(),
    }
}

/// The packets that a client of this version was sent.
pub fn packets(version: Version, mut bytes: &[u8]) -> Vec<Packet<'_>> {
    let mut packets = Vec::new();
    while let Some(header) = peek(bytes, u32::MAX).expect("a valid packet") {
        let (packet, rest) = bytes.split_at(header.total_len());
        packets.push(decode(version, header.first, &packet[usize::from(header.header_len)..]).expect("a valid packet"));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a packet: {bytes:?}");
    packets
}

/// The only packet in `bytes`.
pub fn packet(version: Version, bytes: &[u8]) -> Packet<'_> {
    let mut packets = packets(version, bytes);
    assert_eq!(packets.len(), 1, "{packets:?}");
    packets.remove(0)
}
