//! The receive buffers of a shard: the kernel takes one when bytes arrive, we give it back when they are parsed.
//!
//! Shape: one block of address space for all buffers, and the ring of free buffers that the kernel reads. The kernel takes buffers in turn, so
//! all that are on offer come into use, however little is received; therefore only a sixteenth is on offer at first, and twice as many each
//! time they run out. A buffer that was never on offer takes no memory, and a small set stays in the core's cache. What a crowd has made use of goes
//! back to the system once all is quiet.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::setup::Ring;

/// The one group of provided buffers.
pub(super) const GROUP: u16 = 0;

/// Share of the buffers that is on offer at first.
const FIRST_SHARE: u16 = 16;

/// Private memory of the kernel's pages, given back when dropped.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("the kernel mapped memory at address 0"))?;
        Ok(Mapping { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` and nobody refers to it any more (see `UringDriver::drop`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

pub(super) struct Buffers {
    /// The ring of free buffers, shared with the kernel.
    free: Mapping,
    memory: Mapping,
    /// Most buffers; a power of two.
    count: u16,
    bytes_each: u32,
    /// Buffers that are the kernel's or ours to give back; the others were never used.
    offered: u16,
    tail: u16,
    /// Whether any may hold memory.
    used: bool,
    /// Whether buffers were given back since the last [`Buffers::publish`].
    dirty: bool,
}

impl Buffers {
    /// Makes the buffers and registers them with `ring`, which must have no receive in flight when they are dropped.
    pub(super) fn new(ring: &Ring, count: u16, bytes_each: u32) -> io::Result<Buffers> {
        let count = count.clamp(1, 1 << 15).next_power_of_two();
        let bytes_each = bytes_each.max(1);
        let free = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(usize::from(count) * bytes_each as usize)?;
        // SAFETY: the mapping starts on a page and holds `count` entries; the ring receives nothing any more when it goes (`UringDriver::drop`).
        unsafe { ring.register_buffers(free.start.as_ptr() as u64, count, GROUP)? };
        let mut buffers = Buffers { free, memory, count, bytes_each, offered: 0, tail: 0, used: false, dirty: false };
        buffers.offer((count / FIRST_SHARE).max(1));
        Ok(buffers)
    }

    fn offer(&mut self, upto: u16) {
        for id in self.offered..upto {
            self.put_on_offer(id);
        }
        self.offered = upto;
        self.publish();
    }

    /// Puts twice as many on offer, if there are more. Called when they have run out.
    pub(super) fn grow(&mut self) {
        self.offer(self.offered.saturating_mul(2).min(self.count));
    }

    /// Buffers in circulation.
    pub(super) fn offered(&self) -> usize {
        usize::from(self.offered)
    }

    /// Bytes of one buffer.
    pub(super) fn bytes_each(&self) -> u32 {
        self.bytes_each
    }

    /// Whether the buffers may hold memory.
    #[cfg(test)]
    pub(super) fn used(&self) -> bool {
        self.used
    }

    /// Gives the memory of all buffers back to the system; they take memory again as they are filled.
    ///
    /// # Safety
    /// No buffer holds anything that is still wanted: all receives that the kernel has completed were handled, and it completes none meanwhile.
    pub(super) unsafe fn trim(&mut self) {
        if !self.used {
            return;
        }
        // SAFETY: the whole of a private mapping of ours, which reads as zeroes from now on; by the caller's promise nobody misses what was there.
        unsafe { libc::madvise(self.memory.start.as_ptr().cast(), self.memory.len, libc::MADV_DONTNEED) };
        self.used = false;
    }

    fn address(&self, id: u16) -> *mut u8 {
        self.memory.start.as_ptr().wrapping_add(usize::from(id) * self.bytes_each as usize)
    }

    /// The first `len` bytes of buffer `id`, which the kernel has filled and given to us.
    pub(super) fn filled(&self, id: u16, len: u32) -> &[u8] {
        let (id, len) = (id.min(self.count - 1), len.min(self.bytes_each) as usize);
        // SAFETY: within the mapping by the line above; the kernel writes into a buffer only after it was given back, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.address(id), len) }
    }

    /// Makes buffer `id` free again, once published.
    pub(super) fn give_back(&mut self, id: u16) {
        self.used = true;
        self.put_on_offer(id);
    }

    fn put_on_offer(&mut self, id: u16) {
        let index = usize::from(self.tail & (self.count - 1));
        let (address, bytes_each) = (self.address(id) as u64, self.bytes_each);
        // SAFETY: within the mapping; the kernel does not read entries at or beyond the published tail. Only these three fields are written:
        // the rest of the first entry is the tail itself.
        let entry = unsafe { &mut *self.free.start.as_ptr().cast::<BufRingEntry>().add(index) };
        entry.set_addr(address);
        entry.set_len(bytes_each);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        self.dirty = true;
    }

    /// Lets the kernel see what was given back.
    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.dirty) {
            // SAFETY: the tail lies in the first entry of the mapping, aligned, and is shared with the kernel, hence atomic.
            let tail = unsafe { &*BufRingEntry::tail(self.free.start.as_ptr().cast()).cast::<AtomicU16>() };
            tail.store(self.tail, Ordering::Release);
        }
    }
}
