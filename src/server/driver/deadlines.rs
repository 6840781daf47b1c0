//! When connections that are being closed must be gone. All waits of a kind are equally long, so each kind is a queue in order of time.
//!
//! Entries of connections that close earlier stay until their time; the driver recognises them by generation and phase. That bounds the
//! queues to the closes within the time-outs, 24 bytes each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{ConnId, Options, Phase};

pub(super) struct Deadlines {
    finish: Queue,
    drain: Queue,
}

struct Queue {
    timeout: Duration,
    entries: VecDeque<(Instant, ConnId)>,
}

impl Queue {
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
        self.finish.entries.push_back((Instant::now() + self.finish.timeout, conn));
    }

    /// The peer must close in time.
    pub(super) fn draining(&mut self, conn: ConnId) {
        self.drain.entries.push_back((Instant::now() + self.drain.timeout, conn));
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
