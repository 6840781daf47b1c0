//! A broker that sends everybody elsewhere.

use ringmq::broker::Admission;
use ringmq::config::{Config, Redirect};
use ringmq::metrics::{CloseCause, RefuseReason};
use ringmq::mqtt::{Packet, Version};

use super::scram_client::connect_with;
use super::world::{World, connect, packet};

fn config(permanent: bool) -> Config {
    let redirect = Redirect { server_reference: "other.example:1883".to_owned(), permanent };
    Config { redirect: Some(redirect), ..Config::default() }
}

/// 5.0 section 4.11
#[test]
fn a_client_of_5_0_is_told_where_to_go() {
    for (permanent, expected) in [(false, 0x9C), (true, 0x9D)] {
        let mut world = World::new(2, &config(permanent));
        for (index, connect) in
            [connect(Version::V5, "a"), connect(Version::V5, "b"), connect_with("c", "unknown", None)].iter().enumerate()
        {
            let client = world.open();
            world.send_connect(client, connect);
            let bytes = world.take(client);
            let Packet::Connack(connack) = packet(Version::V5, &bytes) else { panic!("{bytes:?}") };
            assert_eq!((connack.code, connack.properties.server_reference), (expected, Some("other.example:1883")));
            assert!(world.is_closed(client));
            assert_eq!(world.refused(RefuseReason::Redirected), index as u64 + 1);
        }
        assert_eq!((world.sessions(), world.counters().connections_closed[CloseCause::ConnectRefused as usize]), (0, 3));
    }
}

/// 3.x has no words for it: "server unavailable".
#[test]
fn a_client_of_3_x_is_told_that_it_cannot_be_served() {
    for version in [Version::V31, Version::V311] {
        let mut world = World::new(1, &config(true));
        let client = world.open();
        world.send_connect(client, &connect(version, "c"));
        assert_eq!(world.take(client), [0x20, 2, 0, 3]);
        assert!(world.is_closed(client));
    }
}

#[test]
fn clients_that_are_connected_stay() {
    let mut world = World::new(1, &Config::default());
    let before = world.connect(&connect(Version::V311, "before"));
    world.set_admission(Admission::new(&config(false)));
    let after = world.open();
    world.send_connect(after, &connect(Version::V311, "after"));
    assert!(world.is_closed(after));
    world.send(before, &[0xC0, 0]);
    assert_eq!(world.take(before), [0xD0, 0]);
    world.set_admission(Admission::new(&Config::default()));
    world.connect(&connect(Version::V311, "after"));
}
