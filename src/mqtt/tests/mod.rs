//! The codec's tests, by the field's areas; each names the behaviour and the statement that asks for it.

mod acknowledge;
mod connect;
mod foreign;
mod frame;
mod generate;
mod properties;
mod publish;
mod round_trip;
mod subscribe;
mod topic;

use super::*;

const V31: Version = Version::V31;
const V311: Version = Version::V311;
const V5: Version = Version::V5;
const ALL: [Version; 3] = [V31, V311, V5];

/// No limit but the format's own.
const NO_LIMIT: u32 = u32::MAX;

/// Reads one whole packet, fixed header included.
fn read(version: Version, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let header = peek(bytes, NO_LIMIT)?.expect("a whole fixed header");
    assert_eq!(header.total_len(), bytes.len(), "the test's own remaining length is wrong");
    decode(version, header.first, &bytes[usize::from(header.header_len)..])
}

/// A packet around `body`; fixed header and length are added.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    wire::with_length(&mut out, |out| out.extend_from_slice(body));
    out
}

/// The reason code with which `first` and `body` are refused.
#[track_caller]
fn refused(version: Version, first: u8, body: &[u8]) -> ReasonCode {
    match read(version, &frame(first, body)) {
        Ok(packet) => panic!("accepted as {packet:?}"),
        Err(error) => error.reason,
    }
}

#[track_caller]
fn assert_malformed(version: Version, first: u8, body: &[u8]) {
    assert_eq!(refused(version, first, body), ReasonCode::MALFORMED_PACKET, "{version:?} {first:#x} {body:x?}");
}

#[track_caller]
fn assert_protocol_error(version: Version, first: u8, body: &[u8]) {
    assert_eq!(refused(version, first, body), ReasonCode::PROTOCOL_ERROR, "{version:?} {first:#x} {body:x?}");
}

/// `parts` one after the other.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Strings that no field may hold. [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-1.5.4-1] [MQTT-1.5.4-2]
const ILL_FORMED: [&[u8]; 6] = [
    b"\0\x01\0",               // U+0000
    b"\0\x03\xED\xA0\x80",     // the surrogate U+D800
    b"\0\x03\xED\xBF\xBF",     // the surrogate U+DFFF
    b"\0\x02\xC0\x80",         // U+0000 in two bytes
    b"\0\x01\xFF",             // no UTF-8 at all
    b"\0\x04\xF4\x90\x80\x80", // beyond U+10FFFF
];

/// Writes any packet.
fn write(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let out_ref = &mut out;
    match packet {
        Packet::Connect(connect) => encode::connect(out_ref, connect),
        Packet::Connack(c) => encode::connack(out_ref, version, c.session_present, c.code, &c.properties),
        Packet::Publish(publish) => write_publish(out_ref, version, publish),
        Packet::Puback(a) => encode::ack(out_ref, version, PacketType::Puback, a.packet_id, a.reason, &a.properties),
        Packet::Pubrec(a) => encode::ack(out_ref, version, PacketType::Pubrec, a.packet_id, a.reason, &a.properties),
        Packet::Pubrel(a) => encode::ack(out_ref, version, PacketType::Pubrel, a.packet_id, a.reason, &a.properties),
        Packet::Pubcomp(a) => encode::ack(out_ref, version, PacketType::Pubcomp, a.packet_id, a.reason, &a.properties),
        Packet::Subscribe(s) => {
            encode::subscribe(out_ref, version, s.packet_id, &s.filters().collect::<Vec<_>>(), &s.properties);
        }
        Packet::Suback(s) => encode::suback(out_ref, version, s.packet_id, s.codes, &s.properties),
        Packet::Unsubscribe(u) => encode::unsubscribe(out_ref, version, u.packet_id, u.filters(), &u.properties),
        Packet::Unsuback(s) => encode::unsuback(out_ref, version, s.packet_id, s.codes, &s.properties),
        Packet::Pingreq => encode::pingreq(out_ref),
        Packet::Pingresp => encode::pingresp(out_ref),
        Packet::Disconnect(d) => encode::disconnect(out_ref, version, d.reason, &d.properties),
        Packet::Auth(a) => encode::auth(out_ref, a.reason, &a.properties),
    }
    out
}

fn write_publish(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>) {
    let mut forward = Vec::new();
    publish.properties.forward_into(&mut forward);
    let ids: Vec<u32> = publish.properties.subscription_ids().collect();
    let publish_out = PublishOut {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        packet_id: publish.packet_id,
        forward: &forward,
        message_expiry: publish.properties.message_expiry,
        topic_alias: publish.properties.topic_alias,
        subscription_ids: &ids,
        ..PublishOut::new(publish.topic, publish.payload)
    };
    encode::publish(out, version, &publish_out);
    assert_eq!(out.len(), encode::publish_len(version, &publish_out));
    let mut head = Vec::new();
    encode::publish_head(&mut head, version, &publish_out);
    assert_eq!(*out, [&head, publish.payload].concat());
}

/// Equal in all that has a meaning: the order of unlike properties in a PUBLISH has none.
#[track_caller]
fn assert_same(left: &Packet<'_>, right: &Packet<'_>) {
    let (Packet::Publish(l), Packet::Publish(r)) = (left, right) else {
        assert_eq!(left, right);
        return;
    };
    let plain = |p: &Publish<'_>| (p.dup, p.qos, p.retain, p.packet_id, p.topic.to_owned(), p.payload.to_vec());
    assert_eq!(plain(l), plain(r));
    assert_eq!(l.properties.all(), r.properties.all());
    assert!(l.properties.subscription_ids().eq(r.properties.subscription_ids()));
}
