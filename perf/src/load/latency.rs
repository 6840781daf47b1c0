//! A latency histogram that takes runs of messages with the same time stamp at the price of one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::Serialize;

/// Longest latency that is told from longer ones: a minute, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

pub struct Latency {
    histogram: Histogram<u64>,
    /// The time stamp of the current run and how many messages carried it.
    run: (u64, u64),
}

/// Percentiles for people and for JSON, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub p9999: f64,
    pub max: f64,
    /// All of it, in nanoseconds: an HDR histogram (V2, compressed) in base64, as every HDR tool reads it. Empty if there was nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hdr: String,
}

impl Latency {
    pub fn new() -> Latency {
        let histogram =
            Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("invariant: the bounds and the precision are constants in range");
        Latency { histogram, run: (0, 0) }
    }

    /// A message that was stamped `stamped` has arrived; `end_run` says when.
    #[inline]
    pub fn arrived(&mut self, stamped: u64, now: u64) {
        if self.run.0 != stamped {
            self.end_run(now);
            self.run.0 = stamped;
        }
        self.run.1 += 1;
    }

    /// All messages so far arrived at `now`.
    pub fn end_run(&mut self, now: u64) {
        let (stamped, count) = self.run;
        self.run.1 = 0;
        if count > 0 {
            self.histogram.saturating_record_n(now.saturating_sub(stamped).max(1), count);
        }
    }

    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds.max(1));
    }

    pub fn add(&mut self, other: &Latency) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.histogram.add(&other.histogram);
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |percentile| self.histogram.value_at_percentile(percentile) as f64 / 1_000.0;
        Percentiles {
            count: self.histogram.len(),
            mean: self.histogram.mean() / 1_000.0,
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            p9999: at(99.99),
            max: self.histogram.max() as f64 / 1_000.0,
            hdr: self.hdr(),
        }
    }

    fn hdr(&self) -> String {
        let mut bytes = Vec::new();
        let written = !self.histogram.is_empty() && V2DeflateSerializer::new().serialize(&self.histogram, &mut bytes).is_ok();
        if written { STANDARD.encode(bytes) } else { String::new() }
    }
}
