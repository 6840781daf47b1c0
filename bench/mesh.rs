//! One-to-one over the shards of a broker, without sockets and without rings: the cost of a message with 1 to 64 shards, all in one thread.
//!
//! Each shard has a publisher whose subscriber lives on the next one, so that every message crosses (but with one shard). A turn brings each publisher's
//! messages of one read. What a message costs must not depend on the number of shards.

#[path = "../tests/support/mesh.rs"]
mod mesh;
#[path = "../tests/support/publishes.rs"]
mod publishes;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mesh::Mesh;
use publishes::publishes;
use ringmq::mqtt::Version;

/// Messages of each publisher in one turn: what a read of 3 KiB brings.
const MESSAGES: usize = 32;

fn one_to_one(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh/one_to_one");
    for shards in [1, 2, 4, 16, 64] {
        let mut mesh = Mesh::new(shards as u16);
        let mut pairs = Vec::new();
        for home in 0..shards {
            let topic = format!("pairs/{home}");
            let next = (home + 1) % shards;
            let subscriber = mesh.connect(next, &format!("subscriber-{home}"));
            mesh.subscribe(next, subscriber, &topic);
            pairs.push((mesh.connect(home, &format!("publisher-{home}")), publishes(Version::V311, &[&topic], MESSAGES)));
        }
        group.throughput(Throughput::Elements((shards * MESSAGES) as u64));
        group.bench_function(BenchmarkId::from_parameter(shards), |b| {
            b.iter(|| {
                for (home, (publisher, bytes)) in pairs.iter().enumerate() {
                    mesh.shards[home].receive(0, *publisher, bytes);
                }
                mesh.settle();
            });
        });
        assert!(mesh.sent_bytes > 0, "messages arrive");
    }
    group.finish();
}

criterion_group!(benches, one_to_one);
criterion_main!(benches);
