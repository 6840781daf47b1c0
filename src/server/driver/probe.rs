//! Whether this system lets us use io_uring, and if not, why and what helps: one line for the log.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::uring::try_ring;
use super::{Bell, ConnId, DirectDescriptor, Driver, EndCause, Events, Options, ReadMore, Socket, UringDriver, Wait};
use crate::broker::outbox::OutBatch;

/// Why io_uring cannot be used.
#[derive(Debug)]
pub struct Unavailable {
    reason: &'static str,
    error: io::Error,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "io_uring is not available: {} ({})", self.reason, self.error)
    }
}

impl std::error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Unavailable {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        Unavailable { reason: reason(error.raw_os_error(), disabled.trim()), error }
    }
}

/// The sentence for an errno, knowing the sysctl `kernel.io_uring_disabled` (empty where it does not exist).
fn reason(errno: Option<i32>, disabled: &str) -> &'static str {
    match (errno, disabled) {
        (Some(libc::EPERM), "1") => {
            "only members of kernel.io_uring_group may use it; join that group or set sysctl kernel.io_uring_disabled=0"
        }
        (Some(libc::EPERM), "2") => "it is switched off; set sysctl kernel.io_uring_disabled=0",
        (Some(libc::EPERM | libc::EACCES | libc::ENOSYS), _) => {
            "the container's seccomp profile forbids it, or the kernel has none; allow the io_uring_* system calls (Docker: --security-opt seccomp=<profile>)"
        }
        (Some(libc::EINVAL), _) => "the kernel is too old; it takes Linux 6.1 or newer",
        (Some(libc::ENOMEM), _) => "no locked memory is left for its queues; raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)",
        (Some(libc::EMFILE | libc::ENFILE), _) => "no file descriptor is left; raise RLIMIT_NOFILE (systemd: LimitNOFILE=)",
        _ => "the system refused to set it up",
    }
}

/// Tries to set up a small ring as a shard would, and gives it back.
///
/// # Errors
/// io_uring cannot be used; printing the error says why and what helps.
pub fn probe() -> Result<(), Unavailable> {
    try_ring(&small()).map_err(Unavailable::from)
}

fn small() -> Options {
    Options { submission_entries: 8, completion_entries: 16, receive_buffers: 4, receive_buffer_bytes: 4_096, ..Options::default() }
}

/// Tries to send a socket from the file table of one ring to that of another, which is what [`Options::direct_descriptors`] take.
///
/// # Errors
/// The kernel cannot do it, or io_uring cannot be used at all.
pub fn probe_direct_descriptors() -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_millis(100);
    let options = Options { direct_descriptors: 4, ..small() };
    let bells = [Arc::new(Bell::new()?), Arc::new(Bell::new()?)];
    let mut from = UringDriver::new(&options, Arc::clone(&bells[0]))?;
    let mut to = UringDriver::new(&options, Arc::clone(&bells[1]))?;
    let (other, socket) = UnixStream::pair()?;
    // So that a kernel that does not tell where the socket has gone, but always says 0, is found out.
    to.adopt(other.into(), 0)?;
    let conn = ConnId { slot: 0, generation: 0 };
    let socket = from.adopt(socket.into(), 0)?;
    from.attach(conn, socket)?;
    from.detach(conn, &bells[1]);
    let mut outcome = Outcome(None);
    for _ in 0..10 {
        from.turn(Wait::For(PATIENCE), &mut outcome)?;
        if let Some(outcome) = outcome.0.take() {
            return outcome;
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// What has become of the one socket of a trial.
struct Outcome(Option<io::Result<()>>);

impl Events for Outcome {
    fn accepted(&mut self, _listener: u32, _socket: Socket, _peer: Option<SocketAddr>) {}

    fn accept_failed(&mut self, _listener: u32, _error: io::Error) {}

    fn received(&mut self, _conn: ConnId, _bytes: &[u8]) -> ReadMore {
        ReadMore::Continue
    }

    fn ended(&mut self, _conn: ConnId, cause: EndCause) {
        self.0 = Some(Err(match cause {
            EndCause::Eof => io::ErrorKind::UnexpectedEof.into(),
            EndCause::Error(error) => error,
        }));
    }

    fn sent(&mut self, _conn: ConnId, _batch: OutBatch, _result: io::Result<()>) {}

    fn detached(&mut self, _conn: ConnId, socket: Socket) {
        let known = matches!(socket, Socket::Direct(DirectDescriptor { index: 1.., .. }));
        self.0 = Some(if known { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) });
    }

    fn closed(&mut self, _conn: ConnId) {}

    fn rung(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_remedy() {
        for (errno, disabled, remedy) in [
            (libc::EPERM, "2", "io_uring_disabled=0"),
            (libc::EPERM, "1", "io_uring_group"),
            (libc::EPERM, "0", "seccomp"),
            (libc::ENOSYS, "", "seccomp"),
            (libc::EINVAL, "0", "6.1"),
            (libc::ENOMEM, "0", "MEMLOCK"),
            (libc::EMFILE, "0", "NOFILE"),
        ] {
            assert!(reason(Some(errno), disabled).contains(remedy), "errno {errno}, sysctl {disabled}");
        }
        let line = Unavailable { reason: reason(Some(libc::EINVAL), ""), error: io::Error::from_raw_os_error(libc::EINVAL) }.to_string();
        assert!(!line.contains('\n') && line.starts_with("io_uring is not available"));
    }
}
