//! Topic aliases towards a client that allows them.

#[path = "support/one_shard.rs"]
mod one_shard;

use one_shard::OneShard;
use ringmq::broker::{ConnId, Origin};
use ringmq::config::Limits;
use ringmq::mqtt::{Connect, Packet, Properties, PublishOut, QoS, Version, decode, encode, peek};

/// A 5.0 client with this Topic Alias Maximum.
fn connect(world: &mut OneShard, client_id: &str, topic_alias_maximum: u16) -> ConnId {
    let conn = world.shard.open(0, Origin { listener: 0, peer: None }).expect("there is room");
    let mut bytes = Vec::new();
    let properties = Properties { topic_alias_maximum: Some(topic_alias_maximum), ..Properties::default() };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties,
    };
    encode::connect(&mut bytes, &connect);
    world.receive(conn, &bytes);
    conn
}

/// Topic and alias of every PUBLISH that a client gets out of these messages.
fn published(world: &mut OneShard, publisher: ConnId, subscriber: ConnId, topics: &[&str], qos: QoS) -> Vec<(String, u16)> {
    let mut bytes = Vec::new();
    for (index, topic) in topics.iter().enumerate() {
        let packet = PublishOut { qos, packet_id: index as u16 + 1, ..PublishOut::new(topic, b"x") };
        encode::publish(&mut bytes, Version::V5, &packet);
    }
    world.shard.receive(0, publisher, &bytes);
    let mut received = Vec::new();
    while let Some((conn, batch)) = world.shard.next_output() {
        if conn == subscriber {
            batch.for_each_slice(|slice| received.extend_from_slice(slice));
        }
        world.shard.sent(0, conn, batch);
    }
    let mut found = Vec::new();
    let mut rest = &received[..];
    while let Some(header) = peek(rest, u32::MAX).expect("a valid header") {
        let (packet, after) = rest.split_at(header.total_len());
        if let Packet::Publish(publish) = decode(Version::V5, header.first, &packet[header.header_len as usize..]).expect("a valid packet")
        {
            found.push((publish.topic.to_owned(), publish.properties.topic_alias));
        }
        rest = after;
    }
    found
}

fn world(maximum: u16) -> OneShard {
    OneShard::new(Limits { topic_alias_out_maximum: maximum, ..Limits::default() })
}

/// [MQTT-3.1.2-26] [MQTT-3.3.2-12]
#[test]
fn a_topic_is_named_with_its_alias_first_and_by_its_alias_then() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = world(10);
        let subscriber = connect(&mut world, "subscriber", 2);
        world.subscribe(subscriber, Version::V5, "#", QoS::ExactlyOnce);
        let publisher = world.connect("publisher", Version::V5);
        let found = published(&mut world, publisher, subscriber, &["a", "a", "b", "c", "b", "a", "c"], qos);
        let expected = [("a", 1), ("", 1), ("b", 2), ("c", 0), ("", 2), ("", 1), ("c", 0)];
        assert_eq!(found, expected.map(|(topic, alias)| (topic.to_owned(), alias)), "{qos:?}");
    }
}

/// [MQTT-3.1.2-27]
#[test]
fn a_client_that_allows_no_aliases_is_sent_none() {
    let mut world = world(10);
    let subscriber = connect(&mut world, "subscriber", 0);
    world.subscribe(subscriber, Version::V5, "#", QoS::AtLeastOnce);
    let publisher = world.connect("publisher", Version::V5);
    let found = published(&mut world, publisher, subscriber, &["a", "a"], QoS::AtMostOnce);
    assert_eq!(found, [("a".to_owned(), 0), ("a".to_owned(), 0)]);
}

/// Aliases belong to a connection [MQTT-3.3.2-7].
#[test]
fn one_clients_aliases_do_not_show_at_another() {
    let mut world = world(10);
    let with = connect(&mut world, "with", 5);
    let without = connect(&mut world, "without", 0);
    for conn in [with, without] {
        world.subscribe(conn, Version::V5, "#", QoS::AtMostOnce);
    }
    let publisher = world.connect("publisher", Version::V5);
    let found = published(&mut world, publisher, without, &["a", "a", "a"], QoS::AtMostOnce);
    assert_eq!(found, vec![("a".to_owned(), 0); 3]);
}
