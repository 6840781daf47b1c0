//! What a forwarder has to send, by connection: one batch gathers while another is on its way. Whatever forwards shares this, so that the
//! servers that are compared differ in nothing else.

use ringmq::broker::outbox::{Chunk, OutBatch};

/// What the loop around a driver needs of a forwarder.
pub trait Forward {
    /// A connection is there.
    fn open(&mut self, slot: u32);
    /// It has sent something.
    fn receive(&mut self, slot: u32, bytes: &[u8]);
    fn outputs(&mut self) -> &mut Outputs;
}

#[derive(Default)]
struct Output {
    batch: OutBatch,
    sending: bool,
    dirty: bool,
}

#[derive(Default)]
pub struct Outputs {
    outputs: Vec<Output>,
    dirty: Vec<u32>,
    spare: Vec<OutBatch>,
}

impl Outputs {
    pub fn open(&mut self, slot: u32) {
        if slot as usize >= self.outputs.len() {
            self.outputs.resize_with(slot as usize + 1, Output::default);
        }
        self.outputs[slot as usize] = Output::default();
    }

    /// What goes out next on a connection, to append to.
    #[inline]
    pub fn of(&mut self, slot: u32) -> &mut OutBatch {
        let output = &mut self.outputs[slot as usize];
        if !output.dirty {
            output.dirty = true;
            self.dirty.push(slot);
        }
        &mut output.batch
    }

    /// Bytes that every one of `slots` gets, kept once.
    pub fn share(&mut self, slots: &[u32], bytes: &[u8]) {
        let chunk = Chunk::new(bytes.to_vec());
        for &slot in slots {
            self.of(slot).push_shared(&chunk, 0, bytes.len() as u32);
        }
    }

    /// The next batch to send, with its connection; connections whose last batch is still on its way stay behind.
    pub fn next_batch(&mut self) -> Option<(u32, OutBatch)> {
        while let Some(slot) = self.dirty.pop() {
            let output = &mut self.outputs[slot as usize];
            output.dirty = false;
            if output.sending || output.batch.is_empty() {
                continue;
            }
            output.sending = true;
            let spare = self.spare.pop().unwrap_or_default();
            return Some((slot, std::mem::replace(&mut output.batch, spare)));
        }
        None
    }

    /// A batch was sent.
    pub fn sent(&mut self, slot: u32, mut batch: OutBatch) {
        batch.clear();
        self.spare.push(batch);
        let output = &mut self.outputs[slot as usize];
        output.sending = false;
        if !output.batch.is_empty() && !output.dirty {
            output.dirty = true;
            self.dirty.push(slot);
        }
    }
}
