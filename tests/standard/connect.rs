//! CONNECT and CONNACK (sections 3.1 and 3.2): what is refused how, and what a client of 5.0 is told and not told.

use ringmq::mqtt::{Connect, Properties, QoS, ReasonCode, Version, Will};

use super::world::{V5, V31, V311, World, connack, connect, message, packet, publish, publishes};

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

/// [MQTT-3.1.3-2]: a session is found by its client identifier, whatever the version.
#[test]
fn a_session_is_found_by_its_client_identifier() {
    let mut world = World::standard();
    for (index, version) in [V31, V311, V5].into_iter().enumerate() {
        let (client, present) = world.durable(version, "one");
        assert_eq!(present, index > 0 && version != V31);
        world.vanish(client);
        assert!(!world.durable(version, &format!("another {index}")).1);
    }
}

/// [MQTT-3.2.0-2]: also where CONNECT comes twice.
#[test]
fn there_is_one_connack() {
    for version in [V31, V311, V5] {
        let mut world = World::standard();
        let client = world.open();
        world.send_connect(client, &connect(version, "c"));
        connack(version, &world.take_one(client));
        world.send_connect(client, &connect(version, "c"));
        assert!(world.is_closed(client));
        let bytes = world.take(client);
        match version {
            Version::V5 => assert_eq!(bytes, [0xE0, 1, ReasonCode::PROTOCOL_ERROR.0]),
            _ => assert_eq!(bytes, b""),
        }
    }
}

/// [MQTT-3.1.4-1]: a packet that ends too early or too late, or whose fields contradict each other.
#[test]
fn a_connect_that_breaks_the_format_is_refused() {
    let valid = b"\x10\x0D\0\x04MQTT\x04\x02\0\0\0\x01c";
    for (at, wrong) in [(1, 0x0C), (9, 0x03), (9, 0x42), (9, 0x1A), (9, 0x22), (13, 2)] {
        let mut world = World::standard();
        let client = world.open();
        let mut bytes = valid.to_vec();
        bytes[at] = wrong;
        world.send(client, &bytes);
        assert!(world.is_closed(client) && world.take(client).is_empty(), "{at} {wrong}");
    }
    let mut world = World::standard();
    let client = world.open();
    world.send(client, valid);
    assert_eq!(world.take(client), [0x20, 2, 0, 0]);
    world.send(client, &publish(V311, message("t", b"x", QoS::AtLeastOnce)));
    let bytes = world.take(client);
    packet(V311, &bytes);
}
