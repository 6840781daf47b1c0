//! CONNECT and CONNACK (sections 3.1 and 3.2): what is refused how, and what a client of 5.0 is told and not told.

use ringmq::mqtt::{Connect, Properties, QoS, ReasonCode, Will};

use super::world::{V5, V31, V311, World, connack, connect, message, publishes};

/// What a client is answered that asks to be let in; and that it is not let in.
fn refused(world: &mut World, ask: &Connect<'_>) -> Vec<u8> {
    let client = world.open();
    world.send_connect(client, ask);
    assert!(world.is_closed(client), "let in");
    world.take(client)
}

/// [MQTT-3.1.3-3]
#[test]
fn a_connect_without_a_client_identifier_is_refused() {
    for body in [&b"\0\x04MQTT\x04\x02\0\0"[..], b"\0\x04MQTT\x04\x02\0\0\0", b"\0\x04MQTT\x04\x02\0\0\0\x05some"] {
        let mut world = World::standard();
        let client = world.open();
        world.send(client, &[&[0x10, body.len() as u8], body].concat());
        assert!(world.is_closed(client) && world.take(client).is_empty(), "{body:?}");
    }
}

/// [MQTT-3.1.3-9] [MQTT-3.2.2-5] of 3.1.1; [MQTT-3.1.3-8] [MQTT-3.2.2-7] of 5.0
#[test]
fn a_client_identifier_that_is_not_accepted_is_answered_so() {
    let mut world = World::limited(|config| config.limits.max_client_id_bytes = 23);
    let (longest, too_long) = ("x".repeat(23), "x".repeat(24));
    for (version, code) in [(V31, 2), (V311, 2), (V5, ReasonCode::CLIENT_ID_NOT_VALID.0)] {
        let bytes = refused(&mut world, &connect(version, &too_long));
        assert_eq!(connack(version, &bytes).code, code);
        world.client(version, &longest);
    }
}

/// [MQTT-3.2.2-6] of 3.1.1: no return code says that a will has too many levels.
#[test]
fn where_no_return_code_fits_the_connection_is_closed_without_connack() {
    let mut world = World::limited(|config| config.limits.max_topic_levels = 2);
    let will = |version| {
        let will = Will { topic: "a/b/c", payload: b"", qos: QoS::AtMostOnce, retain: false, properties: Properties::default() };
        Connect { will: Some(will), ..connect(version, "c") }
    };
    for version in [V31, V311] {
        assert_eq!(refused(&mut world, &will(version)), b"");
    }
    let bytes = refused(&mut world, &will(V5));
    assert_eq!(connack(V5, &bytes).code, ReasonCode::TOPIC_NAME_INVALID.0);
}

/// [MQTT-3.1.2-28] [MQTT-3.2.2-19] [MQTT-3.2.2-20] of 5.0: none of it is sent at all.
#[test]
fn connack_holds_neither_response_information_nor_reason_string_nor_user_properties() {
    for request_response in [None, Some(false), Some(true)] {
        let mut world = World::limited(|config| config.limits.max_client_id_bytes = 23);
        let properties = Properties { request_response, ..Properties::default() };
        for client_id in ["", "c", "a client identifier too long by far"] {
            let client = world.open();
            world.send_connect(client, &Connect { properties, ..connect(V5, client_id) });
            let bytes = world.take(client);
            let told = connack(V5, &bytes).properties;
            assert_eq!((told.response_information, told.reason_string, told.user.is_empty()), (None, None, true));
        }
    }
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11] of 5.0
#[test]
fn a_client_gets_no_topic_alias_above_its_maximum() {
    for maximum in [None, Some(0), Some(1), Some(2)] {
        let mut world = World::limited(|config| config.limits.topic_alias_out_maximum = 3);
        let properties = Properties { topic_alias_maximum: maximum, ..Properties::default() };
        let subscriber = world.connect(&Connect { properties, ..connect(V5, "subscriber") });
        world.subscribe(subscriber, V5, "#", QoS::AtLeastOnce);
        for number in 0..50 {
            let topic = format!("topic/{}", number % 5);
            world.publish(message(&topic, b"x", if number % 2 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce }));
        }
        let bytes = world.take(subscriber);
        let publishes = publishes(V5, &bytes);
        assert_eq!(publishes.len(), 50);
        assert!(publishes.iter().all(|publish| publish.properties.topic_alias <= maximum.unwrap_or(0)));
        // Without an alias, the topic itself must be there.
        assert!(publishes.iter().all(|publish| publish.properties.topic_alias > 0 || !publish.topic.is_empty()));
    }
}

/// [MQTT-3.1.2-9]
#[test]
fn a_will_without_its_fields_is_refused() {
    let connect_311 = |rest: &[u8]| [&[0x10, 13 + rest.len() as u8][..], b"\0\x04MQTT\x04\x06\0\0\0\x01c", rest].concat();
    let connect_5 = |rest: &[u8]| [&[0x10, 14 + rest.len() as u8][..], b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", rest].concat();
    for rest in [&b""[..], b"\0\x04will", b"\0\x04will\0", b"\0\x04will\0\x02x"] {
        let mut world = World::standard();
        let client = world.open();
        world.send(client, &connect_311(rest));
        assert!(world.is_closed(client) && world.take(client).is_empty(), "{rest:?}");
    }
    // 5.0: properties, topic, payload.
    for rest in [&b""[..], b"\0", b"\0\0\x04will", b"\0\x04will\0\x01x"] {
        let mut world = World::standard();
        let client = world.open();
        world.send(client, &connect_5(rest));
        let bytes = world.take(client);
        assert_eq!(connack(V5, &bytes).code, ReasonCode::MALFORMED_PACKET.0, "{rest:?}");
        assert!(world.is_closed(client));
    }
    let mut world = World::standard();
    let client = world.open();
    world.send(client, &connect_311(b"\0\x04will\0\x01x"));
    assert_eq!(world.take(client), [0x20, 2, 0, 0], "the same with all fields");
}

/// [MQTT-3.1.2-12] of 3.1.1
#[test]
fn without_a_will_nothing_is_published() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let all = world.client(V5, "all");
        world.subscribe(all, V5, "#", QoS::AtMostOnce);
        let client = world.client(version, "immortal");
        world.vanish(client);
        world.assert_silent(all);
        assert_eq!(world.counters().wills_published, 0);
    }
}
