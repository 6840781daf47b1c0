//! Messages that cross from shard to shard in runs: whoever subscribes gets all of them, in order, whatever protocol it speaks.

#[path = "support/world.rs"]
mod world;

use ringmq::broker::home_of;
use ringmq::config::Config;
use ringmq::mqtt::{Packet, Properties, PublishOut, QoS, SubscribeEntry, SubscribeOptions, Version, encode};
use world::{Client, World, connect, packets};

const SHARDS: u16 = 2;

fn living_on(shard: u16, name: &str) -> String {
    (0..).map(|attempt| format!("{name}{attempt}")).find(|client_id| home_of(client_id, SHARDS).0 == shard).expect("some do")
}

fn subscriber(world: &mut World, version: Version, name: &str, subscription_id: Option<u32>) -> Client {
    let client = world.connect(&connect(version, &living_on(1, name)));
    let mut bytes = Vec::new();
    let entry = SubscribeEntry { filter: "news/+", options: SubscribeOptions::default() };
    let properties = Properties { subscription_id, ..Properties::default() };
    encode::subscribe(&mut bytes, version, 1, &[entry], &properties);
    world.send(client, &bytes);
    world.take(client);
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
    let mut subscribers = vec![
        (Version::V311, subscriber(&mut world, Version::V311, "three", None)),
        (Version::V5, subscriber(&mut world, Version::V5, "five", None)),
    ];
    if with_identifier {
        subscribers.push((Version::V5, subscriber(&mut world, Version::V5, "identified", Some(7))));
    }
    let publisher = world.connect(&connect(publisher_version, &living_on(0, "publisher")));
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

/// [MQTT-4.6.0-5]
#[test]
fn a_run_that_crosses_reaches_everybody_in_order() {
    check(Version::V311, false);
    check(Version::V5, false);
}

/// A subscriber that is sent something else than the others, a subscription identifier, takes the run apart.
#[test]
fn a_run_that_crosses_is_taken_apart_where_subscribers_differ() {
    check(Version::V311, true);
    check(Version::V5, true);
}
