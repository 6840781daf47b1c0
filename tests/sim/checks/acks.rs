//! Acknowledgements: PUBACK and PUBREC in the order of what they acknowledge [MQTT-4.6.0-2] [MQTT-4.6.0-3], none without a cause, and none missing where a connection lives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq::mqtt::QoS;

use super::Violation;
use crate::history::{Event, Got, Sent, Seq, SocketIx};
use crate::model::Model;

/// What one connection sent and what came back, kind by kind.
#[derive(Default)]
struct Exchange {
    asked: Vec<(Seq, u16)>,
    answered: Vec<(Seq, u16)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Puback,
    Pubrec,
    Pubcomp,
    Suback,
    Unsuback,
}

/// Reason codes of 5.0 that an answer of this kind may carry in these worlds; 3.x has only SUBACK's.
fn code_fits(kind: Kind, code: u8) -> bool {
    match kind {
        // Success, nobody subscribes, queue or disk full.
        Kind::Puback | Kind::Pubrec => [0, 0x10, 0x97].contains(&code),
        // Success, identifier not known (any more).
        Kind::Pubcomp => [0, 0x92].contains(&code),
        Kind::Suback | Kind::Unsuback => true,
    }
}

pub fn check(model: &Model<'_>, violations: &mut Vec<Violation>) {
    first_transmissions(model, violations);
    granted(model, violations);
    let mut exchanges: BTreeMap<(SocketIx, Kind), Exchange> = BTreeMap::new();
    let mut alive = vec![true; model.history.connections.len()];
    let mut quiet = None;
    for (seq, _, event) in model.history.iter() {
        match event {
            Event::Sent { socket, packet } => {
                if let Some((kind, id)) = asks(model, packet) {
                    exchanges.entry((*socket, kind)).or_default().asked.push((seq, id));
                }
            }
            Event::Received { socket, packet } => {
                if let Some((kind, id, code)) = answers(packet) {
                    if !code_fits(kind, code) {
                        violations.push(Violation {
                            check: "acks",
                            what: format!("connection {socket}, {kind:?} {id} at {seq}: code {code:#x}"),
                        });
                    }
                    exchanges.entry((*socket, kind)).or_default().answered.push((seq, id));
                }
            }
            Event::Ended { socket, .. } | Event::Closed { socket } | Event::Dropped { socket, .. } if quiet.is_none() => {
                alive[*socket] = false;
            }
            Event::Quiet => quiet = quiet.or(Some(seq)),
            _ => {}
        }
    }
    for ((socket, kind), exchange) in &exchanges {
        compare(*socket, *kind, exchange, quiet.filter(|_| alive[*socket]), violations);
    }
}

fn asks(model: &Model<'_>, packet: &Sent) -> Option<(Kind, u16)> {
    match packet {
        Sent::Publish { message, packet_id, .. } => match model.history.messages[*message].qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some((Kind::Puback, *packet_id)),
            QoS::ExactlyOnce => Some((Kind::Pubrec, *packet_id)),
        },
        Sent::Pubrel(packet_id) => Some((Kind::Pubcomp, *packet_id)),
        Sent::Subscribe { packet_id, .. } => Some((Kind::Suback, *packet_id)),
        Sent::Unsubscribe { packet_id, .. } => Some((Kind::Unsuback, *packet_id)),
        _ => None,
    }
}

fn answers(packet: &Got) -> Option<(Kind, u16, u8)> {
    match packet {
        Got::Puback { packet_id, code } => Some((Kind::Puback, *packet_id, *code)),
        Got::Pubrec { packet_id, code } => Some((Kind::Pubrec, *packet_id, *code)),
        Got::Pubcomp { packet_id, code } => Some((Kind::Pubcomp, *packet_id, *code)),
        Got::Suback { packet_id, .. } => Some((Kind::Suback, *packet_id, 0)),
        Got::Unsuback { packet_id } => Some((Kind::Unsuback, *packet_id, 0)),
        _ => None,
    }
}

/// The clients of the world keep to the rules themselves: without DUP a message is sent once [MQTT-3.3.1-1].
fn first_transmissions(model: &Model<'_>, violations: &mut Vec<Violation>) {
    let mut seen = BTreeSet::new();
    for (seq, _, event) in model.history.iter() {
        if let Event::Sent { socket, packet: Sent::Publish { message, dup: false, .. } } = event
            && !seen.insert(message)
        {
            violations
                .push(Violation { check: "acks", what: format!("connection {socket} sent message {message} at {seq} again without DUP") });
        }
    }
}

/// SUBACK has a code for each filter, in order: the QoS that was asked for [MQTT-3.9.3-1].
fn granted(model: &Model<'_>, violations: &mut Vec<Violation>) {
    let mut asked: BTreeMap<(SocketIx, u16), Vec<u8>> = BTreeMap::new();
    for (seq, _, event) in model.history.iter() {
        match event {
            Event::Sent { socket, packet: Sent::Subscribe { packet_id, entries } } => {
                asked.insert((*socket, *packet_id), entries.iter().map(|entry| entry.options.qos as u8).collect());
            }
            Event::Received { socket, packet: Got::Suback { packet_id, codes } } if asked.get(&(*socket, *packet_id)) != Some(codes) => {
                let expected = asked.get(&(*socket, *packet_id));
                let what = format!("connection {socket}, Suback {packet_id} at {seq}: {codes:?}, asked for {expected:?}");
                violations.push(Violation { check: "acks", what });
            }
            _ => {}
        }
    }
}

/// The answers are a beginning of the questions, and all of them where the connection lived until the world was quiet.
fn compare(socket: SocketIx, kind: Kind, exchange: &Exchange, quiet: Option<Seq>, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "acks", what: format!("connection {socket}, {kind:?}: {what}") });
    let mut open: VecDeque<_> = exchange.asked.iter().copied().collect();
    for &(seq, id) in &exchange.answered {
        // PUBCOMP has no order of its own: some have to wait for other shards.
        let next = if kind == Kind::Pubcomp { open.iter().position(|(_, other)| *other == id).unwrap_or(0) } else { 0 };
        match open.remove(next) {
            Some((asked, expected)) if expected == id && asked < seq => {}
            expected => return report(format!("answer {id} at {seq} where (event, identifier) {expected:?} was to be answered next")),
        }
    }
    if let Some(quiet) = quiet
        && let Some((asked, id)) = open.iter().find(|(asked, _)| *asked < quiet)
    {
        report(format!("{id}, sent at {asked}, was never answered"));
    }
}
