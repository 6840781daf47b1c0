//! A will that is sent reaches who subscribes to it [MQTT-3.1.2-8], and one that is not sent reaches nobody [MQTT-3.1.2-10].
//!
//! Judged by a client that subscribes to all wills and is connected all the time. When they are sent is for `timers` to judge.

use ringmq::mqtt::QoS;

use super::Violation;
use super::timers::will_of;
use crate::history::Event;
use crate::lives::{Lives, Verdict};
use crate::model::Model;

pub fn check(tight: bool, model: &Model<'_>, lives: &Lives, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "wills", what });
    let watcher = model.sessions.iter().position(|session| Some(session.client) == model.history.watcher);
    let Some((watcher, since)) = watcher.and_then(|watcher| Some((watcher, model.sessions[watcher].changes.values().next()?[0].acked?)))
    else {
        return;
    };
    let until = model.history.iter().find(|(_, _, event)| matches!(event, Event::Ending)).map_or(0, |(_, at, _)| at);
    for (index, life) in lives.lives.iter().enumerate() {
        let Some(plan) = &model.history.connections[life.socket].will else { continue };
        let got = model.receipts[watcher].iter().filter(|(_, _, receipt)| receipt.message == Some(plan.message)).count();
        let message = &model.history.messages[plan.message];
        match will_of(index, model, lives) {
            None if got > 0 => report(format!("the will of connection {} was delivered and should not have been sent", life.socket)),
            Some(due) if due.verdict == Verdict::Yes => {
                // Queues that are full refuse what nobody can be told of.
                let surely = message.qos != QoS::AtMostOnce && !tight && message.expiry_s.is_none();
                let in_time = model.history.records[since].at < due.earliest && due.earliest < until;
                if got > 1 || (got == 0 && surely && in_time) {
                    report(format!("the will of connection {} was delivered {got} times", due.socket));
                }
            }
            _ => {}
        }
    }
}
