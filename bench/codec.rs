//! What one packet costs in the codec: `cargo bench --no-default-features --bench codec`.
//!
//! The message is the one of the broadcast profile: a topic of 20 bytes, a payload of 64 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringmq::mqtt::{
    Connect, PacketType, Properties, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, UserProperties, Version, Will, decode,
    decode_connect, decode_publish, encode, peek,
};
use std::hint::black_box;

const TOPIC: &str = "fleet/0042/telemetry";
const PAYLOAD: [u8; 64] = [b'x'; 64];
const NO_LIMIT: u32 = u32::MAX;
const VERSIONS: [(Version, &str); 2] = [(Version::V311, "3.1.1"), (Version::V5, "5.0")];

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn qos1() -> PublishOut<'static> {
    PublishOut { qos: QoS::AtLeastOnce, packet_id: 7, ..PublishOut::new(TOPIC, &PAYLOAD) }
}

/// From the first byte to the view, as a shard does it.
fn decode_publishes(c: &mut Criterion) {
    let mut user = Vec::new();
    UserProperties::encode([("unit", "celsius"), ("source", "gateway-7")], &mut user);
    let with_properties = PublishOut { forward: &user, message_expiry: Some(60), ..PublishOut::new(TOPIC, &PAYLOAD) };
    let cases = [
        ("QoS 0, 3.1.1", Version::V311, PublishOut::new(TOPIC, &PAYLOAD)),
        ("QoS 0, 5.0", Version::V5, PublishOut::new(TOPIC, &PAYLOAD)),
        ("QoS 1, 3.1.1", Version::V311, qos1()),
        ("QoS 0, 5.0 with properties", Version::V5, with_properties),
    ];
    let mut group = c.benchmark_group("decode PUBLISH");
    group.throughput(Throughput::Elements(1));
    for (name, version, publish) in cases {
        let bytes = written(|out| encode::publish(out, version, &publish));
        group.bench_function(name, |b| {
            b.iter(|| {
                let bytes = black_box(bytes.as_slice());
                let header = peek(bytes, NO_LIMIT).ok().flatten().expect("a packet");
                let body = &bytes[usize::from(header.header_len)..header.total_len()];
                decode_publish(version, header.first, body).expect("valid").payload.len()
            });
        });
    }
}

fn encode_publishes(c: &mut Criterion) {
    let cases = [
        ("QoS 0, 3.1.1", Version::V311, PublishOut::new(TOPIC, &PAYLOAD)),
        ("QoS 0, 5.0", Version::V5, PublishOut::new(TOPIC, &PAYLOAD)),
        ("QoS 1, 3.1.1", Version::V311, qos1()),
    ];
    let mut group = c.benchmark_group("encode PUBLISH");
    group.throughput(Throughput::Elements(1));
    for (name, version, publish) in cases {
        let mut out = Vec::with_capacity(1 << 20);
        group.bench_function(name, |b| {
            b.iter(|| {
                if out.len() > (1 << 20) - 200 {
                    out.clear();
                }
                encode::publish(&mut out, version, black_box(&publish));
            });
        });
    }
}

fn small_packets(c: &mut Criterion) {
    let none = Properties::default();
    let filters = [
        SubscribeEntry { filter: "fleet/+/telemetry", options: SubscribeOptions::default() },
        SubscribeEntry { filter: "fleet/0042/#", options: SubscribeOptions::default() },
    ];
    let will = Will { topic: "fleet/0042/presence", payload: b"", qos: QoS::AtLeastOnce, retain: true, properties: none };
    let mut group = c.benchmark_group("decode");
    for (version, name) in VERSIONS {
        let puback = written(|out| encode::ack(out, version, PacketType::Puback, 7, ReasonCode::SUCCESS, &none));
        group.bench_function(format!("PUBACK, {name}"), |b| b.iter(|| decode(version, 0x40, black_box(&puback[2..])).is_ok()));
        let subscribe = written(|out| encode::subscribe(out, version, 1, &filters, &none));
        group.bench_function(format!("SUBSCRIBE of two filters, {name}"), |b| {
            b.iter(|| decode(version, 0x82, black_box(&subscribe[2..])).is_ok());
        });
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive: 60,
            client_id: "vehicle-0042",
            will: Some(will.clone()),
            user_name: Some("fleet"),
            password: Some(b"secret"),
            properties: Properties { receive_maximum: Some(20), session_expiry: Some(3600), ..none },
        };
        let bytes = written(|out| encode::connect(out, &connect));
        group.bench_function(format!("CONNECT, {name}"), |b| b.iter(|| decode_connect(black_box(&bytes[2..])).is_ok()));
    }
}

/// Duplicates are found in linear time: twice the properties, twice the time.
fn many_user_properties(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode DISCONNECT with user properties");
    for count in [5_000u64, 10_000, 20_000] {
        let mut block = Vec::new();
        UserProperties::encode((0..count).map(|_| ("name", "value")), &mut block);
        let user = UserProperties::new(&block).expect("valid");
        let bytes = written(|out| {
            encode::disconnect(out, Version::V5, ReasonCode::UNSPECIFIED_ERROR, &Properties { user, ..Properties::default() });
        });
        let start = usize::from(peek(&bytes, NO_LIMIT).ok().flatten().expect("a packet").header_len);
        group.throughput(Throughput::Elements(count));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| decode(Version::V5, 0xE0, black_box(&bytes[start..])).is_ok());
        });
    }
}

criterion_group!(benches, decode_publishes, encode_publishes, small_packets, many_user_properties);
criterion_main!(benches);
