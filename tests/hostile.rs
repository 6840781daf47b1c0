//! What clients choose the size of counts against the budget of memory, is held once where it can be shared, and is bounded in every turn.

#[path = "support/one_shard.rs"]
mod one_shard;

use std::sync::Arc;

use one_shard::OneShard;
use ringmq::broker::{Command, ConnId, Origin, OutBatch, Shard, ShardConfig, ShardId, home_of};
use ringmq::config::{Limits, Override, every_key, parse};
use ringmq::metrics::{DropReason, Limit, RefuseReason};
use ringmq::mqtt::{Connect, Properties, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, Version, Will, encode};

const MEGABYTE: usize = 1024 * 1024;

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn publish(topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    encoded(|out| encode::publish(out, Version::V5, &PublishOut { retain, ..PublishOut::new(topic, payload) }))
}

fn subscribe(filter: &str) -> Vec<u8> {
    let entry = SubscribeEntry { filter, options: SubscribeOptions::default() };
    encoded(|out| encode::subscribe(out, Version::V5, 1, &[entry], &Properties::default()))
}

fn connect(client_id: &str, will: Option<Will<'_>>) -> Vec<u8> {
    let (user_name, password) = (None, None);
    let properties = Properties { session_expiry: Some(60), ..Properties::default() };
    let connect = Connect { version: Version::V5, clean_start: true, keep_alive: 0, client_id, will, user_name, password, properties };
    encoded(|out| encode::connect(out, &connect))
}

/// A client that is let in.
fn open(shard: &mut Shard, client_id: &str) -> ConnId {
    let conn = shard.open(0, Origin { listener: 0, peer: None }).expect("there is room");
    shard.receive(0, conn, &connect(client_id, None));
    conn
}

/// What the shard counts more after this.
fn counted(world: &mut OneShard, act: impl FnOnce(&mut OneShard)) -> u64 {
    let before = world.shard.memory_used();
    act(world);
    world.shard.memory_used() - before
}

/// CVE-2021-33175 and the like: a filter takes as many nodes as it has levels, and its text may be long.
#[test]
fn levels_and_texts_of_filters_count() {
    let mut world = OneShard::new(Limits::default());
    let client = world.connect("deep", Version::V5);
    let empty = world.shard.memory_used();
    let deep = format!("{}+", "a/".repeat(999));
    let of_deep = counted(&mut world, |world| world.receive(client, &subscribe(&deep)));
    assert!((64_000..200_000).contains(&of_deep), "1,000 levels count {of_deep} bytes");
    let long = "x".repeat(60_000);
    let of_long = counted(&mut world, |world| world.receive(client, &subscribe(&long)));
    assert!((60_000..70_000).contains(&of_long), "60,000 bytes count {of_long} bytes");
    let of_wild = counted(&mut world, |world| world.receive(client, &subscribe(&format!("{long}/+"))));
    assert!((60_000..70_000).contains(&of_wild), "60,000 bytes of a wildcard filter count {of_wild} bytes");
    let wild = format!("{long}/+");
    for filter in [&deep, &long, &wild] {
        world.receive(client, &encoded(|out| encode::unsubscribe(out, Version::V5, 2, [filter.as_str()], &Properties::default())));
    }
    assert_eq!(world.shard.memory_used(), empty);
}

/// Each subscription to a filter that many have, and each time that a client asks for retained messages which it does not take.
#[test]
fn subscriptions_and_what_waits_for_retained_messages_count() {
    let mut world = OneShard::new(Limits::default());
    let (first, second) = (world.connect("first", Version::V5), world.connect("second", Version::V5));
    let filters: Vec<Vec<u8>> = (0..1_000).map(|number| subscribe(&format!("many/{number}"))).collect();
    filters.iter().for_each(|filter| world.receive(first, filter));
    let of_second = counted(&mut world, |world| filters.iter().for_each(|filter| world.receive(second, filter)));
    assert!((40_000..100_000).contains(&of_second), "1,000 subscriptions count {of_second} bytes");
    // It has more unread than a client may have that is to get retained messages.
    world.receive(first, &publish("large", &vec![1; MEGABYTE], true));
    world.shard.receive(world.now, second, &subscribe("large"));
    let batches: Vec<_> = std::iter::from_fn(|| world.shard.next_output()).collect();
    assert!(!batches.is_empty());
    let again = subscribe(&"x".repeat(10_000));
    world.shard.receive(world.now, second, &again);
    let of_waiting = counted(&mut world, |world| (0..100).for_each(|_| _ = world.shard.receive(world.now, second, &again)));
    assert!((1_000_000..1_100_000).contains(&of_waiting), "100 that wait count {of_waiting} bytes");
}

/// They arrive in one turn, and take many times the memory that their bytes do.
#[test]
fn the_subscriptions_of_one_turn_keep_to_the_budget() {
    let mut world = OneShard::new(Limits { memory_budget_bytes: 16 * MEGABYTE as u64, ..Limits::default() });
    let client = world.connect("bomb", Version::V5);
    for number in 0..500 {
        world.shard.receive(world.now, client, &subscribe(&format!("{number}/{}+", "a/".repeat(990))));
    }
    let used = world.shard.memory_used();
    assert!((10 * MEGABYTE as u64..16 * MEGABYTE as u64).contains(&used), "{used} bytes used");
}

#[test]
fn client_identifiers_wills_and_topic_aliases_count() {
    let mut world = OneShard::new(Limits::default());
    let nothing = world.shard.memory_used();
    let (long, payload) = ("x".repeat(60_000), [0; 50_000]);
    let stranger = |world: &mut OneShard| world.shard.open(world.now, Origin { listener: 0, peer: None }).expect("there is room");
    let named = stranger(&mut world);
    let of_id = counted(&mut world, |world| world.receive(named, &connect(&long, None)));
    assert!((60_000..61_000).contains(&of_id), "a client identifier counts {of_id} bytes");
    let mortal = stranger(&mut world);
    let will = Will { topic: "will", payload: &payload, qos: QoS::AtMostOnce, retain: false, properties: Properties::default() };
    let of_will = counted(&mut world, |world| world.receive(mortal, &connect("mortal", Some(will))));
    assert!((50_000..51_000).contains(&of_will), "a will counts {of_will} bytes");
    for round in 0..2 {
        let of_aliases = counted(&mut world, |world| {
            for alias in 1..=64 {
                world.receive(
                    named,
                    &encoded(|out| encode::publish(out, Version::V5, &PublishOut { topic_alias: alias, ..PublishOut::new(&long, b"") })),
                );
            }
        });
        // Set anew, they take the place of the old ones.
        assert_eq!(of_aliases, if round == 0 { 64 * 60_000 } else { 0 });
    }
    for conn in [named, mortal] {
        let no_expiry = Properties { session_expiry: Some(0), ..Properties::default() };
        let disconnect = encoded(|out| encode::disconnect(out, Version::V5, ReasonCode::SUCCESS, &no_expiry));
        world.shard.receive(world.now, conn, &disconnect);
        let mut commands = Vec::new();
        world.shard.take_commands(&mut commands);
        assert!(matches!(commands[..], [Command::Close { .. }]));
        world.shard.closed(world.now, conn);
    }
    assert_eq!(world.shard.memory_used(), nothing);
}

/// A turn in which clients get more than the output budget holds; gives what they were left with.
fn one_turn(world: &mut OneShard, publisher: ConnId, topics: usize, rounds: usize) -> u64 {
    let payload = [1; 10_000];
    let messages: Vec<Vec<u8>> = (0..topics).map(|topic| publish(&format!("t/{topic}"), &payload, false)).collect();
    for _ in 0..rounds {
        messages.iter().for_each(|message| _ = world.shard.receive(world.now, publisher, message));
    }
    std::iter::from_fn(|| world.shard.next_output()).map(|(_, batch)| batch.len() as u64).sum()
}

/// Whether a topic has one subscriber or a few, and whether all of them take packets of any size or not.
#[test]
fn one_turn_of_runs_does_not_use_up_the_output_budget_many_times_over() {
    const BUDGET: u64 = 4 * MEGABYTE as u64;
    for (topics, subscribers, small) in [(50, 1, false), (20, 3, false), (50, 1, true)] {
        let mut world = OneShard::new(Limits { out_budget_bytes: BUDGET, ..Limits::default() });
        for number in 0..topics * subscribers {
            let conn = world.shard.open(world.now, Origin { listener: 0, peer: None }).expect("there is room");
            let maximum = small.then_some(11_000);
            let connect = Connect {
                version: Version::V5,
                clean_start: true,
                keep_alive: 0,
                client_id: &format!("client-{number}"),
                will: None,
                user_name: None,
                password: None,
                properties: Properties { maximum_packet_size: maximum, ..Properties::default() },
            };
            world.receive(conn, &encoded(|out| encode::connect(out, &connect)));
            world.receive(conn, &subscribe(&format!("t/{}", number % topics)));
        }
        let publisher = world.connect("publisher", Version::V5);
        if small {
            // Larger than these clients take, so that each packet of the run is looked at.
            (0..topics)
                .for_each(|topic| _ = world.shard.receive(world.now, publisher, &publish(&format!("t/{topic}"), &[1; 12_000], false)));
        }
        let left = one_turn(&mut world, publisher, topics, 100);
        // Up to 64 KiB of a connection are not accounted for at once.
        let bound = BUDGET + (topics * subscribers) as u64 * 80_000;
        assert!(left > BUDGET / 2 && left <= bound, "{left} bytes in one turn to {subscribers} subscribers of {topics} topics");
        assert!(world.shard.snapshot().counters.dropped[DropReason::OutBufferFull as usize] > 0);
    }
}

/// However much the others have not read.
#[test]
fn a_client_that_reads_is_served_although_the_output_budget_is_used_up() {
    let mut world = OneShard::new(Limits { out_budget_bytes: MEGABYTE as u64, out_buffer_bytes: MEGABYTE as u32, ..Limits::default() });
    let slow: Vec<ConnId> = (0..4)
        .map(|number| {
            let slow = world.connect(&format!("slow-{number}"), Version::V5);
            world.receive(slow, &subscribe("flood"));
            slow
        })
        .collect();
    let reader = world.connect("reader", Version::V5);
    world.subscribe(reader, Version::V5, "news", QoS::AtMostOnce);
    let publisher = world.connect("publisher", Version::V5);
    let mut under_way: Vec<(ConnId, OutBatch)> = Vec::new();
    let flood = publish("flood", &vec![1; MEGABYTE], false);
    for _ in 0..3 {
        world.shard.receive(world.now, publisher, &flood);
        world.shard.tick(world.now);
        under_way.extend(std::iter::from_fn(|| world.shard.next_output()));
    }
    assert!(under_way.iter().all(|(conn, _)| slow.contains(conn)) && under_way.len() == slow.len());
    // Several in one turn: the second finds the first in the client's output.
    for _ in 0..10 {
        world.shard.receive(world.now, publisher, &publish("news", b"today", false));
    }
    let (conn, news) = world.shard.next_output().expect("output for the reader");
    assert_eq!((conn, news.len()), (reader, 10 * publish("news", b"today", false).len()));
}

/// A large retained message that many clients ask for is theirs together.
#[test]
fn a_retained_message_is_not_copied_for_each_client_that_asks_for_it() {
    for filter in ["large", "#"] {
        let mut world = OneShard::new(Limits::default());
        let publisher = world.connect("publisher", Version::V5);
        world.receive(publisher, &publish("large", &vec![1; MEGABYTE], true));
        let clients: Vec<ConnId> = (0..20).map(|number| world.connect(&format!("client-{number}"), Version::V5)).collect();
        let sent_before = world.sent_bytes;
        let mut batches = Vec::new();
        let memory = allocation_counter::measure(|| {
            for &client in &clients {
                world.shard.receive(world.now, client, &subscribe(filter));
            }
            for _ in 0..3 {
                world.shard.tick(world.now);
                while let Some((conn, batch)) = world.shard.next_output() {
                    if batch.len() < 100 {
                        // SUBACK
                        world.shard.sent(world.now, conn, batch);
                    } else {
                        batches.push((conn, batch));
                    }
                }
            }
        });
        let bytes: usize = batches.iter().map(|(_, batch)| batch.len()).sum();
        assert!(bytes > clients.len() * MEGABYTE && sent_before < 10_000, "{filter}: {bytes} bytes");
        assert!(memory.bytes_total < MEGABYTE as u64, "{filter}: {} bytes were allocated", memory.bytes_total);
    }
}

/// A message published live to clients who each get it under an identifier of their own is theirs together, too.
#[test]
fn a_large_message_is_not_copied_for_each_identifier() {
    let mut world = OneShard::new(Limits::default());
    for id in 1..=20_u32 {
        let client = world.connect(&format!("client-{id}"), Version::V5);
        let entry = SubscribeEntry { filter: "large", options: SubscribeOptions::default() };
        let properties = Properties { subscription_id: Some(id), ..Properties::default() };
        world.receive(client, &encoded(|out| encode::subscribe(out, Version::V5, 1, &[entry], &properties)));
    }
    let publisher = world.connect("publisher", Version::V5);
    let message = publish("large", &vec![1; MEGABYTE], false);
    let mut left = 0;
    let memory = allocation_counter::measure(|| {
        world.shard.receive(world.now, publisher, &message);
        left = std::iter::from_fn(|| world.shard.next_output()).map(|(_, batch)| batch.len()).sum();
    });
    assert!(left > 20 * MEGABYTE, "{left} bytes");
    assert!(memory.bytes_total < 3 * MEGABYTE as u64 / 2, "{} bytes were allocated", memory.bytes_total);
}

/// All of these ask in one turn, and the other shard does not take anything meanwhile.
#[test]
fn what_many_clients_ask_another_shard_for_does_not_pile_up_in_one_batch() {
    const CLIENTS: usize = 100;
    let shard = |index| {
        let config = ShardConfig { id: ShardId(index), shards: 2, limits: Arc::new(Limits::default()), sys_interval_s: 0, seed: 1 };
        Shard::new(config, 0)
    };
    let (mut asking, mut owner) = (shard(0), shard(1));
    let on = |home: u16, name: &'static str| (0..).map(move |n| format!("{name}-{n}")).filter(move |id| home_of(id, 2) == ShardId(home));
    let topic = on(1, "topic").next().expect("one of them lives there");
    let publisher = open(&mut owner, &on(1, "publisher").next().expect("one of them lives there"));
    owner.receive(0, publisher, &publish(&topic, &vec![1; MEGABYTE], true));
    for client_id in on(0, "client").take(CLIENTS) {
        let conn = open(&mut asking, &client_id);
        asking.receive(0, conn, &subscribe(&topic));
    }
    let mut received = 0;
    for _ in 0..10_000 {
        asking.tick(0);
        owner.tick(0);
        let batch = asking.take_batch(ShardId(1));
        batch.into_iter().for_each(|batch| owner.peer_batch(0, ShardId(0), batch));
        let Some(batch) = owner.take_batch(ShardId(0)) else { break };
        assert!(batch.len_bytes() < 10 * MEGABYTE, "{} bytes in one batch", batch.len_bytes());
        asking.peer_batch(0, ShardId(1), batch);
        while let Some((conn, batch)) = asking.next_output() {
            received += usize::from(batch.len() > MEGABYTE);
            asking.sent(0, conn, batch);
        }
    }
    assert_eq!(received, CLIENTS, "clients that got what they asked for");
}

#[test]
fn who_hits_a_limit_is_counted_by_reason_and_by_client() {
    let mut world = OneShard::new(Limits { max_subscriptions_per_client: 1, max_topic_levels: 10, ..Limits::default() });
    for number in 0..3 {
        let client = open(&mut world.shard, &format!("client-{number}"));
        (0..5).for_each(|n| world.receive(client, &subscribe(&n.to_string())));
        if number == 0 {
            world.receive(client, &subscribe(&"/".repeat(20)));
        }
    }
    let limits = [RefuseReason::Subscriptions, RefuseReason::Topic];
    let snapshot = world.shard.snapshot();
    assert_eq!(limits.map(|reason| snapshot.counters.refused[reason as usize]), [12, 1]);
    let clients = |world: &OneShard| limits.map(|reason| world.shard.snapshot().gauges.limited_clients[Limit::Refused(reason).index()]);
    assert_eq!(clients(&world), [0, 0]);
    for (after_ms, expected) in [(2_000, [3, 1]), (60_000, [3, 1]), (61_000, [0, 0])] {
        world.now += after_ms;
        world.finish_turn();
        assert_eq!(clients(&world), expected, "after {} ms", world.now);
    }
}

/// A client that does a bit of everything with this shard, which may refuse any of it; and time that passes afterwards.
fn a_bit_of_everything(limits: Limits) {
    let mut shard = Shard::new(ShardConfig { id: ShardId(0), shards: 1, limits: Arc::new(limits), sys_interval_s: 1, seed: 1 }, 0);
    let payload = [1; 3_000];
    let mut now = 0;
    for client in 0..6 {
        let Some(conn) = shard.open(now, Origin { listener: 0, peer: None }) else { continue };
        let will = Will { topic: "a/will", payload: b"gone", qos: QoS::ExactlyOnce, retain: true, properties: Properties::default() };
        shard.receive(now, conn, &connect(&format!("client-{}", client % 4), Some(will)));
        for filter in ["a", "a/#", "+/+", "$share/g/a/#"] {
            let entry = SubscribeEntry { filter, options: SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() } };
            let bytes = encoded(|out| encode::subscribe(out, Version::V5, 1, &[entry], &Properties::default()));
            shard.receive(now, conn, &bytes);
        }
        for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().cycle().take(12).enumerate() {
            let publish = PublishOut {
                qos,
                retain: number % 2 == 0,
                packet_id: number as u16 + 1,
                topic_alias: number as u16 % 3,
                message_expiry: (number % 4 == 0).then_some(1),
                ..PublishOut::new("a/b", &payload[..number * 250])
            };
            shard.receive(now, conn, &encoded(|out| encode::publish(out, Version::V5, &publish)));
        }
        let mut commands = Vec::new();
        for _ in 0..5 {
            now += 700;
            shard.tick(now);
            while let Some((conn, batch)) = shard.next_output() {
                shard.sent(now, conn, batch);
            }
            shard.take_commands(&mut commands);
            for &command in &commands {
                if let Command::Close { conn, .. } = command {
                    shard.closed(now, conn);
                }
            }
        }
        if client % 2 == 0 {
            shard.closed(now, conn);
        }
    }
    shard.tick(now + 100_000_000);
}

/// CVE-2026-42209: a setting that is not the default made another broker divide by zero.
#[test]
fn every_limit_may_be_as_small_and_as_large_as_it_can_be() {
    let values = [0, 1, 10, 23, 64, 1_024, 4_096, 1_048_576, 268_435_460, 3_600_000, 65_535, u64::from(u32::MAX), i64::MAX as u64];
    let keys: Vec<String> = every_key().into_iter().filter(|key| key.starts_with("limits.") && key != "limits.queue_full").collect();
    assert!(keys.len() > 20, "{keys:?}");
    let mut accepted = 0;
    for key in keys {
        for value in values {
            for queue_full in ["reject-new", "drop-oldest"] {
                let settings = [format!("{key}={value}"), format!("limits.queue_full={queue_full}")];
                let overrides = settings.each_ref().map(|setting| Override::from_set(setting).expect("a key and a value"));
                if let Ok(config) = parse(None, &overrides) {
                    accepted += 1;
                    a_bit_of_everything(config.limits);
                }
            }
        }
    }
    assert!(accepted > 200, "{accepted} values were accepted");
}
