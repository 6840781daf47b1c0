//! What a message carries from publisher to subscriber (sections 3.3.1 to 3.3.4): properties, expiry, topic alias, identifiers.

use ringmq::mqtt::{Properties, PublishOut, QoS, ReasonCode, SubscribeOptions, UserProperties};

use super::world::{Client, V5, World, ack, message, payloads, publish, publishes, told_off};

/// A subscriber with a kept session, at QoS 2.
fn subscriber(world: &mut World, filter: &str) -> Client {
    let (client, _) = world.durable(V5, "subscriber");
    world.subscribe(client, V5, filter, QoS::ExactlyOnce);
    client
}

fn block(properties: &Properties<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    properties.encode_forward(&mut block);
    block
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] of 5.0
#[test]
fn properties_arrive_unaltered_and_in_order() {
    let mut user = Vec::new();
    let pairs = [("z", "1"), ("a", "2"), ("z", "0"), ("", ""), ("z", "1")];
    UserProperties::encode(pairs, &mut user);
    let sent = Properties {
        payload_format: Some(1),
        content_type: Some("text/\u{e4}"),
        response_topic: Some("answers/\u{1F697}"),
        correlation_data: Some(&[0, 255, 1]),
        user: UserProperties::new(&user).expect("valid"),
        ..Properties::default()
    };
    let forward = block(&sent);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        // With an alias and an expiry, the rest of the block is taken apart on its way.
        for (topic_alias, message_expiry) in [(0, None), (5, None), (0, Some(100)), (7, Some(100))] {
            let mut world = World::standard();
            let subscriber = subscriber(&mut world, "t");
            world.publish(PublishOut { forward: &forward, topic_alias, message_expiry, ..message("t", b"x", qos) });
            let bytes = world.take(subscriber);
            let [ref publish] = publishes(V5, &bytes)[..] else { panic!("{bytes:?}") };
            let got = publish.properties.all();
            assert_eq!(got, Properties { message_expiry, ..sent });
            assert!(got.user.iter().eq(pairs));
        }
    }
}

/// [MQTT-4.3.3-13] of 5.0
#[test]
fn the_exchange_with_the_publisher_goes_on_when_its_message_has_expired() {
    let mut world = World::standard();
    let subscriber = subscriber(&mut world, "t");
    world.vanish(subscriber);
    let publisher = world.client(V5, "publisher");
    world.send(publisher, &publish(V5, PublishOut { message_expiry: Some(1), ..message("t", b"x", QoS::ExactlyOnce) }));
    assert_eq!(world.take(publisher), ack(0x50, 1));
    world.pass(10_000);
    let (late, _) = world.durable(V5, "subscriber");
    world.assert_silent(late);
    world.send(publisher, &ack(0x62, 1));
    assert_eq!(world.take(publisher), ack(0x70, 1));
}

/// [MQTT-3.3.2-7] of 5.0
#[test]
fn a_topic_alias_ends_with_its_connection() {
    let mut world = World::standard();
    let subscriber = subscriber(&mut world, "t");
    let (publisher, _) = world.durable(V5, "publisher");
    let by_alias = |topic, payload| publish(V5, PublishOut { topic_alias: 3, ..PublishOut::new(topic, payload) });
    world.send(publisher, &[by_alias("t", b"one"), by_alias("", b"two")].concat());
    assert_eq!(payloads(V5, &world.take(subscriber)), [b"one", b"two"]);
    world.vanish(publisher);
    let (publisher, present) = world.durable(V5, "publisher");
    assert!(present);
    world.send(publisher, &by_alias("", b"three"));
    assert_eq!(told_off(&world.take(publisher)), ReasonCode::PROTOCOL_ERROR);
    assert!(world.is_closed(publisher));
    world.assert_silent(subscriber);
}

/// [MQTT-3.3.2-12] [MQTT-3.2.2-17] [MQTT-3.3.2-9] of 5.0
#[test]
fn every_topic_alias_up_to_the_maximum_is_accepted() {
    for maximum in [1, 64, u16::MAX] {
        let mut world = World::limited(|config| config.limits.topic_alias_maximum = maximum);
        let subscriber = subscriber(&mut world, "+");
        let publisher = world.client(V5, "publisher");
        for topic_alias in [1, maximum / 2 + 1, maximum] {
            world.send(publisher, &publish(V5, PublishOut { topic_alias, ..PublishOut::new("t", b"name") }));
            world.send(publisher, &publish(V5, PublishOut { topic_alias, ..PublishOut::new("", b"alias") }));
            let bytes = world.take(subscriber);
            let topics: Vec<_> = publishes(V5, &bytes).iter().map(|publish| publish.topic.to_owned()).collect();
            assert_eq!(topics, ["t", "t"]);
            // The same alias for another topic.
            world.send(publisher, &publish(V5, PublishOut { topic_alias, ..PublishOut::new("u", b"name") }));
            world.send(publisher, &publish(V5, PublishOut { topic_alias, ..PublishOut::new("", b"alias") }));
            assert_eq!(publishes(V5, &world.take(subscriber))[1].topic, "u");
        }
        if maximum < u16::MAX {
            world.send(publisher, &publish(V5, PublishOut { topic_alias: maximum + 1, ..PublishOut::new("t", b"") }));
            assert_eq!(told_off(&world.take(publisher)), ReasonCode::TOPIC_ALIAS_INVALID);
        }
    }
}

/// [MQTT-3.2.2-18] of 5.0
#[test]
fn without_a_topic_alias_maximum_no_alias_is_accepted() {
    let mut world = World::limited(|config| config.limits.topic_alias_maximum = 0);
    let publisher = world.client(V5, "publisher");
    world.send(publisher, &publish(V5, PublishOut { topic_alias: 1, ..PublishOut::new("t", b"") }));
    assert_eq!(told_off(&world.take(publisher)), ReasonCode::TOPIC_ALIAS_INVALID);
}

/// [MQTT-3.3.4-6] of 5.0
#[test]
fn a_client_may_not_send_a_subscription_identifier() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut world = World::standard();
        let subscriber = subscriber(&mut world, "t");
        let publisher = world.client(V5, "publisher");
        world.send(publisher, &publish(V5, PublishOut { subscription_ids: &[1], ..message("t", b"x", qos) }));
        assert_eq!(told_off(&world.take(publisher)), ReasonCode::PROTOCOL_ERROR);
        assert!(world.is_closed(publisher));
        world.assert_silent(subscriber);
    }
}

/// [MQTT-3.3.4-5] of 5.0: a message comes once for all plain subscriptions, and once more for each shared one.
#[test]
fn each_of_several_copies_names_its_own_subscription() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut world = World::standard();
        let client = world.client(V5, "subscriber");
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        for (filter, id) in [("t", Some(10)), ("+", Some(11)), ("$share/g/t", Some(20)), ("$share/h/+", Some(21)), ("$share/i/t", None)] {
            world.subscribe_with(client, V5, filter, options, id);
        }
        world.publish(message("t", b"x", qos));
        let bytes = world.take(client);
        let mut ids: Vec<Vec<u32>> = publishes(V5, &bytes).iter().map(|publish| publish.properties.subscription_ids().collect()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [vec![], vec![10, 11], vec![20], vec![21]]);
    }
}
