//! Any packet to bytes, and what makes two packets the same.

use ringmq::mqtt::{Packet, PacketType, Publish, PublishOut, Version, encode};

/// Writes a decoded packet again.
pub fn write(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let out = &mut bytes;
    match packet {
        Packet::Connect(p) => encode::connect(out, p),
        Packet::Connack(p) => encode::connack(out, version, p.session_present, p.code, &p.properties),
        Packet::Publish(p) => write_publish(out, version, p),
        Packet::Puback(p) => encode::ack(out, version, PacketType::Puback, p.packet_id, p.reason, &p.properties),
        Packet::Pubrec(p) => encode::ack(out, version, PacketType::Pubrec, p.packet_id, p.reason, &p.properties),
        Packet::Pubrel(p) => encode::ack(out, version, PacketType::Pubrel, p.packet_id, p.reason, &p.properties),
        Packet::Pubcomp(p) => encode::ack(out, version, PacketType::Pubcomp, p.packet_id, p.reason, &p.properties),
        Packet::Subscribe(p) => encode::subscribe(out, version, p.packet_id, &p.filters().collect::<Vec<_>>(), &p.properties),
        Packet::Suback(p) => encode::suback(out, version, p.packet_id, p.codes, &p.properties),
        Packet::Unsubscribe(p) => encode::unsubscribe(out, version, p.packet_id, p.filters(), &p.properties),
        Packet::Unsuback(p) => encode::unsuback(out, version, p.packet_id, p.codes, &p.properties),
        Packet::Pingreq => encode::pingreq(out),
        Packet::Pingresp => encode::pingresp(out),
        Packet::Disconnect(p) => encode::disconnect(out, version, p.reason, &p.properties),
        Packet::Auth(p) => encode::auth(out, p.reason, &p.properties),
    }
    bytes
}

fn write_publish(out: &mut Vec<u8>, version: Version, publish: &Publish<'_>) {
    let mut forward = Vec::new();
    publish.properties.forward_into(&mut forward);
    let subscription_ids: Vec<u32> = publish.properties.subscription_ids().collect();
    let packet = PublishOut {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        packet_id: publish.packet_id,
        forward: &forward,
        message_expiry: publish.properties.message_expiry,
        topic_alias: publish.properties.topic_alias,
        subscription_ids: &subscription_ids,
        ..PublishOut::new(publish.topic, publish.payload)
    };
    assert_publish_parts(version, &packet);
    encode::publish(out, version, &packet);
}

/// A PUBLISH is as long as announced, and the same in one piece as in two.
pub fn assert_publish_parts(version: Version, packet: &PublishOut<'_>) {
    let (mut whole, mut head) = (Vec::new(), Vec::new());
    encode::publish(&mut whole, version, packet);
    assert_eq!(whole.len(), encode::publish_len(version, packet), "publish_len");
    encode::publish_head(&mut head, version, packet);
    head.extend_from_slice(packet.payload);
    assert_eq!(whole, head, "publish_head and the payload");
}

/// Equal in all that has a meaning: the order of unlike properties in a PUBLISH has none.
#[track_caller]
pub fn assert_same(left: &Packet<'_>, right: &Packet<'_>) {
    let (Packet::Publish(l), Packet::Publish(r)) = (left, right) else {
        assert_eq!(left, right);
        return;
    };
    assert_eq!((l.dup, l.qos, l.retain, l.packet_id, l.topic, l.payload), (r.dup, r.qos, r.retain, r.packet_id, r.topic, r.payload));
    assert_eq!(l.properties.all(), r.properties.all());
    assert!(l.properties.subscription_ids().eq(r.properties.subscription_ids()), "subscription identifiers");
}
