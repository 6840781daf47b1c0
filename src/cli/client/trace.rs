//! One line a packet, in the words of mosquitto_pub and mosquitto_sub, for `-d`.

use super::Event;
use crate::mqtt::QoS;

/// What arrived; nothing for what is not a packet.
pub(super) fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::Message(message) => {
            let publish = Publish { dup: message.dup, qos: message.qos, retain: message.retain, packet_id: message.packet_id };
            publish.line("received", &message.topic, message.payload.len())
        }
        Event::Published { packet_id, reason } => format!("received the acknowledgement of PUBLISH (Mid: {packet_id}, RC: {})", reason.0),
        Event::Subscribed { packet_id, codes } => format!("received SUBACK (Mid: {packet_id}, {})", list(codes)),
        Event::Unsubscribed { packet_id, .. } => format!("received UNSUBACK (Mid: {packet_id})"),
        Event::InputReady | Event::TimedOut => return None,
    })
}

/// The head of a PUBLISH.
pub(super) struct Publish {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub packet_id: u16,
}

impl Publish {
    pub(super) fn line(&self, direction: &str, topic: &str, payload_bytes: usize) -> String {
        let Publish { dup, qos, retain, packet_id } = self;
        let (dup, qos, retain) = (u8::from(*dup), *qos as u8, u8::from(*retain));
        format!("{direction} PUBLISH (d{dup}, q{qos}, r{retain}, m{packet_id}, '{topic}', ... ({payload_bytes} bytes))")
    }
}

fn list(codes: &[u8]) -> String {
    codes.iter().map(|code| code.to_string()).collect::<Vec<_>>().join(", ")
}
