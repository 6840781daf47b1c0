//! A whole turn of a shard without sockets: bytes in, output taken. The ceiling of the broker; what the kernel costs comes on top.

#[path = "../tests/support/one_shard.rs"]
mod one_shard;
#[path = "../tests/support/publishes.rs"]
mod publishes;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use one_shard::OneShard;
use publishes::publishes;
use ringmq::config::Limits;
use ringmq::mqtt::{QoS, Version};

/// Messages in one turn: what a read of 16 KiB brings.
const MESSAGES: usize = 170;

fn one_to_one(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn/one_to_one");
    for (name, version) in [("v311", Version::V311), ("v5", Version::V5)] {
        let mut world = OneShard::new(Limits::default());
        let subscriber = world.connect("subscriber", version);
        world.subscribe(subscriber, version, "pairs/1/topic", QoS::AtMostOnce);
        let publisher = world.connect("publisher", version);
        let bytes = publishes(version, &["pairs/1/topic"], MESSAGES);
        group.throughput(Throughput::Elements(MESSAGES as u64));
        group.bench_function(name, |b| b.iter(|| world.receive(publisher, &bytes)));
    }
    group.finish();
}

/// One message a turn from each of many publishers, as sparse ingest brings them: no run can form.
fn fan_in(c: &mut Criterion) {
    let mut world = OneShard::new(Limits::default());
    let subscriber = world.connect("subscriber", Version::V311);
    world.subscribe(subscriber, Version::V311, "fleet/+/position", QoS::AtMostOnce);
    let publishers: Vec<_> = (0..1_000)
        .map(|index| {
            (
                world.connect(&format!("publisher-{index}"), Version::V311),
                publishes(Version::V311, &[&format!("fleet/{index}/position")], 1),
            )
        })
        .collect();
    let mut group = c.benchmark_group("turn/fan_in");
    group.throughput(Throughput::Elements(publishers.len() as u64));
    group.bench_function("1000_publishers", |b| {
        b.iter(|| {
            for (publisher, bytes) in &publishers {
                world.shard.receive(0, *publisher, bytes);
            }
            world.finish_turn();
        });
    });
    group.finish();
}

/// A run goes out in one piece; topics that alternate break every run.
fn fan_out(c: &mut Criterion) {
    const SUBSCRIBERS: usize = 1_000;
    let mut world = OneShard::new(Limits::default());
    for index in 0..SUBSCRIBERS {
        let conn = world.connect(&format!("subscriber-{index}"), Version::V311);
        world.subscribe(conn, Version::V311, "news/#", QoS::AtMostOnce);
    }
    let publisher = world.connect("publisher", Version::V311);
    let mut group = c.benchmark_group("turn/fan_out_1000");
    group.throughput(Throughput::Elements((MESSAGES * SUBSCRIBERS) as u64));
    for (name, topics) in [("runs", &["news/a"][..]), ("alternating", &["news/a", "news/b"])] {
        let bytes = publishes(Version::V311, topics, MESSAGES);
        group.bench_function(name, |b| b.iter(|| world.receive(publisher, &bytes)));
    }
    group.finish();
}

criterion_group!(benches, one_to_one, fan_in, fan_out);
criterion_main!(benches);
