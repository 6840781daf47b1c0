//! The records of a journal as bytes: a tag, then fields, numbers little-endian, texts and payloads behind their length (u32).
//!
//! Sessions are named by a number that they keep over restarts; deliveries by their number within their session; a message that several sessions of the
//! shard get is written once and named by a number of its own. Every record can be applied twice without harm, so that what is live can be written anew
//! beside the changes to it. Moments are milliseconds since 1970.

use smallvec::SmallVec;

use super::exchange::{Names, TakenBy};
use crate::broker::message::{Incoming, NEVER, SubscriptionIds};
use crate::mqtt::{QoS, Version};

/// One change of what outlives the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// The retained message of a topic.
    SetRetained(Stored<'a>),
    ClearRetained {
        topic: &'a str,
    },
    /// A session exists, and has a connection.
    Session {
        session: u64,
        version: Version,
        /// Seconds that it outlives its connection; `u32::MAX` for ever.
        expiry_s: u32,
        client_id: &'a str,
        /// Who has proven to be its owner; empty for nobody.
        user: &'a str,
    },
    SessionEnded {
        session: u64,
    },
    /// It has no connection any more.
    SessionLeft {
        session: u64,
        unix_ms: u64,
    },
    /// The will that waits for the end of its connection, or for its delay after it.
    Will {
        session: u64,
        delay_s: u32,
        /// Seconds that the message lives once it is published; `u32::MAX` for ever.
        expiry_s: u32,
        message: Stored<'a>,
    },
    WillGone {
        session: u64,
    },
    Subscribed {
        session: u64,
        /// 0 for none.
        subscription_id: u32,
        /// As [`SubOptions`](crate::broker::topics::SubOptions) packs them.
        options: u8,
        /// With `$share/group/` before a shared one.
        filter: &'a str,
    },
    Unsubscribed {
        session: u64,
        filter: &'a str,
    },
    /// A message that the next deliveries name.
    Message {
        message: u64,
        stored: Stored<'a>,
    },
    /// A message is a session's: queued, or sent.
    Delivery {
        session: u64,
        number: u64,
        message: u64,
        qos: QoS,
        retain: bool,
        /// The shared subscription that it came by; empty for the session's own.
        share: &'a str,
        subscription_ids: SubscriptionIds,
    },
    /// Deliveries up to this number were sent for the first time.
    Sent {
        session: u64,
        number: u64,
    },
    /// The client has the QoS 2 message: only the rest of the exchange is missing.
    Released {
        session: u64,
        number: u64,
    },
    /// The delivery is over, in whatever way.
    Finished {
        session: u64,
        number: u64,
    },
    /// A QoS 2 message of the client is taken; `elsewhere`: other shards keep the identifier too.
    Received {
        session: u64,
        packet_id: u16,
        elsewhere: bool,
    },
    /// The client has released the identifier.
    ReceivedEnded {
        session: u64,
        packet_id: u16,
    },
    /// The sessions of one shard have taken a QoS 2 message, or need not, but for some.
    Taken {
        session: u64,
        packet_id: u16,
        digest: u64,
        by: TakenBy,
    },
    TakenEnded {
        session: u64,
        packet_id: u16,
    },
}

/// A message as it is kept; `expires_at` is a moment of the world, not of a shard's clock.
pub type Stored<'a> = Incoming<'a>;

const SET_RETAINED: u8 = 1;
const CLEAR_RETAINED: u8 = 2;
const SESSION: u8 = 3;
const SESSION_ENDED: u8 = 4;
const SESSION_LEFT: u8 = 5;
const WILL: u8 = 6;
const WILL_GONE: u8 = 7;
const SUBSCRIBED: u8 = 8;
const UNSUBSCRIBED: u8 = 9;
const MESSAGE: u8 = 10;
const DELIVERY: u8 = 11;
const SENT: u8 = 12;
const RELEASED: u8 = 13;
const FINISHED: u8 = 14;
const RECEIVED: u8 = 15;
const RECEIVED_ENDED: u8 = 16;
const TAKEN: u8 = 17;
const TAKEN_ENDED: u8 = 18;

const RETAIN_BIT: u8 = 0x10;

/// Appends to records.
struct Writer<'b>(&'b mut Vec<u8>);

impl Writer<'_> {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    fn names(&mut self, names: &Names) -> &mut Self {
        self.u32(names.len() as u32);
        names.iter().fold(self, |to, &name| to.u64(name))
    }

    fn stored(&mut self, stored: &Stored<'_>) -> &mut Self {
        let flags = stored.qos as u8 | if stored.retain { RETAIN_BIT } else { 0 };
        self.u8(flags).u64(stored.expires_at).bytes(stored.topic.as_bytes()).bytes(stored.forward).bytes(stored.payload)
    }
}

impl Record<'_> {
    /// Appends the record.
    pub fn put(&self, records: &mut Vec<u8>) {
        let mut to = Writer(records);
        match self {
            Record::SetRetained(stored) => to.u8(SET_RETAINED).stored(stored),
            Record::ClearRetained { topic } => to.u8(CLEAR_RETAINED).bytes(topic.as_bytes()),
            Record::Session { session, version, expiry_s, client_id, user } => {
                to.u8(SESSION).u64(*session).u8(*version as u8).u32(*expiry_s).bytes(client_id.as_bytes()).bytes(user.as_bytes())
            }
            Record::SessionEnded { session } => to.u8(SESSION_ENDED).u64(*session),
            Record::SessionLeft { session, unix_ms } => to.u8(SESSION_LEFT).u64(*session).u64(*unix_ms),
            Record::Will { session, delay_s, expiry_s, message } => to.u8(WILL).u64(*session).u32(*delay_s).u32(*expiry_s).stored(message),
            Record::WillGone { session } => to.u8(WILL_GONE).u64(*session),
            Record::Subscribed { session, subscription_id, options, filter } => {
                to.u8(SUBSCRIBED).u64(*session).u32(*subscription_id).u8(*options).bytes(filter.as_bytes())
            }
            Record::Unsubscribed { session, filter } => to.u8(UNSUBSCRIBED).u64(*session).bytes(filter.as_bytes()),
            Record::Message { message, stored } => to.u8(MESSAGE).u64(*message).stored(stored),
            Record::Delivery { session, number, message, qos, retain, share, subscription_ids } => {
                let flags = *qos as u8 | if *retain { RETAIN_BIT } else { 0 };
                to.u8(DELIVERY).u64(*session).u64(*number).u64(*message).u8(flags).bytes(share.as_bytes());
                to.u32(subscription_ids.len() as u32);
                subscription_ids.iter().fold(&mut to, |to, &id| to.u32(id))
            }
            Record::Sent { session, number } => to.u8(SENT).u64(*session).u64(*number),
            Record::Released { session, number } => to.u8(RELEASED).u64(*session).u64(*number),
            Record::Finished { session, number } => to.u8(FINISHED).u64(*session).u64(*number),
            Record::Received { session, packet_id, elsewhere } => to.u8(RECEIVED).u64(*session).u16(*packet_id).u8(u8::from(*elsewhere)),
            Record::ReceivedEnded { session, packet_id } => to.u8(RECEIVED_ENDED).u64(*session).u16(*packet_id),
            Record::Taken { session, packet_id, digest, by } => {
                to.u8(TAKEN).u64(*session).u16(*packet_id).u64(*digest).u16(by.shard).u16(by.shards).names(&by.refused).names(&by.shares)
            }
            Record::TakenEnded { session, packet_id } => to.u8(TAKEN_ENDED).u64(*session).u16(*packet_id),
        };
    }
}

/// Takes records off the front of bytes.
struct Reader<'b, 'a>(&'b mut &'a [u8]);

impl<'a> Reader<'_, 'a> {
    /// `None` where the records end too early.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length)?;
        *self.0 = rest;
        Some(part)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn qos_and_retain(&mut self) -> Option<(QoS, bool)> {
        let flags = self.u8()?;
        Some((QoS::from_bits(flags & !RETAIN_BIT)?, flags & RETAIN_BIT != 0))
    }

    fn stored(&mut self) -> Option<Stored<'a>> {
        let (qos, retain) = self.qos_and_retain()?;
        let expires_at = self.u64()?;
        let topic = self.text().filter(|topic| topic.len() <= usize::from(u16::MAX))?;
        Some(Stored { topic, forward: self.bytes()?, payload: self.bytes()?, qos, retain, expires_at })
    }

    fn subscription_ids(&mut self) -> Option<SubscriptionIds> {
        let count = self.u32()?;
        let mut ids = SmallVec::new();
        // Read one by one: a count that lies must not make room for what is not there.
        for _ in 0..count {
            ids.push(self.u32()?);
        }
        Some(ids)
    }

    fn names(&mut self) -> Option<Names> {
        let count = self.u32()?;
        (0..count).map(|_| self.u64()).collect()
    }

    fn record(&mut self) -> Option<Record<'a>> {
        Some(match self.u8()? {
            SET_RETAINED => Record::SetRetained(self.stored()?),
            CLEAR_RETAINED => Record::ClearRetained { topic: self.text()? },
            SESSION => Record::Session {
                session: self.u64()?,
                version: Version::from_level(self.u8()?)?,
                expiry_s: self.u32()?,
                client_id: self.text()?,
                user: self.text()?,
            },
            SESSION_ENDED => Record::SessionEnded { session: self.u64()? },
            SESSION_LEFT => Record::SessionLeft { session: self.u64()?, unix_ms: self.u64()? },
            WILL => Record::Will { session: self.u64()?, delay_s: self.u32()?, expiry_s: self.u32()?, message: self.stored()? },
            WILL_GONE => Record::WillGone { session: self.u64()? },
            SUBSCRIBED => {
                Record::Subscribed { session: self.u64()?, subscription_id: self.u32()?, options: self.u8()?, filter: self.text()? }
            }
            UNSUBSCRIBED => Record::Unsubscribed { session: self.u64()?, filter: self.text()? },
            MESSAGE => Record::Message { message: self.u64()?, stored: self.stored()? },
            DELIVERY => {
                let (session, number, message) = (self.u64()?, self.u64()?, self.u64()?);
                let (qos, retain) = self.qos_and_retain()?;
                let (share, subscription_ids) = (self.text()?, self.subscription_ids()?);
                Record::Delivery { session, number, message, qos, retain, share, subscription_ids }
            }
            SENT => Record::Sent { session: self.u64()?, number: self.u64()? },
            RELEASED => Record::Released { session: self.u64()?, number: self.u64()? },
            FINISHED => Record::Finished { session: self.u64()?, number: self.u64()? },
            RECEIVED => Record::Received { session: self.u64()?, packet_id: self.u16()?, elsewhere: self.u8()? != 0 },
            RECEIVED_ENDED => Record::ReceivedEnded { session: self.u64()?, packet_id: self.u16()? },
            TAKEN => {
                let (session, packet_id, digest) = (self.u64()?, self.u16()?, self.u64()?);
                let by = TakenBy { shard: self.u16()?, shards: self.u16()?, refused: self.names()?, shares: self.names()? };
                Record::Taken { session, packet_id, digest, by }
            }
            TAKEN_ENDED => Record::TakenEnded { session: self.u64()?, packet_id: self.u16()? },
            _ => return None,
        })
    }
}

/// The next record; `None` at the end, or where something is no record.
pub fn next<'a>(records: &mut &'a [u8]) -> Option<Record<'a>> {
    Reader(records).record()
}

/// A moment of a shard's clock as one of the world's, and the other way round; [`NEVER`] is the same in both.
pub fn shift(moment: u64, by: impl FnOnce(u64) -> u64) -> u64 {
    if moment == NEVER { NEVER } else { by(moment) }
}
