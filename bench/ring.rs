//! The ring between two shards: what a message of 64 bytes costs, by the size of the batch in which it is handed over.
//!
//! `one core` is the work alone (both sides on one thread, everything in cache); `two cores` is the wall time per message of a stream from
//! one thread to another, where moving the cache lines is what counts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringmq::ring::{Consumer, Producer, ring};

const CAPACITY: usize = 4_096;
const BATCHES: [usize; 3] = [1, 32, 256];

type Message = [u64; 8];

fn one_core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/one core");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
            let (mut producer, mut consumer) = ring::<Message>(CAPACITY);
            bencher.iter(|| {
                producer.push_batch(&mut std::iter::repeat_n(black_box([1; 8]), batch));
                consumer.drain(batch).for_each(|message| {
                    black_box(message);
                });
            });
        });
    }
    group.finish();
}

/// Waits a little for the other side, and lets it run where the two have to share a core.
fn pause() {
    (0..64).for_each(|_| std::hint::spin_loop());
    std::thread::yield_now();
}

fn produce(mut producer: Producer<Message>, messages: u64, batch: usize) {
    let mut left = messages;
    while left > 0 {
        let pushed = producer.push_batch(&mut (0..left).take(batch).map(|n| [n; 8]));
        left -= pushed as u64;
        if pushed == 0 {
            pause();
        }
    }
}

fn consume(mut consumer: Consumer<Message>, messages: u64, batch: usize) {
    let mut left = messages;
    while left > 0 {
        let before = left;
        for message in consumer.drain(batch) {
            black_box(message);
            left -= 1;
        }
        if left == before {
            pause();
        }
    }
}

fn stream(messages: u64, batch: usize) -> Duration {
    let (producer, consumer) = ring::<Message>(CAPACITY);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || produce(producer, messages, batch));
        consume(consumer, messages, batch);
    });
    start.elapsed()
}

fn two_cores(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring/two cores");
    group.throughput(Throughput::Elements(1));
    for batch in BATCHES {
        group.bench_function(BenchmarkId::from_parameter(batch), |bencher| bencher.iter_custom(|messages| stream(messages, batch)));
    }
    group.finish();
}

criterion_group!(benches, one_core, two_cores);
criterion_main!(benches);
