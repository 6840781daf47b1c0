//! Memory that a load has left behind goes back to the system once the shard has nothing to do.
//!
//! The allocator keeps freed pages for a moment, in case they are needed again, and gives them back while it is used for something else. After the last
//! client of a crowd has gone it is not used any more: then it has to be told.

use super::driver::give_memory_back;
use crate::broker::Shard;

/// It is worth the trouble from this much less on that a shard holds for its clients, bytes.
const WORTH_BYTES: u64 = 4 * 1024 * 1024;

/// The most that a shard held since memory was last given back.
#[derive(Debug, Default)]
pub struct Highest(u64);

impl Highest {
    /// To be told once a turn what is held.
    pub fn note(&mut self, held: u64) {
        self.0 = self.0.max(held);
    }

    /// Gives back what is no longer used, if it is worth it.
    pub fn give_back(&mut self, shard: &mut Shard) {
        let held = shard.memory_used();
        if self.0.saturating_sub(held) >= WORTH_BYTES {
            shard.trim();
            give_memory_back();
            self.0 = held;
        }
    }
}
