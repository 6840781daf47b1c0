//! The trivial forwarder that all servers of the gate share: parse, look the topic up, append, flush.
//!
//! A frame is 28 bytes: length 24 (4 bytes), topic (8), payload (16). A topic with [`SUBSCRIBE`] set subscribes the sender to the topic
//! without it; [`COUNT`] is answered by the number of frames so far.

use std::collections::HashMap;

use ringmq::broker::outbox::OutBatch;

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

#[derive(Default)]
struct Peer {
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    out: OutBatch,
    sending: bool,
    dirty: bool,
}

/// State of all connections, by slot.
#[derive(Default)]
pub struct Forwarder {
    peers: Vec<Peer>,
    topics: HashMap<u64, Vec<u32>>,
    dirty: Vec<u32>,
    spare: Vec<OutBatch>,
    frames: u64,
}

impl Forwarder {
    pub fn open(&mut self, slot: u32) {
        if slot as usize >= self.peers.len() {
            self.peers.resize_with(slot as usize + 1, Peer::default);
        }
        self.peers[slot as usize] = Peer::default();
    }

    pub fn receive(&mut self, slot: u32, mut bytes: &[u8]) {
        let partial = &mut self.peers[slot as usize].partial;
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
            self.peers[slot as usize].partial = frames.remainder().to_vec();
        }
    }

    fn on_frame(&mut self, slot: u32, bytes: &[u8]) {
        let topic = number(bytes, 4);
        if topic == COUNT {
            let answer = frame(COUNT, self.frames);
            self.append(slot, &answer);
        } else if topic & SUBSCRIBE != 0 {
            self.topics.entry(topic & !SUBSCRIBE).or_default().push(slot);
            let answer = frame(topic, 0);
            self.append(slot, &answer);
        } else {
            self.frames += 1;
            let Some(subscribers) = self.topics.get(&topic) else { return };
            for &subscriber in subscribers {
                append(&mut self.peers, &mut self.dirty, subscriber, bytes);
            }
        }
    }

    fn append(&mut self, slot: u32, bytes: &[u8]) {
        append(&mut self.peers, &mut self.dirty, slot, bytes);
    }

    /// The next batch to send, with its connection; connections whose last batch is still on its way stay behind.
    pub fn next_batch(&mut self) -> Option<(u32, OutBatch)> {
        while let Some(slot) = self.dirty.pop() {
            let peer = &mut self.peers[slot as usize];
            peer.dirty = false;
            if peer.sending || peer.out.is_empty() {
                continue;
            }
            peer.sending = true;
            let spare = self.spare.pop().unwrap_or_default();
            return Some((slot, std::mem::replace(&mut peer.out, spare)));
        }
        None
    }

    /// A batch was sent.
    pub fn sent(&mut self, slot: u32, mut batch: OutBatch) {
        batch.clear();
        self.spare.push(batch);
        let peer = &mut self.peers[slot as usize];
        peer.sending = false;
        if !peer.out.is_empty() && !peer.dirty {
            peer.dirty = true;
            self.dirty.push(slot);
        }
    }
}

fn append(peers: &mut [Peer], dirty: &mut Vec<u32>, slot: u32, bytes: &[u8]) {
    let peer = &mut peers[slot as usize];
    peer.out.own().extend_from_slice(bytes);
    if !peer.dirty {
        peer.dirty = true;
        dirty.push(slot);
    }
}
