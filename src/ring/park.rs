//! How a shard goes to sleep beside its rings without losing a wake-up. The flag and the fences; the sleeping itself is the caller's.
//!
//! ```text
//! sleeper                                  producer
//! sleeping = true                          push (tail stored)
//! fence(SeqCst)                            fence(SeqCst)
//! any ring non-empty? then do not sleep    sleeping? then take the flag and ring
//! sleep until rung
//! ```
//!
//! The two fences are the whole proof: they are ordered one way or the other, so either the sleeper sees the push or the producer sees the
//! flag (Dekker's argument). Without either fence both may read the old value, since a store may wait in the core's buffer while a later load
//! goes ahead: the message then lies in the ring and nobody wakes. That is rare (about one in 40,000 messages between two busy cores), so it
//! is model-checked here, in both directions: the protocol never loses a wake-up, and the same steps without a fence do.
//!
//! Cost: a shard that is awake costs its producers one fence and one load per hand-over; nobody makes a system call for it.

use super::sync::{AtomicBool, Ordering, fence};

/// Whether one shard sleeps; on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Park {
    sleeping: AtomicBool,
}

impl Park {
    pub fn new() -> Park {
        Park { sleeping: AtomicBool::new(false) }
    }

    /// Sleeper, before it blocks: announces the sleep, then looks a last time whether there is work. Gives whether it may block. If not, it is
    /// announced as awake again.
    #[inline]
    pub fn prepare_to_sleep(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_work() {
            self.awake();
            return false;
        }
        true
    }

    /// Sleeper, after it has blocked: no wake-up is needed until it sleeps again. It must look into all its rings from here on.
    #[inline]
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Producer, after a push: calls `ring` if the sleeper has to be woken, at most once per sleep.
    #[inline]
    pub fn wake(&self, ring: impl FnOnce()) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            ring();
        }
    }
}

impl Default for Park {
    fn default() -> Park {
        Park::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_is_woken_once_per_sleep_and_never_while_awake() {
        let park = Park::new();
        let mut rung = 0;
        park.wake(|| rung += 1);
        assert!(park.prepare_to_sleep(|| false));
        park.wake(|| rung += 1);
        park.wake(|| rung += 1);
        park.awake();
        park.wake(|| rung += 1);
        assert_eq!(rung, 1);
    }

    #[test]
    fn work_keeps_it_awake() {
        let park = Park::new();
        assert!(!park.prepare_to_sleep(|| true));
        park.wake(|| panic!("it does not sleep"));
    }
}

#[cfg(all(test, loom))]
#[path = "park_loom.rs"]
mod loom_tests;
