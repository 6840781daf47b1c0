//! Results of `load` as a table: medians by scenario and broker, and ratios to one broker within the same round.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::measure::spread;

#[derive(clap::Args)]
pub struct Arguments {
    /// Files of lines of JSON, as `load --json` writes them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The broker that the others are compared with [default: the first one in the file]
    #[arg(long)]
    yardstick: Option<String>,
    /// Fail if one more idle connection costs the yardstick more bytes than this
    #[arg(long)]
    max_connection_bytes: Option<f64>,
}

/// What the table needs of one run.
struct Run {
    name: String,
    broker: String,
    round: u64,
    /// Broker CPU in microseconds per delivery, or per connection where nothing was published; not a number where nothing arrived.
    cpu_us: f64,
    ingress: f64,
    egress: f64,
    p50_us: f64,
    p99_us: f64,
    /// Share of the broker's core or cores that was used.
    cores: f64,
    others: f64,
    rss: f64,
    peak_rss: f64,
    connections: f64,
    connections_per_s: f64,
    bytes_per_connection: f64,
    lost: u64,
    out_of_order: u64,
    bound: bool,
}

impl Run {
    fn of(line: &Value) -> Run {
        let outcome = &line["outcome"];
        let number = |path: &str| outcome.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        let count = |name: &str| outcome["checks"][name].as_u64().unwrap_or(0);
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let idle = number("/checks/sent") == 0.0;
        let cpu =
            outcome.pointer(if idle { "/set_up/cpu_us_per_connection" } else { "/broker/cpu_us_per_message" }).and_then(Value::as_f64);
        Run {
            name: text(&outcome["name"]),
            broker: text(&line["broker"]),
            round: line["round"].as_u64().unwrap_or(0),
            cpu_us: cpu.unwrap_or(f64::NAN),
            ingress: number("/ingress_per_s"),
            egress: number("/egress_per_s"),
            p50_us: number("/latency_us/delivery/p50"),
            p99_us: number("/latency_us/delivery/p99"),
            cores: number("/broker/cores"),
            others: number("/other_cores"),
            rss: number("/broker/rss_bytes"),
            peak_rss: number("/broker/peak_rss_bytes"),
            connections: number("/set_up/connections"),
            connections_per_s: number("/set_up/connections_per_s"),
            bytes_per_connection: number("/set_up/rss_bytes_per_connection"),
            lost: count("lost") + count("closed"),
            out_of_order: count("reordered") + count("duplicated"),
            bound: outcome.pointer("/generator/bound").and_then(Value::as_bool).unwrap_or(false),
        }
    }
}

/// Runs of one scenario, by broker in the order of their first appearance.
type Group<'a> = Vec<(&'a str, Vec<&'a Run>)>;

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut lines = Vec::new();
    for path in &arguments.files {
        for line in fs::read_to_string(path)?.lines() {
            lines.push(serde_json::from_str::<Value>(line)?);
        }
    }
    let runs: Vec<Run> = lines.iter().map(Run::of).collect();
    let first = runs.first().ok_or("no results")?;
    let yardstick = arguments.yardstick.clone().unwrap_or_else(|| first.broker.clone());
    println!("{}, {}", lines[0]["machine"].as_str().unwrap_or(""), lines[0]["commit"].as_str().unwrap_or(""));
    println!(
        "Medians. CPU: of the broker, per delivery (sink: per message received; connect: per connection); ratio: to {yardstick} in the same round,"
    );
    println!(
        "median [lowest-highest]. Marks: G the generator was the limit (compare CPU, not rates), L lost or closed, O duplicated or out of order."
    );
    for (name, group) in groups(&runs) {
        if group.iter().any(|(_, runs)| runs.iter().any(|run| run.egress > 0.0)) {
            print_messages(name, &group, &yardstick);
        } else {
            print_connections(name, &group, &yardstick);
        }
    }
    let Some(marginal) = marginal(&runs, &yardstick) else { return Ok(()) };
    println!(
        "\n{}: a connection more costs {:.0} bytes; {:.1} MB are there once, before the first",
        yardstick,
        marginal.each,
        marginal.fixed / 1e6
    );
    match arguments.max_connection_bytes {
        Some(limit) if marginal.each > limit => {
            Err(format!("a connection costs {:.0} bytes, the limit is {limit:.0}", marginal.each).into())
        }
        _ => Ok(()),
    }
}

/// Resident bytes as a line over the number of connections.
struct Marginal {
    each: f64,
    fixed: f64,
}

/// The line through the fewest and the most idle connections of the yardstick, if there are two such numbers.
fn marginal(runs: &[Run], yardstick: &str) -> Option<Marginal> {
    let idle: Vec<&Run> = runs.iter().filter(|run| run.broker == yardstick && run.cpu_us.is_finite() && run.egress == 0.0).collect();
    let few = idle.iter().map(|run| run.connections).min_by(f64::total_cmp)?;
    let many = idle.iter().map(|run| run.connections).max_by(f64::total_cmp).filter(|&many| many > few)?;
    let rss =
        |connections: f64| median(&idle.iter().copied().filter(|run| run.connections == connections).collect::<Vec<&Run>>(), |run| run.rss);
    let each = (rss(many) - rss(few)) / (many - few);
    Some(Marginal { each, fixed: rss(few) - each * few })
}

fn groups(runs: &[Run]) -> Vec<(&str, Group<'_>)> {
    let mut order: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for run in runs {
        if !order.contains(&run.name.as_str()) {
            order.push(&run.name);
        }
        let group = groups.entry(&run.name).or_default();
        match group.iter_mut().find(|(broker, _)| *broker == run.broker) {
            Some((_, runs)) => runs.push(run),
            None => group.push((&run.broker, vec![run])),
        }
    }
    order.into_iter().map(|name| (name, groups.remove(name).unwrap_or_default())).collect()
}

fn median(runs: &[&Run], field: fn(&Run) -> f64) -> f64 {
    spread(&runs.iter().map(|run| field(run)).filter(|value| value.is_finite()).collect::<Vec<f64>>()).0
}

/// CPU as a multiple of the yardstick's of the same round.
fn ratio(runs: &[&Run], group: &Group<'_>, yardstick: &str) -> String {
    let of_round = |round| group.iter().find(|(broker, _)| *broker == yardstick)?.1.iter().find(|run| run.round == round);
    let ratios: Vec<f64> = runs.iter().filter_map(|run| Some(run.cpu_us / of_round(run.round)?.cpu_us)).collect();
    let ratios: Vec<f64> = ratios.into_iter().filter(|ratio| ratio.is_finite()).collect();
    let (median, low, high) = spread(&ratios);
    format!("{median:6.2} [{low:.2}-{high:.2}]")
}

fn marks(runs: &[&Run]) -> String {
    let marks = [
        (runs.iter().any(|run| run.bound), 'G'),
        (runs.iter().any(|run| run.lost > 0), 'L'),
        (runs.iter().any(|run| run.out_of_order > 0), 'O'),
    ];
    marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect()
}

fn print_messages(name: &str, group: &Group<'_>, yardstick: &str) {
    println!(
        "\n{name:<16}{:<16}{:>9}  {:<20}{:>11}{:>12}{:>9}{:>9}{:>7}{:>8}{:>8}",
        "broker", "CPU us", " ratio", "in/s", "out/s", "p50 ms", "p99 ms", "cores", "others", "MB"
    );
    for (broker, runs) in group {
        println!(
            "{:<16}{broker:<16}{:>9.3}  {:<20}{:>11.0}{:>12.0}{:>9.2}{:>9.2}{:>7.2}{:>8.2}{:>8.0} {}",
            format!("  {} runs", runs.len()),
            median(runs, |run| run.cpu_us),
            ratio(runs, group, yardstick),
            median(runs, |run| run.ingress),
            median(runs, |run| run.egress),
            median(runs, |run| run.p50_us) / 1e3,
            median(runs, |run| run.p99_us) / 1e3,
            median(runs, |run| run.cores),
            median(runs, |run| run.others),
            median(runs, |run| run.peak_rss) / 1e6,
            marks(runs)
        );
    }
}

fn print_connections(name: &str, group: &Group<'_>, yardstick: &str) {
    println!(
        "\n{name:<16}{:<16}{:>9}  {:<20}{:>11}{:>12}{:>9}{:>16}{:>8}",
        "broker", "CPU us", " ratio", "connects/s", "B each", "peak MB", "cores when idle", "others"
    );
    for (broker, runs) in group {
        println!(
            "{:<16}{broker:<16}{:>9.2}  {:<20}{:>11.0}{:>12.0}{:>9.1}{:>16.3}{:>8.2} {}",
            format!("  {} runs", runs.len()),
            median(runs, |run| run.cpu_us),
            ratio(runs, group, yardstick),
            median(runs, |run| run.connections_per_s),
            median(runs, |run| run.bytes_per_connection),
            median(runs, |run| run.peak_rss) / 1e6,
            median(runs, |run| run.cores),
            median(runs, |run| run.others),
            marks(runs)
        );
    }
}
