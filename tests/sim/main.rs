//! Simulated worlds: shards, rings, networks and clients in one thread, out of one seed, and checkers that judge what happened.
//!
//! `RINGMQ_SIM_SEED=n` runs one seed again and tells its history; `RINGMQ_SIM_SEEDS=n` says how many seeds are run, `RINGMQ_SIM_SECONDS=n` for how long, and
//! `RINGMQ_SIM_FROM=n` where to begin. A seed that failed is added to `tests/sim/regressions.txt` and run first ever after.

mod checks;
mod client;
mod crash;
mod disk;
mod faults;
mod finale;
mod history;
mod host;
mod lives;
mod model;
mod network;
mod rng;
mod settings;
mod topics;
mod world;

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checks::Violation;
use faults::{Fault, Saboteur};
use world::World;

/// Seeds that a run tries unless told otherwise.
const DEFAULT_SEEDS: u64 = 1_000;
/// Failures that are told in full.
const TOLD: usize = 20;
/// Seeds that failed once.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/regressions.txt");

/// Runs the world of a seed. A panic is a violation like any other.
fn run_seed(seed: u64) -> Vec<Violation> {
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(seed);
        world.run();
        checks::all(&world)
    });
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        vec![Violation { check: "panic", what: text.unwrap_or_default() }]
    })
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn report(seed: u64, violations: &[Violation]) -> String {
    let mut text = format!("seed {seed}: {} violations; run it again with\n", violations.len());
    text += &format!("  RINGMQ_SIM_SEED={seed} cargo test --test sim random_worlds -- --nocapture\n");
    for violation in violations.iter().take(12) {
        text += &format!("  {}: {}\n", violation.check, violation.what);
    }
    text
}

/// Runs one seed and tells everything.
fn replay(seed: u64) {
    let mut world = World::new(seed);
    println!("{:#?}", world.settings);
    world.run();
    for (seq, at, event) in world.history.iter() {
        println!("{seq:6} {at:8} {event:?}");
    }
    for (socket, connection) in world.history.connections.iter().enumerate() {
        println!("socket {socket}: {connection:?}");
    }
    let violations = checks::all(&world);
    assert!(violations.is_empty(), "{}", report(seed, &violations));
}

/// The seeds of a run, one after the other: first those that failed once.
struct Seeds {
    known: Vec<u64>,
    from: u64,
    count: u64,
    until: Option<Instant>,
    next: AtomicU64,
}

impl Seeds {
    fn new() -> Seeds {
        let known = std::fs::read_to_string(REGRESSIONS).unwrap_or_default();
        let until = number("RINGMQ_SIM_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let count = number("RINGMQ_SIM_SEEDS").unwrap_or(if until.is_some() { u64::MAX } else { DEFAULT_SEEDS });
        Seeds {
            known: known.lines().filter_map(|line| line.parse().ok()).collect(),
            from: number("RINGMQ_SIM_FROM").unwrap_or(0),
            count,
            until,
            next: AtomicU64::new(0),
        }
    }

    fn next(&self) -> Option<u64> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(&known) = self.known.get(index as usize) {
            return Some(known);
        }
        let index = index - self.known.len() as u64;
        let more = index < self.count && self.until.is_none_or(|until| Instant::now() < until);
        more.then_some(self.from + index)
    }

    /// A seed failed: told at once, since a run may take hours, and kept for the next ones.
    fn failed(&self, seed: u64, violations: &[Violation]) {
        eprintln!("{}", report(seed, violations));
        if !self.known.contains(&seed)
            && let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(REGRESSIONS)
        {
            let _ = writeln!(file, "{seed}");
        }
    }
}

#[test]
fn random_worlds_keep_every_promise() {
    if let Some(seed) = number("RINGMQ_SIM_SEED") {
        return replay(seed);
    }
    let seeds = Seeds::new();
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.next() {
                    let violations = run_seed(seed);
                    if !violations.is_empty() {
                        seeds.failed(seed, &violations);
                        failures.lock().unwrap().push((seed, violations));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let text: String = failures.iter().take(TOLD).map(|(seed, violations)| report(*seed, violations)).collect();
    let run = seeds.next.load(Ordering::Relaxed) - threads as u64;
    println!("{run} seeds");
    assert!(failures.is_empty(), "{} of {run} seeds failed\n{text}", failures.len());
}

/// Seeds that a planted fault gets to be noticed in.
const FAULT_SEEDS: u64 = 600;

#[test]
fn planted_faults_are_noticed_by_the_checker_in_question() {
    for &(fault, check) in Fault::ALL {
        let mut struck = 0;
        let noticed = (0..FAULT_SEEDS).any(|seed| {
            let mut world = World::new(seed);
            world.network.saboteur = Saboteur::new(fault, seed as u32);
            world.run();
            struck += u32::from(world.network.saboteur.struck > 0);
            checks::all(&world).iter().any(|violation| violation.check == check)
        });
        assert!(noticed, "{fault:?} struck in {struck} of {FAULT_SEEDS} worlds, and {check} never noticed");
    }
}
