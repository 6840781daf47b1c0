//! Strategies for valid packets of each version. Their strings live as long as the test process: a few kilobytes a run.

use super::*;
use proptest::prelude::*;
use proptest::{option, sample};

type Of<T> = BoxedStrategy<T>;

pub(super) fn version() -> Of<Version> {
    sample::select(ALL.to_vec()).boxed()
}

pub(super) fn text() -> Of<&'static str> {
    prop::collection::vec(any::<char>().prop_filter("U+0000", |&c| c != '\0'), 0..12)
        .prop_map(|chars| &*String::from_iter(chars).leak())
        .boxed()
}

pub(super) fn bytes() -> Of<&'static [u8]> {
    prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 0..20_000),
    ]
    .prop_map(|bytes| &*bytes.leak())
    .boxed()
}

/// What a client, a user or a level may be called.
fn name() -> Of<&'static str> {
    text().prop_map(|text| &*text.replace(char::is_control, "_").leak()).boxed()
}

pub(super) fn topic_name() -> Of<&'static str> {
    name().prop_map(|text| &*format!("t{}", text.replace(['+', '#', '$'], "/")).leak()).boxed()
}

fn topic_filter() -> Of<&'static str> {
    let level = prop_oneof![Just("+"), Just("a"), topic_name()];
    (prop::collection::vec(level, 1..4), any::<bool>())
        .prop_map(|(levels, hash)| &*(levels.join("/") + if hash { "/#" } else { "" }).leak())
        .boxed()
}

fn user() -> Of<UserProperties<'static>> {
    prop::collection::vec((text(), text()), 0..4)
        .prop_map(|pairs| {
            let mut block = Vec::new();
            UserProperties::encode(pairs, &mut block);
            UserProperties::new(block.leak()).expect("valid")
        })
        .boxed()
}

/// Properties of all kinds; encoding keeps those that the packet may carry.
fn any_properties() -> Of<Properties<'static>> {
    let message = (
        option::of(0..2u8),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic_name()),
        option::of(bytes()),
        option::of(1..=MAX_VAR_INT),
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
    );
    let connection = (
        option::of(any::<u32>()),
        option::of(any::<u16>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of(1..=u16::MAX),
        option::of(any::<u16>()),
        option::of(sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce])),
        option::of(any::<bool>()),
        option::of(1..=u32::MAX),
        (option::of(any::<bool>()), option::of(any::<bool>()), option::of(any::<bool>())),
    );
    let texts = (option::of(text()), option::of((text(), option::of(bytes()))), option::of(text()), option::of(text()), option::of(text()));
    (message, connection, texts, user())
        .prop_map(|(m, c, t, user)| Properties {
            payload_format: m.0,
            message_expiry: m.1,
            content_type: m.2,
            response_topic: m.3,
            correlation_data: m.4,
            subscription_id: m.5,
            will_delay: m.6,
            topic_alias: m.7,
            session_expiry: c.0,
            server_keep_alive: c.1,
            request_problem: c.2,
            request_response: c.3,
            receive_maximum: c.4,
            topic_alias_maximum: c.5,
            maximum_qos: c.6,
            retain_available: c.7,
            maximum_packet_size: c.8,
            wildcard_available: c.9.0,
            subscription_ids_available: c.9.1,
            shared_available: c.9.2,
            assigned_client_id: t.0,
            auth_method: t.1.map(|(method, _)| method),
            auth_data: t.1.and_then(|(_, data)| data),
            response_information: t.2,
            server_reference: t.3,
            reason_string: t.4,
            user,
        })
        .boxed()
}

/// What a packet of this type may carry; none in 3.x.
fn properties(version: Version, kind: PacketType) -> Of<Properties<'static>> {
    sifted(version, property::allowed(kind), move |properties, out| properties.encode(kind, out))
}

fn sifted(version: Version, allowed: property::Set, encode: impl Fn(&Properties<'_>, &mut Vec<u8>) + 'static) -> Of<Properties<'static>> {
    if !version.is_v5() {
        return Just(Properties::default()).boxed();
    }
    let full = any_properties().prop_map(move |properties| {
        let mut out = Vec::new();
        encode(&properties, &mut out);
        let (_, start) = wire::var_int(&out).expect("a length").expect("complete");
        Properties::parse(&out.leak()[start..], allowed).expect("valid")
    });
    prop_oneof![Just(Properties::default()), full].boxed()
}

fn qos() -> Of<QoS> {
    sample::select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]).boxed()
}

fn packet_id() -> Of<u16> {
    (1..=u16::MAX).boxed()
}

fn reason(version: Version, codes: &'static [u8]) -> Of<ReasonCode> {
    if version.is_v5() { sample::select(codes).prop_map(ReasonCode).boxed() } else { Just(ReasonCode::SUCCESS).boxed() }
}

fn will(version: Version) -> Of<Option<Will<'static>>> {
    let properties = sifted(version, property::WILL, |properties, out| properties.encode_will(out));
    option::of((topic_name(), bytes(), qos(), any::<bool>(), properties).prop_map(|(topic, payload, qos, retain, properties)| Will {
        topic,
        payload,
        qos,
        retain,
        properties,
    }))
    .boxed()
}

fn connect(version: Version) -> Of<Packet<'static>> {
    let login = option::of((name(), option::of(bytes())));
    (any::<bool>(), any::<u16>(), name(), will(version), login, properties(version, PacketType::Connect))
        .prop_map(move |(clean_start, keep_alive, client_id, will, login, properties)| {
            let (user_name, password) = (login.map(|(name, _)| name), login.and_then(|(_, password)| password));
            Packet::Connect(Connect { version, clean_start, keep_alive, client_id, will, user_name, password, properties })
        })
        .boxed()
}

fn connack(version: Version) -> Of<Packet<'static>> {
    let codes: &[u8] = if version.is_v5() { &[0, 0x80, 0x84, 0x87, 0x9F] } else { &[0, 1, 2, 3, 4, 5] };
    (any::<bool>(), sample::select(codes), properties(version, PacketType::Connack))
        .prop_map(move |(session, code, properties)| {
            Packet::Connack(Connack { session_present: session && code == 0 && version != V31, code, properties })
        })
        .boxed()
}

fn publish(version: Version) -> Of<Packet<'static>> {
    let properties = (properties(version, PacketType::Publish), prop::collection::vec(1..=MAX_VAR_INT, 0..3));
    (any::<bool>(), qos(), any::<bool>(), topic_name(), packet_id(), properties, bytes())
        .prop_map(move |(dup, qos, retain, topic, packet_id, (properties, ids), payload)| {
            let mut block = Vec::new();
            properties.encode(PacketType::Publish, &mut block);
            let (_, start) = wire::var_int(&block).expect("a length").expect("complete");
            if version.is_v5() {
                ids.into_iter().for_each(|id| {
                    block.push(property::SUBSCRIPTION_ID);
                    wire::put_var_int(&mut block, id);
                });
            }
            Packet::Publish(Publish {
                dup: dup && qos != QoS::AtMostOnce,
                qos,
                retain,
                topic: if properties.topic_alias.is_some() { "" } else { topic },
                packet_id: if qos == QoS::AtMostOnce { 0 } else { packet_id },
                properties: PublishProperties::parse(&block.leak()[start..]).expect("valid"),
                payload,
            })
        })
        .boxed()
}

fn ack(version: Version, kind: PacketType) -> Of<Packet<'static>> {
    let codes: &[u8] = match kind {
        PacketType::Puback | PacketType::Pubrec => &[0, 0x10, 0x80, 0x99],
        _ => &[0, 0x92],
    };
    (packet_id(), reason(version, codes), properties(version, kind))
        .prop_map(move |(packet_id, reason, properties)| {
            let ack = Ack { packet_id, reason, properties };
            match kind {
                PacketType::Puback => Packet::Puback(ack),
                PacketType::Pubrec => Packet::Pubrec(ack),
                PacketType::Pubrel => Packet::Pubrel(ack),
                _ => Packet::Pubcomp(ack),
            }
        })
        .boxed()
}

fn subscribe(version: Version) -> Of<Packet<'static>> {
    let options = (qos(), any::<bool>(), any::<bool>(), 0..3u8).prop_map(move |(qos, no_local, retain_as_published, handling)| {
        if !version.is_v5() {
            return SubscribeOptions { qos, ..SubscribeOptions::default() };
        }
        let retain_handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend][usize::from(handling)];
        SubscribeOptions { qos, no_local, retain_as_published, retain_handling }
    });
    let entry = (topic_filter(), options).prop_map(|(filter, options)| SubscribeEntry { filter, options });
    (packet_id(), prop::collection::vec(entry, 1..5), properties(version, PacketType::Subscribe))
        .prop_map(move |(packet_id, filters, properties)| {
            let mut out = Vec::new();
            encode::subscribe(&mut out, version, packet_id, &filters, &properties);
            read(version, out.leak()).expect("valid")
        })
        .boxed()
}

fn unsubscribe(version: Version) -> Of<Packet<'static>> {
    (packet_id(), prop::collection::vec(topic_filter(), 1..5), properties(version, PacketType::Unsubscribe))
        .prop_map(move |(packet_id, filters, properties)| {
            let mut out = Vec::new();
            encode::unsubscribe(&mut out, version, packet_id, filters, &properties);
            read(version, out.leak()).expect("valid")
        })
        .boxed()
}

fn suback(version: Version, kind: PacketType) -> Of<Packet<'static>> {
    let codes: &[u8] = match (kind, version.is_v5()) {
        (PacketType::Suback, true) => &[0, 1, 2, 0x80, 0xA2],
        (PacketType::Suback, false) => &[0, 1, 2, 0x80],
        _ => &[0, 0x11, 0x80, 0x91],
    };
    let count = if kind == PacketType::Unsuback && !version.is_v5() { 0..1 } else { 1..6 };
    (packet_id(), prop::collection::vec(sample::select(codes), count), properties(version, kind))
        .prop_map(move |(packet_id, codes, properties)| {
            let suback = Suback { packet_id, properties, codes: codes.leak() };
            if kind == PacketType::Suback { Packet::Suback(suback) } else { Packet::Unsuback(suback) }
        })
        .boxed()
}

fn disconnect(version: Version) -> Of<Packet<'static>> {
    (reason(version, &[0, 4, 0x80, 0x8E, 0xA2]), properties(version, PacketType::Disconnect))
        .prop_map(|(reason, properties)| Packet::Disconnect(Disconnect { reason, properties }))
        .boxed()
}

fn auth() -> Of<Packet<'static>> {
    (reason(V5, &[0, 0x18, 0x19]), text(), properties(V5, PacketType::Auth))
        .prop_map(|(reason, method, properties)| {
            let auth_method = properties.auth_method.or(Some(method));
            Packet::Auth(Auth { reason, properties: Properties { auth_method, ..properties } })
        })
        .boxed()
}

/// Any valid packet of `version`.
pub(super) fn packet(version: Version) -> Of<Packet<'static>> {
    let all = prop_oneof![
        connect(version),
        connack(version),
        publish(version),
        ack(version, PacketType::Puback),
        ack(version, PacketType::Pubrec),
        ack(version, PacketType::Pubrel),
        ack(version, PacketType::Pubcomp),
        subscribe(version),
        suback(version, PacketType::Suback),
        unsubscribe(version),
        suback(version, PacketType::Unsuback),
        disconnect(version),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
    ];
    if version.is_v5() { prop_oneof![14 => all, 1 => auth()].boxed() } else { all.boxed() }
}

/// A version and a valid packet of it.
pub(super) fn versioned_packet() -> Of<(Version, Packet<'static>)> {
    version().prop_flat_map(|version| packet(version).prop_map(move |packet| (version, packet))).boxed()
}
