//! Simulated worlds: shards, rings, networks and clients in one thread, out of one seed, and checkers that judge what happened.
//!
//! `RINGMQ_SIM_SEED=n` runs one seed again and tells its history; `RINGMQ_SIM_SEEDS=n` says how many seeds are run.

mod checks;
mod client;
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

use std::sync::atomic::{AtomicU64, Ordering};

use checks::Violation;
use faults::{Fault, Saboteur};
use world::World;

/// Seeds that a run tries unless told otherwise.
const DEFAULT_SEEDS: u64 = 300;
/// Seeds run side by side.
const THREADS: usize = 2;

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
    let mut text = format!("seed {seed}: {} violations; run it again with RINGMQ_SIM_SEED={seed}\n", violations.len());
    for violation in violations.iter().take(12) {
        text += &format!("  {}: {}\n", violation.check, violation.what);
    }
    text
}

#[test]
fn random_worlds_keep_every_promise() {
    if let Some(seed) = number("RINGMQ_SIM_SEED") {
        let mut world = World::new(seed);
        println!("{:#?}", world.settings);
        world.run();
        for (seq, at, event) in world.history.iter() {
            println!("{seq:6} {at:8} {event:?}");
        }
        let violations = checks::all(&world);
        assert!(violations.is_empty(), "{}", report(seed, &violations));
        return;
    }
    let seeds = number("RINGMQ_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    let next = AtomicU64::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let violations = run_seed(seed);
                    if !violations.is_empty() {
                        failures.lock().unwrap().push((seed, violations));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let text: String = failures.iter().take(20).map(|(seed, violations)| report(*seed, violations)).collect();
    assert!(failures.is_empty(), "{} of {seeds} seeds failed\n{text}", failures.len());
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
