//! QoS 2 messages that sessions of several shards get, exactly once even if the broker dies in between.
//!
//! The shards of the subscribers commit the message before the shard of the publisher commits the packet identifier. Dies the broker between the two, the
//! publisher sends its message again, and only the shards of the subscribers know that they have it: so each notes the exchange in the commit that holds the
//! message. The note goes when the publisher has released the identifier; PUBCOMP waits for that, because a new message may follow it under the same identifier.
//!
//! A message that some sessions have taken and others refused, their queues being full, is noted as well, with those that refused it: it is sent again where
//! its publisher cannot be told (3.x), or was not told because the broker died. That note goes when the identifier is used for a new message, which has no
//! DUP; when so many others were refused that the publisher must have heard of this one; or with its session.

use std::hash::BuildHasher;

use smallvec::SmallVec;

use super::record::Record;
use crate::broker::acks::{AnswerTo, Ticket, TicketId};
use crate::broker::ids::{ConnId, ShardId};
use crate::broker::message::Incoming;
use crate::broker::peer::{Exchange, PeerMessage};
use crate::broker::session::{FixedHasher, Kept, Received, Refusal, home_of};
use crate::broker::shard::Shard;
use crate::config::Durability;
use crate::mqtt::ReasonCode;

/// Sessions of one shard that may refuse a message before it is not noted any more who they were.
const MAX_REFUSED: usize = 64;

/// Refused messages of a session that are remembered at least: 3.x knows no Receive Maximum, so its clients may have more of them under way.
const MAX_REFUSALS: usize = 1_024;

/// Names of clients or of shared subscriptions, the same in every run: see [`name_of`].
pub type Names = SmallVec<[u64; 1]>;

/// The sessions of one shard, as the shards were then, but those that refused; and the shared subscriptions that it served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBy {
    pub shard: u16,
    pub shards: u16,
    pub refused: Names,
    pub shares: Names,
}

/// Who has taken the message of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    digest: u64,
    by: SmallVec<[TakenBy; 1]>,
}

impl Taken {
    /// One more, or the same once more; where the message is another one, what was said of the old one is void.
    pub fn add(&mut self, digest: u64, mut by: TakenBy) {
        if self.digest != digest {
            *self = Taken { digest, by: SmallVec::new() };
        }
        match self.by.iter_mut().find(|known| (known.shard, known.shards) == (by.shard, by.shards)) {
            Some(known) => {
                // Who has it keeps it, and whoever refused it may take it later: the logs that say so may be read in any order.
                known.refused.retain(|name| by.refused.contains(name));
                by.shares.retain(|share| !known.shares.contains(share));
                known.shares.extend(by.shares);
            }
            None => self.by.push(by),
        }
    }

    pub fn merge(&mut self, other: Taken) {
        other.by.into_iter().for_each(|by| self.add(other.digest, by));
    }

    /// Whether the session of this client has the message, or does not get it.
    pub fn covers(&self, client_id: &str) -> bool {
        self.by.iter().any(|by| home_of(client_id, by.shards) == ShardId(by.shard) && !by.refused.contains(&name_of(client_id)))
    }

    /// Whether a member of this shared subscription has it.
    pub fn covers_share(&self, text: &str) -> bool {
        self.by.iter().any(|by| by.shares.contains(&name_of(text)))
    }

    /// Appends it as records.
    pub fn put(&self, Exchange { session, packet_id }: Exchange, records: &mut Vec<u8>) {
        for by in &self.by {
            Record::Taken { session, packet_id, digest: self.digest, by: by.clone() }.put(records);
        }
    }
}

/// What became of a message on this shard, as far as its exchange has to know.
#[derive(Debug, Default)]
pub struct Part {
    took: bool,
    refused: Names,
    shares: Names,
}

impl Part {
    /// A session was to get the message by its own subscriptions.
    pub fn add(&mut self, client_id: &str, refused: bool) {
        self.took |= !refused;
        // One more than is kept says that there were too many.
        if refused && self.refused.len() <= MAX_REFUSED {
            self.refused.push(name_of(client_id));
        }
    }

    /// A member of a shared subscription took it.
    pub fn add_share(&mut self, text: &str) {
        self.took = true;
        self.shares.push(name_of(text));
    }

    pub fn took(&self) -> bool {
        self.took
    }
}

/// A client or a shared subscription in short.
fn name_of(text: &str) -> u64 {
    FixedHasher::default().hash_one(text)
}

/// Tells a repetition from a new message under the same identifier.
fn digest(incoming: &Incoming<'_>) -> u64 {
    FixedHasher::default().hash_one((incoming.topic, incoming.payload))
}

impl Shard {
    /// What has to be remembered of a QoS 2 publish of this session; `None` where its state ends with the process.
    pub(in crate::broker) fn exchange_of(&self, session: u32, packet_id: u16) -> Option<Exchange> {
        let session = self.sessions.get(session)?.durable_id();
        (session != 0 && self.journal.is_some()).then_some(Exchange { session, packet_id })
    }

    /// Who has taken this message before, in an earlier run of the broker.
    pub(in crate::broker) fn taken_before(&self, exchange: Option<Exchange>, incoming: &Incoming<'_>) -> Option<Taken> {
        let taken = self.journal.as_ref()?.taken.get(&exchange?)?;
        (taken.digest == digest(incoming)).then(|| taken.clone())
    }

    /// The message of this exchange is taken, but where it was refused; to be noted in the commit that holds it. False if it is not noted.
    pub(in crate::broker) fn note_taken(&mut self, exchange: Exchange, incoming: &Incoming<'_>, part: Part) -> bool {
        let Some(journal) = self.journal.as_mut().filter(|_| part.refused.len() <= MAX_REFUSED) else { return false };
        let (digest, Part { refused, shares, .. }) = (digest(incoming), part);
        let by = TakenBy { shard: self.id.0, shards: self.shards, refused, shares };
        let taken = journal.taken.entry(exchange).or_default();
        taken.add(digest, by);
        // With what was noted of this shard before: a store of keys has the last note only.
        let own = taken.by.iter().find(|by| (by.shard, by.shards) == (self.id.0, self.shards)).cloned();
        if let Some(by) = own {
            journal.put(&Record::Taken { session: exchange.session, packet_id: exchange.packet_id, digest, by });
        }
        true
    }

    fn forget_taken(&mut self, Exchange { session, packet_id }: Exchange) {
        let Some(journal) = &mut self.journal else { return };
        if journal.taken.remove(&Exchange { session, packet_id }).is_some() {
            journal.put(&Record::TakenEnded { session, packet_id });
        }
    }

    /// The publisher's shard has no more need of the note.
    pub(in crate::broker) fn on_forget(&mut self, from: ShardId, exchange: Exchange, ticket: Option<TicketId>) {
        let mark = self.journal_mark();
        self.forget_taken(exchange);
        if let Some(ticket) = ticket {
            self.reply(from, ticket, ReasonCode::SUCCESS, false, self.commit_since(mark));
        }
    }

    /// A QoS 2 message of a client is in its place everywhere: its identifier is kept if anything of the message is.
    pub(in crate::broker) fn note_received(&mut self, index: u32, packet_id: u16, kept: Kept) -> Kept {
        let Some(exchange) = self.exchange_of(index, packet_id) else { return Kept::Nowhere };
        // What an earlier run left may stand in the journal of any shard.
        let left = self.journal.as_ref().is_some_and(|journal| journal.taken.contains_key(&exchange));
        let kept = if left { Kept::Elsewhere } else { kept };
        if kept == Kept::Nowhere {
            return kept;
        }
        // The publisher's own shard has the identifier itself from now on.
        self.forget_taken(exchange);
        if let Some(journal) = &mut self.journal {
            journal.put(&Record::Received { session: exchange.session, packet_id, elsewhere: kept == Kept::Elsewhere });
        }
        kept
    }

    /// A new exchange begins, or one that was interrupted or refused begins again: then with true, if some may have taken its message.
    pub(in crate::broker) fn begin_exchange(&mut self, index: u32, packet_id: u16, dup: bool, incoming: &Incoming<'_>) -> bool {
        let Some(exchange) = self.exchange_of(index, packet_id) else { return false };
        let received = self.sessions.get(index).and_then(|session| session.received.as_ref());
        let refusal = received.and_then(|received| received.refused(packet_id)).filter(|refusal| refusal.noted);
        let left = self.journal.as_ref().is_some_and(|journal| journal.taken.contains_key(&exchange));
        if refusal.is_none() && !left {
            return false;
        }
        let same =
            refusal.is_some_and(|refusal| refusal.message == incoming.digest()) || self.taken_before(Some(exchange), incoming).is_some();
        if dup && same {
            return true;
        }
        // Nobody is to take it for a repetition.
        self.forget_exchange(exchange);
        false
    }

    /// A QoS 2 message of a client was refused. `noted`: some shard has noted who took it all the same.
    pub(in crate::broker) fn note_refused(&mut self, index: u32, packet_id: u16, noted: bool, refusal: Refusal) {
        let left = self.exchange_of(index, packet_id).is_some_and(|exchange| {
            let taken = self.journal.as_ref().map(|journal| &journal.taken);
            taken.is_some_and(|taken| taken.contains_key(&exchange))
        });
        let most = usize::from(self.limits.receive_maximum).max(MAX_REFUSALS);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let forgotten = session.received().refuse(packet_id, Refusal { noted: noted || left, ..refusal }, most);
        if let Some(exchange) = forgotten.and_then(|packet_id| self.exchange_of(index, packet_id)) {
            self.forget_exchange(exchange);
        }
    }

    /// The client knows that its message was refused, or has forgotten it.
    pub(in crate::broker) fn forget_refused(&mut self, index: u32, packet_id: u16) {
        let received = self.sessions.get_mut(index).and_then(|session| session.received.as_mut());
        let noted = received.and_then(|received| received.forget_refused(packet_id)).is_some_and(|refusal| refusal.noted);
        if let Some(exchange) = self.exchange_of(index, packet_id).filter(|_| noted) {
            self.forget_exchange(exchange);
        }
    }

    fn forget_exchange(&mut self, exchange: Exchange) {
        self.forget_taken(exchange);
        self.forget_elsewhere(exchange, None);
    }

    /// A session ends: nobody has to remember its exchanges.
    pub(in crate::broker) fn forget_exchanges(&mut self, index: u32) {
        let Some(received) = self.sessions.get(index).and_then(|session| session.received.as_ref()) else { return };
        let elsewhere = received.kept().filter(|(_, kept)| *kept == Kept::Elsewhere).map(|(packet_id, _)| packet_id);
        let noted: Vec<u16> = elsewhere.chain(received.noted()).collect();
        for exchange in noted.into_iter().filter_map(|packet_id| self.exchange_of(index, packet_id)).collect::<Vec<_>>() {
            self.forget_exchange(exchange);
        }
    }

    /// Tells all other shards, in the ring behind the publish and before whatever follows.
    pub(in crate::broker) fn forget_elsewhere(&mut self, exchange: Exchange, ticket: Option<TicketId>) {
        for shard in (0..self.shards).map(ShardId).filter(|&shard| shard != self.id) {
            if let Some(ticket) = ticket {
                self.tickets.wait(ticket);
            }
            self.peers.to(shard).messages.push(PeerMessage::Forget { exchange, ticket });
        }
    }

    /// PUBREL for an identifier that other shards keep too: PUBCOMP leaves when they have forgotten it.
    pub(in crate::broker) fn release_elsewhere(&mut self, id: ConnId, index: u32, packet_id: u16) {
        let Some(exchange) = self.exchange_of(index, packet_id) else { return };
        let Some(session) = self.sessions.get_mut(index) else { return };
        let answer = AnswerTo::Release { conn: id, session: index, session_generation: session.generation, packet_id };
        let ticket = self.tickets.open(Ticket::new(answer, ReasonCode::SUCCESS, Durability::Commit));
        session.received().set(packet_id, Received::Ending(ticket));
        self.forget_elsewhere(exchange, Some(ticket));
        self.settle(ticket, ReasonCode::SUCCESS);
    }

    /// PUBREL ends what was kept of an identifier; PUBCOMP must not leave before that is durable, or the next message under it might pass for a repetition.
    pub(in crate::broker) fn note_received_ended(&mut self, index: u32, packet_id: u16, slot: u32) {
        let Some(exchange) = self.exchange_of(index, packet_id) else { return };
        self.forget_taken(exchange);
        if let Some(journal) = &mut self.journal {
            journal.put(&Record::ReceivedEnded { session: exchange.session, packet_id });
            self.gate_on_all(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(refused: &[&str], shares: &[&str]) -> TakenBy {
        let names = |texts: &[&str]| texts.iter().map(|text| name_of(text)).collect();
        TakenBy { shard: 0, shards: 1, refused: names(refused), shares: names(shares) }
    }

    #[test]
    fn what_a_session_took_later_counts_in_whatever_order_the_logs_are_read() {
        let (earlier, later) = (note(&["a", "b"], &["$share/g/t"]), note(&["b"], &["$share/h/t"]));
        for notes in [[earlier.clone(), later.clone()], [later, earlier]] {
            let mut taken = Taken::default();
            notes.into_iter().for_each(|by| taken.add(7, by));
            assert!(taken.covers("a"), "it took the message when it was sent again");
            assert!(!taken.covers("b"), "it has refused it each time");
            assert!(taken.covers_share("$share/g/t") && taken.covers_share("$share/h/t"));
        }
    }
}
