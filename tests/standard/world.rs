//! What the tests of the standard ask a world beside what all tests do: clients by name, and packets in one line.

use ringmq::config::Config;
use ringmq::metrics::CloseCause;
use ringmq::mqtt::{
    Connack, Connect, Packet, Properties, Publish, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, Version, encode, peek,
};

#[path = "../support/world.rs"]
mod shared;

pub use shared::*;

pub const V31: Version = Version::V31;
pub const V311: Version = Version::V311;
pub const V5: Version = Version::V5;

pub const PINGREQ: [u8; 2] = [0xC0, 0];
pub const PINGRESP: [u8; 2] = [0xD0, 0];
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

impl World {
    /// One shard and the defaults.
    pub fn standard() -> World {
        World::new(1, &Config::default())
    }

    /// One shard with other limits.
    pub fn limited(change: impl FnOnce(&mut Config)) -> World {
        let mut config = Config::default();
        change(&mut config);
        World::new(1, &config)
    }

    /// A client that is let in with nothing special.
    pub fn client(&mut self, version: Version, client_id: &str) -> Client {
        self.connect(&connect(version, client_id))
    }

    /// A client whose session is kept, and whether it was there before.
    pub fn durable(&mut self, version: Version, client_id: &str) -> (Client, bool) {
        self.durable_with(version, client_id, Properties::default())
    }

    /// The same with properties, which are left out in 3.x.
    pub fn durable_with(&mut self, version: Version, client_id: &str, properties: Properties<'_>) -> (Client, bool) {
        let client = self.open();
        let properties = Properties { session_expiry: Some(u32::MAX), ..properties };
        self.send_connect(client, &Connect { clean_start: false, properties, ..connect(version, client_id) });
        let bytes = self.take_one(client);
        let connack = connack(version, &bytes);
        assert_eq!(connack.code, 0);
        (client, connack.session_present)
    }

    /// The first packet that a client was sent and that was not taken yet.
    #[track_caller]
    pub fn take_one(&mut self, client: Client) -> Vec<u8> {
        let received = &mut self.sockets[client].received;
        let header = peek(received, u32::MAX).expect("a valid packet").expect("a packet");
        received.drain(..header.total_len()).collect()
    }

    /// The socket breaks: no DISCONNECT comes.
    pub fn vanish(&mut self, client: Client) {
        let Some((shard, conn)) = self.sockets[client].place else { return };
        self.shards[shard].ended(self.now, conn, CloseCause::ClientClosed);
        self.settle();
        assert!(self.is_closed(client));
        self.take(client);
    }

    /// Subscribes with these options, and is granted their QoS.
    pub fn subscribe_with(&mut self, client: Client, version: Version, filter: &str, options: SubscribeOptions, id: Option<u32>) {
        self.send(client, &subscribe(version, 1, &[(filter, options)], id));
        let bytes = self.take_one(client);
        let Packet::Suback(suback) = packet(version, &bytes) else { panic!("no SUBACK: {bytes:02x?}") };
        assert_eq!((suback.packet_id, suback.codes), (1, &[options.qos as u8][..]));
    }

    pub fn subscribe(&mut self, client: Client, version: Version, filter: &str, qos: QoS) {
        self.subscribe_with(client, version, filter, SubscribeOptions { qos, ..SubscribeOptions::default() }, None);
    }

    /// A publisher of 5.0 that comes, publishes at this QoS and goes; what it is answered is not looked at.
    pub fn publish(&mut self, message: PublishOut<'_>) {
        let publisher = self.client(V5, "passer-by");
        self.send(publisher, &publish(V5, message));
        self.send(publisher, &DISCONNECT);
        assert!(self.is_closed(publisher));
    }

    /// This client's session has nothing more for it, and it is still served.
    #[track_caller]
    pub fn assert_silent(&mut self, client: Client) {
        self.send(client, &PINGREQ);
        assert_eq!(self.take(client), PINGRESP);
    }
}

/// A message at QoS 1 or 2 with packet identifier 1.
pub fn message<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> PublishOut<'a> {
    PublishOut { qos, packet_id: 1, ..PublishOut::new(topic, payload) }
}

pub fn publish(version: Version, publish: PublishOut<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::publish(&mut bytes, version, &publish);
    bytes
}

/// A SUBSCRIBE; `id` is its subscription identifier.
pub fn subscribe(version: Version, packet_id: u16, filters: &[(&str, SubscribeOptions)], id: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let entries: Vec<_> = filters.iter().map(|&(filter, options)| SubscribeEntry { filter, options }).collect();
    encode::subscribe(&mut bytes, version, packet_id, &entries, &Properties { subscription_id: id, ..Properties::default() });
    bytes
}

/// PUBACK (0x40), PUBREC (0x50), PUBREL (0x62) or PUBCOMP (0x70), as every version writes it.
pub fn ack(first: u8, packet_id: u16) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    vec![first, 2, high, low]
}

/// The same with a reason code of 5.0.
pub fn ack_with(first: u8, packet_id: u16, reason: ReasonCode) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    vec![first, 3, high, low, reason.0]
}

/// The CONNACK that `bytes` are.
#[track_caller]
pub fn connack(version: Version, bytes: &[u8]) -> Connack<'_> {
    match packet(version, bytes) {
        Packet::Connack(connack) => connack,
        other => panic!("no CONNACK: {other:?}"),
    }
}

/// The reason of the DISCONNECT of 5.0 that `bytes` are.
#[track_caller]
pub fn told_off(bytes: &[u8]) -> ReasonCode {
    match packet(Version::V5, bytes) {
        Packet::Disconnect(disconnect) => disconnect.reason,
        other => panic!("no DISCONNECT: {other:?}"),
    }
}

/// The messages that `bytes` are, and nothing else.
#[track_caller]
pub fn publishes(version: Version, bytes: &[u8]) -> Vec<Publish<'_>> {
    let publish = |packet| match packet {
        Packet::Publish(publish) => publish,
        other => panic!("no PUBLISH: {other:?}"),
    };
    packets(version, bytes).into_iter().map(publish).collect()
}

/// The payloads of the messages that `bytes` are.
#[track_caller]
pub fn payloads(version: Version, bytes: &[u8]) -> Vec<&[u8]> {
    publishes(version, bytes).iter().map(|publish| publish.payload).collect()
}
