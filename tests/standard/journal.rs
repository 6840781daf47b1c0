//! What a shard promises of the log that it leaves to be written: no answer comes before what it promises is durable.

use ringmq::broker::{JournalJob, ShardId, home_of};
use ringmq::config::Config;
use ringmq::mqtt::{Connect, Packet, Properties, PublishOut, QoS, SubscribeOptions};

use super::world::{Client, V5, V311, World, ack, connack, connect, message, packet, packets, publish, subscribe};

/// One shard with a journal, which nobody writes unless told to.
fn journaling() -> World {
    let mut world = World::standard();
    world.shards[0].keep_journal(0);
    world
}

/// The last commit that the shard asks for, if there is a new one.
fn commit_asked_for(world: &mut World) -> Option<u64> {
    let mut last = None;
    // What an earlier run left is written anew in some steps, and not each of them makes a commit.
    for _ in 0..8 {
        while let Some(job) = world.shards[0].next_job() {
            if let JournalJob::Commit { number, .. } = job {
                last = Some(number);
            }
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

/// Found by simulation: the answer to the repetition left at once.
#[test]
fn the_answer_to_a_repeated_qos_2_message_waits_for_what_it_promises() {
    let mut world = journaling();
    let client = reconnect(&mut world, "c", Some(u32::MAX));
    commit(&mut world);
    world.take(client);
    let first = PublishOut { retain: true, ..message("t", b"x", QoS::ExactlyOnce) };
    world.send(client, &publish(V5, first));
    let number = commit_asked_for(&mut world).expect("a commit");
    world.vanish(client);
    let client = reconnect(&mut world, "c", Some(u32::MAX));
    world.send(client, &publish(V5, PublishOut { dup: true, ..first }));
    committed(&mut world, number);
    assert!(world.take(client).is_empty(), "nothing before the commit of the new connection, which is behind that of the message");
    commit(&mut world);
    let bytes = world.take(client);
    assert_eq!(bytes[bytes.len() - 4..], ack(0x50, 1));
}

fn reconnect(world: &mut World, client_id: &str, session_expiry: Option<u32>) -> Client {
    let client = world.open();
    let properties = Properties { session_expiry, ..Properties::default() };
    world.send_connect(client, &Connect { clean_start: false, properties, ..connect(V5, client_id) });
    client
}

/// Commits everything that is asked for.
fn commit(world: &mut World) {
    while let Some(number) = commit_asked_for(world) {
        committed(world, number);
    }
}

/// Found by simulation: after a crash the session was there again, with all its subscriptions.
#[test]
fn who_is_told_that_its_session_is_gone_is_told_so_when_that_is_durable() {
    let mut world = journaling();
    let client = reconnect(&mut world, "c", Some(1_000));
    commit(&mut world);
    assert!(!connack(V5, &world.take(client)).session_present);
    // DISCONNECT with a session expiry of 0.
    world.send(client, &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]);
    let ended = commit_asked_for(&mut world).expect("a commit");
    let client = reconnect(&mut world, "c", None);
    assert!(world.take(client).is_empty());
    committed(&mut world, ended);
    assert!(!connack(V5, &world.take(client)).session_present);
}

/// Found by simulation: PUBCOMP never came, as there was no name any more under which other shards remembered the message.
#[test]
fn a_qos_2_message_is_released_although_its_session_is_not_kept_any_more() {
    let mut world = World::new(2, &Config::default());
    for shard in &mut world.shards {
        shard.keep_journal(0);
    }
    // A subscriber on another shard than the publisher, so that the other one has to remember the exchange.
    let name = |shard| (0..).map(|number| format!("c{number}")).find(|name| home_of(name, 2) == ShardId(shard)).expect("a name");
    let settle = |world: &mut World| {
        for _ in 0..4 {
            for shard in 0..2 {
                while let Some(job) = world.shards[shard].next_job() {
                    if let JournalJob::Commit { number, .. } = job {
                        let now = world.now;
                        world.shards[shard].committed(now, number, 1);
                    }
                }
            }
            world.settle();
        }
    };
    let subscriber = reconnect(&mut world, &name(1), Some(1_000));
    settle(&mut world);
    world.send(subscriber, &subscribe(V5, 1, &[("t", SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() })], None));
    let publisher = reconnect(&mut world, &name(0), Some(1_000));
    settle(&mut world);
    world.take(publisher);
    world.send(publisher, &publish(V5, message("t", b"x", QoS::ExactlyOnce)));
    settle(&mut world);
    assert_eq!(world.take(publisher), ack(0x50, 1));
    let publisher = reconnect(&mut world, &name(0), None);
    settle(&mut world);
    assert!(connack(V5, &world.take(publisher)).session_present);
    world.send(publisher, &ack(0x62, 1));
    settle(&mut world);
    assert_eq!(world.take(publisher), ack(0x70, 1));
}

/// Found by simulation: the note that this shard has the message outlived the crash, the message that was held did not, and its repetition was not taken.
#[test]
fn a_message_that_waits_for_room_is_kept_as_any_other() {
    let limits = |config: &mut Config| (config.limits.max_inflight, config.limits.max_queued_messages) = (1, 1);
    let mut world = World::limited(limits);
    world.shards[0].keep_journal(0);
    let mut log = Vec::new();
    let subscriber = reconnect(&mut world, "s", Some(1_000));
    write(&mut world, &mut log);
    world.send(subscriber, &subscribe(V5, 1, &[("t", SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() })], None));
    let publisher = world.open();
    world.send_connect(publisher, &Connect { clean_start: false, ..connect(V311, "p") });
    write(&mut world, &mut log);
    for packet_id in 1..=3 {
        let payload = [packet_id as u8];
        world.send(publisher, &publish(V311, PublishOut { packet_id, ..message("t", &payload, QoS::ExactlyOnce) }));
    }
    write(&mut world, &mut log);
    // Another run goes on with what is left.
    let mut world = World::limited(limits);
    world.shards[0].keep_journal(0);
    let now = world.now;
    world.shards[0].restore(now, &[log]);
    commit(&mut world);
    let subscriber = reconnect(&mut world, "s", Some(1_000));
    let mut got = Vec::new();
    for _ in 0..6 {
        commit(&mut world);
        let bytes = world.take(subscriber);
        for packet in packets(V5, &bytes) {
            match packet {
                Packet::Publish(publish) => {
                    got.push(publish.payload[0]);
                    world.send(subscriber, &ack(0x50, publish.packet_id));
                }
                Packet::Pubrel(pubrel) => world.send(subscriber, &ack(0x70, pubrel.packet_id)),
                _ => {}
            }
        }
    }
    assert_eq!(got, [1, 2, 3]);
}

/// Writes everything that is asked for.
fn write(world: &mut World, log: &mut Vec<Vec<u8>>) {
    while let Some(job) = world.shards[0].next_job() {
        if let JournalJob::Commit { number, records } = job {
            log.push(records);
            committed(world, number);
        }
    }
}

/// Found by simulation: the session lost its name with its expiry, and with it what shards knew of its exchanges.
#[test]
fn a_repeated_qos_2_message_is_known_although_its_session_is_to_end_with_the_connection() {
    let mut world = journaling();
    let mut log = Vec::new();
    let subscriber = reconnect(&mut world, "s", Some(1_000));
    write(&mut world, &mut log);
    world.send(subscriber, &subscribe(V5, 1, &[("t", SubscribeOptions { qos: QoS::ExactlyOnce, ..Default::default() })], None));
    let publisher = reconnect(&mut world, "p", Some(1_000));
    write(&mut world, &mut log);
    let first = message("t", b"x", QoS::ExactlyOnce);
    world.send(publisher, &publish(V5, first));
    write(&mut world, &mut log);
    let mut world = journaling();
    let now = world.now;
    world.shards[0].restore(now, &[log]);
    commit(&mut world);
    let publisher = reconnect(&mut world, "p", None);
    commit(&mut world);
    world.send(publisher, &publish(V5, PublishOut { dup: true, ..first }));
    commit(&mut world);
    let subscriber = reconnect(&mut world, "s", Some(1_000));
    commit(&mut world);
    let bytes = world.take(subscriber);
    let messages = packets(V5, &bytes).into_iter().filter(|packet| matches!(packet, Packet::Publish(_))).count();
    assert_eq!(messages, 1);
}

#[test]
fn the_memory_of_a_written_commit_holds_a_later_one() {
    let mut world = journaling();
    let client = world.client(V5, "a");
    let mut written = Vec::new();
    for payload in [b"one", b"two"] {
        retain(&mut world, client, payload);
        write(&mut world, &mut written);
    }
    let memory: Vec<_> = written.iter().map(|records| records.as_ptr()).collect();
    world.shards[0].reuse_records(written);
    let mut later = Vec::new();
    for payload in [b"3", b"4", b"5", b"6"] {
        retain(&mut world, client, payload);
        write(&mut world, &mut later);
    }
    let reused = later.iter().filter(|records| memory.contains(&records.as_ptr())).count();
    assert_eq!(reused, memory.len(), "each buffer was used once more, and not twice");
}

/// Where what is live stays where it is, nothing of it is written at a start, but what is different now is.
#[test]
fn a_start_on_a_store_that_keeps_what_is_live_notes_only_what_has_changed() {
    let mut world = journaling();
    let mut log = Vec::new();
    let client = reconnect(&mut world, "a", Some(1_000));
    retain(&mut world, client, b"stays");
    write(&mut world, &mut log);
    let now = world.now;
    let written_at_a_start = |in_place: bool| {
        let mut world = World::standard();
        let shard = &mut world.shards[0];
        shard.keep_journal(0);
        if in_place {
            shard.rewrite_journal_after(None);
        }
        shard.restore(now, &[log.clone()]);
        let mut written = Vec::new();
        while !shard.is_durable() {
            if let Some(JournalJob::Commit { number, records }) = shard.next_job() {
                written.extend(records);
                shard.committed(now, number, 1);
            }
        }
        written
    };
    assert!(written_at_a_start(false).windows(5).any(|bytes| bytes == b"stays"));
    // That the client has no connection any more: a tag, the session, and since when.
    assert_eq!(written_at_a_start(true).len(), 1 + 8 + 8);
}
