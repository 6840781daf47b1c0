//! Memory: what a load has left behind goes back to the system once the shard has nothing to do, and a shard that holds much gets huge pages.
//!
//! The allocator keeps freed pages for a moment, in case they are needed again, and gives them back while it is used for something else. After the last
//! client of a crowd has gone it is not used any more: then it has to be told. It is told a moment after what the shard holds has fallen, and once more
//! after a while, because what this shard sent to others is freed by them, when they come to it. It is also told when all is quiet, now and then: a crowd
//! that has come and stays has left receive buffers and batches behind.
//!
//! Huge pages spare a large shard misses of the processor's address cache; a small one does not need them and would take up to 2 MiB for each place that
//! it uses a little of. They are for the process, so the first large shard decides.

use super::driver::{AnyDriver, Driver, allow_huge_pages, give_memory_back};
use crate::broker::Shard;

/// It is worth the trouble from this much less on, bytes.
const WORTH_BYTES: u64 = 4 * 1024 * 1024;
/// From the fall to the first time, and from there to the second, ms of the shard's clock.
const FIRST_MS: u64 = 500;
const SECOND_MS: u64 = 5_000;
/// How long nothing happens before all is quiet, ms.
const QUIET_MS: u64 = 500;
/// From one time when all is quiet to the next at least, ms: to look through a large shard's memory takes a millisecond or more.
const REST_MS: u64 = 60_000;
/// A shard that holds this much is large, bytes.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// What a shard held, and when memory is to be given back.
#[derive(Debug, Default)]
pub struct Held {
    /// The most since it was last given back, bytes.
    most: u64,
    due: Option<u64>,
    /// The next time is the second one.
    again: bool,
    /// When all is quiet, if nothing happens before.
    quiet_at: Option<u64>,
    /// Before that, quiet does not count.
    rests_until: u64,
    large: bool,
}

impl Held {
    /// To be told once a turn what the shard holds for clients and other shards.
    pub fn note(&mut self, now: u64, bytes: u64) {
        self.most = self.most.max(bytes);
        if bytes >= LARGE_BYTES && !self.large {
            self.large = true;
            allow_huge_pages(true);
        }
        if self.most - bytes >= WORTH_BYTES && (self.due.is_none() || self.again) {
            (self.most, self.due, self.again) = (bytes, Some(now + FIRST_MS), false);
        }
    }

    /// To be told when a turn brought something.
    pub fn busy(&mut self, now: u64) {
        self.quiet_at = Some((now + QUIET_MS).max(self.rests_until));
    }

    /// When a shard that sleeps is to be woken, ms.
    pub fn due(&self) -> Option<u64> {
        self.due.into_iter().chain(self.quiet_at).min()
    }

    /// Gives back what is no longer used, when it is due; for a shard that has nothing to do.
    pub fn give_back(&mut self, now: u64, shard: &mut Shard, driver: &mut AnyDriver) {
        shard.trim();
        driver.trim();
        give_memory_back();
        if self.due.is_some_and(|due| due <= now) {
            self.due = (!self.again).then_some(now + SECOND_MS);
            self.again = !self.again;
        }
        if self.quiet_at.is_some_and(|at| at <= now) {
            (self.quiet_at, self.rests_until) = (None, now + REST_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_a_moment_after_a_fall_that_is_worth_it() {
        let mut held = Held::default();
        held.note(0, 2 * WORTH_BYTES);
        held.note(10, WORTH_BYTES + 1);
        assert_eq!(held.due(), None);
        held.note(20, WORTH_BYTES);
        assert_eq!(held.due(), Some(20 + FIRST_MS));
        // As long as it falls, it is not put off.
        held.note(30, 0);
        assert_eq!(held.due(), Some(20 + FIRST_MS));
    }

    #[test]
    fn it_is_due_when_all_is_quiet() {
        let mut held = Held::default();
        held.busy(0);
        held.busy(100);
        assert_eq!(held.due(), Some(100 + QUIET_MS));
    }
}
