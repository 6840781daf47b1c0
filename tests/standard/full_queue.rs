//! Full queues and publishers of 3.x, which cannot be told of them: they wait, and they do not wait for themselves, for each other, or for nobody.

use ringmq::config::{Config, QueueFull};
use ringmq::metrics::DropReason;
use ringmq::mqtt::{Connect, Packet, PublishOut, QoS, ReasonCode, Version, Will};

use super::world::{
    Client, DISCONNECT, LATE_MS, PINGREQ, PINGRESP, V5, V311, World, ack, connect, message, packet, packets, payloads, publish, publishes,
    told_off,
};

const PUBACK: u8 = 0x40;
const PATIENCE_MS: u64 = 20_000;
const STUCK_MS: u64 = 60_000;

/// One message in flight to a client, two in its queue, two that wait for room, and two unanswered publishes of a client before it is paused.
fn tight() -> World {
    World::limited(|config: &mut Config| {
        config.limits.receive_maximum = 2;
        config.limits.max_inflight = 1;
        config.limits.max_queued_messages = 2;
        config.limits.queue_full = QueueFull::RejectNew;
        config.limits.full_session_patience_s = 60;
    })
}

fn numbered(topic: &str, number: u16) -> Vec<u8> {
    publish(V311, PublishOut { qos: QoS::AtLeastOnce, packet_id: number, ..PublishOut::new(topic, &[number as u8; 4]) })
}

/// A durable 3.1.1 session whose client never comes back, and which wants "t".
fn abandoned(world: &mut World) {
    let (gone, _) = world.durable(V311, "gone");
    world.subscribe(gone, V311, "t", QoS::AtLeastOnce);
    world.vanish(gone);
}

/// Reads what a client was sent: numbers of its publishes that were acknowledged, and of messages, which it acknowledges.
fn work_off(world: &mut World, client: Client, answered: &mut Vec<u16>, got: &mut Vec<u8>) {
    let bytes = world.take(client);
    let mut acks = Vec::new();
    for packet in packets(V311, &bytes) {
        match packet {
            Packet::Puback(ack) => answered.push(ack.packet_id),
            Packet::Publish(publish) => {
                got.push(publish.payload[0]);
                acks.extend(ack(PUBACK, publish.packet_id));
            }
            other => panic!("{other:?}"),
        }
    }
    if !acks.is_empty() {
        world.send(client, &acks);
    }
}

#[test]
fn a_publisher_that_waits_for_its_own_queue_is_heard_when_it_acknowledges() {
    let mut world = tight();
    let client = world.client(V311, "both");
    world.subscribe(client, V311, "t", QoS::AtLeastOnce);
    for number in 1..=12 {
        world.send(client, &numbered("t", number));
    }
    let paused = world.counters().publishers_paused;
    let (mut answered, mut got) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        work_off(&mut world, client, &mut answered, &mut got);
    }
    assert_eq!(paused, 1);
    assert_eq!(answered, (1..=12).collect::<Vec<u16>>());
    assert_eq!(got, (1..=12).collect::<Vec<u8>>());
}

#[test]
fn publishers_that_wait_for_each_other_are_heard_when_they_acknowledge() {
    let mut world = tight();
    let pair = ["a", "b"].map(|name| world.client(V311, name));
    world.subscribe(pair[0], V311, "to/a", QoS::AtLeastOnce);
    world.subscribe(pair[1], V311, "to/b", QoS::AtLeastOnce);
    for number in 1..=12 {
        world.send(pair[0], &numbered("to/b", number));
        world.send(pair[1], &numbered("to/a", number));
    }
    assert_eq!(world.counters().publishers_paused, 2);
    let mut seen = [const { (Vec::new(), Vec::new()) }; 2];
    for _ in 0..12 {
        for (client, (answered, got)) in pair.iter().zip(&mut seen) {
            work_off(&mut world, *client, answered, got);
        }
    }
    for (answered, got) in &seen {
        assert_eq!(answered, &(1..=12).collect::<Vec<u16>>());
        assert_eq!(got, &(1..=12).collect::<Vec<u8>>());
    }
}

#[test]
fn a_publisher_that_waits_gets_its_pingresp() {
    let mut world = tight();
    abandoned(&mut world);
    let publisher = world.client(V311, "p");
    for number in 1..=9 {
        world.send(publisher, &numbered("t", number));
    }
    assert_eq!(world.counters().publishers_paused, 1);
    world.take(publisher);
    world.send(publisher, &PINGREQ);
    assert_eq!(world.take(publisher), PINGRESP);
    // Half of one waits for its end as anything else does.
    world.send(publisher, &PINGREQ[..1]);
    assert!(world.take(publisher).is_empty());
    world.send(publisher, &PINGREQ[1..]);
    assert_eq!(world.take(publisher), PINGRESP);
}

#[test]
fn a_ping_does_not_prolong_the_wait() {
    let mut world = tight();
    abandoned(&mut world);
    let publisher = world.client(V311, "p");
    for number in 1..=9 {
        world.send(publisher, &numbered("t", number));
    }
    world.pass(PATIENCE_MS - 1_000);
    world.send(publisher, &PINGREQ);
    assert!(!world.is_closed(publisher));
    world.pass(1_000 + LATE_MS);
    assert!(world.is_closed(publisher));
}

/// The bound is 64 KiB, and one read.
#[test]
fn what_is_kept_of_a_publisher_that_waits_is_bounded() {
    let mut world = tight();
    abandoned(&mut world);
    let publisher = world.client(V311, "p");
    let large = publish(V311, message("t", &[0; 1_000], QoS::AtLeastOnce));
    let mut sent = 0;
    while world.sockets[publisher].reading {
        world.send(publisher, &large);
        sent += large.len();
        assert!(sent < 100_000, "it is read from without end");
    }
    assert!(sent > 60_000, "{sent}");
    assert!(world.shards[0].memory_used() < 80_000, "{}", world.shards[0].memory_used());
}

#[test]
fn acknowledgements_far_behind_are_heard_before_a_publisher_is_let_go() {
    let mut world = tight();
    let client = world.client(V311, "both");
    world.subscribe(client, V311, "t", QoS::AtLeastOnce);
    let large = |number| publish(V311, PublishOut { qos: QoS::AtLeastOnce, packet_id: number, ..PublishOut::new("t", &[1; 10_000]) });
    let mut number = 1;
    while world.sockets[client].reading {
        world.send(client, &large(number));
        number += 1;
    }
    let bytes = world.take(client);
    let first = packets(V311, &bytes).into_iter().find_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish.packet_id),
        _ => None,
    });
    world.pass(PATIENCE_MS + LATE_MS);
    assert!(!world.is_closed(client) && world.sockets[client].reading);
    // Its publishes are not taken any more, but what it acknowledges makes room.
    world.send(client, &[large(number), ack(PUBACK, first.expect("a message"))].concat());
    let bytes = world.take(client);
    assert!(packets(V311, &bytes).iter().any(|packet| matches!(packet, Packet::Publish(_))));
    assert!(!packets(V311, &bytes).iter().any(|packet| matches!(packet, Packet::Puback(ack) if ack.packet_id >= 6)));
    world.pass(PATIENCE_MS + LATE_MS);
    assert!(world.is_closed(client));
}

/// A 3.1.1 client with a will on "will", paused, whose queue of unread packets ends with a message at QoS 0.
fn waiting_with_will(world: &mut World) -> (Client, Client) {
    let watcher = world.client(V5, "watcher");
    world.subscribe(watcher, V5, "log", QoS::AtMostOnce);
    world.subscribe(watcher, V5, "will", QoS::AtMostOnce);
    abandoned(world);
    let will = Will { topic: "will", payload: b"dead", qos: QoS::AtMostOnce, retain: false, properties: Default::default() };
    let publisher = world.connect(&Connect { will: Some(will), ..connect(V311, "p") });
    for number in 1..=4 {
        world.send(publisher, &numbered("t", number));
    }
    assert_eq!(world.counters().publishers_paused, 1);
    world.send(publisher, &publish(V311, PublishOut::new("log", b"last")));
    assert!(world.take(watcher).is_empty());
    (publisher, watcher)
}

/// [MQTT-3.1.2-10]
#[test]
fn a_publisher_that_waits_and_leaves_has_said_what_it_said() {
    let mut world = tight();
    let (publisher, watcher) = waiting_with_will(&mut world);
    world.send(publisher, &DISCONNECT);
    world.vanish(publisher);
    assert_eq!(payloads(V5, &world.take(watcher)), [b"last"]);
}

#[test]
fn a_publisher_that_waits_and_vanishes_has_its_will_published_last() {
    let mut world = tight();
    let (publisher, watcher) = waiting_with_will(&mut world);
    world.vanish(publisher);
    assert_eq!(payloads(V5, &world.take(watcher)), [b"last", b"dead"]);
}

/// Found by simulation: the publisher was sent away each time, and came back with the message each time.
#[test]
fn a_message_of_more_copies_than_there_is_room_for_is_taken_in_the_end() {
    let mut world = World::limited(|config| {
        config.limits.max_inflight = 1;
        config.limits.max_queued_messages = 1;
    });
    let client = world.client(V5, "many");
    for filter in ["t", "$share/a/t", "$share/b/t", "$share/c/t"] {
        world.subscribe(client, V5, filter, QoS::AtLeastOnce);
    }
    let publisher = world.client(V311, "p");
    world.send(publisher, &numbered("t", 1));
    for _ in 0..4 {
        let bytes = world.take(client);
        let packet_id = publishes(V5, &bytes)[0].packet_id;
        world.send(client, &ack(PUBACK, packet_id));
    }
    assert_eq!(world.take(publisher), ack(PUBACK, 1));
}

fn given_up(world: &World) -> u64 {
    world.counters().sessions_given_up
}

/// Section 4.1: stored session state may be discarded as an automated response to defined conditions.
#[test]
fn an_abandoned_session_with_a_full_queue_ends_and_its_publishers_go_on() {
    let mut world = tight();
    abandoned(&mut world);
    let publisher = world.client(V311, "p");
    let other = world.client(V5, "q");
    for number in 1..=3 {
        world.send(publisher, &numbered("t", number));
    }
    assert_eq!(world.take(publisher), [ack(PUBACK, 1), ack(PUBACK, 2)].concat());
    world.send(other, &publish(V5, message("t", b"x", QoS::AtLeastOnce)));
    assert!(matches!(packet(V5, &world.take(other)), Packet::Puback(ack) if ack.reason == ReasonCode::QUOTA_EXCEEDED));
    world.pass(STUCK_MS - 1_000);
    assert!(world.take(publisher).is_empty());
    world.pass(1_000 + LATE_MS);
    assert_eq!(world.take(publisher), ack(PUBACK, 3));
    assert_eq!((given_up(&world), world.counters().dropped[DropReason::SessionStuck as usize]), (1, 3));
    world.send(other, &publish(V5, message("t", b"x", QoS::AtLeastOnce)));
    assert!(matches!(packet(V5, &world.take(other)), Packet::Puback(ack) if ack.reason == ReasonCode::NO_MATCHING_SUBSCRIBERS));
    let (_, present) = world.durable(V311, "gone");
    assert!(!present, "the client is told that its session ended");
}

#[test]
fn a_session_long_without_its_client_holds_nobody_up_when_its_queue_runs_full() {
    let mut world = tight();
    abandoned(&mut world);
    let publisher = world.client(V311, "p");
    world.send(publisher, &numbered("t", 1));
    world.send(publisher, &numbered("t", 2));
    world.pass(STUCK_MS);
    world.take(publisher);
    world.send(publisher, &numbered("t", 3));
    world.pass(LATE_MS);
    assert_eq!(world.take(publisher), ack(PUBACK, 3));
}

#[test]
fn a_connected_client_that_acknowledges_nothing_is_let_go_and_its_session_ends() {
    let mut world = tight();
    let (stubborn, _) = world.durable(V5, "stubborn");
    world.subscribe(stubborn, V5, "t", QoS::AtLeastOnce);
    let publisher = world.client(V311, "p");
    for number in 1..=4 {
        world.send(publisher, &numbered("t", number));
    }
    assert_eq!(publishes(V5, &world.take(stubborn)).len(), 1);
    world.pass(STUCK_MS + LATE_MS);
    assert_eq!(told_off(&world.take(stubborn)), ReasonCode::QUOTA_EXCEEDED);
    assert!(world.is_closed(stubborn));
    assert_eq!((given_up(&world), world.sessions()), (1, 1));
    assert_eq!(world.take(publisher), [1, 2, 3, 4].map(|number| ack(PUBACK, number)).concat());
}

/// Each acknowledgement, and each new connection, begins the time anew.
#[test]
fn a_session_that_takes_something_now_and_then_stays() {
    let mut world = tight();
    let (slow, _) = world.durable(V311, "slow");
    world.subscribe(slow, V311, "t", QoS::AtLeastOnce);
    let publisher = world.client(V5, "p");
    let fill = |world: &mut World| {
        for _ in 0..5 {
            world.send(publisher, &publish(V5, message("t", b"x", QoS::AtLeastOnce)));
        }
        let bytes = world.take(publisher);
        assert!(packets(V5, &bytes).iter().any(|packet| matches!(packet, Packet::Puback(ack) if ack.reason.is_error())), "full");
    };
    fill(&mut world);
    for _ in 0..10 {
        world.pass(STUCK_MS - 2_000);
        let bytes = world.take(slow);
        let packet_id = publishes(V311, &bytes)[0].packet_id;
        world.send(slow, &ack(PUBACK, packet_id));
        fill(&mut world);
    }
    world.pass(STUCK_MS - 2_000);
    world.vanish(slow);
    let (slow, present) = world.durable(V311, "slow");
    assert!(present);
    fill(&mut world);
    world.pass(STUCK_MS - 2_000);
    assert_eq!((world.is_closed(slow), given_up(&world)), (false, 0));
    world.pass(2_000 + LATE_MS);
    assert_eq!((world.is_closed(slow), given_up(&world)), (true, 1));
}

#[test]
fn a_session_may_be_allowed_to_hold_publishers_up_for_ever() {
    let mut world = World::limited(|config| {
        config.limits.max_queued_messages = 1;
        assert_eq!(config.limits.full_session_patience_s, u32::MAX, "by default");
        config.limits.v3_session_expiry_s = u32::MAX;
    });
    abandoned(&mut world);
    let publisher = world.client(V311, "p");
    for number in 1..=2 {
        world.send(publisher, &numbered("t", number));
    }
    world.pass(1_000_000_000);
    assert_eq!(world.take(publisher), ack(PUBACK, 1));
    assert!(world.durable(V311, "gone").1);
}

#[test]
fn a_session_of_3_x_waits_a_week_for_its_client() {
    const DAY_MS: u64 = 24 * 3_600 * 1_000;
    for version in [Version::V31, V311] {
        let mut world = World::standard();
        let (client, _) = world.durable(version, "c");
        world.vanish(client);
        world.pass(7 * DAY_MS - 1_000);
        assert_eq!(world.sessions(), 1);
        world.pass(1_000 + LATE_MS);
        assert_eq!(world.sessions(), 0);
    }
}
