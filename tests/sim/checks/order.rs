//! Messages of one publisher to one topic at one QoS arrive in the order in which they were published [MQTT-4.6.0-5] [MQTT-4.6.0-6].
//!
//! Judged by the first time that a session sees each message; retained messages that a SUBSCRIBE asked for are older by nature and do not count.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::history::Purpose;
use crate::model::Model;

pub fn check(model: &Model<'_>, violations: &mut Vec<Violation>) {
    for (index, session) in model.sessions.iter().enumerate() {
        let mut seen = BTreeSet::new();
        let mut latest = BTreeMap::new();
        for &(seq, socket, receipt) in &model.receipts[index] {
            let Some(at) = receipt.message.filter(|_| !receipt.retain) else { continue };
            let message = &model.history.messages[at];
            let publication = &model.publications[at];
            if message.purpose == Purpose::Will || publication.refused > 0 || !seen.insert((at, receipt.qos)) {
                continue;
            }
            // Where a message was sent more than once, the first one may have come before the subscription.
            let (Some(&first), Some(&published)) =
                (publication.processed.first(), publication.processed.iter().rfind(|&&processed| processed < seq))
            else {
                continue;
            };
            // A message of a shared subscription comes out of its order where the member that had it first is gone.
            if session.matching(&message.topic, first, seq).any(|(group, _)| group.is_some()) {
                continue;
            }
            let key = (message.publisher, &message.topic, message.qos, receipt.qos);
            let before = latest.insert(key, (first, at));
            if let Some((earlier, other)) = before.filter(|&(earlier, _)| earlier > published) {
                violations.push(Violation {
                    check: "order",
                    what: format!(
                        "client {} got on connection {socket} at {seq} message {at} (published at {published}) after message {other} \
                         (published at {earlier}) of client {} on {} with {:?}",
                        session.client, message.publisher, message.topic, receipt.qos
                    ),
                });
            }
        }
    }
}
