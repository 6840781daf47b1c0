//! What the clients of the `shard` target say: packets of few clients about few topics, so that they meet; and noise.

use super::super::input::Input;
use super::admission::METHODS;
use super::client::{Client, VERSIONS};
use ringmq::mqtt::{
    Connect, PacketType, Properties, PublishOut, QoS, ReasonCode, RetainHandling, SubscribeEntry, SubscribeOptions, Version, Will, encode,
};

/// Client identifiers: enough for both shards to be the home of some; the empty one is assigned.
const CLIENT_IDS: [&str; 8] = ["a", "b", "c", "d", "e", "", "f", "a client identifier of more than 23 bytes"];
/// What most clients speak of, and what they ask for; now and then it is another topic or filter of up to this many levels.
const TOPICS: [&str; 6] = ["a", "a/b", "b", "a/b/c", "$s/a", "b/"];
const FILTERS: [&str; 10] = ["#", "a", "a/b", "+", "a/#", "a/+", "b", "+/b/#", "$s/#", "b/"];
const LEVELS: usize = 3;
/// Seconds of expiry intervals and delays.
const SECONDS: [u32; 5] = [0, 1, 10, 100_000, u32::MAX];

/// Puts one packet, or something like one, on the way to the broker.
pub fn say(input: &mut Input<'_>, client: &mut Client) {
    let mut bytes = Vec::new();
    if !client.greeted && !input.one_in(16) {
        connect(input, client, &mut bytes);
    } else {
        later(input, client, &mut bytes);
    }
    if input.one_in(12) {
        client.honest = false;
        mutate(input, &mut bytes);
    }
    let times = if input.one_in(16) { 1 + input.below(100) } else { 1 };
    for _ in 0..times {
        client.unread.extend(&bytes);
    }
}

/// Changes bytes of a packet, cuts it, or puts others behind it.
fn mutate(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..=input.below(3) {
        let at = input.below(bytes.len().max(1));
        match input.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_slice(input.bytes(20)),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = input.byte();
                }
            }
        }
    }
}

fn connect(input: &mut Input<'_>, client: &mut Client, out: &mut Vec<u8>) {
    let version = input.choose(&VERSIONS);
    let (topic, payload) = (topic(input), input.bytes(20));
    let will_properties = Properties {
        will_delay: input.option(|input| input.choose(&SECONDS)),
        message_expiry: input.option(|input| input.choose(&SECONDS)),
        content_type: input.option(|_| "text"),
        ..Properties::default()
    };
    let properties = Properties {
        session_expiry: input.option(|input| input.choose(&SECONDS)),
        receive_maximum: input.option(|input| input.choose(&[1, 2, 10, u16::MAX])),
        maximum_packet_size: input.option(|input| input.choose(&[64, 5, 30, 2_000])),
        topic_alias_maximum: input.option(|input| input.choose(&[1, 10])),
        request_problem: input.option(Input::flag),
        ..authentication(input, 8)
    };
    let will = Will { topic: &topic, payload, qos: input.qos(), retain: input.flag(), properties: will_properties };
    let packet = Connect {
        version,
        clean_start: input.flag(),
        keep_alive: input.choose(&[0, 1, 10, 60, u16::MAX]),
        client_id: input.choose(&CLIENT_IDS),
        will: input.option(|_| will),
        user_name: None,
        password: None,
        properties,
    };
    encode::connect(out, &packet);
    client.version = version;
    client.greeted = true;
    if version.is_v5() {
        client.max_packet_bytes = properties.maximum_packet_size.unwrap_or(u32::MAX);
        client.receive_maximum = properties.receive_maximum.unwrap_or(u16::MAX);
    }
}

fn later(input: &mut Input<'_>, client: &mut Client, out: &mut Vec<u8>) {
    let (version, none) = (client.version, Properties::default());
    match input.below(16) {
        0..6 => publish(input, version, out),
        6..9 => subscribe(input, version, out),
        9 => {
            let filter = filter(input);
            encode::unsubscribe(out, version, input.u16().max(1), [&*filter], &none);
        }
        10 => encode::ack(out, version, PacketType::Pubrel, packet_id(input), ReasonCode::SUCCESS, &none),
        11 => {
            // For messages that it may or may not have.
            client.honest = false;
            let kind = input.choose(&[PacketType::Puback, PacketType::Pubrec, PacketType::Pubcomp]);
            let reason = input.choose(&[ReasonCode::SUCCESS, ReasonCode::UNSPECIFIED_ERROR]);
            encode::ack(out, version, kind, packet_id(input), reason, &none);
        }
        12 => {
            let session_expiry = input.option(|input| input.choose(&SECONDS));
            let reason = input.choose(&[ReasonCode::SUCCESS, ReasonCode::DISCONNECT_WITH_WILL]);
            encode::disconnect(out, version, reason, &Properties { session_expiry, ..none });
        }
        13 => match input.below(4) {
            0 if client.greeted => connect(input, &mut Client::new(client.shard, client.id), out),
            0 => connect(input, client, out),
            1 => {
                let reason = input.choose(&[ReasonCode::REAUTHENTICATE, ReasonCode::CONTINUE_AUTHENTICATION]);
                encode::auth(out, reason, &authentication(input, 1));
            }
            2 => encode::pingresp(out),
            _ => encode::suback(out, version, 1, &[0], &none),
        },
        _ => encode::pingreq(out),
    }
}

/// An authentication method once in so many times, and what a client might say to it.
fn authentication(input: &mut Input<'_>, one_in: u8) -> Properties<'static> {
    let said: [&[u8]; 7] = [&[2], &[0], &[1], &[2, 3, 4], b"n,,n=user,r=abc", b"c=biws,r=abc,p=AAAA", b"y,a=x,n=user,r=abc"];
    let auth_method = input.one_in(one_in).then(|| input.choose(&METHODS));
    let auth_data = auth_method.and_then(|_| input.option(|input| input.choose(&said)));
    Properties { auth_method, auth_data, ..Properties::default() }
}

/// Few, so that some are used twice.
fn packet_id(input: &mut Input<'_>) -> u16 {
    1 + input.below(8) as u16
}

fn publish(input: &mut Input<'_>, version: Version, out: &mut Vec<u8>) {
    let topic = topic(input);
    let payload = input.bytes(30).repeat(if input.one_in(6) { 100 } else { 1 });
    let mut forward = Vec::new();
    if version.is_v5() && input.one_in(3) {
        let correlation_data = input.option(|input| input.bytes(8));
        Properties { content_type: Some("text"), correlation_data, ..Properties::default() }.encode_forward(&mut forward);
    }
    let topic_alias = if version.is_v5() && input.one_in(4) { input.choose(&[1, 2, 64, 65]) } else { 0 };
    let packet = PublishOut {
        dup: input.one_in(6),
        qos: input.choose(&[QoS::AtMostOnce, QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]),
        retain: input.one_in(4),
        topic: if topic_alias != 0 && input.flag() { "" } else { &topic },
        packet_id: packet_id(input),
        payload: &payload,
        forward: &forward,
        message_expiry: if input.one_in(5) { Some(input.choose(&SECONDS)) } else { None },
        topic_alias,
        subscription_ids: &[],
    };
    encode::publish(out, version, &packet);
}

fn topic(input: &mut Input<'_>) -> String {
    if input.one_in(6) { input.topic(LEVELS) } else { input.choose(&TOPICS).into() }
}

fn filter(input: &mut Input<'_>) -> String {
    let filter = if input.one_in(6) { input.filter(LEVELS) } else { input.choose(&FILTERS).into() };
    match input.below(12) {
        1 | 2 => format!("$share/g/{filter}"),
        4 => format!("$share/h/{filter}"),
        // Not a filter at all.
        3 => input.choose(&["a#", "#/a", "+a", "$share/", "$share/g", "$share//a", "$share/+/a", "$share/g/"]).into(),
        _ => filter,
    }
}

fn subscribe(input: &mut Input<'_>, version: Version, out: &mut Vec<u8>) {
    let filters: Vec<String> = (0..=input.below(3)).map(|_| filter(input)).collect();
    let entry = |filter| SubscribeEntry {
        filter,
        options: SubscribeOptions {
            qos: input.qos(),
            no_local: input.one_in(3),
            retain_as_published: input.flag(),
            retain_handling: input.choose(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]),
        },
    };
    let entries: Vec<_> = filters.iter().map(|filter| &**filter).map(entry).collect();
    let subscription_id = input.option(|input| input.choose(&[1, 200, 268_435_455]));
    encode::subscribe(out, version, packet_id(input), &entries, &Properties { subscription_id, ..Properties::default() });
}
