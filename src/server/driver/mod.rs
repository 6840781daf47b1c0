//! The seam between a shard and its sockets: bytes in, batches out, hand-off, deadline. Two implementations with the same semantics.
//!
//! A shard's thread owns one driver and turns it. Between turns it tells the driver what to do ([`Driver`]); during a turn the driver tells
//! it what happened ([`Events`]). Nothing else blocks, nothing here knows MQTT.
//!
//! - [`UringDriver`]: one io_uring, one system call a turn.
//! - [`EpollDriver`]: for kernels and containers that refuse io_uring.
//! - [`AnyDriver`]: one of the two, chosen at start.
//!
//! Rules that hold for both:
//! - A connection is attached under an id whose slot is small and free; the slot is free again after [`Events::closed`] or
//!   [`Events::detached`]. Calls and completions with an id of an earlier generation do nothing.
//! - [`Events::received`] may still be called after a pause or a detach was asked for, with bytes that had left the socket before: no byte
//!   is lost or reordered. After `close` it is not called any more.
//! - Sockets are handed over in blocking mode and stay so; a socket that is not is put into it when it matters.
//! - A [`Socket`] that is not attached is discarded: dropping it does not close every kind.
//! - An idle connection holds no buffer, only its slot (32 bytes) and what the kernel keeps for it.

mod allocator;
mod any;
mod bell;
mod deadlines;
mod epoll;
mod outgoing;
mod probe;
mod socket;
mod sys;
mod token;
mod uring;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use allocator::{allow_huge_pages, give_memory_back};
pub use any::{AnyDriver, Backend};
pub use bell::Bell;
pub use epoll::EpollDriver;
pub use probe::{Unavailable, probe, probe_direct_descriptors};
pub use socket::{DirectDescriptor, Socket};
pub use uring::UringDriver;

pub use crate::broker::ids::ConnId;
use crate::broker::outbox::OutBatch;

/// What a driver is made with. The defaults suit a shard with a core of its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// Operations that are handed to the kernel in one step (io_uring); more of them cost further system calls, nothing is lost.
    pub submission_entries: u32,
    /// Completions that the kernel keeps ready at hand (io_uring); more of them cost it an allocation each, nothing is lost.
    pub completion_entries: u32,
    /// Most receive buffers (io_uring), rounded up to a power of two, at most 32,768. A sixteenth of them is in use at first, more only when
    /// they run out; a buffer that was never used takes no memory.
    pub receive_buffers: u16,
    /// Bytes of a receive buffer: the most that one call of [`Events::received`] brings.
    pub receive_buffer_bytes: u32,
    /// Entries of the ring's own file table, which takes accepted sockets instead of the process's descriptors (io_uring); 0 for none. The kernel
    /// allows as many as the process may have file descriptors, 1,048,576 at most, and keeps 8 bytes for each.
    pub direct_descriptors: u32,
    /// Completions that one turn handles at most; the others wait for the next turn.
    pub max_events_per_turn: u32,
    /// How long [`Close::AfterSend`] waits for the send in flight.
    pub finish_timeout: Duration,
    /// How long [`Close::AfterSend`] then waits for the peer to close its side, while it discards what still comes.
    pub drain_timeout: Duration,
    /// Bytes that are discarded at most meanwhile.
    pub drain_bytes: u32,
    /// How long a listener rests after an accept has failed for want of file descriptors or memory.
    pub accept_backoff: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            submission_entries: 1_024,
            completion_entries: 16_384,
            receive_buffers: 1_024,
            receive_buffer_bytes: 16 * 1_024,
            direct_descriptors: 0,
            max_events_per_turn: 4_096,
            finish_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(1),
            drain_bytes: 64 * 1_024,
            accept_backoff: Duration::from_millis(100),
        }
    }
}

/// Whether a connection goes on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMore {
    Continue,
    /// As if [`Driver::pause`] were called.
    Pause,
}

/// Why a connection brings no more bytes.
#[derive(Debug)]
pub enum EndCause {
    /// The peer has closed its side.
    Eof,
    /// The socket failed.
    Error(io::Error),
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// At once; what is in flight is cancelled.
    Now,
    /// Finishes the send in flight, shuts the write side, discards what the peer still sends until it closes (within the limits of
    /// [`Options`]), then closes: a peer that is still sending can read our last packet instead of finding its connection reset.
    AfterSend,
}

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Poll,
    Forever,
    /// At most this long, rounded up to what the system call can express, and a day at most.
    For(Duration),
}

/// A send that is over: the batch for reuse, and whether all of it was taken over by the kernel.
pub type Sent = (OutBatch, io::Result<()>);

/// What happens during a turn; implemented by the shard's loop. The driver cannot be called from here.
pub trait Events {
    /// A listener has a new connection; nothing is read from it until it is attached. `peer` is `None` for sockets without an IP address.
    fn accepted(&mut self, listener: u32, socket: Socket, peer: Option<SocketAddr>);

    /// The listener could not accept (no descriptors, no memory). It rests for [`Options::accept_backoff`] and goes on by itself.
    fn accept_failed(&mut self, listener: u32, error: io::Error);

    /// Bytes have come, at least one; they are valid during the call only.
    fn received(&mut self, conn: ConnId, bytes: &[u8]) -> ReadMore;

    /// No more bytes will come. The connection stays attached, and may be sent to, until it is closed.
    fn ended(&mut self, conn: ConnId, cause: EndCause);

    /// A send that was in flight is over. After an error the connection is useless and should be closed.
    fn sent(&mut self, conn: ConnId, batch: OutBatch, result: io::Result<()>);

    /// The answer to [`Driver::detach`]; the slot is free, and the socket is for the shard that was named there.
    fn detached(&mut self, conn: ConnId, socket: Socket);

    /// The answer to [`Driver::close`], or the end of a connection that could not leave, once; the slot is free. The socket is closed with the next turn at the latest.
    fn closed(&mut self, conn: ConnId);

    /// The shard's bell was rung while it slept. The rings are to be drained after each turn, so that this is only of use for counting.
    fn rung(&mut self);
}

/// The sockets of one shard. Must be used on the thread that made it.
pub trait Driver {
    /// Starts to accept on a listening socket, of any kind; `id` comes back in the events.
    ///
    /// # Errors
    /// The socket cannot be watched.
    fn listen(&mut self, id: u32, socket: OwnedFd) -> io::Result<()>;

    /// Closes all listeners, with the next turn at the latest. Connections that were accepted before are still reported.
    fn stop_listening(&mut self);

    /// Takes a connected socket and starts to read from it. The first read is a single one, so that a connection that moves on right after
    /// its first packet has nothing to cancel.
    ///
    /// # Errors
    /// The slot is in use or too large (2^28), or the socket cannot be watched; the socket is closed then.
    fn attach(&mut self, conn: ConnId, socket: Socket) -> io::Result<()>;

    /// Closes a socket that was accepted here, or sent here, and is not wanted.
    fn discard(&mut self, socket: Socket);

    /// Sends a batch whole, in order. One may be in flight per connection. A send that is over at once is given back at once; all others are
    /// answered by [`Events::sent`].
    #[must_use = "a batch that comes back at once is not reported again"]
    fn send(&mut self, conn: ConnId, batch: OutBatch) -> Option<Sent>;

    /// Stops reading, so that TCP slows the peer down.
    fn pause(&mut self, conn: ConnId);

    /// Goes on reading.
    fn resume(&mut self, conn: ConnId);

    /// Stops reading and gives the socket up for the shard of the bell `to`, through [`Events::detached`], after the send in flight is over. A close
    /// takes precedence until the socket has left. If it cannot leave, [`Events::ended`] says why, and the connection is closed.
    fn detach(&mut self, conn: ConnId, to: &Arc<Bell>);

    /// Closes a connection, answered by [`Events::closed`]. [`Close::Now`] overrides an earlier [`Close::AfterSend`].
    fn close(&mut self, conn: ConnId, how: Close);

    /// Whether a turn will find something to do without waiting, such as the completions of sends that were just asked for. Then the shard
    /// should take [`Wait::Poll`] and need not announce that it sleeps; any other wait is right too, and only costs its peers a needless bell.
    fn has_work(&mut self) -> bool;

    /// Gives the system back memory that is only kept for reuse; for a shard that has nothing to do.
    fn trim(&mut self);

    /// One turn: hands everything over to the kernel, waits if told to, reports what has happened.
    ///
    /// # Errors
    /// The system call itself failed, which only a broken driver or a broken kernel does.
    fn turn(&mut self, wait: Wait, events: &mut impl Events) -> io::Result<()>;
}

/// What is left to tell about connections that are gone from the driver.
enum Report {
    /// A listener found no room, with the errno that says so.
    AcceptFailed(u32, i32),
    /// A send that was in flight when its connection was closed.
    Aborted(ConnId, OutBatch),
    Detached(ConnId, Socket),
    Closed(ConnId),
}

impl Report {
    fn deliver(self, events: &mut impl Events) {
        match self {
            Report::AcceptFailed(listener, errno) => events.accept_failed(listener, io::Error::from_raw_os_error(errno)),
            Report::Aborted(conn, batch) => events.sent(conn, batch, Err(io::ErrorKind::ConnectionAborted.into())),
            Report::Detached(conn, socket) => events.detached(conn, socket),
            Report::Closed(conn) => events.closed(conn),
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Leaves the driver alive once nothing is in flight.
    Detaching,
    /// Is on its way into another ring's file table; only the outcome counts.
    Moving,
    /// Closes after the send in flight; input is discarded.
    Finishing,
    /// The write side is shut; input is discarded until the peer closes.
    Draining,
    /// Closes once nothing is in flight.
    Closing,
}

/// Whether a failed accept says something about one connection only, so that the next may be tried at once.
fn accept_again_at_once(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED | libc::ECANCELED | libc::EPROTO | libc::EPERM))
}

#[cfg(test)]
mod tests;
