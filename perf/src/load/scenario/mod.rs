//! A scenario as a file: what the load is like, in TOML. The files that come with the project are in `perf/scenarios`.
//!
//! A file may be `like` another one and say only what differs; `--set KEY=VALUE` on the command line has the last word. Every key has a unit or
//! is one of MQTT's own words; unknown keys are errors, so that a slip of the pen is not a different measurement.

mod file;
mod shape;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::file::{list, load};
pub use self::shape::{FilterKind, Shape, crowd, crowd_filter};
use super::plan::{Cell, STAMP_BYTES};

/// A scenario, whole: the file, what it is like, and what the command line says.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What it is, in one line.
    pub title: String,
    /// The scenario that this one is a variation of; its keys hold where this file says nothing.
    pub like: String,
    /// The scenario whose result this one is set against in reports: the same without what this one is about.
    pub against: String,
    /// Part of what the scripts run when they are told nothing.
    pub headline: bool,
    /// A bare forwarder without a broker behind it can serve it, and is measured beside the broker.
    pub bare: bool,
    /// A definition by others: how much smaller this is, and where from.
    pub scale: String,

    pub shape: Shape,
    /// Publishers (pairs: pairs; fanout: topics, each with a publisher).
    pub publishers: usize,
    /// Subscribers (fanout: of each topic; idle: connections; shared: members of the group).
    pub subscribers: usize,
    /// Filters of all subscribers together (filters).
    pub filters: usize,
    pub filter_kind: FilterKind,
    /// Subscribers beside the others that hardly read (fanout): in all, and bytes that each reads per second.
    pub slow: usize,
    pub slow_bytes_per_s: usize,
    /// Connections beside the others that all reconnect at once, again and again while it is measured.
    pub crowd: usize,
    /// Retained messages `retained/LEVEL/NUMBER`, a hundred of them in each level, and the filter that fetches some (retained).
    pub retained: usize,
    pub retained_filter: String,

    /// Shards of the broker, which has to be a ringmq. Client identifiers are chosen such that the pairs live on them in turn (pairs).
    pub shards: u16,
    /// The subscriber of a pair lives on another shard than its publisher.
    pub apart: bool,

    /// 3 for MQTT 3.1.1, 5 for 5.0.
    pub version: u8,
    pub qos: u8,
    /// Bytes, 16 or more: publisher, sequence number and time are in it.
    pub payload: usize,
    /// Topics are at least this long, in bytes.
    pub topic_bytes: usize,
    /// Publishers send a topic alias instead of a topic after the first message (5.0).
    pub topic_aliases: bool,
    /// Closed loop: messages in flight per publisher.
    pub window: u32,
    /// Open loop: messages per second of all publishers together, sent when they are due whatever has arrived. 0 is closed loop.
    pub rate: u64,
    /// Seconds.
    pub keep_alive: u16,
    /// Connections that may be on their way through CONNECT and SUBSCRIBE at a time, per thread.
    pub burst: usize,
    /// New connections per second; 0 is as fast as they go.
    pub connects_per_s: u64,
    /// Seconds of load before the measured time.
    pub warm_up: f64,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            title: String::new(),
            like: String::new(),
            against: String::new(),
            headline: false,
            bare: false,
            scale: String::new(),
            shape: Shape::Pairs,
            publishers: 0,
            subscribers: 1,
            filters: 0,
            filter_kind: FilterKind::Plus,
            slow: 0,
            slow_bytes_per_s: 4_096,
            crowd: 0,
            retained: 0,
            retained_filter: "retained/#".to_owned(),
            shards: 1,
            apart: false,
            version: 3,
            qos: 0,
            payload: 64,
            topic_bytes: 0,
            topic_aliases: false,
            window: 32,
            rate: 0,
            keep_alive: 600,
            burst: 256,
            connects_per_s: 0,
            warm_up: 0.5,
        }
    }
}

/// Most messages in flight: one less than packet identifiers, halved so that a number is never in use twice.
const MAX_WINDOW: u32 = 32_767;

impl Scenario {
    /// What makes no sense, in words.
    pub fn check(&self) -> Result<(), String> {
        let faults = [
            (self.title.is_empty(), "title is missing"),
            (self.payload < STAMP_BYTES, "payload must be at least 16"),
            (self.window == 0 || self.window > MAX_WINDOW, "window must be 1 to 32767"),
            (self.qos > 2, "qos must be 0, 1 or 2"),
            (!matches!(self.version, 3 | 5), "version must be 3 or 5"),
            (self.topic_aliases && self.version != 5, "topic_aliases needs version = 5"),
            (self.shards == 0 || self.shards > ringmq::broker::MAX_SHARDS, "shards must be 1 to 128"),
            (self.shards > 1 && self.shape != Shape::Pairs, "shards needs shape = \"pairs\""),
            (self.apart && self.shards < 2, "apart needs shards"),
            (self.burst == 0, "burst must be at least 1"),
            (self.slow > 0 && (self.shape != Shape::Fanout || self.rate == 0), "slow needs shape = \"fanout\" and a rate"),
            (self.slow_bytes_per_s == 0, "slow_bytes_per_s must be at least 1"),
            ((self.shape == Shape::Retained) != (self.retained > 0), "shape = \"retained\" and retained go together"),
            (self.shape == Shape::Filters && self.filters == 0, "shape = \"filters\" needs filters"),
            (self.publishers == 0 && !matches!(self.shape, Shape::Idle | Shape::Retained), "publishers is missing"),
        ];
        faults.iter().find(|(is, _)| *is).map_or(Ok(()), |(_, what)| Err((*what).to_owned()))
    }

    /// The clients, in cells for `threads` threads.
    pub fn cells(&self, threads: usize) -> Vec<Cell> {
        shape::cells(self, threads)
    }

    pub fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up.max(0.0))
    }
}
