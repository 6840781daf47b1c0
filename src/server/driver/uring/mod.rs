//! The io_uring driver: one ring per shard, one system call per turn.
//!
//! - Accept: a fixed number of single operations per listener.
//! - Receive: one multishot operation per connection, which takes a buffer from the shard's pool only when bytes arrive; they are parsed in
//!   place and the buffer goes back in the same turn. Running out of buffers ends such an operation and is a normal state: the connection
//!   gets in line, buffers go back first, then it is armed again.
//! - Send: one operation per connection, which the kernel completes whole.
//! - The bell: one multishot poll of its eventfd.
//!
//! `turn.rs` holds the connection's life as completions move it on, `setup.rs` the ring, `buffers.rs` the receive buffers, `slots.rs` the
//! state, `direct.rs` the sockets that are no descriptors of the process. No zero-copy send: it was measured, and loses at MQTT's sizes.

mod accept;
mod buffers;
mod direct;
mod setup;
mod slots;
mod turn;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use io_uring::{cqueue, opcode, types};

use self::buffers::Buffers;
use self::direct::Table;
use self::setup::{REAP, ReapBuffer, Ring};
use self::slots::{Handle, Listener, Slots};
use super::deadlines::{Deadlines, LONGEST};
use super::outgoing::Pool;
use super::token::{Op, pack_index, unpack};
use super::{Bell, Close, ConnId, Driver, Events, Options, Phase, Report, Sent, Socket, Wait};
use crate::broker::outbox::OutBatch;

/// See the module's documentation.
pub struct UringDriver {
    // Dropped in this order: the ring before the memory that it refers to.
    ring: Ring,
    buffers: std::mem::ManuallyDrop<Buffers>,
    slots: Slots,
    listeners: Vec<Listener>,
    /// `None` where sockets are descriptors of the process.
    table: Option<Table>,
    /// Where connections with direct descriptors go that are being detached.
    leaving: HashMap<ConnId, Arc<Bell>>,
    /// Connections that wait for receive buffers, in order.
    starved: VecDeque<ConnId>,
    /// Receive buffers have run out in this turn.
    exhausted: bool,
    /// Sends were queued since the last turn; most will have completed by the end of the call that hands them over.
    sending: bool,
    reports: VecDeque<Report>,
    deadlines: Deadlines,
    pool: Pool,
    bell: Arc<Bell>,
    options: Options,
}

/// Sets up a ring and its buffers as a driver would, and gives them back.
pub(super) fn try_ring(options: &Options) -> io::Result<()> {
    let ring = Ring::new(options.submission_entries, options.completion_entries)?;
    let buffers = Buffers::new(&ring, options.receive_buffers, options.receive_buffer_bytes)?;
    drop(ring);
    drop(buffers);
    Ok(())
}

impl UringDriver {
    /// Makes a driver that is woken by `bell`, on the thread that will use it.
    ///
    /// # Errors
    /// The system does not let us (see [`super::probe`]).
    pub fn new(options: &Options, bell: Arc<Bell>) -> io::Result<UringDriver> {
        let ring = Ring::new(options.submission_entries, options.completion_entries)?;
        let buffers = Buffers::new(&ring, options.receive_buffers, options.receive_buffer_bytes)?;
        let table = match options.direct_descriptors {
            0 => None,
            entries => {
                ring.make_table(entries)?;
                bell.take_sockets_at(ring.descriptor()?);
                Some(Table::new(entries))
            }
        };
        let mut driver = UringDriver {
            ring,
            buffers: std::mem::ManuallyDrop::new(buffers),
            slots: Slots::default(),
            listeners: Vec::new(),
            table,
            leaving: HashMap::new(),
            starved: VecDeque::new(),
            exhausted: false,
            sending: false,
            reports: VecDeque::new(),
            deadlines: Deadlines::new(options),
            pool: Pool::default(),
            bell,
            options: options.clone(),
        };
        driver.watch_bell();
        Ok(driver)
    }

    /// System calls into the ring so far: one a turn, and none for a turn that had nothing to do.
    pub fn system_calls(&self) -> u64 {
        self.ring.enters()
    }

    /// Whether receive buffers hold memory that they would give back.
    #[cfg(test)]
    pub(super) fn holds_receive_memory(&self) -> bool {
        self.buffers.used()
    }

    fn watch_bell(&mut self) {
        let fd = types::Fd(self.bell.as_fd().as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build().user_data(pack_index(Op::Bell, 0));
        // SAFETY: refers to no memory.
        unsafe { self.ring.push(poll) };
    }

    fn next_deadline(&self) -> Option<Instant> {
        let listeners = self.listeners.iter().filter_map(|listener| listener.retry_at);
        listeners.chain(self.deadlines.next()).min()
    }

    /// How long the system call may really wait.
    fn limit(&self, wait: Wait) -> Wait {
        if !self.reports.is_empty() || !self.starved.is_empty() || self.ring.has_backlog() {
            return Wait::Poll;
        }
        let wanted = match wait {
            Wait::Poll => return Wait::Poll,
            Wait::Forever => None,
            Wait::For(time) => Some(time),
        };
        let due = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        match wanted.into_iter().chain(due).min() {
            None => Wait::Forever,
            Some(time) if time.is_zero() => Wait::Poll,
            Some(time) => Wait::For(time.min(LONGEST)),
        }
    }

    fn handle(&mut self, entry: &cqueue::Entry, events: &mut impl Events) {
        let Some((op, conn)) = unpack(entry.user_data()) else { return };
        match op {
            Op::Recv => self.on_receive(conn, entry, events),
            Op::Send => self.on_send(conn, entry.result(), events),
            Op::Accept => self.on_accept(conn, entry, events),
            Op::CancelRecv => self.on_cancel_receive(conn),
            Op::CancelAll => self.on_cancel_all(conn, entry.result()),
            Op::Shutdown => self.on_shut(conn),
            Op::Move => self.on_moved(conn, entry.result(), events),
            Op::Bell => {
                if !cqueue::more(entry.flags()) {
                    self.watch_bell();
                }
                events.rung();
            }
            Op::CancelAccept | Op::Connection | Op::Close => {}
        }
    }

    /// Handles completions, as many as a turn may. Gives whether none is left.
    fn reap(&mut self, events: &mut impl Events) -> bool {
        let mut left = self.options.max_events_per_turn.max(1) as usize;
        let mut buffer: ReapBuffer = [const { std::mem::MaybeUninit::uninit() }; REAP];
        while left > 0 {
            let entries = self.ring.reap(&mut buffer, left);
            if entries.is_empty() {
                return true;
            }
            left -= entries.len();
            for entry in entries {
                self.handle(entry, events);
            }
        }
        !self.ring.has_completions()
    }

    fn on_time(&mut self, now: Instant) {
        self.rearm_listeners(now);
        while let Some((id, phase)) = self.deadlines.due(now) {
            if self.slots.find(id).is_some_and(|conn| conn.phase == phase) {
                self.begin_close(id);
            }
        }
    }
}

impl Driver for UringDriver {
    fn listen(&mut self, id: u32, socket: OwnedFd) -> io::Result<()> {
        self.start_listening(id, socket)
    }

    fn stop_listening(&mut self) {
        self.stop_all_listeners();
    }

    fn attach(&mut self, conn: ConnId, socket: Socket) -> io::Result<()> {
        let handle = self.take_in(socket)?;
        if let Err((handle, error)) = self.slots.insert(conn, handle) {
            self.discard_handle(handle);
            return Err(error);
        }
        self.arm_receive(conn);
        Ok(())
    }

    fn discard(&mut self, socket: Socket) {
        if let Ok(handle) = self.take_in(socket) {
            self.discard_handle(handle);
        }
    }

    fn send(&mut self, conn: ConnId, batch: OutBatch) -> Option<Sent> {
        let free = self.slots.find(conn).is_some_and(|found| found.outgoing.is_none() && found.phase == Phase::Open);
        if !free {
            return Some((batch, Err(io::ErrorKind::NotConnected.into())));
        }
        if batch.is_empty() {
            return Some((batch, Ok(())));
        }
        let outgoing = self.pool.load(batch);
        if let Some(found) = self.slots.find(conn) {
            found.outgoing = Some(outgoing);
        }
        self.arm_send(conn);
        None
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(found) = self.slots.find(conn) {
            found.paused = true;
            self.settle(conn);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(found) = self.slots.find(conn) {
            found.paused = false;
            self.settle(conn);
        }
    }

    fn detach(&mut self, conn: ConnId, to: &Arc<Bell>) {
        if let Some(found) = self.slots.find(conn)
            && found.phase == Phase::Open
        {
            found.phase = Phase::Detaching;
            if matches!(found.socket, Some(Handle::Direct(_))) {
                self.leaving.insert(conn, Arc::clone(to));
            }
            self.settle(conn);
        }
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let Some(found) = self.slots.find(conn) else { return };
        match how {
            Close::AfterSend if !matches!(found.phase, Phase::Open | Phase::Detaching) => {}
            Close::AfterSend => {
                found.phase = Phase::Finishing;
                if found.outgoing.is_some() {
                    self.deadlines.finishing(conn);
                }
                self.settle(conn);
            }
            Close::Now => self.begin_close(conn),
        }
    }

    fn has_work(&mut self) -> bool {
        self.sending || !self.reports.is_empty() || !self.starved.is_empty() || self.ring.has_backlog() || self.ring.has_completions()
    }

    fn trim(&mut self) {
        if self.ring.is_drained() {
            // SAFETY: all completions were handled, each with its buffer, and the kernel makes none before the next system call.
            unsafe { self.buffers.trim() };
        }
    }

    fn turn(&mut self, wait: Wait, events: &mut impl Events) -> io::Result<()> {
        self.buffers.publish();
        self.sending = false;
        self.ring.enter(self.limit(wait))?;
        if wait != Wait::Poll {
            self.bell.awake();
        }
        let drained = self.reap(events);
        if !self.starved.is_empty() {
            self.feed_starved(drained);
        }
        if self.next_deadline().is_some() {
            self.on_time(Instant::now());
        }
        while let Some(report) = self.reports.pop_front() {
            report.deliver(events);
        }
        Ok(())
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        let cancelled = self.ring.cancel_all();
        self.ring.drop_table();
        if cancelled {
            // The ring still exists, but no operation that could write into a buffer does.
            // SAFETY: dropped here and nowhere else.
            unsafe { std::mem::ManuallyDrop::drop(&mut self.buffers) };
        } else {
            // The kernel may still use the memory: it must stay mapped.
            self.slots.leak();
            self.listeners.drain(..).for_each(|listener| std::mem::forget(listener.peers));
        }
    }
}
