//! A bounded ring for one producer and one consumer on different cores.
//!
//! Shape: a power of two of slots, and two indices that only grow (wrapping). The producer owns `tail`, the consumer owns `head`; each stands on
//! cache lines of its own, and each side keeps a copy of the other's index that it renews only when the copy says "full" or "empty". So in a
//! batch the shared lines move between the cores once, not once per message.
//!
//! Ordering: a slot is written before `tail` is stored with Release, and read after `tail` was loaded with Acquire; the same holds for `head` on
//! the way back. Nothing else is needed, and a wake-up is somebody else's business (see [`super::park`]).
//!
//! Cost: a store to a slot and, per call, one Release store. Dropping a side publishes what it did; the last side drops what is left.

use std::mem::MaybeUninit;

use super::sync::{Arc, AtomicUsize, CachePadded, Ordering, UnsafeCell};

struct Shared<T> {
    /// The next slot to read; written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// The next slot to write; written by the producer.
    tail: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the slots are the only part that is not thread-safe by itself. Exactly one Producer and one Consumer exist (neither is Clone, both
// take `&mut self`), and the indices hand each slot from one to the other with Release and Acquire. `T: Send` because values change threads.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline(always)]
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }

    /// Puts `value` into the slot of `index`.
    ///
    /// # Safety
    /// The caller is the producer and the slot is free: `index - head < capacity`.
    #[inline(always)]
    unsafe fn write(&self, index: usize, value: T) {
        self.slot(index).with_mut(|slot| {
            // SAFETY: the slot is the producer's by the caller's promise, so nobody else reads or writes it now.
            unsafe { (*slot).write(value) };
        });
    }

    /// Moves the value out of the slot of `index`.
    ///
    /// # Safety
    /// The caller is the consumer (or the last owner), the slot is filled (`index - head < tail - head`) and is not read a second time.
    #[inline(always)]
    unsafe fn read(&self, index: usize) -> T {
        // SAFETY: filled, and the caller's alone, by the caller's promise.
        self.slot(index).with(|slot| unsafe { (*slot).assume_init_read() })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Acquire);
        let mut head = self.head.load(Ordering::Acquire);
        while head != tail {
            // SAFETY: both sides are gone and have published their indices; what stands between them is filled and was not read.
            drop(unsafe { self.read(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// The writing side of a ring.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// The consumer's index when last looked at: never ahead of the true one.
    cached_head: usize,
}

/// The reading side of a ring.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    /// The producer's index when last looked at: never ahead of the true one.
    cached_tail: usize,
}

/// Makes a ring that holds `capacity` values, rounded up to a power of two.
///
/// # Panics
/// If `capacity` is 0 or above 2^31: both are mistakes of the program, not of its input.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity > 0 && capacity <= 1 << 31, "a ring holds between 1 and 2^31 values");
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared { head: CachePadded(AtomicUsize::new(0)), tail: CachePadded(AtomicUsize::new(0)), slots });
    (Producer { shared: Arc::clone(&shared), tail: 0, cached_head: 0 }, Consumer { shared, head: 0, cached_tail: 0 })
}

impl<T> Producer<T> {
    /// Most values that the ring holds.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Free slots, at least; renews the copy of the consumer's index only when it shows fewer than `wanted`.
    #[inline]
    fn free(&mut self, wanted: usize) -> usize {
        let capacity = self.shared.slots.len();
        let free = capacity - self.tail.wrapping_sub(self.cached_head);
        if free >= wanted {
            return free;
        }
        self.cached_head = self.shared.head.load(Ordering::Acquire);
        capacity - self.tail.wrapping_sub(self.cached_head)
    }

    /// Free slots right now; the consumer can only make more of them.
    pub fn vacant(&mut self) -> usize {
        self.free(usize::MAX)
    }

    /// Appends one value, or hands it back when the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.free(1) == 0 {
            return Err(value);
        }
        // SAFETY: this is the producer, and the slot was just seen to be free.
        unsafe { self.shared.write(self.tail, value) };
        self.tail = self.tail.wrapping_add(1);
        self.publish();
        Ok(())
    }

    /// Appends values from `values` until it ends or the ring is full, and publishes them in one step. Gives the number appended; a value is
    /// taken from the iterator only when there is room for it.
    pub fn push_batch(&mut self, values: &mut impl Iterator<Item = T>) -> usize {
        let mut pushed = 0;
        while self.free(1) > 0 {
            let Some(value) = values.next() else { break };
            // SAFETY: this is the producer, and the slot was just seen to be free.
            unsafe { self.shared.write(self.tail, value) };
            self.tail = self.tail.wrapping_add(1);
            pushed += 1;
        }
        if pushed > 0 {
            self.publish();
        }
        pushed
    }

    #[inline]
    fn publish(&self) {
        self.shared.tail.store(self.tail, Ordering::Release);
    }

    /// Whether the consumer no longer exists, so that whatever is pushed stays unread.
    pub fn is_abandoned(&self) -> bool {
        Arc::strong_count(&self.shared) < 2
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        // An iterator that panics inside push_batch leaves values behind that are written but not published.
        self.publish();
    }
}

impl<T> Consumer<T> {
    /// Most values that the ring holds.
    pub fn capacity(&self) -> usize {
        self.shared.slots.len()
    }

    /// Values that wait, at least; renews the copy of the producer's index only when it shows none.
    #[inline]
    fn available(&mut self) -> usize {
        if self.cached_tail == self.head {
            self.cached_tail = self.shared.tail.load(Ordering::Acquire);
        }
        self.cached_tail.wrapping_sub(self.head)
    }

    /// Values that wait right now; the producer can only add to them.
    pub fn len(&self) -> usize {
        self.shared.tail.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Whether no value waits right now. Always looks at the producer's index, as one must before going to sleep.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.drain(1).next()
    }

    /// Takes up to `max` of the values that wait, oldest first; their slots are given back in one step when the iterator is dropped. What the
    /// caller does not take out of the iterator stays in the ring.
    #[inline]
    pub fn drain(&mut self, max: usize) -> Drain<'_, T> {
        let left = self.available().min(max);
        Drain { consumer: self, left, taken: false }
    }

    #[inline]
    fn publish(&self) {
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // A Drain that was forgotten leaves slots behind that are read but not given back.
        self.publish();
    }
}

/// The values that [`Consumer::drain`] takes out.
pub struct Drain<'a, T> {
    consumer: &'a mut Consumer<T>,
    left: usize,
    taken: bool,
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        let index = self.consumer.head;
        self.consumer.head = index.wrapping_add(1);
        self.left -= 1;
        self.taken = true;
        // SAFETY: this is the consumer, `left` counts filled slots only, and `head` has moved on, so the slot is read once.
        Some(unsafe { self.consumer.shared.read(index) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for Drain<'_, T> {}

impl<T> Drop for Drain<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.taken {
            self.consumer.publish();
        }
    }
}

#[cfg(all(test, not(loom)))]
#[path = "spsc_tests.rs"]
mod tests;

#[cfg(all(test, loom))]
#[path = "spsc_loom.rs"]
mod loom_tests;
