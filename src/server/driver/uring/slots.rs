//! What the driver keeps of each connection, and of each listener.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use io_uring::types::{self, CancelBuilder};
use io_uring::{opcode, squeue};

use super::super::outgoing::Outgoing;
use super::super::token::MAX_SLOTS;
use super::super::{ConnId, Phase};
use super::accept::PeerAddress;

/// A socket as operations name it.
#[derive(Debug)]
pub(super) enum Handle {
    Descriptor(OwnedFd),
    /// An entry of the ring's file table.
    Direct(u32),
}

/// One connection; a slot without a socket is free. Nothing of it is shared with the kernel but the outgoing batch.
#[derive(Default)]
pub(super) struct Conn {
    pub(super) socket: Option<Handle>,
    pub(super) generation: u32,
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// Bytes that were discarded while draining.
    pub(super) drained: u32,
    /// Operations that the kernel holds: a receive, a send, cancellations. The slot and the socket live until it is 0.
    pub(super) ops: u8,
    pub(super) phase: Phase,
    pub(super) receiving: bool,
    pub(super) cancelling: bool,
    pub(super) paused: bool,
    pub(super) ended: bool,
    /// Waits in line for receive buffers.
    pub(super) starved: bool,
    /// Has read once, so that it reads on by multishot.
    pub(super) settled: bool,
}

const _: () = assert!(size_of::<Conn>() <= 64, "the idle cost of a connection");

impl Conn {
    /// Whether input is wanted, be it to be discarded.
    pub(super) fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => !self.paused && !self.ended,
            Phase::Finishing | Phase::Draining => !self.ended,
            Phase::Detaching | Phase::Moving | Phase::Closing => false,
        }
    }

    /// The socket's number, for an operation that then passes through [`Conn::aim`]; the kernel refuses -1.
    pub(super) fn fd(&self) -> types::Fd {
        types::Fd(match &self.socket {
            Some(Handle::Descriptor(socket)) => socket.as_raw_fd(),
            Some(Handle::Direct(index)) => *index as i32,
            None => -1,
        })
    }

    /// Says where the number of an operation's socket is looked up.
    pub(super) fn aim(&self, operation: squeue::Entry) -> squeue::Entry {
        match &self.socket {
            Some(Handle::Direct(_)) => operation.flags(squeue::Flags::FIXED_FILE),
            _ => operation,
        }
    }

    /// Cancels every operation on the socket.
    pub(super) fn cancel_all(&self) -> squeue::Entry {
        let every = match &self.socket {
            Some(Handle::Direct(index)) => CancelBuilder::fd(types::Fixed(*index)),
            _ => CancelBuilder::fd(self.fd()),
        };
        opcode::AsyncCancel2::new(every.all()).build()
    }
}

/// The connections by slot.
#[derive(Default)]
pub(super) struct Slots {
    conns: Vec<Conn>,
}

impl Slots {
    /// The connection of this very id, if it is attached.
    #[inline]
    pub(super) fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation && conn.socket.is_some())
    }

    /// Puts a connection in; gives the socket back if there is no place for it.
    pub(super) fn insert(&mut self, id: ConnId, socket: Handle) -> Result<(), (Handle, io::Error)> {
        if id.slot >= MAX_SLOTS {
            return Err((socket, io::ErrorKind::InvalidInput.into()));
        }
        let slot = id.slot as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, Conn::default);
        }
        if self.conns[slot].socket.is_some() {
            return Err((socket, io::ErrorKind::AlreadyExists.into()));
        }
        self.conns[slot] = Conn { socket: Some(socket), generation: id.generation, ..Conn::default() };
        Ok(())
    }

    /// Gives all slots up without freeing what the kernel may still read.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.conns));
    }
}

pub(super) struct Listener {
    pub(super) id: u32,
    /// `None` once it has stopped.
    pub(super) socket: Option<OwnedFd>,
    /// Accept operations that the kernel holds, one bit for each.
    pub(super) accepting: u32,
    pub(super) stopping: bool,
    /// Rests until then.
    pub(super) retry_at: Option<Instant>,
    /// Where the kernel writes who came, for each accept.
    pub(super) peers: Box<[PeerAddress]>,
}
