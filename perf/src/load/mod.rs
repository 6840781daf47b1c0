//! The load generator: scenarios by name against any MQTT broker, closed loop (a window per publisher) or open loop (a rate).
//!
//! It is made never to be the bottleneck and never to flatter: latencies of the open loop count from the time at which a message was due,
//! every delivery is checked per subscriber and publisher, ingress and egress are counted apart, and the CPU time of both sides and of
//! everybody else stands beside the rate, so that a run that measured the generator can be told from one that measured the broker.
//!
//! A thread owns whole cells of clients that talk to one another ([`plan`]); nothing is shared between threads but counters.

mod client;
mod latency;
mod outcome;
mod packets;
mod plan;
mod publisher;
mod record;
mod run;
mod scenario;
mod schedule;
mod self_test;
mod sequence;
mod set_up;
mod shared;
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

use self::plan::{Plan, STAMP_BYTES, Settings};
use self::run::Observer;
use self::scenario::{FilterKind, Scenario, Sizes};
use self::shared::{Phase, Totals};
use crate::measure;

/// A flag that comes later wins, so that what a file of flags says can be changed behind it.
#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Arguments {
    /// What the load is like
    #[arg(value_enum, required_unless_present = "self_test")]
    scenario: Option<Scenario>,
    /// The broker
    #[arg(long, default_value = "127.0.0.1:1883", value_name = "HOST:PORT")]
    address: String,
    /// The broker's process, for its CPU time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// What the broker is called in the results
    #[arg(long, default_value = "")]
    broker: String,
    #[command(flatten)]
    sizes: Sizes,
    /// How the filters of the scenario `filters` look
    #[arg(long, value_enum, default_value = "plus")]
    filter_kind: FilterKind,
    /// QoS of publishers and subscriptions
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Bytes of a payload, 16 or more: publisher, sequence number and time are in it
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Messages in flight per publisher; refilled in one write when half is free [default: 32, fanout 64, bignum 256]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=32_767))]
    window: Option<u32>,
    /// Open loop: messages per second of all publishers together, sent when they are due whatever has arrived
    #[arg(long, conflicts_with = "window")]
    rate: Option<u64>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// MQTT 5.0 instead of 3.1.1
    #[arg(long)]
    v5: bool,
    /// Threads; each has whole topics with all their clients, so fan-in becomes one fan-in a thread
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Never sleep (sharper times in the open loop; takes the whole core)
    #[arg(long)]
    busy_poll: bool,
    /// Connections that may be on their way through CONNECT and SUBSCRIBE at a time, per thread
    #[arg(long, default_value_t = 256)]
    burst: usize,
    /// Keep-alive in seconds; the generator sends no PINGREQ, so it must outlast the run
    #[arg(long, default_value_t = 600)]
    keep_alive: u16,
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
const SPARE_DESCRIPTORS: u64 = 50;

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.self_test {
        return self_test::run();
    }
    let scenario = arguments.scenario.ok_or("no scenario")?;
    let limit = measure::raise_descriptor_limit()?.saturating_sub(SPARE_DESCRIPTORS) as usize;
    let mut plan = Plan {
        settings: settings(arguments, scenario)?,
        cells: scenario.cells(&arguments.sizes, arguments.filter_kind, arguments.threads),
    };
    if plan.connections() > limit && scenario == Scenario::Connect {
        eprintln!("capped at {limit} connections: a process may have no more descriptors here (ulimit -Hn)");
        plan.cells.truncate(limit);
    } else if plan.connections() > limit {
        return Err(
            format!("{} connections are needed, {limit} are possible here (ulimit -Hn): choose smaller sizes", plan.connections()).into()
        );
    }
    let sizes = record::Sizes::of(&plan);
    let settings = plan.settings.clone();
    let name = arguments.name.clone().unwrap_or_else(|| scenario.name());
    let progress = Progress::new(&name, arguments.announce);
    let show = |phase, totals: &Totals| progress.show(phase, totals);
    let observer = Observer { pid: arguments.pid, threads: arguments.threads, show: &show };
    let outcome = run::run(&name, plan, &observer)?;
    progress.clear();
    println!("{outcome}");
    if let Some(path) = &arguments.json {
        let run = record::Run { broker: &arguments.broker, round: arguments.round, scenario: &scenario.name() };
        record::append(path, &record::line(&run, &settings, &sizes, &outcome)?)?;
    }
    Ok(())
}

fn settings(arguments: &Arguments, scenario: Scenario) -> Result<Settings, Box<dyn Error>> {
    if arguments.payload < STAMP_BYTES {
        return Err(format!("--payload must be at least {STAMP_BYTES}").into());
    }
    let address: SocketAddr = arguments.address.to_socket_addrs()?.next().ok_or("the address leads nowhere")?;
    Ok(Settings {
        address,
        version: if arguments.v5 { Version::V5 } else { Version::V311 },
        qos: QoS::from_bits(arguments.qos).unwrap_or_default(),
        payload_bytes: arguments.payload,
        window: arguments.window.unwrap_or(scenario.window()),
        rate: arguments.rate.or(scenario.rate().filter(|_| arguments.window.is_none())),
        keep_alive: arguments.keep_alive,
        burst: arguments.burst.max(1),
        busy_poll: arguments.busy_poll,
        warm_up: Duration::from_secs_f64(arguments.warm_up),
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
