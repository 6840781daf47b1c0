//! What the threads of a run tell one another: the phase, set by the main thread, and how far each worker is.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The phases of a run, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Phase {
    SetUp,
    WarmUp,
    Measure,
    /// Nothing is published any more; what is in flight arrives.
    Drain,
    Done,
}

impl Phase {
    pub fn publishes(self) -> bool {
        matches!(self, Phase::WarmUp | Phase::Measure)
    }
}

/// How far one worker is. Written by it alone.
#[derive(Default)]
pub struct Progress {
    /// Connections that are ready.
    pub ready: AtomicU64,
    pub sent: AtomicU64,
    /// Deliveries, each counted once.
    pub received: AtomicU64,
    /// Messages whose arrival at the broker is certain.
    pub acknowledged: AtomicU64,
    /// Deliveries and acknowledgements that are still to come.
    pub outstanding: AtomicU64,
    /// Connections that had been cut and are back.
    pub reconnects: AtomicU64,
}

/// A sum over the workers at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub ready: u64,
    pub sent: u64,
    pub received: u64,
    pub acknowledged: u64,
    pub outstanding: u64,
    pub reconnects: u64,
}

pub struct Shared {
    phase: AtomicU8,
    /// Connections of all workers.
    pub connections: usize,
    pub workers: Vec<Progress>,
}

impl Shared {
    pub fn new(workers: usize, connections: usize) -> Shared {
        Shared { phase: AtomicU8::new(Phase::SetUp as u8), connections, workers: (0..workers).map(|_| Progress::default()).collect() }
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::SetUp,
            1 => Phase::WarmUp,
            2 => Phase::Measure,
            3 => Phase::Drain,
            _ => Phase::Done,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn totals(&self) -> Totals {
        let sum = |field: fn(&Progress) -> &AtomicU64| self.workers.iter().map(|worker| field(worker).load(Ordering::Relaxed)).sum();
        Totals {
            ready: sum(|worker| &worker.ready),
            sent: sum(|worker| &worker.sent),
            received: sum(|worker| &worker.received),
            acknowledged: sum(|worker| &worker.acknowledged),
            outstanding: sum(|worker| &worker.outstanding),
            reconnects: sum(|worker| &worker.reconnects),
        }
    }
}

/// Counts of one worker over its whole life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub sent: u64,
    pub received: u64,
    pub acknowledged: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Messages that no publisher of this run can have sent to this subscriber.
    pub foreign: u64,
    /// Times that a closed loop waited in vain and gave up what was in flight.
    pub stalls: u64,
    /// Connections that ended before the run did.
    pub closed: u64,
    /// The same of slow subscribers, which a broker may well lose patience with.
    pub slow_closed: u64,
    /// Deliveries to slow subscribers.
    pub slow_received: u64,
    pub reconnects: u64,
    /// Times that the whole crowd was cut off and came back.
    pub waves: u64,
    /// Attempts to come back that failed.
    pub refused: u64,
    /// Deliveries that must come of what was sent.
    pub expected: u64,
    /// Acknowledgements that must come of what was sent.
    pub expected_acknowledged: u64,
}

impl Tally {
    pub fn outstanding(&self) -> u64 {
        self.expected.saturating_sub(self.received) + self.expected_acknowledged.saturating_sub(self.acknowledged)
    }

    pub fn add(&mut self, other: &Tally) {
        self.sent += other.sent;
        self.received += other.received;
        self.acknowledged += other.acknowledged;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.stalls += other.stalls;
        self.closed += other.closed;
        self.slow_closed += other.slow_closed;
        self.slow_received += other.slow_received;
        self.reconnects += other.reconnects;
        self.waves += other.waves;
        self.refused += other.refused;
        self.expected += other.expected;
        self.expected_acknowledged += other.expected_acknowledged;
    }
}
