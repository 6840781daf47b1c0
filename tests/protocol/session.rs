//! Sessions (sections 3.1.2.4, 3.1.2.11.2, 4.1, 4.4): what outlives a connection, and for how long.

use std::thread;
use std::time::{Duration, Instant};

use super::support::packets::{self, packet, puback, pubcomp, pubrec, pubrel};
use super::support::{Broker, Client, Connect, Publish, V5, V31, V311, Version, on_every_configuration, property};

on_every_configuration! {
    []
    messages_for_an_absent_client_wait_for_it,
    a_clean_start_drops_what_waits,
    unacknowledged_messages_are_sent_again_with_dup,
    a_released_message_is_only_released_again,
    what_is_sent_again_keeps_its_order_and_comes_before_what_waits,
    a_lower_receive_maximum_holds_for_what_is_sent_again,
    a_qos_2_publish_is_known_again_after_a_reconnect,
    a_message_survives_many_reconnects_exactly_once,
    a_session_lasts_as_long_as_was_asked_for,
    a_returning_client_stops_the_clock,
    disconnect_changes_the_expiry,
    disconnect_cannot_revive_a_session,
    a_session_changes_the_version,
    a_message_that_has_expired_is_not_delivered,
    a_message_under_way_does_not_expire,
    subscriptions_that_were_taken_back_do_not_return,
    a_new_session_numbers_its_packets_anew,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

/// A durable client with a subscription at QoS 2, a publisher and the topic, in every pair of places and version.
fn for_each_pair(broker: &Broker, mut test: impl FnMut(Connect, Client, Client, &str)) {
    for version in [V31, V311, V5] {
        for &(here, there) in broker.places() {
            let topic = broker.topic("session", 0);
            let durable = Connect::new(version, &broker.client_id("durable", here)).durable(60);
            let mut subscriber = broker.connect(&durable);
            subscriber.subscribe(&topic, 2);
            test(durable, subscriber, connect(broker, V5, "publisher", there), &topic);
        }
    }
}

/// [MQTT-3.1.2-4] [MQTT-3.1.2-5] of 3.1.1; [MQTT-3.1.2-5] [MQTT-3.1.2-23] of 5.0; [MQTT-4.1.0-1] [MQTT-4.3.1-1] [MQTT-4.5.0-1]
fn messages_for_an_absent_client_wait_for_it(broker: &Broker) {
    for_each_pair(broker, |durable, subscriber, mut publisher, topic| {
        subscriber.disconnect();
        for number in 0..30 {
            publisher.publish_to(topic, &number.to_string(), number % 3);
        }
        let mut again = broker.connect(&durable);
        // QoS 0 is not kept.
        for number in (0..30).filter(|number| number % 3 > 0) {
            let publish = again.publish_acknowledged();
            assert_eq!((publish.text(), publish.qos, publish.dup), (&number.to_string()[..], number % 3, false));
        }
        again.expect_silence();
        publisher.publish_to(topic, "live", 0);
        assert_eq!(again.publish().text(), "live");
    });
}

/// [MQTT-3.1.2-6] of 3.1.1; [MQTT-3.1.2-4] of 5.0
fn a_clean_start_drops_what_waits(broker: &Broker) {
    for_each_pair(broker, |durable, mut subscriber, mut publisher, topic| {
        publisher.publish_to(topic, "in flight", 1);
        assert_eq!(subscriber.publish().text(), "in flight");
        subscriber.vanish();
        publisher.publish_to(topic, "waiting", 2);
        broker.connect(&Connect { clean_start: true, ..durable.clone() }).expect_silence();
        let mut again = broker.connect(&durable);
        publisher.publish_to(topic, "nobody wants this", 1);
        again.expect_silence();
    });
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-2.3.1-3]; [MQTT-4.3.3-3] of 5.0
fn unacknowledged_messages_are_sent_again_with_dup(broker: &Broker) {
    for_each_pair(broker, |durable, mut subscriber, mut publisher, topic| {
        publisher.publish_to(topic, "one", 1);
        publisher.publish_to(topic, "two", 2);
        publisher.publish_to(topic, "zero", 0);
        let (one, two) = (subscriber.publish(), subscriber.publish());
        assert!(!one.dup && !two.dup);
        assert_eq!(subscriber.publish().text(), "zero");
        // At no other time than after a reconnect: nothing comes by waiting.
        subscriber.expect_silence();
        let mut last = subscriber;
        for _ in 0..2 {
            last.vanish();
            last = broker.connect(&durable);
            last.expect(&[one.clone().dup().bytes(), two.clone().dup().bytes()].concat());
            last.expect_silence();
        }
        last.send(&[puback(one.id), pubrec(two.id)].concat());
        last.expect(&pubrel(two.id));
        last.send(&pubcomp(two.id));
        last.disconnect();
        broker.connect(&durable).expect_silence();
    });
}

/// [MQTT-4.4.0-1]; [MQTT-4.3.3-1] of 3.1.1, [MQTT-4.3.3-5] [MQTT-4.3.3-6] of 5.0
fn a_released_message_is_only_released_again(broker: &Broker) {
    for_each_pair(broker, |durable, mut subscriber, mut publisher, topic| {
        publisher.publish_to(topic, "two", 2);
        let two = subscriber.publish();
        subscriber.send(&pubrec(two.id));
        subscriber.expect(&pubrel(two.id));
        let mut last = subscriber;
        for _ in 0..2 {
            last.vanish();
            last = broker.connect(&durable);
            last.expect(&pubrel(two.id));
            last.expect_silence();
        }
        last.send(&pubcomp(two.id));
        last.disconnect();
        broker.connect(&durable).expect_silence();
    });
}

/// [MQTT-4.6.0-1]
fn what_is_sent_again_keeps_its_order_and_comes_before_what_waits(broker: &Broker) {
    for_each_pair(broker, |durable, mut subscriber, mut publisher, topic| {
        for number in 0..12 {
            publisher.publish_to(topic, &number.to_string(), number % 2 + 1);
        }
        let sent: Vec<_> = (0..12).map(|_| subscriber.publish()).collect();
        // Acknowledged out of order: 2 and 6 are over, 5 is released.
        subscriber.send(&[puback(sent[2].id), puback(sent[6].id), pubrec(sent[5].id)].concat());
        subscriber.expect(&pubrel(sent[5].id));
        subscriber.vanish();
        for number in 12..24 {
            publisher.publish_to(topic, &number.to_string(), 1);
        }
        let mut again = broker.connect(&durable);
        for (number, publish) in sent.iter().enumerate().filter(|(number, _)| ![2, 6].contains(number)) {
            again.expect(&if number == 5 { pubrel(publish.id) } else { publish.clone().dup().bytes() });
        }
        for number in 12..24 {
            let publish = again.publish();
            assert_eq!((publish.text(), publish.dup), (&number.to_string()[..], false));
            assert!(!sent.iter().any(|before| before.id == publish.id), "packet identifier {} is in use", publish.id);
        }
    });
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
fn a_lower_receive_maximum_holds_for_what_is_sent_again(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("lower", 0);
        let durable = Connect::new(V5, &broker.client_id("durable", here)).durable(60);
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 1);
        let mut publisher = connect(broker, V5, "publisher", there);
        for number in 0..10 {
            publisher.publish_to(&topic, &number.to_string(), 1);
        }
        let sent: Vec<_> = (0..10).map(|_| subscriber.publish()).collect();
        subscriber.vanish();
        let mut again = broker.connect(&durable.properties(&[property::receive_maximum(3)]));
        sent[..3].iter().for_each(|publish| again.expect(&publish.clone().dup().bytes()));
        again.expect_silence();
        for number in 3..10 {
            again.send(&puback(sent[number - 3].id));
            again.expect(&sent[number].clone().dup().bytes());
            again.expect_silence();
        }
    }
}

/// [MQTT-4.3.3-2] of 3.1.1; [MQTT-4.3.3-10] of 5.0; [MQTT-4.1.0-1]
fn a_qos_2_publish_is_known_again_after_a_reconnect(broker: &Broker) {
    for_each_pair(broker, |durable, mut witness, _, topic| {
        let durable = Connect { client_id: broker.client_id("publisher", 0), ..durable };
        let publish = Publish::new(durable.version, topic, "once").qos(2, 7);
        let mut publisher = broker.connect(&durable);
        publisher.send(&publish.bytes());
        publisher.expect(&pubrec(7));
        for _ in 0..2 {
            publisher.vanish();
            publisher = broker.connect(&durable);
            publisher.send(&publish.clone().dup().bytes());
            publisher.expect(&pubrec(7));
        }
        publisher.send(&pubrel(7));
        publisher.expect(&pubcomp(7));
        assert_eq!(witness.publish_acknowledged().text(), "once");
        // The exchange is over: the same identifier is a new message.
        publisher.send(&publish.bytes());
        publisher.expect(&pubrec(7));
        assert_eq!(witness.publish_acknowledged().text(), "once");
        // A clean start forgets it.
        let mut anew = broker.connect(&Connect { clean_start: true, ..durable });
        anew.send(&publish.dup().bytes());
        anew.expect(&pubrec(7));
        assert_eq!(witness.publish_acknowledged().text(), "once");
        witness.expect_silence();
    });
}

/// Both sides lose their connections in the middle of everything; order and QoS 2 hold. [MQTT-4.6.0-5]
fn a_message_survives_many_reconnects_exactly_once(broker: &Broker) {
    const MESSAGES: u16 = 400;
    for &(here, there) in broker.places() {
        let topic = broker.topic("survivor", 0);
        let durable = Connect::new(V5, &broker.client_id("subscriber", here)).durable(60);
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 2);
        let publisher = Connect::new(V311, &broker.client_id("publisher", there)).resume();
        thread::scope(|scope| {
            scope.spawn(|| publish_with_losses(broker, &publisher, &topic, MESSAGES));
            let mut known = std::collections::BTreeSet::new();
            let mut next = 0;
            let mut packets = 0;
            while next < MESSAGES || !known.is_empty() {
                let packet = subscriber.packet();
                packets += 1;
                if packet[0] == 0x62 {
                    known.remove(&packet[2..4]);
                    subscriber.send(&packets::packet(0x70, &packet[2..4]));
                } else {
                    let publish = Publish::parse(V5, &packet);
                    if known.insert(publish.id.to_be_bytes().to_vec()) {
                        assert_eq!(publish.text(), next.to_string());
                        next += 1;
                    }
                    subscriber.send(&pubrec(publish.id));
                }
                if packets % 61 == 0 {
                    subscriber.vanish();
                    subscriber = broker.connect(&durable);
                }
            }
            subscriber.expect_silence();
        });
    }
}

/// Publishes numbered messages at QoS 2, one after the other, and loses the connection before every third acknowledgement.
fn publish_with_losses(broker: &Broker, connect: &Connect, topic: &str, messages: u16) {
    let mut publisher = broker.connect(connect);
    for number in 0..messages {
        let id = number + 1;
        let publish = Publish::new(connect.version, topic, &number.to_string()).qos(2, id);
        publisher.send(&publish.bytes());
        if number % 3 == 1 {
            publisher.vanish();
            publisher = broker.connect(connect);
            publisher.send(&publish.dup().bytes());
        }
        publisher.expect(&pubrec(id));
        publisher.send(&pubrel(id));
        if number % 3 == 2 {
            publisher.vanish();
            publisher = broker.connect(connect);
            publisher.send(&pubrel(id));
        }
        publisher.expect(&pubcomp(id));
    }
}

/// Whether a session with this identifier is there; ends it.
fn session_is_there(broker: &Broker, connect: &Connect) -> bool {
    let client = broker.connect(connect);
    client.connack.session_present
}

/// [MQTT-3.1.2-23] [MQTT-4.1.0-2] of 5.0: 0, a second, for ever; never ends in 3.x.
fn a_session_lasts_as_long_as_was_asked_for(broker: &Broker) {
    for (version, expiry) in [(V5, 0), (V5, 1), (V5, 60), (V5, u32::MAX), (V311, 0)] {
        let durable = Connect::new(version, &broker.client_id("lasting", 0)).durable(expiry);
        broker.connect(&durable).disconnect();
        assert_eq!(session_is_there(broker, &durable), version == V311 || expiry > 0, "{version:?} {expiry}");
    }
    let make = |expiry| Connect::new(V5, &broker.client_id("lasting", 0)).durable(expiry);
    let (short, long, endless) = (make(1), make(60), make(u32::MAX));
    let old = Connect::new(V311, &broker.client_id("lasting", 0)).durable(0);
    for connect in [&short, &long, &endless, &old] {
        broker.connect(connect).vanish();
    }
    broker.let_a_second_pass();
    assert!(!session_is_there(broker, &short));
    assert!(session_is_there(broker, &long) && session_is_there(broker, &endless) && session_is_there(broker, &old));
}

/// The expiry counts from the end of a connection, and not while there is one.
fn a_returning_client_stops_the_clock(broker: &Broker) {
    let durable = Connect::new(V5, &broker.client_id("returning", 0)).durable(1);
    let topic = broker.topic("returning", 0);
    let mut client = broker.connect(&durable);
    client.subscribe(&topic, 1);
    client.vanish();
    let mut back = broker.connect(&durable);
    broker.let_a_second_pass();
    connect(broker, V5, "publisher", 0).publish_to(&topic, "still there", 1);
    assert_eq!(back.publish_acknowledged().text(), "still there");
    back.vanish();
    assert!(session_is_there(broker, &durable));
}

fn disconnect_with_expiry(client: &mut Client, seconds: u32) {
    client.send(&packet(0xE0, &[vec![0], packets::block(&property::session_expiry(seconds))].concat()));
}

/// Section 3.14.2.2.2
fn disconnect_changes_the_expiry(broker: &Broker) {
    for (asked, changed, kept) in [(60, 0, false), (1, 60, true), (60, u32::MAX, true)] {
        let durable = Connect::new(V5, &broker.client_id("changed", 0)).durable(asked);
        let mut client = broker.connect(&durable);
        disconnect_with_expiry(&mut client, changed);
        client.expect_close();
        assert_eq!(session_is_there(broker, &durable), kept, "{asked} changed to {changed}");
    }
}

/// Section 3.14.2.2.2: not where CONNECT had none.
fn disconnect_cannot_revive_a_session(broker: &Broker) {
    let connect = Connect::new(V5, &broker.client_id("revived", 0)).resume();
    let mut client = broker.connect(&connect);
    disconnect_with_expiry(&mut client, 60);
    client.expect_disconnect(0x82);
    assert!(!session_is_there(broker, &connect));
    let mut client = broker.connect(&connect);
    disconnect_with_expiry(&mut client, 0);
    client.expect_close();
}

/// A client that learns another version keeps its session: what waits is put into the words of the new one.
fn a_session_changes_the_version(broker: &Broker) {
    for &(here, there) in broker.places() {
        for (old, new) in [(V311, V5), (V5, V311), (V31, V5), (V5, V31), (V31, V311)] {
            let topic = broker.topic("version", 0);
            let id = broker.client_id("changing", here);
            let mut subscriber = broker.connect(&Connect::new(old, &id).durable(60));
            let identifier = if old == V5 { property::subscription_id(4) } else { Vec::new() };
            subscriber.subscribe_with(&identifier, &topic, 2);
            let mut publisher = connect(broker, V5, "publisher", there);
            let properties = [property::user("a", "b")];
            let in_flight = Publish::new(V5, &topic, "in flight").qos(2, 1).properties(&properties);
            publisher.send_publish(&in_flight);
            assert_eq!(subscriber.publish().text(), "in flight");
            subscriber.vanish();
            publisher.send_publish(&Publish::new(V5, &topic, "waiting").qos(1, 2).properties(&properties));
            let mut again = broker.connect(&Connect::new(new, &id).durable(60));
            assert_eq!(again.connack.session_present, new != V31);
            for (text, dup) in [("in flight", true), ("waiting", false)] {
                let publish = again.publish_acknowledged();
                assert_eq!((publish.text(), publish.dup), (text, dup));
                let mut expected = if old == V5 { property::subscription_id(4) } else { Vec::new() };
                expected.extend(properties.concat());
                assert_eq!(publish.properties, if new == V5 { expected } else { Vec::new() });
            }
            again.expect_silence();
        }
    }
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
fn a_message_that_has_expired_is_not_delivered(broker: &Broker) {
    let pairs: Vec<_> = broker
        .places()
        .iter()
        .map(|&(here, there)| {
            let topic = broker.topic("expired", 0);
            let durable = Connect::new(V5, &broker.client_id("durable", here)).durable(60);
            let mut subscriber = broker.connect(&durable);
            subscriber.subscribe(&topic, 2);
            subscriber.vanish();
            let mut publisher = connect(broker, V5, "publisher", there);
            for (id, seconds) in [(1, 1), (2, 100), (3, 1)] {
                let publish = Publish::new(V5, &topic, &seconds.to_string()).qos(id as u8 % 2 + 1, id);
                publisher.send_publish(&publish.properties(&[property::message_expiry(seconds)]));
            }
            durable
        })
        .collect();
    broker.let_a_second_pass();
    for durable in pairs {
        let mut again = broker.connect(&durable);
        let publish = again.publish_acknowledged();
        assert_eq!((publish.text(), publish.property(0x02)), ("100", vec![99u32.to_be_bytes().to_vec()]));
        again.expect_silence();
    }
}

/// [MQTT-4.3.3-7] [MQTT-4.3.3-13]
fn a_message_under_way_does_not_expire(broker: &Broker) {
    let topic = broker.topic("under/way", 0);
    let durable = Connect::new(V5, &broker.client_id("durable", 0)).durable(60);
    let mut subscriber = broker.connect(&durable);
    subscriber.subscribe(&topic, 2);
    let mut publisher = connect(broker, V5, "publisher", 0);
    for id in [1, 2] {
        publisher.send_publish(&Publish::new(V5, &topic, "two").qos(2, id).properties(&[property::message_expiry(1)]));
    }
    let (one, two) = (subscriber.publish(), subscriber.publish());
    subscriber.send(&pubrec(one.id));
    subscriber.expect(&pubrel(one.id));
    subscriber.vanish();
    broker.let_a_second_pass();
    let mut again = broker.connect(&durable);
    again.expect(&pubrel(one.id));
    again.send(&pubcomp(one.id));
    let publish = again.publish_acknowledged();
    assert_eq!((publish.id, publish.dup), (two.id, true));
    again.expect_silence();
}

/// [MQTT-3.10.4-1] [MQTT-4.1.0-1]
fn subscriptions_that_were_taken_back_do_not_return(broker: &Broker) {
    for_each_pair(broker, |durable, mut subscriber, mut publisher, topic| {
        subscriber.subscribe(&format!("{topic}/+"), 1);
        subscriber.unsubscribe(topic);
        subscriber.vanish();
        publisher.publish_to(topic, "taken back", 1);
        publisher.publish_to(&format!("{topic}/x"), "kept", 1);
        let mut again = broker.connect(&durable);
        assert_eq!(again.publish_acknowledged().text(), "kept");
        again.expect_silence();
    });
}

/// [MQTT-2.2.1-4]
fn a_new_session_numbers_its_packets_anew(broker: &Broker) {
    let topic = broker.topic("anew", 0);
    let id = broker.client_id("anew", 0);
    let mut publisher = connect(broker, V5, "publisher", 0);
    for _ in 0..2 {
        let since = Instant::now();
        let mut client = broker.connect(&Connect::new(V5, &id));
        client.subscribe(&topic, 1);
        publisher.publish_to(&topic, "", 1);
        assert_eq!(client.publish().id, 1);
        client.vanish();
        assert!(since.elapsed() < Duration::from_secs(10));
    }
}
