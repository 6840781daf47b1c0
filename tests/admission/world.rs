//! What the tests of admission ask a world beside what all tests do.

use std::sync::Arc;

use ringmq::broker::Admission;
use ringmq::metrics::RefuseReason;

#[path = "../support/world.rs"]
mod shared;

pub use shared::*;

impl World {
    pub fn set_admission(&mut self, admission: Admission) {
        let admission = Arc::new(admission);
        self.shards.iter_mut().for_each(|shard| shard.set_admission(Arc::clone(&admission)));
    }

    /// As [`World::send`], for bytes that were read before reading stopped.
    pub fn send_late(&mut self, client: Client, bytes: &[u8]) {
        let Some((shard, conn)) = self.sockets[client].place else { return };
        self.shards[shard].receive(self.now, conn, bytes);
        self.settle();
    }

    pub fn is_read(&self, client: Client) -> bool {
        self.sockets[client].reading
    }

    /// The shard that a client is on.
    pub fn shard_of(&self, client: Client) -> Option<usize> {
        self.sockets[client].place.map(|(shard, _)| shard)
    }

    pub fn refused(&self, reason: RefuseReason) -> u64 {
        self.counters().refused[reason as usize]
    }
}
