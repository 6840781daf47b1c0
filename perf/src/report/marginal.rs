//! What one more idle connection costs: the line through runs with few connections and with many.

use std::error::Error;

use super::results::{Results, Run, median};

/// Prints it if the results allow. Errors: it is more than `limit` bytes.
pub fn check(results: &Results, yardstick: &str, limit: Option<f64>) -> Result<(), Box<dyn Error>> {
    let Some((each, fixed)) = marginal(&results.runs, yardstick) else { return Ok(()) };
    println!("{yardstick}: a connection more costs {each:.0} bytes; {:.1} MB are there once, before the first", fixed / 1e6);
    match limit {
        Some(limit) if each > limit => Err(format!("a connection costs {each:.0} bytes, the limit is {limit:.0}").into()),
        _ => Ok(()),
    }
}

/// Resident bytes for each connection, and those that are there without any; `None` unless there are two numbers of connections.
fn marginal(runs: &[Run], yardstick: &str) -> Option<(f64, f64)> {
    let idle: Vec<&Run> = runs.iter().filter(|run| run.broker == yardstick && run.is_idle()).collect();
    let few = idle.iter().map(|run| run.connections).min_by(f64::total_cmp)?;
    let many = idle.iter().map(|run| run.connections).max_by(f64::total_cmp).filter(|&many| many > few)?;
    let rss = |connections: f64| {
        let runs: Vec<&Run> = idle.iter().copied().filter(|run| run.connections == connections).collect();
        median(&runs, |run| run.rss)
    };
    let each = (rss(many) - rss(few)) / (many - few);
    Some((each, rss(few) - each * few))
}
