//! A million clients of one broker, from one process: what they cost it in memory and CPU while they connect, while they are silent, and when each
//! gets one message.
//!
//! A process may often have fewer file descriptors than that. So the clients' sockets stand in the file tables of io_uring rings, as many rings as
//! it takes, one thread each ([`clients`]); the driver is the broker's own. A broker is measured from outside: its process and the kernel's
//! memory ([`memory`]). What the kernel holds for one connection over loopback it holds for both ends.

mod clients;
mod memory;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::clients::{Phase, Plan, Shared};
use self::memory::Machine;
use crate::load::usage::Process;
use crate::measure;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the broker listens on loopback; the clients come from many addresses of 127.0.0.0/8, because one has not enough ports
    #[arg(long)]
    address: SocketAddrV4,
    /// Process of the broker
    #[arg(long)]
    pid: u32,
    /// Clients; each connects, subscribes to one topic of its own, and is silent
    #[arg(long, default_value_t = 1_000_000)]
    connections: u32,
    /// Clients of one ring at most; as many as the limit of descriptors allows if not given
    #[arg(long)]
    per_ring: Option<u32>,
    /// Clients of one ring that are on their way to SUBACK at a time
    #[arg(long, default_value_t = 32)]
    burst: u32,
    /// Seconds of silence that are measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Give up when the machine has less memory left than this, MiB
    #[arg(long, default_value_t = 2_048)]
    min_free_mib: u64,
    /// Said in the result: what the broker runs with
    #[arg(long, default_value = "")]
    label: String,
    /// Append the result to this file, as a line of JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Descriptors that the process keeps for itself.
const SPARE_DESCRIPTORS: u64 = 500;
/// How long nothing may come forward.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long things get to calm down before silence is measured.
const SETTLE: Duration = Duration::from_secs(3);

/// What was measured. Bytes and microseconds of CPU are for one connection, but for `machine_bytes`.
#[derive(Debug, Serialize)]
struct Outcome {
    label: String,
    connections: u32,
    connect_seconds: f64,
    connects_per_second: f64,
    connect_cpu_us: f64,
    broker_bytes: f64,
    broker_start_bytes: u64,
    client_bytes: f64,
    kernel_bytes_both_ends: f64,
    machine_bytes: u64,
    idle_cpu_percent: f64,
    deliver_seconds: f64,
    deliver_cpu_us: f64,
    delivered: u64,
    wrong: u64,
}

/// The broker, this process and the machine at one moment.
struct Reading {
    at: Instant,
    broker: Process,
    own: Process,
    machine: Machine,
}

impl Reading {
    fn take(pid: u32) -> std::io::Result<Reading> {
        let (broker, own) = (Process::read(pid)?, Process::read(std::process::id())?);
        Ok(Reading { at: Instant::now(), broker, own, machine: Machine::read()? })
    }

    /// CPU time of the broker since `earlier`, microseconds.
    fn cpu_us_since(&self, earlier: &Reading) -> f64 {
        (self.broker.cpu_ns - earlier.broker.cpu_ns) as f64 / 1e3
    }

    fn seconds_since(&self, earlier: &Reading) -> f64 {
        (self.at - earlier.at).as_secs_f64()
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = measure::raise_descriptor_limit()?;
    let room = u32::try_from(descriptors.saturating_sub(SPARE_DESCRIPTORS)).unwrap_or(u32::MAX);
    let per_ring = arguments.per_ring.unwrap_or(u32::MAX).min(room).max(1);
    let before = Reading::take(arguments.pid)?;
    let shared = Arc::new(Shared::default());
    let threads = spawn(arguments, per_ring, &shared)?;
    let outcome = measure_all(arguments, &shared, &before);
    shared.enter(Phase::End);
    for thread in threads {
        thread.join().map_err(|_| "a thread of clients broke down")?;
    }
    let outcome = outcome?;
    print(&outcome);
    if let Some(path) = &arguments.json {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", serde_json::to_string(&outcome)?)?;
    }
    if outcome.delivered == u64::from(outcome.connections) && outcome.wrong == 0 {
        Ok(())
    } else {
        Err("messages are missing or wrong".into())
    }
}

fn spawn(arguments: &Arguments, per_ring: u32, shared: &Arc<Shared>) -> std::io::Result<Vec<std::thread::JoinHandle<()>>> {
    let rings = arguments.connections.div_ceil(per_ring);
    let mut threads = Vec::new();
    for ring in 0..rings {
        let first = ring * per_ring;
        let plan = Plan {
            address: arguments.address,
            first,
            count: per_ring.min(arguments.connections - first),
            // The messages for the clients of the next ring.
            publishes_from: (first + per_ring) % (rings * per_ring),
            publishes: per_ring.min(arguments.connections - (first + per_ring) % (rings * per_ring)),
            burst: arguments.burst,
        };
        let shared = Arc::clone(shared);
        threads.push(std::thread::Builder::new().name(format!("clients-{ring}")).spawn(move || clients::run(&plan, &shared))?);
    }
    Ok(threads)
}

fn measure_all(arguments: &Arguments, shared: &Shared, before: &Reading) -> Result<Outcome, Box<dyn std::error::Error>> {
    let all = u64::from(arguments.connections);
    let per_connection = |value: f64| value / f64::from(arguments.connections);
    wait(arguments, shared, "ready", &|| shared.ready.load(Relaxed), all)?;
    let connected = Reading::take(arguments.pid)?;
    shared.enter(Phase::Silence);
    std::thread::sleep(SETTLE);
    let silent = Reading::take(arguments.pid)?;
    std::thread::sleep(Duration::from_secs_f64(arguments.seconds));
    let still = Reading::take(arguments.pid)?;
    shared.enter(Phase::Publish);
    let outcome = wait(arguments, shared, "delivered", &|| shared.delivered.load(Relaxed), all);
    let delivered = Reading::take(arguments.pid)?;
    // What is missing at the end of patience is part of the result; whatever else goes wrong is none.
    if shared.failure().is_some() {
        outcome?;
    }
    let connect_seconds = connected.seconds_since(before);
    Ok(Outcome {
        label: arguments.label.clone(),
        connections: arguments.connections,
        connect_seconds,
        connects_per_second: all as f64 / connect_seconds,
        connect_cpu_us: per_connection(connected.cpu_us_since(before)),
        broker_bytes: per_connection(still.broker.rss as f64 - before.broker.rss as f64),
        broker_start_bytes: before.broker.rss,
        client_bytes: per_connection(still.own.rss as f64 - before.own.rss as f64),
        kernel_bytes_both_ends: per_connection(still.machine.kernel_bytes as f64 - before.machine.kernel_bytes as f64),
        machine_bytes: before.machine.available_bytes.saturating_sub(still.machine.available_bytes),
        idle_cpu_percent: still.cpu_us_since(&silent) / (still.seconds_since(&silent) * 1e6) * 100.0,
        deliver_seconds: delivered.seconds_since(&still),
        deliver_cpu_us: per_connection(delivered.cpu_us_since(&still)),
        delivered: shared.delivered.load(Relaxed),
        wrong: shared.wrong.load(Relaxed),
    })
}

/// Waits until `count` has come to `all`, and says on the terminal how far it is.
fn wait(arguments: &Arguments, shared: &Shared, what: &str, count: &dyn Fn() -> u64, all: u64) -> Result<(), String> {
    let (mut last, mut since, mut said) = (0, Instant::now(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = count();
        if let Some(failure) = shared.failure() {
            return Err(format!("{failure} ({now} of {all} {what})"));
        }
        if now >= all {
            return Ok(());
        }
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return Err(format!("nothing comes forward any more: {now} of {all} {what}"));
        }
        let free = Machine::read().map_err(|error| error.to_string())?.available_bytes >> 20;
        if free < arguments.min_free_mib {
            return Err(format!("only {free} MiB of memory are left: {now} of {all} {what}"));
        }
        if said.elapsed() > Duration::from_secs(5) {
            said = Instant::now();
            eprintln!("{now} of {all} {what}, {free} MiB of memory free");
        }
    }
}

fn print(outcome: &Outcome) {
    println!(
        "{} connections: {:.0} connects/s, broker {:.1} us CPU each; broker memory {:.0} B each over {:.0} MiB at its start; \
         kernel {:.0} B each for both ends, clients {:.0} B each, the machine {:.2} GiB in all; idle {:.2} % of a CPU; \
         one message to each in {:.1} s, {:.1} us CPU each: {} delivered, {} wrong",
        outcome.connections,
        outcome.connects_per_second,
        outcome.connect_cpu_us,
        outcome.broker_bytes,
        outcome.broker_start_bytes as f64 / f64::from(1 << 20),
        outcome.kernel_bytes_both_ends,
        outcome.client_bytes,
        outcome.machine_bytes as f64 / f64::from(1 << 30),
        outcome.idle_cpu_percent,
        outcome.deliver_seconds,
        outcome.deliver_cpu_us,
        outcome.delivered,
        outcome.wrong,
    );
}
