//! Acknowledgements that a publisher waits for: PUBACK and PUBREC leave in the order of the PUBLISH packets [MQTT-4.6.0-2] [MQTT-4.6.0-3], and only
//! when every shard that took part has the message.
//!
//! A publish that is settled at once is answered at once. Only one that waits for other shards, or for room in a queue, gets a ticket; the answers
//! behind it then wait in the connection's queue.

use std::collections::VecDeque;

use slab::Slab;

use super::ids::{ConnId, ShardId};
use crate::config::Durability;
use crate::mqtt::{QoS, ReasonCode};

/// Names a publish that is not settled yet, on the shard where it came in.
pub type TicketId = u32;

/// Who is told when a publish is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerTo {
    /// The client that published: its connection and the number of the answer there; its session (index, generation) to forget a refused QoS 2
    /// identifier even when the connection is gone, and what tells the message from another one with the same identifier.
    Client { conn: ConnId, number: u64, session: u32, session_generation: u32, packet_id: u16, qos: QoS, message: u32 },
    /// The shard where the publish came in, and its ticket there; `kept`: the identifier of a QoS 2 publish is in the journal of this shard.
    Peer { shard: ShardId, ticket: TicketId, kept: bool },
    /// A client that sent PUBREL waits for PUBCOMP.
    Release { conn: ConnId, session: u32, session_generation: u32, packet_id: u16 },
    /// Nobody waits: a will.
    Nobody,
}

/// A publish that waits.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    pub answer: AnswerTo,
    /// Parts that have not answered.
    pub waits: u32,
    pub code: ReasonCode,
    /// Another shard keeps the identifier of this QoS 2 publish in its journal.
    pub kept_elsewhere: bool,
    /// The commit that holds what was noted of it, which its answer has to wait for; or 0.
    pub commit: u64,
    /// Whether it is to wait for the disk at all.
    pub durability: Durability,
}

impl Ticket {
    /// Nothing has answered yet but the routing itself, which is still at work.
    pub fn new(answer: AnswerTo, code: ReasonCode, durability: Durability) -> Ticket {
        Ticket { answer, waits: 1, code, kept_elsewhere: false, commit: 0, durability }
    }
}

/// The publishes of one shard that wait.
#[derive(Debug, Default)]
pub struct Tickets(Slab<Ticket>);

impl Tickets {
    pub fn open(&mut self, ticket: Ticket) -> TicketId {
        self.0.insert(ticket) as TicketId
    }

    pub fn get_mut(&mut self, id: TicketId) -> Option<&mut Ticket> {
        self.0.get_mut(id as usize)
    }

    /// Publishes that wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// One more part has to answer.
    pub fn wait(&mut self, id: TicketId) {
        if let Some(ticket) = self.get_mut(id) {
            ticket.waits += 1;
        }
    }

    /// A part answers; gives the ticket back when it was the last one.
    pub fn settle(&mut self, id: TicketId, code: ReasonCode) -> Option<Ticket> {
        let ticket = self.get_mut(id)?;
        ticket.code = worse(ticket.code, code);
        ticket.waits = ticket.waits.saturating_sub(1);
        (ticket.waits == 0).then(|| self.0.remove(id as usize))
    }
}

/// The answer for a publish of which two parts answered `a` and `b`: an error beats success, success beats "nobody subscribes".
pub fn worse(a: ReasonCode, b: ReasonCode) -> ReasonCode {
    let rank = |code: ReasonCode| match code {
        ReasonCode::NO_MATCHING_SUBSCRIBERS => 0,
        code if code.is_error() => 2,
        _ => 1,
    };
    if rank(b) > rank(a) { b } else { a }
}

/// One answer that is due.
#[derive(Clone, Copy, Debug)]
struct Answer {
    packet_id: u16,
    qos: QoS,
    code: Option<ReasonCode>,
}

/// The answers that one connection waits for, in order.
#[derive(Debug, Default)]
pub struct PendingAcks {
    answers: VecDeque<Answer>,
    /// Number of the front.
    base: u64,
    /// Answers at QoS 1.
    at_qos1: usize,
    /// One of them will never be given.
    withheld: bool,
}

impl PendingAcks {
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Answers to QoS 1 publishes.
    pub fn at_qos1(&self) -> usize {
        self.at_qos1
    }

    /// Adds an answer, open or settled; gives its number.
    pub fn push(&mut self, packet_id: u16, qos: QoS, code: Option<ReasonCode>) -> u64 {
        self.at_qos1 += usize::from(qos == QoS::AtLeastOnce);
        self.answers.push_back(Answer { packet_id, qos, code });
        self.base + self.answers.len() as u64 - 1
    }

    pub fn settle(&mut self, number: u64, code: ReasonCode) {
        if let Some(answer) = number.checked_sub(self.base).and_then(|index| self.answers.get_mut(index as usize)) {
            answer.code = Some(code);
        }
    }

    /// One of the answers will never be given, and so none behind it.
    pub fn withhold(&mut self) {
        self.withheld = true;
    }

    pub fn withheld(&self) -> bool {
        self.withheld
    }

    /// The next answer that may leave.
    pub fn pop_settled(&mut self) -> Option<(u16, QoS, ReasonCode)> {
        let front = *self.answers.front()?;
        let code = front.code?;
        self.answers.pop_front();
        self.base += 1;
        self.at_qos1 -= usize::from(front.qos == QoS::AtLeastOnce);
        Some((front.packet_id, front.qos, code))
    }
}
