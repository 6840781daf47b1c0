//! What the clients of a listener are granted: announced in CONNACK, and held.

use ringmq::config::{Config, Listener, parse_address};
use ringmq::metrics::RefuseReason;
use ringmq::mqtt::{
    Connack, Connect, Packet, Properties, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, Version, Will, encode,
};

use super::scram_client::goodbye;
use super::world::{Client, World, connect, packet, packets};

/// Listener 0 grants everything, listener 1 what `change` leaves.
fn config(change: impl FnOnce(&mut Listener)) -> Config {
    let mut special = Listener::on(parse_address("2").expect("a port"));
    change(&mut special);
    Config { listeners: vec![Listener::on(parse_address("1").expect("a port")), special], ..Config::default() }
}

fn world(change: impl FnOnce(&mut Listener)) -> World {
    World::new(1, &config(change))
}

/// A client on listener 1.
fn special(world: &mut World, version: Version) -> Client {
    let client = world.open_on(0, 1);
    world.send_connect(client, &connect(version, "special"));
    assert!(world.take(client).starts_with(&[0x20]) && !world.is_closed(client));
    client
}

fn announced(world: &mut World, listener: u16, connect: &Connect<'_>, look: impl FnOnce(&Connack<'_>)) {
    let client = world.open_on(0, listener);
    world.send_connect(client, connect);
    let bytes = world.take(client);
    let Packet::Connack(connack) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
    look(&connack);
}

fn publish(version: Version, qos: QoS, retain: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, version, &PublishOut { qos, retain, packet_id: 1, ..PublishOut::new("a", b"x") });
    bytes
}

fn subscribe(version: Version, filter: &str, qos: QoS, subscription_id: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let entry = SubscribeEntry { filter, options: SubscribeOptions { qos, ..SubscribeOptions::default() } };
    encode::subscribe(&mut bytes, version, 1, &[entry], &Properties { subscription_id, ..Properties::default() });
    bytes
}

fn suback_code(world: &mut World, client: Client, version: Version) -> u8 {
    let bytes = world.take(client);
    match packet(version, &bytes) {
        Packet::Suback(suback) => suback.codes[0],
        other => panic!("no SUBACK: {other:?}"),
    }
}

/// [MQTT-3.2.2-9] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
#[test]
fn a_client_is_told_what_its_listener_grants_and_only_that() {
    let mut world = world(|listener| {
        listener.max_packet_bytes = Some(5_000);
        listener.receive_maximum = Some(7);
        listener.topic_alias_maximum = Some(0);
        listener.max_keep_alive_s = Some(60);
        listener.max_qos = 1;
        listener.retain_available = false;
        listener.wildcard_available = false;
        listener.shared_available = false;
        listener.subscription_ids_available = false;
    });
    let asks = Connect { keep_alive: 100, ..connect(Version::V5, "c") };
    announced(&mut world, 1, &asks, |connack| {
        let properties = connack.properties;
        assert_eq!((properties.maximum_packet_size, properties.receive_maximum), (Some(5_000), Some(7)));
        assert_eq!((properties.topic_alias_maximum, properties.server_keep_alive), (None, Some(60)));
        assert_eq!((properties.maximum_qos, properties.retain_available), (Some(QoS::AtLeastOnce), Some(false)));
        assert_eq!((properties.wildcard_available, properties.shared_available), (Some(false), Some(false)));
        assert_eq!(properties.subscription_ids_available, Some(false));
    });
    announced(&mut world, 0, &asks, |connack| {
        let properties = connack.properties;
        assert_eq!((properties.maximum_packet_size, properties.receive_maximum), (Some(16 * 1024 * 1024), Some(1_024)));
        assert_eq!((properties.topic_alias_maximum, properties.server_keep_alive), (Some(64), None));
        assert_eq!((properties.maximum_qos, properties.retain_available, properties.wildcard_available), (None, None, None));
        assert_eq!((properties.shared_available, properties.subscription_ids_available), (None, None));
    });
}

#[test]
fn the_terms_move_with_the_connection() {
    let mut world = World::new(2, &config(|listener| listener.receive_maximum = Some(7)));
    for id in ["a", "b", "c", "d", "e"] {
        announced(&mut world, 1, &connect(Version::V5, id), |connack| assert_eq!(connack.properties.receive_maximum, Some(7)));
    }
}

/// [MQTT-3.2.2-11]
#[test]
fn a_publish_above_the_highest_qos_ends_the_connection() {
    for (max_qos, allowed, refused) in [
        (0, &[QoS::AtMostOnce][..], &[QoS::AtLeastOnce, QoS::ExactlyOnce][..]),
        (1, &[QoS::AtMostOnce, QoS::AtLeastOnce], &[QoS::ExactlyOnce]),
        (2, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce], &[]),
    ] {
        for version in [Version::V311, Version::V5] {
            let mut world = world(|listener| listener.max_qos = max_qos);
            let client = special(&mut world, version);
            for &qos in allowed {
                world.send(client, &publish(version, qos, true));
                assert!(!world.is_closed(client), "{max_qos} {qos:?}");
            }
            for (index, &qos) in refused.iter().enumerate() {
                let client = special(&mut world, version);
                world.send(client, &publish(version, qos, false));
                match version {
                    Version::V5 => assert_eq!(goodbye(&mut world, client), ReasonCode::QOS_NOT_SUPPORTED),
                    _ => assert!(world.is_closed(client) && world.take(client).is_empty()),
                }
                assert_eq!(world.refused(RefuseReason::Qos), index as u64 + 1);
            }
        }
    }
}

/// [MQTT-3.2.2-14]
#[test]
fn a_retained_publish_where_there_are_none_ends_the_connection() {
    for version in [Version::V311, Version::V5] {
        let mut world = world(|listener| listener.retain_available = false);
        let client = special(&mut world, version);
        world.send(client, &publish(version, QoS::ExactlyOnce, false));
        assert!(!world.is_closed(client));
        world.take(client);
        world.send(client, &publish(version, QoS::AtMostOnce, true));
        match version {
            Version::V5 => assert_eq!(goodbye(&mut world, client), ReasonCode::RETAIN_NOT_SUPPORTED),
            _ => assert!(world.is_closed(client)),
        }
        assert_eq!(world.refused(RefuseReason::Retain), 1);
        assert_eq!(world.shards[0].snapshot().gauges.retained_messages, 0);
    }
}

#[test]
fn a_listener_without_retained_messages_sends_none() {
    let mut world = world(|listener| listener.retain_available = false);
    let general = world.connect(&connect(Version::V5, "general"));
    world.send(general, &publish(Version::V5, QoS::AtMostOnce, true));
    world.send(general, &subscribe(Version::V5, "a", QoS::AtMostOnce, None));
    let bytes = world.take(general);
    assert!(matches!(packets(Version::V5, &bytes)[..], [Packet::Suback(_), Packet::Publish(_)]), "{bytes:?}");
    let client = special(&mut world, Version::V5);
    world.send(client, &subscribe(Version::V5, "a", QoS::AtMostOnce, None));
    assert_eq!(suback_code(&mut world, client, Version::V5), 0);
}

/// [MQTT-3.2.2-12] [MQTT-3.2.2-13]
#[test]
fn a_will_that_could_not_be_published_is_refused_with_the_connection() {
    for (qos, retain, why, expected) in [
        (QoS::ExactlyOnce, false, RefuseReason::Qos, ReasonCode::QOS_NOT_SUPPORTED),
        (QoS::AtMostOnce, true, RefuseReason::Retain, ReasonCode::RETAIN_NOT_SUPPORTED),
    ] {
        let mut world = world(|listener| (listener.max_qos, listener.retain_available) = (1, false));
        let will = Will { topic: "w", payload: b"", qos, retain, properties: Properties::default() };
        announced(&mut world, 1, &Connect { will: Some(will.clone()), ..connect(Version::V5, "c") }, |connack| {
            assert_eq!(connack.code, expected.0);
        });
        let client = world.open_on(0, 1);
        world.send_connect(client, &Connect { will: Some(will), ..connect(Version::V311, "d") });
        assert!(world.is_closed(client) && world.take(client).is_empty());
        assert_eq!((world.sessions(), world.refused(why)), (0, 2));
    }
}

/// [MQTT-3.2.2-10]
#[test]
fn a_subscription_gets_no_more_than_the_highest_qos_and_no_error() {
    for (version, asked, granted) in
        [(Version::V5, QoS::ExactlyOnce, 1), (Version::V311, QoS::ExactlyOnce, 1), (Version::V5, QoS::AtMostOnce, 0)]
    {
        let mut world = world(|listener| listener.max_qos = 1);
        let client = special(&mut world, version);
        world.send(client, &subscribe(version, "a", asked, None));
        assert_eq!(suback_code(&mut world, client, version), granted);
        let general = world.connect(&connect(Version::V5, "general"));
        world.send(general, &publish(Version::V5, QoS::ExactlyOnce, false));
        let bytes = world.take(client);
        assert!(matches!(packet(version, &bytes), Packet::Publish(publish) if publish.qos as u8 == granted), "{bytes:?}");
    }
}

/// 5.0 sections 3.2.2.3.11 to 3.2.2.3.13
/// [MQTT-3.8.3-2] of 3.1.1
#[test]
fn a_subscription_of_a_kind_that_is_not_available_is_refused() {
    type Change = fn(&mut Listener);
    let cases: [(Change, &str, Option<u32>, RefuseReason, ReasonCode); 6] = [
        (|l| l.wildcard_available = false, "a/+", None, RefuseReason::Wildcards, ReasonCode::WILDCARDS_NOT_SUPPORTED),
        (|l| l.wildcard_available = false, "#", None, RefuseReason::Wildcards, ReasonCode::WILDCARDS_NOT_SUPPORTED),
        (|l| l.wildcard_available = false, "$share/g/a/#", None, RefuseReason::Wildcards, ReasonCode::WILDCARDS_NOT_SUPPORTED),
        (|l| l.shared_available = false, "$share/g/a", None, RefuseReason::Shared, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        (|l| l.shared_available = false, "$share/g/#", None, RefuseReason::Shared, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        (|l| l.subscription_ids_available = false, "a", Some(1), RefuseReason::SubscriptionIds, ReasonCode::SUBSCRIPTION_IDS_NOT_SUPPORTED),
    ];
    for (change, filter, subscription_id, why, expected) in cases {
        let mut world = world(change);
        let client = special(&mut world, Version::V5);
        world.send(client, &subscribe(Version::V5, filter, QoS::AtMostOnce, subscription_id));
        assert_eq!(goodbye(&mut world, client), expected, "{filter}");
        assert_eq!((world.refused(why), world.counters().refused.iter().sum::<u64>()), (1, 1));
        assert_eq!(world.shards[0].snapshot().gauges.subscriptions, 0);
        if subscription_id.is_none() {
            let client = special(&mut world, Version::V311);
            world.send(client, &subscribe(Version::V311, filter, QoS::AtMostOnce, None));
            assert_eq!(suback_code(&mut world, client, Version::V311), 0x80, "{filter}");
            assert!(!world.is_closed(client));
        }
        // The same is fine on the other listener, and a plain filter on this one.
        let general = world.connect(&connect(Version::V5, "general"));
        world.send(general, &subscribe(Version::V5, filter, QoS::AtMostOnce, subscription_id));
        assert_eq!(suback_code(&mut world, general, Version::V5), 0);
        let client = special(&mut world, Version::V5);
        world.send(client, &subscribe(Version::V5, "plain", QoS::AtMostOnce, None));
        assert_eq!(suback_code(&mut world, client, Version::V5), 0);
    }
}

/// [MQTT-3.3.4-7] [MQTT-3.3.2-9] [MQTT-3.2.2-15]
#[test]
fn receive_maximum_aliases_and_packet_size_are_those_of_the_listener() {
    let mut small = world(|listener| {
        (listener.receive_maximum, listener.topic_alias_maximum, listener.max_packet_bytes) = (Some(1), Some(2), Some(64));
    });
    let client = special(&mut small, Version::V5);
    for packet_id in [1, 2] {
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, Version::V5, &PublishOut { qos: QoS::ExactlyOnce, packet_id, ..PublishOut::new("a", b"x") });
        small.take(client);
        small.send(client, &bytes);
    }
    assert_eq!(goodbye(&mut small, client), ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);

    let client = special(&mut small, Version::V5);
    small.send(client, &[0x30, 7, 0, 1, b'a', 3, 35, 0, 2]);
    assert!(!small.is_closed(client));
    small.send(client, &[0x30, 7, 0, 1, b'a', 3, 35, 0, 3]);
    assert_eq!(goodbye(&mut small, client), ReasonCode::TOPIC_ALIAS_INVALID);

    for payload in [vec![0; 58], vec![0; 59]] {
        let client = special(&mut small, Version::V5);
        // Behind another one, so that the run of QoS 0 publishes sees it, too.
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, Version::V5, &PublishOut::new("a", b"x"));
        encode::publish(&mut bytes, Version::V5, &PublishOut::new("a", &payload));
        small.send(client, &bytes);
        match bytes.len() - 7 {
            64 => assert!(!small.is_closed(client)),
            65 => assert_eq!(goodbye(&mut small, client), ReasonCode::PACKET_TOO_LARGE),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_connect_may_not_be_larger_than_any_packet_of_its_listener() {
    let mut world = world(|listener| listener.max_packet_bytes = Some(64));
    let long = "c".repeat(60);
    for (listener, closed) in [(0, false), (1, true)] {
        let client = world.open_on(0, listener);
        world.send_connect(client, &connect(Version::V5, &long));
        assert_eq!(world.is_closed(client), closed);
    }
}

#[test]
fn a_client_keeps_the_terms_that_it_was_told() {
    let mut world = world(|listener| listener.max_qos = 2);
    let client = special(&mut world, Version::V5);
    let changed = config(|listener| (listener.max_qos, listener.receive_maximum) = (0, Some(1)));
    world.set_admission(ringmq::broker::Admission::new(&changed));
    world.send(client, &publish(Version::V5, QoS::ExactlyOnce, false));
    assert!(!world.is_closed(client));
    let client = special(&mut world, Version::V5);
    world.send(client, &publish(Version::V5, QoS::ExactlyOnce, false));
    assert_eq!(goodbye(&mut world, client), ReasonCode::QOS_NOT_SUPPORTED);
}
