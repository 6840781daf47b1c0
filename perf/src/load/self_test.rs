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
use super::scenario::{FilterKind, Scenario, Sizes};
use crate::forwarder::Forwarder;
use crate::forwarder::faults::{Faults, Injected};

/// One case: what is run, and what goes wrong meanwhile.
struct Case {
    name: &'static str,
    scenario: Scenario,
    sizes: Sizes,
    qos: QoS,
    rate: Option<u64>,
    faults: Faults,
}

const NO_FAULTS: Faults = Faults { drop: 0, double: 0, swap: 0 };

fn cases() -> Vec<Case> {
    let sizes = |publishers, subscribers| Sizes { publishers: Some(publishers), subscribers: Some(subscribers), filters: Some(200) };
    let case = |name, scenario, sizes, faults| Case { name, scenario, sizes, qos: QoS::AtMostOnce, rate: None, faults };
    vec![
        case("pairs, nothing wrong", Scenario::Pairs, sizes(10, 1), NO_FAULTS),
        case("fan-in, dropped", Scenario::Fanin, sizes(50, 2), Faults { drop: 997, ..NO_FAULTS }),
        case("fan-in, doubled", Scenario::Fanin, sizes(50, 2), Faults { double: 997, ..NO_FAULTS }),
        case("fan-in, swapped", Scenario::Fanin, sizes(50, 2), Faults { swap: 997, ..NO_FAULTS }),
        case("fan-out, all faults", Scenario::Fanout, sizes(1, 40), Faults { drop: 1_009, double: 499, swap: 251 }),
        case("big fan-out, all faults", Scenario::Bignum, sizes(4, 25), Faults { drop: 1_009, double: 499, swap: 251 }),
        case("filters, all faults", Scenario::Filters, sizes(8, 4), Faults { drop: 1_009, double: 499, swap: 251 }),
        case("sink", Scenario::Sink, sizes(20, 1), NO_FAULTS),
        Case {
            qos: QoS::AtLeastOnce,
            ..case("pairs QoS 1, all faults", Scenario::Pairs, sizes(10, 1), Faults { drop: 1_009, double: 499, swap: 251 })
        },
        Case { qos: QoS::ExactlyOnce, ..case("pairs QoS 2, dropped", Scenario::Pairs, sizes(10, 1), Faults { drop: 503, ..NO_FAULTS }) },
        Case {
            rate: Some(20_000),
            ..case("open loop, dropped and doubled", Scenario::Latency, sizes(10, 1), Faults { drop: 101, double: 103, swap: 0 })
        },
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
    let settings = Settings {
        address,
        version: Version::V311,
        qos: case.qos,
        payload_bytes: 64,
        window: 64,
        rate: case.rate,
        keep_alive: 0,
        burst: 16,
        busy_poll: false,
        warm_up: Duration::from_millis(50),
        time: Duration::from_millis(200),
        patience: Duration::from_secs(1),
    };
    let plan = Plan { settings, cells: case.scenario.cells(&case.sizes, FilterKind::Plus, threads) };
    let observer = Observer { pid: Some(std::process::id()), threads, show: &|_, _| {} };
    let outcome = run::run(&case.scenario.name(), plan, &observer);
    stop.store(true, Ordering::Relaxed);
    let injected = forwarding.join().map_err(|_| io::Error::other("the forwarder panicked"))?;
    Ok((outcome?, injected?))
}

fn check(case: &Case, outcome: &Outcome, injected: Injected) -> Result<(), String> {
    let checks = &outcome.checks;
    let subscribers = match case.scenario {
        Scenario::Sink => 0,
        Scenario::Fanin | Scenario::Fanout | Scenario::Bignum => case.sizes.subscribers.unwrap_or(1) as u64,
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
    fn two_threads_count_as_exactly_as_one() {
        for case in cases().into_iter().filter(|case| matches!(case.scenario, Scenario::Fanin | Scenario::Bignum)) {
            let (outcome, injected) = measure(&case, 2).unwrap();
            check(&case, &outcome, injected).unwrap();
        }
    }
}
