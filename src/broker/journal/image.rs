//! One log of an earlier run, read: what the records say all together. Only sessions that live on this shard now are taken in.
//!
//! A record may come twice, and one may be of something that is over: then it changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::exchange::Taken;
use super::record::{Record, Stored};
use crate::broker::message::{Message, SubscriptionIds};
use crate::broker::session::FixedHasher;
use crate::mqtt::{QoS, Version};

/// What a session is to get.
#[derive(Debug)]
pub struct KeptDelivery<'a> {
    /// `None` where the client has it already.
    pub message: Option<Message>,
    pub qos: QoS,
    pub retain: bool,
    pub share: &'a str,
    pub subscription_ids: SubscriptionIds,
}

/// A will that was not sent.
#[derive(Debug)]
pub struct KeptWill<'a> {
    pub message: Stored<'a>,
    pub delay_s: u32,
    /// `u32::MAX` for ever.
    pub expiry_s: u32,
}

/// A session.
#[derive(Debug)]
pub struct KeptSession<'a> {
    pub client_id: &'a str,
    pub user: &'a str,
    pub version: Version,
    pub expiry_s: u32,
    /// `None`: it had a connection when the broker ended.
    pub left_unix_ms: Option<u64>,
    pub will: Option<KeptWill<'a>>,
    /// Identifier and options by filter.
    pub subscriptions: BTreeMap<&'a str, (u32, u8)>,
    pub deliveries: BTreeMap<u64, KeptDelivery<'a>>,
    /// Deliveries up to this number were sent.
    pub sent: u64,
    /// QoS 2 identifiers, and whether other shards keep them too.
    pub received: BTreeMap<u16, bool>,
}

/// A message that deliveries name, and its body once one does.
#[derive(Debug)]
struct Named<'a> {
    stored: Stored<'a>,
    message: Option<Message>,
}

/// The sessions of one log, by their names; and the QoS 2 exchanges of other shards that were open there.
#[derive(Debug, Default)]
pub struct Image<'a> {
    pub sessions: BTreeMap<u64, KeptSession<'a>>,
    messages: HashMap<u64, Named<'a>, FixedHasher>,
    pub taken: BTreeMap<(u64, u16), Taken>,
    /// All sessions of the log, also those of other shards.
    pub names: BTreeSet<u64>,
}

impl<'a> Image<'a> {
    /// Takes in the next record. `is_own`: whether a client identifier is at home here. `clock`: a moment of the world as one of the shard's clock.
    pub fn apply(&mut self, record: Record<'a>, is_own: impl Fn(&str) -> bool, clock: impl Fn(u64) -> u64) {
        match record {
            Record::SetRetained(_) | Record::ClearRetained { .. } => {}
            Record::Session { session, version, expiry_s, client_id, user } => {
                self.names.insert(session);
                if is_own(client_id) {
                    let kept = self.sessions.entry(session).or_insert_with(|| KeptSession::new(client_id));
                    (kept.version, kept.expiry_s, kept.user, kept.left_unix_ms) = (version, expiry_s, user, None);
                }
            }
            Record::SessionEnded { session } => {
                self.names.remove(&session);
                self.sessions.remove(&session);
            }
            Record::Message { message, stored } => {
                self.messages.insert(message, Named { stored, message: None });
            }
            Record::Taken { session, packet_id, digest, by } => self.taken.entry((session, packet_id)).or_default().add(digest, by),
            Record::TakenEnded { session, packet_id } => {
                self.taken.remove(&(session, packet_id));
            }
            Record::Delivery { session, number, message, qos, retain, share, subscription_ids } => {
                let Some(kept) = self.sessions.get_mut(&session) else { return };
                let Some(named) = self.messages.get_mut(&message) else { return };
                let stored = &named.stored;
                let body = named.message.get_or_insert_with(|| Stored { expires_at: clock(stored.expires_at), ..*stored }.to_message());
                let delivery = KeptDelivery { message: Some(body.clone()), qos, retain, share, subscription_ids };
                kept.deliveries.insert(number, delivery);
            }
            Record::SessionLeft { session, .. }
            | Record::Will { session, .. }
            | Record::WillGone { session }
            | Record::Subscribed { session, .. }
            | Record::Unsubscribed { session, .. }
            | Record::Sent { session, .. }
            | Record::Released { session, .. }
            | Record::Finished { session, .. }
            | Record::Received { session, .. }
            | Record::ReceivedEnded { session, .. } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.apply(record);
                }
            }
        }
    }
}

impl<'a> KeptSession<'a> {
    fn new(client_id: &'a str) -> KeptSession<'a> {
        KeptSession {
            client_id,
            user: "",
            version: Version::V311,
            expiry_s: 0,
            left_unix_ms: None,
            will: None,
            subscriptions: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            sent: 0,
            received: BTreeMap::new(),
        }
    }

    /// A record that changes only this session.
    fn apply(&mut self, record: Record<'a>) {
        match record {
            Record::SessionLeft { unix_ms, .. } => self.left_unix_ms = Some(unix_ms),
            Record::Will { delay_s, expiry_s, message, .. } => self.will = Some(KeptWill { message, delay_s, expiry_s }),
            Record::WillGone { .. } => self.will = None,
            Record::Subscribed { subscription_id, options, filter, .. } => {
                self.subscriptions.insert(filter, (subscription_id, options));
            }
            Record::Unsubscribed { filter, .. } => {
                self.subscriptions.remove(filter);
            }
            Record::Sent { number, .. } => self.sent = self.sent.max(number),
            Record::Released { number, .. } => {
                // Nothing but the number is of use any more.
                let gone = KeptDelivery {
                    message: None,
                    qos: QoS::ExactlyOnce,
                    retain: false,
                    share: "",
                    subscription_ids: SubscriptionIds::new(),
                };
                self.deliveries.insert(number, gone);
                self.sent = self.sent.max(number);
            }
            Record::Finished { number, .. } => {
                self.deliveries.remove(&number);
                if self.deliveries.is_empty() {
                    // Numbers may begin anew.
                    self.sent = 0;
                }
            }
            Record::Received { packet_id, elsewhere, .. } => {
                self.received.insert(packet_id, elsewhere);
            }
            Record::ReceivedEnded { packet_id, .. } => {
                self.received.remove(&packet_id);
            }
            _ => {}
        }
    }
}
