//! The will (sections 3.1.2.5 and 3.1.3.2): when it is published, when it is not, and when it waits.

use std::thread;
use std::time::{Duration, Instant};

use super::support::packets::{self, packet};
use super::support::{Broker, Client, Connect, Markers, Publish, V5, V31, V311, VERSIONS, Version, Will, on_every_configuration, property};

on_every_configuration! {
    []
    a_lost_connection_publishes_the_will,
    a_protocol_error_publishes_the_will,
    a_silent_client_leaves_its_will,
    a_take_over_publishes_the_will,
    disconnect_with_will_publishes_it,
    a_disconnect_drops_the_will,
    a_refused_connect_leaves_no_will,
    the_will_is_published_with_its_qos_and_retain,
    the_will_keeps_its_properties_in_order,
    an_empty_retained_will_clears_a_presence,
    a_will_is_published_once,
    the_will_of_the_present_connection_counts,
    a_will_reaches_the_session_that_left_it,
    a_delayed_will_waits_for_its_delay,
    a_delayed_will_is_cancelled_by_the_return_of_its_client,
    a_delayed_will_is_published_when_the_session_ends_first,
    a_delayed_will_is_published_at_once_by_a_clean_start,
    a_delayed_will_is_dropped_by_a_take_over_that_goes_on,
    a_delayed_will_is_published_by_a_take_over_of_a_session_without_expiry,
    a_will_with_the_delay_of_the_session_expiry_is_published_once,
}

fn witness(broker: &Broker, shard: u16, topic: &str) -> Client {
    let mut witness = broker.connect(&Connect::new(V5, &broker.client_id("witness", shard)));
    witness.subscribe(topic, 2);
    witness
}

/// A client with a will, and a witness for it, in every pair of places.
fn for_each_pair(broker: &Broker, version: Version, mut test: impl FnMut(Connect, Client, &str)) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("will", 0);
        let connect = Connect::new(version, &broker.client_id("mortal", there)).will(Will::new(&topic, "gone"));
        test(connect, witness(broker, here, &topic), &topic);
    }
}

/// Proves that no will came: a message that is published now is the next one.
fn expect_no_will(broker: &Broker, witness: &mut Client, topic: &str) {
    for shard in 0..broker.shards {
        broker.connect(&Connect::new(V5, &broker.client_id("prover", shard))).publish_to(topic, "no will", 1);
        assert_eq!(witness.publish_acknowledged().text(), "no will");
    }
}

/// [MQTT-3.1.2-8], and [MQTT-3.1.2-7] of 5.0
fn a_lost_connection_publishes_the_will(broker: &Broker) {
    for version in VERSIONS {
        for_each_pair(broker, version, |connect, mut witness, topic| {
            broker.connect(&connect).vanish();
            witness.expect(&Publish::new(V5, topic, "gone").bytes());
        });
    }
}

/// [MQTT-3.1.2-8] [MQTT-4.8.0-1] of 3.1.1; [MQTT-3.1.2-8] [MQTT-4.13.1-1] of 5.0
fn a_protocol_error_publishes_the_will(broker: &Broker) {
    for version in VERSIONS {
        for_each_pair(broker, version, |connect, mut witness, topic| {
            let mut mortal = broker.connect(&connect);
            mortal.send(&packet(0xF1, &[]));
            mortal.expect_disconnect(0x81);
            witness.expect(&Publish::new(V5, topic, "gone").bytes());
        });
    }
}

/// [MQTT-3.1.2-8]
fn a_silent_client_leaves_its_will(broker: &Broker) {
    for_each_pair(broker, V311, |connect, mut witness, topic| {
        let mut mortal = broker.connect(&connect.keep_alive(1));
        mortal.expect_close();
        witness.expect(&Publish::new(V5, topic, "gone").bytes());
    });
}

/// Section 3.1.4: the connection of the old client is closed without a DISCONNECT of its own.
fn a_take_over_publishes_the_will(broker: &Broker) {
    for version in VERSIONS {
        for durable in [false, true] {
            for_each_pair(broker, version, |connect, mut witness, topic| {
                let connect = if durable { connect.durable(60) } else { connect };
                let mut mortal = broker.connect(&connect);
                let mut again = broker.connect(&Connect { will: None, ..connect });
                mortal.expect_disconnect(0x8E);
                witness.expect(&Publish::new(V5, topic, "gone").bytes());
                again.expect_silence();
            });
        }
    }
}

/// Section 3.14.2.1: reason 0x04 asks for the will; so does every other reason but 0x00.
fn disconnect_with_will_publishes_it(broker: &Broker) {
    for reason in [0x04, 0x80, 0x93, 0x98] {
        for_each_pair(broker, V5, |connect, mut witness, topic| {
            let mut mortal = broker.connect(&connect);
            mortal.send(&packets::disconnect(reason));
            mortal.expect_close();
            witness.expect(&Publish::new(V5, topic, "gone").bytes());
        });
    }
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3]
fn a_disconnect_drops_the_will(broker: &Broker) {
    for version in VERSIONS {
        for_each_pair(broker, version, |connect, mut witness, topic| {
            broker.connect(&connect).disconnect();
            expect_no_will(broker, &mut witness, topic);
        });
    }
    // The long form says the same; the delay and the session do not matter.
    for_each_pair(broker, V5, |connect, mut witness, topic| {
        let will = Will::new(topic, "gone").properties(&[property::will_delay(1)]);
        let mut mortal = broker.connect(&connect.durable(60).will(will));
        mortal.send(&packet(0xE0, &[0, 0]));
        mortal.expect_close();
        expect_no_will(broker, &mut witness, topic);
    });
}

/// [MQTT-3.1.2-12] of 3.1.1
fn a_refused_connect_leaves_no_will(broker: &Broker) {
    for_each_pair(broker, V5, |connect, mut witness, topic| {
        let mut refused = broker.open();
        refused.send(&connect.properties(&[property::auth_method("TELEPATHY")]).bytes());
        refused.drain_to_close();
        expect_no_will(broker, &mut witness, topic);
    });
}

/// [MQTT-3.1.2-16] [MQTT-3.1.2-17] of 3.1.1; [MQTT-3.1.2-14] [MQTT-3.1.2-15] of 5.0
fn the_will_is_published_with_its_qos_and_retain(broker: &Broker) {
    let markers = Markers::new(broker);
    for version in [V31, V5] {
        for owner in 0..broker.shards {
            for qos in 0..=2 {
                for retain in [false, true] {
                    let topic = broker.topic("will", owner);
                    let mut live = witness(broker, 0, &topic);
                    let will = Will { retain, ..Will::new(&topic, "gone").qos(qos) };
                    broker.connect(&Connect::new(version, &broker.client_id("mortal", 0)).will(will)).vanish();
                    let publish = live.publish_acknowledged();
                    assert_eq!((publish.qos, publish.retain), (qos, false));
                    let mut late = broker.connect(&Connect::new(V5, &broker.client_id("late", 0)));
                    late.subscribe(&topic, 2);
                    if retain {
                        let publish = late.publish_acknowledged();
                        assert_eq!((publish.qos, publish.retain, publish.text()), (qos, true, "gone"));
                    }
                    markers.expect_silence(&mut late);
                }
            }
        }
    }
}

/// [MQTT-3.1.3-10] of 5.0, and what 3.1.3.2 says of the other properties
fn the_will_keeps_its_properties_in_order(broker: &Broker) {
    for_each_pair(broker, V5, |connect, mut witness, topic| {
        let passed_on = [
            property::user("z", "1"),
            property::payload_format(1),
            property::content_type("text/plain"),
            property::user("a", "2"),
            property::response_topic("reply"),
            property::correlation_data(&[0xFF, 0]),
            property::user("z", "3"),
        ];
        let mut properties = passed_on.to_vec();
        properties.insert(1, property::will_delay(0));
        properties.insert(4, property::message_expiry(77));
        broker.connect(&connect.will(Will::new(topic, "gone").properties(&properties))).vanish();
        let publish = witness.publish();
        assert_eq!(publish.property(0x02), [77u32.to_be_bytes()]);
        let mut found = property::parse(&publish.properties);
        found.retain(|(id, _)| *id != 0x02);
        let users = |list: &[(u8, Vec<u8>)]| list.iter().filter(|(id, _)| *id == 0x26).map(|(_, value)| value.clone()).collect::<Vec<_>>();
        let mut expected = property::parse(&passed_on.concat());
        assert_eq!(users(&found), users(&expected));
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    });
}

/// [MQTT-3.1.2-17] [MQTT-3.3.1-10] of 3.1.1; [MQTT-3.1.2-15] [MQTT-3.3.1-6] of 5.0: how a fleet shows who is there.
fn an_empty_retained_will_clears_a_presence(broker: &Broker) {
    let markers = Markers::new(broker);
    for version in VERSIONS {
        for owner in 0..broker.shards {
            for &(here, there) in broker.places() {
                let topic = broker.topic("drivers", owner);
                let filter = format!("{topic}/#");
                let mut live = witness(broker, here, &filter);
                let mortal = Connect::new(version, &broker.client_id("driver", there)).will(Will::new(&topic, "").retain());
                let mut driver = broker.connect(&mortal);
                driver.retain(&topic, "here");
                assert_eq!(live.publish_acknowledged().text(), "here");
                let mut late = witness(broker, here, &filter);
                assert_eq!(late.publish_acknowledged().text(), "here");
                driver.vanish();
                for client in [&mut live, &mut late] {
                    let empty = client.publish_acknowledged();
                    assert_eq!((empty.text(), empty.retain), ("", false));
                }
                markers.expect_silence(&mut witness(broker, here, &filter));
                // A clean DISCONNECT leaves it alone.
                let mut driver = broker.connect(&mortal);
                driver.retain(&topic, "here again");
                driver.disconnect();
                assert_eq!(witness(broker, here, &filter).publish().text(), "here again");
            }
        }
    }
}

/// [MQTT-3.1.2-10]
fn a_will_is_published_once(broker: &Broker) {
    for version in [V311, V5] {
        for_each_pair(broker, version, |connect, mut witness, topic| {
            let durable = connect.durable(60);
            broker.connect(&durable).vanish();
            assert_eq!(witness.publish().text(), "gone");
            broker.connect(&Connect { will: None, ..durable.clone() }).vanish();
            broker.connect(&Connect { will: None, clean_start: true, ..durable }).vanish();
            expect_no_will(broker, &mut witness, topic);
        });
    }
}

/// [MQTT-3.1.2-8]: the will belongs to the connection, not to the session.
fn the_will_of_the_present_connection_counts(broker: &Broker) {
    for_each_pair(broker, V5, |connect, mut witness, topic| {
        let durable = connect.durable(60);
        broker.connect(&durable).disconnect();
        broker.connect(&durable.clone().will(Will::new(topic, "another"))).vanish();
        assert_eq!(witness.publish().text(), "another");
        expect_no_will(broker, &mut witness, topic);
    });
}

/// [MQTT-4.5.0-1]: a will is a message like any other.
fn a_will_reaches_the_session_that_left_it(broker: &Broker) {
    for shard in 0..broker.shards {
        let topic = broker.topic("own", 0);
        let durable = Connect::new(V5, &broker.client_id("mortal", shard)).durable(60).will(Will::new(&topic, "gone").qos(1));
        let mut mortal = broker.connect(&durable);
        mortal.subscribe(&topic, 1);
        mortal.vanish();
        assert_eq!(broker.connect(&durable).publish_acknowledged().text(), "gone");
    }
}

/// Waits for a will; gives how long that took from `since` on.
fn time_of_will(witness: &mut Client, since: Instant) -> Duration {
    assert_eq!(witness.publish_acknowledged().text(), "gone");
    since.elapsed()
}

/// A client of 5.0 with a will that waits for `delay` seconds and a session that ends after `expiry` seconds.
fn delayed(broker: &Broker, shard: u16, topic: &str, delay: u32, expiry: u32) -> Connect {
    let will = Will::new(topic, "gone").qos(1).properties(&[property::will_delay(delay)]);
    Connect::new(V5, &broker.client_id("delayed", shard)).durable(expiry).will(will)
}

/// Between a second and the second half of the next.
fn assert_after_a_second(time: Duration) {
    assert!((Duration::from_millis(999)..Duration::from_millis(1_500)).contains(&time), "published after {time:?}");
}

/// [MQTT-3.1.2-8] of 5.0
fn a_delayed_will_waits_for_its_delay(broker: &Broker) {
    thread::scope(|scope| {
        for &(here, there) in broker.places() {
            for (expiry, reason) in [(60, None), (u32::MAX, None), (60, Some(0x04))] {
                scope.spawn(move || {
                    let topic = broker.topic("will", 0);
                    let mut witness = witness(broker, here, &topic);
                    let mut mortal = broker.connect(&delayed(broker, there, &topic, 1, expiry));
                    let since = Instant::now();
                    match reason {
                        None => mortal.vanish(),
                        Some(reason) => {
                            mortal.send(&packets::disconnect(reason));
                            mortal.expect_close();
                        }
                    }
                    assert_after_a_second(time_of_will(&mut witness, since));
                });
            }
        }
    });
}

/// [MQTT-3.1.3-9]
fn a_delayed_will_is_cancelled_by_the_return_of_its_client(broker: &Broker) {
    let topic = broker.topic("will", 0);
    let mut witness = witness(broker, 0, &topic);
    let mortal = delayed(broker, 0, &topic, 1, 60);
    broker.connect(&mortal).vanish();
    let mut back = broker.connect(&Connect { will: None, ..mortal });
    assert!(back.connack.session_present);
    // Until another will with the same delay is due.
    let other = broker.topic("will", 0);
    let mut clock = self::witness(broker, 0, &other);
    broker.connect(&delayed(broker, 0, &other, 1, 60)).vanish();
    assert_eq!(clock.publish_acknowledged().text(), "gone");
    expect_no_will(broker, &mut witness, &topic);
    back.expect_silence();
}

/// [MQTT-3.1.2-8] [MQTT-4.1.0-2] of 5.0: whichever happens first.
fn a_delayed_will_is_published_when_the_session_ends_first(broker: &Broker) {
    thread::scope(|scope| {
        for &(here, there) in broker.places() {
            scope.spawn(move || {
                let topic = broker.topic("will", 0);
                let mut witness = witness(broker, here, &topic);
                let mortal = broker.connect(&delayed(broker, there, &topic, 100, 1));
                let since = Instant::now();
                mortal.vanish();
                assert_after_a_second(time_of_will(&mut witness, since));
            });
            scope.spawn(move || {
                let topic = broker.topic("will", 0);
                let mut witness = witness(broker, here, &topic);
                // No session expiry: the session ends with the connection.
                broker.connect(&Connect { properties: Vec::new(), ..delayed(broker, there, &topic, 100, 0) }).vanish();
                assert_eq!(witness.publish_acknowledged().text(), "gone");
                // A DISCONNECT that keeps the will and ends the session.
                let mut mortal = broker.connect(&delayed(broker, there, &topic, 100, 60));
                mortal.send(&packet(0xE0, &[vec![0x04], packets::block(&property::session_expiry(0))].concat()));
                mortal.expect_close();
                assert_eq!(witness.publish_acknowledged().text(), "gone");
            });
        }
    });
}

/// Section 3.1.3.2.2: the session ends when a client starts anew.
fn a_delayed_will_is_published_at_once_by_a_clean_start(broker: &Broker) {
    for &(here, there) in broker.places() {
        for connected in [false, true] {
            let topic = broker.topic("will", 0);
            let mut witness = witness(broker, here, &topic);
            let mortal = delayed(broker, there, &topic, 100, 100);
            let client = broker.connect(&mortal);
            if !connected {
                client.vanish();
            }
            broker.connect(&Connect { will: None, clean_start: true, ..mortal });
            assert_eq!(witness.publish_acknowledged().text(), "gone");
            expect_no_will(broker, &mut witness, &topic);
        }
    }
}

/// [MQTT-3.1.3-9]
fn a_delayed_will_is_dropped_by_a_take_over_that_goes_on(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("will", 0);
        let mut witness = witness(broker, here, &topic);
        let mortal = delayed(broker, there, &topic, 100, 100);
        let mut old = broker.connect(&mortal);
        let new = broker.connect(&Connect { will: None, ..mortal.clone() });
        assert!(new.connack.session_present);
        old.expect_disconnect(0x8E);
        // Nor does the end of the session find it.
        broker.connect(&Connect { will: None, clean_start: true, ..mortal });
        expect_no_will(broker, &mut witness, &topic);
    }
}

/// Section 3.1.4, non-normative: where the session of the old connection has no expiry, it ends by the take-over, and the will is published.
fn a_delayed_will_is_published_by_a_take_over_of_a_session_without_expiry(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("will", 0);
        let mut witness = witness(broker, here, &topic);
        let mortal = Connect { properties: Vec::new(), ..delayed(broker, there, &topic, 100, 0) };
        let mut old = broker.connect(&mortal);
        let new = broker.connect(&Connect { will: None, ..mortal });
        assert!(!new.connack.session_present);
        old.expect_disconnect(0x8E);
        assert_eq!(witness.publish_acknowledged().text(), "gone");
    }
}

/// Both timers fire in one tick.
fn a_will_with_the_delay_of_the_session_expiry_is_published_once(broker: &Broker) {
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || {
                let topic = broker.topic("will", 0);
                let mut witness = witness(broker, 0, &topic);
                let mortal = broker.connect(&delayed(broker, 0, &topic, 1, 1));
                let since = Instant::now();
                mortal.vanish();
                assert_after_a_second(time_of_will(&mut witness, since));
                expect_no_will(broker, &mut witness, &topic);
            });
        }
    });
}
