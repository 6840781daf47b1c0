//! What the shard wants to outlive the process, as records for a log that somebody else writes: retained messages; sessions that outlive their connection, with
//! their subscriptions, messages, wills and QoS 2 identifiers.
//!
//! The records of a turn are one commit with a number. An answer that promises what a record holds does not leave before that commit is reported: the
//! connection's output waits (its *gate*), and so do answers to other shards. Nothing else waits.
//!
//! - [`record`]: the records as bytes. [`note`]: what the shard notes where something changes. [`exchange`]: QoS 2 messages that several shards take.
//! - [`rewrite`]: what is live is written anew, a slice a turn, when the log has grown too long, and what lies before it may be deleted.
//! - `keyed`, with the feature `engine-fjall`: the records as changes of keys and values, for a store that is no log.
//! - [`image`]: one log of an earlier run, read. [`restore`]: the shard as the images say.

pub mod exchange;
pub mod image;
#[cfg(feature = "engine-fjall")]
pub mod keyed;
mod note;
pub mod record;
mod restore;
mod rewrite;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use hashbrown::HashMap;

use self::exchange::Taken;
use self::record::Record;
use self::rewrite::Rewrite;
use super::acks::TicketId;
use super::ids::ShardId;
use super::message::Message;
use super::peer::{Exchange, PeerMessage};
use super::session::FixedHasher;
use super::shard::Shard;
use crate::config::Durability;
use crate::mqtt::ReasonCode;

/// What the log's writer is to do, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum JournalJob {
    /// Make this durable and report the number.
    Commit { number: u64, records: Vec<u8> },
    /// Begin a new segment.
    Rotate,
    /// Delete the segments before this one.
    Free { before: u64 },
}

/// Bytes written since the last rewriting, beyond twice the live ones, that begin the next.
const REWRITE_BYTES: u64 = 64 * 1024 * 1024;
/// Memory of written commits that is kept for the next ones, bytes: about what a busy shard has under way.
const SPARE_BYTES: usize = 8 * 1024 * 1024;
/// With more than this on its way to the disk, a shard does not read from its publishers.
const HIGH_WATER_BYTES: u64 = 64 * 1024 * 1024;

/// An answer to another shard that waits for a commit.
#[derive(Debug)]
struct Reply {
    gate: u64,
    shard: ShardId,
    ticket: TicketId,
    code: ReasonCode,
    kept: bool,
}

/// The journal of a shard.
#[derive(Debug)]
pub struct Journal {
    records: Vec<u8>,
    /// Buffers for the records of the next turns, and their bytes: memory that was just used costs less than new one.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    /// Number that `records` will get.
    number: u64,
    committed: u64,
    /// Commits that are not reported: number and bytes.
    under_way: VecDeque<(u64, u64)>,
    under_way_bytes: u64,
    /// Added to the shard's clock: milliseconds since 1970.
    unix_ms: u64,
    /// Connections whose output waits for a commit.
    gated: VecDeque<(u64, u32)>,
    replies: VecDeque<Reply>,
    /// Commits fail at the moment: what needs one is refused.
    failing: bool,
    written_bytes: u64,
    /// Bytes that the last rewriting took: about what is live, sessions and subscriptions included.
    live_bytes: u64,
    /// Of `records`, what counts as live already.
    counted_bytes: u64,
    /// Bytes written since the last rewriting, beyond twice the live ones, that begin the next; `None` where whoever takes the commits keeps what is live.
    rewrite_bytes: Option<u64>,
    /// Length from which on nothing new is taken, bytes. What says that something is over is always written.
    quota_bytes: u64,
    rewrite: Option<Rewrite>,
    jobs: VecDeque<JournalJob>,
    /// The message that was written last, and the number that deliveries name it by; of this turn.
    last_message: Option<Message>,
    message_number: u64,
    /// Clients whose sessions ended, with the commit that says so, until it is durable.
    ended: VecDeque<(u64, Box<str>)>,
    /// QoS 2 messages that shards have taken, of exchanges that are not over.
    taken: HashMap<Exchange, Taken, FixedHasher>,
}

/// The front of a queue, if it is due.
fn pop_if<T>(queue: &mut VecDeque<T>, due: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(due) { queue.pop_front() } else { None }
}

impl Journal {
    /// Whether nothing more can be promised: the disk takes nothing, or the log is as long as it may be.
    pub(in crate::broker) fn is_full(&self) -> bool {
        self.failing || self.length() >= self.quota_bytes
    }

    /// Bytes of the log, about.
    fn length(&self) -> u64 {
        self.live_bytes + self.written_bytes
    }

    /// Whether so much waits for the disk that no more should come in.
    pub(super) fn congested(&self) -> bool {
        self.under_way_bytes > HIGH_WATER_BYTES
    }

    /// The commit that an answer given now has to wait for; `None` if everything is durable.
    pub(in crate::broker) fn due(&self) -> Option<u64> {
        let last = if self.records.is_empty() { self.number - 1 } else { self.number };
        (last > self.committed).then_some(last)
    }

    /// Gives up memory that is only kept for reuse.
    pub(super) fn trim(&mut self) {
        self.spare = Vec::new();
        self.spare_bytes = 0;
    }

    fn put(&mut self, record: &Record<'_>) {
        record.put(&mut self.records);
    }

    /// Forgets what only `records` meant; they are a commit now.
    fn close_commit(&mut self) -> Option<JournalJob> {
        if self.records.is_empty() {
            return None;
        }
        self.last_message = None;
        let number = self.number;
        self.number += 1;
        let bytes = self.records.len() as u64;
        self.written_bytes += bytes.saturating_sub(std::mem::take(&mut self.counted_bytes));
        self.under_way_bytes += bytes;
        self.under_way.push_back((number, bytes));
        let next = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= next.capacity();
        Some(JournalJob::Commit { number, records: std::mem::replace(&mut self.records, next) })
    }

    fn commit_reported(&mut self, number: u64) {
        self.committed = number.max(self.committed);
        self.failing = false;
        while let Some((_, bytes)) = pop_if(&mut self.under_way, |(first, _)| *first <= number) {
            self.under_way_bytes -= bytes;
        }
        while pop_if(&mut self.ended, |(commit, _)| *commit <= number).is_some() {}
    }
}

impl Shard {
    /// From now on the shard keeps a journal. `unix_ms`: the time at 0 of the shard's clock, in milliseconds since 1970.
    pub fn keep_journal(&mut self, unix_ms: u64) {
        self.journal = Some(Box::new(Journal {
            records: Vec::new(),
            spare: Vec::new(),
            spare_bytes: 0,
            number: 1,
            committed: 0,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            unix_ms,
            gated: VecDeque::new(),
            replies: VecDeque::new(),
            failing: false,
            written_bytes: 0,
            live_bytes: 0,
            counted_bytes: 0,
            rewrite_bytes: Some(REWRITE_BYTES),
            quota_bytes: u64::MAX,
            rewrite: None,
            jobs: VecDeque::new(),
            last_message: None,
            message_number: 0,
            ended: VecDeque::new(),
            taken: HashMap::default(),
        }));
    }

    /// How far the journal may grow beyond what is live before it is written anew, bytes; 64 MiB unless told otherwise. `None`: never, also not by
    /// [`Shard::restore`], since whoever takes the commits keeps what is live, and nothing else.
    pub fn rewrite_journal_after(&mut self, bytes: Option<u64>) {
        if let Some(journal) = &mut self.journal {
            journal.rewrite_bytes = bytes;
        }
    }

    /// How long the journal may get before nothing more is taken, bytes.
    pub fn limit_journal(&mut self, bytes: u64) {
        if let Some(journal) = &mut self.journal {
            journal.quota_bytes = bytes;
        }
    }

    /// Whether nothing waits to be written or committed.
    pub fn is_durable(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.due().is_none() && journal.rewrite.is_none() && journal.jobs.is_empty())
    }

    /// The next thing for the log's writer; to be asked at the end of a turn.
    pub fn next_job(&mut self) -> Option<JournalJob> {
        self.rewrite_slice();
        let journal = self.journal.as_mut()?;
        journal.jobs.pop_front().or_else(|| journal.close_commit())
    }

    /// Everything up to `number` is durable, and ends in `segment`.
    pub fn committed(&mut self, now: u64, number: u64, segment: u64) {
        self.now = now;
        let Some(journal) = &mut self.journal else { return };
        journal.commit_reported(number);
        journal.rewrite_committed(number, segment);
        while let Some(journal) = &mut self.journal
            && let Some((_, slot)) = pop_if(&mut journal.gated, |(gate, _)| *gate <= number)
        {
            self.mark_dirty(slot);
        }
        while let Some(journal) = &mut self.journal
            && let Some(Reply { shard, ticket, code, kept, .. }) = pop_if(&mut journal.replies, |reply| reply.gate <= number)
        {
            self.peers.to(shard).messages.push(PeerMessage::PublishDone { ticket, code, kept });
        }
    }

    /// Takes back the memory of commits that are written.
    pub fn reuse_records(&mut self, buffers: Vec<Vec<u8>>) {
        let Some(journal) = &mut self.journal else { return };
        for mut records in buffers {
            if journal.spare_bytes + records.capacity() <= SPARE_BYTES {
                records.clear();
                journal.spare_bytes += records.capacity();
                journal.spare.push(records);
            }
        }
    }

    /// The writer cannot write for the moment; it goes on trying.
    pub fn commit_failing(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.failing = true;
        }
    }

    /// A mark for [`Shard::gate_since`]: whether anything is recorded after it.
    pub(super) fn journal_mark(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.records.len())
    }

    /// Whether anything was recorded since `mark`.
    pub(super) fn recorded_since(&self, mark: usize) -> bool {
        self.journal_mark() > mark
    }

    /// The commit that holds what was recorded since `mark`; 0 if nothing was.
    pub(super) fn commit_since(&self, mark: usize) -> u64 {
        self.journal.as_ref().filter(|journal| journal.records.len() > mark).map_or(0, |journal| journal.number)
    }

    /// Holds a connection's output back until a commit is durable, where its client was promised so.
    pub(super) fn gate(&mut self, slot: u32, commit: u64) {
        if self.connections.slot(slot).is_some_and(|conn| conn.terms.durability == Durability::Commit) {
            self.hold_back(slot, commit);
        }
    }

    /// Holds a connection's output back until a commit is durable.
    pub(super) fn hold_back(&mut self, slot: u32, commit: u64) {
        if let Some(conn) = self.connections.slot_mut(slot) {
            conn.gate = conn.gate.max(commit);
        }
    }

    /// Holds a connection's output back until everything recorded so far is durable.
    pub(super) fn gate_on_all(&mut self, slot: u32) {
        if let Some(due) = self.journal.as_ref().and_then(|journal| journal.due()) {
            self.gate(slot, due);
        }
    }

    /// Whether a connection's output has to wait; then it is looked at again when its commit is reported.
    pub(super) fn is_gated(&mut self, slot: u32, gate: u64) -> bool {
        match &mut self.journal {
            Some(journal) if gate > journal.committed => {
                journal.gated.push_back((gate, slot));
                true
            }
            _ => false,
        }
    }

    /// Answers another shard, after the commit that the answer promises, or at once where that is 0.
    pub(super) fn reply(&mut self, shard: ShardId, ticket: TicketId, code: ReasonCode, kept: bool, gate: u64) {
        match self.journal.as_mut().filter(|journal| gate > journal.committed) {
            Some(journal) => journal.replies.push_back(Reply { gate, shard, ticket, code, kept }),
            None => self.peers.to(shard).messages.push(PeerMessage::PublishDone { ticket, code, kept }),
        }
    }
}
