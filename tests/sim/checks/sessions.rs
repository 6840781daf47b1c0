//! One session and one connection for each client identifier, on its home shard; and CONNACK says truly whether the session was there [MQTT-3.1.4-3]
//! [MQTT-3.2.2-2] [MQTT-3.2.2-3].

use ringmq::mqtt::Version;

use super::Violation;
use crate::history::{Event, Got, SocketIx};
use crate::host::LAST_WORDS_MS;
use crate::lives::{Lives, Verdict};
use crate::model::Model;

/// DISCONNECT: session taken over.
const TAKEN_OVER: u8 = 0x8E;

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
        present_is_true(index, model, lives, &mut report);
        one_connection(index, model, lives, &mut report);
    }
}

fn packets<'a>(model: &'a Model<'_>, socket: SocketIx) -> impl Iterator<Item = &'a Got> {
    model.history.iter().filter_map(move |(_, _, event)| match event {
        Event::Received { socket: other, packet } if *other == socket => Some(packet),
        _ => None,
    })
}

fn present_is_true(index: usize, model: &Model<'_>, lives: &Lives, report: &mut impl FnMut(String)) {
    let life = &lives.lives[index];
    let connection = &model.history.connections[life.socket];
    let expected = if connection.clean_start { Verdict::No } else { lives.session_before(index, model.history) };
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
