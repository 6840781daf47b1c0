//! The table of the gate: medians of CPU per message, and of the ratio to the yardstick of the same round.

use std::fmt::Write;

use super::load::{Outcome, Scenario};
use super::server::Kind;
use crate::measure;

pub struct Report {
    servers: Vec<Kind>,
    scenarios: Vec<Scenario>,
    outcomes: Vec<(Kind, Scenario, Outcome)>,
}

impl Report {
    pub fn new(servers: &[Kind], scenarios: &[Scenario]) -> Report {
        Report { servers: servers.to_vec(), scenarios: scenarios.to_vec(), outcomes: Vec::new() }
    }

    pub fn add(&mut self, kind: Kind, scenario: Scenario, outcome: Outcome) {
        self.outcomes.push((kind, scenario, outcome));
    }

    /// The outcomes of one server in one scenario, by round.
    fn of(&self, kind: Kind, scenario: Scenario) -> Vec<Outcome> {
        self.outcomes.iter().filter(|(k, s, _)| (*k, *s) == (kind, scenario)).map(|(_, _, outcome)| *outcome).collect()
    }

    /// CPU per message as a multiple of the yardstick's, by round.
    fn ratios(&self, kind: Kind, scenario: Scenario) -> Vec<f64> {
        let yardstick = self.of(self.servers[0], scenario);
        self.of(kind, scenario).iter().zip(yardstick).map(|(ours, bare)| ours.cpu_us / bare.cpu_us).collect()
    }

    /// The largest median ratio of a server over the scenarios; 0 if it did not run.
    pub fn worst(&self, kind: Kind) -> f64 {
        self.scenarios.iter().map(|&scenario| measure::spread(&self.ratios(kind, scenario)).0).fold(0.0, f64::max)
    }

    pub fn print(&self, connections: usize, rate: u64) {
        println!("{}, Linux {}; sparse: {connections} connections, {rate} messages/s", measure::machine(), measure::kernel());
        println!("Server CPU per message: median us, then the ratio to `{}` of the same round, median [lowest-highest]", self.servers[0]);
        print!("{:14}", "");
        self.scenarios.iter().for_each(|scenario| print!(" {scenario:>27}"));
        println!();
        for &kind in &self.servers {
            print!("{kind:14}");
            for &scenario in &self.scenarios {
                let cpu: Vec<f64> = self.of(kind, scenario).iter().map(|outcome| outcome.cpu_us).collect();
                let (ratio, low, high) = measure::spread(&self.ratios(kind, scenario));
                print!(" {:>8.3} {ratio:>5.2} [{low:.2}-{high:.2}]", measure::spread(&cpu).0);
            }
            println!();
        }
    }

    pub fn json(&self) -> String {
        let mut text = format!("{{\n  \"machine\": {:?},\n  \"outcomes\": [\n", measure::machine());
        for (index, (kind, scenario, outcome)) in self.outcomes.iter().enumerate() {
            let comma = if index + 1 < self.outcomes.len() { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "    {{\"server\": \"{kind}\", \"scenario\": \"{scenario}\", \"messages\": {}, \"per_second\": {:.1}, \"cpu_us\": {:.4}, \"busy\": {:.3}, \"others\": {:.3}}}{comma}",
                outcome.messages, outcome.per_second, outcome.cpu_us, outcome.busy, outcome.others
            );
        }
        text + "  ]\n}\n"
    }
}
