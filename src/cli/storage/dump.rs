//! The state in a data directory as lines of JSON, and back. Bytes are written in base64, moments in milliseconds since 1970.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::broker::journal::image::{Image, KeptDelivery, KeptSession};
use crate::broker::journal::record::{self, Record, Stored};
use crate::mqtt::{QoS, TopicName, Version};

/// The logs of all shards, each the commits in their order.
type Logs = [Vec<Vec<u8>>];

/// What the logs say all together.
pub struct State<'a> {
    retained: BTreeMap<&'a str, Stored<'a>>,
    images: Vec<Image<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Retained(Message),
    Session(Session),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    topic: String,
    qos: u8,
    retain: bool,
    payload: String,
    /// Those of 5.0 that are passed on, encoded.
    properties: String,
    expires_unix_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    name: u64,
    client_id: String,
    user: String,
    version: u8,
    expiry_s: u32,
    left_unix_ms: Option<u64>,
    will: Option<Will>,
    subscriptions: Vec<Subscription>,
    messages: Vec<Delivery>,
    received: Vec<Received>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Will {
    delay_s: u32,
    expiry_s: u32,
    message: Message,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscription {
    filter: String,
    options: u8,
    subscription_id: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delivery {
    number: u64,
    sent: bool,
    qos: u8,
    retain: bool,
    share: String,
    subscription_ids: Vec<u32>,
    /// None where the client has it, and only the rest of the exchange is missing.
    message: Option<Message>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Received {
    packet_id: u16,
    elsewhere: bool,
}

impl<'a> State<'a> {
    pub fn of(logs: &'a Logs) -> State<'a> {
        let mut state = State { retained: BTreeMap::new(), images: Vec::new() };
        for log in logs {
            let mut image = Image::default();
            for mut records in log.iter().map(Vec::as_slice) {
                while let Some(record) = record::next(&mut records) {
                    match record {
                        Record::SetRetained(stored) => drop(state.retained.insert(stored.topic, stored)),
                        Record::ClearRetained { topic } => drop(state.retained.remove(topic)),
                        record => image.apply(record, |_| true, |moment| moment),
                    }
                }
            }
            state.images.push(image);
        }
        state
    }

    fn sessions(&self) -> impl Iterator<Item = (u64, &KeptSession<'a>)> {
        self.images.iter().flat_map(|image| image.sessions.iter().map(|(&name, session)| (name, session)))
    }

    /// How much there is of everything.
    pub fn summary(&self) -> String {
        let waiting = |session: &KeptSession<'_>| session.deliveries.values().filter_map(|delivery| delivery.message.as_ref()).count();
        let bytes = |session: &KeptSession<'_>| -> u64 {
            session.deliveries.values().filter_map(|delivery| delivery.message.as_ref()).map(|message| u64::from(message.bytes())).sum()
        };
        let sum = |of: &dyn Fn(&KeptSession<'_>) -> u64| -> u64 { self.sessions().map(|(_, session)| of(session)).sum() };
        let retained_bytes: u64 = self.retained.values().map(Stored::stored_bytes).sum();
        let longest =
            self.sessions().max_by_key(|(_, session)| session.deliveries.len()).filter(|(_, session)| !session.deliveries.is_empty());
        let longest = longest.map_or(String::new(), |(_, session)| {
            format!("longest queue     {} messages, of client \"{}\"\n", session.deliveries.len(), session.client_id.escape_debug())
        });
        format!(
            "sessions          {}\nsubscriptions     {}\nmessages          {} of {} bytes\n{longest}retained          {} of {retained_bytes} bytes\n",
            self.sessions().count(),
            sum(&|session| session.subscriptions.len() as u64),
            sum(&|session| waiting(session) as u64),
            sum(&bytes),
            self.retained.len(),
        )
    }

    /// A line for each session and each retained message.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let retained = self.retained.values().map(|stored| Line::Retained(Message::of(stored)));
        let sessions = self.sessions().map(|(name, session)| Line::Session(Session::of(name, session)));
        retained.chain(sessions).map(|line| serde_json::to_string(&line).expect("strings and numbers"))
    }
}

/// Commits that do not consist of records to their end.
pub fn unknown_records(logs: &Logs) -> usize {
    let is_unknown = |mut records: &[u8]| {
        while record::next(&mut records).is_some() {}
        !records.is_empty()
    };
    logs.iter().flatten().filter(|commit| is_unknown(commit)).count()
}

impl Message {
    fn of(stored: &Stored<'_>) -> Message {
        Message {
            topic: stored.topic.to_owned(),
            qos: stored.qos as u8,
            retain: stored.retain,
            payload: STANDARD.encode(stored.payload),
            properties: STANDARD.encode(stored.forward),
            expires_unix_ms: (stored.expires_at != u64::MAX).then_some(stored.expires_at),
        }
    }

    /// The same, and what it borrows from.
    fn decode(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        TopicName::new(&self.topic).map_err(|_| format!("\"{}\" is no topic", self.topic.escape_debug()))?;
        let bytes = |name: &str, text: &str| STANDARD.decode(text).map_err(|error| format!("{name} is no base64: {error}"));
        Ok((bytes("payload", &self.payload)?, bytes("properties", &self.properties)?))
    }

    fn with_stored<T>(&self, then: impl FnOnce(Stored<'_>) -> T) -> Result<T, String> {
        let (payload, forward) = self.decode()?;
        let stored = Stored {
            topic: &self.topic,
            payload: &payload,
            forward: &forward,
            qos: qos(self.qos)?,
            retain: self.retain,
            expires_at: self.expires_unix_ms.unwrap_or(u64::MAX),
        };
        Ok(then(stored))
    }
}

fn qos(qos: u8) -> Result<QoS, String> {
    QoS::from_bits(qos).ok_or_else(|| format!("{qos} is no QoS"))
}

impl Session {
    fn of(name: u64, kept: &KeptSession<'_>) -> Session {
        let will = |will: &crate::broker::journal::image::KeptWill<'_>| Will {
            delay_s: will.delay_s,
            expiry_s: will.expiry_s,
            message: Message::of(&will.message),
        };
        let subscription = |(filter, &(subscription_id, options)): (&&str, &(u32, u8))| Subscription {
            filter: (*filter).to_owned(),
            options,
            subscription_id,
        };
        let delivery = |(&number, delivery): (&u64, &KeptDelivery<'_>)| Delivery {
            number,
            sent: number <= kept.sent,
            qos: delivery.qos as u8,
            retain: delivery.retain,
            share: delivery.share.to_owned(),
            subscription_ids: delivery.subscription_ids.to_vec(),
            message: delivery.message.as_ref().map(|message| Message::of(&message.as_incoming())),
        };
        Session {
            name,
            client_id: kept.client_id.to_owned(),
            user: kept.user.to_owned(),
            version: kept.version as u8,
            expiry_s: kept.expiry_s,
            left_unix_ms: kept.left_unix_ms,
            will: kept.will.as_ref().map(will),
            subscriptions: kept.subscriptions.iter().map(subscription).collect(),
            messages: kept.deliveries.iter().map(delivery).collect(),
            received: kept.received.iter().map(|(&packet_id, &elsewhere)| Received { packet_id, elsewhere }).collect(),
        }
    }

    fn put(&self, numbers: &mut Numbers, into: &mut Vec<u8>) -> Result<(), String> {
        let session = self.name;
        let version = Version::from_level(self.version).ok_or_else(|| format!("{} is no version of MQTT", self.version))?;
        Record::Session { session, version, expiry_s: self.expiry_s, client_id: &self.client_id, user: &self.user }.put(into);
        if let Some(Will { delay_s, expiry_s, message }) = &self.will {
            let (delay_s, expiry_s) = (*delay_s, *expiry_s);
            message.with_stored(|message| Record::Will { session, delay_s, expiry_s, message }.put(into))?;
        }
        for Subscription { filter, options, subscription_id } in &self.subscriptions {
            Record::Subscribed { session, subscription_id: *subscription_id, options: *options, filter }.put(into);
        }
        for delivery in &self.messages {
            delivery.put(session, numbers, into)?;
        }
        for &Received { packet_id, elsewhere } in &self.received {
            Record::Received { session, packet_id, elsewhere }.put(into);
        }
        if let Some(unix_ms) = self.left_unix_ms {
            Record::SessionLeft { session, unix_ms }.put(into);
        }
        Ok(())
    }
}

impl Delivery {
    fn put(&self, session: u64, numbers: &mut Numbers, into: &mut Vec<u8>) -> Result<(), String> {
        let number = self.number;
        let Some(message) = &self.message else {
            Record::Released { session, number }.put(into);
            return Ok(());
        };
        numbers.messages += 1;
        let message_number = numbers.messages;
        message.with_stored(|stored| Record::Message { message: message_number, stored }.put(into))?;
        let subscription_ids = self.subscription_ids.iter().copied().collect();
        let (qos, retain) = (qos(self.qos)?, self.retain);
        Record::Delivery { session, number, message: message_number, qos, retain, share: &self.share, subscription_ids }.put(into);
        if self.sent {
            Record::Sent { session, number }.put(into);
        }
        Ok(())
    }
}

/// Numbers that were given to what the lines before brought.
#[derive(Default)]
pub struct Numbers {
    messages: u64,
}

/// The records that a line stands for.
///
/// # Errors
/// What is wrong with the line.
pub fn records(line: &str, numbers: &mut Numbers) -> Result<Vec<u8>, String> {
    let mut records = Vec::new();
    match serde_json::from_str(line).map_err(|error| error.to_string())? {
        Line::Retained(message) => message.with_stored(|stored| Record::SetRetained(stored).put(&mut records))?,
        Line::Session(session) => session.put(numbers, &mut records)?,
    }
    Ok(records)
}
