//! Retained messages (sections 3.3.1.3, 3.8.3.1): kept, replaced, deleted, and brought to new subscriptions.

use std::time::{Duration, Instant};

use super::support::packets::{self, puback};
use super::support::{Broker, Client, Connect, Markers, Publish, V5, V311, VERSIONS, Version, on_every_configuration, property};

on_every_configuration! {
    []
    a_retained_message_reaches_a_later_subscriber,
    a_later_message_replaces_it,
    an_empty_message_deletes_it_and_reaches_live_subscribers,
    a_message_without_retain_leaves_it_alone,
    each_topic_has_a_message_of_its_own,
    every_subscribe_of_3_x_brings_it_again,
    retain_handling_says_when_it_comes,
    a_shared_subscription_brings_none,
    it_keeps_its_properties_in_order,
    it_ends_with_its_expiry,
    a_wildcard_brings_all_of_five_thousand,
    a_wildcard_brings_all_to_a_client_that_takes_one_at_a_time,
    many_filters_in_one_subscribe_bring_all_of_theirs,
    nothing_more_comes_after_an_unsubscribe,
    the_newest_message_is_the_last_that_a_new_subscriber_sees,
    large_messages_all_come,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

/// Every place of publisher, subscriber and retained message.
fn for_each_place(broker: &Broker, mut test: impl FnMut(u16, u16, u16)) {
    for owner in 0..broker.shards {
        for &(here, there) in broker.places() {
            test(here, there, owner);
        }
    }
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] of 3.1.1; [MQTT-3.3.1-5] [MQTT-3.3.1-9] of 5.0; [MQTT-3.3.1-3]
fn a_retained_message_reaches_a_later_subscriber(broker: &Broker) {
    for_each_place(broker, |here, there, owner| {
        for version in VERSIONS {
            for qos in 0..=2 {
                let topic = broker.topic("kept", owner);
                let mut publisher = connect(broker, version, "publisher", there);
                let id = if qos > 0 { publisher.packet_id() } else { 0 };
                publisher.send_publish(&Publish::new(version, &topic, "kept").qos(qos, id).retain());
                if qos == 0 {
                    // Where nothing is acknowledged, a message to another owner is known to have arrived when the next one has.
                    publisher.publish_to(&topic, "live", 1);
                }
                for granted in 0..=2 {
                    let mut subscriber = connect(broker, version, "subscriber", here);
                    subscriber.subscribe(&topic, granted);
                    let delivered = qos.min(granted);
                    let id = u16::from(delivered > 0);
                    subscriber.expect(&Publish::new(version, &topic, "kept").qos(delivered, id).retain().bytes());
                }
            }
        }
    });
}

/// [MQTT-3.3.1-5], and [MQTT-3.3.1-7] of 3.1.1 for QoS 0
fn a_later_message_replaces_it(broker: &Broker) {
    let markers = Markers::new(broker);
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("replaced", owner);
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.retain(&topic, "old");
        publisher.send_publish(&Publish::new(V5, &topic, "newer").retain());
        publisher.publish_to(&topic, "not kept", 1);
        let mut subscriber = connect(broker, V5, "subscriber", here);
        subscriber.subscribe(&topic, 1);
        assert_eq!(subscriber.publish().text(), "newer");
        publisher.retain(&topic, "newest");
        assert!(!subscriber.publish_acknowledged().retain);
        markers.expect_silence(&mut subscriber);
    });
}

/// [MQTT-3.3.1-10] [MQTT-3.3.1-11] of 3.1.1; [MQTT-3.3.1-6] [MQTT-3.3.1-7] of 5.0
fn an_empty_message_deletes_it_and_reaches_live_subscribers(broker: &Broker) {
    let markers = Markers::new(broker);
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("deleted", owner);
        let mut publisher = connect(broker, V311, "publisher", there);
        publisher.retain(&topic, "short-lived");
        let mut live = connect(broker, V5, "live", here);
        live.subscribe(&topic, 1);
        assert!(live.publish_acknowledged().retain);
        for _ in 0..2 {
            publisher.retain(&topic, "");
            let empty = live.publish_acknowledged();
            assert_eq!((empty.text(), empty.retain), ("", false));
        }
        for filter in [topic.clone(), format!("{topic}/#")] {
            let mut late = connect(broker, V5, "late", here);
            late.subscribe(&filter, 1);
            markers.expect_silence(&mut late);
        }
    });
}

/// [MQTT-3.3.1-12] of 3.1.1; [MQTT-3.3.1-8] of 5.0
fn a_message_without_retain_leaves_it_alone(broker: &Broker) {
    let markers = Markers::new(broker);
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("alone", owner);
        let mut publisher = connect(broker, V311, "publisher", there);
        publisher.publish_to(&topic, "passing", 1);
        connect(broker, V5, "early", here).subscribe(&topic, 1);
        publisher.retain(&topic, "kept");
        for qos in 0..=2 {
            publisher.publish_to(&topic, "passing", qos);
            publisher.publish_to(&topic, "", qos);
        }
        let mut subscriber = connect(broker, V5, "subscriber", here);
        subscriber.subscribe(&topic, 1);
        assert_eq!(subscriber.publish().text(), "kept");
        markers.expect_silence(&mut subscriber);
    });
}

/// A wildcard brings every matching message once, and no other.
fn each_topic_has_a_message_of_its_own(broker: &Broker) {
    let markers = Markers::new(broker);
    for &(here, there) in broker.places() {
        let base = broker.topic("own", 0);
        let mut publisher = connect(broker, V5, "publisher", there);
        let tails = ["", "/", "/a", "/b", "/a/c", "/b/c", "/a/d", "//c", "/a/c/e", "x", "/ ", "/-", "/0"];
        for tail in tails {
            publisher.retain(&format!("{base}{tail}"), &format!("at {tail}"));
        }
        for (filter, expected) in [
            ("", &[""][..]),
            ("/#", &["", "/", "/a", "/b", "/a/c", "/b/c", "/a/d", "//c", "/a/c/e", "/ ", "/-", "/0"]),
            ("/+", &["/", "/a", "/b", "/ ", "/-", "/0"]),
            ("/+/c", &["/a/c", "/b/c", "//c"]),
            ("/a/+", &["/a/c", "/a/d"]),
            ("/+/+/#", &["/a/c", "/b/c", "/a/d", "//c", "/a/c/e"]),
            ("/+/#", &["/", "/a", "/b", "/a/c", "/b/c", "/a/d", "//c", "/a/c/e", "/ ", "/-", "/0"]),
            ("/b/+/#", &["/b/c"]),
            ("/nothing/#", &[]),
        ] {
            let mut subscriber = connect(broker, V5, "subscriber", here);
            subscriber.subscribe(&format!("{base}{filter}"), 0);
            let mut found: Vec<_> = expected.iter().map(|_| subscriber.publish().text().to_owned()).collect();
            markers.expect_silence(&mut subscriber);
            found.sort();
            let mut expected: Vec<_> = expected.iter().map(|tail| format!("at {tail}")).collect();
            expected.sort();
            assert_eq!(found, expected, "{filter}");
        }
    }
}

/// [MQTT-3.8.4-3] of 3.1.1; [MQTT-3.8.4-4] of 5.0
fn every_subscribe_of_3_x_brings_it_again(broker: &Broker) {
    let markers = Markers::new(broker);
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("every", owner);
        connect(broker, V5, "publisher", there).retain(&topic, "kept");
        for version in VERSIONS {
            let mut subscriber = connect(broker, version, "subscriber", here);
            for _ in 0..3 {
                subscriber.subscribe(&topic, 1);
                assert!(subscriber.publish_acknowledged().retain);
            }
            markers.expect_silence(&mut subscriber);
        }
    });
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] of 5.0
fn retain_handling_says_when_it_comes(broker: &Broker) {
    let markers = Markers::new(broker);
    const SEND_IF_NEW: u8 = 0x10;
    const DO_NOT_SEND: u8 = 0x20;
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("handling", owner);
        connect(broker, V5, "publisher", there).retain(&topic, "kept");
        for filter in [topic.clone(), format!("{topic}/#")] {
            let mut subscriber = connect(broker, V5, "subscriber", here);
            subscriber.subscribe(&filter, DO_NOT_SEND | 1);
            subscriber.subscribe(&filter, SEND_IF_NEW | 1);
            markers.expect_silence(&mut subscriber);
            subscriber.unsubscribe(&filter);
            subscriber.subscribe(&filter, SEND_IF_NEW | 1);
            assert_eq!(subscriber.publish_acknowledged().text(), "kept");
            subscriber.subscribe(&filter, SEND_IF_NEW);
            markers.expect_silence(&mut subscriber);
            subscriber.subscribe(&filter, 0);
            assert_eq!(subscriber.publish().qos, 0);
            subscriber.subscribe(&filter, DO_NOT_SEND);
            markers.expect_silence(&mut subscriber);
        }
    });
}

/// Section 4.8.2: no retained messages are sent to a shared subscription when it is made.
fn a_shared_subscription_brings_none(broker: &Broker) {
    let markers = Markers::new(broker);
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("shared", owner);
        connect(broker, V5, "publisher", there).retain(&topic, "kept");
        for version in [V311, V5] {
            let mut subscriber = connect(broker, version, "subscriber", here);
            subscriber.subscribe(&format!("$share/group/{topic}"), 1);
            subscriber.subscribe(&format!("$share/group/{topic}/#"), 1);
            markers.expect_silence(&mut subscriber);
        }
    });
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
fn it_keeps_its_properties_in_order(broker: &Broker) {
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("properties", owner);
        let properties = [
            property::user("b", "1"),
            property::payload_format(1),
            property::user("a", "2"),
            property::content_type("text/plain"),
            property::response_topic("reply/to"),
            property::correlation_data(&[0, 1, 2]),
            property::user("b", "3"),
        ];
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.send_publish(&Publish::new(V5, &topic, "kept").qos(1, 1).retain().properties(&properties));
        let mut subscriber = connect(broker, V5, "subscriber", here);
        subscriber.subscribe_with(&property::subscription_id(9), &topic, 0);
        let mut expected = vec![property::subscription_id(9)];
        expected.extend(properties);
        assert_eq!(subscriber.publish().properties, expected.concat());
        let mut old = connect(broker, V311, "old", here);
        old.subscribe(&topic, 0);
        old.expect(&Publish::new(V311, &topic, "kept").retain().bytes());
    });
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
fn it_ends_with_its_expiry(broker: &Broker) {
    let markers = Markers::new(broker);
    let [short, long] = ["short", "long"].map(|name| broker.topic(name, 0));
    let mut publisher = connect(broker, V5, "publisher", 0);
    for (topic, seconds) in [(&short, 1), (&long, 100)] {
        let publish = Publish::new(V5, topic, "kept").qos(1, 1).retain();
        publisher.send_publish(&publish.properties(&[property::message_expiry(seconds)]));
    }
    let first = Instant::now();
    let mut left = Vec::new();
    // Whoever subscribes later is told how much is left, until nothing is.
    while first.elapsed() < Duration::from_millis(1_200) {
        let mut subscriber = connect(broker, V5, "subscriber", 0);
        subscriber.send(&packets::subscribe(V5, 1, &[], &[(&short, 0), (&markers.topics()[0], 0)]));
        subscriber.expect(&packets::suback(V5, 1, &[0, 0]));
        let publish = subscriber.publish();
        if publish.text() == "marker" {
            break;
        }
        assert_eq!(publish.property(0x02), [1u32.to_be_bytes()]);
        left.push(publish);
    }
    assert!(!left.is_empty() && first.elapsed() >= Duration::from_millis(990), "gone after {:?}", first.elapsed());
    // The second, kept a moment later, is a second older at the latest a moment from now.
    while first.elapsed() < Duration::from_secs(10) {
        let mut subscriber = connect(broker, V5, "subscriber", 0);
        subscriber.subscribe(&long, 0);
        let told = subscriber.publish().property(0x02);
        markers.expect_silence(&mut subscriber);
        if told == [99u32.to_be_bytes()] {
            return;
        }
        assert_eq!(told, [100u32.to_be_bytes()]);
    }
    panic!("the second message does not age");
}

/// Retains `count` messages below a new topic; gives the topic.
fn retain_many(broker: &Broker, count: usize, payload: &str, expected: u8) -> String {
    let base = broker.topic("fleet", 0);
    let mut publisher = connect(broker, V5, "publisher", 0);
    let topics: Vec<_> = (0..count).map(|number| format!("{base}/{number}/state")).collect();
    for chunk in topics.chunks(100) {
        let publishes = (1..).zip(chunk).flat_map(|(id, topic)| Publish::new(V5, topic, payload).qos(1, id).retain().bytes());
        publisher.send(&publishes.collect::<Vec<u8>>());
        (1..).zip(chunk).for_each(|(id, _)| publisher.expect(&packets::ack_with(0x40, id, expected)));
    }
    base
}

/// Receives `count` retained messages, each once, acknowledging them as they come.
fn expect_all(markers: &Markers, subscriber: &mut Client, count: usize) {
    let topics: std::collections::BTreeSet<_> = (0..count)
        .map(|_| {
            let publish = subscriber.publish();
            if publish.qos == 1 {
                subscriber.send(&puback(publish.id));
            }
            publish.topic
        })
        .collect();
    assert_eq!(topics.len(), count, "a topic came twice");
    markers.expect_silence(subscriber);
}

fn a_wildcard_brings_all_of_five_thousand(broker: &Broker) {
    let markers = Markers::new(broker);
    const MESSAGES: usize = 5_000;
    let base = retain_many(broker, MESSAGES, "on", 0x10);
    for shard in 0..broker.shards {
        for (version, options) in [(V311, 0), (V5, 1)] {
            for filter in ["#", "+/state"] {
                let mut subscriber = connect(broker, version, "subscriber", shard);
                subscriber.subscribe(&format!("{base}/{filter}"), options);
                expect_all(&markers, &mut subscriber, MESSAGES);
            }
        }
    }
}

fn a_wildcard_brings_all_to_a_client_that_takes_one_at_a_time(broker: &Broker) {
    let markers = Markers::new(broker);
    const MESSAGES: usize = 1_000;
    let base = retain_many(broker, MESSAGES, "on", 0x10);
    for shard in 0..broker.shards {
        let connect = Connect::new(V5, &broker.client_id("slow", shard)).properties(&[property::receive_maximum(1)]);
        let mut subscriber = broker.connect(&connect);
        subscriber.subscribe(&format!("{base}/#"), 1);
        expect_all(&markers, &mut subscriber, MESSAGES);
    }
}

/// More than fit into the queue of the session, were they all asked for at once.
fn many_filters_in_one_subscribe_bring_all_of_theirs(broker: &Broker) {
    let markers = Markers::new(broker);
    const MESSAGES: usize = 12_000;
    let base = retain_many(broker, MESSAGES, "on", 0x10);
    for shard in 0..broker.shards {
        let connect = Connect::new(V5, &broker.client_id("many", shard)).properties(&[property::receive_maximum(100)]);
        let mut subscriber = broker.connect(&connect);
        let filters: Vec<_> = (0..MESSAGES).map(|number| format!("{base}/{number}/state")).collect();
        let filters: Vec<_> = filters.iter().map(|filter| (&filter[..], 1)).collect();
        subscriber.send(&packets::subscribe(V5, 1, &[], &filters));
        subscriber.expect(&packets::suback(V5, 1, &[1; MESSAGES]));
        expect_all(&markers, &mut subscriber, MESSAGES);
    }
}

/// [MQTT-3.10.4-2]: what waits in the session's queue may still come; the store is not read any further.
fn nothing_more_comes_after_an_unsubscribe(broker: &Broker) {
    let base = retain_many(broker, 1_000, "on", 0x10);
    for shard in 0..broker.shards {
        let connect = Connect::new(V5, &broker.client_id("enough", shard)).properties(&[property::receive_maximum(1)]);
        let mut subscriber = broker.connect(&connect);
        let filter = format!("{base}/#");
        subscriber.subscribe(&filter, 1);
        let first = subscriber.publish();
        subscriber.unsubscribe(&filter);
        subscriber.send(&[puback(first.id), packets::PINGREQ.into()].concat());
        // The acknowledgement lets the next message go before the answer to the PINGREQ.
        let mut more = 0;
        while let Some(publish) = subscriber.packet_or_close().filter(|packet| *packet != packets::PINGRESP) {
            more += 1;
            subscriber.expect(&packets::PINGRESP);
            let id = Publish::parse(V5, &publish).id;
            subscriber.send(&[puback(id), packets::PINGREQ.into()].concat());
        }
        assert!(more < 300, "{more} of 1,000 came after the UNSUBACK");
    }
}

/// What is published while a subscription is being made comes live or from the store; never is an old state the last one seen.
fn the_newest_message_is_the_last_that_a_new_subscriber_sees(broker: &Broker) {
    for_each_place(broker, |here, there, owner| {
        let topic = broker.topic("newest", owner);
        let mut publisher = connect(broker, V311, "publisher", there);
        publisher.retain(&topic, "0");
        for round in 1..=30u32 {
            let mut subscriber = connect(broker, V311, "subscriber", here);
            subscriber.send(&packets::subscribe(V311, 1, &[], &[(&topic, 0)]));
            publisher.send(&Publish::new(V311, &topic, &round.to_string()).qos(1, 1).retain().bytes());
            publisher.expect(&puback(1));
            let mut seen = Vec::new();
            let mut wanted = vec![packets::suback(V311, 1, &[0])];
            while seen.last() != Some(&round) || !wanted.is_empty() {
                match subscriber.packet() {
                    suback if suback[0] == 0x90 => wanted.retain(|wanted| *wanted != suback),
                    publish => seen.push(Publish::parse(V311, &publish).text().parse::<u32>().unwrap()),
                }
            }
            subscriber.send(&packets::PINGREQ);
            while let Some(packet) = subscriber.packet_or_close().filter(|packet| *packet != packets::PINGRESP) {
                seen.push(Publish::parse(V311, &packet).text().parse().unwrap());
            }
            assert!(seen.is_sorted() && seen.last() == Some(&round), "round {round}: {seen:?}");
        }
    });
}

/// More bytes than a connection may have unsent at once.
fn large_messages_all_come(broker: &Broker) {
    let markers = Markers::new(broker);
    const MESSAGES: usize = 100;
    let base = retain_many(broker, MESSAGES, &"x".repeat(1_000_000), 0x10);
    for shard in 0..broker.shards {
        let mut subscriber = connect(broker, V5, "subscriber", shard);
        subscriber.subscribe(&format!("{base}/#"), 0);
        expect_all(&markers, &mut subscriber, MESSAGES);
    }
    let mut publisher = connect(broker, V5, "publisher", 0);
    for number in 0..MESSAGES {
        publisher.retain(&format!("{base}/{number}/state"), "");
    }
}
