//! Retained messages on their way to a new subscription: the subscriber's shard pulls them slice by slice from the shards that own them, as fast as the
//! client takes them. So a wildcard over a million retained messages neither holds up a turn nor fills memory.
//!
//! A live message may overtake the retained one of the same topic, because they come from different shards. Topics that were delivered live while a
//! fetch is open are remembered, and their retained message, which is older, is left out.

use hashbrown::HashSet;

use super::ids::{ConnId, ShardId, ShardSet};
use super::message::{Delivery, Incoming, SubscriptionIds};
use super::peer::{Batch, PeerMessage, PeerOptions, PeerPublish};
use super::retained::Cursor;
use super::session::{FixedHasher, delivered_qos, owner_of};
use super::shard::Shard;
use super::topics::{Subscriber, is_wildcard};
use crate::metrics::DropReason;

/// Retained messages in one slice.
const SLICE: u32 = 64;
/// A client that has less than this unsent gets the next slice.
const ROOM_BYTES: usize = 256 * 1024;
/// Fetches that one connection may have open.
pub(super) const MAX_FETCHES: usize = 100_000;

/// One subscription that waits for retained messages.
#[derive(Debug)]
pub struct Fetch {
    conn: ConnId,
    filter: Box<str>,
    subscriber: Subscriber,
    /// Shards that have more.
    open: ShardSet,
    /// Shards that were asked and have not finished their answer.
    asked: ShardSet,
    /// Topics that were delivered live since.
    seen: HashSet<u64, FixedHasher>,
}

/// The fetches of one connection.
#[derive(Debug)]
pub struct OpenFetches {
    ids: HashSet<u32, FixedHasher>,
    /// One of them waits for the client to take what it has been sent.
    stalled: bool,
}

impl Default for OpenFetches {
    fn default() -> OpenFetches {
        OpenFetches { ids: HashSet::with_hasher(FixedHasher::default()), stalled: false }
    }
}

impl OpenFetches {
    pub fn len(&self) -> usize {
        self.ids.len()
    }
}

impl Shard {
    /// Begins to fetch the retained messages of a filter for a connection [MQTT-3.3.1-6] [MQTT-3.8.4-4].
    pub(super) fn start_fetch(&mut self, conn: ConnId, filter: &str, subscriber: Subscriber) {
        let mut open = ShardSet::default();
        if is_wildcard(filter) {
            (0..self.shards).for_each(|shard| open.insert(ShardId(shard)));
        } else {
            let owner = owner_of(filter, self.shards);
            if owner == self.id {
                return self.deliver_own_retained(filter, subscriber);
            }
            open.insert(owner);
        }
        let id = self.next_fetch;
        self.next_fetch = self.next_fetch.wrapping_add(1);
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.fetches.get_or_insert_with(Box::default).ids.insert(id);
        let seen = HashSet::with_hasher(FixedHasher::default());
        self.fetching.insert(id, Fetch { conn, filter: filter.into(), subscriber, open, asked: ShardSet::default(), seen });
        self.continue_fetch(id);
    }

    /// The retained message of one topic that this shard owns: no way to go.
    fn deliver_own_retained(&mut self, topic: &str, subscriber: Subscriber) {
        let now = self.now;
        if let Some(message) = self.retained.get(topic).filter(|message| message.expires_at > now).cloned() {
            self.deliver_retained(&message.as_incoming(), subscriber);
        }
    }

    /// Asks for more where the client has room for it.
    fn continue_fetch(&mut self, id: u32) {
        let Some(fetch) = self.fetching.get_mut(&id) else { return };
        let Some(conn) = self.connections.get_mut(fetch.conn) else { return };
        let queued = self.sessions.get(conn.session).and_then(|session| session.outgoing.as_ref()).map_or(0, |outgoing| outgoing.queued());
        let room = self.limits.max_queued_messages.saturating_sub(queued as u32).min(SLICE);
        if conn.unsent() > ROOM_BYTES || queued > SLICE as usize || room == 0 {
            if let Some(fetches) = &mut conn.fetches {
                fetches.stalled = true;
            }
            return;
        }
        for shard in fetch.open.iter().filter(|&shard| !fetch.asked.contains(shard)) {
            let request = PeerMessage::RetainedRead { fetch: id, filter: fetch.filter.clone(), max: room };
            self.peers.to(shard).messages.push(request);
        }
        fetch.asked = fetch.open;
    }

    /// The client has taken something: fetches that waited for it go on.
    pub(super) fn continue_fetches(&mut self, slot: u32) {
        let Some(fetches) = self.connections.slot_mut(slot).and_then(|conn| conn.fetches.as_mut()) else { return };
        if !std::mem::take(&mut fetches.stalled) {
            return;
        }
        let ids: Vec<u32> = fetches.ids.iter().copied().collect();
        for id in ids {
            self.continue_fetch(id);
        }
    }

    /// Forgets the fetches of a connection that ends.
    pub(super) fn cancel_fetches(&mut self, slot: u32) {
        let Some(fetches) = self.connections.slot_mut(slot).and_then(|conn| conn.fetches.take()) else { return };
        for id in fetches.ids {
            let Some(fetch) = self.fetching.remove(&id) else { continue };
            for shard in fetch.open.iter() {
                self.peers.to(shard).messages.push(PeerMessage::RetainedCancel { fetch: id });
            }
        }
    }

    /// A message that was published with RETAIN reached a client live: what its fetches still bring for the topic is older.
    pub(super) fn note_live_retained(&mut self, session: u32, topic: &str) {
        let Some(slot) = self.sessions.get(session).map(|session| session.connection) else { return };
        let Some(fetches) = self.connections.slot(slot).and_then(|conn| conn.fetches.as_ref()) else { return };
        let fingerprint = self.topics.fingerprint(topic);
        for id in &fetches.ids {
            if let Some(fetch) = self.fetching.get_mut(id) {
                fetch.seen.insert(fingerprint);
            }
        }
    }

    /// Another shard (or this one) asks for the next slice of what this shard owns.
    pub(super) fn on_retained_read(&mut self, from: ShardId, fetch: u32, filter: &str, max: u32) {
        let mut cursor = self.cursors.remove(&(from, fetch)).unwrap_or_else(|| Cursor::new(filter));
        let batch = self.peers.to(from);
        let now = self.now;
        let done = self.retained.next_batch(&mut cursor, max as usize, |_, message| {
            if message.expires_at > now {
                let copy = batch.copy(&message.as_incoming(), PeerOptions::default(), &[]);
                batch.messages.push(PeerMessage::RetainedItem { fetch, message: copy });
            }
        });
        batch.messages.push(PeerMessage::RetainedSlice { fetch, done });
        if !done {
            self.cursors.insert((from, fetch), cursor);
        }
    }

    /// A retained message for a connection of this shard.
    pub(super) fn on_retained_item(&mut self, fetch: u32, publish: &PeerPublish, batch: &Batch) {
        let incoming = batch.view(publish);
        let Some(fetch) = self.fetching.get(&fetch) else { return };
        if !fetch.seen.contains(&self.topics.fingerprint(incoming.topic)) {
            self.deliver_retained(&incoming, fetch.subscriber);
        }
    }

    /// A retained message that is sent because of a SUBSCRIBE carries RETAIN [MQTT-3.3.1-8].
    fn deliver_retained(&mut self, incoming: &Incoming<'_>, subscriber: Subscriber) {
        let mut subscription_ids = SubscriptionIds::new();
        if subscriber.subscription_id != 0 {
            subscription_ids.push(subscriber.subscription_id);
        }
        let qos = delivered_qos(incoming.qos, subscriber.options.qos());
        let delivery = Delivery { message: incoming.to_message(), qos, retain: true, subscription_ids };
        if self.deliver(subscriber.session, delivery, None).is_error() {
            self.counters.count_dropped(DropReason::QueueFull, 1);
        }
    }

    /// A shard has answered.
    pub(super) fn on_retained_slice(&mut self, from: ShardId, id: u32, done: bool) {
        let Some(fetch) = self.fetching.get_mut(&id) else { return };
        fetch.asked.remove(from);
        if done {
            fetch.open.remove(from);
        }
        if !fetch.open.is_empty() {
            return self.continue_fetch(id);
        }
        let conn = fetch.conn;
        self.fetching.remove(&id);
        if let Some(conn) = self.connections.get_mut(conn)
            && let Some(fetches) = &mut conn.fetches
        {
            fetches.ids.remove(&id);
            if fetches.ids.is_empty() {
                conn.fetches = None;
            }
        }
    }
}
