//! SUBSCRIBE and UNSUBSCRIBE (sections 3.8 and 3.10): the list is checked once as a whole, then walked on demand.

use super::super::packet::{RetainHandling, Subscribe, SubscribeEntry, SubscribeOptions, Unsubscribe};
use super::super::types::{DecodeError, PacketType, QoS, Version};
use super::super::wire::Reader;
use super::properties;

pub(super) fn subscribe(version: Version, body: &[u8]) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = properties(version, PacketType::Subscribe, &mut reader)?;
    let entries = at_least_one(version, reader.rest())?;
    while !reader.is_empty() {
        check_entry(version, &mut reader)?;
    }
    Ok(Subscribe { packet_id, properties, entries })
}

pub(super) fn unsubscribe(version: Version, body: &[u8]) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = properties(version, PacketType::Unsubscribe, &mut reader)?;
    let entries = at_least_one(version, reader.rest())?;
    while !reader.is_empty() {
        filter(&mut reader)?;
    }
    Ok(Unsubscribe { packet_id, properties, entries })
}

/// [MQTT-3.8.3-3] [MQTT-3.10.3-2] of 3.1.1, [MQTT-3.8.3-2] [MQTT-3.10.3-2] of 5.0
fn at_least_one(version: Version, entries: &[u8]) -> Result<&[u8], DecodeError> {
    match (entries.is_empty(), version.is_v5()) {
        (false, _) => Ok(entries),
        (true, true) => Err(DecodeError::protocol("no topic filter")),
        (true, false) => Err(DecodeError::malformed("no topic filter")),
    }
}

/// [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-1]
fn filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let filter = reader.name()?;
    if filter.is_empty() { Err(DecodeError::malformed("empty topic filter")) } else { Ok(filter) }
}

fn check_entry(version: Version, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    let filter = filter(reader)?;
    let bits = reader.u8()?;
    if !version.is_v5() {
        // [MQTT-3.8.3-4] of 3.1.1
        return if bits <= 2 { Ok(()) } else { Err(DecodeError::malformed("requested QoS is not 0, 1 or 2")) };
    }
    // [MQTT-3.8.3-5] of 5.0
    if bits & 0xC0 != 0 {
        return Err(DecodeError::malformed("reserved subscription options are set"));
    }
    let options = options(bits).ok_or(DecodeError::protocol("QoS 3 or retain handling 3 in subscription options"))?;
    // [MQTT-3.8.3-4] of 5.0
    if options.no_local && filter.starts_with("$share/") {
        return Err(DecodeError::protocol("no local on a shared subscription"));
    }
    Ok(())
}

fn options(bits: u8) -> Option<SubscribeOptions> {
    let retain_handling = match (bits >> 4) & 3 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return None,
    };
    Some(SubscribeOptions { qos: QoS::from_bits(bits & 3)?, no_local: bits & 4 != 0, retain_as_published: bits & 8 != 0, retain_handling })
}

impl<'a> Subscribe<'a> {
    /// The filters and their options, in order.
    pub fn filters(&self) -> impl Iterator<Item = SubscribeEntry<'a>> + use<'a> {
        let mut reader = Reader::new(self.entries);
        std::iter::from_fn(move || {
            let filter = reader.string().ok()?;
            let options = options(reader.u8().ok()?)?;
            Some(SubscribeEntry { filter, options })
        })
    }
}

impl<'a> Unsubscribe<'a> {
    /// The filters, in order.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.entries);
        std::iter::from_fn(move || reader.string().ok())
    }
}
