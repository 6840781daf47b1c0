//! Listeners on the ring: up to [`ACCEPTS`] single accepts each. A listener rests for a while when there are no descriptors, or no memory.
//!
//! Single ones instead of a multishot one, for two reasons. A multishot accept takes all that wait in one system call, thousands when everybody
//! reconnects, and whoever is connected waits meanwhile; so at most as many as there are accepts come in a turn. And only so each has a place of its own to
//! which the kernel writes who came, which spares a system call, and with direct descriptors is the only way to know.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::types::{CancelBuilder, DestinationSlot};
use io_uring::{cqueue, opcode, types};

use super::super::deadlines::after;
use super::super::token::{Op, pack, pack_index};
use super::super::{ConnId, DirectDescriptor, Events, Report, Socket, accept_again_at_once, sys};
use super::UringDriver;
use super::direct::Table;
use super::slots::Listener;

/// Accepts that the kernel holds for each listener at most, as many as the bits of `Listener::accepting`.
pub(super) const ACCEPTS: u32 = u32::BITS;

/// Where the kernel writes the address of whoever was accepted.
pub(super) struct PeerAddress {
    address: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl PeerAddress {
    pub(super) fn for_accepts() -> Box<[PeerAddress]> {
        // SAFETY: all-zero bytes are a valid address: of no family.
        let empty = || PeerAddress { address: unsafe { std::mem::zeroed() }, length: 0 };
        (0..ACCEPTS).map(|_| empty()).collect()
    }

    /// The address that was written last, if it is one of IP.
    fn get(&self) -> Option<SocketAddr> {
        let start = &raw const self.address;
        match i32::from(self.address.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says what lies there, and the storage is large enough and aligned for any of them.
                let address = unsafe { &*start.cast::<libc::sockaddr_in>() };
                Some((Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr)), u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { &*start.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(address.sin6_port), address.sin6_flowinfo, address.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

impl UringDriver {
    pub(super) fn start_listening(&mut self, id: u32, socket: OwnedFd) -> io::Result<()> {
        sys::set_nonblocking(&socket, false)?;
        let peers = PeerAddress::for_accepts();
        self.listeners.push(Listener { id, socket: Some(socket), accepting: 0, stopping: false, retry_at: None, peers });
        self.arm_accepts(self.listeners.len() - 1);
        Ok(())
    }

    /// Hands as many accepts to the kernel as a listener may have, and the table has room for. A listener without any rests.
    fn arm_accepts(&mut self, index: usize) {
        let Some(listener) = self.listeners.get_mut(index) else { return };
        let Some(socket) = &listener.socket else { return };
        let fd = types::Fd(socket.as_raw_fd());
        while listener.accepting != u32::MAX && self.table.as_mut().is_none_or(Table::take) {
            let which = listener.accepting.trailing_ones();
            listener.accepting |= 1 << which;
            let peer = &mut listener.peers[which as usize];
            peer.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            let accept = opcode::Accept::new(fd, (&raw mut peer.address).cast(), &raw mut peer.length);
            let accept = match self.table {
                Some(_) => accept.file_index(Some(DestinationSlot::auto_target())).build(),
                None => accept.flags(libc::SOCK_CLOEXEC).build(),
            };
            let token = pack(Op::Accept, ConnId { slot: index as u32, generation: which });
            // SAFETY: the address belongs to the listener, is not touched before the accept has completed, and is not freed before (see `drop`).
            unsafe { self.ring.push(accept.user_data(token)) };
        }
        listener.retry_at = None;
        if listener.accepting == 0 {
            listener.retry_at = Some(after(Instant::now(), self.options.accept_backoff));
            self.reports.push_back(Report::AcceptFailed(listener.id, libc::ENFILE));
        }
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

    pub(super) fn on_accept(&mut self, token: ConnId, entry: &cqueue::Entry, events: &mut impl Events) {
        let (index, which) = (token.slot as usize, token.generation);
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.accepting &= !(1 << which);
        if let Ok(number) = u32::try_from(entry.result()) {
            let socket = match self.table {
                Some(_) => Socket::Direct(DirectDescriptor { index: number, counted: true }),
                // SAFETY: the kernel has just made this descriptor for us; it has no other owner.
                None => unsafe { OwnedFd::from_raw_fd(entry.result()) }.into(),
            };
            events.accepted(listener.id, socket, listener.peers[which as usize].get());
        } else {
            self.on_accept_error(index, -entry.result(), events);
        }
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if !listener.stopping {
            // A listener that rests is armed when its time comes.
            if listener.retry_at.is_none() {
                self.arm_accepts(index);
            }
        } else if listener.accepting == 0 {
            listener.socket = None;
        }
    }

    fn on_accept_error(&mut self, index: usize, errno: i32, events: &mut impl Events) {
        if let Some(table) = &mut self.table {
            table.give_back();
        }
        let Some(listener) = self.listeners.get_mut(index) else { return };
        if let (libc::EAGAIN, Some(socket)) = (errno, &listener.socket) {
            // The ring waits for connections only on a listener that would itself wait, and this one was changed through another descriptor. If it cannot be
            // set back the next accept fails, and says so.
            let _ = sys::set_nonblocking(socket, false);
        }
        let error = io::Error::from_raw_os_error(errno);
        // All accepts of a listener fail together, which is one failure.
        if !accept_again_at_once(&error) && !listener.stopping && listener.retry_at.is_none() {
            listener.retry_at = Some(after(Instant::now(), self.options.accept_backoff));
            events.accept_failed(listener.id, error);
        }
    }

    pub(super) fn rearm_listeners(&mut self, now: Instant) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].retry_at.is_some_and(|at| at <= now) {
                self.arm_accepts(index);
            }
        }
    }
}
