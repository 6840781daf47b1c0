//! Retained messages on their way to a new subscription: the subscriber's shard pulls them slice by slice from the shards that own them, as fast as the
//! client takes them. So a wildcard over a million retained messages neither holds up a turn nor fills memory.
//!
//! A live message may overtake the retained one of the same topic, because they come from different shards. Topics that were delivered live while a
//! fetch is open are remembered, and their retained message, which is older, is left out.

use hashbrown::HashSet;

use super::connection::Connection;
use super::ids::{ShardId, ShardSet};
use super::message::{Delivery, Incoming};
use super::peer::{Batch, PeerMessage, PeerOptions, PeerPublish};
use super::retained::Cursor;
use super::session::{FixedHasher, delivered_qos, owner_of};
use super::shard::Shard;
use super::topics::{Subscriber, is_wildcard};

/// Retained messages in one slice.
const SLICE: u32 = 64;
/// A client that has less than this unsent gets the next slice.
const ROOM_BYTES: usize = 256 * 1024;

/// One subscription that waits for retained messages.
#[derive(Debug)]
pub struct Fetch {
    pub id: u32,
    filter: Box<str>,
    subscriber: Subscriber,
    /// Shards that have more.
    open: ShardSet,
    /// Shards that were asked and have not finished their answer.
    asked: ShardSet,
    /// Topics that were delivered live since.
    seen: HashSet<u64, FixedHasher>,
}

impl Connection {
    /// A message that was published with RETAIN reached this client live: what a fetch still brings for its topic is older.
    pub fn note_live_retained(&mut self, fingerprint: u64) {
        for fetch in &mut self.fetches {
            fetch.seen.insert(fingerprint);
        }
    }
}

impl Shard {
    /// Begins to fetch the retained messages of a filter for a connection [MQTT-3.3.1-6] [MQTT-3.8.4-4].
    pub(super) fn start_fetch(&mut self, slot: u32, filter: &str, subscriber: Subscriber) {
        let id = self.next_fetch;
        self.next_fetch = self.next_fetch.wrapping_add(1);
        let mut open = ShardSet::default();
        if is_wildcard(filter) {
            (0..self.shards).for_each(|shard| open.insert(ShardId(shard)));
        } else {
            open.insert(owner_of(filter, self.shards));
        }
        let fetch = Fetch {
            id,
            filter: filter.into(),
            subscriber,
            open,
            asked: ShardSet::default(),
            seen: HashSet::with_hasher(FixedHasher::default()),
        };
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        conn.fetches.push(fetch);
        self.fetching.insert(id, slot);
        self.continue_fetches(slot);
    }

    /// Asks for more where the client has room for it.
    pub(super) fn continue_fetches(&mut self, slot: u32) {
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        if conn.fetches.is_empty() || conn.unsent() > ROOM_BYTES {
            return;
        }
        let queued = self.sessions.get(conn.session).and_then(|session| session.outgoing.as_ref()).map_or(0, |outgoing| outgoing.queued());
        let room = self.limits.max_queued_messages.saturating_sub(queued as u32).min(SLICE);
        if queued > SLICE as usize || room == 0 {
            return;
        }
        for fetch in &mut conn.fetches {
            for shard in fetch.open.iter().filter(|&shard| !fetch.asked.contains(shard)) {
                let request = PeerMessage::RetainedRead { fetch: fetch.id, filter: fetch.filter.clone(), max: room };
                self.peers.to(shard).messages.push(request);
            }
            fetch.asked = fetch.open;
        }
    }

    /// Forgets the fetches of a connection that ends.
    pub(super) fn cancel_fetches(&mut self, slot: u32) {
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        for fetch in std::mem::take(&mut conn.fetches) {
            self.fetching.remove(&fetch.id);
            for shard in fetch.open.iter() {
                self.peers.to(shard).messages.push(PeerMessage::RetainedCancel { fetch: fetch.id });
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
        let Some((slot, subscriber)) = self.fetch_wants(fetch, &incoming) else { return };
        let Some(session) = self.connections.slot(slot).map(|conn| conn.session) else { return };
        let mut subscription_ids = super::message::SubscriptionIds::new();
        if subscriber.subscription_id != 0 {
            subscription_ids.push(subscriber.subscription_id);
        }
        // A retained message that is sent because of a SUBSCRIBE carries RETAIN [MQTT-3.3.1-8].
        let qos = delivered_qos(incoming.qos, subscriber.options.qos());
        let delivery = Delivery { message: incoming.to_message(), qos, retain: true, subscription_ids };
        self.deliver(session, delivery, None);
    }

    fn fetch_wants(&self, id: u32, incoming: &Incoming<'_>) -> Option<(u32, Subscriber)> {
        let slot = *self.fetching.get(&id)?;
        let fetch = self.connections.slot(slot)?.fetches.iter().find(|fetch| fetch.id == id)?;
        (!fetch.seen.contains(&self.topics.fingerprint(incoming.topic))).then_some((slot, fetch.subscriber))
    }

    /// A shard has answered.
    pub(super) fn on_retained_slice(&mut self, from: ShardId, id: u32, done: bool) {
        let Some(&slot) = self.fetching.get(&id) else { return };
        let Some(conn) = self.connections.slot_mut(slot) else { return };
        let Some(index) = conn.fetches.iter().position(|fetch| fetch.id == id) else { return };
        let fetch = &mut conn.fetches[index];
        fetch.asked.remove(from);
        if done {
            fetch.open.remove(from);
        }
        if fetch.open.is_empty() {
            conn.fetches.swap_remove(index);
            self.fetching.remove(&id);
        }
        self.continue_fetches(slot);
    }
}
