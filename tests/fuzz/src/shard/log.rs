//! The log of one shard, as its writer would keep it: commits that take their time or fail for a while, and what a later run reads of it.

use std::collections::VecDeque;

use ringmq::broker::{JournalJob, Shard};

/// Milliseconds since 1970 at the beginning of the shards' clock.
pub const UNIX_MS: u64 = 1_700_000_000_000;

#[derive(Default)]
pub struct Log {
    /// Commits that are not durable yet.
    under_way: VecDeque<(u64, Vec<u8>)>,
    /// Durable ones, with their segment.
    commits: VecDeque<(u64, Vec<u8>)>,
    segment: u64,
}

impl Log {
    /// Takes what the shard wants to be done; false if that is nothing.
    pub fn take_jobs(&mut self, shard: &mut Shard) -> bool {
        let mut any = false;
        while let Some(job) = shard.next_job() {
            any = true;
            match job {
                JournalJob::Commit { number, records } => self.under_way.push_back((number, records)),
                JournalJob::Rotate => self.segment += 1,
                JournalJob::Free { before } => {
                    assert!(before <= self.segment, "a segment that is still written to");
                    self.commits.retain(|(segment, _)| *segment >= before);
                }
            }
        }
        any
    }

    /// Makes the first `count` commits durable; false if there was none.
    pub fn commit(&mut self, shard: &mut Shard, now: u64, count: usize) -> bool {
        let count = count.min(self.under_way.len());
        for (number, records) in self.under_way.drain(..count) {
            self.commits.push_back((self.segment, records));
            shard.committed(now, number, self.segment);
        }
        count > 0
    }

    /// What the next run reads.
    pub fn replay(&self, into: &mut Shard, now: u64) {
        let log = self.commits.iter().map(|(_, records)| records.clone()).collect();
        into.restore(now, &[log]);
    }
}
