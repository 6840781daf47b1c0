//! What a shard promises of the log that it leaves to be written: no answer comes before what it promises is durable.

use ringmq::broker::JournalJob;
use ringmq::mqtt::{Connect, Packet, Properties, PublishOut, QoS};

use super::world::{Client, V5, World, ack, connack, connect, message, packet, publish};

/// One shard with a journal, which nobody writes unless told to.
fn journaling() -> World {
    let mut world = World::standard();
    world.shards[0].keep_journal(0);
    world
}

/// The last commit that the shard asks for, if there is a new one.
fn commit_asked_for(world: &mut World) -> Option<u64> {
    let mut last = None;
    while let Some(job) = world.shards[0].next_job() {
        if let JournalJob::Commit { number, .. } = job {
            last = Some(number);
        }
    }
    last
}

fn committed(world: &mut World, number: u64) {
    let now = world.now;
    world.shards[0].committed(now, number, 1);
    world.settle();
}

fn retain(world: &mut World, client: Client, payload: &[u8]) {
    world.send(client, &publish(V5, PublishOut { retain: true, ..message("t", payload, QoS::AtLeastOnce) }));
}

#[track_caller]
fn assert_acknowledged(world: &mut World, client: Client) {
    let bytes = world.take(client);
    assert!(matches!(packet(V5, &bytes), Packet::Puback(ack) if !ack.reason.is_error()), "{bytes:?}");
}

#[test]
fn an_acknowledgement_waits_for_its_own_commit() {
    let mut world = journaling();
    let (a, b) = (world.client(V5, "a"), world.client(V5, "b"));
    retain(&mut world, a, b"first");
    let first = commit_asked_for(&mut world).expect("a commit");
    retain(&mut world, b, b"second");
    let second = commit_asked_for(&mut world).expect("a commit");
    committed(&mut world, first);
    assert_acknowledged(&mut world, a);
    assert!(world.take(b).is_empty());
    committed(&mut world, second);
    assert_acknowledged(&mut world, b);
}

/// Found by simulation: the second client was told that nothing is there, and a crash brought it back.
#[test]
fn who_deletes_what_is_just_being_deleted_waits_for_the_disk_too() {
    let mut world = journaling();
    let (a, b) = (world.client(V5, "a"), world.client(V5, "b"));
    retain(&mut world, a, b"there");
    let there = commit_asked_for(&mut world).expect("a commit");
    committed(&mut world, there);
    assert_acknowledged(&mut world, a);
    retain(&mut world, a, b"");
    let gone = commit_asked_for(&mut world).expect("a commit");
    retain(&mut world, b, b"");
    assert!(world.take(a).is_empty() && world.take(b).is_empty());
    committed(&mut world, gone);
    assert_acknowledged(&mut world, a);
    let again = commit_asked_for(&mut world).unwrap_or(gone);
    committed(&mut world, again);
    assert_acknowledged(&mut world, b);
    // Where nothing is under way there is nothing to wait for.
    retain(&mut world, b, b"");
    assert_acknowledged(&mut world, b);
}

/// A client that asks for its lasting session.
fn asks_for_its_session(world: &mut World) -> Client {
    let client = world.open();
    let properties = Properties { session_expiry: Some(u32::MAX), ..Properties::default() };
    world.send_connect(client, &Connect { clean_start: false, properties, ..connect(V5, "c") });
    client
}

/// Found by simulation: the answer to the repetition left at once.
#[test]
fn the_answer_to_a_repeated_qos_2_message_waits_for_what_it_promises() {
    let mut world = journaling();
    let client = asks_for_its_session(&mut world);
    let number = commit_asked_for(&mut world).expect("a commit");
    committed(&mut world, number);
    assert!(!connack(V5, &world.take_one(client)).session_present);
    let first = PublishOut { retain: true, ..message("t", b"x", QoS::ExactlyOnce) };
    world.send(client, &publish(V5, first));
    commit_asked_for(&mut world).expect("a commit");
    world.vanish(client);
    let client = asks_for_its_session(&mut world);
    world.send(client, &publish(V5, PublishOut { dup: true, ..first }));
    let number = commit_asked_for(&mut world).expect("a commit");
    assert!(world.take(client).is_empty());
    committed(&mut world, number);
    assert!(connack(V5, &world.take_one(client)).session_present);
    assert_eq!(world.take(client), ack(0x50, 1).as_slice());
}
