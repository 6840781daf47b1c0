//! The trivial forwarder that all servers of the gate share: parse, look the topic up, append, flush.
//!
//! A frame is 28 bytes: length 24 (4 bytes), topic (8), payload (16). A topic with [`SUBSCRIBE`] set subscribes the sender to the topic
//! without it; [`COUNT`] is answered by the number of frames so far.

use std::collections::HashMap;

use super::outputs::{Forward, Outputs};

pub const FRAME_BYTES: usize = 28;
/// Bit of a topic that asks for a subscription.
pub const SUBSCRIBE: u64 = 1 << 63;
/// The topic that asks for the number of frames.
pub const COUNT: u64 = 1 << 62;

/// A frame of `topic` with `payload` in its first eight bytes.
pub fn frame(topic: u64, payload: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    frame[..4].copy_from_slice(&24_u32.to_le_bytes());
    frame[4..12].copy_from_slice(&topic.to_le_bytes());
    frame[12..20].copy_from_slice(&payload.to_le_bytes());
    frame
}

/// The eight bytes at `at`.
pub fn number(frame: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&frame[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// State of all connections, by slot.
#[derive(Default)]
pub struct Forwarder {
    /// The beginning of a frame whose rest has not come.
    partial: Vec<Vec<u8>>,
    topics: HashMap<u64, Vec<u32>>,
    outputs: Outputs,
    frames: u64,
}

impl Forward for Forwarder {
    fn open(&mut self, slot: u32) {
        self.partial.resize_with(self.partial.len().max(slot as usize + 1), Vec::new);
        self.partial[slot as usize].clear();
        self.outputs.open(slot);
    }

    fn receive(&mut self, slot: u32, mut bytes: &[u8]) {
        let partial = &mut self.partial[slot as usize];
        if !partial.is_empty() {
            let missing = (FRAME_BYTES - partial.len()).min(bytes.len());
            partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if partial.len() < FRAME_BYTES {
                return;
            }
            let whole = std::mem::take(partial);
            self.on_frame(slot, &whole);
        }
        let mut frames = bytes.chunks_exact(FRAME_BYTES);
        for frame in &mut frames {
            self.on_frame(slot, frame);
        }
        if !frames.remainder().is_empty() {
            self.partial[slot as usize] = frames.remainder().to_vec();
        }
    }

    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }
}

impl Forwarder {
    fn on_frame(&mut self, slot: u32, bytes: &[u8]) {
        let topic = number(bytes, 4);
        if topic == COUNT {
            let answer = frame(COUNT, self.frames);
            self.outputs.of(slot).own().extend_from_slice(&answer);
        } else if topic & SUBSCRIBE != 0 {
            self.topics.entry(topic & !SUBSCRIBE).or_default().push(slot);
            let answer = frame(topic, 0);
            self.outputs.of(slot).own().extend_from_slice(&answer);
        } else {
            self.frames += 1;
            let Some(subscribers) = self.topics.get(&topic) else { return };
            for &subscriber in subscribers {
                self.outputs.of(subscriber).own().extend_from_slice(bytes);
            }
        }
    }
}
