//! Shared subscriptions (section 4.8): each message to one member of the group, wherever the members are.

use super::support::packets::{self, puback, pubcomp, pubrec, pubrel, suback};
use super::support::{Broker, Client, Connect, Publish, V5, V311, Version, on_every_configuration, property};

on_every_configuration! {
    []
    members_take_turns,
    members_on_every_shard_take_turns,
    a_group_gets_each_message_once_beside_the_plain_subscribers,
    groups_of_different_names_each_get_every_message,
    a_group_may_use_wildcards,
    the_granted_qos_of_the_member_counts,
    a_member_keeps_its_identifier_and_options,
    a_member_that_left_gets_nothing_more,
    a_connected_member_is_preferred,
    the_last_member_keeps_its_messages_while_it_is_away,
    an_unacknowledged_message_waits_for_its_member,
    what_a_member_leaves_unacknowledged_goes_to_another,
    what_waits_for_a_member_that_ends_goes_to_another,
    a_qos_2_message_under_way_goes_to_nobody_else,
    a_message_that_a_member_refuses_goes_to_nobody_else,
    malformed_shared_filters_are_refused,
    a_dollar_share_without_a_slash_is_an_ordinary_filter,
    no_local_on_a_shared_subscription_is_a_protocol_error,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

fn members(broker: &Broker, shards: &[u16], filter: &str, options: u8) -> Vec<Client> {
    let member = |&shard: &u16| {
        let mut member = connect(broker, V5, "member", shard);
        member.subscribe(filter, options);
        member
    };
    shards.iter().map(member).collect()
}

/// Publishes `count` numbered messages, then takes from each member what it got: the numbers, and how many each got.
fn distribute(broker: &Broker, publisher: &mut Client, members: &mut [Client], topic: &str, qos: u8, count: usize) -> Vec<usize> {
    for number in 0..count {
        publisher.publish_to(topic, &number.to_string(), qos);
    }
    // Once this is acknowledged, the publisher's shard has sent everything on its way; once the fence stands, everything has arrived.
    publisher.publish_to(topic, "end", 1);
    fence(broker);
    let mut all = Vec::new();
    let mut each = Vec::new();
    for member in members {
        member.send(&packets::PINGREQ);
        let before = all.len();
        while let Some(packet) = member.packet_or_close().filter(|packet| *packet != packets::PINGRESP) {
            let publish = Publish::parse(member.version, &packet);
            if publish.qos == 1 {
                member.send(&puback(publish.id));
            }
            if publish.text() != "end" {
                all.push(publish.text().parse::<usize>().expect("a number"));
            }
        }
        assert!(all[before..].is_sorted(), "one member sees the messages of a publisher in order");
        each.push(all.len() - before);
    }
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>(), "each message once");
    each
}

/// Section 4.8.2
fn members_take_turns(broker: &Broker) {
    for &(here, there) in broker.places() {
        for qos in [0, 1] {
            let topic = broker.topic("turns", 0);
            let mut members = members(broker, &[here; 3], &format!("$share/group/{topic}"), 1);
            let each = distribute(broker, &mut connect(broker, V311, "publisher", there), &mut members, &topic, qos, 30);
            assert!(each.iter().all(|count| (9..=11).contains(count)), "{each:?}");
        }
    }
}

/// One turn a member, not one a shard.
fn members_on_every_shard_take_turns(broker: &Broker) {
    let last = broker.shards - 1;
    for publisher in 0..broker.shards {
        for qos in [0, 1] {
            let topic = broker.topic("turns", 0);
            let mut members = members(broker, &[0, last, last, last], &format!("$share/group/{topic}"), 1);
            let each = distribute(broker, &mut connect(broker, V311, "publisher", publisher), &mut members, &topic, qos, 40);
            assert!(each.iter().all(|count| (9..=11).contains(count)), "{each:?}");
        }
    }
}

/// A message crosses to another shard once, for its plain subscribers and for the group's member there.
fn a_group_gets_each_message_once_beside_the_plain_subscribers(broker: &Broker) {
    let last = broker.shards - 1;
    for publisher in 0..broker.shards {
        for qos in [0, 1] {
            let topic = broker.topic("beside", 0);
            let mut plain: Vec<_> = (0..broker.shards).map(|shard| connect(broker, V5, "plain", shard)).collect();
            plain.iter_mut().for_each(|client| client.subscribe(&topic, 1));
            let mut members = members(broker, &[0, last, 0, last], &format!("$share/group/{topic}"), 1);
            let mut publisher = connect(broker, V5, "publisher", publisher);
            distribute(broker, &mut publisher, &mut members, &topic, qos, 20);
            for client in &mut plain {
                for number in 0..20 {
                    assert_eq!(client.publish_acknowledged().text(), number.to_string());
                }
                assert_eq!(client.publish_acknowledged().text(), "end");
                client.expect_silence();
            }
        }
    }
}

/// Section 4.8.2; a client that is in several groups, and subscribes plainly too, gets each message from each.
fn groups_of_different_names_each_get_every_message(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("several", 0);
        let mut one = members(broker, &[here, there], &format!("$share/one/{topic}"), 1);
        let mut two = members(broker, &[there], &format!("$share/two/{topic}"), 1);
        two[0].subscribe(&format!("$share/three/{topic}"), 1);
        two[0].subscribe(&topic, 1);
        let mut publisher = connect(broker, V5, "publisher", here);
        for number in 0..6 {
            publisher.publish_to(&topic, &number.to_string(), 1);
            for _ in 0..3 {
                assert_eq!(two[0].publish_acknowledged().text(), number.to_string());
            }
        }
        let mut count = 0;
        for member in &mut one {
            member.send(&packets::PINGREQ);
            while member.packet() != packets::PINGRESP {
                count += 1;
            }
        }
        assert_eq!(count, 6);
    }
}

fn a_group_may_use_wildcards(broker: &Broker) {
    for &(here, there) in broker.places() {
        let base = broker.topic("wild", 0);
        for filter in [format!("{base}/#"), format!("{base}/+/x")] {
            let mut members = members(broker, &[here, there], &format!("$share/wild/{filter}"), 1);
            let topic = format!("{base}/y/x");
            let each = distribute(broker, &mut connect(broker, V5, "publisher", here), &mut members, &topic, 1, 10);
            assert_eq!(each, [5, 5]);
        }
    }
}

/// [MQTT-4.8.2-3]
fn the_granted_qos_of_the_member_counts(broker: &Broker) {
    for &(here, there) in broker.places() {
        for granted in 0..=2 {
            let topic = broker.topic("granted", 0);
            let mut member = members(broker, &[here], &format!("$share/group/{topic}"), granted).remove(0);
            let mut publisher = connect(broker, V5, "publisher", there);
            for published in 0..=2 {
                publisher.publish_to(&topic, "", published);
                assert_eq!(member.publish_acknowledged().qos, granted.min(published));
            }
        }
    }
}

/// The same subscription again replaces the member's options, and does not make it two members.
fn a_member_keeps_its_identifier_and_options(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("options", 0);
        let filter = format!("$share/group/{topic}");
        let mut member = connect(broker, V5, "member", here);
        for (identifier, options) in [(1, 0x08 | 2), (2, 0)] {
            member.subscribe_with(&property::subscription_id(identifier), &filter, options);
            let mut publisher = connect(broker, V5, "publisher", there);
            publisher.send_publish(&Publish::new(V5, &topic, "").qos(1, 1).retain());
            let publish = member.publish_acknowledged();
            assert_eq!((publish.subscription_ids(), publish.retain), (vec![identifier as usize], options & 0x08 != 0));
            publisher.retain(&topic, "");
            member.publish_acknowledged();
            member.expect_silence();
        }
    }
}

fn a_member_that_left_gets_nothing_more(broker: &Broker) {
    for &(here, there) in broker.places() {
        for leave in ["unsubscribe", "disconnect", "vanish"] {
            let topic = broker.topic("left", 0);
            let filter = format!("$share/group/{topic}");
            let mut members = members(broker, &[here, there, here], &filter, 1);
            let mut publisher = connect(broker, V5, "publisher", there);
            distribute(broker, &mut publisher, &mut members, &topic, 1, 6);
            let mut left = members.remove(0);
            match leave {
                "unsubscribe" => left.unsubscribe(&filter),
                "disconnect" => left.disconnect(),
                _ => left.vanish(),
            }
            // That a member is gone reaches the other shards behind what its shard told them before.
            fence(broker);
            assert_eq!(distribute(broker, &mut publisher, &mut members, &topic, 1, 6), [3, 3]);
        }
    }
}

/// Proves that every shard knows what happened before on the others: a SUBACK waits for all of them.
fn fence(broker: &Broker) {
    for shard in 0..broker.shards {
        connect(broker, V5, "fence", shard).subscribe(&broker.topic("fence", 0), 0);
    }
}

/// Of the members on one shard, those that are connected are served first.
fn a_connected_member_is_preferred(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("preferred", 0);
        let filter = format!("$share/group/{topic}");
        let mut away = broker.connect(&Connect::new(V5, &broker.client_id("away", here)).durable(60));
        away.subscribe(&filter, 1);
        away.disconnect();
        let mut members = members(broker, &[here], &filter, 1);
        assert_eq!(distribute(broker, &mut connect(broker, V5, "publisher", there), &mut members, &topic, 1, 10), [10]);
    }
}

/// [MQTT-4.5.0-1]
fn the_last_member_keeps_its_messages_while_it_is_away(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("away", 0);
        let durable = Connect::new(V5, &broker.client_id("away", here)).durable(60);
        let mut away = broker.connect(&durable);
        away.subscribe(&format!("$share/group/{topic}"), 1);
        away.vanish();
        connect(broker, V5, "publisher", there).publish_to(&topic, "kept", 1);
        assert_eq!(broker.connect(&durable).publish_acknowledged().text(), "kept");
    }
}

/// [MQTT-4.4.0-1] [MQTT-4.8.2-4]
fn an_unacknowledged_message_waits_for_its_member(broker: &Broker) {
    for &(here, there) in broker.places() {
        for qos in [1, 2] {
            let topic = broker.topic("waits", 0);
            let filter = format!("$share/group/{topic}");
            let durable = Connect::new(V5, &broker.client_id("member", here)).durable(60);
            let mut member = broker.connect(&durable);
            member.subscribe(&filter, 2);
            connect(broker, V5, "publisher", there).publish_to(&topic, "mine", qos);
            let publish = member.publish();
            member.vanish();
            let mut other = members(broker, &[there], &filter, 2).remove(0);
            other.expect_silence();
            let mut again = broker.connect(&durable);
            assert_eq!(again.publish_acknowledged(), publish.dup());
            other.expect_silence();
        }
    }
}

/// Section 4.8.2: a QoS 1 message of a session that ends should go to another member. By every way in which a session ends.
fn what_a_member_leaves_unacknowledged_goes_to_another(broker: &Broker) {
    for &(here, there) in broker.places() {
        for way in ["no expiry", "clean start", "disconnect"] {
            let topic = broker.topic("handed/on", 0);
            let filter = format!("$share/group/{topic}");
            let durable = Connect::new(V5, &broker.client_id("member", here)).durable(if way == "no expiry" { 0 } else { 60 });
            let mut member = broker.connect(&durable);
            member.subscribe(&filter, 1);
            let mut publisher = connect(broker, V5, "publisher", there);
            for number in 0..5 {
                publisher.publish_to(&topic, &number.to_string(), 1);
            }
            (0..5).for_each(|_| assert_eq!(member.publish().qos, 1));
            let mut other = members(broker, &[there], &filter, 1).remove(0);
            match way {
                "no expiry" => member.vanish(),
                "clean start" => drop(broker.connect(&Connect { clean_start: true, ..durable })),
                _ => {
                    member.send(&packets::packet(0xE0, &[vec![0], packets::block(&property::session_expiry(0))].concat()));
                    member.expect_close();
                }
            }
            for number in 0..5 {
                assert_eq!(other.publish_acknowledged().text(), number.to_string(), "{way}");
            }
        }
    }
}

/// The same for messages that its window had no room for.
fn what_waits_for_a_member_that_ends_goes_to_another(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("handed/on", 0);
        let filter = format!("$share/group/{topic}");
        let member = Connect::new(V5, &broker.client_id("member", here)).properties(&[property::receive_maximum(1)]);
        let mut member = broker.connect(&member);
        member.subscribe(&filter, 2);
        // What it gets without the group ends with it.
        member.subscribe(&format!("{topic}/plain"), 1);
        let mut publisher = connect(broker, V5, "publisher", there);
        for number in 0..6 {
            publisher.publish_to(&topic, &number.to_string(), number % 2 + 1);
            publisher.publish_to(&format!("{topic}/plain"), "", 1);
        }
        assert_eq!(member.publish().text(), "0");
        let mut other = members(broker, &[there], &filter, 2).remove(0);
        member.vanish();
        for number in 0..6 {
            let publish = other.publish_acknowledged();
            assert_eq!((publish.text(), publish.qos), (&number.to_string()[..], number % 2 + 1));
        }
        other.expect_silence();
    }
}

/// [MQTT-4.8.2-5]
fn a_qos_2_message_under_way_goes_to_nobody_else(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("not/twice", 0);
        let filter = format!("$share/group/{topic}");
        let mut member = members(broker, &[here], &filter, 2).remove(0);
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.publish_to(&topic, "two", 2);
        publisher.publish_to(&topic, "released", 2);
        let (_, released) = (member.publish(), member.publish());
        member.send(&pubrec(released.id));
        member.expect(&pubrel(released.id));
        let mut other = members(broker, &[there], &filter, 2).remove(0);
        member.vanish();
        fence(broker);
        publisher.publish_to(&topic, "next", 1);
        assert_eq!(other.publish_acknowledged().text(), "next");
        other.expect_silence();
    }
}

/// [MQTT-4.8.2-6]
fn a_message_that_a_member_refuses_goes_to_nobody_else(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("refused", 0);
        let filter = format!("$share/group/{topic}");
        let mut member = members(broker, &[here], &filter, 2).remove(0);
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.publish_to(&topic, "one", 1);
        publisher.publish_to(&topic, "two", 2);
        let (one, two) = (member.publish(), member.publish());
        let mut other = members(broker, &[there], &filter, 2).remove(0);
        member.send(&[packets::ack_with(0x40, one.id, 0x80), packets::ack_with(0x50, two.id, 0x97)].concat());
        member.expect_silence();
        member.disconnect();
        fence(broker);
        publisher.publish_to(&topic, "next", 2);
        let publish = other.publish();
        assert_eq!(publish.text(), "next");
        other.send(&pubrec(publish.id));
        other.expect(&pubrel(publish.id));
        other.send(&pubcomp(publish.id));
        other.expect_silence();
    }
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
fn malformed_shared_filters_are_refused(broker: &Broker) {
    let filters =
        ["$share/", "$share/g", "$share//a", "$share/+/a", "$share/#/a", "$share/g+/a", "$share/g/", "$share/g/a/#/b", "$share/g/a#"];
    let mut client = connect(broker, V5, "client", 0);
    for (id, filter) in (1..).zip(filters) {
        client.send(&packets::subscribe(V5, id, &[], &[(filter, 1)]));
        client.expect(&suback(V5, id, &[0x8F]));
        let mut old = connect(broker, V311, "old", 0);
        old.send(&packets::subscribe(V311, id, &[], &[(filter, 1)]));
        old.expect_close();
    }
}

fn a_dollar_share_without_a_slash_is_an_ordinary_filter(broker: &Broker) {
    let mut client = connect(broker, V5, "client", 0);
    for topic in ["$share", "$shared/g/a", "$SHARE/g/a"] {
        client.subscribe(topic, 1);
        connect(broker, V5, "publisher", 0).publish_to(topic, "", 1);
        assert_eq!(client.publish_acknowledged().topic, topic);
        client.unsubscribe(topic);
    }
}

/// [MQTT-3.8.3-4]
fn no_local_on_a_shared_subscription_is_a_protocol_error(broker: &Broker) {
    let mut client = connect(broker, V5, "client", 0);
    client.send(&packets::subscribe(V5, 1, &[], &[("$share/g/a", 4)]));
    client.expect_disconnect(0x82);
}
