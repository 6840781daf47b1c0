//! Writing what is live anew, to be rid of what is not: a slice a turn, beside the changes. Whatever was written since the beginning of a rewriting, together
//! with the rewriting, says everything; so what lies before may go when both are durable.

use super::note::share_text;
use super::record::Record;
use super::{Journal, JournalJob};
use crate::broker::publish::is_sys;
use crate::broker::retained::Cursor;
use crate::broker::session::{Kept, Subscription};
use crate::broker::shard::Shard;
use crate::broker::topics::{Subscriber, Topics};

/// Retained messages or deliveries that one turn rewrites at most, and about how many bytes.
const SLICE: usize = 512;
const SLICE_BYTES: usize = 256 * 1024;

/// How far the rewriting has come.
#[derive(Debug)]
enum Stage {
    Retained(Cursor),
    /// The session at this index, from behind this delivery.
    Sessions {
        index: u32,
        after: u64,
    },
    Written,
}

/// Rewriting what is live.
#[derive(Debug)]
pub struct Rewrite {
    stage: Stage,
    /// The segment that it began in, once a commit has told.
    first_segment: Option<u64>,
    /// The commit that completes it.
    last_number: Option<u64>,
}

impl Rewrite {
    pub fn everything() -> Rewrite {
        Rewrite { stage: Stage::Retained(Cursor::everything()), first_segment: None, last_number: None }
    }
}

impl Journal {
    /// Whether it is worth the trouble to write what is live anew: much has been written since the last time; or half the quota is used, and some
    /// has; or all of it, and a little: the word that a message is done with is short, and gives all of its room back.
    fn is_too_long(&self) -> bool {
        let Some(beyond) = self.rewrite_bytes else { return false };
        self.written_bytes > 2 * self.live_bytes + beyond
            || self.length() > self.quota_bytes / 2 && self.written_bytes > self.live_bytes / 4 + self.quota_bytes / 16
            || self.length() >= self.quota_bytes && self.written_bytes > self.quota_bytes / 128
    }

    /// Whether there is more to be written anew.
    pub(in crate::broker) fn is_rewriting(&self) -> bool {
        self.rewrite.as_ref().is_some_and(|rewrite| rewrite.last_number.is_none())
    }

    /// A commit is durable and ends in this segment: with the last of the rewriting, what lies before it can go.
    pub(super) fn rewrite_committed(&mut self, number: u64, segment: u64) {
        let Some(rewrite) = &mut self.rewrite else { return };
        let first = *rewrite.first_segment.get_or_insert(segment);
        if rewrite.last_number.is_some_and(|last| last <= number) {
            self.rewrite = None;
            self.jobs.push_back(JournalJob::Free { before: first });
        }
    }
}

impl Shard {
    /// Begins to rewrite the log when it has grown too long, or goes on with it.
    pub(super) fn rewrite_slice(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if journal.rewrite.is_none() && journal.is_too_long() {
            journal.jobs.push_back(JournalJob::Rotate);
            journal.rewrite = Some(Rewrite::everything());
            journal.written_bytes = 0;
            return;
        }
        let Some(mut rewrite) = journal.rewrite.take_if(|rewrite| rewrite.last_number.is_none()) else { return };
        rewrite.stage = match rewrite.stage {
            Stage::Retained(cursor) => self.rewrite_retained(cursor),
            Stage::Sessions { index, after } => self.rewrite_sessions(index, after),
            Stage::Written => Stage::Written,
        };
        let Some(journal) = &mut self.journal else { return };
        let done = matches!(rewrite.stage, Stage::Written);
        if done {
            // The last of it is written with the commit that is being gathered: it must not count twice, or the log would be too long again at once.
            journal.counted_bytes = journal.records.len() as u64;
            journal.live_bytes = std::mem::take(&mut journal.written_bytes) + journal.counted_bytes;
            // With nothing live there is nothing to commit and to wait for.
            rewrite.last_number = journal.due();
        }
        if !done || rewrite.last_number.is_some() {
            journal.rewrite = Some(rewrite);
        }
    }

    fn rewrite_retained(&mut self, mut cursor: Cursor) -> Stage {
        let Some(journal) = &mut self.journal else { return Stage::Written };
        let done = self.retained.next_batch(&mut cursor, SLICE, |message| {
            if !is_sys(message.topic()) {
                journal.put_retained(message.as_incoming());
            }
            true
        });
        if !done {
            return Stage::Retained(cursor);
        }
        for (exchange, taken) in &journal.taken {
            taken.put(*exchange, &mut journal.records);
        }
        Stage::Sessions { index: 0, after: 0 }
    }

    fn rewrite_sessions(&mut self, mut index: u32, mut after: u64) -> Stage {
        let start = self.journal_mark();
        let mut room = SLICE;
        while index < self.sessions.end() {
            if after == 0 {
                self.rewrite_head(index);
            }
            match self.rewrite_deliveries(index, after, &mut room) {
                Some(last) => after = last,
                None => (index, after, room) = (index + 1, 0, room.saturating_sub(1)),
            }
            if room == 0 || self.journal_mark() - start > SLICE_BYTES {
                return Stage::Sessions { index, after };
            }
        }
        Stage::Written
    }

    /// A session but for its messages.
    fn rewrite_head(&mut self, index: u32) {
        let (Some(journal), Some(session)) = (&mut self.journal, self.sessions.get(index)) else { return };
        let id = session.durable_id();
        if id == 0 {
            return;
        }
        journal.put_session(session);
        for &subscription in &session.subscriptions {
            let Some((filter, Subscriber { subscription_id, options, .. })) = describe(&self.topics, subscription, index) else { continue };
            journal.put(&Record::Subscribed { session: id, subscription_id, options: options.bits(), filter: &filter });
        }
        for (packet_id, kept) in session.received.iter().flat_map(|received| received.kept()) {
            journal.put(&Record::Received { session: id, packet_id, elsewhere: kept == Kept::Elsewhere });
        }
    }

    /// Deliveries of a session; gives the last one if there are more.
    fn rewrite_deliveries(&mut self, index: u32, after: u64, room: &mut usize) -> Option<u64> {
        let (Some(journal), Some(session)) = (&mut self.journal, self.sessions.get(index)) else { return None };
        let (id, outgoing) = (session.durable_id(), session.outgoing.as_ref()?);
        if id == 0 {
            return None;
        }
        let mut last = after;
        let mut last_sent = None;
        for (number, delivery, sent) in outgoing.unfinished_after(after) {
            if *room == 0 {
                break;
            }
            *room -= 1;
            last = number;
            match delivery {
                Some(delivery) => journal.put_delivery(id, number, delivery, &share_text(&self.topics, delivery)),
                None => journal.put(&Record::Released { session: id, number }),
            }
            last_sent = if sent { Some(number) } else { last_sent };
        }
        if let Some(number) = last_sent {
            journal.put(&Record::Sent { session: id, number });
        }
        (*room == 0).then_some(last)
    }
}

/// What a session's subscription asks for, and its filter.
fn describe(topics: &Topics, subscription: Subscription, session: u32) -> Option<(String, Subscriber)> {
    match subscription {
        Subscription::Filter(filter) => Some((topics.filter(filter).into_owned(), topics.subscriber(filter, session)?)),
        Subscription::Shared(group) => Some((topics.text_of_share(group)?, topics.member(group, session)?)),
    }
}
