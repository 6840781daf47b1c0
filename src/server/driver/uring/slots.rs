//! What the driver keeps of each connection, and of each listener.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use super::super::outgoing::Outgoing;
use super::super::token::MAX_SLOTS;
use super::super::{ConnId, Phase};

/// One connection; a slot without a socket is free. Nothing of it is shared with the kernel but the outgoing batch.
#[derive(Default)]
pub(super) struct Conn {
    pub(super) socket: Option<OwnedFd>,
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
            Phase::Detaching | Phase::Closing => false,
        }
    }

    /// The socket's number, for an operation; the kernel refuses -1.
    pub(super) fn fd(&self) -> i32 {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
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

    pub(super) fn insert(&mut self, id: ConnId, socket: OwnedFd) -> std::io::Result<()> {
        if id.slot >= MAX_SLOTS {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let slot = id.slot as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, Conn::default);
        }
        if self.conns[slot].socket.is_some() {
            return Err(std::io::ErrorKind::AlreadyExists.into());
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
    pub(super) accepting: bool,
    pub(super) stopping: bool,
    /// Rests until then.
    pub(super) retry_at: Option<Instant>,
}
