//! What the reports need of the raw results: one [`Run`] for each line of JSON, and runs grouped by scenario and broker.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::measure::spread;

/// What the broker's CPU time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Delivery,
    /// A message that the broker received and nobody wanted.
    Ingress,
    Connection,
    Reconnect,
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Delivery => "delivery",
            Unit::Ingress => "message received",
            Unit::Connection => "connection",
            Unit::Reconnect => "reconnect",
        }
    }
}

/// One run of one scenario against one broker.
pub struct Run {
    pub name: String,
    pub title: String,
    pub scale: String,
    pub against: String,
    pub broker: String,
    pub version: String,
    pub round: u64,
    pub unit: Unit,
    /// Broker CPU in microseconds per unit, which is CPU seconds per million; not a number where there was nothing to divide by.
    pub cpu_us: f64,
    /// Messages per second into the broker, and out of it; where nothing is published, connections per second.
    pub ingress: f64,
    pub egress: f64,
    /// What the latencies are of.
    pub stage: &'static str,
    /// Microseconds at the 50th, 99th and 99.9th percentile.
    pub latency: [f64; 3],
    pub histogram: Option<Histogram<u64>>,
    /// Cores that the broker, the generator and everybody else used.
    pub cores: f64,
    pub generator: f64,
    pub others: f64,
    pub rss: f64,
    pub peak_rss: f64,
    pub connections: f64,
    pub bytes_per_connection: f64,
    /// Where distinct filters are what it is about: what they look like, how many they are, and what the broker grew by for them and their connections.
    pub filter_kind: String,
    pub filters: f64,
    pub grown: f64,
    pub lost: u64,
    /// Deliveries that were still on their way long after the load had ended.
    pub late: u64,
    pub out_of_order: u64,
    /// The generator was the limit.
    pub bound: bool,
}

/// Where the latency of a run is found, best first.
const STAGES: [(&str, &str); 6] = [
    ("delivery", "publish to delivery"),
    ("acknowledgement", "publish to acknowledgement"),
    ("fetch", "SUBSCRIBE to the last retained message"),
    ("reconnect", "cut off until ready again"),
    ("connack", "CONNECT to CONNACK"),
    ("suback", "SUBSCRIBE to SUBACK"),
];

impl Run {
    fn of(line: &Value) -> Run {
        let outcome = &line["outcome"];
        let number = |path: &str| outcome.pointer(path).and_then(Value::as_f64);
        let known = |path: &str| number(path).unwrap_or(0.0);
        let count = |name: &str| outcome["checks"][name].as_u64().unwrap_or(0);
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let storms = !outcome["storm"].is_null();
        let alone = known("/egress") == 0.0;
        let idle = count("sent") == 0;
        let (unit, cpu, out) = match (storms, idle, line["scenario"]["shape"] == "sink") {
            (true, ..) => (Unit::Reconnect, "/storm/cpu_us_per_reconnect", if alone { "/storm/reconnects_per_s" } else { "/egress_per_s" }),
            (_, true, _) => (Unit::Connection, "/set_up/cpu_us_per_connection", "/set_up/connections_per_s"),
            (.., true) => (Unit::Ingress, "/broker/cpu_us_per_message", "/egress_per_s"),
            _ => (Unit::Delivery, "/broker/cpu_us_per_message", "/egress_per_s"),
        };
        let of_stage = |stage: &str| &outcome["latency_us"][stage];
        let (key, stage) = STAGES.into_iter().find(|(key, _)| of_stage(key)["count"].as_u64() > Some(0)).unwrap_or(STAGES[0]);
        // Where nobody listens there is nothing to time but the way there, which is not what the scenario is about.
        let timed = unit != Unit::Ingress;
        let at = |percentile: &str| of_stage(key)[percentile].as_f64().filter(|_| timed).unwrap_or(f64::NAN);
        Run {
            name: text(&line["name"]),
            title: text(&line["scenario"]["title"]),
            scale: text(&line["scenario"]["scale"]),
            against: text(&line["scenario"]["against"]),
            broker: text(&line["broker"]),
            version: text(&line["broker_version"]),
            round: line["round"].as_u64().unwrap_or(0),
            unit,
            cpu_us: number(cpu).unwrap_or(f64::NAN),
            ingress: known("/ingress_per_s"),
            egress: known(out),
            stage,
            latency: [at("p50"), at("p99"), at("p999")],
            histogram: of_stage(key)["hdr"].as_str().filter(|_| timed).and_then(histogram),
            cores: known("/broker/cores"),
            generator: known("/generator/busy"),
            others: known("/other_cores"),
            rss: known("/broker/rss_bytes"),
            peak_rss: known("/broker/peak_rss_bytes"),
            connections: known("/set_up/connections"),
            bytes_per_connection: known("/set_up/rss_bytes_per_connection"),
            filter_kind: if line["scenario"]["shape"] == "filters" { text(&line["scenario"]["filter_kind"]) } else { String::new() },
            filters: known("/set_up/filters"),
            grown: known("/set_up/rss_bytes_per_connection") * known("/set_up/connections"),
            lost: count("lost") + count("closed") + count("unacknowledged"),
            late: count("late"),
            out_of_order: count("reordered") + count("duplicated"),
            bound: outcome.pointer("/generator/bound").and_then(Value::as_bool).unwrap_or(false),
        }
    }

    /// An idle connection's price is what this run is about.
    pub fn is_idle(&self) -> bool {
        self.unit == Unit::Connection
    }
}

fn histogram(hdr: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(hdr).ok()?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).ok()
}

/// All runs of some files, and what they say of where they were made.
pub struct Results {
    pub machine: String,
    pub commit: String,
    /// First and last.
    pub dates: (String, String),
    pub seconds: f64,
    pub runs: Vec<Run>,
}

impl Results {
    /// Errors: a file cannot be read, holds something else, or holds nothing.
    pub fn read(files: &[PathBuf]) -> Result<Results, Box<dyn Error>> {
        let mut lines = Vec::new();
        for path in files {
            for line in fs::read_to_string(path)?.lines() {
                lines.push(serde_json::from_str::<Value>(line)?);
            }
        }
        let (first, last) = lines.first().zip(lines.last()).ok_or("no results")?;
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or("").to_owned();
        Ok(Results {
            machine: format!("{}, Linux {}", text(first, "machine"), text(first, "kernel")),
            commit: text(first, "commit"),
            dates: (text(first, "date"), text(last, "date")),
            seconds: first["settings"]["seconds"].as_f64().unwrap_or(0.0),
            runs: lines.iter().map(Run::of).collect(),
        })
    }

    /// Brokers in the order of their first appearance, the yardstick first.
    pub fn brokers(&self, yardstick: &str) -> Vec<&str> {
        let mut brokers = vec![yardstick];
        for run in &self.runs {
            if !brokers.contains(&run.broker.as_str()) {
                brokers.push(&run.broker);
            }
        }
        brokers.into_iter().map(|broker| self.runs.iter().find(|run| run.broker == broker).map_or("", |run| &run.broker)).collect()
    }

    /// Scenarios in the order of their first appearance.
    pub fn groups(&self) -> Vec<(&str, Group<'_>)> {
        let mut order: Vec<&str> = Vec::new();
        let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
        for run in &self.runs {
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
}

/// Runs of one scenario, by broker in the order of their first appearance.
pub type Group<'a> = Vec<(&'a str, Vec<&'a Run>)>;

/// The runs of one broker in a group.
pub fn of_broker<'g, 'a>(group: &'g Group<'a>, broker: &str) -> Option<&'g Vec<&'a Run>> {
    group.iter().find(|(name, _)| *name == broker).map(|(_, runs)| runs)
}

pub fn median(runs: &[&Run], field: impl Fn(&Run) -> f64) -> f64 {
    finite_spread(runs.iter().map(|run| field(run))).0
}

/// Median, lowest and highest of what is a number; if nothing is, then they are not either.
pub fn finite_spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    if values.is_empty() { (f64::NAN, f64::NAN, f64::NAN) } else { spread(&values) }
}

/// CPU as a multiple of the other's in the same round: median, lowest, highest; no numbers if there is no such round.
pub fn ratio(runs: &[&Run], to: &[&Run]) -> (f64, f64, f64) {
    let of_round = |round| to.iter().find(|run| run.round == round);
    finite_spread(runs.iter().filter_map(|run| Some(run.cpu_us / of_round(run.round)?.cpu_us)))
}

/// A ratio with its spread, for people.
pub fn with_spread((median, low, high): (f64, f64, f64)) -> String {
    if median.is_finite() { format!("{} [{}-{}]", digits(median), digits(low), digits(high)) } else { "-".to_owned() }
}

/// What must not be overlooked: G the generator was the limit, L lost, unacknowledged or closed, O doubled or out of order, B behind: the
/// broker was still delivering long after the load had ended.
pub fn marks(runs: &[&Run]) -> String {
    let marks = [
        (runs.iter().any(|run| run.bound), 'G'),
        (runs.iter().any(|run| run.lost > 0), 'L'),
        (runs.iter().any(|run| run.out_of_order > 0), 'O'),
        (runs.iter().any(|run| run.late > 0), 'B'),
    ];
    marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect()
}

/// The share by which the CPU time of rounds differs around their median, the largest over all scenarios and brokers with two rounds or more,
/// and the typical one.
pub fn noise(groups: &[(&str, Group<'_>)]) -> Option<(f64, f64)> {
    let each = groups.iter().flat_map(|(_, group)| group).filter(|(_, runs)| runs.len() > 1);
    let shares: Vec<f64> = each
        .map(|(_, runs)| finite_spread(runs.iter().map(|run| run.cpu_us)))
        .filter(|(median, ..)| *median > 0.0)
        .map(|(median, low, high)| (high - low) / 2.0 / median)
        .collect();
    let (typical, _, largest) = spread(&shares);
    (!shares.is_empty()).then_some((typical, largest))
}

/// 1234567 as `1.23 M`.
pub fn count(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value >= 1e7 => format!("{:.1} M", value / 1e6),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// Three digits of a small number.
pub fn digits(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

/// Microseconds for people.
pub fn time(us: f64) -> String {
    match us {
        us if !us.is_finite() => "-".to_owned(),
        us if us >= 1e6 => format!("{} s", digits(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", digits(us / 1e3)),
        us => format!("{us:.0} us"),
    }
}
