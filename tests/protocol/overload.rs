//! Too much of everything: others keep their service meanwhile, and the memory comes back afterwards.
//!
//! `RINGMQ_CROWD=20` makes most of it 20 times as much, for figures; then it takes longer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::support::{Broker, Canary, Client, Connect, Publish, V5, V311, Will, on_every_configuration, packets};

const MEGABYTE: u64 = 1024 * 1024;

mod slow_readers {
    super::on_every_configuration! {
        ["limits.out_buffer_bytes=8388608", "limits.out_budget_bytes=33554432"]
        subscribers_that_read_nothing_cost_the_others_nothing,
    }
    use super::subscribers_that_read_nothing_cost_the_others_nothing;
}

mod retained {
    super::on_every_configuration! {
        ["limits.max_retained_bytes=16777216"]
        a_flood_of_retained_messages_ends_at_its_limit,
    }
    use super::a_flood_of_retained_messages_ends_at_its_limit;
}

mod subscriptions {
    super::on_every_configuration! {
        ["limits.memory_budget_bytes=67108864", "limits.out_buffer_bytes=8388608", "limits.out_budget_bytes=8388608"]
        a_client_that_subscribes_without_end_is_refused_more,
    }
    use super::a_client_that_subscribes_without_end_is_refused_more;
}

mod crowds {
    super::on_every_configuration! {
        []
        wills_of_a_crowd_that_is_cut_off_at_once_all_arrive,
    }
    use super::wills_of_a_crowd_that_is_cut_off_at_once_all_arrive;
}

mod reconnects {
    super::on_every_configuration! {
        []
        clients_that_come_and_go_leave_nothing,
    }
    use super::clients_that_come_and_go_leave_nothing;
}

/// Crowds come one after the other: descriptors are few, and memory is looked at.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many, or what the environment makes of it.
fn crowd(size: usize) -> usize {
    size * std::env::var("RINGMQ_CROWD").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Shows a figure in the test's output (`--nocapture`).
fn figure(broker: &Broker, what: &str, before: u64, most: u64, after: u64, took: Duration) {
    let of = |bytes: u64| bytes / (MEGABYTE / 10);
    let (before, most, after) = (of(before), of(most), of(after));
    println!("{what}, {} shards: {before} -> {most} -> {after} tenths of MB, {took:.2?}", broker.shards);
}

/// Waits until the broker holds no more than this.
#[track_caller]
fn expect_memory_back(broker: &Broker, canary: &mut Canary, limit: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let resident = broker.resident_bytes();
        if resident <= limit {
            return resident;
        }
        assert!(Instant::now() < deadline, "{resident} bytes are still held, expected {limit} at most");
        canary.rest();
    }
}

fn subscribers_that_read_nothing_cost_the_others_nothing(broker: &Broker) {
    let _alone = alone();
    let mut canary = Canary::new(broker);
    let (before, began) = (broker.resident_bytes(), Instant::now());
    let topic = broker.topic("flood", 0);
    let slow: Vec<Client> = (0..16)
        .map(|number| {
            let mut slow = broker.connect(&Connect::new(V5, &broker.client_id("slow", number % broker.shards)));
            slow.subscribe(&topic, 0);
            slow
        })
        .collect();
    let mut publisher = broker.connect(&Connect::new(V311, &broker.client_id("flood", 0)));
    // Small ones are copied for each client, large ones shared.
    for size in [200, 60_000] {
        let message = Publish::new(V311, &topic, &"x".repeat(size)).bytes();
        let many = message.repeat(1_000_000 / message.len() + 1);
        for _ in 0..crowd(60) {
            publisher.send(&many);
        }
        canary.check();
    }
    publisher.expect_silence();
    let most = broker.resident_bytes().max(before);
    assert!(most - before < u64::from(broker.shards) * 96 * MEGABYTE, "{} bytes for those who do not read", most - before);
    // Nobody spins for them either.
    let busy = broker.cpu_time();
    broker.let_a_second_pass();
    let busy = broker.cpu_time() - busy;
    assert!(busy < Duration::from_millis(300), "{busy:?} of a second for nothing");
    canary.check();
    drop(slow);
    let after = expect_memory_back(broker, &mut canary, before + 8 * MEGABYTE);
    figure(broker, "slow readers", before, most, after, began.elapsed());
    canary.check();
}

fn a_flood_of_retained_messages_ends_at_its_limit(broker: &Broker) {
    let _alone = alone();
    let mut canary = Canary::new(broker);
    let (before, began) = (broker.resident_bytes(), Instant::now());
    let messages = crowd(40_000);
    let mut flood = broker.connect(&Connect::new(V311, &broker.client_id("flood", 0)));
    let mut send_all = |payload: &str| {
        let all: Vec<u8> = (0..messages).flat_map(|n| Publish::new(V311, &format!("flood/{n}"), payload).retain().bytes()).collect();
        flood.send(&all);
        flood.expect_silence();
    };
    send_all(&"x".repeat(1_000));
    canary.check();
    let most = broker.resident_bytes().max(before);
    // 16 MiB of messages a shard, and what the structures take.
    assert!(most - before < u64::from(broker.shards) * 48 * MEGABYTE, "{} bytes for retained messages", most - before);
    let mut late = broker.connect(&Connect::new(V5, &broker.client_id("late", 0)));
    late.subscribe("flood/#", 0);
    late.publish();
    drop(late);
    send_all("");
    let after = expect_memory_back(broker, &mut canary, before + 8 * MEGABYTE);
    figure(broker, "retained flood", before, most, after, began.elapsed());
    canary.check();
}

/// Deep filters of its own, each of a hundred nodes: CVE-2021-33175, CVE-2021-33176, CVE-2021-22116.
fn a_client_that_subscribes_without_end_is_refused_more(broker: &Broker) {
    let _alone = alone();
    let mut canary = Canary::new(broker);
    let (before, began) = (broker.resident_bytes(), Instant::now());
    let mut bomb = broker.connect(&Connect::new(V5, &broker.client_id("bomb", 0)));
    let mut refused = None;
    for round in 0..200 {
        let filters: Vec<String> = (0..100).map(|n| format!("{round}/{n}/{}+", "deep/".repeat(97))).collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
        let id = bomb.packet_id();
        bomb.send(&packets::subscribe(V5, id, &[], &filters));
        let codes = bomb.packet();
        if codes.ends_with(&[0x97]) {
            refused = Some(round * 100);
            break;
        }
    }
    let most = broker.resident_bytes().max(before);
    let accepted = refused.expect("refused at some time");
    assert!(accepted > 2_000, "refused after {accepted} subscriptions");
    assert!(most - before < 64 * MEGABYTE * u64::from(broker.shards), "{} bytes for subscriptions", most - before);
    canary.check();
    bomb.disconnect();
    let after = expect_memory_back(broker, &mut canary, before + 8 * MEGABYTE);
    figure(broker, "subscription bomb", before, most, after, began.elapsed());
    canary.check();
    broker.connect(&Connect::new(V5, &broker.client_id("later", 0))).subscribe("there is room again", 0);
}

fn wills_of_a_crowd_that_is_cut_off_at_once_all_arrive(broker: &Broker) {
    let _alone = alone();
    let mut canary = Canary::new(broker);
    let (before, began) = (broker.resident_bytes(), Instant::now());
    let topic = broker.topic("wills", 0);
    let mut watcher = broker.connect(&Connect::new(V5, &broker.client_id("watcher", 0)));
    watcher.subscribe(&format!("{topic}/#"), 1);
    let size = 10_000;
    let all: Vec<Client> = (0..size)
        .map(|number| {
            let will = Will::new(&format!("{topic}/{number}"), "gone").qos(1);
            broker.connect(&Connect::new(V311, &broker.client_id("mortal", number as u16 % broker.shards)).will(will))
        })
        .collect();
    canary.check();
    let most = broker.resident_bytes().max(before);
    drop(all);
    let mut gone = std::collections::HashSet::new();
    while gone.len() < size {
        assert!(gone.insert(watcher.publish_acknowledged().topic), "a will came twice");
    }
    let took = began.elapsed();
    canary.check();
    watcher.expect_silence();
    drop(watcher);
    let after = expect_memory_back(broker, &mut canary, before + 8 * MEGABYTE);
    figure(broker, "will storm", before, most, after, took);
    canary.check();
}

fn clients_that_come_and_go_leave_nothing(broker: &Broker) {
    let _alone = alone();
    let mut canary = Canary::new(broker);
    let batch = 500;
    let come_and_go = |batches: usize| {
        for _ in 0..batches {
            let together: Vec<Client> = (0..batch)
                .map(|number| {
                    let mut client = broker.connect(&Connect::new(V311, &broker.client_id("guest", number % broker.shards)).keep_alive(60));
                    client.subscribe("guests/#", 0);
                    client
                })
                .collect();
            drop(together);
        }
    };
    // What the broker needs for so many at a time it may keep.
    come_and_go(2);
    let (before, began) = (broker.resident_bytes(), Instant::now());
    let batches = crowd(10);
    for _ in 0..batches / 5 {
        come_and_go(5);
        canary.check();
    }
    let took = began.elapsed();
    let after = expect_memory_back(broker, &mut canary, before + 4 * MEGABYTE);
    figure(broker, &format!("{} reconnects", batches * usize::from(batch)), before, after, after, took);
    canary.check();
}
