//! All shards agree on who subscribes: in a quiet world a message that enters on any shard reaches exactly who the model says, at any QoS.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::history::{MessageIx, Purpose};
use crate::model::Model;

pub fn check(model: &Model<'_>, violations: &mut Vec<Violation>) {
    // How often each session got each message.
    let mut got: BTreeMap<(MessageIx, usize), usize> = BTreeMap::new();
    for (session, receipts) in model.receipts.iter().enumerate() {
        for (_, _, receipt) in receipts {
            if let Some(message) = receipt.message.filter(|_| receipt.fresh) {
                *got.entry((message, session)).or_default() += 1;
            }
        }
    }
    for (index, message) in model.history.messages.iter().enumerate().filter(|(_, message)| message.purpose == Purpose::Probe) {
        let Some((from, to)) = model.routed(index, usize::MAX) else {
            violations.push(Violation { check: "replicas", what: format!("probe {index} reached no shard") });
            continue;
        };
        let mut groups = BTreeSet::new();
        let mut vague = false;
        let mut shared_receipts = 0;
        for (at, session) in model.sessions.iter().enumerate().filter(|(_, session)| session.alive) {
            let got = got.get(&(index, at)).copied().unwrap_or(0);
            let (mut plain, mut member) = (0, 0);
            for (filter, (group, coverage)) in session.matching_named(&message.topic, from, to) {
                // Whether a SUBSCRIBE came in time that was the last of its connection, nobody can tell.
                vague |= !coverage.certain;
                if group.is_some() {
                    groups.insert(filter);
                    member += 1;
                } else {
                    plain = 1;
                }
            }
            if (got < plain && !vague) || got > plain + member {
                let what = format!("probe {index} to {} from shard {}", message.topic, model.history.clients[message.publisher].home.0);
                violations.push(Violation {
                    check: "replicas",
                    what: format!("{what}: client {} got it {got} times instead of {plain} (and {member} shared)", session.client),
                });
            }
            shared_receipts += got.saturating_sub(plain);
        }
        if shared_receipts != groups.len() && !vague {
            violations.push(Violation {
                check: "replicas",
                what: format!("probe {index} to {}: {shared_receipts} members got it for {groups:?}", message.topic),
            });
        }
    }
}
