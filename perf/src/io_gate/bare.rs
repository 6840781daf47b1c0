//! The yardstick: an io_uring loop with the least that can serve the forwarder. Multishot accept and receive, provided buffers, one send per
//! dirty connection, one system call per turn. No bell, no rings, no timers, no way to pause, move or close a connection properly.

use std::alloc::{Layout, alloc_zeroed};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd, SubmitArgs};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use ringmq::broker::outbox::OutBatch;

use super::forward::Forwarder;
use super::outputs::Forward;

const BUFFERS: u16 = 1_024;
const BUFFER_BYTES: usize = 16 * 1_024;
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;

struct Bare {
    ring: IoUring,
    free: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
    forwarder: Forwarder,
    /// The batch on its way, by connection.
    sending: Vec<OutBatch>,
}

/// Serves for ever; a connection's slot is its descriptor.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(32_768)
        .build(4_096)?;
    // SAFETY: sizes are not zero; the memory is never given back.
    let (free, memory) = unsafe {
        let page = |bytes| Layout::from_size_align_unchecked(bytes, 4_096);
        (alloc_zeroed(page(usize::from(BUFFERS) * 16)), alloc_zeroed(page(usize::from(BUFFERS) * BUFFER_BYTES)))
    };
    // SAFETY: the memory holds that many entries, is aligned to a page and lives for ever.
    unsafe { ring.submitter().register_buf_ring_with_flags(free as u64, BUFFERS, 0, 0)? };
    let mut bare = Bare { ring, free: free.cast(), memory, tail: 0, forwarder: Forwarder::default(), sending: Vec::new() };
    (0..BUFFERS).for_each(|id| bare.give_back(id));
    bare.push(opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build().user_data(ACCEPT))?;
    let mut completions = Vec::with_capacity(32_768);
    loop {
        let mut wait = 1;
        while let Some((slot, batch)) = bare.forwarder.outputs().next_batch() {
            wait = 0;
            bare.send(slot, batch)?;
        }
        bare.enter(wait)?;
        completions.extend(bare.ring.completion());
        for entry in completions.drain(..) {
            bare.handle(&entry)?;
        }
    }
}

impl Bare {
    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: buffers live for ever, batches until their send has completed.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }

    fn enter(&mut self, wait: u32) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        // SAFETY: as for `push`.
        match unsafe { self.ring.submitter().enter(queued, wait, flags, Some(&SubmitArgs::new())) } {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn give_back(&mut self, id: u16) {
        // SAFETY: both addresses lie in memory that was allocated for them; the kernel reads entries below the tail only.
        unsafe {
            let entry = &mut *self.free.add(usize::from(self.tail % BUFFERS));
            entry.set_addr(self.memory.add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            (*BufRingEntry::tail(self.free).cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    fn send(&mut self, slot: u32, batch: OutBatch) -> io::Result<()> {
        let mut send = None;
        batch.for_each_slice(|slice| send = Some((slice.as_ptr(), slice.len() as u32)));
        let Some((bytes, len)) = send else { return Ok(()) };
        self.sending[slot as usize] = batch;
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        self.push(opcode::Send::new(Fd(slot as i32), bytes, len).flags(flags).build().user_data(SEND | u64::from(slot)))
    }

    fn handle(&mut self, entry: &cqueue::Entry) -> io::Result<()> {
        let (op, slot) = (entry.user_data() & !0xFFFF_FFFF, entry.user_data() as u32);
        match (op, entry.result()) {
            (ACCEPT, fd) if fd >= 0 => {
                self.forwarder.open(fd as u32);
                self.sending.resize_with(self.sending.len().max(fd as usize + 1), OutBatch::default);
                self.push(opcode::RecvMulti::new(Fd(fd), 0).build().user_data(RECEIVE | fd as u64))?;
            }
            (RECEIVE, result) => {
                if let Some(id) = cqueue::buffer_select(entry.flags()) {
                    // SAFETY: the kernel has filled that many bytes of this buffer and given it to us.
                    let bytes =
                        unsafe { std::slice::from_raw_parts(self.memory.add(usize::from(id) * BUFFER_BYTES), result.max(0) as usize) };
                    self.forwarder.receive(slot, bytes);
                    self.give_back(id);
                }
                if !cqueue::more(entry.flags()) && (result > 0 || result == -libc::ENOBUFS) {
                    self.push(opcode::RecvMulti::new(Fd(slot as i32), 0).build().user_data(RECEIVE | u64::from(slot)))?;
                }
            }
            (SEND, _) => {
                let batch = std::mem::take(&mut self.sending[slot as usize]);
                self.forwarder.outputs().sent(slot, batch);
            }
            _ => {}
        }
        Ok(())
    }
}
