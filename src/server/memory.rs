//! Memory that a load has left behind goes back to the system once the shard has nothing to do.
//!
//! The allocator keeps freed pages for a moment, in case they are needed again, and gives them back while it is used for something else. After the last
//! client of a crowd has gone it is not used any more: then it has to be told. It is told a moment after what the shard holds has fallen, and once more
//! after a while, because what this shard sent to others is freed by them, when they come to it.

use super::driver::give_memory_back;
use crate::broker::Shard;

/// It is worth the trouble from this much less on, bytes.
const WORTH_BYTES: u64 = 4 * 1024 * 1024;
/// From the fall to the first time, and from there to the second, ms of the shard's clock.
const FIRST_MS: u64 = 500;
const SECOND_MS: u64 = 5_000;

/// What a shard held, and when memory is to be given back.
#[derive(Debug, Default)]
pub struct Held {
    /// The most since it was last given back, bytes.
    most: u64,
    due: Option<u64>,
    /// The next time is the second one.
    again: bool,
}

impl Held {
    /// To be told once a turn what the shard holds for clients and other shards.
    pub fn note(&mut self, now: u64, bytes: u64) {
        self.most = self.most.max(bytes);
        if self.most - bytes >= WORTH_BYTES && (self.due.is_none() || self.again) {
            (self.most, self.due, self.again) = (bytes, Some(now + FIRST_MS), false);
        }
    }

    /// When a shard that sleeps is to be woken, ms.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Gives back what is no longer used, if it is time; for a shard that has nothing to do.
    pub fn give_back(&mut self, now: u64, shard: &mut Shard) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        shard.trim();
        give_memory_back();
        self.due = (!self.again).then_some(now + SECOND_MS);
        self.again = !self.again;
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
}
