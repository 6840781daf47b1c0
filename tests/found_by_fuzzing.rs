//! What fuzzing has found, one test for each fault, on a shard without sockets; `tests/fuzz/corpus` keeps the inputs that led there.

use std::sync::Arc;

use ringmq::broker::{Command, ConnId, Origin, Shard, ShardConfig, ShardId};
use ringmq::config::Limits;
use ringmq::mqtt::{Connect, Properties, Version, encode};

/// A shard whose clients take at once what they are sent.
struct World {
    shard: Shard,
    now: u64,
}

impl World {
    fn new(limits: Limits) -> World {
        let config = ShardConfig { id: ShardId(0), shards: 1, limits: Arc::new(limits), sys_interval_s: 0, seed: 1 };
        World { shard: Shard::new(config, 0), now: 0 }
    }

    /// A connected client.
    fn connect(&mut self, client_id: &str, version: Version) -> ConnId {
        let conn = self.shard.open(self.now, Origin { listener: 0, peer: None }).expect("there is room");
        self.shard.receive(self.now, conn, &connect(client_id, version));
        self.output(conn);
        conn
    }

    /// What a client sends, and what it is sent then.
    fn say(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        self.shard.receive(self.now, conn, bytes);
        self.output(conn)
    }

    /// What one client is sent.
    fn output(&mut self, conn: ConnId) -> Vec<u8> {
        self.shard.tick(self.now);
        let mut bytes = Vec::new();
        while let Some((to, batch)) = self.shard.next_output() {
            if to == conn {
                batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
            }
            self.shard.sent(self.now, to, batch);
        }
        bytes
    }

    /// The connections that the shard wants closed.
    fn closed(&mut self) -> Vec<ConnId> {
        let mut commands = Vec::new();
        self.shard.take_commands(&mut commands);
        let close = |command: &Command| if let Command::Close { conn, .. } = command { Some(*conn) } else { None };
        commands.iter().filter_map(close).collect()
    }
}

fn connect(client_id: &str, version: Version) -> Vec<u8> {
    let connect = Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: Properties::default(),
    };
    let mut bytes = Vec::new();
    encode::connect(&mut bytes, &connect);
    bytes
}

/// [MQTT-3.1.0-2] Not with what a first CONNECT would have been told: DISCONNECT knows no "unsupported protocol version" (0x84).
#[test]
fn a_second_connect_of_an_unknown_version_is_a_protocol_error() {
    let mut world = World::new(Limits::default());
    let client = world.connect("client", Version::V5);
    let mut second = connect("client", Version::V5);
    second[8] = 9;
    assert_eq!(world.say(client, &second), [0xE0, 1, 0x82]);
    assert_eq!(world.closed(), [client]);
}
