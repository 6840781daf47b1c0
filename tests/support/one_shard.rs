//! One shard with clients and without sockets: what the shard's own cost is measured and checked with.

use std::sync::Arc;

use ringmq::broker::{Command, ConnId, Origin, Shard, ShardConfig, ShardId};
use ringmq::config::Limits;
use ringmq::mqtt::{Connect, Properties, QoS, SubscribeEntry, SubscribeOptions, Version, encode};

/// A shard, its clock and the output that it left.
pub struct OneShard {
    pub shard: Shard,
    pub now: u64,
    /// Bytes that the clients were sent.
    pub sent_bytes: usize,
    commands: Vec<Command>,
}

impl OneShard {
    pub fn new(limits: Limits) -> OneShard {
        let config = ShardConfig { id: ShardId(0), shards: 1, limits: Arc::new(limits), sys_interval_s: 0, seed: 1 };
        OneShard { shard: Shard::new(config, 0), now: 0, sent_bytes: 0, commands: Vec::new() }
    }

    /// A connected client.
    pub fn connect(&mut self, client_id: &str, version: Version) -> ConnId {
        let conn = self.shard.open(self.now, Origin { listener: 0, peer: None }).expect("there is room");
        let mut bytes = Vec::new();
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive: 60,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::default(),
        };
        encode::connect(&mut bytes, &connect);
        self.receive(conn, &bytes);
        conn
    }

    /// A subscription of a connected client.
    pub fn subscribe(&mut self, conn: ConnId, version: Version, filter: &str, qos: QoS) {
        let mut bytes = Vec::new();
        let entry = SubscribeEntry { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } };
        encode::subscribe(&mut bytes, version, 1, &[entry], &Properties::default());
        self.receive(conn, &bytes);
    }

    /// Bytes of a client, and the rest of the turn.
    pub fn receive(&mut self, conn: ConnId, bytes: &[u8]) {
        self.shard.receive(self.now, conn, bytes);
        self.finish_turn();
    }

    /// Timers and output; all clients take what they are sent at once.
    pub fn finish_turn(&mut self) {
        self.shard.tick(self.now);
        self.shard.take_commands(&mut self.commands);
        assert!(self.commands.is_empty(), "no connection ends here: {:?}", self.commands);
        while let Some((conn, batch)) = self.shard.next_output() {
            self.sent_bytes += batch.len();
            self.shard.sent(self.now, conn, batch);
        }
    }
}
