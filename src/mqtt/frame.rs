//! The fixed header: how long the next packet is, found out from as few bytes as have arrived.
//!
//! A peer that will never send a valid packet is refused at the first byte that shows it, not when the announced length has arrived.

use super::types::{DecodeError, PacketType, QoS, ReasonCode, Version};
use super::wire;

/// A complete fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// Packet type and flags.
    pub first: u8,
    /// Bytes of the header itself, 2 to 5.
    pub header_len: u8,
    /// Bytes after the header (the remaining length).
    pub body_len: u32,
}

impl FixedHeader {
    /// The packet type; only meaningful in a header that [`peek`] made.
    #[inline]
    pub fn packet_type(&self) -> PacketType {
        // `peek` lets only the fifteen types through; type 0 in a hand-made header is refused by `decode`.
        PacketType::from_first(self.first).unwrap_or(PacketType::Auth)
    }

    /// Bytes of the whole packet, this header included.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(self.header_len) + self.body_len as usize
    }
}

/// Reads the fixed header at the start of `buf`; `None` while more bytes are needed for it.
///
/// Errors: a reserved type or flags that are wrong in every version, a remaining length of more than four bytes or of more bytes than
/// needed (0x81); a packet of more than `max_packet_bytes`, header included (0x95).
#[inline]
pub fn peek(buf: &[u8], max_packet_bytes: u32) -> Result<Option<FixedHeader>, DecodeError> {
    let Some((&first, rest)) = buf.split_first() else { return Ok(None) };
    // 3.1 is the most lenient version: what it refuses, all refuse.
    check_first(Version::V31, first)?;
    let Some((body_len, length_bytes)) = wire::var_int(rest)? else { return Ok(None) };
    let header = FixedHeader { first, header_len: 1 + length_bytes as u8, body_len };
    if header.total_len() > max_packet_bytes as usize {
        return Err(DecodeError { reason: ReasonCode::PACKET_TOO_LARGE, what: "packet is larger than the limit" });
    }
    Ok(Some(header))
}

/// The packet type of a first byte whose flags are right. [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-2.1.3-1]
#[inline]
pub(crate) fn check_first(version: Version, first: u8) -> Result<PacketType, DecodeError> {
    let kind = PacketType::from_first(first).ok_or(DecodeError::malformed("reserved packet type 0"))?;
    let flags = first & 0x0F;
    let right = match kind {
        // [MQTT-3.3.1-4] both QoS bits set; [MQTT-3.3.1-2] DUP at QoS 0
        PacketType::Publish => QoS::from_bits((flags >> 1) & 3).is_some_and(|qos| qos != QoS::AtMostOnce || flags & 8 == 0),
        // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]; in 3.1 these three carried DUP as well
        PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => flags == 2 || (flags == 0x0A && version == Version::V31),
        // [MQTT-3.14.1-1] [MQTT-3.15.1-1] and all the others
        _ => flags == 0,
    };
    if right { Ok(kind) } else { Err(DecodeError::malformed("wrong flags in the fixed header")) }
}
