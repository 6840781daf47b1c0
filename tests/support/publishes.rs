//! PUBLISH packets as a busy client sends them.

use ringmq::mqtt::{PublishOut, Version, encode};

/// `count` PUBLISH packets of QoS 0 with 64 bytes of payload, to each of `topics` in turn.
pub fn publishes(version: Version, topics: &[&str], count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for index in 0..count {
        encode::publish(&mut bytes, version, &PublishOut::new(topics[index % topics.len()], &[7; 64]));
    }
    bytes
}
