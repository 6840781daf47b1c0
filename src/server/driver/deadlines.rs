//! When connections that are being closed must be gone. All waits of a kind are equally long, so each kind is a queue in order of time.
//!
//! Entries of connections that close earlier stay until their time; the driver recognises them by generation and phase. That bounds the
//! queues to the closes within the time-outs, 24 bytes each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{ConnId, Options, Phase};

/// Longest time that anything here waits: any setting is a valid one.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// The time after `now`, a day later at most.
pub(super) fn after(now: Instant, time: Duration) -> Instant {
    now + time.min(LONGEST)
}

pub(super) struct Deadlines {
    finish: Queue,
    drain: Queue,
}

struct Queue {
    timeout: Duration,
    entries: VecDeque<(Instant, ConnId)>,
}

impl Queue {
    fn add(&mut self, conn: ConnId) {
        self.entries.push_back((after(Instant::now(), self.timeout), conn));
    }

    fn due(&mut self, now: Instant) -> Option<ConnId> {
        let &(at, conn) = self.entries.front()?;
        (at <= now).then(|| {
            self.entries.pop_front();
            conn
        })
    }
}

impl Deadlines {
    pub(super) fn new(options: &Options) -> Deadlines {
        let queue = |timeout| Queue { timeout, entries: VecDeque::new() };
        Deadlines { finish: queue(options.finish_timeout), drain: queue(options.drain_timeout) }
    }

    /// The send in flight must be over in time.
    pub(super) fn finishing(&mut self, conn: ConnId) {
        self.finish.add(conn);
    }

    /// The peer must close in time.
    pub(super) fn draining(&mut self, conn: ConnId) {
        self.drain.add(conn);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let front = |queue: &Queue| queue.entries.front().map(|entry| entry.0);
        front(&self.finish).into_iter().chain(front(&self.drain)).min()
    }

    /// A connection whose time is over, if it is still in the given phase.
    pub(super) fn due(&mut self, now: Instant) -> Option<(ConnId, Phase)> {
        if let Some(conn) = self.finish.due(now) {
            return Some((conn, Phase::Finishing));
        }
        self.drain.due(now).map(|conn| (conn, Phase::Draining))
    }
}
