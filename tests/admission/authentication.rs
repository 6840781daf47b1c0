//! Enhanced authentication from CONNECT to CONNACK (5.0 section 4.12).

use std::sync::Arc;

use ringmq::broker::auth::{Exchange, Fresh, Method, Step};
use ringmq::broker::{Admission, ShardId, home_of};
use ringmq::metrics::{CloseCause, RefuseReason};
use ringmq::mqtt::{Connect, Packet, Properties, PublishOut, QoS, ReasonCode, Version, Will, encode};

use super::scram_client::{ScramClient, ann, auth, challenge, code, config, connect_with, continued, log_in};
use super::world::{LATE_MS, World, connect, packet};

const SCRAM: &str = "SCRAM-SHA-256";

fn client_id_of(shard: u16, shards: u16) -> String {
    (0..).map(|n| format!("client-{n}")).find(|id| home_of(id, shards) == ShardId(shard)).expect("there are many")
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5]
#[test]
fn a_client_that_proves_who_it_is_is_let_in_and_told_so() {
    for shards in [1, 2] {
        for home in 0..shards {
            let mut world = World::new(shards, &config());
            let client = world.open();
            let scram = log_in(&mut world, client, &connect(Version::V5, &client_id_of(home, shards)), "ann", "secret");
            let bytes = world.take(client);
            let Packet::Connack(connack) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
            assert_eq!((connack.code, connack.session_present), (0, false));
            assert_eq!(connack.properties.auth_method, Some(SCRAM));
            assert_eq!(connack.properties.auth_data, Some(&scram.signature()[..]));
            assert_eq!(world.shard_of(client), Some(usize::from(home)), "the exchange is where the session lives");
            assert_eq!(world.counters().connects_accepted, 1);
        }
    }
}

#[test]
fn a_client_without_an_identifier_gets_one_when_it_is_let_in() {
    let mut world = World::new(2, &config());
    let client = world.open();
    log_in(&mut world, client, &connect(Version::V5, ""), "ann", "secret");
    let bytes = world.take(client);
    let Packet::Connack(connack) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
    assert!(connack.properties.assigned_client_id.is_some_and(|id| home_of(id, 2) == ShardId(0)));
}

#[test]
fn the_first_message_may_come_with_the_first_auth() {
    let mut world = World::new(1, &config());
    let client = world.open();
    world.send_connect(client, &connect_with("c", SCRAM, None));
    assert_eq!(challenge(&mut world, client), b"");
    let mut scram = ScramClient::new("ann", "secret");
    world.send(client, &continued(&scram.first()));
    let last = scram.last(&challenge(&mut world, client));
    world.send(client, &continued(&last));
    assert_eq!(code(&mut world, client), 0);
}

/// [MQTT-4.12.0-4] [MQTT-3.1.4-2] [MQTT-3.2.2-7]
#[test]
fn a_client_that_cannot_prove_who_it_is_is_not_let_in() {
    for (user, password) in [("ann", "hidden"), ("eve", "secret")] {
        let mut world = World::new(1, &config());
        let client = world.open();
        let mut scram = ScramClient::new(user, password);
        world.send_connect(client, &connect_with("c", SCRAM, Some(&scram.first())));
        let heard = challenge(&mut world, client);
        // A user that does not exist has another salt; this client uses its own.
        let heard = String::from_utf8(heard).unwrap();
        let nonce = heard.split(',').next().unwrap();
        let last = scram.last(format!("{nonce},s=AwMDAwMDAwMDAwMDAwMDAw==,i=4096").as_bytes());
        world.send(client, &continued(&last));
        assert_eq!(code(&mut world, client), ReasonCode::NOT_AUTHORIZED.0, "{user}");
        assert!(world.is_closed(client));
        assert_eq!((world.sessions(), world.refused(RefuseReason::AuthenticationFailed)), (0, 1));
        assert_eq!(world.counters().connections_closed[CloseCause::ConnectRefused as usize], 1);
    }
}

/// [MQTT-4.12.0-1]
#[test]
fn a_method_that_is_not_there_is_refused() {
    for (config, method) in [(config(), "SCRAM-SHA-1"), (config(), "scram-sha-256"), (config(), ""), (Default::default(), SCRAM)] {
        let mut world = World::new(2, &config);
        let client = world.open();
        world.send_connect(client, &connect_with(&client_id_of(1, 2), method, Some(b"n,,n=ann,r=x")));
        assert_eq!(code(&mut world, client), ReasonCode::BAD_AUTHENTICATION_METHOD.0, "{method}");
        assert!(world.is_closed(client));
        assert_eq!(world.refused(RefuseReason::AuthenticationMethod), 1);
    }
}

#[test]
fn where_clients_must_authenticate_nobody_else_is_let_in() {
    for (version, expected) in [(Version::V5, ReasonCode::NOT_AUTHORIZED.0), (Version::V311, 5), (Version::V31, 5)] {
        let mut world = World::new(1, &config());
        let client = world.open();
        world.send_connect(client, &Connect { user_name: Some("ann"), password: Some(b"secret"), ..connect(version, "c") });
        let bytes = world.take(client);
        assert!(matches!(packet(version, &bytes), Packet::Connack(connack) if connack.code == expected), "{bytes:?}");
        assert!(world.is_closed(client));
        assert_eq!((world.sessions(), world.refused(RefuseReason::AuthenticationRequired)), (0, 1));
    }
}

/// [MQTT-4.12.0-6]
#[test]
fn where_they_need_not_a_client_without_a_method_hears_nothing_of_one() {
    let mut config = config();
    config.auth.required = Some(false);
    let mut world = World::new(1, &config);
    let client = world.open();
    world.send_connect(client, &connect(Version::V5, "c"));
    let bytes = world.take(client);
    let Packet::Connack(connack) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
    assert_eq!((connack.code, connack.properties.auth_method, connack.properties.auth_data), (0, None, None));
}

/// [MQTT-3.1.2-30] [MQTT-3.1.4-6] [MQTT-3.14.0-1]
#[test]
fn anything_but_auth_and_disconnect_before_connack_is_a_protocol_error() {
    let mut publish = Vec::new();
    encode::publish(&mut publish, Version::V5, &PublishOut::new("a", b"x"));
    let mut second = Vec::new();
    encode::connect(&mut second, &connect(Version::V5, "c"));
    let method = Some(SCRAM);
    for (bytes, expected) in [
        (vec![0xC0, 0], ReasonCode::PROTOCOL_ERROR),
        (publish, ReasonCode::PROTOCOL_ERROR),
        (second, ReasonCode::PROTOCOL_ERROR),
        (vec![0x82, 6, 0, 1, 0, 0, 1, b'#'], ReasonCode::PROTOCOL_ERROR),
        // AUTH that is not for here [MQTT-4.12.0-3] [MQTT-3.15.2-1], of another method [MQTT-4.12.0-5], of none, or malformed [MQTT-3.15.1-1].
        (auth(ReasonCode::REAUTHENTICATE, method, None), ReasonCode::PROTOCOL_ERROR),
        (auth(ReasonCode::SUCCESS, method, None), ReasonCode::PROTOCOL_ERROR),
        (auth(ReasonCode::CONTINUE_AUTHENTICATION, Some("other"), None), ReasonCode::PROTOCOL_ERROR),
        (auth(ReasonCode::CONTINUE_AUTHENTICATION, None, None), ReasonCode::PROTOCOL_ERROR),
        (vec![0xF0, 0], ReasonCode::PROTOCOL_ERROR),
        (vec![0xF1, 0], ReasonCode::MALFORMED_PACKET),
        (vec![0xF0, 1, 0x87], ReasonCode::PROTOCOL_ERROR),
    ] {
        let mut world = World::new(1, &config());
        let client = world.open();
        world.send_connect(client, &connect_with("c", SCRAM, Some(b"n,,n=ann,r=x")));
        challenge(&mut world, client);
        world.send(client, &bytes);
        assert_eq!(code(&mut world, client), expected.0, "{bytes:?}");
        assert!(world.is_closed(client), "{bytes:?}");
        assert_eq!(world.sessions(), 0);
        world.send_late(client, &continued(b"x"));
        assert_eq!(world.take(client), b"");
    }
}

#[test]
fn a_client_may_leave_in_the_middle() {
    for bytes in [&[0xE0, 0][..], &[0xE0, 1, 4]] {
        let mut world = World::new(1, &config());
        let client = world.open();
        world.send_connect(client, &connect_with("c", SCRAM, Some(b"n,,n=ann,r=x")));
        challenge(&mut world, client);
        world.send(client, bytes);
        assert!(world.is_closed(client));
        assert_eq!(world.take(client), b"");
        assert_eq!(world.counters().connections_closed[CloseCause::ClientDisconnect as usize], 1);
    }
}

#[test]
fn an_exchange_takes_no_longer_than_a_connect_may() {
    for shards in [1, 2] {
        let mut world = World::new(shards, &config());
        let timeout = u64::from(config().limits.connect_timeout_ms);
        let client = world.open();
        world.pass(timeout / 2);
        let client_id = client_id_of(0, shards);
        world.send_connect(client, &connect_with(&client_id, SCRAM, Some(b"n,,n=ann,r=x")));
        challenge(&mut world, client);
        world.pass(timeout / 2 - 1);
        assert!(!world.is_closed(client));
        world.pass(1 + LATE_MS);
        assert!(world.is_closed(client));
        assert_eq!(world.take(client), b"");
        assert_eq!(world.counters().connections_closed[CloseCause::ConnectTimeout as usize], 1);
    }
}

#[test]
fn an_auth_before_connack_is_no_larger_than_a_connect_may_be() {
    let mut config = config();
    config.limits.max_connect_packet_bytes = 1_000;
    let mut world = World::new(1, &config);
    let client = world.open();
    world.send_connect(client, &connect_with("c", SCRAM, Some(b"n,,n=ann,r=x")));
    challenge(&mut world, client);
    // The length alone is enough.
    world.send(client, &continued(&[b'x'; 1_000])[..5]);
    assert_eq!(code(&mut world, client), ReasonCode::PACKET_TOO_LARGE.0);
    assert!(world.is_closed(client));
}

/// A method that asks for ever.
#[derive(Debug)]
struct Curious;

#[derive(Debug)]
struct Question;

impl Method for Curious {
    fn name(&self) -> &str {
        "CURIOUS"
    }

    fn begin(&self, _: Fresh) -> Box<dyn Exchange> {
        Box::new(Question)
    }
}

impl Exchange for Question {
    fn next(&mut self, data: &[u8]) -> Step {
        match data {
            b"enough" => Step::Success { data: Vec::new(), user: "me".into() },
            _ => Step::Continue(vec![b'?'; data.len()]),
        }
    }
}

fn curious_world() -> World {
    World::with_admission(1, &Default::default(), Arc::new(Admission::default().with_method(Box::new(Curious))))
}

fn answer(data: &[u8]) -> Vec<u8> {
    auth(ReasonCode::CONTINUE_AUTHENTICATION, Some("CURIOUS"), Some(data))
}

#[test]
fn an_exchange_has_an_end() {
    let mut world = curious_world();
    let client = world.open();
    world.send_connect(client, &connect_with("c", "CURIOUS", Some(b"x")));
    let mut rounds = 0;
    while !world.is_closed(client) {
        assert!(rounds < 100, "no end");
        world.send(client, &answer(b"x"));
        rounds += 1;
    }
    assert_eq!(rounds, 16);
    assert_eq!(world.refused(RefuseReason::AuthenticationFailed), 1);
}

#[test]
fn another_method_can_be_put_in() {
    let mut world = curious_world();
    let client = world.open();
    world.send_connect(client, &connect_with("c", "CURIOUS", Some(b"x")));
    world.take(client);
    world.send(client, &answer(b"enough"));
    let bytes = world.take(client);
    let Packet::Connack(connack) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
    assert_eq!((connack.code, connack.properties.auth_method, connack.properties.auth_data), (0, Some("CURIOUS"), None));
}

/// [MQTT-3.1.2-24] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
#[test]
fn an_auth_that_the_client_would_not_take_is_not_sent() {
    let mut world = curious_world();
    for (maximum, closed) in [(40, false), (20, true)] {
        let client = world.open();
        let mut connect = connect_with("c", "CURIOUS", Some(b"0123456789"));
        connect.properties.maximum_packet_size = Some(maximum);
        world.send_connect(client, &connect);
        assert_eq!(world.is_closed(client), closed);
        assert!(world.take(client).len() <= maximum as usize);
    }
}

fn will() -> Will<'static> {
    Will { topic: "will", payload: b"gone", qos: QoS::AtMostOnce, retain: true, properties: Properties::default() }
}

/// Hostile input: a clean start that ends the session of somebody else before it is known who asks for it.
#[test]
fn nothing_of_a_session_is_touched_before_its_client_is_known() {
    let mut world = World::new(2, &config());
    let client_id = client_id_of(1, 2);
    let owner = ann(&mut world, &client_id);
    let attacker = world.open();
    let mut attempt = connect_with(&client_id, SCRAM, Some(b"n,,n=ann,r=x"));
    attempt.will = Some(will());
    world.send_connect(attacker, &attempt);
    challenge(&mut world, attacker);
    assert!(!world.is_closed(owner), "still connected while the other one is asked");
    world.send(attacker, &continued(b"c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert_eq!(code(&mut world, attacker), ReasonCode::NOT_AUTHORIZED.0);
    assert!(!world.is_closed(owner));
    assert_eq!(world.take(owner), b"");
    assert_eq!((world.sessions(), world.counters().wills_published), (1, 0));
}

/// Hostile input: the session of a user is taken over by another user, or by somebody who says nothing.
#[test]
fn a_session_belongs_to_the_user_who_made_it() {
    let mut config = config();
    config.auth.required = Some(false);
    let mut world = World::new(1, &config);
    let owner = ann(&mut world, "c");
    let bob = world.open();
    log_in(&mut world, bob, &connect(Version::V5, "c"), "bob", "hidden");
    assert_eq!(code(&mut world, bob), ReasonCode::NOT_AUTHORIZED.0);
    let nobody = world.open();
    world.send_connect(nobody, &connect(Version::V5, "c"));
    assert_eq!(code(&mut world, nobody), ReasonCode::NOT_AUTHORIZED.0);
    assert!(!world.is_closed(owner) && world.is_closed(bob) && world.is_closed(nobody));
    assert_eq!(world.refused(RefuseReason::SessionOfAnother), 2);
    let same = ann(&mut world, "c");
    assert!(world.is_closed(owner) && !world.is_closed(same), "but the same user takes it over");
}

#[test]
fn the_will_of_a_client_that_is_let_in_is_its_will() {
    let mut world = World::new(1, &config());
    let client = world.open();
    let connect = Connect { will: Some(will()), ..connect(Version::V5, "c") };
    log_in(&mut world, client, &connect, "ann", "secret");
    world.take(client);
    world.send(client, &[0xE0, 1, 4]);
    assert_eq!(world.counters().wills_published, 1);
}

#[test]
fn all_bytes_may_come_one_by_one() {
    let mut world = World::new(2, &config());
    let client = world.open();
    let mut scram = ScramClient::new("ann", "secret");
    let mut bytes = Vec::new();
    encode::connect(&mut bytes, &connect_with(&client_id_of(1, 2), SCRAM, Some(&scram.first())));
    bytes.iter().for_each(|byte| world.send(client, &[*byte]));
    let last = scram.last(&challenge(&mut world, client));
    continued(&last).iter().for_each(|byte| world.send(client, &[*byte]));
    assert_eq!(code(&mut world, client), 0);
}

#[test]
fn what_a_client_sends_right_behind_its_last_message_counts() {
    let mut world = World::new(1, &config());
    let client = world.open();
    let mut scram = ScramClient::new("ann", "secret");
    world.send_connect(client, &connect_with("c", SCRAM, Some(&scram.first())));
    let last = scram.last(&challenge(&mut world, client));
    world.send(client, &[continued(&last), vec![0xC0, 0]].concat());
    let bytes = world.take(client);
    assert!(matches!(super::world::packets(Version::V5, &bytes)[..], [Packet::Connack(_), Packet::Pingresp]), "{bytes:?}");
}
