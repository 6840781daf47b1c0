//! What fuzzing has found, one test for each fault, on a shard without sockets; `tests/fuzz/corpus` keeps the inputs that led there.

use std::sync::Arc;

use ringmq::broker::{Command, ConnId, Origin, Shard, ShardConfig, ShardId};
use ringmq::config::{Limits, QueueFull};
use ringmq::mqtt::{Connect, PacketType, Properties, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, Version, encode};

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

fn subscribe(filter: &str, qos: QoS) -> Vec<u8> {
    let entry = SubscribeEntry { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } };
    let mut bytes = Vec::new();
    encode::subscribe(&mut bytes, Version::V311, 1, &[entry], &Properties::default());
    bytes
}

fn publish(topic: &str, payload: &[u8], qos: QoS, packet_id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V311, &PublishOut { qos, packet_id, ..PublishOut::new(topic, payload) });
    bytes
}

fn publish_retained(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, Version::V311, &PublishOut { retain: true, ..PublishOut::new(topic, payload) });
    bytes
}

fn connect(client_id: &str, version: Version) -> Vec<u8> {
    connect_with(client_id, version, Properties::default())
}

fn connect_with(client_id: &str, version: Version, properties: Properties<'_>) -> Vec<u8> {
    let connect = Connect { version, clean_start: true, keep_alive: 0, client_id, will: None, user_name: None, password: None, properties };
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
    let answer = world.say(client, &second);
    assert_eq!((answer[0], answer[2]), (0xE0, 0x82));
    assert_eq!(world.closed(), [client]);
}

/// The client that is let go when memory is short is closed once, and its output no longer counted.
#[test]
fn the_slowest_client_is_closed_once() {
    let limits = Limits { memory_budget_bytes: 1_000_000, out_buffer_bytes: 1_000_000, out_budget_bytes: 100_000_000, ..Limits::default() };
    let mut world = World::new(limits);
    let (slow, publisher) = (world.connect("slow", Version::V311), world.connect("publisher", Version::V311));
    world.say(slow, &subscribe("a", QoS::AtMostOnce));
    // One batch is under way to it for ever, the next one grows behind.
    let mut under_way = Vec::new();
    for _ in 0..2 {
        world.shard.receive(world.now, publisher, &publish("a", &[7; 600_000], QoS::AtMostOnce, 0));
        under_way.extend(world.shard.next_output());
    }
    assert_eq!(under_way.len(), 1);
    world.shard.tick(world.now);
    under_way.extend(world.shard.next_output());
    assert_eq!(world.closed(), [slow]);
    world.shard.closed(world.now, slow);
    assert_eq!(world.shard.snapshot().gauges.out_bytes, 0);
}

/// With memory short and the policy drop-oldest, a message does not wait in a queue from which nothing would take it.
#[test]
fn a_message_for_an_idle_client_is_sent_although_memory_is_short() {
    let limits = Limits { memory_budget_bytes: 10_000, queue_full: QueueFull::DropOldest, ..Limits::default() };
    let mut world = World::new(limits);
    let (subscriber, publisher) = (world.connect("subscriber", Version::V311), world.connect("publisher", Version::V311));
    world.say(subscriber, &subscribe("a", QoS::AtLeastOnce));
    world.say(publisher, &publish_retained("store", &[7; 8_000]));
    world.shard.receive(world.now, publisher, &publish("a", b"live", QoS::AtLeastOnce, 1));
    let answer = world.output(subscriber);
    assert!(answer.ends_with(b"live"), "{answer:?}");
}

/// Repetitions of a QoS 2 message whose answers must wait for that of another one: the client is not read from when there are too many.
#[test]
fn repetitions_behind_an_answer_that_waits_do_not_pile_up() {
    let mut world = World::new(Limits { max_queued_messages: 1, receive_maximum: 10, ..Limits::default() });
    let subscriber = world.connect("subscriber", Version::V311);
    world.say(subscriber, &subscribe("full", QoS::AtLeastOnce));
    let publisher = world.connect("publisher", Version::V311);
    world.say(publisher, &publish("nobody", b"", QoS::ExactlyOnce, 1));
    for packet_id in 10..u16::MAX {
        if world.say(publisher, &publish("full", b"", QoS::AtLeastOnce, packet_id)).is_empty() {
            break;
        }
    }
    let repeated = publish("nobody", b"", QoS::ExactlyOnce, 1);
    let read = (0..100_000).take_while(|_| world.shard.receive(world.now, publisher, &repeated)).count();
    // Some are answered, 64 KiB wait.
    let bytes = read * repeated.len();
    assert!(bytes <= 66_000, "{bytes} bytes of repetitions were read");
}

/// [MQTT-3.1.2-24] Nor can it go on without: it is told why it is let go.
#[test]
fn an_answer_larger_than_the_client_accepts_ends_the_connection() {
    let filters: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    let entry = |filter| SubscribeEntry { filter, options: SubscribeOptions::default() };
    let entries: Vec<_> = filters.iter().map(|filter| entry(&**filter)).collect();
    let (mut subscribe, mut unsubscribe) = (Vec::new(), Vec::new());
    encode::subscribe(&mut subscribe, Version::V5, 1, &entries, &Properties::default());
    encode::unsubscribe(&mut unsubscribe, Version::V5, 1, filters.iter().map(|filter| &**filter), &Properties::default());
    for packet in [subscribe, unsubscribe] {
        let mut world = World::new(Limits::default());
        let client = world.shard.open(world.now, Origin { listener: 0, peer: None }).expect("there is room");
        let properties = Properties { maximum_packet_size: Some(50), ..Properties::default() };
        world.say(client, &connect_with("client", Version::V5, properties));
        assert_eq!(world.say(client, &packet), [0xE0, 1, 0x95]);
        assert_eq!(world.closed(), [client]);
    }
}

/// What was held outside of a full queue joins it as it gets room in bytes, too.
#[test]
fn held_messages_keep_to_the_queues_limit_of_bytes() {
    // One in flight, one queued, and two held, which is as many as their limit of bytes lets in.
    const MESSAGES: u16 = 4;
    let limits = Limits { max_inflight: 1, max_queued_messages: 100, max_queued_bytes: 1_024, ..Limits::default() };
    let mut world = World::new(limits);
    let (subscriber, publisher) = (world.connect("subscriber", Version::V311), world.connect("publisher", Version::V311));
    world.say(subscriber, &subscribe("a", QoS::AtLeastOnce));
    for packet_id in 1..=MESSAGES {
        world.say(publisher, &publish("a", &[7; 500], QoS::AtLeastOnce, packet_id));
    }
    for packet_id in 1..=MESSAGES {
        let queued = world.shard.snapshot().gauges.queued_bytes;
        assert!(queued <= 1_024, "{queued} bytes are queued after {packet_id} acknowledgements");
        let mut puback = Vec::new();
        encode::ack(&mut puback, Version::V311, PacketType::Puback, packet_id, ReasonCode::SUCCESS, &Properties::default());
        world.say(subscriber, &puback);
    }
    assert_eq!(world.shard.snapshot().counters.publishes_sent[1], u64::from(MESSAGES));
}
