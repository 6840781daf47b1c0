//! From raw results to something to read: tables, and one page with plots.

mod marginal;
mod page;
mod plot;
mod results;
mod table;

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use self::results::Results;

#[derive(clap::Args)]
pub struct Arguments {
    /// Files of lines of JSON, as `load --json` writes them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The broker that the others are compared with [default: the first one in the file]
    #[arg(long)]
    yardstick: Option<String>,
    /// Leave out runs during which others kept more than so many cores busy
    #[arg(long, value_name = "CORES")]
    max_others: Option<f64>,
    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,
    /// Also write one HTML page with plots that needs nothing else
    #[arg(long)]
    html: Option<PathBuf>,
    /// Fail if one more idle connection costs the yardstick more bytes than this
    #[arg(long)]
    max_connection_bytes: Option<f64>,
    /// Fail if one more subscription to a filter of its own costs the yardstick more bytes than this
    #[arg(long)]
    max_subscription_bytes: Option<f64>,
}

/// Errors: the results cannot be read, the page cannot be written, or a connection or a subscription costs more than it may.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut results = Results::read(&arguments.files)?;
    let first = results.runs.first().ok_or("no results")?;
    let yardstick = arguments.yardstick.clone().unwrap_or_else(|| first.broker.clone());
    let all = results.runs.len();
    results.runs.retain(|run| arguments.max_others.is_none_or(|most| run.others <= most));
    if results.runs.len() < all {
        println!("{} of {all} runs left out: others kept more cores busy than --max-others allows.", all - results.runs.len());
    }
    table::print(&results, &yardstick, arguments.markdown);
    if let Some(path) = &arguments.html {
        fs::write(path, page::page(&results, &yardstick)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let most = marginal::Most { connection: arguments.max_connection_bytes, subscription: arguments.max_subscription_bytes };
    marginal::check(&results, &yardstick, most)
}
