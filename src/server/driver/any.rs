//! One of the two drivers, chosen at start. The choice costs a branch per call, which is always predicted right.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Bell, Close, ConnId, Driver, EpollDriver, Events, Options, Sent, Socket, Unavailable, UringDriver, Wait, probe};
use crate::broker::outbox::OutBatch;

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// io_uring where the system lets us, epoll otherwise.
    #[default]
    Auto,
    Uring,
    Epoll,
}

/// A driver of either kind.
// Not boxed: a shard has exactly one, for its whole life.
#[allow(clippy::large_enum_variant)]
pub enum AnyDriver {
    Uring(UringDriver),
    Epoll(EpollDriver),
}

impl AnyDriver {
    /// Makes the wanted driver, on the thread that will use it. With [`Backend::Auto`] the reason for not taking io_uring comes along.
    ///
    /// # Errors
    /// The wanted driver cannot be had; the message says why and what helps.
    pub fn open(backend: Backend, options: &Options, bell: Arc<Bell>) -> io::Result<(AnyDriver, Option<Unavailable>)> {
        let refused = match backend {
            Backend::Epoll => None,
            Backend::Uring | Backend::Auto => match UringDriver::new(options, Arc::clone(&bell)) {
                Ok(driver) => return Ok((AnyDriver::Uring(driver), None)),
                Err(error) => Some(Unavailable::from(error)),
            },
        };
        match refused {
            Some(why) if backend == Backend::Uring => Err(io::Error::other(why)),
            refused => Ok((AnyDriver::Epoll(EpollDriver::new(options, bell)?), refused)),
        }
    }

    /// What runs, as it is called in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            AnyDriver::Uring(_) => "uring",
            AnyDriver::Epoll(_) => "epoll",
        }
    }
}

impl Backend {
    /// What [`AnyDriver::open`] will take, asked once for all shards.
    pub fn resolve(self) -> Backend {
        match self {
            Backend::Auto if probe().is_ok() => Backend::Uring,
            Backend::Auto => Backend::Epoll,
            chosen => chosen,
        }
    }
}

macro_rules! either {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            AnyDriver::Uring($driver) => $call,
            AnyDriver::Epoll($driver) => $call,
        }
    };
}

impl Driver for AnyDriver {
    fn listen(&mut self, id: u32, socket: OwnedFd) -> io::Result<()> {
        either!(self, driver => driver.listen(id, socket))
    }

    fn stop_listening(&mut self) {
        either!(self, driver => driver.stop_listening());
    }

    fn attach(&mut self, conn: ConnId, socket: Socket) -> io::Result<()> {
        either!(self, driver => driver.attach(conn, socket))
    }

    fn discard(&mut self, socket: Socket) {
        either!(self, driver => driver.discard(socket));
    }

    #[inline]
    fn send(&mut self, conn: ConnId, batch: OutBatch) -> Option<Sent> {
        either!(self, driver => driver.send(conn, batch))
    }

    fn pause(&mut self, conn: ConnId) {
        either!(self, driver => driver.pause(conn));
    }

    fn resume(&mut self, conn: ConnId) {
        either!(self, driver => driver.resume(conn));
    }

    fn detach(&mut self, conn: ConnId, to: &Arc<Bell>) {
        either!(self, driver => driver.detach(conn, to));
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        either!(self, driver => driver.close(conn, how));
    }

    #[inline]
    fn has_work(&mut self) -> bool {
        either!(self, driver => driver.has_work())
    }

    fn trim(&mut self) {
        either!(self, driver => driver.trim());
    }

    #[inline]
    fn turn(&mut self, wait: Wait, events: &mut impl Events) -> io::Result<()> {
        either!(self, driver => driver.turn(wait, events))
    }
}
