//! The life of a connection on the ring, as its completions move it on.
//!
//! Whatever happens sets what a connection is (paused, ended, its phase, its operations in flight); `settle` then does what follows from it.
//! So the order in which completions and calls arrive does not matter, and each rule stands in one place.

use std::io;
use std::net::Shutdown;

use io_uring::{cqueue, opcode, squeue};

use super::super::token::{Op, pack};
use super::super::{ConnId, EndCause, Events, Phase, ReadMore, Report, sys};
use super::UringDriver;
use super::buffers::GROUP;
use super::slots::Handle;

impl UringDriver {
    /// Does what follows from the state of a connection.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        if conn.receiving && !conn.cancelling && !conn.reads() && conn.phase != Phase::Closing {
            return self.cancel_receive(id);
        }
        match conn.phase {
            Phase::Detaching | Phase::Closing if conn.ops == 0 => self.finish(id),
            Phase::Finishing if conn.outgoing.is_none() => self.begin_drain(id),
            Phase::Draining if conn.ended => self.begin_close(id),
            _ if conn.reads() && !conn.receiving && !conn.starved => self.arm_receive(id),
            _ => {}
        }
    }

    pub(super) fn arm_receive(&mut self, id: ConnId) {
        let bytes = self.buffers.bytes_each();
        let Some(conn) = self.slots.find(id) else { return };
        let receive = if conn.settled {
            opcode::RecvMulti::new(conn.fd(), GROUP).build()
        } else {
            let null = std::ptr::null_mut();
            opcode::Recv::new(conn.fd(), null, bytes).buf_group(GROUP).build().flags(squeue::Flags::BUFFER_SELECT)
        };
        let receive = conn.aim(receive);
        conn.receiving = true;
        conn.ops += 1;
        // SAFETY: the kernel writes into provided buffers only, which outlive the ring's operations (see `drop`).
        unsafe { self.ring.push(receive.user_data(pack(Op::Recv, id))) };
    }

    pub(super) fn arm_send(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        let fd = conn.fd();
        let Some(outgoing) = &mut conn.outgoing else { return };
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let send = match outgoing.single() {
            Some(slice) => opcode::Send::new(fd, slice.iov_base.cast_const().cast(), slice.iov_len as u32).flags(flags).build(),
            None => opcode::SendMsg::new(fd, outgoing.header()).flags(flags as u32).build(),
        };
        let send = conn.aim(send);
        conn.ops += 1;
        self.sending = true;
        // SAFETY: header, slices and bytes belong to the boxed `outgoing`, which stays untouched in its slot until the send has completed.
        unsafe { self.ring.push(send.user_data(pack(Op::Send, id))) };
    }

    fn cancel_receive(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.cancelling = true;
        conn.ops += 1;
        let cancel = opcode::AsyncCancel::new(pack(Op::Recv, id)).build().user_data(pack(Op::CancelRecv, id));
        // SAFETY: refers to no memory.
        unsafe { self.ring.push(cancel) };
    }

    /// Closes now: cancels what is in flight, and finishes when nothing is.
    pub(super) fn begin_close(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        if matches!(conn.phase, Phase::Closing | Phase::Moving) {
            return;
        }
        conn.phase = Phase::Closing;
        if conn.ops > 0 {
            conn.ops += 1;
            let cancel = conn.cancel_all().user_data(pack(Op::CancelAll, id));
            // SAFETY: refers to no memory.
            unsafe { self.ring.push(cancel) };
        }
        self.settle(id);
    }

    /// The last send is out: no more output, and input is only waited for.
    fn begin_drain(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.phase = Phase::Draining;
        if !conn.ended {
            self.shut(id, Shutdown::Write);
            self.deadlines.draining(id);
        }
        self.settle(id);
    }

    /// Nothing is in flight any more: gives the socket up.
    fn finish(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        if let (Phase::Detaching, Some(&Handle::Direct(index))) = (conn.phase, conn.socket.as_ref()) {
            return self.begin_move(id, index);
        }
        let detached = conn.phase == Phase::Detaching;
        let Some(handle) = conn.socket.take() else { return };
        self.leaving.remove(&id);
        let report = match handle {
            Handle::Descriptor(socket) if detached => Report::Detached(id, socket.into()),
            handle => {
                self.discard_handle(handle);
                Report::Closed(id)
            }
        };
        self.reports.push_back(report);
    }

    pub(super) fn on_receive(&mut self, id: ConnId, entry: &cqueue::Entry, events: &mut impl Events) {
        if let Some(conn) = self.slots.find(id)
            && !cqueue::more(entry.flags())
        {
            conn.receiving = false;
            conn.ops -= 1;
        }
        let buffer = cqueue::buffer_select(entry.flags());
        match (entry.result(), buffer) {
            (count @ 1.., Some(buffer)) => self.on_bytes(id, buffer, count as u32, events),
            (0, _) => self.on_end(id, EndCause::Eof, events),
            (error, _) => self.on_receive_error(id, -error, events),
        }
        if let Some(buffer) = buffer {
            self.buffers.give_back(buffer);
        }
        self.settle(id);
    }

    fn on_bytes(&mut self, id: ConnId, buffer: u16, count: u32, events: &mut impl Events) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.settled = true;
        match conn.phase {
            Phase::Open | Phase::Detaching => {
                if events.received(id, self.buffers.filled(buffer, count)) == ReadMore::Pause {
                    conn.paused = true;
                }
            }
            Phase::Draining => {
                conn.drained = conn.drained.saturating_add(count);
                if conn.drained > self.options.drain_bytes {
                    self.begin_close(id);
                }
            }
            Phase::Finishing | Phase::Moving | Phase::Closing => {}
        }
    }

    fn on_end(&mut self, id: ConnId, cause: EndCause, events: &mut impl Events) {
        let Some(conn) = self.slots.find(id) else { return };
        if !conn.ended {
            conn.ended = true;
            if conn.phase == Phase::Open {
                events.ended(id, cause);
            }
        }
    }

    fn on_receive_error(&mut self, id: ConnId, errno: i32, events: &mut impl Events) {
        match errno {
            libc::ENOBUFS => {
                self.exhausted = true;
                if let Some(conn) = self.slots.find(id)
                    && conn.reads()
                {
                    conn.starved = true;
                    self.starved.push_back(id);
                }
            }
            libc::ECANCELED | libc::EINTR => {}
            libc::EAGAIN => self.make_blocking(id),
            errno => self.on_end(id, EndCause::Error(io::Error::from_raw_os_error(errno)), events),
        }
    }

    /// The socket came in non-blocking mode, in which the kernel does not wait on the ring either.
    #[cold]
    fn make_blocking(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        // The table takes none but those that wait.
        let Some(Handle::Descriptor(socket)) = &conn.socket else { return self.begin_close(id) };
        if sys::set_nonblocking(socket, false).is_err() {
            sys::shutdown(socket, Shutdown::Both);
        }
    }

    /// Arms connections that ran out of buffers, now that buffers were given back; at most as many as there are buffers, so that a crowd does
    /// not fail again in vain. While completions are left, they may hold all the buffers.
    pub(super) fn feed_starved(&mut self, drained: bool) {
        if std::mem::take(&mut self.exhausted) {
            self.buffers.grow();
        } else if !drained {
            return;
        }
        self.buffers.publish();
        for _ in 0..self.buffers.offered() {
            let Some(id) = self.starved.pop_front() else { return };
            if let Some(conn) = self.slots.find(id) {
                conn.starved = false;
                self.settle(id);
            }
        }
    }

    pub(super) fn on_send(&mut self, id: ConnId, result: i32, events: &mut impl Events) {
        if result == -libc::EAGAIN {
            self.make_blocking(id);
        }
        let Some(conn) = self.slots.find(id) else { return };
        conn.ops -= 1;
        let Some(outgoing) = &mut conn.outgoing else { return };
        let result = match result {
            0 => Err(io::ErrorKind::WriteZero.into()),
            sent @ 1.. => {
                outgoing.advance(sent as usize);
                Ok(())
            }
            error if -error == libc::EAGAIN || -error == libc::EINTR => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        let done = outgoing.is_done();
        if !done && result.is_ok() && conn.phase != Phase::Closing {
            return self.arm_send(id);
        }
        let result = if done { Ok(()) } else { result.and(Err(io::ErrorKind::ConnectionAborted.into())) };
        let failed = result.is_err();
        let Some(outgoing) = conn.outgoing.take() else { return };
        let finishing = conn.phase == Phase::Finishing;
        events.sent(id, self.pool.unload(outgoing), result);
        if failed && finishing {
            return self.begin_close(id);
        }
        self.settle(id);
    }

    pub(super) fn on_cancel_receive(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.ops -= 1;
        conn.cancelling = false;
        // If the receive is still there and still unwanted, this cancels it again.
        self.settle(id);
    }

    pub(super) fn on_cancel_all(&mut self, id: ConnId, result: i32) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.ops -= 1;
        if result < 0 && conn.ops > 0 {
            // What could not be cancelled ends by itself on a socket that is shut.
            self.shut(id, Shutdown::Both);
        }
        self.settle(id);
    }
}
