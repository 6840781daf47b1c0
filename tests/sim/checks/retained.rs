//! What is retained: in a quiet world a new subscription to `#` gets exactly the last message of each topic [MQTT-3.3.1-5] [MQTT-3.3.1-6].
//!
//! Where one client wrote a topic there is one answer, unless that client lost its connection over it; where several did, one of their last ones. After a crash
//! it is the last one whose publisher was told that it is kept, or a later one.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::mqtt::QoS;

use super::Violation;
use crate::history::{ClientIx, Event, MessageIx, Purpose, Receipt, Sent, Seq};
use crate::model::Model;
use crate::world::World;

/// What a topic may hold: messages, and `None` for nothing.
type Choice = BTreeSet<Option<MessageIx>>;

pub fn check(world: &World, model: &Model<'_>, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "retained", what });
    let Some(reader) = model.history.reader else { return };
    let Some(receipts) = model.sessions.iter().position(|session| session.client == reader).map(|session| &model.receipts[session]) else {
        return report("the reader never connected".to_owned());
    };
    let mut got: BTreeMap<&str, Vec<&Receipt>> = BTreeMap::new();
    for (_, _, receipt) in receipts.iter().filter(|(_, _, receipt)| receipt.retain) {
        got.entry(&receipt.topic).or_default().push(receipt);
    }
    let expected = expected(world, model);
    for (topic, choice) in &expected {
        let got = got.remove(topic.as_str()).unwrap_or_default();
        let one = match got[..] {
            [] => None,
            [one] => one.message,
            _ => return report(format!("{topic}: {} retained messages", got.len())),
        };
        if !choice.contains(&one) || got.iter().any(|receipt| receipt.message.is_none()) {
            report(format!("{topic}: the reader got {got:?}, expected one of {choice:?}"));
        }
        if let (Some(receipt), Some(message)) = (got.first(), one)
            && receipt.qos != model.history.messages[message].qos
        {
            report(format!("{topic}: the reader got {receipt:?}, published with {:?}", model.history.messages[message].qos));
        }
    }
    if let Some((topic, got)) = got.first_key_value() {
        report(format!("{topic}: the reader got {got:?}, nothing was ever retained there"));
    }
}

/// A message with RETAIN that reached its shard.
struct Stored {
    message: MessageIx,
    /// It was worked off at once, and for the first time.
    certain: bool,
    /// When its publisher was told that it is kept.
    promised: Option<Seq>,
}

/// What one publisher left in a topic.
#[derive(Default)]
struct Trail {
    /// What may have been there before.
    before: Choice,
    stored: Vec<Stored>,
}

impl Trail {
    fn now(&self, model: &Model<'_>) -> Choice {
        let mut choice = self.before.clone();
        for stored in &self.stored {
            if stored.certain {
                choice.clear();
            }
            choice.extend(values(model, stored.message));
        }
        choice
    }

    /// The machine stops: what was promised is there, or something later.
    fn crash(&mut self, model: &Model<'_>, at: Seq) {
        let promised = self.stored.iter().rposition(|stored| stored.promised.is_some_and(|promised| promised < at));
        if promised.is_some() {
            self.before.clear();
        }
        for stored in self.stored.drain(..).skip(promised.unwrap_or(0)) {
            self.before.extend(values(model, stored.message));
        }
    }
}

/// What each topic may hold, from the last messages of each of its publishers.
fn expected(world: &World, model: &Model<'_>) -> BTreeMap<String, Choice> {
    let disk_fills = world.settings.disk.is_some_and(|disk| disk.full_permille > 0);
    let mut trails: BTreeMap<(String, ClientIx), Trail> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (seq, _, event) in model.history.iter() {
        match event {
            Event::Ending => break,
            Event::Crashed => trails.values_mut().for_each(|trail| trail.crash(model, seq)),
            Event::Processed { sent, certain, .. } => {
                let Sent::Publish { message: index, .. } = model.history.sent(*sent) else { continue };
                let message = &model.history.messages[*index];
                if !message.retain {
                    continue;
                }
                let trail = trails
                    .entry((message.topic.clone(), message.publisher))
                    .or_insert_with(|| Trail { before: Choice::from([None]), stored: Vec::new() });
                // A QoS 2 message that is sent again may have been taken the first time.
                let first = seen.insert(*index) || message.qos != QoS::ExactlyOnce;
                let promised = model.acknowledged_at(*index).filter(|_| first);
                // A full disk lets nothing be kept.
                let certain = *certain && first && (!disk_fills || promised.is_some());
                trail.stored.push(Stored { message: *index, certain, promised });
            }
            _ => {}
        }
    }
    let mut expected: BTreeMap<String, Choice> = BTreeMap::new();
    for ((topic, _), trail) in trails {
        expected.entry(topic).or_default().extend(trail.now(model));
    }
    for (index, message) in
        model.history.messages.iter().enumerate().filter(|(_, message)| message.purpose == Purpose::Will && message.retain)
    {
        // When it was sent, and whether, is for others to judge.
        let choice = expected.entry(message.topic.clone()).or_default();
        choice.insert(None);
        choice.extend(values(model, index));
    }
    expected
}

/// What is retained after a message: itself, nothing, or either where it may expire.
fn values(model: &Model<'_>, index: MessageIx) -> Choice {
    let message = &model.history.messages[index];
    let mut values = Choice::new();
    if message.payload.is_empty() || message.expiry_s.is_some() {
        values.insert(None);
    }
    if !message.payload.is_empty() {
        values.insert(Some(index));
    }
    values
}
