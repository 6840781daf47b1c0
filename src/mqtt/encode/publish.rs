//! PUBLISH (section 3.3), written once front to back: the lengths are known before the first byte goes out.

use super::super::property;
use super::super::types::{QoS, Version};
use super::super::wire::{clip, put_u16, put_var_int, var_int_bytes, var_int_len};
use super::publish_first_byte;

/// A PUBLISH to be sent. The packet must stay within 268,435,455 bytes after the fixed header; `publish_len` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOut<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// May be empty in 5.0 where `topic_alias` stands for it.
    pub topic: &'a str,
    /// Not 0, and on the wire only, at QoS 1 and 2.
    pub packet_id: u16,
    pub payload: &'a [u8],
    /// 5.0 properties as [`super::super::PublishProperties::forward_into`] gives them.
    pub forward: &'a [u8],
    /// Seconds; 5.0 only.
    pub message_expiry: Option<u32>,
    /// 0 for none; 5.0 only.
    pub topic_alias: u16,
    /// 5.0 only.
    pub subscription_ids: &'a [u32],
}

impl<'a> PublishOut<'a> {
    /// A QoS 0 message without anything else.
    pub fn new(topic: &'a str, payload: &'a [u8]) -> PublishOut<'a> {
        PublishOut {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: clip(topic),
            packet_id: 0,
            payload,
            forward: &[],
            message_expiry: None,
            topic_alias: 0,
            subscription_ids: &[],
        }
    }
}

/// The two lengths that the wire carries.
#[derive(Clone, Copy)]
struct Lengths {
    /// Bytes of properties, their own length not counted.
    properties: usize,
    /// Bytes after the fixed header.
    body: usize,
}

impl Lengths {
    #[inline]
    fn new(version: Version, publish: &PublishOut<'_>) -> Lengths {
        let packet_id = if publish.qos == QoS::AtMostOnce { 0 } else { 2 };
        let fixed = 2 + clip(publish.topic).len() + packet_id + publish.payload.len();
        if !version.is_v5() {
            return Lengths { properties: 0, body: fixed };
        }
        let properties = publish.forward.len()
            + if publish.message_expiry.is_some() { 5 } else { 0 }
            + if publish.topic_alias != 0 { 3 } else { 0 }
            + publish.subscription_ids.iter().map(|&id| 1 + var_int_len(id)).sum::<usize>();
        Lengths { properties, body: fixed + var_int_len(properties as u32) + properties }
    }

    /// Bytes of the whole packet.
    #[inline]
    fn total(self) -> usize {
        1 + var_int_len(self.body as u32) + self.body
    }
}

/// Bytes of the whole packet, fixed header included: what a receiver's maximum packet size limits.
#[inline]
pub fn publish_len(version: Version, publish: &PublishOut<'_>) -> usize {
    Lengths::new(version, publish).total()
}

/// Appends a PUBLISH.
#[inline]
pub fn publish(out: &mut Vec<u8>, version: Version, publish: &PublishOut<'_>) {
    let lengths = Lengths::new(version, publish);
    out.reserve(lengths.total());
    put_head(out, version, publish, lengths);
    out.extend_from_slice(publish.payload);
}

/// Appends all of a PUBLISH but its payload, so that a large payload need not be copied for every subscriber.
#[inline]
pub fn publish_head(out: &mut Vec<u8>, version: Version, publish: &PublishOut<'_>) {
    let lengths = Lengths::new(version, publish);
    out.reserve(lengths.total() - publish.payload.len());
    put_head(out, version, publish, lengths);
}

#[inline]
fn put_head(out: &mut Vec<u8>, version: Version, publish: &PublishOut<'_>, lengths: Lengths) {
    let topic = clip(publish.topic);
    // First byte, remaining length and topic length are put together in a register and leave as eight bytes, whose spare end is cut off:
    // a copy of a size known to the compiler is no call.
    let first = publish_first_byte(publish.dup, publish.qos, publish.retain);
    let (length, length_bytes) = var_int_bytes(lengths.body as u32);
    let start = u64::from(first)
        | u64::from(u32::from_le_bytes(length)) << 8
        | u64::from((topic.len() as u16).swap_bytes()) << (8 + 8 * length_bytes);
    let from = out.len();
    out.extend_from_slice(&start.to_le_bytes());
    out.truncate(from + 3 + length_bytes);
    out.extend_from_slice(topic.as_bytes());
    // [MQTT-2.3.1-5] [MQTT-2.2.1-2]
    if publish.qos != QoS::AtMostOnce {
        put_u16(out, publish.packet_id);
    }
    if version.is_v5() {
        put_properties(out, publish, lengths.properties);
    }
}

#[inline]
fn put_properties(out: &mut Vec<u8>, publish: &PublishOut<'_>, len: usize) {
    if len == 0 {
        out.push(0);
        return;
    }
    put_var_int(out, len as u32);
    if publish.topic_alias != 0 {
        out.push(property::TOPIC_ALIAS);
        put_u16(out, publish.topic_alias);
    }
    if let Some(seconds) = publish.message_expiry {
        out.push(property::MESSAGE_EXPIRY);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for &id in publish.subscription_ids {
        out.push(property::SUBSCRIPTION_ID);
        put_var_int(out, id);
    }
    out.extend_from_slice(publish.forward);
}
