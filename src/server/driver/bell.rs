//! The bell of a shard: how other threads wake it when it sleeps in its driver, and where they send it sockets.
//!
//! Shape: the flag of [`Park`] and an eventfd that the shard's driver polls. The eventfd is never read: the driver sees each ring as an edge,
//! and the counter would need centuries to fill up. A shard that is awake is never rung, so a busy shard costs its peers no system call.
//!
//! Order matters on both sides. A producer pushes first and rings after, at most once per turn and target. The shard asks
//! [`Bell::prepare_to_sleep`] with a look at all its inbound rings, blocks only if that says so, and drains all its rings after each turn,
//! rung or not. The driver itself calls [`Bell::awake`] as soon as its system call returns.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use super::sys;
use crate::ring::Park;

/// Wakes one shard; shared by reference between that shard and everybody who hands it messages.
#[derive(Debug)]
pub struct Bell {
    park: Park,
    event: File,
    /// The shard's ring, where it has a file table that other rings send sockets to.
    table: OnceLock<OwnedFd>,
}

impl Bell {
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell { park: Park::new(), event: File::from(sys::event_fd()?), table: OnceLock::new() })
    }

    /// Shard, at its start: sockets may be sent to the file table of this ring, the shard's own.
    pub(super) fn take_sockets_at(&self, ring: OwnedFd) {
        // A shard has one driver for life.
        let _ = self.table.set(ring);
    }

    /// Any shard: the ring to send sockets to; -1, which the kernel refuses, if there is none.
    pub(super) fn table(&self) -> RawFd {
        self.table.get().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Shard, before a turn that may block: whether it may. `any_inbound` must look at every ring from other threads.
    #[inline]
    pub fn prepare_to_sleep(&self, any_inbound: impl FnOnce() -> bool) -> bool {
        self.park.prepare_to_sleep(any_inbound)
    }

    /// Shard, after it has blocked: needs no waking.
    #[inline]
    pub fn awake(&self) {
        self.park.awake();
    }

    /// Any other thread, after it has pushed: wakes the shard if it sleeps.
    #[inline]
    pub fn ring(&self) {
        self.park.wake(|| self.strike());
    }

    /// The only error that an eventfd can give here is a full counter, and then it is readable already, which is all that is wanted.
    #[cold]
    fn strike(&self) {
        let _ = (&self.event).write(&1_u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::ring::{Ports, mesh};
    use crate::server::driver::sys::poll_readable;

    const MESSAGES: u64 = 40_000;
    const LOST: Duration = Duration::from_secs(10);

    /// One of two shards: sends a message whenever it has received one, with random spins between all steps, and sleeps on its bell when there
    /// is nothing to read. The eventfd is read here so that it can be polled by level.
    fn bounce(mut ports: Ports<u64>, me: usize, bells: [Arc<Bell>; 2], mut next: u64) {
        let peer = 1 - me;
        let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ me as u64;
        let mut spin = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (0..(random >> 33) % 64).for_each(|_| std::hint::spin_loop());
        };
        while next < MESSAGES {
            if next % 2 == me as u64 {
                ports.outbound[peer].as_mut().expect("a peer").push(next).expect("one message is under way at a time");
                spin();
                bells[peer].ring();
                next += 1;
                continue;
            }
            if let Some(message) = ports.inbound[peer].as_mut().expect("a peer").pop() {
                assert_eq!(message, next);
                next += 1;
                continue;
            }
            spin();
            if bells[me].prepare_to_sleep(|| ports.any_inbound()) {
                assert!(poll_readable(bells[me].as_fd(), LOST).expect("poll"), "the wake-up of message {next} is lost");
                let _ = std::io::Read::read(&mut &bells[me].event, &mut [0; 8]);
                bells[me].awake();
            }
        }
    }

    #[test]
    fn two_shards_wake_each_other_for_every_message() {
        let bells = [Arc::new(Bell::new().expect("bell")), Arc::new(Bell::new().expect("bell"))];
        let mut ports = mesh::<u64>(2, 4);
        let (second, first) = (ports.pop().expect("two"), ports.pop().expect("two"));
        let others = bells.clone();
        let thread = std::thread::spawn(move || bounce(second, 1, others, 0));
        bounce(first, 0, bells, 0);
        thread.join().expect("the other shard ends");
    }
}
