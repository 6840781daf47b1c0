//! Packet identifiers of the broker: none is used again before its exchange is over [MQTT-2.2.1-4] (3.1.1: [MQTT-2.3.1-4]), and PUBREL only answers PUBREC.
//!
//! Over the whole life of a session: an exchange that a lost connection cut short goes on with the next one.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::mqtt::QoS;

use super::Violation;
use crate::history::{Event, Got, Sent};
use crate::model::Model;
use crate::topics;

/// The exchanges of one session as its client sees them.
#[derive(Default)]
struct Exchanges {
    /// Not acknowledged by the client yet, with QoS and the bytes of their payloads.
    open: BTreeMap<u16, (QoS, usize)>,
    /// PUBREC was sent for them at least once.
    recorded: BTreeSet<u16>,
    /// The broker started anew since the last connection.
    crashed: bool,
}

pub fn check(model: &Model<'_>, violations: &mut Vec<Violation>) {
    let mut sessions: BTreeMap<usize, Exchanges> = BTreeMap::new();
    for (seq, _, event) in model.history.iter() {
        if matches!(event, Event::Crashed) {
            sessions.values_mut().for_each(|exchanges| exchanges.crashed = true);
        }
        let (Event::Sent { socket, .. } | Event::Received { socket, .. } | Event::Accepted { socket, .. }) = event else { continue };
        let Some(session) = model.session_of[*socket] else { continue };
        let exchanges = sessions.entry(session).or_default();
        let mut report = |what: String| {
            violations.push(Violation { check: "identifiers", what: format!("connection {socket} got at {seq} {what}") });
        };
        match event {
            Event::Sent { packet: Sent::Puback(id) | Sent::Pubcomp(id), .. } => drop(exchanges.open.remove(id)),
            Event::Sent { packet: Sent::Pubrec(id), .. } => drop(exchanges.recorded.insert(*id)),
            Event::Accepted { .. } if std::mem::take(&mut exchanges.crashed) => {
                // That a message of QoS 1 was sent is forgotten.
                exchanges.open.retain(|_, (qos, _)| *qos == QoS::ExactlyOnce);
            }
            Event::Received { packet: Got::Connack { .. }, .. } => {
                // What this connection cannot take counts as delivered [MQTT-3.1.2-25].
                let max = model.history.connections[*socket].max_packet_bytes as usize;
                exchanges.open.retain(|_, (_, bytes)| *bytes + topics::HEADER_BYTES <= max);
            }
            Event::Received { packet: Got::Publish(receipt), .. } if receipt.qos != QoS::AtMostOnce => {
                let id = receipt.packet_id;
                let bytes = receipt.message.map_or(0, |message| model.history.messages[message].payload.len());
                if exchanges.open.insert(id, (receipt.qos, bytes)).is_some() && !receipt.dup {
                    report(format!("a new message under identifier {id}, which is in use"));
                }
            }
            Event::Received { packet: Got::Pubrel { packet_id }, .. } if !exchanges.recorded.contains(packet_id) => {
                report(format!("PUBREL {packet_id} without having sent PUBREC"));
            }
            _ => {}
        }
    }
}
