//! The gate for the I/O layer: server CPU per message of our drivers, beside a bare io_uring loop of a hundred lines.
//!
//! All servers run the same trivial forwarder ([`forward`]), so that what differs is the I/O. One process serves, pinned to one core; this
//! process is the load, pinned to another. A round measures every server once in every scenario, in rotating order; what counts is the ratio
//! to the bare loop of the same round, and its median over the rounds.

mod bare;
mod forward;
mod load;
pub mod outputs;
mod report;
pub mod server;
pub mod shard;

use std::path::PathBuf;
use std::time::Duration;

use self::load::Scenario;
use self::report::Report;
use self::server::Kind;
use crate::measure;

#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds; the order of the servers rotates from one to the next
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Seconds that are measured of each server in each scenario
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before that
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Connections of the sparse scenario; as many as the limit of descriptors allows if not given, at most 19,000
    #[arg(long)]
    connections: Option<usize>,
    /// Messages per second of the sparse scenario
    #[arg(long, default_value_t = 100_000)]
    rate: u64,
    /// Scenarios to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    scenarios: Vec<Scenario>,
    /// Servers to compare; the first one is the yardstick
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Bare, Kind::Uring, Kind::Epoll])]
    servers: Vec<Kind>,
    /// Core of the server
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Most that the io_uring driver may cost, as a multiple of the yardstick; above it the command fails
    #[arg(long, default_value_t = 1.1)]
    gate: f64,
    /// Also write the results to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Descriptors that a process needs for itself.
const SPARE_DESCRIPTORS: u64 = 200;

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let limit = measure::raise_descriptor_limit()?;
    let most = limit.saturating_sub(SPARE_DESCRIPTORS).min(19_000) as usize;
    let plan = load::Plan {
        connections: arguments.connections.unwrap_or(most).clamp(1, limit as usize),
        rate: arguments.rate.max(1),
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        time: Duration::from_secs_f64(arguments.seconds),
    };
    measure::pin(arguments.client_core)?;
    let mut report = Report::new(&arguments.servers, &arguments.scenarios);
    for round in 0..arguments.rounds {
        for &scenario in &arguments.scenarios {
            for turn in 0..arguments.servers.len() {
                let kind = arguments.servers[(round + turn) % arguments.servers.len()];
                let server = server::Child::start(kind, arguments.server_core)?;
                let result = load::run(scenario, &plan, &server)?;
                eprintln!("round {} {scenario} {kind}: {result}", round + 1);
                report.add(kind, scenario, result);
            }
        }
    }
    report.print(plan.connections, plan.rate);
    if let Some(path) = &arguments.json {
        std::fs::write(path, report.json())?;
    }
    let worst = report.worst(Kind::Uring);
    if worst > arguments.gate {
        return Err(format!("the io_uring driver costs {worst:.2} times the yardstick somewhere; the gate is {:.2}", arguments.gate).into());
    }
    Ok(())
}
