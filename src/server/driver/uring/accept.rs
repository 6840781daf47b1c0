//! Listeners on the ring: one multishot accept each, or as `direct.rs` has it. A listener rests for a while when there are no descriptors, or no
//! memory.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::types::CancelBuilder;
use io_uring::{cqueue, opcode, types};

use super::super::deadlines::after;
use super::super::token::{Op, pack_index};
use super::super::{ConnId, Events, accept_again_at_once, sys};
use super::UringDriver;
use super::direct::PeerAddress;
use super::slots::Listener;

impl UringDriver {
    pub(super) fn start_listening(&mut self, id: u32, socket: OwnedFd) -> io::Result<()> {
        sys::set_nonblocking(&socket, false)?;
        let peers = if self.table.is_some() { PeerAddress::for_accepts() } else { Box::default() };
        self.listeners.push(Listener { id, socket: Some(socket), accepting: 0, stopping: false, retry_at: None, peers });
        self.arm_accept(self.listeners.len() - 1);
        Ok(())
    }

    fn arm_accept(&mut self, index: usize) {
        if self.table.is_some() {
            return self.arm_direct_accepts(index);
        }
        let Some(listener) = self.listeners.get_mut(index) else { return };
        let Some(socket) = &listener.socket else { return };
        // The ring waits for connections only on a listener that would itself wait, and that may have been changed through another descriptor.
        // If it cannot be set the accept fails, and says so.
        let _ = sys::set_nonblocking(socket, false);
        let fd = types::Fd(socket.as_raw_fd());
        let accept = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build().user_data(pack_index(Op::Accept, index));
        listener.accepting = 1;
        listener.retry_at = None;
        // SAFETY: refers to no memory.
        unsafe { self.ring.push(accept) };
    }

    pub(super) fn stop_all_listeners(&mut self) {
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            listener.stopping = true;
            listener.retry_at = None;
            if listener.accepting == 0 {
                listener.socket = None;
            }
            let Some(socket) = &listener.socket else { continue };
            let every = CancelBuilder::fd(types::Fd(socket.as_raw_fd())).all();
            let cancel = opcode::AsyncCancel2::new(every).build().user_data(pack_index(Op::CancelAccept, index));
            // SAFETY: refers to no memory.
            unsafe { self.ring.push(cancel) };
        }
    }

    pub(super) fn on_accept(&mut self, which: ConnId, entry: &cqueue::Entry, events: &mut impl Events) {
        let index = which.slot as usize;
        if self.table.is_some() {
            return self.on_direct_accept(index, which.generation, entry.result(), events);
        }
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.accepting = u32::from(cqueue::more(entry.flags()));
        let mut rests = false;
        if entry.result() >= 0 {
            // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
            let socket = unsafe { OwnedFd::from_raw_fd(entry.result()) };
            let peer = sys::peer_address(&socket);
            events.accepted(listener.id, socket.into(), peer);
        } else {
            let error = io::Error::from_raw_os_error(-entry.result());
            rests = !accept_again_at_once(&error) && !listener.stopping;
            if rests {
                events.accept_failed(listener.id, error);
            }
        }
        if listener.accepting != 0 {
            return;
        }
        if listener.stopping {
            listener.socket = None;
        } else if rests {
            listener.retry_at = Some(after(Instant::now(), self.options.accept_backoff));
        } else {
            self.arm_accept(index);
        }
    }

    pub(super) fn rearm_listeners(&mut self, now: Instant) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].retry_at.is_some_and(|at| at <= now) {
                self.arm_accept(index);
            }
        }
    }
}
