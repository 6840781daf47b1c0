//! The ring itself: how it is set up, how operations go in, the one system call, how completions come out.
//!
//! Flags: SINGLE_ISSUER and DEFER_TASKRUN let the kernel do the work of a completion inside our own enter instead of interrupting us for it
//! (1.28 times the throughput on many small reads); TASKRUN_FLAG tells without a system call whether such work waits; SUBMIT_ALL keeps one
//! bad operation from holding back those behind it. They take Linux 6.1, which also has multishot receive and provided buffers; without
//! them setting up fails, and the epoll driver serves.
//!
//! Nothing gets lost when a queue is full: operations that find no room are submitted early or kept in `backlog`, and the kernel keeps
//! completions beyond its queue in a list that the next enter empties.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, squeue};

use super::super::Wait;

/// Completions that are taken out of the queue at a time.
pub(super) const REAP: usize = 64;

/// Calls that ending a ring may take: enough for several million operations.
const MOST_CALLS: u32 = 1 << 18;

/// Threads that the kernel may make for a ring; the only operation that takes one is to shut a direct descriptor down.
const WORKERS: u32 = 2;

pub(super) type ReapBuffer = [MaybeUninit<cqueue::Entry>; REAP];

pub(super) struct Ring {
    io: IoUring,
    /// Operations that the kernel would not take yet, in order.
    backlog: VecDeque<squeue::Entry>,
    enters: u64,
}

impl Ring {
    pub(super) fn new(submissions: u32, completions: u32) -> io::Result<Ring> {
        let io = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(completions.max(submissions).max(2))
            .build(submissions.max(1))?;
        Ok(Ring { io, backlog: VecDeque::new(), enters: 0 })
    }

    /// Registers the provided buffer ring that starts at `address`.
    ///
    /// # Safety
    /// The memory holds `entries` entries, starts on a page, and stays mapped for as long as a receive is in flight.
    pub(super) unsafe fn register_buffers(&self, address: u64, entries: u16, group: u16) -> io::Result<()> {
        // SAFETY: by the caller's promise.
        unsafe { self.io.submitter().register_buf_ring_with_flags(address, entries, group, 0) }
    }

    /// Makes the ring's file table, with nothing in it.
    pub(super) fn make_table(&self, entries: u32) -> io::Result<()> {
        self.io.submitter().register_files_sparse(entries)?;
        self.io.submitter().register_iowq_max_workers(&mut [WORKERS; 2])
    }

    /// Puts a file into an entry of the table; the kernel keeps a reference of its own.
    pub(super) fn put_into_table(&self, index: u32, file: &OwnedFd) -> io::Result<()> {
        self.io.submitter().register_files_update(index, &[file.as_raw_fd()]).map(drop)
    }

    /// Closes everything in the table: a ring lives on as long as somebody has a descriptor of it.
    pub(super) fn drop_table(&self) {
        // Fails where there is none.
        let _ = self.io.submitter().unregister_files();
    }

    /// Another descriptor of the ring, for those who send it sockets.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring is open for as long as `self` is.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }.try_clone_to_owned()
    }

    /// Queues an operation; it reaches the kernel at the next enter at the latest.
    ///
    /// # Safety
    /// All memory that the operation refers to stays valid and in place until its completion was reaped.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
            self.submit_backlog();
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: by the promise of `push`.
        unsafe { self.io.submission().push(entry) }.is_ok()
    }

    /// The queue is full: hands it over early and fills it again. What the kernel does not take stays in the backlog.
    #[cold]
    fn submit_backlog(&mut self) {
        while !self.backlog.is_empty() {
            let queued = self.io.submission().len();
            self.enters += 1;
            // SAFETY: the operations in the queue are valid by the promise of `push`; no argument is passed.
            let taken = unsafe { self.io.submitter().enter::<libc::sigset_t>(queued as u32, 0, 0, None) };
            if !matches!(taken, Ok(1..)) {
                return;
            }
            while let Some(entry) = self.backlog.pop_front() {
                if !self.try_push(&entry) {
                    self.backlog.push_front(entry);
                    break;
                }
            }
        }
    }

    /// The one system call of a turn: hands over what is queued, lets the kernel do its deferred work, waits for one completion if told to.
    /// Left out when there is nothing to hand over, to do or to wait for.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if !self.backlog.is_empty() {
            self.submit_backlog();
        }
        let (queued, kernel_has_work) = {
            let submission = self.io.submission();
            (submission.len() as u32, submission.taskrun() || submission.cq_overflow())
        };
        if wait == Wait::Poll && queued == 0 && !kernel_has_work {
            return Ok(());
        }
        let timeout = if let Wait::For(time) = wait { Timespec::from(time) } else { Timespec::new() };
        let mut arguments = SubmitArgs::new();
        if matches!(wait, Wait::For(_)) {
            arguments = arguments.timespec(&timeout);
        }
        let want = u32::from(wait != Wait::Poll);
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        self.enters += 1;
        // SAFETY: the operations in the queue are valid by the promise of `push`; the arguments live until the call is over.
        match unsafe { self.io.submitter().enter(queued, want, flags, Some(&arguments)) } {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // The time is over, a signal came, or the kernel wants completions to be reaped first: all of it is an ordinary turn.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Takes up to `room` completions out of the queue.
    pub(super) fn reap<'a>(&mut self, buffer: &'a mut ReapBuffer, room: usize) -> &'a [cqueue::Entry] {
        let room = room.min(REAP);
        self.io.completion().fill(&mut buffer[..room])
    }

    /// Whether completions wait to be reaped.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.io.completion().is_empty()
    }

    /// Whether the kernel has told all that has completed. It completes nothing outside a system call of this thread (DEFER_TASKRUN).
    pub(super) fn is_drained(&mut self) -> bool {
        !self.has_completions() && !self.io.submission().cq_overflow()
    }

    /// Whether operations wait that the kernel would not take.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// System calls so far.
    pub(super) fn enters(&self) -> u64 {
        self.enters
    }

    /// Cancels everything that is in flight and waits until it is over. `false` if the kernel did not manage in time.
    pub(super) fn cancel_all(&mut self) -> bool {
        self.backlog.clear();
        let second = Timespec::from(Duration::from_secs(1));
        let cancelled = self.io.submitter().register_sync_cancel(Some(second), CancelBuilder::any());
        cancelled.is_ok() && self.run_out()
    }

    /// Lets what was cancelled come to its end. The kernel ends a few operations in each call, and each holds its socket until then.
    fn run_out(&mut self) -> bool {
        for _ in 0..MOST_CALLS {
            if self.enter(Wait::For(Duration::ZERO)).is_err() {
                return false;
            }
            self.io.completion().for_each(drop);
            let submission = self.io.submission();
            if !submission.taskrun() && !submission.cq_overflow() {
                return true;
            }
        }
        false
    }
}
