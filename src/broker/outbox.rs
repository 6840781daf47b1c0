//! What is to be sent to one connection: bytes of its own, and ranges of buffers that it shares with other connections.
//!
//! A QoS 0 fan-out encodes a run of messages once; each subscriber gets a reference and two numbers. Everything else (acknowledgements, single
//! messages, headers with a packet identifier) is copied into the connection's own bytes: for tens of bytes a copy is cheaper than a reference.
//! Cost: appending is amortized O(bytes) without allocation once the buffers have grown; an idle connection holds no buffer at all.

use std::rc::Rc;

/// Bytes that several connections send; never changed once shared.
pub type Chunk = Rc<Vec<u8>>;

/// One range of a shared chunk, standing before byte `at` of the own bytes.
#[derive(Debug)]
struct SharedPart {
    at: u32,
    start: u32,
    end: u32,
    chunk: Chunk,
}

/// A batch of output in order. The shell takes it, sends it as one gathered write, and hands the empty batch back for reuse.
#[derive(Debug, Default)]
pub struct OutBatch {
    own: Vec<u8>,
    shared: Vec<SharedPart>,
    shared_bytes: usize,
}

impl OutBatch {
    /// Bytes in the batch.
    #[inline]
    pub fn len(&self) -> usize {
        self.own.len() + self.shared_bytes
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The connection's own bytes, for an encoder to append to.
    #[inline]
    pub fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends `start..end` of a shared chunk.
    #[inline]
    pub fn push_shared(&mut self, chunk: &Chunk, start: u32, end: u32) {
        debug_assert!(start <= end && end as usize <= chunk.len());
        self.shared_bytes += (end - start) as usize;
        let at = self.own.len() as u32;
        if let Some(last) = self.shared.last_mut()
            && last.at == at
            && last.end == start
            && Rc::ptr_eq(&last.chunk, chunk)
        {
            last.end = end;
            return;
        }
        self.shared.push(SharedPart { at, start, end, chunk: Rc::clone(chunk) });
    }

    /// Number of contiguous slices that [`OutBatch::for_each_slice`] gives at most.
    #[inline]
    pub fn max_slices(&self) -> usize {
        2 * self.shared.len() + 1
    }

    /// Calls `f` with each contiguous non-empty slice, in the order in which they must be sent. The slices stay where they are for as long as
    /// the batch is not changed, even if the batch itself is moved.
    pub fn for_each_slice<'a>(&'a self, mut f: impl FnMut(&'a [u8])) {
        let mut done = 0;
        for part in &self.shared {
            let at = part.at as usize;
            if at > done {
                f(&self.own[done..at]);
                done = at;
            }
            if part.end > part.start {
                f(&part.chunk[part.start as usize..part.end as usize]);
            }
        }
        if self.own.len() > done {
            f(&self.own[done..]);
        }
    }

    /// Empties the batch and keeps its buffers.
    pub fn clear(&mut self) {
        self.own.clear();
        self.shared.clear();
        self.shared_bytes = 0;
    }

    /// Bytes of memory that the buffers hold, used or not (shared chunks are not counted: they have other owners).
    pub fn capacity(&self) -> usize {
        self.own.capacity() + self.shared.capacity() * size_of::<SharedPart>()
    }
}
