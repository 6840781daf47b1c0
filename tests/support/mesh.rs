//! All shards of a broker in one thread, without sockets and without rings: what it costs that a message crosses from one to another.

use std::sync::Arc;

use ringmq::broker::{Command, ConnId, Origin, Shard, ShardConfig, ShardId, home_of};
use ringmq::config::Limits;
use ringmq::mqtt::{Connect, Properties, QoS, SubscribeEntry, SubscribeOptions, Version, encode};

/// Shards that hand one another their batches, turn by turn.
pub struct Mesh {
    pub shards: Vec<Shard>,
    commands: Vec<Command>,
    /// Bytes that the clients were sent.
    pub sent_bytes: usize,
}

impl Mesh {
    pub fn new(shards: u16) -> Mesh {
        let limits = Arc::new(Limits::default());
        let shard = |id| Shard::new(ShardConfig { id: ShardId(id), shards, limits: Arc::clone(&limits), sys_interval_s: 0, seed: 1 }, 0);
        Mesh { shards: (0..shards).map(shard).collect(), commands: Vec::new(), sent_bytes: 0 }
    }

    /// A connected client whose home is this shard.
    pub fn connect(&mut self, home: usize, name: &str) -> ConnId {
        let lives_here = |client_id: &String| usize::from(home_of(client_id, self.shards.len() as u16).0) == home;
        let client_id = (0..).map(|attempt| format!("{name}.{attempt}")).find(lives_here).expect("some identifier lives there");
        let connect = Connect {
            version: Version::V311,
            clean_start: true,
            keep_alive: 60,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::default(),
        };
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        let conn = self.shards[home].open(0, Origin { listener: 0, peer: None }).expect("there is room");
        self.shards[home].receive(0, conn, &bytes);
        self.settle();
        conn
    }

    pub fn subscribe(&mut self, home: usize, conn: ConnId, filter: &str) {
        let mut bytes = Vec::new();
        let entry = SubscribeEntry { filter, options: SubscribeOptions { qos: QoS::AtMostOnce, ..SubscribeOptions::default() } };
        encode::subscribe(&mut bytes, Version::V311, 1, &[entry], &Properties::default());
        self.shards[home].receive(0, conn, &bytes);
        self.settle();
    }

    /// One turn of each shard: timers, output, and its batches to the others, which take them at once.
    pub fn turn(&mut self) -> bool {
        let mut quiet = true;
        for from in 0..self.shards.len() {
            let shard = &mut self.shards[from];
            shard.tick(0);
            shard.take_commands(&mut self.commands);
            assert!(self.commands.is_empty(), "no connection ends or moves here: {:?}", self.commands);
            while let Some((conn, batch)) = shard.next_output() {
                self.sent_bytes += batch.len();
                shard.sent(0, conn, batch);
            }
            quiet &= !shard.has_work();
            for to in 0..self.shards.len() {
                if let Some(batch) = self.shards[from].take_batch(ShardId(to as u16)) {
                    self.shards[to].peer_batch(0, ShardId(from as u16), batch);
                    quiet = false;
                }
            }
        }
        quiet
    }

    pub fn settle(&mut self) {
        while !self.turn() {}
    }
}
