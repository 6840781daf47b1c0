//! What a match costs: 10 thousand to a million filters, exact ones, with `+` and with `#`.
//!
//! 65,536 topics are asked for in turn, scattered over the filters. Read the figures for their growth, not for their size.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::broker::ids::ShardId;
use ringmq::broker::topics::{Matches, SubOptions, Subscriber, Topics, WARM_BATCH, Warmth};

const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
const TOPICS: u32 = 65_536;

/// Spreads `n` over 0 to 2^32-1.
fn scatter(n: u32) -> u32 {
    n.wrapping_mul(0x9E37_79B1).rotate_right(15).wrapping_mul(0x85EB_CA77)
}

fn build(filters: u32, filter: fn(u32) -> String) -> Topics {
    let mut topics = Topics::new(1);
    for session in 0..filters {
        topics.subscribe(&filter(session), Subscriber { session, subscription_id: 0, options: SubOptions::default() });
    }
    topics
}

/// One match per iteration; `filters` filters, of which `filter` makes the n-th, and the topic that it matches.
fn bench_match(c: &mut Criterion, name: &str, filter: fn(u32) -> String, topic: fn(u32) -> String) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for size in SIZES {
        let topics = build(size, filter);
        let names: Vec<_> = (0..TOPICS).map(|n| topic(scatter(n) % size)).collect();
        let mut matches = Matches::default();
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                at = (at + 1) % names.len();
                topics.matches(black_box(&names[at]), &mut matches);
                assert!(!black_box(&matches).filters.is_empty());
            });
        });
    }
    group.finish();
}

/// As many matches per iteration as one read brings, looked ahead for as a shard does.
fn bench_match_warm(c: &mut Criterion, name: &str, filter: fn(u32) -> String, topic: fn(u32) -> String) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(WARM_BATCH as u64));
    for size in SIZES {
        let topics = build(size, filter);
        let names: Vec<_> = (0..TOPICS).map(|n| topic(scatter(n) % size)).collect();
        let (mut matches, mut warmth) = (Matches::default(), Warmth::default());
        let mut batches = names.chunks_exact(WARM_BATCH).cycle();
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                let names = batches.next().expect("it goes round");
                let mut ahead: [&[u8]; WARM_BATCH] = [&[]; WARM_BATCH];
                ahead.iter_mut().zip(names).for_each(|(ahead, name)| *ahead = name.as_bytes());
                topics.warm(&ahead, &mut warmth);
                for name in names {
                    topics.matches(black_box(name), &mut matches);
                    assert!(!black_box(&matches).filters.is_empty());
                }
            });
        });
    }
    group.finish();
}

fn matching(c: &mut Criterion) {
    let topic = |n| format!("fleet/{:03}/car{n:07}/position", n % 1_000);
    bench_match(c, "match/exact", topic, topic);
    bench_match(c, "match/plus", |n| format!("fleet/+/car{n:07}/position"), topic);
    bench_match(c, "match/hash", |n| format!("fleet/{:03}/car{n:07}/#", n % 1_000), topic);
    bench_match_warm(c, "match_ahead/exact", topic, topic);
    bench_match_warm(c, "match_ahead/plus", |n| format!("fleet/+/car{n:07}/position"), topic);
    bench_match_warm(c, "match_ahead/hash", |n| format!("fleet/{:03}/car{n:07}/#", n % 1_000), topic);
}

/// A topic that only another shard wants, among as many fingerprints.
fn remote(c: &mut Criterion) {
    let mut group = c.benchmark_group("match/remote");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for size in SIZES {
        let mut topics = Topics::new(1);
        let topic = |n: u32| format!("fleet/{:03}/car{n:07}/position", n % 1_000);
        (0..size).for_each(|n| topics.add_remote_exact(topics.fingerprint(&topic(n)), ShardId(1)));
        let names: Vec<_> = (0..TOPICS).map(|n| topic(scatter(n) % size)).collect();
        let mut matches = Matches::default();
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                at = (at + 1) % names.len();
                topics.matches(black_box(&names[at]), &mut matches);
                assert!(!black_box(&matches).remote.is_empty());
            });
        });
    }
    group.finish();
}

/// One subscription added and taken away among as many others.
fn subscribing(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe+unsubscribe");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, wildcard) in [("exact", false), ("plus", true)] {
        let filter = move |n: u32| format!("fleet/{}/car{n:07}/position", if wildcard { "+" } else { "000" });
        let size = SIZES[1];
        let mut topics = Topics::new(1);
        for session in 0..size {
            topics.subscribe(&filter(session), Subscriber { session, subscription_id: 0, options: SubOptions::default() });
        }
        let names: Vec<_> = (0..TOPICS).map(|n| filter(size + n)).collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::new(name, size), |b| {
            b.iter(|| {
                at = (at + 1) % names.len();
                let added =
                    topics.subscribe(black_box(&names[at]), Subscriber { session: 1, subscription_id: 0, options: SubOptions::default() });
                assert!(topics.unsubscribe(added.id, 1).existed);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, matching, remote, subscribing);
criterion_main!(benches);
