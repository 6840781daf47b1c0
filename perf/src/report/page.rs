//! The page: where and how it was measured, what came out in plots, then every scenario with its numbers and its latencies.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::plot::{self, Bar, escape};
use super::results::{Group, Results, Run, count, digits, finite_spread, marks, median, of_broker, ratio, time, with_spread};
use super::table;

const STYLE: &str = include_str!("page.css");
/// Colours that there are; more brokers share the last one.
const COLOURS: usize = 8;

/// The page, whole.
pub fn page(results: &Results, yardstick: &str) -> String {
    let (groups, brokers) = (results.groups(), results.brokers(yardstick));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{} measured</title>\n<style>\n{STYLE}</style>\n",
        escape(yardstick)
    );
    head(&mut html, results, &groups, &brokers, yardstick);
    let bars = |field: fn(&Run) -> f64, keep: fn(&Run) -> bool, label: fn(f64) -> String| {
        let some = groups.iter().filter(|(_, group)| group.iter().any(|(_, runs)| keep(runs[0])));
        let groups: Vec<(String, Vec<Bar>)> =
            some.map(|(name, group)| ((*name).to_owned(), bars_of(group, &brokers, field, label))).collect();
        plot::bars(&groups, label)
    };
    let plots = [
        (
            "CPU of the broker, microseconds per message",
            "Per delivery; sink: per message received; reconnects and connections: each. The same number is CPU seconds per million. Shorter is better.",
            bars(|run| run.cpu_us, |_| true, digits),
        ),
        (
            "Throughput: messages delivered per second",
            "With one core for the broker. Open-loop scenarios give what was asked for. Longer is better; see G in the tables.",
            bars(|run| run.egress, |run| !run.is_idle(), count),
        ),
        (
            "Latency at the 99th percentile, microseconds",
            "In closed-loop scenarios it is the time that a window waits in queues, not the time that the broker takes. Shorter is better.",
            bars(|run| run.latency[1], |run| run.latency[1] > 0.0, count),
        ),
        (
            "Memory: resident bytes per idle connection",
            "Growth of the broker's resident memory over that many connections, each with a keep-alive and a subscription. Shorter is better.",
            bars(|run| run.bytes_per_connection, Run::is_idle, count),
        ),
    ];
    for (title, explanation, svg) in plots.iter().filter(|(.., svg)| !svg.is_empty()) {
        let _ = writeln!(
            html,
            "<h2>{title}</h2>\n<p class=\"soft\">{explanation} Logarithmic scale; the thin line is the spread of the rounds.</p>\n{svg}"
        );
    }
    let asides = table::asides(&groups, yardstick);
    if !asides.is_empty() {
        let _ = writeln!(html, "<h2>Side by side</h2>\n<ul>");
        for line in &asides {
            let _ = writeln!(html, "<li>{}</li>", escape(line));
        }
        html.push_str("</ul>\n");
    }
    html.push_str("<h2>Every scenario</h2>\n");
    for (name, group) in &groups {
        scenario(&mut html, name, group, &brokers, yardstick);
    }
    html
}

fn colour(brokers: &[&str], broker: &str) -> usize {
    brokers.iter().position(|other| *other == broker).unwrap_or(COLOURS).min(COLOURS - 1)
}

fn head(html: &mut String, results: &Results, groups: &[(&str, Group<'_>)], brokers: &[&str], yardstick: &str) {
    let others = finite_spread(results.runs.iter().map(|run| run.others));
    let _ = writeln!(
        html,
        "<h1>{} measured</h1>\n<p>{}. Commit {}. {} to {}. {} s measured of each run. Others kept {:.2} cores busy meanwhile (median; {:.2} to {:.2}).</p>",
        escape(yardstick),
        escape(&results.machine),
        escape(&results.commit),
        escape(&results.dates.0),
        escape(&results.dates.1),
        results.seconds,
        others.0,
        others.1,
        others.2
    );
    let _ = writeln!(html, "<p>{}</p>\n<p>", escape(&table::noise_line(groups)));
    for broker in brokers {
        let version = results.runs.iter().find(|run| run.broker == *broker).map_or("", |run| &run.version);
        let _ = writeln!(html, "<span class=\"key s{}\"></span>{} {}", colour(brokers, broker), escape(broker), escape(version));
    }
    html.push_str("</p>\n");
}

fn bars_of(group: &Group<'_>, brokers: &[&str], field: fn(&Run) -> f64, label: fn(f64) -> String) -> Vec<Bar> {
    let bar = |broker: &&str| {
        let runs = of_broker(group, broker)?;
        let (median, low, high) = finite_spread(runs.iter().map(|run| field(run)));
        let label = format!("{} {}", label(median), marks(runs));
        (median > 0.0).then(|| Bar { series: colour(brokers, broker), median, low, high, label: label.trim_end().to_owned() })
    };
    brokers.iter().filter_map(bar).collect()
}

fn scenario(html: &mut String, name: &str, group: &Group<'_>, brokers: &[&str], yardstick: &str) {
    let Some(first) = group.first().and_then(|(_, runs)| runs.first()) else { return };
    let _ = writeln!(html, "<h3 id=\"{0}\">{0}</h3>\n<p class=\"soft\">{1}.</p>", escape(name), escape(&first.title));
    if !first.scale.is_empty() {
        let _ = writeln!(html, "<p class=\"soft\">Scaled: {}.</p>", escape(&first.scale));
    }
    let _ = writeln!(
        html,
        "<div class=\"wide\"><table><tr><th>broker<th>CPU us a {}<th>ratio<th>in/s<th>out/s<th>p50<th>p99<th>p99.9<th>cores<th>generator<th>others<th>peak MB<th>",
        first.unit.name()
    );
    for broker in brokers {
        let Some(runs) = of_broker(group, broker) else { continue };
        row(html, broker, runs, of_broker(group, yardstick));
    }
    html.push_str("</table></div>\n");
    let curves: Vec<(usize, Histogram<u64>)> =
        brokers.iter().filter_map(|broker| Some((colour(brokers, broker), merged(of_broker(group, broker)?)?))).collect();
    if !curves.is_empty() {
        let _ = writeln!(html, "<p class=\"soft\">Latency, {}:</p>\n{}", first.stage, plot::latencies(&curves, time));
    }
}

fn row(html: &mut String, broker: &str, runs: &[&Run], yardstick: Option<&Vec<&Run>>) {
    let latency = |place: usize| time(median(runs, |run| run.latency[place]));
    let cells = [
        escape(broker),
        digits(median(runs, |run| run.cpu_us)),
        yardstick.map_or_else(|| "-".to_owned(), |yardstick| with_spread(ratio(runs, yardstick))),
        count(median(runs, |run| run.ingress)),
        count(median(runs, |run| run.egress)),
        latency(0),
        latency(1),
        latency(2),
        format!("{:.2}", median(runs, |run| run.cores)),
        format!("{:.2}", median(runs, |run| run.generator)),
        format!("{:.2}", median(runs, |run| run.others)),
        format!("{:.0}", median(runs, |run| run.peak_rss) / 1e6),
        marks(runs),
    ];
    let _ = writeln!(html, "<tr><td>{}", cells.join("<td>"));
}

/// The latencies of all rounds.
fn merged(runs: &[&Run]) -> Option<Histogram<u64>> {
    let mut histograms = runs.iter().filter_map(|run| run.histogram.as_ref());
    let mut sum = histograms.next()?.clone();
    for histogram in histograms {
        sum.add(histogram).ok()?;
    }
    (!sum.is_empty()).then_some(sum)
}
