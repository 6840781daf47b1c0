//! A connected socket outside of a driver: between an accept and [`super::Driver::attach`], or on its way from one shard to another.
//!
//! It is a file descriptor of the process, or an entry of the file table of one ring: what io_uring calls a direct descriptor. A direct one
//! counts against no limit of the process and means nothing outside of its ring, not even to the system calls of this process.

use std::os::fd::OwnedFd;

/// See the module's documentation.
#[derive(Debug)]
pub enum Socket {
    /// Closed when dropped.
    Descriptor(OwnedFd),
    /// Closed by [`super::Driver::discard`], or with its ring.
    Direct(DirectDescriptor),
}

/// An entry of the file table of a ring.
#[derive(Debug)]
pub struct DirectDescriptor {
    pub(super) index: u32,
    /// Whether the driver of that ring has counted it: it has when it accepted the socket itself, and not when another ring sent it.
    pub(super) counted: bool,
}

impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Socket {
        Socket::Descriptor(descriptor)
    }
}
