//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 to 3.11): what is granted, what replaces what, and who gets a message how often.

use super::support::packets::{self, suback, unsuback};
use super::support::{Broker, Client, Connect, Publish, V5, V31, V311, VERSIONS, Version, on_every_configuration, property};

on_every_configuration! {
    []
    each_filter_gets_a_code_in_order,
    an_invalid_filter_fails_alone_in_5_0,
    an_invalid_filter_ends_a_3_x_connection,
    a_publish_after_suback_arrives_wherever_it_enters,
    subscribing_again_replaces_the_options,
    subscribing_again_replaces_the_subscription_identifier,
    overlapping_subscriptions_make_one_delivery_with_all_identifiers,
    overlapping_subscriptions_with_one_identifier_name_it_twice,
    identifiers_of_one_client_do_not_reach_another,
    no_local_keeps_the_own_messages_away,
    no_local_does_not_hide_the_messages_of_others,
    retain_as_published_passes_the_flag_on,
    each_filter_of_an_unsubscribe_gets_a_code_in_order,
    nothing_is_delivered_after_an_unsubscribe,
    an_unsubscribe_takes_only_the_very_same_filter,
    an_unsubscribe_does_not_touch_what_is_in_flight,
    a_filter_of_another_client_is_not_taken_away,
    many_filters_come_and_go_in_one_packet,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1] of 3.1.1; [MQTT-2.3.1-7];
/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-2.2.1-6] of 5.0
fn each_filter_gets_a_code_in_order(broker: &Broker) {
    for version in VERSIONS {
        let mut client = connect(broker, version, "codes", 0);
        let topics = [2, 0, 1].map(|qos| (broker.topic("codes", 0), qos));
        let filters: Vec<_> = topics.iter().map(|(topic, qos)| (&topic[..], *qos)).collect();
        client.send(&packets::subscribe(version, 0xABCD, &[], &filters));
        client.expect(&suback(version, 0xABCD, &[2, 0, 1]));
        let mut publisher = connect(broker, version, "publisher", 0);
        for (topic, granted) in &topics {
            publisher.publish_to(topic, "", 2);
            assert_eq!(client.publish_acknowledged().qos, *granted);
        }
    }
}

/// Filters that break the rules for wildcards.
const INVALID: [&str; 9] = ["a/#/b", "a#", "#a", "a/b#", "+a", "a+/b", "a/b+", "##", "a/++"];

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-3.9.3-2]
fn an_invalid_filter_fails_alone_in_5_0(broker: &Broker) {
    let mut client = connect(broker, V5, "invalid", 0);
    let good = broker.topic("good", 0);
    for (id, invalid) in (1..).zip(INVALID) {
        client.send(&packets::subscribe(V5, id, &[], &[(&good, 1), (invalid, 1), (&good, 0)]));
        client.expect(&suback(V5, id, &[1, 0x8F, 0]));
    }
}

/// [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.8.0-1]
fn an_invalid_filter_ends_a_3_x_connection(broker: &Broker) {
    for version in [V31, V311] {
        for invalid in INVALID {
            let mut client = connect(broker, version, "invalid", 0);
            client.send(&packets::subscribe(version, 1, &[], &[("good", 1), (invalid, 1)]));
            client.expect_close();
        }
    }
}

/// A SUBACK says that every shard knows the subscription. [MQTT-4.5.0-1]
fn a_publish_after_suback_arrives_wherever_it_enters(broker: &Broker) {
    for &(here, there) in broker.places() {
        let mut subscriber = connect(broker, V5, "subscriber", here);
        let mut publisher = connect(broker, V311, "publisher", there);
        for number in 0..100 {
            let topic = broker.topic("at/once", 0);
            let filter = if number % 2 == 0 { topic.clone() } else { format!("{topic}/#") };
            subscriber.subscribe(&filter, 0);
            publisher.publish_to(&topic, "here", 0);
            assert_eq!(subscriber.publish().topic, topic);
        }
    }
}

/// [MQTT-3.8.4-3]
fn subscribing_again_replaces_the_options(broker: &Broker) {
    for version in VERSIONS {
        for filter in ["exact", "wild/+"] {
            let filter = broker.topic(filter, 0).replace("wild/+", "+/wild");
            let topic = filter.replace('+', "very");
            let mut subscriber = connect(broker, version, "subscriber", 0);
            let mut publisher = connect(broker, V5, "publisher", 0);
            for granted in [2, 0, 1] {
                subscriber.subscribe(&filter, granted);
                publisher.publish_to(&topic, "", 2);
                assert_eq!(subscriber.publish_acknowledged().qos, granted);
                subscriber.expect_silence();
            }
        }
    }
}

/// [MQTT-3.8.4-3] [MQTT-3.3.4-3]
fn subscribing_again_replaces_the_subscription_identifier(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("identifier", 0);
        let mut subscriber = connect(broker, V5, "subscriber", here);
        let mut publisher = connect(broker, V5, "publisher", there);
        for (identifier, expected) in [(Some(7), vec![7]), (Some(268_435_455), vec![268_435_455]), (None, vec![]), (Some(128), vec![128])] {
            subscriber.subscribe_with(&identifier.map(property::subscription_id).unwrap_or_default(), &topic, 1);
            for qos in [0, 1] {
                publisher.publish_to(&topic, "", qos);
                assert_eq!(subscriber.publish_acknowledged().subscription_ids(), expected);
            }
        }
    }
}

/// [MQTT-3.3.5-1] of 3.1.1; [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] of 5.0
fn overlapping_subscriptions_make_one_delivery_with_all_identifiers(broker: &Broker) {
    for &(here, there) in broker.places() {
        for version in [V311, V5] {
            let topic = broker.topic("overlap", 0);
            let mut subscriber = connect(broker, version, "subscriber", here);
            let identifier = |id| if version == V5 { property::subscription_id(id) } else { Vec::new() };
            subscriber.subscribe_with(&identifier(3), &topic, 0);
            subscriber.subscribe_with(&identifier(1), &format!("{topic}/#"), 2);
            subscriber.subscribe_with(&[], "overlap/+", 1);
            subscriber.subscribe_with(&identifier(2), "overlap/#", 1);
            let mut publisher = connect(broker, V5, "publisher", there);
            for qos in 0..=2 {
                publisher.publish_to(&topic, "one", qos);
                let publish = subscriber.publish_acknowledged();
                assert_eq!(publish.qos, qos);
                assert_eq!(publish.subscription_ids(), if version == V5 { vec![1, 2, 3] } else { vec![] });
                subscriber.expect_silence();
            }
        }
    }
}

/// Section 3.3.4: the identifiers of all matching subscriptions, also where two are the same.
fn overlapping_subscriptions_with_one_identifier_name_it_twice(broker: &Broker) {
    let topic = broker.topic("twice", 0);
    let mut subscriber = connect(broker, V5, "subscriber", 0);
    subscriber.subscribe_with(&property::subscription_id(5), &topic, 1);
    subscriber.subscribe_with(&property::subscription_id(5), &format!("{topic}/#"), 1);
    connect(broker, V5, "publisher", 0).publish_to(&topic, "", 1);
    assert_eq!(subscriber.publish().subscription_ids(), [5, 5]);
}

/// Identifiers belong to a session, whoever else has subscribed to the same filter.
fn identifiers_of_one_client_do_not_reach_another(broker: &Broker) {
    let topic = broker.topic("mine", 0);
    let mut clients: Vec<_> = (0..6).map(|number| connect(broker, V5, "client", number % broker.shards)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let identifier = if number == 0 { Vec::new() } else { property::subscription_id(number as u32) };
        client.subscribe_with(&identifier, &topic, 1);
    }
    let mut publisher = connect(broker, V5, "publisher", 0);
    for qos in [0, 1] {
        publisher.publish_to(&topic, "", qos);
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.publish_acknowledged().subscription_ids(), if number == 0 { vec![] } else { vec![number] });
        }
    }
}

const NO_LOCAL: u8 = 4;
const RETAIN_AS_PUBLISHED: u8 = 8;

/// [MQTT-3.8.3-3]
fn no_local_keeps_the_own_messages_away(broker: &Broker) {
    for shard in 0..broker.shards {
        let topic = broker.topic("local", 0);
        let mut client = connect(broker, V5, "client", shard);
        client.subscribe(&topic, NO_LOCAL | 2);
        for qos in 0..=2 {
            client.publish_to(&topic, "mine", qos);
            client.expect_silence();
        }
        // Where one of two overlapping subscriptions does want them, they come.
        client.subscribe(&format!("{topic}/#"), 1);
        client.publish_to(&topic, "mine", 0);
        assert_eq!(client.publish().qos, 0);
    }
}

/// [MQTT-3.8.3-3]
fn no_local_does_not_hide_the_messages_of_others(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("local", 0);
        let mut client = connect(broker, V5, "client", here);
        client.subscribe(&topic, NO_LOCAL | 2);
        let mut other = connect(broker, V5, "other", there);
        for qos in 0..=2 {
            other.publish_to(&topic, "yours", qos);
            assert_eq!(client.publish_acknowledged().text(), "yours");
        }
    }
}

/// [MQTT-3.3.1-9] of 3.1.1; [MQTT-3.3.1-12] [MQTT-3.3.1-13] of 5.0
fn retain_as_published_passes_the_flag_on(broker: &Broker) {
    for &(here, there) in broker.places() {
        for owner in 0..broker.shards {
            let topic = broker.topic("flag", owner);
            let mut old = connect(broker, V311, "old", here);
            old.subscribe(&topic, 2);
            let mut plain = connect(broker, V5, "plain", here);
            plain.subscribe(&topic, 2);
            let mut wants = connect(broker, V5, "wants", here);
            wants.subscribe(&topic, RETAIN_AS_PUBLISHED | 2);
            let mut publisher = connect(broker, V5, "publisher", there);
            for qos in 0..=2 {
                for retain in [false, true] {
                    let id = if qos == 0 { 0 } else { publisher.packet_id() };
                    let publish = Publish::new(V5, &topic, "").qos(qos, id);
                    publisher.send_publish(&if retain { publish.retain() } else { publish });
                    assert!(!old.publish_acknowledged().retain);
                    assert!(!plain.publish_acknowledged().retain);
                    assert_eq!(wants.publish_acknowledged().retain, retain);
                }
            }
        }
    }
}

/// [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
fn each_filter_of_an_unsubscribe_gets_a_code_in_order(broker: &Broker) {
    for version in VERSIONS {
        let mut client = connect(broker, version, "client", 0);
        let [a, b] = [broker.topic("a", 0), broker.topic("b", 0)];
        client.send(&packets::subscribe(version, 1, &[], &[(&a, 0), (&b, 0), ("unsub/#", 1), ("$share/g/unsub/+", 1)]));
        client.expect(&suback(version, 1, &[0, 0, 1, 1]));
        client.send(&packets::unsubscribe(
            version,
            2,
            &[&a, "never/subscribed", "unsub/#", &a, "$share/other/unsub/+", "$share/g/unsub/+"],
        ));
        client.expect(&unsuback(version, 2, &[0, 0x11, 0, 0x11, 0x11, 0]));
        client.send(&packets::unsubscribe(version, 3, &[&b]));
        client.expect(&unsuback(version, 3, &[0]));
    }
}

/// [MQTT-3.10.4-2]
fn nothing_is_delivered_after_an_unsubscribe(broker: &Broker) {
    for &(here, there) in broker.places() {
        for wildcard in [false, true] {
            let topic = broker.topic("after", 0);
            let filter = if wildcard { format!("{topic}/+") } else { format!("{topic}/x") };
            let topic = format!("{topic}/x");
            let mut subscriber = connect(broker, V5, "subscriber", here);
            let mut publisher = connect(broker, V5, "publisher", there);
            for qos in 0..=2 {
                subscriber.subscribe(&filter, 2);
                publisher.publish_to(&topic, "before", qos);
                assert_eq!(subscriber.publish_acknowledged().text(), "before");
                subscriber.unsubscribe(&filter);
                publisher.publish_to(&topic, "after", qos);
                publisher.publish_to(&topic, "after", 1);
                subscriber.expect_silence();
            }
        }
    }
}

/// [MQTT-3.10.4-1]
fn an_unsubscribe_takes_only_the_very_same_filter(broker: &Broker) {
    let topic = broker.topic("same", 0);
    let mut client = connect(broker, V5, "client", 0);
    client.subscribe(&topic, 0);
    client.subscribe(&format!("{topic}/#"), 1);
    let others = [format!("{topic}/+"), topic.to_uppercase(), "same/+".into(), "#".into(), format!("{topic}/"), "same/#".into()];
    let others: Vec<_> = others.iter().map(|filter| &filter[..]).collect();
    client.send(&packets::unsubscribe(V5, 9, &others));
    client.expect(&unsuback(V5, 9, &[0x11; 6]));
    client.unsubscribe(&format!("{topic}/#"));
    let mut publisher = connect(broker, V5, "publisher", 0);
    publisher.publish_to(&topic, "", 1);
    assert_eq!(client.publish().qos, 0);
}

/// [MQTT-3.10.4-3]
fn an_unsubscribe_does_not_touch_what_is_in_flight(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("flight", 0);
        let durable = Connect::new(V5, &broker.client_id("subscriber", here)).durable(60);
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 2);
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.publish_to(&topic, "one", 1);
        publisher.publish_to(&topic, "two", 2);
        let (one, two) = (subscriber.publish(), subscriber.publish());
        subscriber.unsubscribe(&topic);
        subscriber.send(&packets::pubrec(two.id));
        subscriber.expect(&packets::pubrel(two.id));
        subscriber.vanish();
        let mut again = broker.connect(&durable);
        assert_eq!(again.publish_acknowledged(), one.dup());
        again.expect(&packets::pubrel(two.id));
        again.send(&packets::pubcomp(two.id));
        again.expect_silence();
    }
}

/// One session's subscriptions are its own.
fn a_filter_of_another_client_is_not_taken_away(broker: &Broker) {
    for &(here, there) in broker.places() {
        for filter in ["theirs/+/x", "theirs/exact/x"] {
            let mut one = connect(broker, V5, "one", here);
            let mut two = connect(broker, V5, "two", there);
            one.subscribe(filter, 1);
            two.subscribe(filter, 1);
            one.unsubscribe(filter);
            connect(broker, V5, "publisher", there).publish_to("theirs/exact/x", "", 1);
            assert_eq!(two.publish_acknowledged().topic, "theirs/exact/x");
            one.expect_silence();
            two.unsubscribe(filter);
        }
    }
}

/// [MQTT-3.8.4-4] of 3.1.1, [MQTT-3.8.4-5] [MQTT-3.10.4-6] of 5.0
fn many_filters_come_and_go_in_one_packet(broker: &Broker) {
    const FILTERS: usize = 2_000;
    for shard in 0..broker.shards {
        let prefix = broker.topic("many", 0);
        let filters: Vec<String> = (0..FILTERS).map(|n| format!("{prefix}/{n}{}", if n % 2 == 0 { "" } else { "/+" })).collect();
        let all: Vec<_> = filters.iter().map(|filter| (&filter[..], 1)).collect();
        let names: Vec<_> = filters.iter().map(|filter| &filter[..]).collect();
        let mut client = connect(broker, V5, "client", shard);
        for id in [1, 3] {
            client.send(&packets::subscribe(V5, id, &[], &all));
            client.expect(&suback(V5, id, &[1; FILTERS]));
            client.send(&packets::unsubscribe(V5, id + 1, &names));
            client.expect(&unsuback(V5, id + 1, &[0; FILTERS]));
        }
        let mut publisher = connect(broker, V5, "publisher", 0);
        publisher.publish_to(&format!("{prefix}/0"), "", 1);
        publisher.publish_to(&format!("{prefix}/1/x"), "", 1);
        client.expect_silence();
    }
}
