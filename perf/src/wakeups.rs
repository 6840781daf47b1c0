//! The run for lost wake-ups: two shards on two cores, with their own drivers and bells, hand a few messages back and forth with random
//! pauses between all steps. A shard that slept its whole time-out although a message lay in its ring has lost a wake-up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ringmq::ring::{Ports, mesh};
use ringmq::server::driver::{AnyDriver, Backend, Bell, ConnId, Driver, EndCause, Events, Options, ReadMore, Socket, Wait};

use crate::measure;

#[derive(clap::Args)]
pub struct Arguments {
    /// Messages that both shards receive together
    #[arg(long, default_value_t = 10_000_000)]
    messages: u64,
    /// Messages under way at a time: the fewer, the more often a shard sleeps
    #[arg(long, default_value_t = 3)]
    in_flight: usize,
    /// The driver in which the shards sleep
    #[arg(long, value_enum, default_value_t = Kind::Uring)]
    driver: Kind,
    /// Cores of the two shards
    #[arg(long, num_args = 2, value_delimiter = ',', default_values_t = [0, 1])]
    cores: Vec<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Uring,
    Epoll,
}

/// A sleep this long with a message in the ring is a lost wake-up.
const LOST: Duration = Duration::from_secs(1);
/// Longest random pause, in spins.
const MAX_SPINS: u64 = 400;

#[derive(Default)]
struct Tally {
    received: u64,
    sleeps: u64,
    rung: u64,
    lost: u64,
}

/// A shard without sockets.
impl Events for Tally {
    fn accepted(&mut self, _: u32, _: Socket, _: Option<std::net::SocketAddr>) {}
    fn accept_failed(&mut self, _: u32, _: std::io::Error) {}
    fn received(&mut self, _: ConnId, _: &[u8]) -> ReadMore {
        ReadMore::Continue
    }
    fn ended(&mut self, _: ConnId, _: EndCause) {}
    fn sent(&mut self, _: ConnId, _: ringmq::broker::outbox::OutBatch, _: std::io::Result<()>) {}
    fn detached(&mut self, _: ConnId, _: Socket) {}
    fn closed(&mut self, _: ConnId) {}
    fn rung(&mut self) {
        self.rung += 1;
    }
}

struct Shard {
    me: usize,
    core: usize,
    backend: Backend,
    ports: Ports<u64>,
    bells: [Arc<Bell>; 2],
    /// Messages that this shard has to receive.
    target: u64,
}

impl Shard {
    fn run(mut self, first: u64) -> std::io::Result<Tally> {
        measure::pin(self.core)?;
        let peer = 1 - self.me;
        let (mut driver, _) = AnyDriver::open(self.backend, &Options::default(), Arc::clone(&self.bells[self.me]))?;
        let mut tally = Tally::default();
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ self.me as u64);
        // The messages of one direction are numbered, so that loss and disorder show.
        let (mut to_send, mut sent) = (first, 0);
        while tally.received < self.target || sent < self.target {
            let batch = (to_send.min(1 + random.next() % 3)).min(self.target - sent);
            if batch > 0 {
                random.pause();
                let producer = self.ports.outbound[peer].as_mut().ok_or_else(|| std::io::Error::other("no ring to the peer"))?;
                let pushed = producer.push_batch(&mut (sent..sent + batch)) as u64;
                random.pause();
                self.bells[peer].ring();
                sent += pushed;
                to_send -= pushed;
            }
            let wait = if to_send > 0 && sent < self.target { Wait::Poll } else { self.wait(&mut random, &mut tally) };
            let start = Instant::now();
            driver.turn(wait, &mut tally)?;
            let slept_out = wait != Wait::Poll && start.elapsed() >= LOST;
            if slept_out && self.ports.any_inbound() {
                tally.lost += 1;
            }
            to_send += self.drain(peer, &mut tally)?;
        }
        Ok(tally)
    }

    fn wait(&mut self, random: &mut Random, tally: &mut Tally) -> Wait {
        random.pause();
        if !self.bells[self.me].prepare_to_sleep(|| self.ports.any_inbound()) {
            return Wait::Poll;
        }
        random.pause();
        tally.sleeps += 1;
        Wait::For(LOST)
    }

    fn drain(&mut self, peer: usize, tally: &mut Tally) -> std::io::Result<u64> {
        let consumer = self.ports.inbound[peer].as_mut().ok_or_else(|| std::io::Error::other("no ring from the peer"))?;
        let before = tally.received;
        for message in consumer.drain(usize::MAX) {
            if message != tally.received {
                return Err(std::io::Error::other(format!("message {message} came instead of {}", tally.received)));
            }
            tally.received += 1;
        }
        Ok(tally.received - before)
    }
}

/// A linear congruential generator: the pauses need to differ, nothing more.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn pause(&mut self) {
        let spins = self.next() % MAX_SPINS;
        // Mostly short ones, so that the dangerous window is hit from all sides.
        let spins = if self.next().is_multiple_of(4) { spins } else { spins % 16 };
        (0..spins).for_each(|_| std::hint::spin_loop());
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let bells = [Arc::new(Bell::new()?), Arc::new(Bell::new()?)];
    let backend = match arguments.driver {
        Kind::Uring => Backend::Uring,
        Kind::Epoll => Backend::Epoll,
    };
    let start = Instant::now();
    let target = arguments.messages / 2;
    let threads: Vec<_> = mesh(2, 64)
        .into_iter()
        .zip(&arguments.cores)
        .enumerate()
        .map(|(me, (ports, &core))| {
            let shard = Shard { me, core, backend, ports, bells: bells.clone(), target };
            let first = if me == 0 { arguments.in_flight as u64 } else { 0 };
            std::thread::spawn(move || shard.run(first))
        })
        .collect();
    let mut total = Tally::default();
    for thread in threads {
        let tally = thread.join().map_err(|_| "a shard panicked")??;
        total.received += tally.received;
        total.sleeps += tally.sleeps;
        total.rung += tally.rung;
        total.lost += tally.lost;
    }
    println!(
        "{} messages, {} sleeps, {} rings, {} lost wake-ups, {:.1} s",
        total.received,
        total.sleeps,
        total.rung,
        total.lost,
        start.elapsed().as_secs_f64()
    );
    if total.lost > 0 { Err("wake-ups were lost".into()) } else { Ok(()) }
}
