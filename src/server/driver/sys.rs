//! The system calls that the drivers need and the standard library does not offer, each as a safe function.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use socket2::SockRef;

use super::outgoing::Outgoing;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A new eventfd: not blocking, closed on exec.
pub(super) fn event_fd() -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until `fd` is readable; `false` when the time is over.
#[cfg(test)]
pub(super) fn poll_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, alive during the call.
    let ready = check(unsafe { libc::poll(&raw mut entry, 1, milliseconds(timeout)) })?;
    Ok(ready == 1)
}

/// Rounded up, so that a timer is not looked at just before it is due.
fn milliseconds(timeout: Duration) -> libc::c_int {
    timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX)
}

/// A new epoll set, closed on exec.
pub(super) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: takes a number.
    let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// EPOLL_CTL_ADD, _MOD or _DEL of `fd` with the given events and token.
pub(super) fn epoll_ctl(epoll: &OwnedFd, op: libc::c_int, fd: BorrowedFd<'_>, events: u32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: both descriptors are open, the event is alive during the call.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), op, fd.as_raw_fd(), &raw mut event) }).map(drop)
}

/// Fills `ready` with what has happened and gives the number of entries. `None` waits for ever; a signal ends the wait with 0.
pub(super) fn epoll_wait(epoll: &OwnedFd, ready: &mut [libc::epoll_event], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map_or(-1, milliseconds);
    let room = ready.len() as libc::c_int;
    // SAFETY: the kernel writes at most `room` entries into the slice.
    match check(unsafe { libc::epoll_wait(epoll.as_raw_fd(), ready.as_mut_ptr(), room, timeout) }) {
        Ok(count) => Ok(count as usize),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

/// Accepts one connection without waiting, provided that the listener does not block.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let null = std::ptr::null_mut();
    // SAFETY: null pointers say that the address is not wanted.
    let fd = check(unsafe { libc::accept4(listener.as_raw_fd(), null, null.cast(), libc::SOCK_CLOEXEC) })?;
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Receives into `buffer` without waiting.
pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes into the slice.
    check_size(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
}

/// Sends what `outgoing` has next, without waiting; gives the number of bytes taken.
pub(super) fn send(socket: &OwnedFd, outgoing: &mut Outgoing) -> io::Result<usize> {
    let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    check_size(match outgoing.single() {
        // SAFETY: the slice lies in the batch that `outgoing` owns.
        Some(slice) => unsafe { libc::send(fd, slice.iov_base, slice.iov_len, flags) },
        // SAFETY: header and slices lie in `outgoing` and in the batch that it owns.
        None => unsafe { libc::sendmsg(fd, outgoing.header(), flags) },
    })
}

/// Shuts a socket down. A peer that has closed already leaves nothing to shut, which is no error here.
pub(super) fn shutdown(socket: &OwnedFd, how: std::net::Shutdown) {
    let _ = SockRef::from(socket).shutdown(how);
}

/// Switches a descriptor's own waiting on or off.
pub(super) fn set_nonblocking(socket: &impl AsFd, nonblocking: bool) -> io::Result<()> {
    SockRef::from(socket).set_nonblocking(nonblocking)
}

/// The IP address of the other end, if it has one.
pub(super) fn peer_address(socket: &OwnedFd) -> Option<SocketAddr> {
    SockRef::from(socket).peer_addr().ok()?.as_socket()
}
