//! Direct descriptors: sockets in a file table of the ring's own instead of the process's.
//!
//! - Accept: `accept.rs`, into a free entry; the kernel says which.
//! - A connection that moves to another shard is sent from table to table by the kernel. The answer says where it lies there, so that the other
//!   shard's driver need not know that it came before it is attached.
//! - An accept into a full table loses the connection. So the entries are counted, accepts in flight included, and where none is left the
//!   listener rests as it does without descriptors; new connections wait in the kernel's queue.
//!
//! Costs 8 bytes of kernel memory per entry, whether used or not. To shut a direct descriptor down takes a thread of the kernel.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;

use io_uring::types::DestinationSlot;
use io_uring::{opcode, squeue, types};

use super::super::token::{Op, pack, pack_index};
use super::super::{ConnId, DirectDescriptor, EndCause, Events, Phase, Report, Socket, sys};
use super::UringDriver;
use super::slots::Handle;

/// Part of a table that accepts leave to the connections that come from other shards.
const RESERVED_SHARE: u32 = 64;

/// The kernel is to put nothing into the completion queue of the ring that a socket is sent to (IORING_MSG_RING_CQE_SKIP).
const NO_COMPLETION_THERE: u32 = 1;

/// How full the ring's file table is.
pub(super) struct Table {
    entries: u32,
    /// Sockets in it, as far as known, and accepts in flight. Those that other shards have sent count once they are attached.
    used: u32,
}

impl Table {
    pub(super) fn new(entries: u32) -> Table {
        Table { entries, used: 0 }
    }

    /// Takes an entry for an accept, if there is one.
    pub(super) fn take(&mut self) -> bool {
        let free = self.used < self.entries - self.entries / RESERVED_SHARE;
        self.used += u32::from(free);
        free
    }

    pub(super) fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

impl UringDriver {
    /// The handle of a socket that is to be attached.
    pub(super) fn take_in(&mut self, socket: Socket) -> io::Result<Handle> {
        match (socket, &mut self.table) {
            (Socket::Descriptor(socket), _) => Ok(Handle::Descriptor(socket)),
            (Socket::Direct(_), None) => Err(io::ErrorKind::InvalidInput.into()),
            (Socket::Direct(DirectDescriptor { index, counted }), Some(table)) => {
                table.used += u32::from(!counted);
                Ok(Handle::Direct(index))
            }
        }
    }

    /// Puts a socket into entry `index` of the ring's file table, which must be free; the descriptor is closed.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn adopt(&mut self, socket: OwnedFd, index: u32) -> io::Result<Socket> {
        sys::set_nonblocking(&socket, false)?;
        self.ring.put_into_table(index, &socket)?;
        Ok(Socket::Direct(DirectDescriptor { index, counted: false }))
    }

    pub(super) fn discard_handle(&mut self, handle: Handle) {
        if let Handle::Direct(index) = handle {
            self.close_direct(index);
        }
    }

    /// Empties an entry that no operation uses.
    pub(super) fn close_direct(&mut self, index: u32) {
        if let Some(table) = &mut self.table {
            table.give_back();
        }
        let close = opcode::Close::new(types::Fixed(index)).build().flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: refers to no memory.
        unsafe { self.ring.push(close.user_data(pack_index(Op::Close, index as usize))) };
    }

    /// Nothing is in flight: sends the socket to the table of the ring where it goes.
    pub(super) fn begin_move(&mut self, id: ConnId, index: u32) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.phase = Phase::Moving;
        conn.ops += 1;
        let to = types::Fd(self.leaving.get(&id).map_or(-1, |bell| bell.table()));
        let send = opcode::MsgRingSendFd::new(to, types::Fixed(index), DestinationSlot::auto_target(), 0);
        let send = send.opcode_flags(NO_COMPLETION_THERE).build().user_data(pack(Op::Move, id));
        // SAFETY: refers to no memory.
        unsafe { self.ring.push(send) };
    }

    pub(super) fn on_moved(&mut self, id: ConnId, result: i32, events: &mut impl Events) {
        self.leaving.remove(&id);
        let Some(conn) = self.slots.find(id) else { return };
        conn.ops -= 1;
        if let Ok(there) = u32::try_from(result) {
            if let Some(handle) = conn.socket.take() {
                self.discard_handle(handle);
            }
            let socket = Socket::Direct(DirectDescriptor { index: there, counted: false });
            return self.reports.push_back(Report::Detached(id, socket));
        }
        conn.phase = Phase::Open;
        conn.ended = true;
        events.ended(id, EndCause::Error(io::Error::from_raw_os_error(-result)));
        self.begin_close(id);
    }

    /// Shuts a socket down; its operations in flight then end by themselves.
    pub(super) fn shut(&mut self, id: ConnId, how: Shutdown) {
        let Some(conn) = self.slots.find(id) else { return };
        match &conn.socket {
            Some(Handle::Descriptor(socket)) => sys::shutdown(socket, how),
            Some(Handle::Direct(_)) => {
                let how = if how == Shutdown::Write { libc::SHUT_WR } else { libc::SHUT_RDWR };
                let shut = conn.aim(opcode::Shutdown::new(conn.fd(), how).build());
                conn.ops += 1;
                // SAFETY: refers to no memory.
                unsafe { self.ring.push(shut.user_data(pack(Op::Shutdown, id))) };
            }
            None => {}
        }
    }

    pub(super) fn on_shut(&mut self, id: ConnId) {
        let Some(conn) = self.slots.find(id) else { return };
        conn.ops -= 1;
        self.settle(id);
    }
}
