//! Which clients hit limits: the counters say how often each limit bit, this says whom, to the log, once a minute, the worst first.
//!
//! Client identifiers are told to the log alone. `$SYS` is open to whoever may subscribe, and to know the identifier of a client without a user is to be
//! able to take its session over; so there it only says how many clients each limit bites.
//! Cost: one look-up in a small table where something is dropped or refused, and nothing anywhere else. The table is bounded: of a crowd that hits a limit
//! in the same minute, those that come late are counted and not named.

use hashbrown::HashMap;

use super::session::FixedHasher;
use super::shard::Shard;
use super::timers::TimerKey;
use crate::metrics::{DropReason, Limit, RefuseReason};

/// Pairs of a client and a limit that are told apart between two reports.
const MAX_PAIRS: usize = 1_024;
/// Pairs that one report names.
const NAMED: usize = 10;
/// From the first time after a quiet minute to its report, and between two reports at least.
const FIRST_REPORT_MS: u64 = 1_000;
const REPORT_MS: u64 = 60_000;

/// Who hit which limit how often since the last report.
#[derive(Debug)]
pub struct Limited {
    /// By session (index and generation) and limit.
    times: HashMap<(u32, u32, Limit), u64, FixedHasher>,
    /// Times of those who found no room in the table.
    unnamed: u64,
    scheduled: bool,
    last_report: Option<u64>,
    /// How many clients each limit bit before the last report.
    clients: [u64; Limit::COUNT],
}

impl Default for Limited {
    fn default() -> Limited {
        let times = HashMap::with_hasher(FixedHasher::default());
        Limited { times, unnamed: 0, scheduled: false, last_report: None, clients: [0; Limit::COUNT] }
    }
}

impl Limited {
    /// How many clients each limit bites, as far as the last report knew.
    pub fn clients(&self, now: u64) -> [u64; Limit::COUNT] {
        let is_news = self.last_report.is_some_and(|at| now < at + 2 * REPORT_MS);
        if is_news { self.clients } else { [0; Limit::COUNT] }
    }
}

impl Shard {
    /// Deliveries to a session are given up because of one of its limits.
    #[cold]
    pub(super) fn drop_for(&mut self, session: u32, reason: DropReason, deliveries: u64) {
        self.counters.count_dropped(reason, deliveries);
        self.note_limited(session, Limit::Dropped(reason), deliveries);
    }

    /// The client of a session is refused something, or slowed down.
    #[cold]
    pub(super) fn refuse_for(&mut self, session: u32, reason: RefuseReason) {
        self.counters.count_refused(reason);
        self.note_limited(session, Limit::Refused(reason), 1);
    }

    fn note_limited(&mut self, index: u32, limit: Limit, times: u64) {
        // Without a session there is nobody to be named.
        let Some(session) = self.sessions.get(index) else { return };
        let key = (index, session.generation, limit);
        let full = self.limited.times.len() >= MAX_PAIRS;
        match self.limited.times.get_mut(&key) {
            Some(so_far) => *so_far += times,
            None if full => self.limited.unnamed += times,
            None => _ = self.limited.times.insert(key, times),
        }
        if !self.limited.scheduled {
            self.limited.scheduled = true;
            let not_before = self.limited.last_report.map_or(0, |at| at + REPORT_MS);
            let at = not_before.max(self.now + FIRST_REPORT_MS);
            self.wheel.schedule(at, TimerKey::Limited);
        }
    }

    /// Tells the log who hit limits since the last time.
    pub(super) fn report_limited(&mut self) {
        (self.limited.scheduled, self.limited.last_report) = (false, Some(self.now));
        let mut worst: Vec<_> =
            self.limited.times.drain().map(|((index, generation, limit), times)| (times, index, generation, limit)).collect();
        let unnamed = std::mem::take(&mut self.limited.unnamed);
        worst.sort_unstable_by_key(|&(times, index, generation, limit)| (std::cmp::Reverse(times), index, generation, limit.index()));
        self.limited.clients = [0; Limit::COUNT];
        for &(_, _, _, limit) in &worst {
            self.limited.clients[limit.index()] += 1;
        }
        for &(times, index, generation, limit) in worst.iter().take(NAMED) {
            if let Some(session) = self.sessions.get_same(index, generation) {
                tracing::info!(client = ?session.client_id, limit = limit.name(), times, "a client hits a limit");
            }
        }
        let others = worst.len().saturating_sub(NAMED);
        if others > 0 || unnamed > 0 {
            tracing::info!("{others} more clients hit limits, and others {unnamed} times");
        }
    }
}
