//! The logs of all shards on one disk: late, sometimes full, and without what it had not synced after a crash.
//!
//! A writer takes what has gathered, is busy with it for a while, and reports the last number, as the real one does. A crash keeps what was reported and
//! the first so many commits of what was being written.

use std::collections::VecDeque;

use ringmq::broker::JournalJob;

use crate::faults::{Fault, Saboteur};
use crate::rng::Rng;

/// Between two tries of a write that failed, ms.
const RETRY_MS: u64 = 200;
/// Percent of the writes that begin a new segment by themselves.
const NEW_SEGMENT_PERCENT: u64 = 3;

/// What a writer tells its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Committed { number: u64, segment: u64 },
    Failing,
}

/// A commit: its number and its records.
type Commit = (u64, Vec<u8>);

/// The log of one shard.
#[derive(Debug, Default)]
pub struct Log {
    /// Jobs that the writer has not taken.
    waiting: VecDeque<JournalJob>,
    /// What it writes, and when that is done or tried again.
    writing: Option<(u64, Vec<Commit>)>,
    /// Commits by segment, in their order.
    durable: Vec<(u64, Vec<u8>)>,
    segment: u64,
}

impl Log {
    /// A new log, which has one segment.
    pub fn new() -> Log {
        Log { segment: 1, ..Log::default() }
    }

    pub fn submit(&mut self, job: JournalJob) {
        self.waiting.push_back(job);
    }

    /// Whether there is nothing left to write.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_none()
    }

    /// What the writer has to report by now. `full_until`: no write succeeds before.
    pub fn work(&mut self, now: u64, delay_ms: u64, full_until: u64, saboteur: &mut Saboteur, rng: &mut Rng) -> Option<Report> {
        self.begin(now, delay_ms, rng);
        let (due, commits) = self.writing.as_mut().filter(|(due, _)| *due <= now)?;
        if now < full_until {
            *due = now + RETRY_MS;
            // What the failed write has left of the segment is unknown.
            self.segment += 1;
            return Some(Report::Failing);
        }
        let number = commits.last().map_or(0, |(number, _)| *number);
        for (_, records) in std::mem::take(commits) {
            if !saboteur.strikes(Fault::LoseCommit, true) {
                self.durable.push((self.segment, records));
            }
        }
        self.writing = None;
        let segment = self.segment;
        self.segment += u64::from(rng.percent(NEW_SEGMENT_PERCENT));
        Some(Report::Committed { number, segment })
    }

    /// Takes what has gathered, up to a job of another kind.
    fn begin(&mut self, now: u64, delay_ms: u64, rng: &mut Rng) {
        while self.writing.is_none() {
            let mut commits = Vec::new();
            while matches!(self.waiting.front(), Some(JournalJob::Commit { .. })) {
                if let Some(JournalJob::Commit { number, records }) = self.waiting.pop_front() {
                    commits.push((number, records));
                }
            }
            if !commits.is_empty() {
                self.writing = Some((now + rng.below(delay_ms + 1), commits));
                return;
            }
            match self.waiting.pop_front() {
                Some(JournalJob::Rotate) => self.segment += 1,
                Some(JournalJob::Free { before }) => self.durable.retain(|(segment, _)| *segment >= before),
                _ => return,
            }
        }
    }

    /// The machine stops: the records of each commit that can be read afterwards.
    pub fn crash(self, rng: &mut Rng) -> Vec<Vec<u8>> {
        let mut left: Vec<_> = self.durable.into_iter().map(|(_, records)| records).collect();
        let writing = self.writing.map_or(Vec::new(), |(_, commits)| commits);
        let kept = rng.index(writing.len() + 1);
        left.extend(writing.into_iter().take(kept).map(|(_, records)| records));
        left
    }
}
