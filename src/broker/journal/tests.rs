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

/// A store of keys and values says of a history what a log of it says.
#[cfg(feature = "engine-fjall")]
mod keyed {
    use std::collections::BTreeMap;

    use super::super::keyed::{Change, changes};
    use super::*;

    fn by(shard: u16, shards: u16) -> TakenBy {
        TakenBy { shard, shards, refused: SmallVec::new(), shares: SmallVec::new() }
    }

    type Tree = BTreeMap<Vec<u8>, Vec<u8>>;

    fn apply(tree: &mut Tree, commit: &[u8], shard: u16, shards: u16) {
        changes(commit, shard, shards, |change| match change {
            Change::Put { key, value } => drop(tree.insert(key.to_vec(), value.to_vec())),
            Change::Remove { key } => drop(tree.remove(key)),
            Change::RemoveRange { from, to } => tree.retain(|key, _| key[..] < *from || key[..] >= *to),
        });
    }

    /// What an image says of its sessions, and of what they have taken; what was sent is said of each delivery.
    fn said(bytes: &[u8]) -> Vec<String> {
        let mut image = Image::default();
        read(bytes).into_iter().for_each(|record| image.apply(record, |_| true, |moment| moment));
        // Of a session that has ended nobody asks.
        let taken = image.taken.into_iter().filter(|((session, _), _)| image.names.contains(session));
        let taken = format!("{:?} {:?}", taken.collect::<Vec<_>>(), image.names);
        let sessions = image.sessions.into_iter().map(|(name, mut session)| {
            let sent = std::mem::take(&mut session.sent);
            let sent: Vec<u64> = session.deliveries.keys().copied().filter(|&number| number <= sent).collect();
            format!("{name}: {session:?} sent {sent:?}")
        });
        sessions.chain([taken]).collect()
    }

    /// A session's part of a history that a broker could have: every step is one or more records.
    #[derive(Default)]
    struct Life {
        exists: bool,
        /// Sessions that have ended; no name comes again.
        ended: u64,
        last: u64,
        /// Numbers of deliveries, and whether they were sent.
        open: BTreeMap<u64, bool>,
    }

    impl Life {
        fn step(&mut self, client: u64, choice: u8, text: &str, log: &mut Vec<u8>) {
            let (name, session) = (format!("client {client}"), 1_000 * self.ended + client);
            if !self.exists {
                self.exists = true;
                Record::Session { session, version: Version::V5, expiry_s: 9, client_id: &name, user: text }.put(log);
                return;
            }
            let packet_id = u16::from(choice) % 3;
            match choice % 13 {
                0 => Record::SessionLeft { session, unix_ms: 7 }.put(log),
                1 => Record::Session { session, version: Version::V311, expiry_s: 1, client_id: &name, user: "" }.put(log),
                2 => Record::Will { session, delay_s: 1, expiry_s: 2, message: stored(text, b"will", 1, false, 3) }.put(log),
                3 => Record::WillGone { session }.put(log),
                4 => Record::Subscribed { session, subscription_id: u32::from(choice), options: 1, filter: text }.put(log),
                5 => Record::Unsubscribed { session, filter: text }.put(log),
                6 => Record::Received { session, packet_id, elsewhere: choice > 100 }.put(log),
                7 => Record::ReceivedEnded { session, packet_id }.put(log),
                8 => Record::Taken { session, packet_id, digest: 5, by: by(0, 1) }.put(log),
                9 => Record::TakenEnded { session, packet_id }.put(log),
                10 => self.deliver(session, choice > 128, text, log),
                11 => self.go_on(session, choice > 128, log),
                _ if choice < 30 => {
                    *self = Life { ended: self.ended + 1, ..Life::default() };
                    Record::SessionEnded { session }.put(log);
                }
                _ => {}
            }
        }

        fn deliver(&mut self, session: u64, sent: bool, text: &str, log: &mut Vec<u8>) {
            if self.open.is_empty() {
                self.last = 0;
            }
            self.last += 1;
            let sent = sent && self.open.values().all(|sent| *sent);
            self.open.insert(self.last, sent);
            Record::Message { message: self.last, stored: stored(text, b"payload", 1, false, 3) }.put(log);
            let (number, qos) = (self.last, QoS::AtLeastOnce);
            Record::Delivery { session, number, message: number, qos, retain: false, share: "", subscription_ids: SmallVec::new() }
                .put(log);
            if sent {
                Record::Sent { session, number }.put(log);
            }
        }

        /// The next message is sent, or the first that was is released or over.
        fn go_on(&mut self, session: u64, over: bool, log: &mut Vec<u8>) {
            let waiting = self.open.iter().find(|(_, sent)| !**sent).map(|(&number, _)| number);
            let under_way = self.open.iter().find(|(_, sent)| **sent).map(|(&number, _)| number);
            match (waiting, under_way) {
                (Some(number), _) if !over => {
                    self.open.insert(number, true);
                    Record::Sent { session, number }.put(log);
                }
                (_, Some(number)) if over => {
                    self.open.remove(&number);
                    Record::Finished { session, number }.put(log);
                }
                (_, Some(number)) => Record::Released { session, number }.put(log),
                _ => {}
            }
        }
    }

    proptest! {
        #[test]
        fn a_store_of_keys_says_what_a_log_says(steps in prop::collection::vec((1..3_u64, any::<u8>(), 0..3_usize), 0..200)) {
            let long = "t".repeat(5_000);
            let texts = ["a", "a/b", &long];
            let (mut lives, mut log, mut tree) = (BTreeMap::<u64, Life>::new(), Vec::new(), Tree::new());
            for (session, choice, text) in steps {
                let mut commit = Vec::new();
                lives.entry(session).or_default().step(session, choice, texts[text], &mut commit);
                apply(&mut tree, &commit, 0, 1);
                log.extend(commit);
            }
            let values: Vec<u8> = tree.into_values().flatten().collect();
            prop_assert_eq!(said(&values), said(&log));
        }
    }

    #[test]
    fn the_last_shard_ends_what_shards_that_are_no_more_have_noted() {
        let mut tree = Tree::new();
        for shard in 0..3 {
            let mut commit = Vec::new();
            Record::Taken { session: 1, packet_id: 2, digest: 5, by: by(shard, 3) }.put(&mut commit);
            apply(&mut tree, &commit, shard, 3);
        }
        let mut ended = Vec::new();
        Record::TakenEnded { session: 1, packet_id: 2 }.put(&mut ended);
        apply(&mut tree, &ended, 0, 2);
        assert_eq!(tree.len(), 2, "what shard 0 has noted is over, and nothing else");
        apply(&mut tree, &ended, 1, 2);
        assert!(tree.is_empty());
    }

    #[test]
    fn retained_messages_stand_under_their_topics_however_long() {
        let (mut tree, mut commit) = (Tree::new(), Vec::new());
        let topics = ["t".repeat(65_535), "t".repeat(65_534), "t".to_owned()];
        for topic in &topics {
            Record::SetRetained(stored(topic, b"old", 1, true, 9)).put(&mut commit);
            Record::SetRetained(stored(topic, b"new", 1, true, 9)).put(&mut commit);
        }
        apply(&mut tree, &commit, 0, 1);
        assert!(tree.len() == 3 && tree.keys().all(|key| key.len() < 2_048));
        let mut cleared = Vec::new();
        Record::ClearRetained { topic: &topics[0] }.put(&mut cleared);
        apply(&mut tree, &cleared, 0, 1);
        let left: Vec<u8> = tree.into_values().flatten().collect();
        let left: Vec<usize> =
            read(&left).iter().map(|record| matches!(record, Record::SetRetained(stored) if stored.payload == b"new") as usize).collect();
        assert_eq!(left, [1, 1]);
    }
}
