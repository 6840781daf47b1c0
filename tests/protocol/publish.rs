//! PUBLISH and its acknowledgements (sections 3.3 to 3.7, 4.3 to 4.6), both ways.

use super::support::packets::{self, PINGREQ, PINGRESP, packet, puback, pubcomp, pubrec, pubrel};
use super::support::{Broker, Client, Connect, Publish, V5, V31, V311, VERSIONS, Version, on_every_configuration};

on_every_configuration! {
    []
    a_qos_0_message_arrives_in_the_fewest_bytes,
    the_acknowledgements_are_four_bytes_each,
    without_a_subscriber_a_5_0_publisher_is_told_so,
    the_lower_of_published_and_granted_qos_is_delivered,
    the_exchange_with_a_subscriber_is_exact,
    dup_is_not_passed_on,
    a_qos_2_message_sent_again_is_delivered_once,
    a_released_packet_id_names_a_new_message,
    a_qos_1_packet_id_names_a_new_message_after_its_puback,
    pubrel_for_an_unknown_packet_id_is_answered,
    acknowledgements_that_nobody_waits_for_are_harmless,
    an_acknowledgement_of_the_wrong_kind_ends_the_connection_and_counts_for_nothing,
    a_refused_message_is_not_sent_again,
    messages_arrive_in_the_order_in_which_they_were_published,
    acknowledgements_come_in_the_order_of_the_publishes,
    payloads_of_all_lengths_arrive_unchanged,
    packet_ids_go_round,
    one_message_reaches_each_subscriber_once_whatever_its_identifiers,
    a_message_to_oneself_arrives,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

/// A publisher and a subscriber for each pair of places, for each pair of versions.
fn for_each_pair(broker: &Broker, mut test: impl FnMut(Client, Client)) {
    for &(here, there) in broker.places() {
        for publisher in VERSIONS {
            for subscriber in VERSIONS {
                test(connect(broker, publisher, "publisher", there), connect(broker, subscriber, "subscriber", here));
            }
        }
    }
}

/// [MQTT-2.3.1-5] of 3.1.1, [MQTT-2.2.1-2] [MQTT-2.2.2-1] of 5.0; [MQTT-3.3.1-2] [MQTT-4.3.1-1] [MQTT-3.3.2-3]
fn a_qos_0_message_arrives_in_the_fewest_bytes(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("q0", 0);
        subscriber.subscribe(&topic, 0);
        publisher.publish_to(&topic, "payload", 0);
        let properties: &[u8] = if subscriber.version == V5 { &[0] } else { &[] };
        let body = [&[0, topic.len() as u8][..], topic.as_bytes(), properties, b"payload"].concat();
        subscriber.expect(&packet(0x30, &body));
    });
}

/// [MQTT-2.3.1-6] of 3.1.1, [MQTT-2.2.1-5] of 5.0; [MQTT-3.3.4-1] [MQTT-4.3.2-2] of 3.1.1, [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] of 5.0
fn the_acknowledgements_are_four_bytes_each(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("acks", 0);
        subscriber.subscribe(&topic, 0);
        let version = publisher.version;
        publisher.send(&Publish::new(version, &topic, "1").qos(1, 0x1234).bytes());
        publisher.expect(&[0x40, 2, 0x12, 0x34]);
        publisher.send(&Publish::new(version, &topic, "2").qos(2, 0xFFFF).bytes());
        publisher.expect(&[0x50, 2, 0xFF, 0xFF]);
        publisher.send(&[0x62, 2, 0xFF, 0xFF]);
        publisher.expect(&[0x70, 2, 0xFF, 0xFF]);
        assert_eq!([subscriber.publish().text().to_owned(), subscriber.publish().text().to_owned()], ["1", "2"]);
    });
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1]
fn without_a_subscriber_a_5_0_publisher_is_told_so(broker: &Broker) {
    let topic = broker.topic("nobody", 0);
    let mut publisher = connect(broker, V5, "publisher", 0);
    publisher.send(&Publish::new(V5, &topic, "").qos(1, 1).bytes());
    publisher.expect(&[0x40, 3, 0, 1, 0x10]);
    publisher.send(&Publish::new(V5, &topic, "").qos(2, 2).bytes());
    publisher.expect(&[0x50, 3, 0, 2, 0x10]);
    publisher.send(&pubrel(2));
    publisher.expect(&pubcomp(2));
    let mut old = connect(broker, V311, "publisher", 0);
    old.send(&Publish::new(V311, &topic, "").qos(1, 1).bytes());
    old.expect(&puback(1));
}

/// [MQTT-3.8.4-6] of 3.1.1, [MQTT-3.8.4-8] of 5.0
fn the_lower_of_published_and_granted_qos_is_delivered(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        for granted in 0..=2 {
            let topic = broker.topic("lower", 0);
            subscriber.subscribe(&topic, granted);
            for published in 0..=2 {
                publisher.publish_to(&topic, "", published);
                assert_eq!(subscriber.publish_acknowledged().qos, granted.min(published));
            }
        }
        subscriber.expect_silence();
    });
}

/// [MQTT-4.3.2-1] [MQTT-4.3.3-1] of 3.1.1; [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-4] of 5.0;
/// [MQTT-3.6.1-1]
fn the_exchange_with_a_subscriber_is_exact(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("exchange", 0);
        subscriber.subscribe(&topic, 2);
        publisher.publish_to(&topic, "once", 1);
        subscriber.expect(&Publish::new(subscriber.version, &topic, "once").qos(1, 1).bytes());
        publisher.publish_to(&topic, "exactly once", 2);
        subscriber.expect(&Publish::new(subscriber.version, &topic, "exactly once").qos(2, 2).bytes());
        subscriber.send(&puback(1));
        subscriber.send(&pubrec(2));
        subscriber.expect(&[0x62, 2, 0, 2]);
        // A PUBREC that comes again gets its PUBREL again, and the message is not sent again.
        subscriber.send(&pubrec(2));
        subscriber.expect(&[0x62, 2, 0, 2]);
        subscriber.send(&pubcomp(2));
        subscriber.expect_silence();
    });
}

/// [MQTT-3.3.1-3]
fn dup_is_not_passed_on(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("dup", 0);
        subscriber.subscribe(&topic, 2);
        for qos in [1, 2] {
            let id = publisher.packet_id();
            publisher.send_publish(&Publish::new(publisher.version, &topic, "").qos(qos, id).dup());
            assert!(!subscriber.publish_acknowledged().dup);
        }
    });
}

/// [MQTT-4.3.3-2] of 3.1.1; [MQTT-4.3.3-10] of 5.0
fn a_qos_2_message_sent_again_is_delivered_once(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("again", 0);
        subscriber.subscribe(&topic, 2);
        let publish = Publish::new(publisher.version, &topic, "once").qos(2, 9);
        for publish in [publish.clone(), publish.clone().dup(), publish.clone(), publish.dup()] {
            publisher.send(&publish.bytes());
            publisher.expect(&pubrec(9));
        }
        publisher.send(&[pubrel(9), pubrel(9)].concat());
        publisher.expect(&pubcomp(9));
        let again = if publisher.version == V5 { packets::ack_with(0x70, 9, 0x92) } else { pubcomp(9) };
        publisher.expect(&again);
        assert_eq!(subscriber.publish_acknowledged().text(), "once");
        subscriber.expect_silence();
    });
}

/// [MQTT-4.3.3-12]
fn a_released_packet_id_names_a_new_message(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("released", 0);
        subscriber.subscribe(&topic, 2);
        for text in ["first", "second", "third"] {
            publisher.send_publish(&Publish::new(publisher.version, &topic, text).qos(2, 5));
            assert_eq!(subscriber.publish_acknowledged().text(), text);
        }
    });
}

/// [MQTT-4.3.2-5]
fn a_qos_1_packet_id_names_a_new_message_after_its_puback(broker: &Broker) {
    for_each_pair(broker, |mut publisher, mut subscriber| {
        let topic = broker.topic("same", 0);
        subscriber.subscribe(&topic, 1);
        for text in ["first", "second", "third"] {
            publisher.send_publish(&Publish::new(publisher.version, &topic, text).qos(1, 5).dup());
            assert_eq!(subscriber.publish_acknowledged().text(), text);
        }
    });
}

/// [MQTT-4.3.3-11] [MQTT-3.7.2-1]
fn pubrel_for_an_unknown_packet_id_is_answered(broker: &Broker) {
    for version in VERSIONS {
        let mut client = connect(broker, version, "unknown", 0);
        client.send(&pubrel(77));
        client.expect(&if version == V5 { packets::ack_with(0x70, 77, 0x92) } else { pubcomp(77) });
        client.expect_silence();
    }
}

/// [MQTT-4.3.3-4]
fn acknowledgements_that_nobody_waits_for_are_harmless(broker: &Broker) {
    for version in VERSIONS {
        let mut client = connect(broker, version, "harmless", 0);
        client.send(&[puback(1), pubcomp(1), puback(65_535), pubcomp(65_535)].concat());
        client.expect_silence();
        client.send(&pubrec(3));
        client.expect(&if version == V5 { packets::ack_with(0x62, 3, 0x92) } else { pubrel(3) });
        client.send(&pubcomp(3));
        client.expect_silence();
    }
}

/// [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5]
fn an_acknowledgement_of_the_wrong_kind_ends_the_connection_and_counts_for_nothing(broker: &Broker) {
    let topic = broker.topic("other", 0);
    for durable in [Connect::new(V311, &broker.client_id("other", 0)).resume(), Connect::new(V5, &broker.client_id("other", 0)).durable(60)]
    {
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 2);
        let mut publisher = connect(broker, V5, "publisher", 0);
        publisher.publish_to(&topic, "one", 1);
        publisher.publish_to(&topic, "two", 2);
        let (one, two) = (subscriber.publish(), subscriber.publish());
        // PUBACK for the QoS 2 message, PUBREC for the QoS 1 message; PUBCOMP for both, of which none is released.
        for wrong in [puback(two.id), pubrec(one.id), pubcomp(one.id), pubcomp(two.id)] {
            subscriber.send(&wrong);
            match durable.version {
                V5 => subscriber.expect_disconnect(0x82),
                _ => subscriber.expect_close(),
            }
            subscriber = broker.connect(&durable);
            assert_eq!([subscriber.publish(), subscriber.publish()], [one.clone().dup(), two.clone().dup()]);
        }
        subscriber.send(&[puback(one.id), pubrec(two.id)].concat());
        subscriber.expect(&pubrel(two.id));
        // The QoS 2 message is released, and PUBACK is none of its acknowledgements.
        subscriber.send(&puback(two.id));
        match durable.version {
            V5 => subscriber.expect_disconnect(0x82),
            _ => subscriber.expect_close(),
        }
    }
}

/// [MQTT-4.4.0-2] [MQTT-4.3.3-4]
fn a_refused_message_is_not_sent_again(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("not/again", 0);
        let durable = Connect::new(V5, &broker.client_id("refuser", here)).durable(60);
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 2);
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.publish_to(&topic, "one", 1);
        publisher.publish_to(&topic, "two", 2);
        let (one, two) = (subscriber.publish(), subscriber.publish());
        subscriber.send(&[packets::ack_with(0x40, one.id, 0x97), packets::ack_with(0x50, two.id, 0x80)].concat());
        // No PUBREL follows a PUBREC that refuses.
        subscriber.expect_silence();
        subscriber.vanish();
        broker.connect(&durable).expect_silence();
    }
}

/// [MQTT-4.6.0-6] of 3.1.1; [MQTT-4.6.0-5] of 5.0
fn messages_arrive_in_the_order_in_which_they_were_published(broker: &Broker) {
    const MESSAGES: u16 = 1_000;
    for &(here, there) in broker.places() {
        for qos in 0..=2 {
            let topic = broker.topic("order", 0);
            let mut subscriber = connect(broker, V5, "subscriber", here);
            subscriber.subscribe(&topic, qos);
            let mut publisher = connect(broker, V311, "publisher", there);
            let publishes: Vec<u8> = (1..=MESSAGES)
                .flat_map(|number| {
                    let id = if qos == 0 { 0 } else { number };
                    Publish::new(V311, &topic, &number.to_string()).qos(qos, id).bytes()
                })
                .collect();
            publisher.send(&publishes);
            for number in 1..=MESSAGES {
                let publish = subscriber.publish();
                assert_eq!(publish.text(), number.to_string());
                if qos == 1 {
                    subscriber.send(&puback(publish.id));
                } else if qos == 2 {
                    subscriber.send(&pubrec(publish.id));
                }
            }
            // PUBREL in the order of the PUBRECs. [MQTT-4.6.0-4]
            for number in (1..=MESSAGES).filter(|_| qos == 2) {
                subscriber.expect(&pubrel(number));
            }
        }
    }
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3], which only bind a client: a publisher sees the same from the broker.
fn acknowledgements_come_in_the_order_of_the_publishes(broker: &Broker) {
    let (here, there) = *broker.places().last().expect("at least one place");
    let mut publisher = connect(broker, V5, "publisher", here);
    // Some messages stay on the publisher's shard, some have to be taken by another one first.
    let topics = [broker.topic("near", 0), broker.topic("far", 0), broker.topic("nowhere", 0)];
    let mut near = connect(broker, V5, "near", here);
    near.subscribe(&topics[0], 0);
    let mut far = connect(broker, V5, "far", there);
    far.subscribe(&topics[1], 0);
    let qos = |id: u16| if id.is_multiple_of(5) { 2 } else { 1 };
    for id in 1..=300u16 {
        publisher.send(&Publish::new(V5, &topics[usize::from(id) % 3], "").qos(qos(id), id).bytes());
    }
    for id in 1..=300u16 {
        let packet = publisher.packet();
        assert_eq!((packet[0], &packet[2..4]), (if qos(id) == 2 { 0x50 } else { 0x40 }, &id.to_be_bytes()[..]));
    }
}

/// Around every length of the remaining length, and beyond the size from which on payloads are shared between subscribers.
fn payloads_of_all_lengths_arrive_unchanged(broker: &Broker) {
    let lengths = [0, 1, 90, 126, 127, 128, 1_023, 1_024, 16_382, 16_383, 16_384, 65_536, 1_000_003, 2_097_151, 2_097_152];
    for &(here, there) in broker.places() {
        let topic = broker.topic("length", 0);
        let mut subscribers: Vec<_> = [(V31, 0), (V311, 1), (V5, 2)]
            .map(|(version, qos)| {
                let mut subscriber = connect(broker, version, "subscriber", here);
                subscriber.subscribe(&topic, qos);
                subscriber
            })
            .into();
        let mut publisher = connect(broker, V5, "publisher", there);
        for length in lengths {
            for back in 0..8 {
                let payload: String = (0..length - length.min(back)).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
                let qos = (back % 3) as u8;
                publisher.publish_to(&topic, &payload, qos);
                for (granted, subscriber) in subscribers.iter_mut().enumerate() {
                    let publish = subscriber.publish_acknowledged();
                    assert!(
                        publish.payload == payload.as_bytes(),
                        "a payload of {} bytes came as {} bytes",
                        payload.len(),
                        publish.payload.len()
                    );
                    assert_eq!(publish.qos, qos.min(granted as u8));
                }
                if length > 100_000 && back > 0 {
                    break;
                }
            }
        }
    }
}

/// [MQTT-2.3.1-4] of 3.1.1, [MQTT-2.2.1-4] of 5.0: after 65,535 comes 1, and an identifier that is still in use is left out.
fn packet_ids_go_round(broker: &Broker) {
    const MESSAGES: u32 = 66_000;
    let topic = broker.topic("round", 0);
    let (here, there) = *broker.places().last().expect("at least one place");
    let mut subscriber = connect(broker, V311, "subscriber", here);
    subscriber.subscribe(&topic, 1);
    let mut publisher = connect(broker, V311, "publisher", there);
    for first in (0..MESSAGES).step_by(500) {
        let publishes: Vec<u8> = (1..=500).flat_map(|id| Publish::new(V311, &topic, "").qos(1, id).bytes()).collect();
        publisher.send(&publishes);
        let mut acks = Vec::new();
        for number in first..first + 500 {
            let publish = subscriber.publish();
            assert_eq!(u32::from(publish.id), number % 65_535 + 1);
            acks.extend(puback(publish.id));
        }
        subscriber.send(&acks);
        (1..=500).for_each(|id| publisher.expect(&puback(id)));
    }
}

/// A message crosses from shard to shard once, and does not come back.
fn one_message_reaches_each_subscriber_once_whatever_its_identifiers(broker: &Broker) {
    for &(here, there) in broker.places() {
        for qos in 0..=2 {
            let topic = broker.topic("once", 0);
            let mut subscribers: Vec<_> = [here, there, here, there].map(|shard| connect(broker, V5, "subscriber", shard)).into();
            for (number, subscriber) in subscribers.iter_mut().enumerate() {
                let identifier = super::support::property::subscription_id(number as u32 + 1);
                subscriber.subscribe_with(if number < 2 { &identifier } else { &[] }, &topic, 1);
            }
            let mut publisher = connect(broker, V5, "publisher", there);
            publisher.publish_to(&topic, "once", qos);
            publisher.publish_to(&topic, "and no more", 1);
            for subscriber in &mut subscribers {
                assert_eq!(subscriber.publish_acknowledged().text(), "once");
                assert_eq!(subscriber.publish_acknowledged().text(), "and no more");
                subscriber.expect_silence();
            }
        }
    }
}

/// A client that subscribes to what it publishes gets it, and its own acknowledgement.
fn a_message_to_oneself_arrives(broker: &Broker) {
    for version in VERSIONS {
        let topic = broker.topic("oneself", 0);
        let mut client = connect(broker, version, "oneself", 0);
        client.subscribe(&topic, 2);
        client.send(
            &[Publish::new(version, &topic, "0").bytes(), Publish::new(version, &topic, "1").qos(1, 1).bytes(), PINGREQ.into()].concat(),
        );
        let mut found: Vec<_> = (0..4).map(|_| client.packet()).collect();
        found.sort();
        let mut expected =
            [Publish::new(version, &topic, "0").bytes(), Publish::new(version, &topic, "1").qos(1, 1).bytes(), puback(1), PINGRESP.into()];
        expected.sort();
        assert_eq!(found, expected);
    }
}
