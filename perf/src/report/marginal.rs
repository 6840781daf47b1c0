//! What one more idle connection, and one more subscription, costs: the line through runs with few of them and with many.

use std::error::Error;

use super::results::{Results, Run, median};

/// The most that one more may cost, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    pub connection: Option<f64>,
    pub subscription: Option<f64>,
}

/// Prints it if the results allow. Errors: it is more than it may be.
pub fn check(results: &Results, yardstick: &str, most: Most) -> Result<(), Box<dyn Error>> {
    let runs: Vec<&Run> = results.runs.iter().filter(|run| run.broker == yardstick).collect();
    let idle: Vec<&Run> = runs.iter().copied().filter(|run| run.is_idle()).collect();
    show(yardstick, "a connection", line(&idle, |run| run.connections, |run| run.rss), most.connection)?;
    for kind in ["exact", "plus", "hash"] {
        let with_filters: Vec<&Run> = runs.iter().copied().filter(|run| run.filter_kind == kind).collect();
        let what = format!("a subscription to a filter of its own ({kind})");
        show(yardstick, &what, line(&with_filters, |run| run.filters, |run| run.grown), most.subscription)?;
    }
    Ok(())
}

fn show(yardstick: &str, what: &str, line: Option<(f64, f64)>, most: Option<f64>) -> Result<(), Box<dyn Error>> {
    let Some((each, fixed)) = line else { return Ok(()) };
    println!("{yardstick}: {what} more costs {each:.0} bytes; {:.1} MB are there once, before the first", fixed / 1e6);
    match most {
        Some(most) if each > most => Err(format!("{what} costs {each:.0} bytes, the limit is {most:.0}").into()),
        _ => Ok(()),
    }
}

/// Bytes for each, and those that are there without any; `None` unless there are two counts.
fn line(runs: &[&Run], count: impl Fn(&Run) -> f64, bytes: impl Fn(&Run) -> f64) -> Option<(f64, f64)> {
    let few = runs.iter().map(|run| count(run)).min_by(f64::total_cmp)?;
    let many = runs.iter().map(|run| count(run)).max_by(f64::total_cmp).filter(|&many| many > few)?;
    let bytes_with = |wanted: f64| {
        let runs: Vec<&Run> = runs.iter().copied().filter(|run| count(run) == wanted).collect();
        median(&runs, &bytes)
    };
    let each = (bytes_with(many) - bytes_with(few)) / (many - few);
    Some((each, bytes_with(few) - each * few))
}
