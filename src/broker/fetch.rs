//! Retained messages on their way to a new subscription: the subscriber's shard pulls them slice by slice from the shards that own them, as fast as the
//! client takes them. So a wildcard over a million retained messages neither holds up a turn nor fills memory, and none is lost for want of room: what is
//! asked for has its room, and a client asks for a few slices at a time, whatever the number of its subscriptions. It is the session that asks: what its
//! client did not take before it lost the connection comes on the next one [MQTT-3.3.1-6] [MQTT-3.3.1-9].
//!
//! A live message may overtake the retained one of the same topic, because they come from different shards. Topics that were delivered live since the
//! SUBSCRIBE are remembered while it is fetched for, and their retained message, which is older or the same, is left out.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::budget::{Counted, HeldBytes};
use super::disconnect::Will;
use super::ids::{ConnId, ShardId, ShardSet};
use super::message::{Delivery, Message, SubscriptionIds};
use super::peer::{Batch, PeerMessage, PeerOptions, PeerPublish};
use super::retained::Cursor;
use super::session::{FixedHasher, Session, Subscription, delivered_qos, owner_of};
use super::shard::Shard;
use super::topics::{Subscriber, is_wildcard};
use crate::metrics::DropReason;
use crate::mqtt::ReasonCode;

/// Retained messages in one slice.
const SLICE: u32 = 64;
/// Bytes after which a slice ends; its last message may be of any size.
const SLICE_BYTES: usize = 64 * 1024;
/// Subscriptions of one session that are read for at the same time.
const READING: usize = 4;
/// With more than this waiting for a shard, what it asks for next has to wait as well.
const PEER_HIGH_WATER_BYTES: usize = 8 * 1024 * 1024;
/// A client that has less than this unsent, and less than a slice queued, gets the next slice.
const ROOM_BYTES: usize = 256 * 1024;
/// Topics that may come live to a client while its fetches are open.
const MAX_LIVE: usize = 100_000;
/// What such a topic takes, with the table's free room.
const LIVE_BYTES: u64 = 32;
/// Subscriptions of one session that may wait for retained messages.
pub(super) const MAX_FETCHES: usize = 100_000;

/// A subscription whose turn has not come.
#[derive(Debug)]
struct Waiting {
    id: u64,
    filter: Box<str>,
    subscriber: Subscriber,
}

impl Waiting {
    fn bytes(&self) -> u64 {
        (size_of::<Waiting>() + self.filter.len()) as u64
    }
}

/// A subscription that is read for.
#[derive(Debug)]
struct Reading {
    id: u64,
    filter: Box<str>,
    subscriber: Subscriber,
    /// Shards that have more.
    open: ShardSet,
    /// Shards that were asked and have not finished their answer.
    asked: ShardSet,
    /// What each of them was asked for at most.
    max: u32,
}

/// The subscriptions of one session that wait for retained messages.
#[derive(Debug)]
pub struct Fetches {
    waiting: VecDeque<Waiting>,
    reading: Vec<Reading>,
    /// The last fetch whose SUBACK has left: those behind it may not begin.
    released: u64,
    /// Topics that were delivered live, and the last fetch that was known then.
    live: HashMap<u64, u64, FixedHasher>,
    /// Bytes of all this: the client may let it wait for as long as it likes.
    counted: Counted,
}

impl Fetches {
    fn new(total: &HeldBytes) -> Fetches {
        let live = HashMap::with_hasher(FixedHasher::default());
        Fetches { waiting: VecDeque::new(), reading: Vec::new(), released: 0, live, counted: Counted::new(0, total) }
    }

    fn push(&mut self, waiting: Waiting) {
        self.counted.set(self.counted.get() + waiting.bytes());
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.counted.set(self.counted.get() - waiting.bytes());
        Some(waiting)
    }

    /// Notes a topic that was delivered live; gives how many there are.
    fn note_live(&mut self, fingerprint: u64, last: u64) -> usize {
        if self.live.insert(fingerprint, last).is_none() {
            self.counted.set(self.counted.get() + LIVE_BYTES);
        }
        self.live.len()
    }

    pub fn len(&self) -> usize {
        self.waiting.len() + self.reading.len()
    }

    /// Messages that were asked for and have not come.
    fn promised(&self) -> u32 {
        self.reading.iter().map(|reading| reading.asked.len() * reading.max).sum()
    }

    /// Whether a live message of the topic has gone before what this fetch brings.
    fn overtaken(&self, id: u64, fingerprint: u64) -> bool {
        self.live.get(&fingerprint).is_some_and(|&last| id <= last)
    }
}

impl Shard {
    /// Notes that a subscription is to get the retained messages of its filter, once its SUBACK has left [MQTT-3.3.1-6] [MQTT-3.8.4-4].
    pub(super) fn add_fetch(&mut self, filter: &str, subscriber: Subscriber) {
        let Some(session) = self.sessions.get_mut(subscriber.session) else { return };
        self.last_fetch += 1;
        let waiting = Waiting { id: self.last_fetch, filter: filter.into(), subscriber };
        session.fetches.get_or_insert_with(|| Box::new(Fetches::new(&self.held_bytes))).push(waiting);
    }

    /// The SUBACK for everything up to this fetch has left.
    pub(super) fn release_fetches(&mut self, index: u32, up_to: u64) {
        let Some(fetches) = self.fetches_of(index) else { return };
        fetches.released = up_to;
        self.continue_fetches(index);
    }

    /// The session has a new connection: it goes on with what the last one did not take, also where the SUBACK was not among that.
    pub(super) fn resume_fetches(&mut self, index: u32) {
        self.release_fetches(index, self.last_fetch);
    }

    fn fetches_of(&mut self, index: u32) -> Option<&mut Fetches> {
        self.sessions.get_mut(index)?.fetches.as_deref_mut()
    }

    /// Asks for more where the client has room for it.
    #[inline]
    pub(super) fn continue_fetches(&mut self, index: u32) {
        if self.sessions.get(index).is_some_and(|session| session.fetches.is_some()) {
            self.continue_open_fetches(index);
        }
    }

    fn continue_open_fetches(&mut self, index: u32) {
        while let Some(room) = self.room_for_fetches(index) {
            let Some(fetches) = self.sessions.get_mut(index).and_then(|session| session.fetches.as_mut()) else { return };
            if let Some(reading) = fetches.reading.iter_mut().find(|reading| reading.asked.is_empty()) {
                reading.asked = reading.open;
                reading.max = (room / reading.open.len().max(1)).clamp(1, SLICE);
                for shard in reading.open.iter() {
                    let request = PeerMessage::RetainedRead { fetch: reading.id, filter: reading.filter.clone(), max: reading.max };
                    self.peers.to(shard).messages.push(request);
                }
                continue;
            }
            let may_begin = fetches.reading.len() < READING && fetches.waiting.front().is_some_and(|next| next.id <= fetches.released);
            let next = if may_begin { fetches.pop() } else { None };
            let Some(next) = next else { break };
            self.begin_fetch(next);
        }
        self.note_fetches(index);
    }

    /// How many messages may be asked for now; `None` if none, or nobody waits.
    fn room_for_fetches(&self, index: u32) -> Option<u32> {
        let session = self.sessions.get(index)?;
        let fetches = session.fetches.as_ref()?;
        let conn = self.connections.slot(session.connection)?;
        let queued = session.outgoing.as_ref().map_or(0, |outgoing| outgoing.queued() as u32);
        let room = self.limits.max_queued_messages.saturating_sub(queued + fetches.promised());
        (conn.unsent() <= ROOM_BYTES && conn.unsent() as u64 <= self.allowed_unsent && queued <= SLICE && room > 0).then_some(room)
    }

    fn begin_fetch(&mut self, next: Waiting) {
        let Waiting { id, filter, subscriber } = next;
        if !self.is_subscribed(subscriber.session, &filter) {
            // Unsubscribed meanwhile [MQTT-3.10.4-2].
            return;
        }
        let mut open = ShardSet::default();
        if is_wildcard(&filter) {
            (0..self.shards).for_each(|shard| open.insert(ShardId(shard)));
            if self.retained.has_none_for(&filter) {
                open.remove(self.id);
            }
            if open.is_empty() {
                return;
            }
        } else {
            let owner = owner_of(&filter, self.shards);
            if owner == self.id {
                return self.deliver_own_retained(id, &filter, subscriber);
            }
            open.insert(owner);
        }
        self.fetching.insert(id, subscriber.session);
        if let Some(fetches) = self.fetches_of(subscriber.session) {
            fetches.reading.push(Reading { id, filter, subscriber, open, asked: ShardSet::default(), max: 0 });
        }
    }

    fn is_subscribed(&self, session: u32, filter: &str) -> bool {
        let Some(filter) = self.topics.find(filter) else { return false };
        self.sessions.get(session).is_some_and(|session| session.subscriptions.contains(&Subscription::Filter(filter)))
    }

    /// The retained message of one topic that this shard owns: no way to go.
    fn deliver_own_retained(&mut self, id: u64, topic: &str, subscriber: Subscriber) {
        let now = self.now;
        let Some(message) = self.retained.get(topic).filter(|message| message.expires_at > now).cloned() else { return };
        let fingerprint = self.topics.fingerprint(topic);
        let fetches = self.fetches_of(subscriber.session);
        if fetches.is_some_and(|fetches| !fetches.overtaken(id, fingerprint)) {
            self.deliver_retained(message, subscriber);
        }
    }

    /// Forgets the fetches of a session.
    pub(super) fn cancel_fetches(&mut self, index: u32) {
        let Some(fetches) = self.sessions.get_mut(index).and_then(|session| session.fetches.take()) else { return };
        fetches.reading.iter().for_each(|reading| self.cancel_reading(reading));
    }

    /// The client has unsubscribed: nothing more is read for this filter. (One that waits finds out when its turn comes.)
    pub(super) fn cancel_fetch(&mut self, index: u32, filter: &str) {
        let Some(fetches) = self.fetches_of(index) else { return };
        let cancelled: Vec<Reading> = fetches.reading.extract_if(.., |reading| *reading.filter == *filter).collect();
        cancelled.iter().for_each(|reading| self.cancel_reading(reading));
        if !cancelled.is_empty() {
            self.continue_fetches(index);
        }
    }

    fn cancel_reading(&mut self, reading: &Reading) {
        self.fetching.remove(&reading.id);
        for shard in reading.open.iter() {
            self.peers.to(shard).messages.push(PeerMessage::RetainedCancel { fetch: reading.id });
        }
    }

    /// Forgets fetches that are done, and lets the connection know whether there are any.
    fn note_fetches(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        if session.fetches.as_ref().is_some_and(|fetches| fetches.len() == 0) {
            session.fetches = None;
        }
        let (slot, fetches) = (session.connection, session.fetches.is_some());
        if let Some(conn) = self.connections.slot_mut(slot) {
            conn.fetches = fetches;
        }
    }

    /// A message that was published with RETAIN reached a client live: what its fetches still bring for the topic is older.
    pub(super) fn note_live_retained(&mut self, session: u32, topic: &str) {
        let last = self.last_fetch;
        let Some(Session { fetches: Some(fetches), connection, .. }) = self.sessions.get_mut(session) else { return };
        if fetches.note_live(self.topics.fingerprint(topic), last) <= MAX_LIVE {
            return;
        }
        // It has left its retained messages unread for that long: what it is still owed cannot be told any more.
        let slot = *connection;
        tracing::warn!(
            session,
            "a client did not take its retained messages while {MAX_LIVE} others were published: it gets no more of them"
        );
        self.cancel_fetches(session);
        if let Some(generation) = self.connections.slot(slot).map(|conn| conn.generation) {
            self.disconnect(ConnId { slot, generation }, ReasonCode::QUOTA_EXCEEDED, Will::Publish);
        }
    }

    /// Another shard (or this one) asks for the next slice of what this shard owns.
    pub(super) fn on_retained_read(&mut self, from: ShardId, fetch: u64, filter: &str, max: u32) {
        let mut cursor = self.cursors.remove(&(from, fetch)).unwrap_or_else(|| Cursor::new(filter));
        let done =
            if from == self.id { self.deliver_own_slice(fetch, &mut cursor, max) } else { self.copy_slice(from, fetch, &mut cursor, max) };
        self.peers.to(from).messages.push(PeerMessage::RetainedSlice { fetch, done });
        if !done {
            self.cursors.insert((from, fetch), cursor);
        }
    }

    /// A slice for another shard. Where a lot waits for that one already, the slice stays empty and is asked for again, behind all that waits: however many
    /// ask in one turn, their messages do not pile up in one batch.
    fn copy_slice(&mut self, to: ShardId, fetch: u64, cursor: &mut Cursor, max: u32) -> bool {
        let now = self.now;
        let batch = self.peers.to(to);
        let mut bytes = 0;
        batch.len_bytes() <= PEER_HIGH_WATER_BYTES
            && self.retained.next_batch(cursor, max as usize, |message| {
                if message.expires_at > now {
                    let copy = batch.copy(&message.as_incoming(), PeerOptions::default(), &[]);
                    batch.messages.push(PeerMessage::RetainedItem { fetch, message: copy });
                    bytes += message.bytes() as usize;
                }
                bytes < SLICE_BYTES
            })
    }

    /// A slice for a session of this shard: the messages are shared with the store, not copied.
    fn deliver_own_slice(&mut self, fetch: u64, cursor: &mut Cursor, max: u32) -> bool {
        let now = self.now;
        let mut found: Vec<Message> = Vec::new();
        let mut bytes = 0;
        let done = self.retained.next_batch(cursor, max as usize, |message| {
            if message.expires_at > now {
                found.push(message.clone());
                bytes += message.bytes() as usize;
            }
            bytes < SLICE_BYTES
        });
        for message in found {
            if let Some(subscriber) = self.subscriber_of_item(fetch, message.topic()) {
                self.deliver_retained(message, subscriber);
            }
        }
        done
    }

    /// A retained message for a session of this shard.
    pub(super) fn on_retained_item(&mut self, fetch: u64, publish: &PeerPublish, batch: &Batch) {
        let incoming = batch.view(publish);
        if let Some(subscriber) = self.subscriber_of_item(fetch, incoming.topic) {
            self.deliver_retained(incoming.to_message(), subscriber);
        }
    }

    /// Who is to get what this fetch has found for a topic; nobody, if that was overtaken or is not wanted any more.
    fn subscriber_of_item(&mut self, fetch: u64, topic: &str) -> Option<Subscriber> {
        let fingerprint = self.topics.fingerprint(topic);
        let fetches = self.fetches_with(fetch)?;
        let subscriber = fetches.reading.iter().find(|reading| reading.id == fetch)?.subscriber;
        (!fetches.overtaken(fetch, fingerprint)).then_some(subscriber)
    }

    fn fetches_with(&mut self, fetch: u64) -> Option<&mut Fetches> {
        let session = *self.fetching.get(&fetch)?;
        self.fetches_of(session)
    }

    /// A retained message that is sent because of a SUBSCRIBE carries RETAIN [MQTT-3.3.1-8].
    fn deliver_retained(&mut self, message: Message, subscriber: Subscriber) {
        if message.expires_at <= self.now {
            // It ended on the way from its shard [MQTT-3.3.2-5].
            self.counters.deliveries_matched += 1;
            return self.counters.count_dropped(DropReason::Expired, 1);
        }
        let mut subscription_ids = SubscriptionIds::new();
        if subscriber.subscription_id != 0 {
            subscription_ids.push(subscriber.subscription_id);
        }
        let qos = delivered_qos(message.qos, subscriber.options.qos());
        self.deliver_fetched(subscriber.session, Delivery { message, qos, retain: true, subscription_ids, share: 0 });
    }

    /// A shard has answered.
    pub(super) fn on_retained_slice(&mut self, from: ShardId, id: u64, done: bool) {
        let Some(&session) = self.fetching.get(&id) else { return };
        let Some(fetches) = self.fetches_with(id) else { return };
        let Some(index) = fetches.reading.iter().position(|reading| reading.id == id) else { return };
        let reading = &mut fetches.reading[index];
        reading.asked.remove(from);
        if done {
            reading.open.remove(from);
        }
        if reading.open.is_empty() {
            fetches.reading.swap_remove(index);
            self.fetching.remove(&id);
        }
        self.continue_fetches(session);
    }
}
