//! What 5.0 adds to a message and to an answer: properties that travel with a message (section 3.3.2.3), topic aliases, the largest packet, reasons in words.

use super::support::packets::{self, field, packet};
use super::support::{Broker, Client, Connect, Publish, V5, V311, Version, Will, on_every_configuration, property};

on_every_configuration! {
    ["limits.topic_alias_maximum=10", "limits.topic_alias_out_maximum=3"]
    a_messages_properties_arrive_unaltered_and_in_order,
    many_user_properties_arrive_in_order,
    a_request_finds_its_response,
    a_3_x_subscriber_gets_the_message_without_properties,
    an_alias_stands_for_its_topic,
    an_alias_can_be_set_anew,
    an_alias_is_not_passed_on,
    an_alias_ends_with_its_connection,
    aliases_outside_the_limit_are_refused,
    an_alias_that_was_never_set_is_refused,
    the_broker_sets_aliases_for_a_client_that_allows_them,
    aliases_of_the_broker_end_with_the_connection,
    a_message_that_only_an_alias_makes_too_large_is_sent_without,
    a_message_of_just_the_maximum_packet_size_arrives,
    a_message_beyond_the_maximum_packet_size_is_dropped_and_the_next_arrives,
    the_maximum_packet_size_may_change_between_connections,
    a_packet_of_just_the_brokers_maximum_is_taken,
    a_reason_comes_in_words_for_whoever_wants_them,
    message_expiry_counts_down_only_by_waiting,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

/// A subscriber at QoS 2, a publisher and the topic, in every pair of places.
fn for_each_pair(broker: &Broker, subscriber: &[Vec<u8>], mut test: impl FnMut(Client, Client, &str)) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("properties", 0);
        let connect_subscriber = Connect::new(V5, &broker.client_id("subscriber", here)).properties(subscriber);
        let mut subscriber = broker.connect(&connect_subscriber);
        subscriber.subscribe(&topic, 2);
        test(subscriber, connect(broker, V5, "publisher", there), &topic);
    }
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] [MQTT-1.5.7-1]
fn a_messages_properties_arrive_unaltered_and_in_order(broker: &Broker) {
    let properties = [
        property::user("", ""),
        property::content_type("\u{FEFF}text/\u{e9}"),
        property::user("name", "1"),
        property::payload_format(1),
        property::correlation_data(&[0, 0xFF, 0]),
        property::user("name", "1"),
        property::response_topic("a/b"),
        property::user("NAME", "\u{1F697}"),
    ];
    for_each_pair(broker, &[], |mut subscriber, mut publisher, topic| {
        for qos in 0..=2 {
            let id = if qos > 0 { publisher.packet_id() } else { 0 };
            publisher.send_publish(&Publish::new(V5, topic, "payload").qos(qos, id).properties(&properties));
            let publish = subscriber.publish_acknowledged();
            assert_eq!(publish.properties, properties.concat());
            // With an expiry, which the broker writes anew, the others keep their order.
            let id = if qos > 0 { publisher.packet_id() } else { 0 };
            let with_expiry = [&properties[..3], &[property::message_expiry(9)], &properties[3..]].concat();
            publisher.send_publish(&Publish::new(V5, topic, "payload").qos(qos, id).properties(&with_expiry));
            let publish = subscriber.publish_acknowledged();
            assert_eq!(publish.property(0x02), [9u32.to_be_bytes()]);
            let mut others = property::parse(&publish.properties);
            others.retain(|(id, _)| *id != 0x02);
            assert_eq!(others, property::parse(&properties.concat()));
        }
    });
}

/// [MQTT-3.3.2-18]; linear in their number.
fn many_user_properties_arrive_in_order(broker: &Broker) {
    let properties: Vec<_> = (0..50_000).map(|number| property::user(&(number % 7).to_string(), &number.to_string())).collect();
    for_each_pair(broker, &[], |mut subscriber, mut publisher, topic| {
        for (qos, expiry) in [(0, None), (1, Some(property::message_expiry(9)))] {
            let all: Vec<_> = properties.iter().cloned().chain(expiry).collect();
            publisher.send_publish(&Publish::new(V5, topic, "").qos(qos, u16::from(qos)).properties(&all));
            let mut found = property::parse(&subscriber.publish_acknowledged().properties);
            found.retain(|(id, _)| *id == 0x26);
            assert!(found == property::parse(&properties.concat()));
        }
    });
}

/// Section 4.10: by response topic and correlation data, between two that know nothing else of one another.
fn a_request_finds_its_response(broker: &Broker) {
    for_each_pair(broker, &[], |mut responder, mut requester, topic| {
        let reply_to = format!("{topic}/reply");
        requester.subscribe(&reply_to, 1);
        let request = [property::response_topic(&reply_to), property::correlation_data(b"\0\x01request")];
        requester.send_publish(&Publish::new(V5, topic, "what?").qos(1, 1000).properties(&request));
        let request = responder.publish_acknowledged();
        let reply_to = String::from_utf8(request.property(0x08)[0][2..].to_vec()).unwrap();
        let correlation = [&[0x09][..], &request.property(0x09)[0]].concat();
        responder.send_publish(&Publish::new(V5, &reply_to, "that").qos(1, 1000).properties(&[correlation]));
        let response = requester.publish_acknowledged();
        assert_eq!((response.text(), response.property(0x09)), ("that", vec![field(b"\0\x01request")]));
    });
}

fn a_3_x_subscriber_gets_the_message_without_properties(broker: &Broker) {
    for &(here, there) in broker.places() {
        for qos in 0..=1 {
            let topic = broker.topic("plain", 0);
            let mut old = connect(broker, V311, "old", here);
            old.subscribe(&topic, 1);
            let properties = [property::user("a", "b"), property::message_expiry(5), property::topic_alias(1)];
            let mut publisher = connect(broker, V5, "publisher", there);
            publisher.send_publish(&Publish::new(V5, &topic, "plain").qos(qos, u16::from(qos)).properties(&properties));
            old.expect(&Publish::new(V311, &topic, "plain").qos(qos, u16::from(qos)).bytes());
            // And the other way round.
            let mut new = connect(broker, V5, "new", here);
            new.subscribe(&topic, 1);
            let mut publisher = connect(broker, V311, "publisher", there);
            publisher.send_publish(&Publish::new(V311, &topic, "plain").qos(qos, u16::from(qos)));
            new.expect(&Publish::new(V5, &topic, "plain").qos(qos, u16::from(qos)).bytes());
        }
    }
}

/// [MQTT-3.3.2-12]
fn an_alias_stands_for_its_topic(broker: &Broker) {
    for_each_pair(broker, &[], |mut subscriber, mut publisher, topic| {
        assert_eq!(publisher.connack.property(0x22), Some(&[0, 10][..]));
        for alias in 1..=10 {
            for (qos, topic) in [(1, topic), (0, ""), (2, ""), (0, topic), (0, "")] {
                let id = if qos > 0 { publisher.packet_id() } else { 0 };
                publisher.send_publish(&Publish::new(V5, topic, "aliased").qos(qos, id).properties(&[property::topic_alias(alias)]));
            }
        }
        for _ in 0..10 {
            for qos in [1, 0, 2, 0, 0] {
                let publish = subscriber.publish_acknowledged();
                assert_eq!((&publish.topic[..], publish.qos, publish.text()), (topic, qos, "aliased"));
            }
        }
        subscriber.expect_silence();
    });
}

/// Section 3.3.2.3.4
fn an_alias_can_be_set_anew(broker: &Broker) {
    for_each_pair(broker, &[], |mut subscriber, mut publisher, topic| {
        subscriber.subscribe(&format!("{topic}/other"), 0);
        let other = format!("{topic}/other");
        for topic in [topic, "", &other, "", topic, ""] {
            publisher.send(&Publish::new(V5, topic, "").properties(&[property::topic_alias(1)]).bytes());
        }
        for expected in [topic, topic, &other, &other, topic, topic] {
            assert_eq!(subscriber.publish().topic, expected);
        }
    });
}

/// [MQTT-3.3.2-7] of another kind: an alias is between two, and says nothing to a third.
fn an_alias_is_not_passed_on(broker: &Broker) {
    for_each_pair(broker, &[], |mut subscriber, mut publisher, topic| {
        for qos in [0, 1] {
            let properties = [property::user("a", "1"), property::topic_alias(7), property::user("b", "2")];
            publisher.send_publish(&Publish::new(V5, topic, "").qos(qos, u16::from(qos)).properties(&properties));
            assert_eq!(subscriber.publish_acknowledged().properties, [property::user("a", "1"), property::user("b", "2")].concat());
        }
        publisher.send_publish(&Publish::new(V5, topic, "kept").qos(1, 2).retain().properties(&[property::topic_alias(7)]));
        subscriber.publish_acknowledged();
        subscriber.subscribe(topic, 0);
        assert!(subscriber.publish().properties.is_empty());
    });
}

/// [MQTT-3.3.2-7]
fn an_alias_ends_with_its_connection(broker: &Broker) {
    let topic = broker.topic("ends", 0);
    let durable = Connect::new(V5, &broker.client_id("forgetful", 0)).durable(60);
    let mut client = broker.connect(&durable);
    client.send(&Publish::new(V5, &topic, "").properties(&[property::topic_alias(1)]).bytes());
    client.expect_silence();
    client.disconnect();
    let mut client = broker.connect(&durable);
    client.send(&Publish::new(V5, "", "").properties(&[property::topic_alias(1)]).bytes());
    client.expect_disconnect(0x82);
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-9]
fn aliases_outside_the_limit_are_refused(broker: &Broker) {
    for alias in [0, 11, u16::MAX] {
        let mut client = connect(broker, V5, "beyond", 0);
        client.send(&Publish::new(V5, "a", "").properties(&[property::topic_alias(alias)]).bytes());
        client.expect_disconnect(0x94);
    }
}

fn an_alias_that_was_never_set_is_refused(broker: &Broker) {
    let mut client = connect(broker, V5, "never", 0);
    client.send(&Publish::new(V5, "a", "").properties(&[property::topic_alias(2)]).bytes());
    client.send(&Publish::new(V5, "", "").properties(&[property::topic_alias(1)]).bytes());
    client.expect_disconnect(0x82);
    // Neither topic nor alias.
    let mut client = connect(broker, V5, "never", 0);
    client.send(&Publish::new(V5, "", "").bytes());
    client.expect_disconnect(0x82);
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
fn the_broker_sets_aliases_for_a_client_that_allows_them(broker: &Broker) {
    for (allowed, used) in [(0, 0), (2, 2), (100, 3)] {
        for_each_pair(broker, &[property::topic_alias_maximum(allowed)], |mut subscriber, mut publisher, topic| {
            let topics: Vec<_> = (0..4).map(|number| format!("{topic}/{number}")).collect();
            subscriber.subscribe(&format!("{topic}/#"), 1);
            let mut known = std::collections::BTreeMap::new();
            for round in 0..3 {
                for name in &topics {
                    let qos = round % 2;
                    publisher.publish_to(name, "aliased", qos);
                    let publish = subscriber.publish_acknowledged();
                    let alias = publish.property(0x23).first().cloned();
                    let named = if publish.topic.is_empty() { known[alias.as_ref().expect("an alias")] } else { &publish.topic };
                    assert_eq!((named, publish.text()), (name, "aliased"));
                    if let Some(alias) = alias {
                        assert!(publish.topic.is_empty() == (round > 0));
                        known.insert(alias, name);
                    }
                }
            }
            assert_eq!(
                known.into_keys().collect::<Vec<_>>(),
                (1..=used).map(|alias: u16| alias.to_be_bytes().to_vec()).collect::<Vec<_>>()
            );
        });
    }
}

/// [MQTT-3.3.2-7], seen from the other side; what is sent again names its topic or sets the alias anew.
fn aliases_of_the_broker_end_with_the_connection(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("again", 0);
        let durable = Connect::new(V5, &broker.client_id("durable", here)).durable(60).properties(&[property::topic_alias_maximum(5)]);
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 1);
        let mut publisher = connect(broker, V5, "publisher", there);
        publisher.publish_to(&topic, "1", 1);
        publisher.publish_to(&topic, "2", 1);
        assert_eq!([subscriber.publish().topic, subscriber.publish().topic], [topic.clone(), String::new()]);
        subscriber.vanish();
        publisher.publish_to(&topic, "3", 1);
        let mut again = broker.connect(&durable);
        assert_eq!(again.publish_acknowledged().topic, topic);
        let alias = |publish: &Publish| publish.property(0x23).first().cloned();
        let mut set = None;
        for _ in 0..2 {
            let publish = again.publish_acknowledged();
            if publish.topic.is_empty() {
                assert_eq!(alias(&publish), set, "an alias of another connection");
            } else {
                assert_eq!(publish.topic, topic);
                set = alias(&publish);
            }
        }
    }
}

/// An alias costs three bytes where it is set: it is left out where those are too many.
fn a_message_that_only_an_alias_makes_too_large_is_sent_without(broker: &Broker) {
    for qos in [0, 1] {
        for_each_pair(
            broker,
            &[property::topic_alias_maximum(5), property::maximum_packet_size(100)],
            |mut subscriber, mut publisher, topic| {
                let overhead = Publish::new(V5, topic, "").qos(qos, 1).bytes().len();
                let payload = "x".repeat(100 - overhead);
                for _ in 0..2 {
                    publisher.publish_to(topic, &payload, qos);
                    let publish = subscriber.publish_acknowledged();
                    assert_eq!((&publish.topic[..], publish.text()), (topic, &payload[..]));
                }
            },
        );
    }
}

/// [MQTT-3.1.2-24]: the fixed header counts.
fn a_message_of_just_the_maximum_packet_size_arrives(broker: &Broker) {
    for size in [100, 127, 129, 130, 131, 1_000, 20_000] {
        for_each_pair(broker, &[property::maximum_packet_size(size)], |mut subscriber, mut publisher, topic| {
            for qos in 0..=2 {
                for beyond in [0, 1] {
                    let length = |payload: usize| Publish::new(V5, topic, &"x".repeat(payload)).qos(qos, 1).bytes().len();
                    let Some(payload) = (0..size as usize).rev().find(|&payload| length(payload) == size as usize + beyond) else {
                        continue;
                    };
                    publisher.publish_to(topic, &"x".repeat(payload), qos);
                    if beyond == 0 {
                        assert_eq!(subscriber.publish_acknowledged().payload.len(), payload);
                    }
                    subscriber.expect_silence();
                }
            }
        });
    }
}

/// [MQTT-3.1.2-25]: as if it had been sent. Also among many, to many, and with what the broker adds.
fn a_message_beyond_the_maximum_packet_size_is_dropped_and_the_next_arrives(broker: &Broker) {
    for_each_pair(broker, &[property::maximum_packet_size(64), property::receive_maximum(1)], |mut subscriber, mut publisher, topic| {
        let mut others: Vec<_> = (0..5).map(|shard| connect(broker, V5, "other", shard % broker.shards)).collect();
        others.iter_mut().for_each(|other| other.subscribe(topic, 0));
        let large = "x".repeat(64);
        for qos in 0..=2 {
            let payloads = ["small", &large, &large, "small again", &large];
            let ids: Vec<_> = payloads.iter().map(|_| if qos == 0 { 0 } else { publisher.packet_id() }).collect();
            let bytes = payloads.iter().zip(&ids).flat_map(|(payload, &id)| Publish::new(V5, topic, payload).qos(qos, id).bytes());
            publisher.send(&bytes.collect::<Vec<u8>>());
            for &id in ids.iter().filter(|_| qos > 0) {
                publisher.expect(&packets::ack(if qos == 1 { 0x40 } else { 0x50 }, id));
            }
            for text in ["small", "small again"] {
                assert_eq!(subscriber.publish_acknowledged().text(), text);
            }
            for other in &mut others {
                payloads.iter().for_each(|payload| assert_eq!(other.publish().text(), *payload));
            }
            if qos == 2 {
                publisher.send(&ids.iter().flat_map(|&id| packets::pubrel(id)).collect::<Vec<u8>>());
                ids.iter().for_each(|&id| publisher.expect(&packets::pubcomp(id)));
            }
            subscriber.expect_silence();
        }
        // 50 bytes without the identifier of the subscription, more with it and with the expiry.
        let payload = "x".repeat(64 - Publish::new(V5, topic, "").bytes().len());
        publisher.publish_to(topic, &payload, 0);
        assert_eq!(subscriber.publish().text(), payload);
        subscriber.subscribe_with(&property::subscription_id(1), topic, 0);
        publisher.publish_to(topic, &payload, 0);
        publisher.publish_to(topic, "fits", 1);
        assert_eq!(subscriber.publish().text(), "fits");
    });
}

/// [MQTT-3.1.2-25]: what waits or is sent again obeys the size that holds now.
fn the_maximum_packet_size_may_change_between_connections(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("changes", 0);
        let durable = Connect::new(V5, &broker.client_id("durable", here)).durable(60);
        let mut subscriber = broker.connect(&durable);
        subscriber.subscribe(&topic, 2);
        let mut publisher = connect(broker, V5, "publisher", there);
        let large = "x".repeat(200);
        publisher.publish_to(&topic, &large, 1);
        publisher.publish_to(&topic, "small", 2);
        assert_eq!([subscriber.publish().qos, subscriber.publish().qos], [1, 2]);
        subscriber.vanish();
        publisher.publish_to(&topic, &large, 2);
        publisher.publish_to(&topic, "small too", 1);
        let narrow = durable.clone().properties(&[property::maximum_packet_size(100), property::receive_maximum(1)]);
        let mut again = broker.connect(&narrow);
        assert_eq!(again.publish_acknowledged().text(), "small");
        assert_eq!(again.publish_acknowledged().text(), "small too");
        again.expect_silence();
        again.disconnect();
        broker.connect(&durable).expect_silence();
    }
}

/// [MQTT-3.2.2-15]: what the broker announced, header included; a byte more is refused at once, with nothing of it read.
fn a_packet_of_just_the_brokers_maximum_is_taken(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("maximum", 0);
        let mut subscriber = connect(broker, V5, "subscriber", here);
        subscriber.subscribe(&topic, 0);
        let mut publisher = connect(broker, V5, "publisher", there);
        let maximum = publisher.connack.property(0x27).map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap())).expect("it is announced");
        let overhead = Publish::new(V5, &topic, &"x".repeat(3_000_000)).bytes().len() - 3_000_000;
        let publish = Publish::new(V5, &topic, &"x".repeat(maximum as usize - overhead)).bytes();
        assert_eq!(publish.len(), maximum as usize);
        publisher.send(&publish);
        assert!(subscriber.packet() == publish);
        publisher.send(&[&[0x30][..], &packets::var_int(maximum - 5 + 1)].concat());
        publisher.expect_disconnect(0x95);
    }
}

/// [MQTT-3.1.2-29] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
fn a_reason_comes_in_words_for_whoever_wants_them(broker: &Broker) {
    let said = |properties: &[Vec<u8>]| {
        let mut client = broker.connect(&Connect::new(V5, &broker.client_id("words", 0)).properties(properties));
        client.send(&packet(0x30, &[0, 1, b'#', 0]));
        let packet = client.packet();
        client.expect_close();
        packet
    };
    let words = b"topic name contains a wildcard";
    let properties = packets::block(&property::reason_string(std::str::from_utf8(words).unwrap()));
    let in_words = packet(0xE0, &[vec![0x90], properties].concat());
    assert_eq!(said(&[]), in_words);
    assert_eq!(said(&[property::request_problem(1)]), in_words);
    assert_eq!(said(&[property::maximum_packet_size(in_words.len() as u32)]), in_words);
    assert_eq!(said(&[property::maximum_packet_size(in_words.len() as u32 - 1)]), packets::disconnect(0x90));
    assert_eq!(said(&[property::request_problem(0)]), packets::disconnect(0x90));
}

/// [MQTT-3.3.2-6]
fn message_expiry_counts_down_only_by_waiting(broker: &Broker) {
    for_each_pair(broker, &[], |mut subscriber, mut publisher, topic| {
        for seconds in [1, 60, u32::MAX] {
            for qos in [0, 1] {
                let id = u16::from(qos);
                publisher.send_publish(&Publish::new(V5, topic, "").qos(qos, id).properties(&[property::message_expiry(seconds)]));
                assert_eq!(subscriber.publish_acknowledged().property(0x02), [seconds.to_be_bytes()]);
            }
        }
        let will = Will::new(topic, "").properties(&[property::message_expiry(60)]);
        broker.connect(&Connect::new(V5, &broker.client_id("mortal", 0)).will(will)).vanish();
        assert_eq!(subscriber.publish().property(0x02), [60u32.to_be_bytes()]);
    });
}
