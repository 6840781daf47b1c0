//! Any packet that the encoder can be asked for: what it writes is one packet, which reads back as what was asked for.
//!
//! What the standard has no room for is normalised, and this file says how: 3.x carries neither properties nor reasons, its SUBACK knows one failure
//! (0x80) and its UNSUBACK no code; 3.1 reports no session; a refusing CONNACK has no session; DUP is 0 at QoS 0; a property that the packet may not carry is
//! left out; text and binary fields end after 65,535 bytes.

use super::input::Input;
use super::packets::assert_publish_parts;
use ringmq::mqtt::{
    Ack, Auth, Connack, Connect, Disconnect, MAX_VAR_INT, Packet, PacketType, Properties, PublishOut, QoS, ReasonCode, RetainHandling,
    Suback, SubscribeEntry, SubscribeOptions, UserProperties, Version, Will, decode, encode, peek,
};

/// The longest field, bytes.
const MAX_FIELD: usize = 65_535;

/// What an encoder gets: owned parts of which packets are put together.
struct Parts {
    texts: [String; 6],
    topic: String,
    binary: Vec<u8>,
    payload: Vec<u8>,
    user: Vec<u8>,
}

impl Parts {
    fn new(input: &mut Input<'_>) -> Parts {
        let mut user = Vec::new();
        let pairs: Vec<_> = (0..input.below(4)).map(|_| (input.text(6), input.text(6))).collect();
        UserProperties::encode(pairs.iter().map(|(name, value)| (&**name, &**value)), &mut user);
        let texts = [(); 6].map(|()| text(input));
        let binary = input.bytes(40).repeat(if input.one_in(40) { 3_000 } else { 1 });
        Parts { texts, topic: input.topic(6), binary, payload: input.bytes(200).to_vec(), user }
    }

    /// Some of all properties.
    fn properties(&self, input: &mut Input<'_>) -> Properties<'_> {
        let [content_type, assigned, method, information, reference, reason] = [0, 1, 2, 3, 4, 5].map(|at| &*self.texts[at]);
        let auth_method = input.option(|_| method);
        Properties {
            payload_format: input.option(|input| input.below(2) as u8),
            message_expiry: input.option(Input::u32),
            content_type: input.option(|_| content_type),
            response_topic: input.option(|_| &*self.topic),
            correlation_data: input.option(|_| &*self.binary),
            subscription_id: input.option(|input| input.u32() % MAX_VAR_INT + 1),
            session_expiry: input.option(Input::u32),
            assigned_client_id: input.option(|_| assigned),
            server_keep_alive: input.option(Input::u16),
            auth_method,
            auth_data: auth_method.and_then(|_| input.option(|_| &*self.binary)),
            request_problem: input.option(Input::flag),
            will_delay: input.option(Input::u32),
            request_response: input.option(Input::flag),
            response_information: input.option(|_| information),
            server_reference: input.option(|_| reference),
            reason_string: input.option(|_| reason),
            receive_maximum: input.option(|input| input.u16().max(1)),
            topic_alias_maximum: input.option(Input::u16),
            topic_alias: input.option(|input| input.u16().max(1)),
            maximum_qos: input.option(|input| if input.flag() { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            retain_available: input.option(Input::flag),
            user: UserProperties::new(&self.user).expect("just encoded"),
            maximum_packet_size: input.option(|input| input.u32().max(1)),
            wildcard_available: input.option(Input::flag),
            subscription_ids_available: input.option(Input::flag),
            shared_available: input.option(Input::flag),
        }
    }
}

/// Short text, now and then beyond what a field can hold.
fn text(input: &mut Input<'_>) -> String {
    let text = input.text(20);
    if input.one_in(60) { text.repeat(66_000 / text.len().max(1)) } else { text }
}

/// The part of a text that a field holds.
fn clip(text: &str) -> &str {
    let end = (0..=MAX_FIELD.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

fn clip_bytes(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(MAX_FIELD)]
}

/// What is left of properties in a packet of this type (5.0 table 2-4), `None` for a will.
fn sifted<'a>(version: Version, kind: Option<PacketType>, p: &Properties<'a>) -> Properties<'a> {
    let empty = Properties::default();
    if !version.is_v5() {
        return empty;
    }
    let (all, user) =
        (Properties { content_type: p.content_type.map(clip), correlation_data: p.correlation_data.map(clip_bytes), ..*p }, p.user);
    let reason_string = p.reason_string.map(clip);
    let (auth_method, auth_data) = (p.auth_method.map(clip), p.auth_data.map(clip_bytes));
    let message = Properties {
        payload_format: all.payload_format,
        message_expiry: all.message_expiry,
        content_type: all.content_type,
        response_topic: all.response_topic,
        correlation_data: all.correlation_data,
        user,
        ..empty
    };
    match kind {
        None => Properties { will_delay: p.will_delay, ..message },
        Some(PacketType::Publish) => Properties { subscription_id: p.subscription_id, topic_alias: p.topic_alias, ..message },
        Some(PacketType::Connect) => Properties {
            session_expiry: p.session_expiry,
            auth_method,
            auth_data,
            request_problem: p.request_problem,
            request_response: p.request_response,
            receive_maximum: p.receive_maximum,
            topic_alias_maximum: p.topic_alias_maximum,
            maximum_packet_size: p.maximum_packet_size,
            user,
            ..empty
        },
        Some(PacketType::Connack) => Properties {
            payload_format: None,
            message_expiry: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            subscription_id: None,
            request_problem: None,
            request_response: None,
            will_delay: None,
            topic_alias: None,
            assigned_client_id: p.assigned_client_id.map(clip),
            response_information: p.response_information.map(clip),
            server_reference: p.server_reference.map(clip),
            auth_method,
            auth_data,
            reason_string,
            ..all
        },
        Some(PacketType::Subscribe) => Properties { subscription_id: p.subscription_id, user, ..empty },
        Some(PacketType::Unsubscribe) => Properties { user, ..empty },
        Some(PacketType::Disconnect) => {
            Properties { session_expiry: p.session_expiry, server_reference: p.server_reference.map(clip), reason_string, user, ..empty }
        }
        Some(PacketType::Auth) => Properties { auth_method, auth_data, reason_string, user, ..empty },
        Some(PacketType::Pingreq | PacketType::Pingresp) => empty,
        Some(_) => Properties { reason_string, user, ..empty },
    }
}

/// One packet.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let version = input.version();
    let kind = input.below(15);
    let parts = Parts::new(&mut input);
    let properties = parts.properties(&mut input);
    let case = Case { version, parts: &parts, properties, packet_id: input.u16().max(1) };
    match kind {
        0 => case.connect(&mut input),
        1 => case.connack(&mut input),
        2..5 => case.publish(&mut input),
        5 => case.ack(&mut input),
        6 => case.subscribe(&mut input),
        7 => case.unsubscribe(&mut input),
        8 => case.suback(&mut input),
        9 => case.unsuback(&mut input),
        10 => case.disconnect(&mut input),
        11 => case.auth(&mut input),
        12 => case.check(encode::pingreq, |packet| assert_eq!(packet, Packet::Pingreq)),
        13 => case.check(encode::pingresp, |packet| assert_eq!(packet, Packet::Pingresp)),
        _ => case.ack(&mut input),
    }
}

struct Case<'a> {
    version: Version,
    parts: &'a Parts,
    properties: Properties<'a>,
    packet_id: u16,
}

impl Case<'_> {
    /// Encodes behind what a buffer holds already, reads back the one packet that was added, and hands it to `same`.
    fn check(&self, encode: impl FnOnce(&mut Vec<u8>), same: impl FnOnce(Packet<'_>)) {
        let before = [0xAA; 3];
        let mut out = before.to_vec();
        encode(&mut out);
        let bytes = out.strip_prefix(&before).expect("what was there stays");
        let header = peek(bytes, u32::MAX).expect("valid header").expect("complete header");
        assert_eq!(header.total_len(), bytes.len());
        match decode(self.version, header.first, &bytes[usize::from(header.header_len)..]) {
            Ok(packet) => same(packet),
            Err(error) => panic!("{error}: {bytes:x?}"),
        }
    }

    fn sifted(&self, kind: PacketType) -> Properties<'_> {
        sifted(self.version, Some(kind), &self.properties)
    }

    fn reason(&self, input: &mut Input<'_>, codes: &[u8]) -> (ReasonCode, ReasonCode) {
        let reason = ReasonCode(input.choose(codes));
        (reason, if self.version.is_v5() { reason } else { ReasonCode::SUCCESS })
    }

    fn connect(&self, input: &mut Input<'_>) {
        let [client_id, user_name, ..] = &self.parts.texts;
        let user_name = input.option(|_| &**user_name);
        let may_have_password = user_name.is_some() || self.version.is_v5();
        let packet = Connect {
            version: self.version,
            clean_start: input.flag(),
            keep_alive: input.u16(),
            client_id,
            will: input.option(|input| Will {
                topic: &self.parts.topic,
                payload: &self.parts.binary,
                qos: input.qos(),
                retain: input.flag(),
                properties: self.properties,
            }),
            user_name,
            password: if may_have_password { input.option(|_| &*self.parts.binary) } else { None },
            properties: self.properties,
        };
        let will = packet.will.clone().map(|will| Will {
            payload: clip_bytes(will.payload),
            properties: sifted(self.version, None, &self.properties),
            ..will
        });
        let wanted = Connect {
            client_id: clip(client_id),
            will,
            user_name: user_name.map(clip),
            password: packet.password.map(clip_bytes),
            properties: self.sifted(PacketType::Connect),
            ..packet
        };
        self.check(|out| encode::connect(out, &packet), |read| assert_eq!(read, Packet::Connect(wanted)));
    }

    fn connack(&self, input: &mut Input<'_>) {
        let codes: &[u8] = if self.version.is_v5() { &[0, 0, 0x80, 0x85, 0x9F] } else { &[0, 0, 1, 2, 3, 4, 5] };
        let (code, session_present) = (input.choose(codes), input.flag());
        let wanted = Connack {
            session_present: session_present && code == 0 && self.version != Version::V31,
            code,
            properties: self.sifted(PacketType::Connack),
        };
        let encode = |out: &mut Vec<u8>| encode::connack(out, self.version, session_present, code, &self.properties);
        self.check(encode, |read| assert_eq!(read, Packet::Connack(wanted)));
    }

    fn publish(&self, input: &mut Input<'_>) {
        let (version, v5) = (self.version, self.version.is_v5());
        let mut forward = Vec::new();
        self.properties.encode_forward(&mut forward);
        let topic_alias = self.properties.topic_alias.unwrap_or(0);
        let subscription_ids: Vec<u32> = (0..input.below(4)).map(|_| input.u32() % MAX_VAR_INT + 1).collect();
        let payload = self.parts.payload.repeat(if input.one_in(30) { 12_000 } else { 1 });
        let packet = PublishOut {
            dup: input.flag(),
            qos: input.qos(),
            retain: input.flag(),
            topic: if topic_alias != 0 && v5 && input.flag() { "" } else { &self.parts.topic },
            packet_id: self.packet_id,
            forward: &forward,
            message_expiry: self.properties.message_expiry,
            topic_alias,
            subscription_ids: &subscription_ids,
            ..PublishOut::new("", &payload)
        };
        assert_publish_parts(version, &packet);
        let wanted = Properties { subscription_id: subscription_ids.first().copied(), ..self.properties };
        let wanted = sifted(version, Some(PacketType::Publish), &wanted);
        self.check(
            |out| encode::publish(out, version, &packet),
            |read| {
                let Packet::Publish(read) = read else { panic!("{read:?}") };
                let acknowledged = packet.qos != QoS::AtMostOnce;
                assert_eq!((read.dup, read.qos, read.retain), (packet.dup && acknowledged, packet.qos, packet.retain));
                assert_eq!((read.topic, read.payload), (packet.topic, packet.payload));
                assert_eq!(read.packet_id, if acknowledged { packet.packet_id } else { 0 });
                assert_eq!(read.properties.all(), wanted);
                assert!(read.properties.subscription_ids().eq(subscription_ids.iter().copied().filter(|_| v5)));
                let mut forwarded = Vec::new();
                read.properties.forward_into(&mut forwarded);
                assert_eq!(forwarded, if v5 { &forward[..] } else { &[] });
            },
        );
    }

    fn ack(&self, input: &mut Input<'_>) {
        let kind = input.choose(&[PacketType::Puback, PacketType::Pubrec, PacketType::Pubrel, PacketType::Pubcomp]);
        let codes: &[u8] = if matches!(kind, PacketType::Puback | PacketType::Pubrec) { &[0, 0x10, 0x80, 0x99] } else { &[0, 0x92] };
        let (given, reason) = self.reason(input, codes);
        let wanted = Ack { packet_id: self.packet_id, reason, properties: self.sifted(kind) };
        let wanted = match kind {
            PacketType::Puback => Packet::Puback(wanted),
            PacketType::Pubrec => Packet::Pubrec(wanted),
            PacketType::Pubrel => Packet::Pubrel(wanted),
            _ => Packet::Pubcomp(wanted),
        };
        let encode = |out: &mut Vec<u8>| encode::ack(out, self.version, kind, self.packet_id, given, &self.properties);
        self.check(encode, |read| assert_eq!(read, wanted));
    }

    fn subscribe(&self, input: &mut Input<'_>) {
        let v5 = self.version.is_v5();
        let filters: Vec<String> = (0..=input.below(4)).map(|_| filter(input)).collect();
        let entry = |filter| SubscribeEntry {
            filter,
            options: SubscribeOptions {
                qos: input.qos(),
                // [MQTT-3.8.3-4] of 5.0
                no_local: input.flag() && !filter.starts_with("$share/"),
                retain_as_published: input.flag(),
                retain_handling: input.choose(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]),
            },
        };
        let entries: Vec<_> = filters.iter().map(|filter| &**filter).map(entry).collect();
        let narrow =
            |options: SubscribeOptions| if v5 { options } else { SubscribeOptions { qos: options.qos, ..SubscribeOptions::default() } };
        let wanted = entries.iter().map(|entry| SubscribeEntry { filter: clip(entry.filter), options: narrow(entry.options) });
        let wanted: Vec<_> = wanted.collect();
        self.check(
            |out| encode::subscribe(out, self.version, self.packet_id, &entries, &self.properties),
            |read| {
                let Packet::Subscribe(read) = read else { panic!("{read:?}") };
                assert_eq!((read.packet_id, read.properties), (self.packet_id, self.sifted(PacketType::Subscribe)));
                assert!(read.filters().eq(wanted.iter().copied()));
            },
        );
    }

    fn unsubscribe(&self, input: &mut Input<'_>) {
        let filters: Vec<String> = (0..=input.below(4)).map(|_| filter(input)).collect();
        let given = || filters.iter().map(|filter| &**filter);
        self.check(
            |out| encode::unsubscribe(out, self.version, self.packet_id, given(), &self.properties),
            |read| {
                let Packet::Unsubscribe(read) = read else { panic!("{read:?}") };
                assert_eq!((read.packet_id, read.properties), (self.packet_id, self.sifted(PacketType::Unsubscribe)));
                assert!(read.filters().eq(given().map(clip)));
            },
        );
    }

    fn suback(&self, input: &mut Input<'_>) {
        let codes: Vec<u8> = (0..=input.below(6)).map(|_| input.choose(&[0, 1, 2, 0x80, 0x87, 0xA2])).collect();
        let wanted: Vec<u8> = codes.iter().map(|&code| if self.version.is_v5() { code } else { code.min(0x80) }).collect();
        let wanted = Suback { packet_id: self.packet_id, properties: self.sifted(PacketType::Suback), codes: &wanted };
        let encode = |out: &mut Vec<u8>| encode::suback(out, self.version, self.packet_id, &codes, &self.properties);
        self.check(encode, |read| assert_eq!(read, Packet::Suback(wanted)));
    }

    fn unsuback(&self, input: &mut Input<'_>) {
        let codes: Vec<u8> = (0..=input.below(6)).map(|_| input.choose(&[0, 0x11, 0x80, 0x91])).collect();
        let wanted = if self.version.is_v5() { &codes[..] } else { &[] };
        let wanted = Suback { packet_id: self.packet_id, properties: self.sifted(PacketType::Unsuback), codes: wanted };
        let encode = |out: &mut Vec<u8>| encode::unsuback(out, self.version, self.packet_id, &codes, &self.properties);
        self.check(encode, |read| assert_eq!(read, Packet::Unsuback(wanted)));
    }

    fn disconnect(&self, input: &mut Input<'_>) {
        let (given, reason) = self.reason(input, &[0, 4, 0x80, 0x8E, 0xA2]);
        let wanted = Disconnect { reason, properties: self.sifted(PacketType::Disconnect) };
        let encode = |out: &mut Vec<u8>| encode::disconnect(out, self.version, given, &self.properties);
        self.check(encode, |read| assert_eq!(read, Packet::Disconnect(wanted)));
    }

    fn auth(&self, input: &mut Input<'_>) {
        // A method must be named unless nothing is said (5.0 section 3.15.2.1); 3.x has no AUTH.
        let codes: &[u8] = if self.properties.auth_method.is_some() { &[0, 0x18, 0x19] } else { &[0] };
        let reason = ReasonCode(input.choose(codes));
        let case = Case { version: Version::V5, properties: self.properties, ..*self };
        let wanted = Auth { reason, properties: case.sifted(PacketType::Auth) };
        case.check(|out| encode::auth(out, reason, &case.properties), |read| assert_eq!(read, Packet::Auth(wanted)));
    }
}

/// A filter, well-formed as a string and not empty; its wildcards are not the codec's business.
fn filter(input: &mut Input<'_>) -> String {
    let filter = if input.flag() { text(input) } else { input.filter(5) };
    let filter = if input.one_in(6) { format!("$share/g/{filter}") } else { filter };
    if filter.is_empty() { "#".into() } else { filter }
}
