//! What the shard wants to outlive the process, as records for a log that somebody else writes: retained messages, so far.
//!
//! The records of a turn are one commit with a number. An answer that promises what a record holds does not leave before that commit is reported: the
//! connection's output waits (its *gate*), and so do answers to other shards. Nothing else waits. When the log has grown to several times of what is live,
//! everything live is written anew, a slice a turn, and what lies before it may be deleted.

use std::collections::VecDeque;

use super::acks::TicketId;
use super::ids::ShardId;
use super::message::{Incoming, NEVER};
use super::peer::PeerMessage;
use super::publish::is_sys;
use super::retained::Cursor;
use super::session::owner_of;
use super::shard::Shard;
use crate::mqtt::{QoS, ReasonCode};

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
/// Messages that one turn rewrites.
const REWRITE_SLICE: usize = 512;

const SET: u8 = 1;
const CLEAR: u8 = 2;

/// Rewriting what is live, to be rid of what is not.
#[derive(Debug)]
struct Rewrite {
    cursor: Cursor,
    /// The segment that it began in, once a commit has told.
    first_segment: Option<u64>,
    /// The commit that completes it.
    last_number: Option<u64>,
}

/// The journal of a shard.
#[derive(Debug)]
pub struct Journal {
    records: Vec<u8>,
    /// Number that `records` will get.
    number: u64,
    committed: u64,
    /// Added to the shard's clock: milliseconds since 1970.
    unix_ms: u64,
    /// Connections whose output waits for a commit.
    gated: VecDeque<(u64, u32)>,
    /// Answers to other shards that wait for a commit.
    replies: VecDeque<(u64, ShardId, TicketId, ReasonCode)>,
    /// Commits fail at the moment: what needs one is refused.
    failing: bool,
    written_bytes: u64,
    rewrite: Option<Rewrite>,
    jobs: VecDeque<JournalJob>,
}

impl Journal {
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    /// The commit that an answer given now has to wait for; `None` if everything is durable.
    pub(super) fn due(&self) -> Option<u64> {
        let last = if self.records.is_empty() { self.number - 1 } else { self.number };
        (last > self.committed).then_some(last)
    }

    fn set(&mut self, publish: &Incoming<'_>) {
        let expires = if publish.expires_at == NEVER { NEVER } else { publish.expires_at + self.unix_ms };
        self.records.push(SET);
        self.records.push(publish.qos as u8);
        self.records.extend_from_slice(&expires.to_le_bytes());
        for part in [publish.topic.as_bytes(), publish.forward, publish.payload] {
            put(&mut self.records, part);
        }
    }

    fn clear(&mut self, topic: &str) {
        self.records.push(CLEAR);
        put(&mut self.records, topic.as_bytes());
    }
}

fn put(records: &mut Vec<u8>, bytes: &[u8]) {
    records.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    records.extend_from_slice(bytes);
}

/// Takes a part off the front; `None` where the records end too early.
fn take<'a>(records: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, rest) = records.split_at_checked(length)?;
    *records = rest;
    Some(part)
}

fn take_part<'a>(records: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(records, 4)?.try_into().ok()?);
    take(records, length as usize)
}

/// A record as it was read.
enum Record<'a> {
    Set { publish: Incoming<'a>, expires_unix_ms: u64 },
    Clear { topic: &'a str },
}

/// The next record; `None` at the end, or where something is no record.
fn next_record<'a>(records: &mut &'a [u8]) -> Option<Record<'a>> {
    match take(records, 1)? {
        [SET] => {
            let qos = QoS::from_bits(take(records, 1)?[0])?;
            let expires_unix_ms = u64::from_le_bytes(take(records, 8)?.try_into().ok()?);
            let topic = std::str::from_utf8(take_part(records)?).ok()?;
            let (forward, payload) = (take_part(records)?, take_part(records)?);
            let publish = Incoming { topic, payload, forward, qos, retain: true, expires_at: NEVER };
            Some(Record::Set { publish, expires_unix_ms })
        }
        [CLEAR] => Some(Record::Clear { topic: std::str::from_utf8(take_part(records)?).ok()? }),
        _ => None,
    }
}

impl Shard {
    /// From now on the shard keeps a journal. `unix_ms`: the time at 0 of the shard's clock, in milliseconds since 1970.
    pub fn keep_journal(&mut self, unix_ms: u64) {
        self.journal = Some(Box::new(Journal {
            records: Vec::new(),
            number: 1,
            committed: 0,
            unix_ms,
            gated: VecDeque::new(),
            replies: VecDeque::new(),
            failing: false,
            written_bytes: 0,
            rewrite: None,
            jobs: VecDeque::new(),
        }));
    }

    /// Takes in one commit of an earlier run, whatever shard wrote it: what belongs here. Commits must come in their order.
    pub fn restore(&mut self, now: u64, mut records: &[u8]) {
        self.now = now;
        let Some(unix_ms) = self.journal.as_ref().map(|journal| journal.unix_ms) else { return };
        while let Some(record) = next_record(&mut records) {
            match record {
                Record::Set { publish, expires_unix_ms } if owner_of(publish.topic, self.shards) == self.id => {
                    let expires_at = if expires_unix_ms == NEVER { NEVER } else { expires_unix_ms.saturating_sub(unix_ms) };
                    if expires_at > now {
                        self.set_retained(&Incoming { expires_at, ..publish });
                    } else {
                        self.clear_retained(publish.topic);
                    }
                }
                Record::Clear { topic } => self.clear_retained(topic),
                Record::Set { .. } => {}
            }
        }
    }

    /// All commits are taken in: everything live is written to the new log. Once [`Shard::is_durable`], the old one is not needed any more.
    pub fn restored(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.rewrite = Some(Rewrite { cursor: Cursor::everything(), first_segment: None, last_number: None });
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
        if let Some(job) = journal.jobs.pop_front() {
            return Some(job);
        }
        if journal.records.is_empty() {
            return None;
        }
        let number = journal.number;
        journal.number += 1;
        journal.written_bytes += journal.records.len() as u64;
        Some(JournalJob::Commit { number, records: std::mem::take(&mut journal.records) })
    }

    /// Everything up to `number` is durable, and ends in `segment`.
    pub fn committed(&mut self, now: u64, number: u64, segment: u64) {
        self.now = now;
        let Some(journal) = &mut self.journal else { return };
        journal.committed = number.max(journal.committed);
        journal.failing = false;
        if let Some(rewrite) = &mut journal.rewrite {
            let first = *rewrite.first_segment.get_or_insert(segment);
            if rewrite.last_number.is_some_and(|last| last <= number) {
                journal.rewrite = None;
                journal.jobs.push_back(JournalJob::Free { before: first });
            }
        }
        while let Some(&(gate, slot)) = self.journal.as_ref().and_then(|journal| journal.gated.front()).filter(|(gate, _)| *gate <= number)
        {
            if let Some(journal) = &mut self.journal {
                journal.gated.pop_front();
            }
            debug_assert!(gate <= number);
            self.mark_dirty(slot);
        }
        while let Some(journal) = &mut self.journal
            && let Some(&(gate, shard, ticket, code)) = journal.replies.front()
            && gate <= number
        {
            journal.replies.pop_front();
            self.peers.to(shard).messages.push(PeerMessage::PublishDone { ticket, code });
        }
    }

    /// The writer cannot write for the moment; it goes on trying.
    pub fn commit_failing(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.failing = true;
        }
    }

    /// Notes that a topic's retained message changed; `None`: it is gone.
    pub(super) fn journal_retained(&mut self, topic: &str, publish: Option<&Incoming<'_>>) {
        // What the broker says of itself is made anew by the next run.
        let Some(journal) = self.journal.as_mut().filter(|_| !is_sys(topic)) else { return };
        match publish {
            Some(publish) => journal.set(publish),
            None => journal.clear(topic),
        }
    }

    /// A mark for [`Shard::gate_since`]: whether anything is recorded after it.
    pub(super) fn journal_mark(&self) -> usize {
        self.journal.as_ref().map_or(0, |journal| journal.records.len())
    }

    /// Holds a connection's output back until what was recorded since `mark` is durable.
    pub(super) fn gate_since(&mut self, slot: u32, mark: usize) {
        let Some(journal) = self.journal.as_ref().filter(|journal| journal.records.len() > mark) else { return };
        if let Some(conn) = self.connections.slot_mut(slot) {
            conn.gate = journal.number;
        }
    }

    /// Holds a connection's output back until everything that was recorded so far is durable.
    pub(super) fn gate_all(&mut self, slot: u32) {
        let Some(due) = self.journal.as_ref().and_then(|journal| journal.due()) else { return };
        if let Some(conn) = self.connections.slot_mut(slot) {
            conn.gate = due;
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

    /// Answers another shard, after the commit that the answer promises.
    pub(super) fn reply(&mut self, shard: ShardId, ticket: TicketId, code: ReasonCode) {
        match self.journal.as_mut().and_then(|journal| Some((journal.due()?, journal))) {
            Some((due, journal)) => journal.replies.push_back((due, shard, ticket, code)),
            None => self.peers.to(shard).messages.push(PeerMessage::PublishDone { ticket, code }),
        }
    }

    /// Begins to rewrite the log when it has grown too long, or goes on with it.
    fn rewrite_slice(&mut self) {
        let live = self.retained_bytes;
        let Some(journal) = &mut self.journal else { return };
        if journal.rewrite.is_none() && journal.written_bytes > 2 * live + REWRITE_BYTES {
            journal.jobs.push_back(JournalJob::Rotate);
            journal.rewrite = Some(Rewrite { cursor: Cursor::everything(), first_segment: None, last_number: None });
            journal.written_bytes = 0;
            return;
        }
        let Some(mut rewrite) = journal.rewrite.take_if(|rewrite| rewrite.last_number.is_none()) else { return };
        let done = self.retained.next_batch(&mut rewrite.cursor, REWRITE_SLICE, |topic, message| {
            if !is_sys(topic) {
                journal.set(&message.as_incoming());
            }
            true
        });
        if done {
            // An empty store has nothing to commit; then there is nothing to wait for either.
            rewrite.last_number = journal.due();
        }
        if !done || rewrite.last_number.is_some() {
            journal.rewrite = Some(rewrite);
        }
    }
}
