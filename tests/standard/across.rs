//! Messages that cross from shard to shard, in runs and among very many filters: whoever subscribes gets all of them, in order, whatever protocol it speaks.

use ringmq::broker::home_of;
use ringmq::config::Config;
use ringmq::mqtt::{Packet, PublishOut, QoS, SubscribeOptions, Version, encode};

use super::world::{Client, PINGREQ, V5, V311, World, packets};

const SHARDS: u16 = 2;

fn living_on(shard: u16, name: &str) -> String {
    (0..).map(|attempt| format!("{name}{attempt}")).find(|client_id| home_of(client_id, SHARDS).0 == shard).expect("some do")
}

fn subscriber(world: &mut World, version: Version, name: &str, subscription_id: Option<u32>) -> Client {
    let client = world.client(version, &living_on(1, name));
    world.subscribe_with(client, version, "news/+", SubscribeOptions::default(), subscription_id);
    client
}

/// Numbered messages in one piece, as a busy publisher sends them: twelve to one topic, then some to two topics in turn.
fn messages(version: Version) -> (Vec<u8>, Vec<(&'static str, Vec<u8>)>) {
    let (mut bytes, mut sent) = (Vec::new(), Vec::new());
    for number in 0..20_u8 {
        let topic = if number < 12 || number % 2 == 0 { "news/a" } else { "news/b" };
        let payload = vec![number; 1 + usize::from(number) * 17];
        encode::publish(&mut bytes, version, &PublishOut::new(topic, &payload));
        sent.push((topic, payload));
    }
    (bytes, sent)
}

fn check(publisher_version: Version, with_identifier: bool) {
    let mut world = World::new(SHARDS, &Config::default());
    let mut subscribers = vec![(V311, subscriber(&mut world, V311, "three", None)), (V5, subscriber(&mut world, V5, "five", None))];
    if with_identifier {
        subscribers.push((V5, subscriber(&mut world, V5, "identified", Some(7))));
    }
    let publisher = world.client(publisher_version, &living_on(0, "publisher"));
    let (bytes, sent) = messages(publisher_version);
    world.send(publisher, &bytes);
    for (version, client) in subscribers {
        let received = world.take(client);
        let got: Vec<(String, Vec<u8>)> = packets(version, &received)
            .into_iter()
            .map(|packet| match packet {
                Packet::Publish(publish) => {
                    assert_eq!((publish.qos, publish.retain), (QoS::AtMostOnce, false));
                    (publish.topic.to_owned(), publish.payload.to_vec())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        let wanted: Vec<(String, Vec<u8>)> = sent.iter().map(|(topic, payload)| ((*topic).to_owned(), payload.clone())).collect();
        assert_eq!(got, wanted, "a subscriber of {version:?}");
    }
    let counters = world.counters();
    assert_eq!(counters.peer_messages_received, sent.len() as u64, "each message crosses once");
    assert_eq!(counters.deliveries_matched, counters.publishes_sent[0], "nothing is dropped");
}

#[test]
fn a_run_that_crosses_reaches_everybody_in_order() {
    check(V311, false);
    check(V5, false);
}

/// A subscriber that is sent something else than the others, a subscription identifier, takes the run apart.
#[test]
fn a_run_that_crosses_is_taken_apart_where_subscribers_differ() {
    check(V311, true);
    check(V5, true);
}

/// Filters for which a shard looks ahead of what it works off.
const MANY: usize = 5_000;

/// The topics of the numbered filters, scattered, in packets among which there are others; cut into two pieces anywhere.
#[test]
fn messages_among_very_many_filters_reach_everybody_in_order() {
    let filters: [fn(usize) -> String; 3] = [|n| format!("fleet/{n}/position"), |n| format!("fleet/{n}/+"), |n| format!("fleet/{n}/#")];
    for (home, filter) in [0, 1].into_iter().flat_map(|home| filters.map(|filter| (home, filter))) {
        let mut world = World::new(SHARDS, &Config::default());
        let subscriber = world.client(V311, &living_on(home, "subscriber"));
        let publisher = world.client(V311, &living_on(0, "publisher"));
        for n in 0..MANY {
            world.subscribe_with(subscriber, V311, &filter(n), SubscribeOptions::default(), None);
        }
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        for n in 0..100_usize {
            let topic = format!("fleet/{}/position", n / 2 * 2_654_435_761 % MANY);
            encode::publish(&mut bytes, V311, &PublishOut::new(&topic, &[n as u8]));
            sent.push((topic, n as u8));
            if n % 7 == 0 {
                bytes.extend_from_slice(&PINGREQ);
            }
        }
        for cut in [1, bytes.len() / 2, bytes.len() - 1] {
            world.send(publisher, &bytes[..cut]);
            world.send(publisher, &bytes[cut..]);
            let received = world.take(subscriber);
            let got = packets(V311, &received).into_iter().map(|packet| match packet {
                Packet::Publish(publish) => (publish.topic.to_owned(), publish.payload[0]),
                other => panic!("{other:?}"),
            });
            assert_eq!(got.collect::<Vec<_>>(), sent, "{} on shard {home}", filter(7));
        }
    }
}
