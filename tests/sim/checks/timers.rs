//! Timers fire when they should, not early and at most half a second late: keep-alive, session expiry, will delay.
//!
//! Wills are told by the shards' counters, so that no delivery blurs the moment; what they say is looked for at their subscribers by the other checkers.

use std::collections::BTreeMap;

use ringmq::metrics::CloseCause;

use super::Violation;
use crate::history::{End, Event, Seq};
use crate::lives::{Ended, Life, Lives, Verdict};
use crate::model::Model;
use crate::world::World;

pub fn check(world: &World, model: &Model<'_>, lives: &Lives, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "timers", what });
    connect_timeout(world.settings.limits.connect_timeout_ms, model, lives, &mut report);
    keep_alive(model, lives, &mut report);
    session_expiry(model, lives, &mut report);
    wills(model, lives, &mut report);
}

/// A connection without a whole CONNECT is closed after its time [MQTT-3.1.4-1], and not before.
fn connect_timeout(limit_ms: u32, model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    let mut opened = vec![None; model.history.connections.len()];
    let mut ready = 0;
    for (seq, at, event) in model.history.iter() {
        match *event {
            Event::Opened { socket } => opened[socket] = Some(at),
            Event::Ended { socket, end, .. } => {
                let Some(deadline) = opened[socket].map(|at| at + u64::from(limit_ms)) else { continue };
                if at > lives.latest(deadline) && model.history.connections[socket].half {
                    report(format!("connection {socket} without CONNECT ended only at {seq}, {} ms late", at - deadline));
                }
                ready += u64::from(end == End::Shard && at >= deadline);
            }
            Event::ConnectionsClosed { cause: CloseCause::ConnectTimeout, count, .. } => {
                if count > ready {
                    report(format!("at {seq} {count} clients were given up before they had their time to connect"));
                }
                ready = ready.saturating_sub(count);
            }
            _ => {}
        }
    }
}

/// Silence that a client may keep, ms; `None` for as long as it likes.
fn patience_ms(model: &Model<'_>, life: &Life) -> Option<u64> {
    let keep_alive_s = model.history.connections[life.socket].keep_alive_s;
    (keep_alive_s > 0).then(|| u64::from(keep_alive_s) * 1_500)
}

/// Nobody is closed early, nobody is left alone for too long [MQTT-3.1.2-22] (3.1.1: [MQTT-3.1.2-24]).
fn keep_alive(model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    // Ends of each shard since it last reported.
    let mut silent: BTreeMap<u16, u64> = BTreeMap::new();
    for (seq, at, event) in model.history.iter() {
        match *event {
            Event::Ended { socket, silent_ms, paused, end } => {
                let Some(life) = lives.lives.iter().find(|life| life.socket == socket) else { continue };
                let Some(patience_ms) = patience_ms(model, life).filter(|_| !paused) else { continue };
                if at > lives.latest(at - silent_ms + patience_ms) {
                    report(format!("connection {socket} ended at {seq} after {silent_ms} ms of silence, {patience_ms} were allowed"));
                }
                if end == End::Shard && silent_ms >= patience_ms {
                    *silent.entry(model.history.clients[life.client].home.0).or_default() += 1;
                }
            }
            Event::ConnectionsClosed { shard, cause: CloseCause::KeepAliveTimeout, count } => {
                let ready = silent.remove(&shard.0).unwrap_or(0);
                if count > ready {
                    report(format!("at {seq} shard {} gave {count} clients up for their silence, {ready} had been silent", shard.0));
                }
            }
            _ => {}
        }
    }
}

/// A session without connection is gone when its expiry interval is over, and not before [MQTT-3.1.2-23].
fn session_expiry(model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    for index in 0..lives.lives.len() {
        let life = &lives.lives[index];
        let after = lives.neighbours(index).1;
        let Some(ended) = life.ended.filter(|ended| after.is_none_or(|after| ended.seq < after.seq)) else { continue };
        let gone = gone_at(model, life, ended.seq, after.map_or(Seq::MAX, |after| after.seq));
        let expires_at = Lives::expires_at(&ended);
        match gone {
            Some((seq, at)) if lives.passed(expires_at, at) == Verdict::No => {
                report(format!(
                    "the session of client {} ended at {seq}, {} ms after its connection: {ended:?}",
                    life.client,
                    at - ended.at
                ));
            }
            Some((seq, at)) if lives.passed(expires_at, at) == Verdict::Yes => {
                report(format!(
                    "the session of client {} ended only at {seq}, {} ms after its connection: {ended:?}",
                    life.client,
                    at - ended.at
                ));
            }
            // One more turn must have passed to be sure that it was seen.
            None if still_there(model, life, after.map_or(Seq::MAX, |after| after.seq))
                && lives.passed(expires_at.map(|at| at + 1_000), after.map_or(lives.until, |after| after.at)) == Verdict::Yes =>
            {
                report(format!("the session of client {} never ended after its connection: {ended:?}", life.client));
            }
            _ => {}
        }
    }
}

/// When the session was first seen to be gone.
fn gone_at(model: &Model<'_>, life: &Life, from: Seq, to: Seq) -> Option<(Seq, u64)> {
    model.history.iter().find_map(|(seq, at, event)| match event {
        Event::SessionSeen { client, exists: false, .. } if *client == life.client && seq > from && seq < to => Some((seq, at)),
        _ => None,
    })
}

/// Whether the session was last seen to be there, before an event.
fn still_there(model: &Model<'_>, life: &Life, before: Seq) -> bool {
    let seen = model.history.iter().filter_map(|(seq, _, event)| match event {
        Event::SessionSeen { client, exists, .. } if *client == life.client && seq < before => Some(*exists),
        _ => None,
    });
    seen.last() == Some(true)
}

/// A will that is due between two moments on a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    shard: u16,
    pub earliest: u64,
    latest: u64,
    pub verdict: Verdict,
    pub socket: usize,
}

fn wills(model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    let mut due: Vec<Due> = (0..lives.lives.len()).filter_map(|index| will_of(index, model, lives)).collect();
    due.sort_by_key(|due| due.latest);
    for (seq, at, event) in model.history.iter() {
        let Event::WillsPublished { shard, count } = *event else { continue };
        for _ in 0..count {
            // The most pressing one, a certain one if there is a choice.
            let fits = |due: &Due| due.shard == shard.0 && due.earliest <= at && at <= due.latest;
            let certain = due.iter().position(|due| fits(due) && due.verdict == Verdict::Yes);
            match certain.or_else(|| due.iter().position(fits)) {
                Some(index) => drop(due.remove(index)),
                None => report(format!("at {seq} shard {} published a will that was not due: {due:?}", shard.0)),
            }
        }
    }
    for due in due.iter().filter(|due| due.verdict == Verdict::Yes && due.latest < lives.until) {
        report(format!("the will of connection {} was not published: {due:?}", due.socket));
    }
}

/// When the will of a connection is due [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.3-9]; `None` if it never is.
pub(super) fn will_of(index: usize, model: &Model<'_>, lives: &Lives) -> Option<Due> {
    let life = &lives.lives[index];
    let connection = &model.history.connections[life.socket];
    let delay_s = connection.will.as_ref()?.delay_s;
    let ended = life.ended?;
    let after = lives.neighbours(index).1;
    let shard = model.history.clients[life.client].home.0;
    let due = |at: u64, verdict: Verdict| Due { shard, earliest: at, latest: lives.latest(at), verdict, socket: life.socket };
    if ended.disconnect == Some(0) {
        return None;
    }
    // Paused: whether DISCONNECT came before the end nobody can tell.
    let certain = if ended.paused { Verdict::Either } else { Verdict::Yes };
    match after {
        Some(after) if after.seq < ended.seq => {
            // Taken over: a will with a delay is not sent where the session goes on, which one without expiry does not.
            let kept = delay_s > 0 && ended.expiry_s > 0 && !model.history.connections[after.socket].clean_start;
            (!kept).then(|| due(ended.at, certain))
        }
        _ => after_end(&ended, delay_s, after, model, lives, &due, certain),
    }
}

fn after_end(
    ended: &Ended,
    delay_s: u32,
    after: Option<&Life>,
    model: &Model<'_>,
    lives: &Lives,
    due: &impl Fn(u64, Verdict) -> Due,
    certain: Verdict,
) -> Option<Due> {
    let at = ended.at + u64::from(delay_s.min(ended.expiry_s)) * 1_000;
    let Some(after) = after else { return Some(due(at, certain)) };
    match lives.passed(Some(at), after.at) {
        Verdict::Yes => Some(due(at, certain)),
        // Clean start ends the session, and that sends the will.
        _ if model.history.connections[after.socket].clean_start => Some(Due { earliest: at.min(after.at), ..due(after.at, certain) }),
        Verdict::Either => Some(due(at, Verdict::Either)),
        Verdict::No => None,
    }
}
