//! A run as one line of JSON, with all that a second run would need to repeat it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::json;

use super::outcome::Outcome;
use super::plan::Settings;
use super::scenario::Scenario;
use crate::measure;

/// Which run it was.
pub struct Run<'a> {
    pub broker: &'a str,
    /// What the broker says of its version; empty if nobody asked.
    pub version: &'a str,
    /// CPUs that the broker may use, as the kernel lists them; empty if its process is not known.
    pub cpus: &'a str,
    pub round: u32,
    pub name: &'a str,
    pub scenario: &'a Scenario,
}

/// The line, without its end.
pub fn line(run: &Run<'_>, settings: &Settings, outcome: &Outcome) -> serde_json::Result<String> {
    serde_json::to_string(&json!({
        "broker": run.broker,
        "broker_version": run.version,
        "broker_cpus": run.cpus,
        "round": run.round,
        "name": run.name,
        "scenario": run.scenario,
        "settings": {
            "threads": outcome.generator.threads,
            "busy_poll": settings.busy_poll,
            "realtime": settings.realtime,
            "seconds": settings.time.as_secs_f64(),
            "patience_s": settings.patience.as_secs_f64(),
        },
        "date": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        "machine": measure::machine(),
        "kernel": measure::kernel(),
        "commit": commit(),
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
