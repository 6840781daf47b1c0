//! A bare forwarder on the broker's own socket driver: the least that can serve the broadcast and one-to-one scenarios. The broker beside it, in
//! the same run, shows what sessions, limits, wildcards and accounting cost.
//!
//! It takes CONNECT, SUBSCRIBE to topics without wildcards and PUBLISH at QoS 0, whose bytes it forwards as they came: a run of messages to one
//! topic is one entry in the output of each subscriber. It checks nothing and knows no session; nothing but the generator should talk to it.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};

use ringmq::mqtt::{Packet, PacketType, Properties, Version, decode, encode};
use ringmq::server::driver::Backend;

use crate::io_gate::outputs::{Forward, Outputs};
use crate::io_gate::shard;
use crate::load::packets;
use crate::measure;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:1884")]
    listen: SocketAddr,
    /// Use epoll instead of io_uring
    #[arg(long)]
    epoll: bool,
}

/// Serves for ever.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    measure::raise_descriptor_limit()?;
    let listener = TcpListener::bind(arguments.listen)?;
    println!("forwarding on {}", listener.local_addr()?);
    shard::serve(listener, if arguments.epoll { Backend::Epoll } else { Backend::Uring }, 0, Bare::default())?;
    Ok(())
}

#[derive(Default)]
struct Bare {
    /// By connection, the start of a packet whose end has not come.
    partial: Vec<Vec<u8>>,
    /// Who has subscribed to a topic.
    topics: HashMap<Vec<u8>, Vec<u32>>,
    outputs: Outputs,
}

impl Forward for Bare {
    fn open(&mut self, slot: u32) {
        self.partial.resize_with(self.partial.len().max(slot as usize + 1), Vec::new);
        self.outputs.open(slot);
    }

    fn receive(&mut self, slot: u32, bytes: &[u8]) {
        let mut partial = std::mem::take(&mut self.partial[slot as usize]);
        if partial.is_empty() {
            let used = self.packets(slot, bytes);
            partial.extend_from_slice(&bytes[used..]);
        } else {
            partial.extend_from_slice(bytes);
            let used = self.packets(slot, &partial);
            partial.drain(..used);
        }
        self.partial[slot as usize] = partial;
    }

    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }
}

impl Bare {
    /// Takes the whole packets at the start of `bytes` and gives their length.
    fn packets(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let mut at = 0;
        // Messages to the same topic, one after the other.
        let mut run = (0, &bytes[..0]);
        while let Some((packet, length)) = packets::next(&bytes[at..]) {
            let topic = if packet.first >> 4 == PacketType::Publish as u8 { topic(packet.body) } else { &[] };
            if topic != run.1 {
                self.forward(run.1, &bytes[run.0..at]);
                run = (at, topic);
            }
            if topic.is_empty() {
                self.answer(slot, packet.first, packet.body);
            }
            at += length;
        }
        self.forward(run.1, &bytes[run.0..at]);
        at
    }

    fn forward(&mut self, topic: &[u8], messages: &[u8]) {
        match self.topics.get(topic).map(Vec::as_slice) {
            None | Some([]) => {}
            Some(&[slot]) => self.outputs.of(slot).own().extend_from_slice(messages),
            Some(slots) => self.outputs.share(slots, messages),
        }
    }

    fn answer(&mut self, slot: u32, first: u8, body: &[u8]) {
        let (version, nothing) = (Version::V311, Properties::default());
        let out = self.outputs.of(slot).own();
        match PacketType::from_first(first) {
            Some(PacketType::Connect) => encode::connack(out, version, false, 0, &nothing),
            Some(PacketType::Pingreq) => encode::pingresp(out),
            Some(PacketType::Subscribe) => {
                let Ok(Packet::Subscribe(subscribe)) = decode(version, first, body) else { return };
                let codes: Vec<u8> = subscribe.filters().map(|_| 0).collect();
                encode::suback(out, version, subscribe.packet_id, &codes, &nothing);
                for entry in subscribe.filters() {
                    self.topics.entry(entry.filter.as_bytes().to_vec()).or_default().push(slot);
                }
            }
            _ => {}
        }
    }
}

/// The topic of a PUBLISH; empty if it has none.
fn topic(body: &[u8]) -> &[u8] {
    let length = packets::u16_at(body, 0).map_or(0, usize::from);
    body.get(2..2 + length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq::mqtt::{PublishOut, QoS, SubscribeEntry, SubscribeOptions};

    #[test]
    fn messages_reach_the_subscribers_of_their_topic_in_order_however_they_are_cut() {
        let mut bytes = Vec::new();
        for (topic, payload) in [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("a", "5")] {
            encode::publish(&mut bytes, Version::V311, &PublishOut::new(topic, payload.as_bytes()));
        }
        for cut in 0..bytes.len() {
            let mut bare = Bare::default();
            (0..4).for_each(|slot| bare.open(slot));
            for (slot, filter) in [(0, "a"), (1, "a"), (2, "b")] {
                let mut subscribe = Vec::new();
                let entry = SubscribeEntry { filter, options: SubscribeOptions { qos: QoS::AtMostOnce, ..SubscribeOptions::default() } };
                encode::subscribe(&mut subscribe, Version::V311, 1, &[entry], &Properties::default());
                bare.receive(slot, &subscribe);
            }
            bare.receive(3, &bytes[..cut]);
            bare.receive(3, &bytes[cut..]);
            let mut got = vec![Vec::new(); 4];
            while let Some((slot, batch)) = bare.outputs.next_batch() {
                batch.for_each_slice(|slice| got[slot as usize].extend_from_slice(slice));
            }
            let payloads = |bytes: &[u8]| {
                let (mut at, mut all) = (0, String::new());
                while let Some((packet, length)) = packets::next(&bytes[at..]) {
                    at += length;
                    if packet.first >> 4 == 3 {
                        all.push_str(std::str::from_utf8(packets::publish(packet.first, packet.body, false).unwrap().1).unwrap());
                    }
                }
                all
            };
            assert_eq!(got.iter().map(|bytes| payloads(bytes)).collect::<Vec<_>>(), ["125", "125", "3", ""], "cut at {cut}");
        }
    }
}
