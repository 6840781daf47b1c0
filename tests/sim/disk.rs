//! The logs of all shards on one disk: late, sometimes full, forgetful where nothing was synced, and in some worlds rotten.
//!
//! A writer takes what has gathered, writes it in one piece, is busy with that for a while, and reports the last number, as the real one does, in segments of
//! the real format. A write that fails leaves any of its sectors behind, and a later sync says nothing of that. A crash leaves any of what was not
//! synced: nothing, a beginning, or a sector here and there, with zeros or anything between them. Segments are deleted one by one, the oldest first.

use std::collections::{BTreeSet, VecDeque};

use ringmq::broker::JournalJob;
use ringmq::storage::commits::Commits;
use ringmq::storage::frame::{self, Frame};

use crate::faults::{Fault, Saboteur};
use crate::rng::Rng;

/// Between two tries of a write that failed, ms.
const RETRY_MS: u64 = 200;
/// What the disk writes as a whole, bytes; small, since the messages are.
const SECTORS: [usize; 3] = [16, 64, 512];
/// Percent of the writes that begin a new segment by themselves.
const NEW_SEGMENT_PERCENT: u64 = 3;
/// Bytes of a segment that rot at once, at most.
const ROTTEN_BYTES: u64 = 20;

/// What a writer tells its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Committed { number: u64, segment: u64 },
    Failing,
}

/// What is left of a log after a crash.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The records of each commit that counts.
    pub commits: Vec<Vec<u8>>,
    /// Bytes that were durable and are not what they were.
    pub rotten: usize,
    /// Bytes that are no commit.
    pub damaged: usize,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    bytes: Vec<u8>,
    /// So many of them outlive a crash.
    synced: usize,
}

/// What the writer is busy with.
#[derive(Debug)]
struct Write {
    /// When it is done, or has failed.
    due: u64,
    commits: Vec<(u64, Vec<u8>)>,
}

/// The log of one shard.
#[derive(Debug)]
pub struct Log {
    /// Jobs that the writer has not taken.
    waiting: VecDeque<JournalJob>,
    writing: Option<Write>,
    segments: Vec<Segment>,
    /// Segments that were deleted last: a crash may have come in between.
    deleted: Vec<Segment>,
    /// The last commit that is durable.
    synced: u64,
    /// See [`SECTORS`].
    sector: usize,
}

impl Log {
    /// A new log, which has one segment.
    pub fn new(seed: u64) -> Log {
        let first = Segment { number: 1, bytes: Vec::new(), synced: 0 };
        let sector = SECTORS[(seed % 3) as usize];
        Log { waiting: VecDeque::new(), writing: None, segments: vec![first], deleted: Vec::new(), synced: 0, sector }
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
        self.begin(now, delay_ms, saboteur, rng);
        let mut write = self.writing.take_if(|write| write.due <= now)?;
        if now < full_until {
            write.due = now + RETRY_MS;
            self.lose_sectors(self.segments.len() - 1, rng);
            if !saboteur.strikes(Fault::TrustSync, true) {
                self.begin_segment();
                self.append(&write.commits);
            }
            self.writing = Some(write);
            return Some(Report::Failing);
        }
        let number = write.commits.last().map_or(0, |(number, _)| *number);
        self.synced = number;
        self.deleted.clear();
        let last = self.last();
        if saboteur.strikes(Fault::LoseCommit, true) {
            let synced = last.synced;
            last.bytes[synced..].fill(0);
        }
        if !saboteur.strikes(Fault::ForgetSync, true) {
            last.synced = last.bytes.len();
        }
        let segment = last.number;
        if rng.percent(NEW_SEGMENT_PERCENT) {
            self.begin_segment();
        }
        Some(Report::Committed { number, segment })
    }

    fn last(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("a log has a segment")
    }

    fn begin_segment(&mut self) {
        let number = self.last().number + 1;
        self.segments.push(Segment { number, bytes: Vec::new(), synced: 0 });
    }

    fn append(&mut self, commits: &[(u64, Vec<u8>)]) {
        let synced = self.synced;
        let last = self.last();
        for (number, payload) in commits {
            frame::put(&mut last.bytes, last.number, Frame { number: *number, synced, payload });
        }
    }

    /// Takes what has gathered, up to a job of another kind.
    fn begin(&mut self, now: u64, delay_ms: u64, saboteur: &mut Saboteur, rng: &mut Rng) {
        while self.writing.is_none() {
            let mut commits = Vec::new();
            while matches!(self.waiting.front(), Some(JournalJob::Commit { .. })) {
                if let Some(JournalJob::Commit { number, records }) = self.waiting.pop_front() {
                    commits.push((number, records));
                }
            }
            if !commits.is_empty() {
                self.append(&commits);
                self.writing = Some(Write { due: now + rng.below(delay_ms + 1), commits });
                return;
            }
            match self.waiting.pop_front() {
                Some(JournalJob::Rotate) => self.begin_segment(),
                Some(JournalJob::Free { before }) => {
                    let freed = self.segments.partition_point(|segment| segment.number < before);
                    self.deleted = self.segments.drain(..freed).collect();
                    if saboteur.strikes(Fault::DeleteNewest, true) {
                        self.segments.splice(..0, self.deleted.drain(..freed / 2));
                    }
                    self.deleted.drain(..rng.index(self.deleted.len() + 1));
                }
                _ => return,
            }
        }
    }

    /// Of what is not synced of a segment, any sectors are lost. The rest stays, and no sync brings those back.
    fn lose_sectors(&mut self, index: usize, rng: &mut Rng) {
        let sector = self.sector;
        let segment = &mut self.segments[index];
        let garbage = rng.percent(30);
        let mut at = segment.synced;
        while at < segment.bytes.len() {
            let end = ((at / sector + 1) * sector).min(segment.bytes.len());
            if rng.percent(50) {
                segment.bytes[at..end].iter_mut().for_each(|byte| *byte = if garbage { rng.below(256) as u8 } else { 0 });
            }
            at = end;
        }
        segment.synced = segment.bytes.len();
    }

    /// The machine stops. `rots`: what was durable is not all there either.
    pub fn crash(mut self, rots: bool, rng: &mut Rng) -> Left {
        for index in 0..self.segments.len() {
            let (length, synced) = (self.segments[index].bytes.len(), self.segments[index].synced);
            match rng.below(3) {
                0 => self.segments[index].bytes.truncate(synced),
                1 => self.segments[index].bytes.truncate(rng.range(synced as u64, length as u64) as usize),
                _ => self.lose_sectors(index, rng),
            }
        }
        let mut left = Left::default();
        let mut commits = Commits::default();
        for segment in self.deleted.iter_mut().chain(&mut self.segments) {
            if rots {
                left.rotten += rot(&mut segment.bytes, rng);
            }
            let scan = frame::scan(&segment.bytes, segment.number);
            scan.frames.iter().for_each(|frame| commits.add(frame));
            left.damaged += scan.damaged.iter().map(|range| range.len()).sum::<usize>();
        }
        left.commits = commits.finish();
        left
    }
}

/// Flips a bit here and there; gives the number of bytes that changed.
fn rot(bytes: &mut [u8], rng: &mut Rng) -> usize {
    let places: BTreeSet<usize> = (0..rng.range(1, ROTTEN_BYTES)).map(|_| rng.index(bytes.len())).filter(|&at| at < bytes.len()).collect();
    for &at in &places {
        bytes[at] ^= 1 << rng.below(8);
    }
    places.len()
}
