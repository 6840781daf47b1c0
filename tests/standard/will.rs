//! The will (sections 3.1.2.5 to 3.1.2.7, 3.1.3.2 to 3.1.3.4, 3.14.4): when it is published, and as what.

use ringmq::mqtt::{Connect, Packet, Properties, QoS, ReasonCode, SubscribeOptions, UserProperties, Version, Will};

use super::world::{Client, DISCONNECT, LATE_MS, V5, V311, World, ack, connack, connect, packet, payloads, publishes};

fn will(qos: QoS, retain: bool) -> Will<'static> {
    Will { topic: "will", payload: b"gone", qos, retain, properties: Properties::default() }
}

/// A client with a will, on a session that is kept.
fn mortal(world: &mut World, version: Version, will: Will<'_>) -> Client {
    let properties = Properties { session_expiry: Some(100), ..Properties::default() };
    world.connect(&Connect { clean_start: false, will: Some(will), properties, ..connect(version, "mortal") })
}

/// A client that gets every will with the flags that it was published with.
fn heir(world: &mut World) -> Client {
    let heir = world.client(V5, "heir");
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..SubscribeOptions::default() };
    world.subscribe_with(heir, V5, "will", options, None);
    heir
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] of 3.1.1;
/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-14] [MQTT-3.1.2-15] of 5.0
#[test]
fn a_will_is_published_as_it_was_given_when_the_connection_breaks() {
    for version in [V311, V5] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for retain in [false, true] {
                let mut world = World::standard();
                let heir = heir(&mut world);
                let client = mortal(&mut world, version, will(qos, retain));
                world.assert_silent(heir);
                world.vanish(client);
                let bytes = world.take(heir);
                let [ref publish] = publishes(V5, &bytes)[..] else { panic!("{bytes:?}") };
                assert_eq!((publish.topic, publish.payload, publish.qos, publish.retain), ("will", &b"gone"[..], qos, retain));
                let late = world.client(V5, "late");
                world.subscribe(late, V5, "will", QoS::AtMostOnce);
                let bytes = world.take(late);
                assert_eq!(payloads(V5, &bytes).len(), usize::from(retain), "kept as a retained message");
            }
        }
    }
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3]
#[test]
fn a_disconnect_with_reason_0_takes_the_will_away() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let heir = heir(&mut world);
        let client = mortal(&mut world, version, will(QoS::AtLeastOnce, true));
        world.send(client, &DISCONNECT);
        assert!(world.is_closed(client));
        world.pass(200_000);
        world.assert_silent(heir);
    }
    // Any other reason leaves it to be published.
    let mut world = World::standard();
    let heir = heir(&mut world);
    let client = mortal(&mut world, V5, will(QoS::AtMostOnce, false));
    world.send(client, &[0xE0, 1, ReasonCode::DISCONNECT_WITH_WILL.0]);
    let bytes = world.take(heir);
    assert_eq!(payloads(V5, &bytes), [b"gone"]);
}

/// [MQTT-3.1.2-10]: it is not published a second time with the session that had it.
#[test]
fn a_will_is_published_once() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let heir = heir(&mut world);
        let client = mortal(&mut world, version, will(QoS::AtMostOnce, false));
        world.vanish(client);
        let bytes = world.take(heir);
        assert_eq!(payloads(V5, &bytes), [b"gone"]);
        let (again, present) = world.durable(version, "mortal");
        assert!(present);
        world.vanish(again);
        world.assert_silent(heir);
    }
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

fn delayed(delay_s: u32) -> Will<'static> {
    Will { properties: Properties { will_delay: Some(delay_s), ..Properties::default() }, ..will(QoS::AtMostOnce, false) }
}

/// [MQTT-3.1.2-8] of 5.0: after its delay or with the end of the session, whichever comes first.
#[test]
fn a_delayed_will_waits_for_its_delay_or_the_end_of_the_session() {
    for (delay_s, due_s) in [(30, 30), (100, 100), (1_000, 100)] {
        let mut world = World::standard();
        let heir = heir(&mut world);
        let client = mortal(&mut world, V5, delayed(delay_s));
        world.vanish(client);
        world.pass(due_s * 1_000 - 1);
        world.assert_silent(heir);
        world.pass(1 + LATE_MS);
        let bytes = world.take(heir);
        assert_eq!(payloads(V5, &bytes), [b"gone"]);
    }
}

/// [MQTT-3.1.3-9] of 5.0
#[test]
fn a_delayed_will_is_forgotten_where_its_client_comes_back() {
    let mut world = World::standard();
    let heir = heir(&mut world);
    let client = mortal(&mut world, V5, delayed(30));
    world.vanish(client);
    world.pass(29_000);
    let (again, present) = world.durable(V5, "mortal");
    assert!(present);
    world.pass(60_000);
    world.assert_silent(heir);
    world.vanish(again);
    world.assert_silent(heir);
    // A clean start does not go on with the session: it ends it.
    let client = mortal(&mut world, V5, delayed(30));
    world.vanish(client);
    world.client(V5, "mortal");
    let bytes = world.take(heir);
    assert_eq!(payloads(V5, &bytes), [b"gone"]);
}

/// [MQTT-3.1.3-10] of 5.0
#[test]
fn the_user_properties_of_a_will_keep_their_order() {
    let pairs = [("b", "1"), ("a", "2"), ("b", "0"), ("", ""), ("a", "2")];
    let mut block = Vec::new();
    UserProperties::encode(pairs, &mut block);
    let user = UserProperties::new(&block).expect("valid");
    let mut world = World::standard();
    let heir = heir(&mut world);
    let will =
        Will { properties: Properties { user, content_type: Some("text"), ..Properties::default() }, ..will(QoS::AtMostOnce, false) };
    let client = mortal(&mut world, V5, will);
    world.vanish(client);
    let bytes = world.take(heir);
    let [ref publish] = publishes(V5, &bytes)[..] else { panic!("{bytes:?}") };
    let properties = publish.properties.all();
    assert!(properties.user.iter().eq(pairs));
    assert_eq!(properties.content_type, Some("text"));
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

/// A will of QoS 2 is delivered as any QoS 2 message.
#[test]
fn a_will_is_exchanged_as_its_qos_asks_for() {
    let mut world = World::standard();
    let heir = heir(&mut world);
    let client = mortal(&mut world, V311, will(QoS::ExactlyOnce, false));
    world.vanish(client);
    world.take(heir);
    world.send(heir, &ack(0x50, 1));
    let bytes = world.take(heir);
    assert!(matches!(packet(V5, &bytes), Packet::Pubrel(ack) if ack.packet_id == 1));
}
