//! QoS 2 messages that some sessions take and others refuse, and that are sent again: because the broker died before its answer, or because 3.x knows no
//! answer that refuses.

use ringmq::broker::{JournalJob, ShardId, home_of};
use ringmq::config::{Config, Limits};
use ringmq::mqtt::{Connect, Packet, Properties, PublishOut, QoS, ReasonCode, Version};

use super::world::{Client, LATE_MS, V5, V311, World, ack, ack_with, connect, message, packets, publish, subscribe};
use ringmq::mqtt::SubscribeOptions;

/// A broker whose queues hold one message, and the logs of its shards.
struct Durable {
    world: World,
    logs: Vec<Vec<Vec<u8>>>,
    /// Shards whose log takes nothing any more: what they ask for is lost in a crash.
    stuck: Option<usize>,
}

impl Durable {
    fn new(shards: u16) -> Durable {
        let mut config = Config::default();
        config.limits.max_queued_messages = 1;
        let mut world = World::new(shards, &config);
        world.shards.iter_mut().for_each(|shard| shard.keep_journal(0));
        Durable { world, logs: vec![Vec::new(); usize::from(shards)], stuck: None }
    }

    /// Makes durable what the shards ask for, and what follows from that.
    fn commit(&mut self) {
        let mut more = true;
        while std::mem::take(&mut more) {
            for shard in (0..self.logs.len()).filter(|&shard| self.stuck != Some(shard)) {
                // What an earlier run left is written anew in some steps, and not each of them makes a commit.
                for job in (0..8).filter_map(|_| self.world.shards[shard].next_job()).collect::<Vec<_>>() {
                    let JournalJob::Commit { number, records } = job else { continue };
                    self.logs[shard].push(records);
                    self.world.shards[shard].committed(self.world.now, number, 1);
                    more = true;
                }
            }
            self.world.settle();
        }
    }

    /// The broker dies and starts again, with another number of shards perhaps.
    fn crash(&mut self, shards: u16) {
        let old = std::mem::replace(self, Durable::new(shards));
        for shard in &mut self.world.shards {
            shard.restore(self.world.now, &old.logs);
        }
        self.commit();
    }

    /// A client whose session is kept comes, or comes back.
    fn come(&mut self, version: Version, client_id: &str) -> Client {
        let client = self.world.open();
        let properties = Properties { session_expiry: Some(u32::MAX), ..Properties::default() };
        self.world.send_connect(client, &Connect { clean_start: false, properties, ..connect(version, client_id) });
        self.commit();
        client
    }

    fn send(&mut self, client: Client, bytes: &[u8]) -> Vec<u8> {
        self.world.send(client, bytes);
        self.commit();
        self.world.take(client)
    }

    fn subscriber(&mut self, client_id: &str, filter: &str) -> Client {
        let client = self.come(V5, client_id);
        self.world.take(client);
        let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        self.send(client, &subscribe(V5, 1, &[(filter, options)], None));
        client
    }

    /// A session that is not connected and has no room for one more message.
    fn full(&mut self, client_id: &str, filter: &str) {
        let client = self.subscriber(client_id, filter);
        self.world.vanish(client);
        let publisher = self.world.client(V5, "passer-by");
        self.send(publisher, &publish(V5, message(filter, b"fills the queue", QoS::AtLeastOnce)));
    }

    /// The messages that a client gets, and acknowledges as far as needed to have them out of the way.
    fn receive(&mut self, client: Client) -> Vec<Vec<u8>> {
        self.commit();
        let mut got = Vec::new();
        loop {
            let bytes = self.world.take(client);
            if bytes.is_empty() {
                return got;
            }
            for packet in packets(V5, &bytes) {
                match packet {
                    Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                        got.push(publish.payload.to_vec());
                        self.world.send(client, &ack(0x50, publish.packet_id));
                    }
                    Packet::Publish(publish) => self.world.send(client, &ack(0x40, publish.packet_id)),
                    Packet::Pubrel(ack_) => self.world.send(client, &ack(0x70, ack_.packet_id)),
                    _ => {}
                }
            }
            self.commit();
        }
    }
}

/// A client identifier whose home is this shard of two.
fn at_home(name: &str, shard: u16) -> String {
    (0..).map(|number| format!("{name}-{number}")).find(|name| home_of(name, 2) == ShardId(shard)).expect("one of them")
}

fn news(dup: bool) -> PublishOut<'static> {
    PublishOut { dup, ..message("t", b"news", QoS::ExactlyOnce) }
}

/// Where the publisher lives with the session that takes the message and the one that refuses it, and apart from them.
const PLACES: [[u16; 3]; 4] = [[0, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 1]];

#[test]
fn after_a_crash_a_repetition_comes_to_those_who_had_refused_it_alone() {
    for [publisher, taker, refuser] in PLACES {
        for shards_after in [2, 3] {
            let names = [at_home("publisher", publisher), at_home("taker", taker), at_home("refuser", refuser)];
            let mut broker = Durable::new(2);
            let taker = broker.subscriber(&names[1], "t");
            broker.full(&names[2], "t");
            assert_eq!(broker.world.take(taker).len(), packet_len(b"fills the queue", QoS::AtLeastOnce));
            let publisher = broker.come(V5, &names[0]);
            broker.world.take(publisher);
            let answer = broker.send(publisher, &publish(V5, news(false)));
            assert_eq!(answer, ack_with(0x50, 1, ReasonCode::QUOTA_EXCEEDED));
            broker.crash(shards_after);

            let taker = broker.come(V5, &names[1]);
            let refuser = broker.come(V5, &names[2]);
            assert_eq!((broker.receive(taker), broker.receive(refuser)), (vec![b"news".to_vec()], vec![]), "{names:?}");
            let publisher = broker.come(V5, &names[0]);
            broker.world.take(publisher);
            // The answer never came: the client sends its message again.
            assert_eq!(broker.send(publisher, &publish(V5, news(true))), ack(0x50, 1));
            assert_eq!((broker.receive(taker), broker.receive(refuser)), (vec![], vec![b"news".to_vec()]), "{names:?}");
            assert_eq!(broker.send(publisher, &ack(0x62, 1)), ack(0x70, 1));
            // What comes under the identifier now is another message, even if it looks like that one.
            assert_eq!(broker.send(publisher, &publish(V5, news(false))), ack(0x50, 1));
            assert_eq!((broker.receive(taker), broker.receive(refuser)), (vec![b"news".to_vec()], vec![b"news".to_vec()]), "{names:?}");
        }
    }
}

fn packet_len(payload: &[u8], qos: QoS) -> usize {
    publish(V5, message("t", payload, qos)).len()
}

#[test]
fn a_message_after_one_that_was_refused_is_a_new_one() {
    for [publisher, taker, refuser] in PLACES {
        let names = [at_home("publisher", publisher), at_home("taker", taker), at_home("refuser", refuser)];
        let mut broker = Durable::new(2);
        let taker = broker.subscriber(&names[1], "t");
        broker.full(&names[2], "t");
        let publisher = broker.come(V5, &names[0]);
        broker.world.take(publisher);
        for again in 0..2 {
            broker.receive(taker);
            let answer = broker.send(publisher, &publish(V5, news(false)));
            assert_eq!(answer, ack_with(0x50, 1, ReasonCode::QUOTA_EXCEEDED));
            assert_eq!(broker.receive(taker), [b"news"], "message {again}, {names:?}");
        }
        broker.crash(2);
        let (taker, refuser, publisher) = (broker.come(V5, &names[1]), broker.come(V5, &names[2]), broker.come(V5, &names[0]));
        for client in [taker, refuser, publisher] {
            broker.receive(client);
        }
        assert_eq!(broker.send(publisher, &publish(V5, news(false))), ack(0x50, 1));
        assert_eq!((broker.receive(taker), broker.receive(refuser)), (vec![b"news".to_vec()], vec![b"news".to_vec()]), "{names:?}");
    }
}

/// [MQTT-4.3.3-2] of 3.1.1: a publisher that cannot be told sends its message again, and those who have it do not get it twice.
#[test]
fn a_publisher_of_3_x_that_was_let_go_repeats_to_those_who_had_refused_alone() {
    for [publisher, taker, refuser] in PLACES {
        let names = [at_home("publisher", publisher), at_home("taker", taker), at_home("refuser", refuser)];
        let mut broker = Durable::new(2);
        broker.full(&names[2], "t");
        // This one is held, and nothing more may be.
        let other = broker.come(V311, "other");
        broker.world.take(other);
        assert_eq!(broker.send(other, &publish(V311, message("t", b"held", QoS::AtLeastOnce))), b"");
        let taker = broker.subscriber(&names[1], "t");
        let publisher = broker.come(V311, &names[0]);
        broker.world.take(publisher);
        assert_eq!(broker.send(publisher, &publish(V311, news(false))), b"");
        assert_eq!(broker.receive(taker), [b"news"]);
        broker.world.pass(u64::from(Limits::default().full_queue_patience_ms) + LATE_MS);
        assert!(broker.world.is_closed(publisher));

        let refuser = broker.come(V5, &names[2]);
        assert_eq!(broker.receive(refuser), Vec::<Vec<u8>>::new());
        let publisher = broker.come(V311, &names[0]);
        broker.world.take(publisher);
        assert_eq!(broker.send(publisher, &publish(V311, news(true))), ack(0x50, 1));
        assert_eq!((broker.receive(taker), broker.receive(refuser)), (vec![], vec![b"news".to_vec()]), "{names:?}");
    }
}

/// The publisher's shard had written that its own subscriber has the message, and the shard of the member nothing.
#[test]
fn a_repetition_reaches_a_shared_subscription_whose_member_had_not_got_it() {
    let names = [at_home("publisher", 0), at_home("taker", 0), at_home("member", 1)];
    let mut broker = Durable::new(2);
    broker.subscriber(&names[1], "t");
    broker.subscriber(&names[2], "$share/group/t");
    let publisher = broker.come(V5, &names[0]);
    broker.world.take(publisher);
    broker.stuck = Some(1);
    assert_eq!(broker.send(publisher, &publish(V5, news(false))), b"");
    broker.crash(2);
    let (taker, member, publisher) = (broker.come(V5, &names[1]), broker.come(V5, &names[2]), broker.come(V5, &names[0]));
    assert_eq!((broker.receive(taker), broker.receive(member)), (vec![b"news".to_vec()], vec![]));
    broker.world.take(publisher);
    assert_eq!(broker.send(publisher, &publish(V5, news(true))), ack(0x50, 1));
    assert_eq!((broker.receive(taker), broker.receive(member)), (vec![], vec![b"news".to_vec()]));
}
