//! One session and one connection for each client identifier, on its home shard; and CONNACK says truly whether the session was there [MQTT-3.1.4-3]
//! [MQTT-3.2.2-2] [MQTT-3.2.2-3].

use ringmq::mqtt::Version;

use super::Violation;
use crate::history::{Event, Got, Sent, SocketIx};
use crate::host::LAST_WORDS_MS;
use crate::lives::{Lives, Verdict};
use crate::model::Model;

/// DISCONNECT: session taken over.
const TAKEN_OVER: u8 = 0x8E;

/// After crashes: a session whose client was told that it is let in is there, as long as it has not expired; and none is there that had to end.
pub fn check_presence(model: &Model<'_>, lives: &Lives, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "sessions", what });
    for index in 0..lives.lives.len() {
        let expected = presence_over_crashes(index, model, lives);
        present_is_true(index, expected, model, lives, &mut report);
    }
}

fn presence_over_crashes(index: usize, model: &Model<'_>, lives: &Lives) -> Verdict {
    let life = &lives.lives[index];
    if model.history.connections[life.socket].clean_start {
        return Verdict::No;
    }
    let Some(before) = lives.neighbours(index).0 else { return Verdict::No };
    let connection = &model.history.connections[before.socket];
    let let_in = packets(model, before.socket).any(|packet| matches!(packet, Got::Connack { code: 0, .. }));
    let said_goodbye = model.history.iter().any(|(_, _, event)| {
        matches!(event, Event::Sent { socket, packet: Sent::Disconnect { expiry_s: Some(_), .. } } if *socket == before.socket)
    });
    match (let_in, connection.expiry_s) {
        (false, _) => Verdict::Either,
        (true, 0) => Verdict::No,
        (true, expiry_s) => {
            let expires_at = before.ended.map_or(u64::MAX, |ended| ended.at + u64::from(expiry_s) * 1_000);
            if said_goodbye || life.at >= expires_at { Verdict::Either } else { Verdict::Yes }
        }
    }
}

pub fn check(model: &Model<'_>, lives: &Lives, violations: &mut Vec<Violation>) {
    let mut report = |what: String| violations.push(Violation { check: "sessions", what });
    for (seq, _, event) in model.history.iter() {
        if let Event::SessionSeen { shard, client, exists: true } = event
            && model.history.clients[*client].home != *shard
        {
            report(format!("at {seq} the session of client {client} is on shard {}, not at home", shard.0));
        }
    }
    for index in 0..lives.lives.len() {
        let expected = expected_presence(index, model, lives);
        present_is_true(index, expected, model, lives, &mut report);
        one_connection(index, model, lives, &mut report);
    }
}

fn packets<'a>(model: &'a Model<'_>, socket: SocketIx) -> impl Iterator<Item = &'a Got> {
    model.history.iter().filter_map(move |(_, _, event)| match event {
        Event::Received { socket: other, packet } if *other == socket => Some(packet),
        _ => None,
    })
}

fn expected_presence(index: usize, model: &Model<'_>, lives: &Lives) -> Verdict {
    let clean_start = model.history.connections[lives.lives[index].socket].clean_start;
    if clean_start { Verdict::No } else { lives.session_before(index, model.history) }
}

fn present_is_true(index: usize, expected: Verdict, model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    let life = &lives.lives[index];
    let connection = &model.history.connections[life.socket];
    let told = packets(model, life.socket).find_map(|packet| match packet {
        Got::Connack { present, code } => Some((*present, *code)),
        _ => None,
    });
    if let Some((_, code)) = told.filter(|&(_, code)| code != 0) {
        report(format!("connection {} of client {} was refused with {code:#x}", life.socket, life.client));
    }
    let told = told.map(|(present, _)| present);
    // 3.1 has no such flag.
    let Some(told) = told.filter(|_| connection.version != Version::V31) else { return };
    if expected == Verdict::Yes && !told || expected == Verdict::No && told {
        report(format!("connection {} of client {}: session present is {told}, expected {expected:?}", life.socket, life.client));
    }
}

fn one_connection(index: usize, model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    let life = &lives.lives[index];
    let Some(before) = lives.neighbours(index).0 else { return };
    let taken_over = before.ended.is_none_or(|ended| ended.seq > life.seq);
    if !taken_over {
        return;
    }
    if before.ended.is_none_or(|ended| ended.at > life.at) {
        report(format!("connections {} and {} of client {} lived at the same time", before.socket, life.socket, life.client));
    }
    // Last words have their time, too.
    let read_to_the_end = model
        .history
        .iter()
        .any(|(_, at, event)| matches!(event, Event::Closed { socket } if *socket == before.socket) && at < life.at + LAST_WORDS_MS);
    let told = packets(model, before.socket).last();
    // [MQTT-3.1.4-3]
    if read_to_the_end
        && model.history.connections[before.socket].version.is_v5()
        && !matches!(told, Some(Got::Disconnect { reason: TAKEN_OVER }))
    {
        report(format!("connection {} was taken over and read {told:?} last", before.socket));
    }
}
