//! A cheap walk over received packets: the generator looks at as little of a packet as it can.

/// A packet in a receive buffer.
pub struct Packet<'a> {
    pub first: u8,
    pub body: &'a [u8],
}

/// The first packet of `buffer` and its length; `None` while it is incomplete.
#[inline]
pub fn next(buffer: &[u8]) -> Option<(Packet<'_>, usize)> {
    let &first = buffer.first()?;
    let (length, length_bytes) = var_int(buffer.get(1..)?)?;
    let header = 1 + length_bytes;
    let body = buffer.get(header..header + length)?;
    Some((Packet { first, body }, header + length))
}

#[inline]
fn var_int(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Packet identifier (0 at QoS 0) and payload of a PUBLISH; `None` if the body is too short to be one.
#[inline]
pub fn publish(first: u8, body: &[u8], v5: bool) -> Option<(u16, &[u8])> {
    let mut at = 2 + usize::from(u16_at(body, 0)?);
    let mut packet_id = 0;
    if first & 6 != 0 {
        packet_id = u16_at(body, at)?;
        at += 2;
    }
    if v5 {
        let (length, length_bytes) = var_int(body.get(at..)?)?;
        at += length + length_bytes;
    }
    Some((packet_id, body.get(at..)?))
}

#[inline]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// What a payload of ours carries at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's place on its thread.
    pub publisher: u32,
    pub number: u32,
    /// Nanoseconds on the generator's clock.
    pub time: u64,
}

impl Stamp {
    #[inline]
    pub fn put(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_le_bytes());
        payload[4..8].copy_from_slice(&self.number.to_le_bytes());
        payload[8..16].copy_from_slice(&self.time.to_le_bytes());
    }

    #[inline]
    pub fn get(payload: &[u8]) -> Option<Stamp> {
        let stamp: &[u8; 16] = payload.first_chunk()?;
        let [a, b, c, d, e, f, g, h, time @ ..] = *stamp;
        let publisher = u32::from_le_bytes([a, b, c, d]);
        Some(Stamp { publisher, number: u32::from_le_bytes([e, f, g, h]), time: u64::from_le_bytes(time) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq::mqtt::{PublishOut, QoS, Version, encode};

    #[test]
    fn a_publish_of_the_codec_is_read_back() {
        let mut payload = [0; 20];
        let stamp = Stamp { publisher: 7, number: 9, time: 1 << 40 };
        stamp.put(&mut payload);
        for version in [Version::V311, Version::V5] {
            for (qos, id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 513)] {
                let mut bytes = Vec::new();
                encode::publish(&mut bytes, version, &PublishOut { qos, packet_id: id, ..PublishOut::new("a/b", &payload) });
                for short in 0..bytes.len() {
                    assert!(next(&bytes[..short]).is_none());
                }
                let (packet, length) = next(&bytes).unwrap();
                assert_eq!(length, bytes.len());
                let (packet_id, read) = publish(packet.first, packet.body, version.is_v5()).unwrap();
                assert_eq!((packet_id, Stamp::get(read)), (id, Some(stamp)));
            }
        }
    }
}
