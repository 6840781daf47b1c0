//! The records as bytes, and what is made of bytes that are none.

use proptest::prelude::*;
use smallvec::SmallVec;

use super::exchange::TakenBy;
use super::image::Image;
use super::record::{Record, Stored, next};
use crate::mqtt::{QoS, Version};

fn stored<'a>(topic: &'a str, payload: &'a [u8], qos: u8, retain: bool, expires_at: u64) -> Stored<'a> {
    Stored { topic, payload, forward: &payload[payload.len() / 2..], qos: QoS::from_bits(qos).unwrap_or_default(), retain, expires_at }
}

/// One record of each kind out of the same chance values.
fn records<'a>(text: &'a str, bytes: &'a [u8], number: u64, small: u16, flag: bool) -> Vec<Record<'a>> {
    let qos = QoS::from_bits((small % 3) as u8).unwrap_or_default();
    let stored = stored(text, bytes, (small % 3) as u8, flag, number);
    let session = number ^ 0x5A5A;
    let subscription_ids: SmallVec<[u32; 2]> = bytes.iter().take(4).map(|&byte| u32::from(byte) * 1_000).collect();
    let names = |count: usize| bytes.iter().take(count).map(|&byte| u64::from(byte) << 40).collect();
    let by = TakenBy { shard: small, shards: 3, refused: names(3), shares: names(1) };
    vec![
        Record::SetRetained(stored),
        Record::ClearRetained { topic: text },
        Record::Session { session, version: Version::V5, expiry_s: u32::from(small), client_id: text, user: text },
        Record::SessionLeft { session, unix_ms: number },
        Record::Will { session, delay_s: u32::from(small), expiry_s: u32::MAX, message: stored },
        Record::WillGone { session },
        Record::Subscribed { session, subscription_id: u32::from(small), options: 7, filter: text },
        Record::Unsubscribed { session, filter: text },
        Record::Message { message: number, stored },
        Record::Delivery { session, number, message: number, qos, retain: flag, share: text, subscription_ids },
        Record::Sent { session, number },
        Record::Released { session, number },
        Record::Finished { session, number },
        Record::Received { session, packet_id: small, elsewhere: flag },
        Record::ReceivedEnded { session, packet_id: small },
        Record::Taken { session, packet_id: small, digest: number, by },
        Record::TakenEnded { session, packet_id: small },
        Record::SessionEnded { session },
    ]
}

/// Everything that the bytes hold.
fn read(mut bytes: &[u8]) -> Vec<Record<'_>> {
    std::iter::from_fn(|| next(&mut bytes)).collect()
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(text in ".{0,40}", bytes: Vec<u8>, number: u64, small: u16, flag: bool) {
        let written = records(&text, &bytes, number, small, flag);
        let mut log = Vec::new();
        written.iter().for_each(|record| record.put(&mut log));
        prop_assert_eq!(read(&log), written);
    }

    #[test]
    fn a_record_that_ends_too_early_is_none(text in ".{0,10}", number: u64, small: u16) {
        for record in records(&text, b"payload", number, small, true) {
            let mut log = Vec::new();
            record.put(&mut log);
            for end in 0..log.len() {
                prop_assert_eq!(read(&log[..end]), vec![]);
            }
        }
    }

    #[test]
    fn whatever_the_bytes_are_an_image_can_be_made_of_them(mut bytes: Vec<u8>, tags in prop::collection::vec((0..20_u8, any::<prop::sample::Index>()), 0..20)) {
        for (tag, at) in tags {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = tag;
            }
        }
        let mut image = Image::default();
        for record in read(&bytes) {
            image.apply(record, |_| true, |moment| moment);
        }
    }
}

/// What is live may be written anew in the middle of changes.
#[test]
fn a_record_that_comes_again_changes_nothing() {
    let text = "a/b";
    let log: Vec<Record<'_>> = records(text, b"payload", 9, 3, false).into_iter().take(16).collect();
    let image = |log: &[Record<'_>]| {
        let mut bytes = Vec::new();
        log.iter().for_each(|record| record.put(&mut bytes));
        let mut image = Image::default();
        read(&bytes).into_iter().for_each(|record| image.apply(record, |_| true, |moment| moment));
        format!("{:?} {:?}", image.sessions, image.taken)
    };
    for (at, record) in log.iter().enumerate() {
        let mut twice = log.clone();
        twice.insert(at + 1, record.clone());
        assert_eq!(image(&twice), image(&log), "{record:?}");
    }
}
