//! The topics of the publishes that are about to be worked off, handed to the index in advance: among very many filters a match waits for memory, and the
//! waits of several matches overlap (`topics::warm`). Nothing is decided here and nothing changes; who does not call it is only slower.

use super::peer::{Batch, PeerMessage};
use super::shard::Shard;
use super::topics::WARM_BATCH;
use crate::mqtt::{PacketType, frame};

impl Shard {
    /// Looks at packets at the front of `bytes`; gives how many bytes follow the last one that was looked at.
    pub(super) fn warm_packets(&mut self, bytes: &[u8]) -> usize {
        let mut topics: [&[u8]; WARM_BATCH] = [&[]; WARM_BATCH];
        let (mut count, mut rest) = (0, bytes);
        while let Ok(Some(header)) = frame::peek(rest, u32::MAX) {
            if count == WARM_BATCH || header.total_len() > rest.len() {
                break;
            }
            let (packet, after) = rest.split_at(header.total_len());
            let topic = if header.first >> 4 == PacketType::Publish as u8 { topic_of(&packet[header.header_len as usize..]) } else { None };
            if let Some(topic) = topic {
                if count > 0 && topics[count - 1] == topic {
                    // A run of one topic: what follows it is looked at when it comes.
                    break;
                }
                topics[count] = topic;
                count += 1;
            }
            rest = after;
        }
        // One alone waits for memory now or later.
        if count > 1 {
            self.topics.warm(&topics[..count], &mut self.scratch.warmth);
        }
        rest.len()
    }

    /// The same for messages of another shard, from `start` on; gives the place behind the last one that was looked at.
    pub(super) fn warm_messages(&mut self, batch: &Batch, start: usize) -> usize {
        let mut topics: [&[u8]; WARM_BATCH] = [&[]; WARM_BATCH];
        let (mut count, mut at) = (0, start);
        for message in batch.messages.iter().skip(start) {
            at += 1;
            let topic = match message {
                PeerMessage::Publish(publish) => batch.view(publish).topic,
                PeerMessage::Run(run) => batch.run(run).0,
                _ => break,
            };
            let topic = topic.as_bytes();
            if count == 0 || topics[count - 1] != topic {
                topics[count] = topic;
                count += 1;
            }
            if count == WARM_BATCH {
                break;
            }
        }
        if count > 1 {
            self.topics.warm(&topics[..count], &mut self.scratch.warmth);
        }
        at
    }
}

/// The topic in the body of a PUBLISH, unless an alias stands for it.
fn topic_of(body: &[u8]) -> Option<&[u8]> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length))).filter(|topic| !topic.is_empty())
}
