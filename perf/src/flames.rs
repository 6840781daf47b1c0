//! Samples of `perf` as a flame graph, and the functions that take most time themselves. Draws with inferno, so that nothing else is needed.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options};
use inferno::flamegraph;

#[derive(clap::Args)]
pub struct Arguments {
    /// What `perf script` printed; - for standard input
    samples: PathBuf,
    /// The picture; the folded stacks go beside it
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value = "Flame graph")]
    title: String,
    /// Print so many functions, most expensive first
    #[arg(long, default_value_t = 15)]
    top: usize,
}

/// Errors: the samples cannot be read, there are none, or the picture cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut folded = Vec::new();
    let mut folder = Folder::from(Options::default());
    if arguments.samples.as_os_str() == "-" {
        folder.collapse(BufReader::new(io::stdin().lock()), &mut folded)?;
    } else {
        folder.collapse_file(Some(&arguments.samples), &mut folded)?;
    }
    let folded = String::from_utf8_lossy(&folded);
    fs::write(arguments.out.with_extension("folded"), folded.as_bytes())?;
    let (by_function, all) = self_times(&folded);
    if all == 0 {
        return Err("no samples".into());
    }
    for (function, samples) in by_function.iter().take(arguments.top) {
        println!("{:6.2} %  {function}", 100.0 * *samples as f64 / all as f64);
    }
    let mut options = flamegraph::Options::default();
    options.title.clone_from(&arguments.title);
    flamegraph::from_lines(&mut options, folded.lines(), BufWriter::new(File::create(&arguments.out)?))?;
    Ok(())
}

/// Samples by the innermost function, most first, and all of them.
fn self_times(folded: &str) -> (Vec<(&str, u64)>, u64) {
    let mut times: HashMap<&str, u64> = HashMap::new();
    for line in folded.lines() {
        let Some((stack, samples)) = line.rsplit_once(' ') else { continue };
        let function = stack.rsplit_once(';').map_or(stack, |(_, function)| function);
        *times.entry(function).or_default() += samples.parse::<u64>().unwrap_or(0);
    }
    let all = times.values().sum();
    let mut sorted: Vec<(&str, u64)> = times.into_iter().collect();
    sorted.sort_by_key(|&(function, samples)| (std::cmp::Reverse(samples), function));
    (sorted, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_the_samples_of_all_stacks_that_end_in_it() {
        let (times, all) = self_times("broker;main;send 3\nbroker;main;turn;send 4\nbroker;main 2\n");
        assert_eq!((times, all), (vec![("send", 7), ("main", 2)], 9));
    }
}
