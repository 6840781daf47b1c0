//! QoS 2 messages that sessions of several shards get, exactly once even if the broker dies in between.
//!
//! The shards of the subscribers commit the message before the shard of the publisher commits the packet identifier. Dies the broker between the two, the
//! publisher sends its message again, and only the shards of the subscribers know that they have it: so each notes the exchange in the commit that holds the
//! message. The note goes when the publisher has released the identifier; PUBCOMP waits for that, because a new message may follow it under the same identifier.

use std::hash::BuildHasher;

use smallvec::SmallVec;

use super::record::Record;
use crate::broker::acks::{AnswerTo, Ticket, TicketId};
use crate::broker::ids::{ConnId, ShardId};
use crate::broker::message::Incoming;
use crate::broker::peer::{Exchange, PeerMessage};
use crate::broker::session::{FixedHasher, Kept, Received, home_of};
use crate::broker::shard::Shard;
use crate::config::Durability;
use crate::mqtt::ReasonCode;

/// The sessions of one shard, as the shards were then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenBy {
    pub shard: u16,
    pub shards: u16,
}

/// Who has taken the message of an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    digest: u64,
    by: SmallVec<[TakenBy; 2]>,
}

impl Taken {
    /// One more; where the message is another one, what was said of the old one is void.
    pub fn add(&mut self, digest: u64, by: TakenBy) {
        if self.digest != digest {
            *self = Taken { digest, by: SmallVec::new() };
        }
        if !self.by.contains(&by) {
            self.by.push(by);
        }
    }

    pub fn merge(&mut self, other: Taken) {
        other.by.into_iter().for_each(|by| self.add(other.digest, by));
    }

    /// Whether the session of this client has the message, or does not get it.
    pub fn covers(&self, client_id: &str) -> bool {
        self.by.iter().any(|by| home_of(client_id, by.shards) == ShardId(by.shard))
    }

    /// Appends it as records.
    pub fn put(&self, Exchange { session, packet_id }: Exchange, records: &mut Vec<u8>) {
        for &TakenBy { shard, shards } in &self.by {
            Record::Taken { session, packet_id, digest: self.digest, shard, shards }.put(records);
        }
    }
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

    /// The message of this exchange is taken; to be noted in the commit that holds it.
    pub(in crate::broker) fn note_taken(&mut self, exchange: Exchange, incoming: &Incoming<'_>) {
        let Some(journal) = &mut self.journal else { return };
        let (digest, by) = (digest(incoming), TakenBy { shard: self.id.0, shards: self.shards });
        journal.taken.entry(exchange).or_default().add(digest, by);
        let TakenBy { shard, shards } = by;
        journal.put(&Record::Taken { session: exchange.session, packet_id: exchange.packet_id, digest, shard, shards });
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

    /// A QoS 2 message of a client was refused: nobody is to take the next one for a repetition.
    pub(in crate::broker) fn forget_refused(&mut self, index: u32, packet_id: u16) {
        let Some(exchange) = self.exchange_of(index, packet_id) else { return };
        self.forget_taken(exchange);
        self.forget_elsewhere(exchange, None);
    }

    /// A session ends: nobody has to remember its exchanges.
    pub(in crate::broker) fn forget_exchanges(&mut self, index: u32) {
        let Some(received) = self.sessions.get(index).and_then(|session| session.received.as_ref()) else { return };
        let elsewhere: Vec<u16> = received.kept().filter(|(_, kept)| *kept == Kept::Elsewhere).map(|(packet_id, _)| packet_id).collect();
        for packet_id in elsewhere {
            self.forget_refused(index, packet_id);
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
