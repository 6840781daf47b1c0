//! Sessions (sections 3.1.2.4 and 4.1): what does not end them, and what does not end with them.

use ringmq::mqtt::{Connect, Properties, PublishOut, QoS};

use super::world::{V5, V311, World, connect, message, payloads, publish};

/// [MQTT-4.1.0-1] of 5.0; [MQTT-4.1.0-2] of 3.1.1
#[test]
fn a_session_does_not_end_while_it_is_connected() {
    let mut world = World::standard();
    let properties = Properties { session_expiry: Some(1), ..Properties::default() };
    let client = world.connect(&Connect { properties, ..connect(V5, "c") });
    world.subscribe(client, V5, "t", QoS::AtLeastOnce);
    let clean = world.client(V311, "clean");
    world.subscribe(clean, V311, "t", QoS::AtLeastOnce);
    world.pass(10_000_000);
    world.publish(message("t", b"x", QoS::AtLeastOnce));
    assert_eq!(payloads(V5, &world.take(client)), [b"x"]);
    assert_eq!(payloads(V311, &world.take(clean)), [b"x"]);
}

/// 3.1.1 section 3.1.2.4, the statement `MQTT-3.1.2.7`: retained messages are no part of a session.
#[test]
fn retained_messages_outlive_the_session_of_their_publisher() {
    for version in [V311, V5] {
        let mut world = World::standard();
        let publisher = world.client(version, "publisher");
        let retained = PublishOut { retain: true, ..message("t", b"kept", QoS::AtLeastOnce) };
        world.send(publisher, &publish(version, retained));
        world.vanish(publisher);
        assert_eq!(world.sessions(), 0);
        let late = world.client(V5, "late");
        world.subscribe(late, V5, "t", QoS::AtMostOnce);
        assert_eq!(payloads(V5, &world.take(late)), [b"kept"]);
    }
}
