//! Authentication of a client that is connected (5.0 section 4.12.1).

use ringmq::broker::Admission;
use ringmq::broker::auth::scram;
use ringmq::metrics::RefuseReason;
use ringmq::mqtt::{Connect, Packet, Properties, QoS, ReasonCode, Version, Will};

use super::scram_client::{ScramClient, again, ann, auth, challenge, config, continued, goodbye, log_in};
use super::world::{Client, World, connect, packet};

/// [MQTT-4.12.1-1]
fn authenticate_again(world: &mut World, client: Client, user: &str, password: &str) -> ScramClient {
    let mut scram = ScramClient::new(user, password);
    world.send(client, &again(&scram.first()));
    let last = scram.last(&challenge(world, client));
    world.send(client, &continued(&last));
    scram
}

fn assert_success(world: &mut World, client: Client, scram: &ScramClient) {
    let bytes = world.take(client);
    let Packet::Auth(auth) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
    assert_eq!((auth.reason, auth.properties.auth_method), (ReasonCode::SUCCESS, Some(scram::NAME)));
    assert_eq!(auth.properties.auth_data, Some(&scram.signature()[..]));
    assert!(!world.is_closed(client));
}

#[test]
fn a_client_proves_again_who_it_is_as_often_as_it_likes() {
    let mut world = World::new(1, &config());
    let client = ann(&mut world, "c");
    for _ in 0..3 {
        let scram = authenticate_again(&mut world, client, "ann", "secret");
        assert_success(&mut world, client, &scram);
    }
}

#[test]
fn meanwhile_the_connection_goes_on() {
    let mut world = World::new(1, &config());
    let client = ann(&mut world, "c");
    let mut scram = ScramClient::new("ann", "secret");
    world.send(client, &again(&scram.first()));
    let heard = challenge(&mut world, client);
    world.send(client, &[0xC0, 0]);
    assert_eq!(world.take(client), [0xD0, 0]);
    let last = scram.last(&heard);
    world.send(client, &continued(&last));
    assert_success(&mut world, client, &scram);
}

#[test]
fn asked_for_in_the_middle_it_begins_again() {
    let mut world = World::new(1, &config());
    let client = ann(&mut world, "c");
    for _ in 0..20 {
        world.send(client, &again(b"n,,n=ann,r=first"));
        challenge(&mut world, client);
    }
    let scram = authenticate_again(&mut world, client, "ann", "secret");
    assert_success(&mut world, client, &scram);
}

/// [MQTT-4.12.1-2]
#[test]
fn a_client_that_fails_is_disconnected_and_its_will_is_sent() {
    for (user, password) in [("ann", "wrong"), ("bob", "hidden")] {
        let mut world = World::new(1, &config());
        let client = world.open();
        let will = Will { topic: "will", payload: b"", qos: QoS::AtMostOnce, retain: false, properties: Properties::default() };
        log_in(&mut world, client, &Connect { will: Some(will), ..connect(Version::V5, "c") }, "ann", "secret");
        world.take(client);
        authenticate_again(&mut world, client, user, password);
        assert_eq!(goodbye(&mut world, client), ReasonCode::NOT_AUTHORIZED, "{user}");
        assert_eq!((world.counters().wills_published, world.refused(RefuseReason::AuthenticationFailed)), (1, 1));
    }
}

#[test]
fn a_user_who_was_removed_fails() {
    let mut world = World::new(1, &config());
    let client = ann(&mut world, "c");
    let mut changed = config();
    changed.auth.scram.remove(0);
    world.set_admission(Admission::new(&changed));
    world.send(client, &again(b"n,,n=ann,r=x"));
    challenge(&mut world, client);
    world.send(client, &continued(b"c=biws,r=x,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert_eq!(goodbye(&mut world, client), ReasonCode::NOT_AUTHORIZED);
}

#[test]
fn a_method_that_was_removed_fails() {
    let mut world = World::new(1, &config());
    let client = ann(&mut world, "c");
    world.set_admission(Admission::default());
    world.send(client, &again(b"n,,n=ann,r=x"));
    assert_eq!(goodbye(&mut world, client), ReasonCode::NOT_AUTHORIZED);
}

/// [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1] [MQTT-3.15.1-1] [MQTT-3.15.2-1]
#[test]
fn an_auth_that_does_not_fit_is_a_protocol_error() {
    let method = Some(scram::NAME);
    for (bytes, expected) in [
        (auth(ReasonCode::CONTINUE_AUTHENTICATION, method, Some(b"x")), ReasonCode::PROTOCOL_ERROR),
        (auth(ReasonCode::REAUTHENTICATE, Some("SCRAM-SHA-1"), Some(b"n,,n=ann,r=x")), ReasonCode::PROTOCOL_ERROR),
        (auth(ReasonCode::SUCCESS, method, None), ReasonCode::PROTOCOL_ERROR),
        (auth(ReasonCode::REAUTHENTICATE, None, None), ReasonCode::PROTOCOL_ERROR),
        (vec![0xF0, 0], ReasonCode::PROTOCOL_ERROR),
        (vec![0xF2, 0], ReasonCode::MALFORMED_PACKET),
        (vec![0xF0, 1, 0x10], ReasonCode::PROTOCOL_ERROR),
    ] {
        let mut world = World::new(1, &config());
        let client = ann(&mut world, "c");
        world.send(client, &bytes);
        assert_eq!(goodbye(&mut world, client), expected, "{bytes:?}");
    }
}

/// [MQTT-4.12.0-7]
#[test]
fn a_client_that_named_no_method_may_not_send_auth() {
    let mut config = config();
    config.auth.required = Some(false);
    let mut world = World::new(1, &config);
    for bytes in [again(b"n,,n=ann,r=x"), continued(b"x"), vec![0xF0, 0]] {
        let client = world.connect(&connect(Version::V5, "c"));
        world.send(client, &bytes);
        assert_eq!(goodbye(&mut world, client), ReasonCode::PROTOCOL_ERROR);
    }
    // 3.x does not know the packet at all.
    let client = world.connect(&connect(Version::V311, "d"));
    world.send(client, &again(b"n,,n=ann,r=x"));
    assert!(world.is_closed(client));
}
