//! A will that is sent reaches who subscribes to it [MQTT-3.1.2-8], and one that is not sent reaches nobody [MQTT-3.1.2-10].
//!
//! Judged by a client that subscribes to all wills. Time may jump over its keep-alive, and a connection that it gave up may come late and take it over: then it
//! begins anew, and the session that lived to the end is the judge of what was to come. When wills are sent is for `timers` to judge.

use ringmq::mqtt::QoS;

use super::Violation;
use super::timers::will_of;
use crate::history::{Event, MessageIx, Receipt, Seq, SocketIx};
use crate::lives::{Lives, Verdict};
use crate::model::{Model, Session};

pub fn check(tight: bool, model: &Model<'_>, lives: &Lives, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "wills", what });
    let watches = |session: &Session| Some(session.client) == model.history.watcher;
    let Some(watcher) = model.sessions.iter().position(|session| watches(session) && session.alive) else { return };
    let Some(since) = model.sessions[watcher].changes.values().next().and_then(|changes| changes[0].acked) else { return };
    let times_in = |message: MessageIx, receipts: &[(Seq, SocketIx, &Receipt)]| {
        receipts.iter().filter(|(_, _, receipt)| receipt.message == Some(message)).count()
    };
    let until = model.history.iter().find(|(_, _, event)| matches!(event, Event::Ending)).map_or(0, |(_, at, _)| at);
    for (index, life) in lives.lives.iter().enumerate() {
        let Some(plan) = &model.history.connections[life.socket].will else { continue };
        let got = times_in(plan.message, &model.receipts[watcher]);
        // Beside a retained one, which SUBSCRIBE asked for: it may have come in between.
        let once = |receipt: &Receipt| receipt.message == Some(plan.message) && !receipt.retain && !receipt.dup && receipt.fresh;
        let live = model.receipts[watcher].iter().filter(|(_, _, receipt)| once(receipt)).count();
        let mut receipts = model.sessions.iter().zip(&model.receipts).filter(|(session, _)| watches(session));
        let ever = receipts.any(|(_, receipts)| times_in(plan.message, receipts) > 0);
        let message = &model.history.messages[plan.message];
        match will_of(index, model, lives) {
            None if ever => report(format!("the will of connection {} was delivered and should not have been sent", life.socket)),
            Some(due) if due.verdict == Verdict::Yes => {
                // Queues that are full refuse what nobody can be told of.
                let surely = message.qos != QoS::AtMostOnce && !tight && message.expiry_s.is_none();
                let in_time = model.history.records[since].at < due.earliest && due.earliest < until;
                if live > 1 || (got == 0 && surely && in_time) {
                    report(format!("the will of connection {} was delivered {got} times, {live} of them live", due.socket));
                }
            }
            _ => {}
        }
    }
}
