//! QoS 2 messages that sessions of several shards get, exactly once even if the broker dies in between.
//!
//! The shards of the subscribers commit the message before the shard of the publisher commits the packet identifier. Dies the broker between the two, the
//! publisher sends its message again, and only the shards of the subscribers know that they have it: so each notes the exchange in the commit that holds the
//! message. The note goes when the publisher has released the identifier; PUBCOMP waits for that, because a new message may follow it under the same identifier.

use std::hash::BuildHasher;

use super::record::Record;
use crate::broker::acks::{AnswerTo, Ticket, TicketId};
use crate::broker::ids::{ConnId, ShardId};
use crate::broker::message::Incoming;
use crate::broker::peer::{Exchange, PeerMessage};
use crate::broker::session::{FixedHasher, Kept, Received};
use crate::broker::shard::Shard;
use crate::mqtt::ReasonCode;

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

    /// Whether the message of this exchange was taken here by an earlier run of the broker.
    pub(in crate::broker) fn is_taken(&self, exchange: Option<Exchange>, incoming: &Incoming<'_>) -> bool {
        let taken = exchange.and_then(|exchange| self.journal.as_ref()?.taken.get(&exchange));
        taken.is_some_and(|&taken| taken == digest(incoming))
    }

    /// The message of this exchange is taken; to be noted in the commit that holds it.
    pub(in crate::broker) fn note_taken(&mut self, exchange: Exchange, incoming: &Incoming<'_>) {
        let Some(journal) = &mut self.journal else { return };
        let digest = digest(incoming);
        journal.taken.insert(exchange, digest);
        journal.put(&Record::Taken { session: exchange.session, packet_id: exchange.packet_id, digest });
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
        let Some(exchange) = self.exchange_of(index, packet_id).filter(|_| kept != Kept::Nowhere) else { return Kept::Nowhere };
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
        let ticket = self.tickets.open(Ticket::new(answer, ReasonCode::SUCCESS));
        session.received().set(packet_id, Received::Ending(ticket));
        self.forget_elsewhere(exchange, Some(ticket));
        self.settle(ticket, ReasonCode::SUCCESS);
    }

    /// PUBREL ends what was kept of an identifier; PUBCOMP must not leave before that is durable, or the next message under it might pass for a repetition.
    pub(in crate::broker) fn note_received_ended(&mut self, index: u32, packet_id: u16, slot: u32) {
        let Some(exchange) = self.exchange_of(index, packet_id) else { return };
        if let Some(journal) = &mut self.journal {
            journal.put(&Record::ReceivedEnded { session: exchange.session, packet_id });
            self.gate_on_all(slot);
        }
    }
}
