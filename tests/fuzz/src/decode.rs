//! Any bytes in any version: they are packets or refused. Nothing panics or reads past the end (a body is given in an allocation of just its size, whose
//! bounds the sanitizer guards); the ways to decode agree; and what is accepted says the same when it is written and read again.

use super::packets::{assert_same, write};
use ringmq::mqtt::{
    DecodeError, FixedHeader, Packet, PacketType, ReasonCode, SharedFilter, TopicFilter, TopicName, Version, decode, decode_connect,
    decode_publish, peek,
};

/// No limit but the format's own.
const NO_LIMIT: u32 = u32::MAX;
/// The longest fixed header, bytes.
const MAX_HEADER: usize = 5;

/// The first byte chooses the version, the second is the first of a packet whose body is the rest; the rest is a stream of packets too.
pub fn run(data: &[u8]) {
    let Some((&selector, bytes)) = data.split_first() else { return };
    let version = [Version::V5, Version::V311, Version::V31][usize::from(selector) % 3];
    if let Some((&first, body)) = bytes.split_first() {
        decode_all_ways(version, first, body);
    }
    stream(version, bytes);
}

/// One packet behind the other, until one is refused or not complete.
fn stream(version: Version, mut bytes: &[u8]) {
    while let Some(header) = peek_at_every_split(bytes) {
        let (header_len, total) = (usize::from(header.header_len), header.total_len());
        assert_limits(bytes, total);
        let Some(body) = bytes.get(header_len..total) else { return };
        decode_all_ways(version, header.first, body);
        bytes = &bytes[total..];
    }
}

/// The header is found with its last byte and refused with the first byte that is wrong; more bytes change neither.
fn peek_at_every_split(bytes: &[u8]) -> Option<FixedHeader> {
    let whole = peek(bytes, NO_LIMIT);
    let mut settled = None;
    for len in 0..=bytes.len().min(MAX_HEADER) {
        let found = peek(&bytes[..len], NO_LIMIT);
        match settled {
            Some(before) => assert_eq!(found, before, "{len} bytes say something else than fewer"),
            None if found != Ok(None) => settled = Some(found),
            None => assert!(len < MAX_HEADER, "five bytes are always enough"),
        }
        if let Ok(Some(header)) = found {
            assert!((2..=MAX_HEADER).contains(&usize::from(header.header_len)) && len >= usize::from(header.header_len));
            assert_eq!(PacketType::from_first(header.first), Some(header.packet_type()));
        }
    }
    assert_eq!(whole, settled.unwrap_or(Ok(None)));
    whole.ok().flatten()
}

/// A packet is refused as too large as soon as its header is complete, and only if it is.
fn assert_limits(bytes: &[u8], total: usize) {
    let total = total as u32;
    assert!(peek(bytes, total).is_ok());
    assert_eq!(peek(bytes, total - 1).map_err(|error| error.reason), Err(ReasonCode::PACKET_TOO_LARGE));
}

fn decode_all_ways(version: Version, first: u8, body: &[u8]) {
    let body: Box<[u8]> = body.into();
    let result = decode(version, first, &body);
    match PacketType::from_first(first) {
        Some(PacketType::Publish) => {
            let publish = decode_publish(version, first, &body).map(Packet::Publish);
            match peek(&[first, 0], NO_LIMIT) {
                Ok(_) => assert_eq!(publish, result, "decode_publish and decode"),
                // Flags that `peek` does not let through: refused by both, in words of their own.
                Err(error) => assert_eq!([publish, result.clone()].map(|r| r.err().map(|e| e.reason)), [Some(error.reason); 2]),
            }
        }
        Some(PacketType::Connect) if first & 0x0F == 0 => {
            assert_eq!(decode_connect(&body).map(Packet::Connect).map_err(DecodeError::from), result, "decode_connect and decode");
        }
        _ => {}
    }
    match result {
        Ok(packet) => accepted(version, first, &packet, &body),
        Err(error) => assert!(error.reason.is_error() && !format!("{error} {error:?}").is_empty()),
    }
}

fn accepted(version: Version, first: u8, packet: &Packet<'_>, body: &[u8]) {
    walk(packet, body);
    let version = if let Packet::Connect(connect) = packet { connect.version } else { version };
    let bytes = write(version, packet);
    let header = peek(&bytes, NO_LIMIT).expect("own header is valid").expect("own header is complete");
    assert_eq!(header.total_len(), bytes.len());
    assert_eq!(header.first >> 4, first >> 4);
    assert!(header.body_len as usize <= body.len() + 2, "written in more bytes than it came in: {packet:?}");
    let again = decode(version, header.first, &bytes[usize::from(header.header_len)..]).expect("own bytes are valid");
    assert_same(packet, &again);
}

/// Uses every view of a packet: it stays within the body and never panics.
fn walk(packet: &Packet<'_>, body: &[u8]) {
    match packet {
        Packet::Publish(publish) => {
            assert_inside(publish.topic.as_bytes(), body);
            assert_inside(publish.payload, body);
            assert_inside(publish.properties.raw, body);
            assert!(publish.topic.is_empty() || TopicName::new(publish.topic).is_ok());
            let properties = publish.properties.all();
            assert_eq!(properties.subscription_id, publish.properties.subscription_ids().next());
            assert_eq!(properties.message_expiry, publish.properties.message_expiry);
            for (name, value) in properties.user.iter() {
                assert_inside(name.as_bytes(), body);
                assert_inside(value.as_bytes(), body);
            }
        }
        Packet::Subscribe(subscribe) => {
            assert!(subscribe.filters().count() > 0);
            subscribe.filters().for_each(|entry| walk_filter(entry.filter, body));
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert!(unsubscribe.filters().count() > 0);
            unsubscribe.filters().for_each(|filter| walk_filter(filter, body));
        }
        Packet::Connect(connect) => {
            assert_inside(connect.client_id.as_bytes(), body);
            if let Some(will) = &connect.will {
                assert!(TopicName::new(will.topic).is_ok());
                assert_inside(will.payload, body);
                will.properties.encode_forward(&mut Vec::new());
            }
        }
        _ => {}
    }
}

fn walk_filter(filter: &str, body: &[u8]) {
    assert_inside(filter.as_bytes(), body);
    if let Some(Ok(shared)) = SharedFilter::parse(filter) {
        assert_eq!(format!("$share/{}/{}", shared.group, shared.filter.as_str()), filter);
    }
    let valid = TopicFilter::new(filter);
    // A filter without wildcards is a topic name, and matches just itself.
    if let (Ok(filter), Ok(name)) = (valid, TopicName::new(filter)) {
        assert!(!filter.is_wildcard() && filter.matches(name));
    }
}

fn assert_inside(part: &[u8], body: &[u8]) {
    let (part, body) = (part.as_ptr_range(), body.as_ptr_range());
    assert!(part.is_empty() || body.start <= part.start && part.end <= body.end, "a view points outside of the packet");
}
