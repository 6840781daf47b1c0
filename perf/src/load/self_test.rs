//! The generator against a forwarder that does wrong on purpose: every count must be exact.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ringmq::mqtt::{QoS, Version};

use super::outcome::Outcome;
use super::plan::{Plan, Settings};
use super::run::{self, Observer};
use super::scenario::{self, Scenario, Shape};
use crate::forwarder::Forwarder;
use crate::forwarder::faults::{Faults, Injected};

/// One case: what is run, and what goes wrong meanwhile.
struct Case {
    name: &'static str,
    scenario: Scenario,
    faults: Faults,
}

const NO_FAULTS: Faults = Faults { drop: 0, double: 0, swap: 0 };

const ALL_FAULTS: Faults = Faults { drop: 1_009, double: 499, swap: 251 };

fn cases() -> Vec<Case> {
    let case = |name, shape, publishers, subscribers, faults| {
        let scenario =
            Scenario { shape, publishers, subscribers, filters: 200, window: 64, burst: 16, warm_up: 0.05, ..Scenario::default() };
        Case { name, scenario, faults }
    };
    let with = |case: Case, change: fn(&mut Scenario)| {
        let mut case = case;
        change(&mut case.scenario);
        case
    };
    vec![
        case("pairs, nothing wrong", Shape::Pairs, 10, 1, NO_FAULTS),
        case("fan-in, dropped", Shape::Fanin, 50, 2, Faults { drop: 997, ..NO_FAULTS }),
        case("fan-in, doubled", Shape::Fanin, 50, 2, Faults { double: 997, ..NO_FAULTS }),
        case("fan-in, swapped", Shape::Fanin, 50, 2, Faults { swap: 997, ..NO_FAULTS }),
        case("fan-out, all faults", Shape::Fanout, 1, 40, ALL_FAULTS),
        case("big fan-out, all faults", Shape::Fanout, 4, 25, ALL_FAULTS),
        case("everybody to everybody, all faults", Shape::Mesh, 5, 20, ALL_FAULTS),
        case("filters, all faults", Shape::Filters, 8, 4, ALL_FAULTS),
        case("sink", Shape::Sink, 20, 1, NO_FAULTS),
        case("shared, all faults", Shape::Shared, 20, 5, ALL_FAULTS),
        with(case("pairs QoS 1, all faults", Shape::Pairs, 10, 1, ALL_FAULTS), |scenario| scenario.qos = 1),
        with(case("pairs QoS 2, dropped", Shape::Pairs, 10, 1, Faults { drop: 503, ..NO_FAULTS }), |scenario| scenario.qos = 2),
        with(case("open loop, dropped and doubled", Shape::Fanin, 10, 1, Faults { drop: 101, double: 103, swap: 0 }), |scenario| {
            scenario.rate = 20_000;
        }),
    ]
}

/// Runs every case and prints it. Errors: a count that is not exact.
pub fn run() -> Result<(), Box<dyn Error>> {
    for case in cases() {
        for threads in [1, 2] {
            let (outcome, injected) = measure(&case, threads)?;
            println!("{} ({threads} threads): {injected:?}\n  {outcome}", case.name);
            check(&case, &outcome, injected)?;
        }
    }
    println!("all counts are exact");
    Ok(())
}

fn measure(case: &Case, threads: usize) -> io::Result<(Outcome, Injected)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let faults = case.faults;
    let forwarding = thread::spawn(move || Forwarder::new(listener, faults)?.serve(&told));
    let scenario = &case.scenario;
    let settings = Settings {
        shards: 1,
        address,
        version: Version::V311,
        qos: QoS::from_bits(scenario.qos).unwrap_or_default(),
        payload_bytes: scenario.payload,
        window: scenario.window,
        rate: (scenario.rate > 0).then_some(scenario.rate),
        keep_alive: 0,
        burst: scenario.burst,
        connects_per_s: None,
        topic_aliases: false,
        slow_bytes_per_s: scenario.slow_bytes_per_s,
        busy_poll: false,
        realtime: false,
        warm_up: scenario.warm_up(),
        time: Duration::from_millis(200),
        patience: Duration::from_secs(1),
    };
    let plan = Plan { settings, cells: scenario.cells(threads), crowd: scenario::crowd(scenario.crowd) };
    let observer = Observer { pid: Some(std::process::id()), threads, show: &|_, _| {} };
    let outcome = run::run(case.name, plan, &observer);
    stop.store(true, Ordering::Relaxed);
    let injected = forwarding.join().map_err(|_| io::Error::other("the forwarder panicked"))?;
    Ok((outcome?, injected?))
}

fn check(case: &Case, outcome: &Outcome, injected: Injected) -> Result<(), String> {
    let checks = &outcome.checks;
    let subscribers = match case.scenario.shape {
        Shape::Sink => 0,
        Shape::Fanin | Shape::Fanout | Shape::Mesh => case.scenario.subscribers as u64,
        _ => 1,
    };
    let pairs = [
        ("lost", checks.lost, injected.dropped),
        ("duplicated", checks.duplicated, injected.doubled),
        ("reordered", checks.reordered, injected.swapped),
        ("received", checks.received, checks.sent * subscribers - injected.dropped),
        ("unacknowledged", checks.unacknowledged, 0),
        ("foreign", checks.foreign, 0),
        ("closed", checks.closed, 0),
    ];
    for (what, counted, right) in pairs {
        if counted != right {
            return Err(format!("{}: {what} {counted}, but it was {right}", case.name));
        }
    }
    let faults = [(case.faults.drop, injected.dropped), (case.faults.double, injected.doubled), (case.faults.swap, injected.swapped)];
    if faults.iter().any(|&(every, count)| every > 0 && count == 0) {
        return Err(format!("{}: too short to see every fault", case.name));
    }
    if outcome.ingress == 0 || outcome.egress == 0 {
        return Err(format!("{}: nothing was measured", case.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_duplicated_and_reordered_deliveries_are_counted_exactly() {
        for case in cases() {
            let (outcome, injected) = measure(&case, 1).unwrap();
            check(&case, &outcome, injected).unwrap();
        }
    }

    #[test]
    fn what_slow_subscribers_miss_is_not_lost_and_holds_nobody_up() {
        let scenario = Scenario { shape: Shape::Fanout, publishers: 2, subscribers: 3, slow: 4, rate: 4_000, ..Scenario::default() };
        let case =
            Case { name: "slow subscribers", scenario: Scenario { slow_bytes_per_s: 500, warm_up: 0.05, ..scenario }, faults: NO_FAULTS };
        let (outcome, _) = measure(&case, 1).unwrap();
        let checks = &outcome.checks;
        assert_eq!((checks.lost, checks.duplicated, checks.reordered, checks.closed), (0, 0, 0, 0));
        assert_eq!(checks.received, checks.sent * 3);
        // Two slow ones hear each publisher.
        assert_eq!(checks.slow_received + checks.slow_missed, checks.sent * 2);
        assert!(checks.slow_missed > checks.slow_received);
    }

    #[test]
    fn a_crowd_comes_back_whole_while_others_talk() {
        let scenario = Scenario { publishers: 5, rate: 1_000, crowd: 40, burst: 40, warm_up: 0.05, ..Scenario::default() };
        let (outcome, _) = measure(&Case { name: "crowd", scenario, faults: NO_FAULTS }, 1).unwrap();
        let storm = outcome.storm.unwrap();
        assert_eq!((outcome.checks.lost, outcome.checks.closed, storm.refused), (0, 0, 0));
        assert!(storm.waves > 0 && storm.reconnects > 0);
        assert_eq!(outcome.latency_us.reconnect.count, storm.waves * 40);
    }

    #[test]
    fn two_threads_count_as_exactly_as_one() {
        for case in cases().into_iter().filter(|case| matches!(case.scenario.shape, Shape::Fanin | Shape::Shared)) {
            let (outcome, injected) = measure(&case, 2).unwrap();
            check(&case, &outcome, injected).unwrap();
        }
    }
}
