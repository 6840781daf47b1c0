//! Samples of `perf` as a flame graph, the functions that take most time themselves, and the time by stages of the broker. Draws with inferno, so
//! that nothing else is needed.

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
    println!("by stage:");
    for (stage, samples) in sums(folded.lines().filter_map(|line| line.rsplit_once(' ')).map(|(stack, samples)| (stage(stack), samples))).0
    {
        println!("{:6.2} %  {stage}", 100.0 * samples as f64 / all as f64);
    }
    let mut options = flamegraph::Options::default();
    options.title.clone_from(&arguments.title);
    flamegraph::from_lines(&mut options, folded.lines(), BufWriter::new(File::create(&arguments.out)?))?;
    Ok(())
}

/// Samples by the innermost function, most first, and all of them.
fn self_times(folded: &str) -> (Vec<(&str, u64)>, u64) {
    let stacks = folded.lines().filter_map(|line| line.rsplit_once(' '));
    sums(stacks.map(|(stack, samples)| (stack.rsplit_once(';').map_or(stack, |(_, function)| function), samples)))
}

/// Samples by name, most first, and all of them.
fn sums<'a>(samples: impl Iterator<Item = (&'a str, &'a str)>) -> (Vec<(&'a str, u64)>, u64) {
    let mut times: HashMap<&str, u64> = HashMap::new();
    for (name, samples) in samples {
        *times.entry(name).or_default() += samples.parse::<u64>().unwrap_or(0);
    }
    let all = times.values().sum();
    let mut sorted: Vec<(&str, u64)> = times.into_iter().collect();
    sorted.sort_by_key(|&(name, samples)| (std::cmp::Reverse(samples), name));
    (sorted, all)
}

/// Functions of the kernel that say what it was asked for; the first that a stack contains counts.
const KERNEL: [(&str, &str); 6] = [
    ("tcp_sendmsg", "kernel: send, and on loopback what arrives at the peer by it"),
    ("io_send", "kernel: send, and on loopback what arrives at the peer by it"),
    ("tcp_recvmsg", "kernel: receive"),
    ("io_recv", "kernel: receive"),
    ("io_accept", "kernel: accept"),
    ("entry_SYSCALL", "kernel: everything else that a system call does"),
];

/// What a stack belongs to: a part of the kernel's work, or a module of the broker.
fn stage(stack: &str) -> &str {
    if let Some((_, stage)) = KERNEL.iter().find(|(function, _)| stack.contains(function)) {
        return stage;
    }
    let innermost = stack.rsplit_once(';').map_or(stack, |(_, function)| function);
    if innermost.starts_with("mi_") || innermost.starts_with("_mi_") {
        return "allocator";
    }
    // The innermost function of ours, as far as its module: ringmq::broker::route
    let Some(ours) = stack.rsplit(';').find_map(|function| function.split_once("ringmq::").map(|(_, rest)| rest)) else { return "others" };
    let mut ends = ours.match_indices("::").map(|(at, _)| at);
    let end = ends.nth(1).unwrap_or(ours.len());
    &ours[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_belongs_to_the_kernels_work_or_to_a_module() {
        let stage_of = |stack| stage(stack);
        assert_eq!(stage_of("ringmq;ringmq::server::shell::Shell::run;entry_SYSCALL_64;tcp_sendmsg;tcp_ack"), KERNEL[0].1);
        assert_eq!(stage_of("ringmq;<ringmq::broker::shard::Shard>::run;ringmq::broker::route::publish;memcpy"), "broker::route");
        assert_eq!(stage_of("ringmq;ringmq::broker::route::publish;mi_free"), "allocator");
        assert_eq!(stage_of("ringmq;start_thread"), "others");
    }

    #[test]
    fn a_function_has_the_samples_of_all_stacks_that_end_in_it() {
        let (times, all) = self_times("broker;main;send 3\nbroker;main;turn;send 4\nbroker;main 2\n");
        assert_eq!((times, all), (vec![("send", 7), ("main", 2)], 9));
    }
}
