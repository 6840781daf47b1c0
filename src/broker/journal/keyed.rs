//! The records of a commit as changes of keys and values: for a store that keeps what is live by itself, instead of a log of what has happened.
//!
//! ```text
//! R | topic                                                          the retained message
//! S | session u64 | 0 the session | 1 when it was left | 2 its will | 6 the last delivery that was sent
//! S | session u64 | 3 | filter                                       a subscription
//! S | session u64 | 4 | packet identifier u16                        a QoS 2 message that it has sent
//! S | session u64 | 5 | packet identifier u16 | who says so | shard | shards    ... and that these have taken
//! S | session u64 | 7 | number u64                                   a delivery, with its message
//! ```
//!
//! Numbers are big-endian, so that keys stand in their order. A value is what the records say of the key, as records: all values in the order of their keys
//! are a log that says what the store holds. A message that several sessions get is written for each of them, since each is done with it at another time.

use sha2::{Digest, Sha256};

use super::record::{self, Record};

/// A change of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Remove {
        key: &'a [u8],
    },
    /// All keys from `from` on, without `to`.
    RemoveRange {
        from: &'a [u8],
        to: &'a [u8],
    },
}

const RETAINED: u8 = b'R';
const OF_SESSION: u8 = b'S';

const SESSION: u8 = 0;
const LEFT: u8 = 1;
const WILL: u8 = 2;
const SUBSCRIBED: u8 = 3;
const RECEIVED: u8 = 4;
const TAKEN: u8 = 5;
const SENT: u8 = 6;
const DELIVERY: u8 = 7;

/// Longest text that stands in a key as it is, bytes; of a longer one it is a digest. Engines bound their keys, and topics have up to 65,535.
const MAX_TEXT: usize = 1_024;

/// The changes that a commit of shard `shard` of `shards` makes, in their order; one key may be changed several times.
pub fn changes(mut records: &[u8], shard: u16, shards: u16, mut each: impl FnMut(Change<'_>)) {
    let mut message: &[u8] = &[];
    let mut value = Vec::new();
    while let Some((record, bytes)) = next(&mut records) {
        let put = |each: &mut dyn FnMut(Change<'_>), key: Key| each(Change::Put { key: &key.0, value: bytes });
        let remove = |each: &mut dyn FnMut(Change<'_>), key: Key| each(Change::Remove { key: &key.0 });
        match record {
            Record::SetRetained(stored) => put(&mut each, Key::retained(stored.topic)),
            Record::ClearRetained { topic } => remove(&mut each, Key::retained(topic)),
            Record::Session { session, .. } => {
                put(&mut each, Key::of(session, SESSION));
                // It has a connection.
                remove(&mut each, Key::of(session, LEFT));
            }
            Record::SessionEnded { session } => {
                each(Change::RemoveRange { from: &Key::session(session).0, to: &Key::session(session).after().0 })
            }
            Record::SessionLeft { session, .. } => put(&mut each, Key::of(session, LEFT)),
            Record::Will { session, .. } => put(&mut each, Key::of(session, WILL)),
            Record::WillGone { session } => remove(&mut each, Key::of(session, WILL)),
            Record::Subscribed { session, filter, .. } => put(&mut each, Key::of(session, SUBSCRIBED).text(filter)),
            Record::Unsubscribed { session, filter } => remove(&mut each, Key::of(session, SUBSCRIBED).text(filter)),
            Record::Message { .. } => message = bytes,
            Record::Delivery { session, number, .. } => {
                value.clear();
                value.extend_from_slice(message);
                value.extend_from_slice(bytes);
                value.extend_from_slice(take_sent(&mut records, session, number));
                each(Change::Put { key: &Key::delivery(session, number).0, value: &value });
                if number == 1 {
                    // Numbers begin anew: what was said of the old ones is void.
                    remove(&mut each, Key::of(session, SENT));
                }
            }
            Record::Sent { session, .. } => put(&mut each, Key::of(session, SENT)),
            Record::Released { session, number } => put(&mut each, Key::delivery(session, number)),
            Record::Finished { session, number } => remove(&mut each, Key::delivery(session, number)),
            Record::Received { session, packet_id, .. } => put(&mut each, Key::of(session, RECEIVED).u16(packet_id)),
            Record::ReceivedEnded { session, packet_id } => remove(&mut each, Key::of(session, RECEIVED).u16(packet_id)),
            Record::Taken { session, packet_id, ref by, .. } => {
                put(&mut each, Key::of(session, TAKEN).u16(packet_id).u16(shard).u16(by.shard).u16(by.shards));
            }
            Record::TakenEnded { session, packet_id } => {
                let (exchange, own) = (Key::of(session, TAKEN).u16(packet_id), Key::of(session, TAKEN).u16(packet_id).u16(shard));
                // The last shard speaks for those of earlier runs that had more of them, too.
                let to = if shard + 1 < shards { own.after() } else { exchange.after() };
                each(Change::RemoveRange { from: &own.0, to: &to.0 });
            }
        }
    }
}

/// The next record, and the bytes that it stands in.
fn next<'a>(records: &mut &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
    let before = *records;
    let record = record::next(records)?;
    Some((record, &before[..before.len() - records.len()]))
}

/// Takes the record off that says that this very delivery was sent, if it is the next one: it stands with the delivery then.
fn take_sent<'a>(records: &mut &'a [u8], session: u64, number: u64) -> &'a [u8] {
    let mut ahead = *records;
    match next(&mut ahead) {
        Some((Record::Sent { session: of, number: up_to }, bytes)) if (of, up_to) == (session, number) => {
            *records = ahead;
            bytes
        }
        _ => &[],
    }
}

/// A key while it is put together.
struct Key(Vec<u8>);

impl Key {
    fn retained(topic: &str) -> Key {
        Key(vec![RETAINED]).text(topic)
    }

    /// What the keys of a session begin with.
    fn session(session: u64) -> Key {
        let mut key = Vec::with_capacity(32);
        key.push(OF_SESSION);
        key.extend_from_slice(&session.to_be_bytes());
        Key(key)
    }

    fn of(session: u64, kind: u8) -> Key {
        let mut key = Key::session(session);
        key.0.push(kind);
        key
    }

    fn delivery(session: u64, number: u64) -> Key {
        let mut key = Key::of(session, DELIVERY);
        key.0.extend_from_slice(&number.to_be_bytes());
        key
    }

    fn u16(mut self, value: u16) -> Key {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    fn text(mut self, text: &str) -> Key {
        if text.len() <= MAX_TEXT {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            // No text has this byte.
            self.0.push(0xFF);
            self.0.extend_from_slice(&Sha256::digest(text.as_bytes()));
        }
        self
    }

    /// The first key behind all those that begin with this one.
    fn after(&self) -> Key {
        let mut key = self.0.clone();
        while key.last() == Some(&u8::MAX) {
            key.pop();
        }
        if let Some(last) = key.last_mut() {
            *last += 1;
        }
        Key(key)
    }
}
