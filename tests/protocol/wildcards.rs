//! Topic names and topic filters (section 4.7): what matches what.
//!
//! Subscribers of `#` see what every other test publishes, so each such test has brokers of its own.

use super::support::{Broker, Client, Connect, Markers, Publish, V5, V311, Will, on_every_configuration, packets};

fn connect(broker: &Broker, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(V5, &broker.client_id(name, shard)))
}

/// Filter, topics that it matches, topics that it does not.
type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "sensors/+/uk/london/baker_street",
        &["sensors/temperature/uk/london/baker_street", "sensors//uk/london/baker_street"],
        &["sensors/uk/london/baker_street", "sensors/a/b/uk/london/baker_street", "sensors/temperature/uk/london"],
    ),
    (
        "sensors/temperature/uk/#",
        &["sensors/temperature/uk", "sensors/temperature/uk/", "sensors/temperature/uk/london/baker_street"],
        &["sensors/temperature/ukx", "sensors/temperature", "sensors/temperature/us/london"],
    ),
    ("scores/football/SEC/TexasA&M", &["scores/football/SEC/TexasA&M"], &["scores/football/SEC/TexasA", "scores/football/sec/TexasA&M"]),
    (
        "sport/tennis/player1/#",
        &["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"],
        &["sport/tennis/player11", "sport/tennis"],
    ),
    ("sport/tennis/+", &["sport/tennis/player1", "sport/tennis/"], &["sport/tennis/player1/ranking", "sport/tennis", "/sport/tennis/x"]),
    ("sport/+", &["sport/"], &["sport", "sport/a/b"]),
    ("+/+", &["/finance", "a/b", "/"], &["a", "a/b/c", "//"]),
    ("/+", &["/finance", "/"], &["finance", "finance/", "/a/b"]),
    ("+", &["finance", "a b"], &["/finance", "finance/"]),
    ("#", &["a", "/", "a//b/", " "], &[]),
    ("+/#", &["a", "a/", "/a", "a/b/c"], &[]),
    ("/#", &["/", "/a", "//"], &["a", "a/"]),
    ("a//b", &["a//b"], &["a/b", "a/x/b", "a///b"]),
    ("a/+/+/d", &["a/b/c/d", "a///d"], &["a/b/d", "a/b/c/d/e", "a/b/c/d/"]),
    ("+/b/#", &["a/b", "/b/c", "x/b/"], &["a/c", "b", "a/x/b"]),
    ("a/", &["a/"], &["a", "a//"]),
    ("Accounts/\u{e4}\u{1F697}", &["Accounts/\u{e4}\u{1F697}"], &["Accounts/\u{e4}", "accounts/\u{e4}\u{1F697}"]),
];

/// Each row's subscriber gets the matching topics and no other.
fn check_rows(subscriber: &mut Client, publisher: &mut Client, rows: &[Row]) {
    for (filter, matching, others) in rows {
        subscriber.subscribe(filter, 1);
        for topic in *others {
            publisher.publish_to(topic, "does not match", 1);
        }
        for topic in *matching {
            for qos in [0, 1] {
                publisher.publish_to(topic, "matches", qos);
                let publish = subscriber.publish_acknowledged();
                assert_eq!((&publish.topic[..], publish.text()), (*topic, "matches"), "{filter}");
            }
        }
        subscriber.expect_silence();
        subscriber.unsubscribe(filter);
    }
}

mod table {
    use super::*;

    on_every_configuration! {
        []
        filters_match_what_the_standard_says,
    }

    /// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1] [MQTT-3.3.2-3]
    fn filters_match_what_the_standard_says(broker: &Broker) {
        for &(here, there) in broker.places() {
            check_rows(&mut connect(broker, "subscriber", here), &mut connect(broker, "publisher", there), ROWS);
        }
    }
}

mod dollar {
    use super::*;

    on_every_configuration! {
        []
        leading_wildcards_do_not_match_topics_with_a_dollar,
    }

    /// [MQTT-4.7.2-1], also for retained messages.
    fn leading_wildcards_do_not_match_topics_with_a_dollar(broker: &Broker) {
        let rows: &[Row] = &[
            ("#", &["a"], &["$", "$data", "$data/x", "$dollar/x/y"]),
            ("+/#", &["a/x"], &["$data", "$data/x"]),
            ("+/x", &["data/x"], &["$data/x"]),
            ("$data/#", &["$data", "$data/x", "$data/x/y"], &["data/x", "$Data/x", "$dat"]),
            ("$data/+", &["$data/x"], &["$data", "data/x"]),
            ("x/+", &["x/$data"], &["$x/data"]),
            ("$", &["$"], &["$$", "a"]),
        ];
        let markers = Markers::new(broker);
        for &(here, there) in broker.places() {
            let mut publisher = connect(broker, "publisher", there);
            check_rows(&mut connect(broker, "subscriber", here), &mut publisher, rows);
            publisher.retain("$data/kept", "hidden");
            publisher.retain("data/kept", "shown");
            for filter in ["#", "+/kept"] {
                let mut subscriber = connect(broker, "late", here);
                subscriber.subscribe(filter, 0);
                assert_eq!(subscriber.publish().text(), "shown", "{filter}");
                markers.expect_silence(&mut subscriber);
            }
            let mut subscriber = connect(broker, "late", here);
            subscriber.subscribe("$data/+", 0);
            assert_eq!(subscriber.publish().text(), "hidden");
            publisher.retain("$data/kept", "");
            publisher.retain("data/kept", "");
        }
    }
}

on_every_configuration! {
    ["limits.max_topic_levels=65535"]
    a_client_cannot_publish_to_sys,
    topics_are_compared_byte_by_byte,
    the_longest_topic_goes_through,
    topics_of_the_most_levels_go_through,
}

/// What stands below `$SYS` is the broker's word: a 5.0 publisher is told so, a 3.x publisher cannot be [MQTT-3.3.5-2] of 3.1.1.
fn a_client_cannot_publish_to_sys(broker: &Broker) {
    for &(here, there) in broker.places() {
        let mut subscriber = connect(broker, "subscriber", here);
        subscriber.subscribe("$SYS/#", 2);
        let mut publisher = connect(broker, "publisher", there);
        publisher.send(&Publish::new(V5, "$SYS/fake", "").retain().bytes());
        publisher.send(&Publish::new(V5, "$SYS/fake", "").qos(1, 1).retain().bytes());
        publisher.expect(&packets::ack_with(0x40, 1, 0x87));
        publisher.send(&Publish::new(V5, "$SYS", "").qos(2, 2).bytes());
        publisher.expect(&packets::ack_with(0x50, 2, 0x87));
        // The exchange is over, and the identifier free. [MQTT-4.3.3-9]
        publisher.send(&packets::pubrel(2));
        publisher.expect(&packets::ack_with(0x70, 2, 0x92));
        let mut old = broker.connect(&Connect::new(V311, &broker.client_id("old", there)));
        old.publish_to("$SYS/fake", "", 1);
        old.publish_to("$SYS/fake", "", 2);
        subscriber.expect_silence();
        let mut refused = broker.open();
        refused.send(&Connect::new(V5, &broker.client_id("will", there)).will(Will::new("$SYS/fake", "")).bytes());
        refused.expect_connack(V5);
        assert_eq!(refused.connack.code, 0x87);
    }
}

/// [MQTT-4.7.3-4] [MQTT-1.5.3-3] of 3.1.1, [MQTT-4.7.3-4] [MQTT-1.5.4-3] of 5.0
fn topics_are_compared_byte_by_byte(broker: &Broker) {
    let base = broker.topic("bytes", 0);
    let topics =
        ["x", "X", " x", "x ", "\u{FEFF}x", "\u{e9}", "e\u{301}", "x/", "/x", "\u{a0}", "\u{1F697}"].map(|tail| format!("{base}/{tail}"));
    let mut publisher = connect(broker, "publisher", 0);
    for topic in &topics {
        let mut subscriber = connect(broker, "subscriber", 0);
        subscriber.subscribe(topic, 1);
        for other in &topics {
            publisher.publish_to(other, "", 1);
        }
        assert_eq!(&subscriber.publish().topic, topic);
        subscriber.expect_silence();
    }
}

/// [MQTT-4.7.3-3]
fn the_longest_topic_goes_through(broker: &Broker) {
    for &(here, there) in broker.places() {
        let start = broker.topic("long", 0);
        let topic = format!("{start}/{}", "x".repeat(65_534 - start.len()));
        let mut subscriber = connect(broker, "subscriber", here);
        subscriber.subscribe(&topic, 1);
        let mut publisher = connect(broker, "publisher", there);
        for qos in [0, 1] {
            publisher.publish_to(&topic, "through", qos);
            assert!(subscriber.publish_acknowledged().topic == topic);
        }
        publisher.retain(&topic, "kept");
        assert!(subscriber.publish_acknowledged().text() == "kept");
        subscriber.subscribe(&topic, 0);
        assert!(subscriber.publish().retain);
        subscriber.unsubscribe(&topic);
        subscriber.expect_silence();
    }
}

/// As many levels as a topic name can have, where the limit allows them.
fn topics_of_the_most_levels_go_through(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = "/".repeat(65_535);
        let mut publisher = connect(broker, "publisher", there);
        for filter in
            [topic.clone(), format!("{}+", "+/".repeat(32_767)), format!("{}#", "/".repeat(32_000)), format!("{}#", "+/".repeat(32_000))]
        {
            let matches = filter == topic || filter.ends_with('#');
            let mut subscriber = connect(broker, "subscriber", here);
            subscriber.subscribe(&filter, 1);
            publisher.publish_to(&topic, "deep", 1);
            if matches {
                assert!(subscriber.publish_acknowledged().topic == topic);
            }
            subscriber.unsubscribe(&filter);
            subscriber.expect_silence();
        }
    }
}
