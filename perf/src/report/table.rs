//! Results as text: for a terminal, or as Markdown for a document.

use super::results::{Group, Results, Run, count, digits, marks, median, noise, of_broker, ratio, time, with_spread};

const HEAD: [&str; 12] =
    ["scenario", "broker", "CPU us each", "ratio [lowest-highest]", "in/s", "out/s", "p50", "p99", "p99.9", "cores", "others", "peak MB"];

/// Prints everything.
pub fn print(results: &Results, yardstick: &str, markdown: bool) {
    let groups = results.groups();
    if !markdown {
        println!("{}, {}", results.machine, results.commit);
        println!(
            "CPU: of the broker, microseconds per delivery (or what the scenario says), which is CPU seconds per million; ratio: to {yardstick}"
        );
        println!(
            "in the same round. Medians. Marks: G the generator was the limit (compare CPU, not rates), L lost or closed, O doubled or out of order,"
        );
        println!("B behind: still delivering long after the load had ended.");
    }
    let rows: Vec<Vec<String>> = groups.iter().flat_map(|(name, group)| rows(name, group, yardstick)).collect();
    if markdown {
        print_markdown(&rows)
    } else {
        print_aligned(&rows)
    }
    println!();
    println!("{}", noise_line(&groups));
    for line in asides(&groups, yardstick) {
        println!("{}{line}", if markdown { "- " } else { "" });
    }
}

/// How far the rounds differ, in words.
pub fn noise_line(groups: &[(&str, Group<'_>)]) -> String {
    match noise(groups) {
        Some((typical, largest)) => format!(
            "Noise: the rounds of a scenario differ by +-{:.0} % of CPU per message, typically; by +-{:.0} % in the worst.",
            typical * 100.0,
            largest * 100.0
        ),
        None => "Noise: unknown, there was one round only.".to_owned(),
    }
}

fn rows(name: &str, group: &Group<'_>, yardstick: &str) -> Vec<Vec<String>> {
    let to = of_broker(group, yardstick);
    let mut rows = Vec::new();
    for (place, (broker, runs)) in group.iter().enumerate() {
        let ratio =
            if *broker == yardstick { "1".to_owned() } else { to.map_or_else(|| "-".to_owned(), |to| with_spread(ratio(runs, to))) };
        let latency = |place: usize| time(median(runs, |run| run.latency[place]));
        rows.push(vec![
            if place == 0 { format!("{name}{}", unit(runs[0])) } else { String::new() },
            format!(
                "{broker}{}",
                Some(marks(runs)).filter(|marks| !marks.is_empty()).map_or_else(String::new, |marks| format!(" ({marks})"))
            ),
            digits(median(runs, |run| run.cpu_us)),
            ratio,
            count(median(runs, |run| run.ingress)),
            count(median(runs, |run| run.egress)),
            latency(0),
            latency(1),
            latency(2),
            format!("{:.2}", median(runs, |run| run.cores)),
            format!("{:.2}", median(runs, |run| run.others)),
            format!("{:.0}", median(runs, |run| run.peak_rss) / 1e6),
        ]);
    }
    rows
}

fn unit(run: &Run) -> String {
    match run.unit {
        super::results::Unit::Delivery => String::new(),
        unit => format!(" (each: {})", unit.name()),
    }
}

fn print_markdown(rows: &[Vec<String>]) {
    println!("| {} |", HEAD.join(" | "));
    println!("|{}", "---|".repeat(HEAD.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

fn print_aligned(rows: &[Vec<String>]) {
    let head: Vec<String> = HEAD.iter().map(|head| (*head).to_owned()).collect();
    let width = |column: usize| rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in [&head].into_iter().chain(rows) {
        if row[0].is_empty() || row[0] == HEAD[0] {
        } else {
            println!();
        }
        let cells = row.iter().zip(&widths).enumerate();
        // The first two columns are names, the others numbers.
        let cells = cells.map(|(column, (cell, &width))| if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") });
        println!("{}", cells.collect::<Vec<String>>().join("  ").trim_end());
    }
}

/// What the numbers say beside the table: scenarios against those without what they are about, memory of connections, a bare forwarder.
pub fn asides(groups: &[(&str, Group<'_>)], yardstick: &str) -> Vec<String> {
    let find = |name: &str| groups.iter().find(|(other, _)| *other == name).map(|(_, group)| group);
    let mut lines = Vec::new();
    for (name, group) in groups {
        for (broker, runs) in group {
            let Some(without) = find(&runs[0].against).and_then(|group| of_broker(group, broker)) else { continue };
            let same = runs[0].unit == without[0].unit;
            let cpu = if same { format!("CPU {}, ", with_spread(ratio(runs, without))) } else { String::new() };
            let latency = |place: usize| median(runs, |run| run.latency[place]) / median(without, |run| run.latency[place]);
            let (p99, p999) = (latency(1), latency(2));
            let against = &runs[0].against;
            lines.push(format!("{broker}: {name} against {against}: {cpu}p99 {}, p99.9 {} times as much", digits(p99), digits(p999)));
        }
        if let (Some(runs), Some(bare)) = (of_broker(group, yardstick), of_broker(group, BARE)) {
            let cpu = with_spread(ratio(runs, bare));
            lines.push(format!("{name}: {yardstick} takes {cpu} times the CPU of a bare forwarder"));
        }
    }
    lines.extend(memory(groups));
    lines
}

/// The broker that is none: a bare forwarder on the same socket driver.
pub const BARE: &str = "bare";

fn memory(groups: &[(&str, Group<'_>)]) -> Vec<String> {
    let idle = groups.iter().flat_map(|(name, group)| group.iter().map(move |(broker, runs)| (*name, *broker, runs)));
    idle.filter(|(.., runs)| runs[0].is_idle())
        .map(|(name, broker, runs)| {
            let connections = median(runs, |run| run.connections);
            format!(
                "{broker}: {name}: {} connections, {:.0} resident bytes each",
                count(connections),
                median(runs, |run| run.bytes_per_connection)
            )
        })
        .collect()
}
