//! What waits for the disk and what does not: shards with a journal, whose commits the test makes durable by hand.

use ringmq::broker::{JournalJob, Shard};
use ringmq::config::{Config, Durability, Listener, TopicDurability, parse_address};
use ringmq::mqtt::{Connect, PacketType, Properties, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, Version, encode};

use super::world::{Client, World, connect};

/// Milliseconds since 1970 at the beginning of the shards' clock.
const UNIX_MS: u64 = 1_700_000_000_000;

/// A broker whose shards keep journals.
struct Durable {
    world: World,
    /// Numbers of the commits that are not durable yet, by shard.
    under_way: Vec<Vec<u64>>,
}

impl Durable {
    fn new(shards: u16, config: &Config) -> Durable {
        let mut world = World::new(shards, config);
        world.shards.iter_mut().for_each(|shard| shard.keep_journal(UNIX_MS));
        Durable { world, under_way: vec![Vec::new(); usize::from(shards)] }
    }

    /// Takes what is to be written.
    fn write(&mut self) {
        for (shard, under_way) in self.world.shards.iter_mut().zip(&mut self.under_way) {
            while let Some(job) = shard.next_job() {
                if let JournalJob::Commit { number, .. } = job {
                    under_way.push(number);
                }
            }
        }
    }

    /// Makes everything durable, and what follows from that.
    fn commit(&mut self) {
        loop {
            self.write();
            let now = self.world.now;
            let mut any = false;
            for (shard, under_way) in self.world.shards.iter_mut().zip(&mut self.under_way) {
                any |= !under_way.is_empty();
                under_way.drain(..).for_each(|number| shard.committed(now, number, 1));
            }
            self.world.settle();
            if !any {
                return;
            }
        }
    }

    fn client(&mut self, version: Version, client_id: &str, expiry: u32) -> Client {
        let properties = Properties { session_expiry: (version.is_v5() && expiry > 0).then_some(expiry), ..Properties::default() };
        let client = self.world.open();
        self.world.send_connect(client, &Connect { clean_start: expiry == 0, properties, ..connect(version, client_id) });
        self.commit();
        assert!(self.world.take(client).starts_with(&[0x20]), "CONNACK");
        client
    }

    fn send_subscribe(&mut self, client: Client, version: Version, filter: &str, qos: QoS) {
        let entry = SubscribeEntry { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } };
        let mut bytes = Vec::new();
        encode::subscribe(&mut bytes, version, 1, &[entry], &Properties::default());
        self.world.send(client, &bytes);
    }

    fn subscribe(&mut self, client: Client, version: Version, filter: &str, qos: QoS) {
        self.send_subscribe(client, version, filter, qos);
        self.commit();
        assert!(self.world.take(client).starts_with(&[0x90]), "SUBACK");
    }

    fn publish(&mut self, client: Client, version: Version, topic: &str, qos: QoS, packet_id: u16) {
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, version, &PublishOut { qos, packet_id, ..PublishOut::new(topic, b"x") });
        self.world.send(client, &bytes);
        self.write();
        self.world.settle();
    }

    fn take(&mut self, client: Client) -> Vec<u8> {
        self.world.take(client)
    }
}

fn ack(kind: PacketType, packet_id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::ack(&mut bytes, Version::V5, kind, packet_id, ReasonCode::SUCCESS, &Properties::default());
    bytes
}

/// An acknowledgement waits for the disk where a lasting session gets the message, and only there; with one shard and over two.
#[test]
fn a_puback_waits_for_what_it_promises() {
    for shards in [1, 2, 3] {
        let mut broker = Durable::new(shards, &Config::default());
        let lasting = ["a", "b", "c", "d"].map(|name| broker.client(Version::V5, name, 100));
        lasting.into_iter().for_each(|client| broker.subscribe(client, Version::V5, "lasting/+", QoS::AtLeastOnce));
        let passing = ["e", "f", "g", "h"].map(|name| broker.client(Version::V311, name, 0));
        passing.into_iter().for_each(|client| broker.subscribe(client, Version::V311, "+/x", QoS::AtLeastOnce));
        let publisher = broker.client(Version::V5, "publisher", 0);
        broker.publish(publisher, Version::V5, "passing/x", QoS::AtLeastOnce, 1);
        assert_eq!(broker.take(publisher), ack(PacketType::Puback, 1), "nothing of it is to last");
        broker.publish(publisher, Version::V5, "lasting/x", QoS::AtLeastOnce, 2);
        assert_eq!(broker.take(publisher), b"", "it is not durable yet");
        // Neither is what others publish meanwhile held up by it.
        let other = broker.client(Version::V5, "other", 0);
        broker.publish(publisher, Version::V5, "lasting/x", QoS::AtLeastOnce, 3);
        broker.take(publisher);
        broker.publish(other, Version::V5, "passing/x", QoS::AtLeastOnce, 1);
        assert_eq!(broker.take(other), ack(PacketType::Puback, 1));
        assert_eq!(broker.take(publisher), b"");
        broker.commit();
        assert_eq!(broker.take(publisher), ack(PacketType::Puback, 3));
    }
}

#[test]
fn session_suback_pubrel_and_pubcomp_wait_for_their_records() {
    let mut broker = Durable::new(1, &Config::default());
    let client = broker.world.open();
    let properties = Properties { session_expiry: Some(9), ..Properties::default() };
    broker.world.send_connect(client, &Connect { clean_start: false, properties, ..connect(Version::V5, "c") });
    assert_eq!(broker.take(client), b"", "CONNACK promises a session");
    broker.commit();
    assert!(broker.take(client).starts_with(&[0x20]));
    broker.send_subscribe(client, Version::V5, "t", QoS::ExactlyOnce);
    assert_eq!(broker.take(client), b"", "SUBACK promises a subscription");
    broker.commit();
    assert!(broker.take(client).starts_with(&[0x90]));
    // The client's own message comes back to it; nothing of the exchange is sent before it can be gone on with.
    broker.publish(client, Version::V5, "t", QoS::ExactlyOnce, 7);
    assert_eq!(broker.take(client), b"");
    broker.commit();
    let bytes = broker.take(client);
    assert!(bytes.ends_with(&ack(PacketType::Pubrec, 7)) || bytes.starts_with(&ack(PacketType::Pubrec, 7)), "{bytes:02x?}");
    broker.world.send(client, &ack(PacketType::Pubrel, 7));
    assert_eq!(broker.take(client), b"", "PUBCOMP promises that the identifier is free");
    broker.commit();
    assert_eq!(broker.take(client), ack(PacketType::Pubcomp, 7));
    broker.world.send(client, &ack(PacketType::Pubrec, 1));
    assert_eq!(broker.take(client), b"", "PUBREL promises that the message does not come again");
    broker.commit();
    assert_eq!(broker.take(client), ack(PacketType::Pubrel, 1));
}

#[test]
fn durability_is_what_topic_listener_and_storage_say_in_this_order() {
    let topic = |filter: &str, durability| TopicDurability { filter: filter.to_owned(), durability };
    let mut config = Config::default();
    config.storage.durability = Durability::Memory;
    config.storage.topics = vec![topic("alarms/#", Durability::Commit), topic("+/quick", Durability::Memory)];
    config.listeners = vec![
        Listener { durability: Some(Durability::Commit), ..Listener::on(parse_address("1").expect("a port")) },
        Listener::on(parse_address("2").expect("a port")),
    ];
    for shards in [1, 2] {
        let mut broker = Durable::new(shards, &config);
        for name in ["a", "b", "c"] {
            let client = broker.client(Version::V5, name, 100);
            broker.subscribe(client, Version::V5, "#", QoS::AtLeastOnce);
        }
        for (listener, topic, waits) in [
            (0, "x", true),
            (0, "x/quick", false),
            (0, "alarms/quick", true),
            (1, "x", false),
            (1, "x/quick", false),
            (1, "alarms/x", true),
        ] {
            let publisher = broker.world.open_on(0, listener);
            broker.world.send_connect(publisher, &connect(Version::V5, "publisher"));
            broker.commit();
            broker.take(publisher);
            broker.publish(publisher, Version::V5, topic, QoS::AtLeastOnce, 1);
            assert_eq!(broker.take(publisher).is_empty(), waits, "listener {listener}, {topic}, {shards} shards");
            broker.commit();
        }
    }
}

/// While the disk takes nothing, what it would have to keep is refused, and only that.
#[test]
fn what_cannot_be_kept_is_refused_until_it_can() {
    let mut broker = Durable::new(1, &Config::default());
    let lasting = broker.client(Version::V5, "lasting", 100);
    broker.subscribe(lasting, Version::V5, "t/#", QoS::AtLeastOnce);
    let passing = broker.client(Version::V5, "passing", 0);
    broker.subscribe(passing, Version::V5, "u", QoS::AtLeastOnce);
    let publisher = broker.client(Version::V5, "publisher", 0);
    let old = broker.client(Version::V311, "old", 0);
    broker.publish(publisher, Version::V5, "t", QoS::AtLeastOnce, 1);
    broker.world.shards.iter_mut().for_each(Shard::commit_failing);
    broker.publish(publisher, Version::V5, "u", QoS::AtLeastOnce, 2);
    broker.publish(publisher, Version::V5, "t", QoS::AtLeastOnce, 3);
    let other = broker.client_now("other");
    broker.publish(other, Version::V5, "t", QoS::AtLeastOnce, 4);
    assert_eq!(broker.take(other), [0x40, 3, 0, 4, ReasonCode::QUOTA_EXCEEDED.0]);
    // 3.x cannot be told: its message is not acknowledged.
    broker.publish(old, Version::V311, "t", QoS::AtLeastOnce, 5);
    broker.commit();
    assert_eq!(broker.take(old), b"");
    // What had been taken before is acknowledged now, in its order, and not what was refused.
    let expected = [ack(PacketType::Puback, 1), ack(PacketType::Puback, 2), vec![0x40, 3, 0, 3, ReasonCode::QUOTA_EXCEEDED.0]].concat();
    assert_eq!(broker.take(publisher), expected);
    broker.publish(other, Version::V5, "t", QoS::AtLeastOnce, 6);
    broker.commit();
    assert_eq!(broker.take(other), ack(PacketType::Puback, 6));
}

/// A log that is as long as it may be is a full disk, until what was delivered has given its room back.
#[test]
fn a_log_of_its_full_length_takes_no_more_until_messages_are_delivered() {
    const QUOTA: u64 = 100_000;
    let mut broker = Durable::new(1, &Config::default());
    broker.world.shards[0].limit_journal(QUOTA);
    let lasting = broker.client(Version::V5, "lasting", 100);
    broker.subscribe(lasting, Version::V5, "t/#", QoS::AtLeastOnce);
    let publisher = broker.client(Version::V5, "publisher", 0);
    let answer = |broker: &mut Durable, packet_id, payload: &[u8]| {
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, Version::V5, &PublishOut { qos: QoS::AtLeastOnce, packet_id, ..PublishOut::new("t", payload) });
        broker.world.send(publisher, &bytes);
        broker.commit();
        broker.take(publisher)
    };
    let taken = (1..).take_while(|&id| answer(&mut broker, id, &[7; 1_000]) == ack(PacketType::Puback, id)).count() as u16;
    assert!((60..=110).contains(&taken), "{taken} messages of 1,000 bytes were taken");
    assert_eq!(answer(&mut broker, 1, b"small"), [0x40, 3, 0, 1, ReasonCode::QUOTA_EXCEEDED.0]);
    // Its client acknowledges them all; the log is written anew without them.
    for id in 1..=taken {
        broker.world.send(lasting, &ack(PacketType::Puback, id));
        broker.commit();
    }
    assert_eq!(answer(&mut broker, 2, b"again"), ack(PacketType::Puback, 2));
}

impl Durable {
    /// A client whose session ends with it: it is let in although nothing can be written.
    fn client_now(&mut self, client_id: &str) -> Client {
        self.world.connect(&connect(Version::V5, client_id))
    }
}
