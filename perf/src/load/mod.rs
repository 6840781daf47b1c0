//! The load generator: scenarios by name against any MQTT broker, closed loop (a window per publisher) or open loop (a rate).
//!
//! It is made never to be the bottleneck and never to flatter: latencies of the open loop count from the time at which a message was due,
//! every delivery is checked per subscriber and publisher, ingress and egress are counted apart, and the CPU time of both sides and of
//! everybody else stands beside the rate, so that a run that measured the generator can be told from one that measured the broker.
//!
//! A thread owns whole cells of clients that talk to one another ([`plan`]); nothing is shared between threads but counters. What a scenario is
//! stands in a file ([`scenario`]).

mod client;
mod latency;
mod outcome;
pub mod packets;
mod plan;
mod publisher;
mod record;
mod retained;
mod run;
pub mod scenario;
mod schedule;
mod self_test;
mod sequence;
mod set_up;
mod shared;
mod storm;
mod subscriber;
pub mod usage;
mod window;
mod worker;

use std::cell::Cell;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringmq::mqtt::{QoS, Version};

use self::outcome::Outcome;
use self::plan::{Plan, Settings};
use self::run::Observer;
use self::scenario::{Scenario, Shape};
use self::shared::{Phase, Totals};
use crate::measure;

/// Where scenarios are looked for, seen from the project's root.
pub const SCENARIOS: &str = "perf/scenarios";

#[derive(clap::Args)]
pub struct Arguments {
    /// The scenario: a name from the folder of scenarios, or a file that ends in .toml
    #[arg(required_unless_present = "self_test")]
    scenario: Option<String>,
    /// The folder of scenarios
    #[arg(long, default_value = SCENARIOS, value_name = "FOLDER")]
    scenarios: PathBuf,
    /// Change something of the scenario: any key of its file, such as payload=256 or publishers=10; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The broker
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    address: String,
    /// The broker's process, for its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// What the broker is called in the results
    #[arg(long, default_value = "")]
    broker: String,
    /// The broker's version, for the record
    #[arg(long, default_value = "")]
    broker_version: String,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Threads; each has whole topics with all their clients, so fan-in becomes one fan-in a thread
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Never sleep (sharper times in the open loop; takes the whole core)
    #[arg(long)]
    busy_poll: bool,
    /// Let the threads that take times go before everything else on their cores (SCHED_RR, which takes the right to it): for tails on a shared machine
    #[arg(long, conflicts_with = "busy_poll")]
    realtime: bool,
    /// Seconds without any progress after which what is in flight counts as lost
    #[arg(long, default_value_t = 5.0)]
    patience: f64,
    /// Print `measuring` when the measured time begins, for a script that wants to look at the broker meanwhile
    #[arg(long)]
    announce: bool,
    /// Append the result to this file, as one line of JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// What the run is called in the results [default: the scenario]
    #[arg(long)]
    name: Option<String>,
    /// Which round of a comparison this is, for the record
    #[arg(long, default_value_t = 1)]
    round: u32,
    /// Check the generator itself against a forwarder that drops, doubles and swaps on purpose
    #[arg(long)]
    self_test: bool,
}

/// Descriptors that the generator needs for itself.
const SPARE_DESCRIPTORS: usize = 50;

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.self_test {
        return self_test::run();
    }
    let scenario = arguments.scenario.as_deref().ok_or("no scenario")?;
    let (file, scenario) = scenario::load(&arguments.scenarios, scenario, &arguments.set)?;
    let settings = settings(arguments, &scenario)?;
    let name = arguments.name.clone().unwrap_or(file);
    let progress = Progress::new(&name, arguments.announce);
    let show = |phase, totals: &Totals| progress.show(phase, totals);
    let observer = Observer { pid: arguments.pid, threads: arguments.threads, show: &show };
    let result = measure(&name, &scenario, &settings, &observer);
    progress.clear();
    let outcome = result?;
    println!("{outcome}");
    if let Some(path) = &arguments.json {
        let run = record::Run {
            broker: &arguments.broker,
            version: &arguments.broker_version,
            cpus: &arguments.pid.map(measure::cpus_of).unwrap_or_default(),
            round: arguments.round,
            name: &name,
            scenario: &scenario,
        };
        record::append(path, &record::line(&run, &settings, &outcome)?)?;
    }
    Ok(())
}

fn measure(name: &str, scenario: &Scenario, settings: &Settings, observer: &Observer<'_>) -> Result<Outcome, Box<dyn Error>> {
    if scenario.shape == Shape::Retained {
        return retained::run(name, scenario, settings, observer);
    }
    let limit = (measure::raise_descriptor_limit()? as usize).saturating_sub(SPARE_DESCRIPTORS);
    let cells = scenario.cells(observer.threads);
    let mut plan = Plan { settings: settings.clone(), cells, crowd: scenario::crowd(scenario.crowd) };
    if plan.connections() > limit && scenario.shape == Shape::Idle {
        eprintln!("{name}: capped at {limit} connections: a process may have no more descriptors here (ulimit -Hn)");
        plan.cells.truncate(limit);
    } else if plan.connections() > limit {
        let needed = plan.connections();
        return Err(format!("{needed} connections are needed, {limit} are possible here (ulimit -Hn): choose smaller sizes").into());
    }
    Ok(run::run(name, plan, observer)?)
}

/// Prints the scenarios of a folder.
#[derive(clap::Args)]
pub struct ListArguments {
    /// The folder of scenarios
    #[arg(long, default_value = SCENARIOS, value_name = "FOLDER")]
    scenarios: PathBuf,
    /// Only the names
    #[arg(long)]
    names: bool,
    /// Only those that the scripts run when they are told nothing
    #[arg(long)]
    headline: bool,
    /// Only those that a bare forwarder can serve
    #[arg(long)]
    bare: bool,
}

pub fn list(arguments: &ListArguments) -> Result<(), Box<dyn Error>> {
    for (name, scenario) in scenario::list(&arguments.scenarios)? {
        if (arguments.headline && !scenario.headline) || (arguments.bare && !scenario.bare) {
            continue;
        }
        if arguments.names {
            println!("{name}");
        } else {
            println!("  {name:<20} {}{}", if scenario.headline { "* " } else { "  " }, scenario.title);
        }
    }
    Ok(())
}

fn settings(arguments: &Arguments, scenario: &Scenario) -> Result<Settings, Box<dyn Error>> {
    let address: SocketAddr = arguments.address.to_socket_addrs()?.next().ok_or("the address leads nowhere")?;
    Ok(Settings {
        address,
        version: if scenario.version == 5 { Version::V5 } else { Version::V311 },
        qos: QoS::from_bits(scenario.qos).unwrap_or_default(),
        payload_bytes: scenario.payload,
        window: scenario.window,
        rate: (scenario.rate > 0).then_some(scenario.rate),
        shards: scenario.shards,
        keep_alive: scenario.keep_alive,
        burst: scenario.burst,
        connects_per_s: (scenario.connects_per_s > 0).then_some(scenario.connects_per_s as f64),
        topic_aliases: scenario.topic_aliases,
        slow_bytes_per_s: scenario.slow_bytes_per_s,
        busy_poll: arguments.busy_poll,
        realtime: arguments.realtime,
        warm_up: scenario.warm_up(),
        time: Duration::from_secs_f64(arguments.seconds),
        patience: Duration::from_secs_f64(arguments.patience),
    })
}

/// A line on the terminal that changes while the run goes on.
struct Progress {
    name: String,
    shows: bool,
    announces: Cell<bool>,
    last: Cell<(Instant, u64)>,
}

impl Progress {
    fn new(name: &str, announces: bool) -> Progress {
        Progress {
            name: name.to_owned(),
            announces: Cell::new(announces),
            shows: std::io::stderr().is_terminal(),
            last: Cell::new((Instant::now(), 0)),
        }
    }

    fn show(&self, phase: Phase, totals: &Totals) {
        if phase == Phase::Measure && self.announces.take() {
            println!("measuring");
        }
        let (at, count) = self.last.get();
        let elapsed = at.elapsed();
        if !self.shows || elapsed < Duration::from_millis(200) {
            return;
        }
        let now = totals.received + totals.acknowledged;
        let rate = (now - count) as f64 / elapsed.as_secs_f64();
        self.last.set((Instant::now(), now));
        eprint!("\r\x1b[K{} {phase:?}: {} connections, {rate:.0}/s, {} outstanding", self.name, totals.ready, totals.outstanding);
        let _ = std::io::stderr().flush();
    }

    fn clear(&self) {
        if self.shows {
            eprint!("\r\x1b[K");
        }
    }
}
