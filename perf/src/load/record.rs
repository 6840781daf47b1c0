//! A run as one line of JSON, with all that a second run would need to repeat it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;

use super::outcome::Outcome;
use super::plan::{Plan, Settings};
use crate::measure;

/// Which run it was.
pub struct Run<'a> {
    pub broker: &'a str,
    pub round: u32,
    pub scenario: &'a str,
}

/// How many clients a plan had.
pub struct Sizes {
    publishers: usize,
    subscribers: usize,
    filters: usize,
}

impl Sizes {
    pub fn of(plan: &Plan) -> Sizes {
        Sizes { publishers: plan.publishers(), subscribers: plan.subscribers(), filters: plan.filters() }
    }
}

/// The line, without its end.
pub fn line(run: &Run<'_>, settings: &Settings, sizes: &Sizes, outcome: &Outcome) -> serde_json::Result<String> {
    serde_json::to_string(&json!({
        "broker": run.broker,
        "round": run.round,
        "scenario": run.scenario,
        "date": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        "machine": measure::machine(),
        "commit": commit(),
        "settings": {
            "version": settings.version as u8,
            "qos": settings.qos as u8,
            "payload_bytes": settings.payload_bytes,
            "window": settings.rate.is_none().then_some(settings.window),
            "rate_per_s": settings.rate,
            "keep_alive_s": settings.keep_alive,
            "burst": settings.burst,
            "busy_poll": settings.busy_poll,
            "warm_up_s": settings.warm_up.as_secs_f64(),
            "publishers": sizes.publishers,
            "subscribers": sizes.subscribers,
            "filters": sizes.filters,
        },
        "outcome": outcome,
    }))
}

/// What git says of the current directory; empty where it says nothing.
fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--tags"]).output();
    output
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{line}")
}
