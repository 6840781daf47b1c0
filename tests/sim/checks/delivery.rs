//! Who must have received what, who may have, and how: against a list of subscriptions and a matcher that goes level by level.
//!
//! A message of QoS 1 or 2 that was acknowledged with success reaches every session that had subscribed before it was published, and that lives. Nothing
//! reaches anybody who did not subscribe. QoS is the lower of published and granted, subscriptions that overlap are merged, content is untouched.

use std::collections::BTreeMap;

use ringmq::config::QueueFull;
use ringmq::metrics::DropReason;
use ringmq::mqtt::{QoS, RetainHandling};

use super::Violation;
use crate::history::{Entry, Event, Message, MessageIx, Purpose, Receipt, Seq, SocketIx};
use crate::model::{Coverage, Model, Session};
use crate::settings::Settings;
use crate::world::World;

type Receipts<'a> = BTreeMap<MessageIx, Vec<(Seq, SocketIx, &'a Receipt)>>;

pub fn check(world: &World, model: &Model<'_>, violations: &mut Vec<Violation>) {
    let mut missing = 0;
    for (index, session) in model.sessions.iter().enumerate() {
        let mut by_message: Receipts<'_> = BTreeMap::new();
        for &(seq, socket, receipt) in &model.receipts[index] {
            if let Some(damage) = &receipt.damage {
                violation(violations, format!("connection {socket} got at {seq} a damaged message: {damage}"));
            }
            match receipt.message {
                Some(message) => by_message.entry(message).or_default().push((seq, socket, receipt)),
                None => clear_was_wanted(model, session, seq, receipt, violations),
            }
        }
        for (&message, receipts) in &by_message {
            explain(model, session, message, receipts, violations);
            count(&world.settings, model, session, message, receipts, violations);
        }
        for message in 0..model.history.messages.len() {
            if by_message.contains_key(&message) {
                continue;
            }
            if world.settings.roomy && must_have_at_once(model, session, message) {
                let text = format!("session {index} of client {}, connected all the time, never got message {message}", session.client);
                violation(violations, format!("{text}: {}", describe(model, message)));
            }
            if must_have(model, session, message) {
                missing += 1;
                if world.settings.limits.queue_full == QueueFull::RejectNew {
                    let text = format!("session {index} of client {} never got message {message}", session.client);
                    violation(violations, format!("{text}: {}", describe(model, message)));
                }
            }
        }
    }
    if world.settings.limits.queue_full == QueueFull::RejectNew {
        shared(model, violations);
    }
    let dropped: u64 = world
        .hosts
        .iter()
        .map(|host| host.shard.snapshot().counters.dropped)
        .map(|dropped| dropped[DropReason::QueueFull as usize] + dropped[DropReason::QueueBytesFull as usize])
        .sum();
    if missing > dropped && world.settings.limits.queue_full == QueueFull::DropOldest && world.settings.immortal() {
        violation(violations, format!("{missing} messages were lost, and only {dropped} were counted as dropped"));
    }
}

fn violation(violations: &mut Vec<Violation>, what: String) {
    violations.push(Violation { check: "delivery", what });
}

fn describe(model: &Model<'_>, message: MessageIx) -> String {
    let published = &model.history.messages[message];
    let publication = &model.publications[message];
    format!(
        "{:?} by client {} to {} with {:?} retain {}, processed at {:?}, answered {:?}",
        published.purpose,
        published.publisher,
        published.topic,
        published.qos,
        published.retain,
        publication.processed,
        publication.answered
    )
}

/// The coverage of each plain filter, and of each shared one, without what No Local leaves out.
type Filters<'a> = (Vec<Coverage<'a>>, Vec<Coverage<'a>>);

/// The same for what a session may be sent until `seen`: a message of a shared subscription may come late, from a member whose session ended before it had
/// taken it, and then to one that was no member yet when it was published.
fn filters_until<'a>(model: &Model<'_>, session: &'a Session, message: &'a Message, (from, to): (Seq, Seq), seen: Seq) -> Filters<'a> {
    let had_it = |other: &Session| !other.alive && other.matching(&message.topic, from, to).any(|(group, _)| group.is_some());
    let to_shared = if model.sessions.iter().any(had_it) { to.max(seen) } else { to };
    (filters(session, message, from, to).0, filters(session, message, from, to_shared).1)
}

fn filters<'a>(session: &'a Session, message: &'a Message, from: Seq, to: Seq) -> Filters<'a> {
    let mut filters = (Vec::new(), Vec::new());
    for (group, coverage) in session.matching(&message.topic, from, to) {
        if group.is_some() {
            filters.1.push(coverage);
        } else if session.client != message.publisher {
            filters.0.push(coverage);
        } else {
            filters.0.extend(coverage.without_no_local());
        }
    }
    filters
}

/// An empty payload does not say which message it is: somebody must have published one to the topic, and it must have been wanted.
fn clear_was_wanted(model: &Model<'_>, session: &Session, seq: Seq, receipt: &Receipt, violations: &mut Vec<Violation>) {
    let wanted = model.history.messages.iter().enumerate().any(|(index, message)| {
        message.payload.is_empty()
            && message.topic == receipt.topic
            && model.routed(index, seq).is_some_and(|(from, to)| {
                let (plain, shared) = filters_until(model, session, message, (from, to), seq);
                from <= seq && plain.len() + shared.len() > 0
            })
    });
    if !wanted {
        violation(violations, format!("client {} got at {seq} an empty message on {} that nobody sent it", session.client, receipt.topic));
    }
}

/// Each receipt is one that a subscription asked for.
fn explain(
    model: &Model<'_>,
    session: &Session,
    index: MessageIx,
    receipts: &[(Seq, SocketIx, &Receipt)],
    violations: &mut Vec<Violation>,
) {
    let message = &model.history.messages[index];
    for &(seq, socket, receipt) in receipts {
        let Some((from, to)) = model.routed(index, seq) else {
            violation(violations, format!("connection {socket} got at {seq} message {index}, which no shard ever had"));
            continue;
        };
        let (plain, shared) = filters_until(model, session, message, (from, to), seq);
        let v5 = model.history.connections[socket].version.is_v5();
        let fits = merged(&plain, message, receipt, v5)
            || shared.iter().any(|coverage| coverage.entries.iter().any(|entry| alone(entry, message, receipt, v5)))
            || (receipt.retain && fetches(session, message, seq).any(|entry| asked_for(entry, message, receipt, v5)));
        if !fits {
            let wanted: Vec<_> = plain.iter().chain(&shared).map(|coverage| (coverage.certain, &coverage.entries)).collect();
            let what = format!("connection {socket} got at {seq} message {index} as {receipt:?}; it may have asked for {wanted:?}");
            violation(violations, format!("{what}; {}", describe(model, index)));
        }
        let fresh_link = model.accepted[socket].is_some_and(|accepted| accepted < from);
        if receipt.dup && fresh_link && message.purpose != Purpose::Will {
            // [MQTT-3.3.1-1]
            violation(violations, format!("connection {socket} got at {seq} message {index} for the first time, with DUP"));
        }
        if !receipt.fresh && !receipt.dup {
            violation(violations, format!("connection {socket} got at {seq} message {index} again, without DUP"));
        }
    }
}

/// One delivery for all plain subscriptions together [MQTT-3.3.4-2] [MQTT-3.8.4-8].
fn merged(plain: &[Coverage<'_>], message: &Message, receipt: &Receipt, v5: bool) -> bool {
    if plain.is_empty() {
        return false;
    }
    let certain = plain.iter().filter(|coverage| coverage.certain);
    let possible = || plain.iter().flat_map(|coverage| coverage.entries.iter());
    let low = certain.clone().map(|coverage| coverage.lowest()).max();
    let low = low.or_else(|| possible().map(|entry| entry.options.qos).min()).unwrap_or_default();
    let high = possible().map(|entry| entry.options.qos).max().unwrap_or_default();
    let qos = message.qos.min(low) <= receipt.qos && receipt.qos <= message.qos.min(high);
    // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    let ids = receipt.subscription_ids.iter().all(|id| possible().any(|entry| entry.subscription_id == *id))
        && certain.clone().filter(|coverage| coverage.entries.len() == 1).all(|coverage| {
            let id = coverage.entries[0].subscription_id;
            id == 0 || !v5 || receipt.subscription_ids.contains(&id)
        });
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    let may_retain = message.retain && possible().any(|entry| entry.options.retain_as_published);
    let must_retain =
        message.retain && certain.clone().any(|coverage| coverage.entries.iter().all(|entry| entry.options.retain_as_published));
    qos && ids && (!receipt.retain || may_retain) && (receipt.retain || !must_retain)
}

/// QoS and identifier are those of one subscription. 3.x knows no identifiers.
fn asked_for(entry: &Entry, message: &Message, receipt: &Receipt, v5: bool) -> bool {
    let id = Some(entry.subscription_id).filter(|&id| id != 0 && v5);
    receipt.qos == message.qos.min(entry.options.qos) && receipt.subscription_ids == id.into_iter().collect::<Vec<_>>()
}

/// A delivery for one shared subscription.
fn alone(entry: &Entry, message: &Message, receipt: &Receipt, v5: bool) -> bool {
    asked_for(entry, message, receipt, v5) && receipt.retain == (message.retain && entry.options.retain_as_published)
}

/// The subscriptions whose SUBSCRIBE may have asked for a retained message.
fn fetches<'a>(session: &'a Session, message: &'a Message, until: Seq) -> impl Iterator<Item = &'a Entry> + 'a {
    let changes = session.changes.iter().filter(|(filter, _)| {
        let (group, filter) = crate::topics::split_shared(filter);
        group.is_none() && crate::topics::matches(filter, &message.topic)
    });
    changes
        .flat_map(|(_, changes)| changes)
        .filter(move |change| change.from < until && message.retain)
        .filter_map(|change| change.entry.as_ref())
        .filter(|entry| entry.options.retain_handling != RetainHandling::DoNotSend)
}

/// No message comes more often than it was sent and asked for.
fn count(
    settings: &Settings,
    model: &Model<'_>,
    session: &Session,
    index: MessageIx,
    receipts: &[(Seq, SocketIx, &Receipt)],
    violations: &mut Vec<Violation>,
) {
    let message = &model.history.messages[index];
    let publication = &model.publications[index];
    let Some((from, to)) = model.routed(index, Seq::MAX) else { return };
    let (plain, shared) = filters_until(model, session, message, (from, to), Seq::MAX);
    let v3 = publication.socket.is_some_and(|socket| !model.history.connections[socket].version.is_v5());
    let lasts = |socket: SocketIx| model.history.connections[socket].expiry_s > 0;
    // What is remembered of who took it: where the publisher's session lasts, of sessions that last, by their own subscriptions.
    let remembered = settings.disk.is_some()
        && publication.socket.is_some_and(lasts)
        && shared.is_empty()
        && receipts.iter().all(|&(_, socket, receipt)| receipt.qos == QoS::ExactlyOnce && lasts(socket));
    let repeated = settings.tight() && (v3 || !settings.immortal()) && !remembered;
    let sent = match message.qos {
        QoS::AtLeastOnce => publication.processed.len().max(1),
        QoS::AtMostOnce => 1,
        // A 3.x client cannot be told that its message was refused: it is disconnected and sends it again.
        // Nor can any client where a crash comes before the answer.
        // A will that is being sent when the machine stops is sent once more.
        QoS::ExactlyOnce if message.purpose == Purpose::Will => 1 + crashes(model),
        QoS::ExactlyOnce if repeated => publication.processed.len().max(1),
        QoS::ExactlyOnce => 1,
    };
    let live_most = sent * (usize::from(!plain.is_empty()) + shared.len());
    let most = live_most + fetches(session, message, Seq::MAX).count();
    let first = |receipt: &Receipt| match receipt.qos {
        QoS::ExactlyOnce => receipt.fresh,
        // That it was sent is forgotten with a crash.
        QoS::AtLeastOnce => !receipt.dup && settings.immortal(),
        QoS::AtMostOnce => settings.immortal() || publication.processed.len() == 1,
    };
    let all = receipts.iter().filter(|(_, _, receipt)| first(receipt)).count();
    let live = receipts.iter().filter(|(_, _, receipt)| first(receipt) && !receipt.retain).count();
    if all > most || live > live_most {
        let at: Vec<_> = receipts.iter().map(|(seq, socket, receipt)| (seq, socket, receipt.dup, receipt.retain, receipt.fresh)).collect();
        let what = format!("client {} got message {index} {all} times ({live} live), at most {most} ({live_most}): {at:?}", session.client);
        violation(violations, format!("{what}; {}", describe(model, index)));
    }
}

fn crashes(model: &Model<'_>) -> usize {
    model.history.iter().filter(|(_, _, event)| matches!(event, Event::Crashed)).count()
}

/// Whether a session that lives must have received a message.
fn must_have(model: &Model<'_>, session: &Session, index: MessageIx) -> bool {
    let message = &model.history.messages[index];
    let Some(acked) = model.acknowledged_at(index) else { return false };
    if !session.alive || message.payload.is_empty() || may_be_lost(model, session, message) {
        return false;
    }
    let Some((from, _)) = model.routed(index, acked) else { return false };
    let (plain, _) = filters(session, message, from, acked);
    plain.iter().any(|coverage| coverage.certain && coverage.lowest() != QoS::AtMostOnce)
}

/// Whether a session must have received a message even at QoS 0: it subscribed before and ever after, and had one connection all the time.
fn must_have_at_once(model: &Model<'_>, session: &Session, index: MessageIx) -> bool {
    let message = &model.history.messages[index];
    let publication = &model.publications[index];
    let Some(&from) = publication.processed.first() else { return false };
    let connected = session.sockets.last().and_then(|&socket| model.accepted[socket]).is_some_and(|accepted| accepted < from);
    if !session.alive || !connected || !publication.certain || message.payload.is_empty() || may_be_lost(model, session, message) {
        return false;
    }
    filters(session, message, from, Seq::MAX).0.iter().any(|coverage| coverage.certain)
}

/// It may expire, or be too large for a client [MQTT-3.1.2-25].
fn may_be_lost(model: &Model<'_>, session: &Session, message: &Message) -> bool {
    let smallest = session.sockets.iter().map(|&socket| model.history.connections[socket].max_packet_bytes).min().unwrap_or(u32::MAX);
    message.expiry_s.is_some_and(|expiry_s| expiry_s < 10_000) || message.payload.len() + crate::topics::HEADER_BYTES > smallest as usize
}

/// A message for a shared subscription whose members all stay reaches one of them [MQTT-4.8.2-4].
fn shared(model: &Model<'_>, violations: &mut Vec<Violation>) {
    let groups: std::collections::BTreeSet<&String> =
        model.sessions.iter().flat_map(|session| session.changes.keys()).filter(|filter| filter.starts_with("$share/")).collect();
    for group in groups {
        let (_, filter) = crate::topics::split_shared(group);
        for (index, message) in model.history.messages.iter().enumerate() {
            let Some(acked) = model.acknowledged_at(index).filter(|_| crate::topics::matches(filter, &message.topic)) else { continue };
            let Some((from, _)) = model.routed(index, acked) else { continue };
            if shared_is_lost(model, group, index, from, acked) {
                violation(violations, format!("no member of {group} got message {index}: {}", describe(model, index)));
            }
        }
    }
}

fn shared_is_lost(model: &Model<'_>, group: &str, index: MessageIx, from: Seq, acked: Seq) -> bool {
    let message = &model.history.messages[index];
    let mut members = 0;
    for (at, session) in model.sessions.iter().enumerate() {
        let Some(changes) = session.changes.get(group) else { continue };
        // A member that comes or goes meanwhile may take the message along.
        let stays = session.alive
            && changes.first().and_then(|change| change.acked).is_some_and(|seq| seq <= from)
            && changes.iter().all(|change| change.entry.as_ref().is_some_and(|entry| entry.options.qos != QoS::AtMostOnce));
        let came_later = changes.first().is_some_and(|change| change.from > acked);
        if came_later {
            continue;
        }
        if !stays || message.payload.is_empty() || may_be_lost(model, session, message) {
            return false;
        }
        members += 1;
        if model.receipts[at].iter().any(|(_, _, receipt)| receipt.message == Some(index)) {
            return false;
        }
    }
    members > 0
}
