//! What a timer costs among a million others: the keep-alive of a connection that is moved with every packet, and the passing of time.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq::broker::wheel::Wheel;

const TIMERS: u32 = 1_000_000;
const KEEP_ALIVE_MS: u64 = 60_000;

/// A million timers, spread over one keep-alive.
fn full() -> (Wheel<u32>, Vec<ringmq::broker::wheel::TimerId>) {
    let mut wheel = Wheel::new(0);
    let deadline = |n: u32| KEEP_ALIVE_MS + u64::from(n.wrapping_mul(0x9E37_79B1)) % KEEP_ALIVE_MS;
    let ids = (0..TIMERS).map(|n| wheel.schedule(deadline(n), n)).collect();
    (wheel, ids)
}

fn reschedule(c: &mut Criterion) {
    let (mut wheel, mut ids) = full();
    let mut n = 0u32;
    c.bench_function("cancel+schedule/1000000", |b| {
        b.iter(|| {
            n = n.wrapping_add(0x9E37_79B1);
            let at = (n % TIMERS) as usize;
            assert!(wheel.cancel(ids[at]));
            ids[at] = wheel.schedule(black_box(KEEP_ALIVE_MS + u64::from(n % 60_000)), at as u32);
        });
    });
}

/// Every timer fires once per keep-alive and is scheduled again; the time is per second of the clock, 16,667 timers.
fn passing(c: &mut Criterion) {
    let (mut wheel, _) = full();
    let mut now = 0;
    let mut group = c.benchmark_group("one second");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(3))
        .throughput(Throughput::Elements(u64::from(TIMERS) * 1_000 / KEEP_ALIVE_MS));
    group.bench_function("1000000", |b| {
        b.iter(|| {
            now += 1_000;
            while let Some(n) = wheel.pop(now) {
                wheel.schedule(now + KEEP_ALIVE_MS, n);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, reschedule, passing);
criterion_main!(benches);
