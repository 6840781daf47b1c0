//! A batch on its way out: its slices as the kernel wants them, and how far it has come.
//!
//! The slices point into buffers that the batch owns or shares; they stay where they are until the batch is changed, and it is not touched
//! before the send is over. Cost: 16 bytes a slice, kept in a pool; nothing is allocated in steady state.

use crate::broker::outbox::OutBatch;

/// Most slices that the kernel takes in one call (UIO_MAXIOV).
const MAX_SLICES: usize = 1_024;
/// Most bytes that are handed over in one slice, so that lengths fit the interface.
const MAX_SLICE_BYTES: usize = 1 << 30;
/// Idle entries that a pool keeps.
const MAX_POOLED: usize = 4_096;

pub(super) struct Outgoing {
    batch: OutBatch,
    slices: Vec<libc::iovec>,
    /// The first slice that is not sent completely.
    next: usize,
    header: libc::msghdr,
}

impl Outgoing {
    fn new() -> Outgoing {
        // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
        let header = unsafe { std::mem::zeroed() };
        Outgoing { batch: OutBatch::default(), slices: Vec::new(), next: 0, header }
    }

    fn load(&mut self, batch: OutBatch) {
        self.batch = batch;
        self.slices.clear();
        self.next = 0;
        let slices = &mut self.slices;
        self.batch.for_each_slice(|slice| {
            for part in slice.chunks(MAX_SLICE_BYTES) {
                slices.push(libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
            }
        });
    }

    pub(super) fn is_done(&self) -> bool {
        self.next == self.slices.len()
    }

    /// The one slice that is left, if it is one.
    pub(super) fn single(&self) -> Option<libc::iovec> {
        let [slice] = self.slices[self.next..] else { return None };
        Some(slice)
    }

    /// The message header for the slices that go next, valid for as long as this is not changed.
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        let left = &mut self.slices[self.next..];
        self.header.msg_iov = left.as_mut_ptr();
        self.header.msg_iovlen = left.len().min(MAX_SLICES) as _;
        &raw const self.header
    }

    /// The kernel has taken the next `bytes`.
    pub(super) fn advance(&mut self, mut bytes: usize) {
        while let Some(slice) = self.slices.get_mut(self.next) {
            if bytes < slice.iov_len {
                slice.iov_base = slice.iov_base.wrapping_byte_add(bytes);
                slice.iov_len -= bytes;
                return;
            }
            bytes -= slice.iov_len;
            self.next += 1;
        }
    }
}

/// Outgoing batches for reuse.
#[derive(Default)]
pub(super) struct Pool {
    // Boxed, because a header's address must not change while the kernel may look at it.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Outgoing>>,
}

impl Pool {
    pub(super) fn load(&mut self, batch: OutBatch) -> Box<Outgoing> {
        let mut outgoing = self.free.pop().unwrap_or_else(|| Box::new(Outgoing::new()));
        outgoing.load(batch);
        outgoing
    }

    /// Takes the batch out, and keeps the rest unless it has grown out of the ordinary.
    pub(super) fn unload(&mut self, mut outgoing: Box<Outgoing>) -> OutBatch {
        let batch = std::mem::take(&mut outgoing.batch);
        if self.free.len() < MAX_POOLED && outgoing.slices.capacity() <= MAX_SLICES {
            self.free.push(outgoing);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(outgoing: &mut Outgoing) -> usize {
        outgoing.slices[outgoing.next..].iter().map(|slice| slice.iov_len).sum()
    }

    #[test]
    fn advances_over_slices_by_any_number_of_bytes() {
        let mut batch = OutBatch::default();
        let chunk = std::rc::Rc::new(vec![7; 100]);
        for n in 0..5 {
            batch.own().extend_from_slice(&[n; 10]);
            batch.push_shared(&chunk, 0, 50);
        }
        for step in [1, 7, 10, 60, 299, 300] {
            let mut pool = Pool::default();
            let mut outgoing = pool.load(std::mem::take(&mut batch));
            assert_eq!(outgoing.slices.len(), 10);
            let mut sent = 0;
            while !outgoing.is_done() {
                assert_eq!(left(&mut outgoing), 300 - sent);
                let taken = step.min(300 - sent);
                outgoing.advance(taken);
                sent += taken;
            }
            assert_eq!(sent, 300);
            batch = pool.unload(outgoing);
        }
    }

    #[test]
    fn takes_no_more_slices_at_once_than_the_kernel_does() {
        let mut batch = OutBatch::default();
        let chunks = [std::rc::Rc::new(vec![1]), std::rc::Rc::new(vec![2])];
        for n in 0..3_000 {
            batch.push_shared(&chunks[n % 2], 0, 1);
        }
        let mut outgoing = Pool::default().load(batch);
        outgoing.header();
        assert_eq!(outgoing.header.msg_iovlen, MAX_SLICES);
        outgoing.advance(2_000);
        outgoing.header();
        assert_eq!(outgoing.header.msg_iovlen, 1_000);
    }
}
