//! The QoS 1 and 2 messages on their way to one session: what is in flight, what waits, and whose acknowledgement waits with it.
//!
//! Every message gets the next number of its session when it joins; the number says the packet identifier. So an identifier needs no table and is the same
//! after a restart, and the window is a deque in which a number stands where it is expected, or is looked for by halves where messages between were dropped
//! before they were sent. The window and the queue are bounded by the caller's limits; this file only keeps the order [MQTT-4.6.0-1] [MQTT-4.6.0-5]
//! [MQTT-4.6.0-6].

use std::collections::VecDeque;

use super::acks::TicketId;
use super::budget::HeldBytes;
use super::message::Delivery;
use crate::mqtt::QoS;

/// How far the exchange of an in-flight message has come.
#[derive(Debug)]
pub enum Stage {
    /// PUBLISH sent (or to be sent again), PUBACK or PUBREC outstanding.
    Published(Delivery),
    /// PUBREC received, PUBREL sent (or to be sent again), PUBCOMP outstanding.
    Released,
    /// Finished; stands only until those before it are finished too.
    Done,
}

/// One message of the window.
#[derive(Debug)]
pub struct InFlight {
    pub number: u64,
    pub stage: Stage,
}

/// One message of the queue.
#[derive(Debug)]
struct Waiting {
    number: u64,
    delivery: Delivery,
}

/// A message that found the queue full, of a publisher that cannot be told so: it waits, and its acknowledgement with it. It has its number and is kept
/// already: after a crash it is a message of the queue as any other.
#[derive(Debug)]
pub struct Held {
    pub number: u64,
    pub delivery: Delivery,
    /// `None` for a retained message that was fetched meanwhile.
    pub ticket: Option<TicketId>,
}

/// Whether anything moves in the queue, as far as somebody waits for that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standstill {
    /// When a message was last acknowledged, or the first one queued, or the session got a connection; ms.
    pub since: u64,
    /// A message found no room since then.
    pub blocks: bool,
    /// A timer is running.
    pub watched: bool,
}

/// Window, queue and held messages of one session.
#[derive(Debug)]
pub struct Outgoing {
    window: VecDeque<InFlight>,
    /// Number that was given last.
    last_number: u64,
    /// Messages of the window that are not done.
    unfinished: u32,
    /// Entries of the window from here on were not sent on the present connection.
    resend_at: usize,
    /// Unfinished messages that were sent on the present connection.
    under_way: u32,
    queue: VecDeque<Waiting>,
    queued_bytes: u64,
    held: VecDeque<Held>,
    held_messages_bytes: u64,
    pub standstill: Standstill,
    /// Bytes of all messages here, and the shard's sum that they are part of.
    bytes: u64,
    total: HeldBytes,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.total.subtract(self.bytes);
    }
}

/// Identifiers run from 1 to 65,535.
const IDS: u64 = 65_535;
/// Numbers that are passed over at most because their identifiers are in use.
const SKIPS: usize = 16;
/// A window that holds more entries than this, and four times as many as there are unfinished ones, is rid of the finished ones.
const SPARSE: usize = 64;

/// The packet identifier of the message with this number; numbers begin with 1.
pub fn packet_id(number: u64) -> u16 {
    ((number.saturating_sub(1) % IDS) + 1) as u16
}

impl Outgoing {
    /// Nothing under way yet; what will be is added to `total`.
    pub fn new(total: HeldBytes) -> Outgoing {
        Outgoing {
            window: VecDeque::new(),
            last_number: 0,
            unfinished: 0,
            resend_at: 0,
            under_way: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            held: VecDeque::new(),
            held_messages_bytes: 0,
            standstill: Standstill::default(),
            bytes: 0,
            total,
        }
    }

    fn count_in(&mut self, delivery: &Delivery) {
        let bytes = u64::from(delivery.message.bytes());
        self.bytes += bytes;
        self.total.add(bytes);
    }

    fn count_out(&mut self, delivery: &Delivery) {
        let bytes = u64::from(delivery.message.bytes());
        self.bytes -= bytes;
        self.total.subtract(bytes);
    }

    /// Messages in flight.
    pub fn in_flight(&self) -> u32 {
        self.unfinished
    }

    /// Messages that wait behind the window.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// Bytes of the messages that are held.
    pub fn held_bytes(&self) -> u64 {
        self.held_messages_bytes
    }

    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Messages in flight that their receiver has, as it said by PUBREC: only the rest of the exchange is missing.
    pub fn released(&self) -> u32 {
        self.window.iter().filter(|entry| matches!(entry.stage, Stage::Released)).count() as u32
    }

    /// Whether nothing is left to do or to remember. (The packet identifier starts anew then, which nobody can tell.)
    pub fn is_empty(&self) -> bool {
        self.window.is_empty() && self.queue.is_empty() && self.held.is_empty()
    }

    /// Whether one more message may be sent now with `limit` in flight at most [MQTT-4.9.0-2]; nothing else waits for that [MQTT-3.3.4-10]. Its packet
    /// identifier is not in use [MQTT-2.2.1-4] [MQTT-2.3.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1].
    pub fn window_open(&self, limit: u16) -> bool {
        let id_is_free = match self.queue.front() {
            Some(waiting) => self.is_free(waiting.number),
            None => self.free_number().is_some(),
        };
        self.resend_at == self.window.len() && self.under_way < u32::from(limit) && id_is_free
    }

    /// A number for a message that joins the session. One whose identifier is in use is passed over: a message that is never acknowledged would stop all
    /// others when the identifiers have gone round. (Only one that was itself still in the queue then can do that, in a queue of more than all identifiers.)
    pub fn give_number(&mut self) -> u64 {
        self.last_number = self.free_number().unwrap_or(self.last_number + 1);
        self.last_number
    }

    #[inline]
    fn free_number(&self) -> Option<u64> {
        let next = self.last_number + 1;
        if self.is_free(next) { Some(next) } else { (next + 1..).take(SKIPS).find(|&number| self.is_free(number)) }
    }

    /// Whether no message in flight has the identifier of this number.
    #[inline]
    fn is_free(&self, number: u64) -> bool {
        self.window.front().is_none_or(|front| number - front.number < IDS) || !self.is_in_flight(packet_id(number))
    }

    /// Takes a message into the window. The caller has seen that the window is open.
    pub fn start(&mut self, number: u64, delivery: Delivery) {
        self.count_in(&delivery);
        self.window.push_back(InFlight { number, stage: Stage::Published(delivery) });
        self.resend_at = self.window.len();
        self.unfinished += 1;
        self.under_way += 1;
    }

    /// The place of the unfinished message with this identifier.
    fn index(&self, packet_id: u16) -> Option<usize> {
        let front = self.window.front()?.number;
        let distance = (u64::from(packet_id).checked_sub(1)? + IDS - (front - 1) % IDS) % IDS;
        // Where nothing was left out between, it stands where it is expected.
        match self.window.get(distance as usize) {
            Some(entry) if entry.number == front + distance && !matches!(entry.stage, Stage::Done) => Some(distance as usize),
            _ => self.search(front + distance),
        }
    }

    /// The place of the unfinished message with this number, or with one that has the same identifier: where an old message keeps the window open, identifiers
    /// have gone round.
    fn search(&self, first: u64) -> Option<usize> {
        let back = self.window.back()?.number;
        let place = |number: u64| self.window.binary_search_by_key(&number, |entry| entry.number).ok();
        let unfinished = |index: &usize| !matches!(self.window[*index].stage, Stage::Done);
        (first..=back).step_by(IDS as usize).find_map(|number| place(number).filter(unfinished))
    }

    /// PUBACK, PUBCOMP, or a PUBREC that refuses: the exchange of this identifier is over, and not before [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT-4.3.3-5].
    /// Returns the number of the message, if there was one at the expected stage.
    pub fn finish(&mut self, packet_id: u16, expected: impl Fn(&Stage) -> bool) -> Option<u64> {
        let index = self.index(packet_id)?;
        let number = self.window[index].number;
        if !expected(&self.window[index].stage) {
            return None;
        }
        if let Stage::Published(delivery) = std::mem::replace(&mut self.window[index].stage, Stage::Done) {
            self.count_out(&delivery);
        }
        self.unfinished -= 1;
        if index < self.resend_at {
            self.under_way -= 1;
        }
        while self.window.front().is_some_and(|entry| matches!(entry.stage, Stage::Done)) {
            self.window.pop_front();
            self.resend_at = self.resend_at.saturating_sub(1);
        }
        if self.window.len() > SPARSE.max(4 * self.unfinished as usize) {
            self.forget_finished();
        }
        Some(number)
    }

    /// An old message keeps the window open: those behind it that are finished need not stay.
    #[cold]
    fn forget_finished(&mut self) {
        let unfinished = |entry: &InFlight| !matches!(entry.stage, Stage::Done);
        self.resend_at = self.window.range(..self.resend_at).filter(|entry| unfinished(entry)).count();
        self.window.retain(unfinished);
    }

    /// Whether a message with this identifier is in flight, at whatever stage.
    pub fn is_in_flight(&self, packet_id: u16) -> bool {
        self.index(packet_id).is_some()
    }

    /// PUBREC: forgets the message [MQTT-4.3.3-6] and waits for PUBCOMP. Returns its number, if the identifier is of a QoS 2 message in flight.
    pub fn release(&mut self, packet_id: u16) -> Option<u64> {
        let index = self.index(packet_id)?;
        match &self.window[index].stage {
            Stage::Published(delivery) if delivery.qos == QoS::ExactlyOnce => {}
            Stage::Released => {}
            _ => return None,
        }
        if let Stage::Published(delivery) = std::mem::replace(&mut self.window[index].stage, Stage::Released) {
            self.count_out(&delivery);
        }
        Some(self.window[index].number)
    }

    /// The connection is new: everything unfinished is to be sent again, in the order of the first time [MQTT-4.4.0-1] [MQTT-4.6.0-1], whatever
    /// subscription brought it [MQTT-4.8.2-4].
    pub fn rewind(&mut self) {
        self.resend_at = 0;
        self.under_way = 0;
    }

    /// The next message to send again, with its identifier, if `limit` allows for one more that is under way.
    pub fn next_resend(&mut self, limit: u16) -> Option<(u16, &mut InFlight)> {
        while self.resend_at < self.window.len() && matches!(self.window[self.resend_at].stage, Stage::Done) {
            self.resend_at += 1;
        }
        if self.resend_at >= self.window.len() || self.under_way >= u32::from(limit) {
            return None;
        }
        let index = self.resend_at;
        self.resend_at += 1;
        self.under_way += 1;
        let entry = &mut self.window[index];
        Some((packet_id(entry.number), entry))
    }

    /// Puts a message behind those that wait.
    pub fn enqueue(&mut self, number: u64, delivery: Delivery) {
        self.count_in(&delivery);
        self.queued_bytes += u64::from(delivery.message.bytes());
        self.queue.push_back(Waiting { number, delivery });
    }

    /// The message that waits longest, and its number.
    pub fn dequeue(&mut self) -> Option<(u64, Delivery)> {
        let Waiting { number, delivery } = self.queue.pop_front()?;
        self.queued_bytes -= u64::from(delivery.message.bytes());
        self.count_out(&delivery);
        Some((number, delivery))
    }

    /// Takes out, in order, the messages that another member of their shared subscription may get in place of this session, which ends: at QoS 1 what is
    /// not acknowledged, at QoS 2 only what was never sent [MQTT-4.8.2-5].
    pub fn take_shared(&mut self) -> Vec<Delivery> {
        let sent = std::mem::take(&mut self.window).into_iter().filter_map(|entry| match entry.stage {
            Stage::Published(delivery) if delivery.qos == QoS::AtLeastOnce => Some(delivery),
            _ => None,
        });
        let waiting = std::mem::take(&mut self.queue).into_iter().map(|waiting| waiting.delivery);
        sent.chain(waiting).filter(|delivery| delivery.share != 0).collect()
    }

    /// Lets a message wait outside the queue, with its publisher's acknowledgement.
    pub fn hold(&mut self, held: Held) {
        self.count_in(&held.delivery);
        self.held_messages_bytes += u64::from(held.delivery.message.bytes());
        self.held.push_back(held);
    }

    /// The message that was held longest, where it is.
    pub fn next_held(&self) -> Option<&Delivery> {
        self.held.front().map(|held| &held.delivery)
    }

    /// Whose acknowledgement waits with the message that was held last.
    pub fn last_held(&self) -> Option<TicketId> {
        self.held.back().and_then(|held| held.ticket)
    }

    /// The message that was held longest.
    pub fn take_held(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.count_out(&held.delivery);
        self.held_messages_bytes -= u64::from(held.delivery.message.bytes());
        Some(held)
    }

    /// A message of an earlier run, in the order of the numbers: `sent` at least once, or waiting. Without a delivery its receiver has it already.
    pub fn restore(&mut self, number: u64, delivery: Option<Delivery>, sent: bool) {
        self.last_number = self.last_number.max(number);
        let stage = match delivery {
            Some(delivery) if !sent => return self.enqueue(number, delivery),
            Some(delivery) => {
                self.count_in(&delivery);
                Stage::Published(delivery)
            }
            None => Stage::Released,
        };
        self.window.push_back(InFlight { number, stage });
        self.unfinished += 1;
    }

    /// What is not finished behind `after`, in order: number, message (none where the receiver has it), and whether it was sent.
    pub fn unfinished_after(&self, after: u64) -> impl Iterator<Item = (u64, Option<&Delivery>, bool)> {
        let sent = self.window.range(self.window.partition_point(|entry| entry.number <= after)..);
        let waiting = self.queue.range(self.queue.partition_point(|waiting| waiting.number <= after)..);
        let held = self.held.range(self.held.partition_point(|held| held.number <= after)..);
        let sent = sent.filter_map(|entry| match &entry.stage {
            Stage::Published(delivery) => Some((entry.number, Some(delivery), true)),
            Stage::Released => Some((entry.number, None, true)),
            Stage::Done => None,
        });
        let waiting = waiting.map(|waiting| (waiting.number, Some(&waiting.delivery), false));
        sent.chain(waiting).chain(held.map(|held| (held.number, Some(&held.delivery), false)))
    }
}
