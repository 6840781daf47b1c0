//! The result of a run: a line for people, a line of JSON for everything else.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::latency::Percentiles;

/// A run in numbers. What cannot be known without the broker's process id is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The name of the run, `scenario` or what the user calls it.
    pub name: String,
    pub set_up: SetUp,
    pub seconds: f64,
    /// Messages that publishers sent in the measured time, and per second.
    pub ingress: u64,
    pub ingress_per_s: f64,
    /// Deliveries to subscribers (sink: messages that the broker is known to have received).
    pub egress: u64,
    pub egress_per_s: f64,
    pub broker: Option<Broker>,
    pub generator: Generator,
    /// Cores that neither the broker nor the generator kept busy, but somebody did.
    pub other_cores: Option<f64>,
    pub storm: Option<Storm>,
    pub retained: Option<Retained>,
    pub checks: Checks,
    pub latency_us: Latencies,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct SetUp {
    pub connections: u64,
    pub filters: u64,
    pub seconds: f64,
    pub connections_per_s: f64,
    pub cpu_us_per_connection: Option<f64>,
    pub rss_bytes_per_connection: Option<f64>,
    pub rss_bytes_per_filter: Option<f64>,
}

/// The broker's side of the measured time.
#[derive(Clone, Debug, Serialize)]
pub struct Broker {
    pub cpu_seconds: f64,
    pub cores: f64,
    /// Microseconds per delivery (sink: per message received).
    pub cpu_us_per_message: Option<f64>,
    pub user_share: f64,
    pub rss_bytes: u64,
    pub peak_rss_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Generator {
    pub threads: usize,
    /// Part of the time that its threads were busy; absent when it polls without ever sleeping.
    pub busy: Option<f64>,
    /// The rate says more of the generator than of the broker.
    pub bound: bool,
}

/// A crowd that was cut off and came back, again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Storm {
    /// Times that all of it was back.
    pub waves: u64,
    pub reconnects: u64,
    pub reconnects_per_s: f64,
    /// Attempts that failed and were made again.
    pub refused: u64,
    /// With whatever else the broker did meanwhile.
    pub cpu_us_per_reconnect: Option<f64>,
}

/// Retained messages, and subscriptions that fetched some of them again and again.
#[derive(Clone, Debug, Serialize)]
pub struct Retained {
    pub stored: u64,
    pub stores_per_s: f64,
    pub cpu_us_per_store: Option<f64>,
    pub rss_bytes_each: Option<f64>,
    /// Messages that one subscription matches, and subscriptions that were made.
    pub matching: u64,
    pub fetches: u64,
    /// CPU of the broker for one SUBSCRIBE with all its messages.
    pub cpu_us_per_fetch: Option<f64>,
}

/// Over the whole run, warm-up included.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checks {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    /// Deliveries that were still to come long after the load had ended.
    pub late: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub unacknowledged: u64,
    pub foreign: u64,
    pub stalls: u64,
    pub closed: u64,
    /// Of subscribers that hardly read: what they got, what they did not, and how many of them the broker cut off.
    pub slow_received: u64,
    pub slow_missed: u64,
    pub slow_closed: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Latencies {
    pub connect: Percentiles,
    pub connack: Percentiles,
    pub suback: Percentiles,
    pub delivery: Percentiles,
    /// From publish to PUBACK or PUBCOMP.
    pub acknowledgement: Percentiles,
    /// How late the open loop sent; nothing in a closed loop.
    pub send_lag: Percentiles,
    /// From the moment in which a crowd is cut off until one of it is ready again, and until all are.
    pub reconnect: Percentiles,
    pub wave: Percentiles,
    /// From SUBSCRIBE until the last retained message is there.
    pub fetch: Percentiles,
    /// PINGREQ to PINGRESP of a client that has nothing to do with it, meanwhile.
    pub bystander: Percentiles,
}

/// 1234567 as `1.23M`.
struct Count(f64);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value >= 1e6 => write!(f, "{:.2}M", value / 1e6),
            value if value >= 1e4 => write!(f, "{:.0}k", value / 1e3),
            value => write!(f, "{value:.0}"),
        }
    }
}

/// 1500 microseconds as `1.5ms`.
struct Time(f64);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value >= 1e6 => write!(f, "{:.1}s", value / 1e6),
            value if value >= 1e3 => write!(f, "{:.1}ms", value / 1e3),
            value => write!(f, "{value:.0}us"),
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:18}", self.name)?;
        if let Some(retained) = &self.retained {
            let (fetch, bystander) = (&self.latency_us.fetch, &self.latency_us.bystander);
            write!(f, " {} of {} retained messages fetched in p50 {}", retained.matching, retained.stored, Time(fetch.p50))?;
            write!(f, " max {}, others wait p99 {} max {}", Time(fetch.max), Time(bystander.p99), Time(bystander.max))?;
        } else if self.checks.sent == 0 {
            self.set_up.fmt(f)?;
        } else {
            write!(f, " in {}/s out {}/s", Count(self.ingress_per_s), Count(self.egress_per_s))?;
            for (what, latency) in [("", &self.latency_us.delivery), ("acks ", &self.latency_us.acknowledgement)] {
                if latency.count > 0 {
                    write!(f, ", {what}p50 {} p99 {} p99.9 {}", Time(latency.p50), Time(latency.p99), Time(latency.p999))?;
                }
            }
        }
        if let Some(storm) = &self.storm {
            let wave = &self.latency_us.wave;
            write!(f, "; {} waves of reconnects, {}/s, all back after p50 {}", storm.waves, Count(storm.reconnects_per_s), Time(wave.p50))?;
            write!(f, " max {}, {} refused", Time(wave.max), storm.refused)?;
        }
        if self.checks.slow_received > 0 {
            write!(f, "; slow subscribers got {} and missed {}", self.checks.slow_received, self.checks.slow_missed)?;
        }
        if let Some(broker) = &self.broker {
            write!(f, ", broker")?;
            if let Some(cpu) = broker.cpu_us_per_message {
                write!(f, " {cpu:.3} us/msg")?;
            }
            write!(f, " {:.2} cores ({:.0} % user) {:.1} MB", broker.cores, broker.user_share * 100.0, broker.rss_bytes as f64 / 1e6)?;
        }
        match self.generator.busy {
            Some(busy) => write!(f, ", generator {:.0} %", busy * 100.0)?,
            None => write!(f, ", generator busy-polls")?,
        }
        if let Some(other) = self.other_cores {
            write!(f, ", others {other:.2} cores")?;
        }
        self.checks.fmt(f)?;
        if self.generator.bound {
            write!(f, "; GENERATOR-BOUND: compare CPU per message, not rates")?;
        }
        Ok(())
    }
}

impl Display for SetUp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {} connections at {}/s", self.connections, Count(self.connections_per_s))?;
        if let (Some(cpu), Some(rss)) = (self.cpu_us_per_connection, self.rss_bytes_per_connection) {
            write!(f, ", {cpu:.1} us and {rss:.0} B of the broker each")?;
        }
        write!(f, " then idle")
    }
}

impl Display for Checks {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.lost, "lost"),
            (self.late, "still to come long after the load"),
            (self.duplicated, "duplicated"),
            (self.reordered, "reordered"),
            (self.unacknowledged, "unacknowledged"),
            (self.foreign, "foreign"),
            (self.stalls, "stalls"),
            (self.closed, "CLOSED BY THE BROKER"),
        ];
        let bad: Vec<String> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if bad.is_empty() { write!(f, "; nothing lost") } else { write!(f, "; {}", bad.join(", ")) }
    }
}
