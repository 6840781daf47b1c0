//! The timers of a shard: keep-alive, CONNECT time-out, session expiry, will delay. A hierarchical timer wheel.
//!
//! Time is cut into ticks of [`TICK_MS`]. Level 0 has a slot per tick, level 1 one per 64 ticks, and so on; ten levels hold every u64 of
//! milliseconds. A timer stands in the slot of the highest 6-bit digit in which its tick differs from the present one, and moves down when
//! the present enters that slot: at most nine times in its life. One bit per slot says whether it is used, so a jump over years looks at
//! ten words and not at the ticks between.
//!
//! Scheduling and cancelling are O(1): timers stand in one slab and are linked both ways. A timer costs 16 bytes and its key (24 with a
//! u32) plus the slab's free room, which is used again and not given back. Nothing else allocates.
//!
//! A timer never fires early; it is handed out by the first [`Wheel::pop`] that is called one tick after its deadline or later. A deadline of
//! `u64::MAX` means never.

/// Milliseconds that a timer may be late, beyond the lateness of the call.
pub const TICK_MS: u64 = 64;

/// Bits of a digit: slots per level, as a power of two.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// `u64::MAX` milliseconds are 2^58 ticks: 59 bits.
const LEVELS: usize = 10;
/// The list of timers that are due, beside the slots.
const DUE: u32 = (LEVELS * SLOTS) as u32;

const NONE: u32 = u32::MAX;
/// Marks a `previous` that names a list and not a timer: this one is its first.
const LIST: u32 = 1 << 31;

/// A scheduled timer. Still safe to use, and then without effect, once it has fired or been cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

struct Timer<K> {
    /// The tick at which it is due.
    tick: u64,
    /// The next of its list, or of the free ones.
    next: u32,
    /// The previous of its list, or [`LIST`] and the list; [`NONE`] if free.
    previous: u32,
    /// How often this place of the slab has been used before.
    generation: u32,
    key: K,
}

const _: () = assert!(size_of::<Timer<u32>>() == 24);

/// Timers that carry a key each.
pub struct Wheel<K> {
    timers: Vec<Timer<K>>,
    free: u32,
    len: usize,
    /// The tick up to which everything due has been put into the list [`DUE`].
    present: u64,
    /// The tick of the latest call of [`Wheel::pop`]; the present follows it as what is due is handed out.
    latest: u64,
    /// The first timer of every slot, and of [`DUE`].
    lists: Vec<u32>,
    /// The used slots of every level.
    used: [u64; LEVELS],
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel whose present is `now_ms`.
    pub fn new(now_ms: u64) -> Wheel<K> {
        Wheel {
            timers: Vec::new(),
            free: NONE,
            len: 0,
            present: now_ms / TICK_MS,
            latest: now_ms / TICK_MS,
            lists: vec![NONE; DUE as usize + 1],
            used: [0; LEVELS],
        }
    }

    /// Timers that are scheduled.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Schedules a timer. A deadline that has passed is due with the next tick after the latest [`Wheel::pop`]: who schedules while
    /// handling what that returned comes to an end.
    pub fn schedule(&mut self, deadline_ms: u64, key: K) -> TimerId {
        let tick = deadline_ms.div_ceil(TICK_MS).max(self.latest + 1);
        let index = self.free;
        let index = match self.timers.get_mut(index as usize) {
            Some(timer) => {
                self.free = timer.next;
                timer.tick = tick;
                timer.key = key;
                index
            }
            None => {
                self.timers.push(Timer { tick, next: NONE, previous: NONE, generation: 0, key });
                self.timers.len() as u32 - 1
            }
        };
        self.len += 1;
        self.place(index);
        TimerId { index, generation: self.timers[index as usize].generation }
    }

    /// Cancels a timer; false if it has fired or been cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let valid = self.timers.get(id.index as usize).is_some_and(|t| t.generation == id.generation && t.previous != NONE);
        if valid {
            self.unlink(id.index);
            self.release(id.index);
        }
        valid
    }

    /// Takes out one timer that is due at `now_ms`; call it until it returns `None`. Timers that are due in different ticks come in order.
    pub fn pop(&mut self, now_ms: u64) -> Option<K> {
        self.latest = self.latest.max(now_ms / TICK_MS);
        loop {
            let due = self.lists[DUE as usize];
            if due != NONE {
                self.unlink(due);
                self.release(due);
                return Some(self.timers[due as usize].key);
            }
            match self.next_slot() {
                Some((tick, slot)) if tick <= self.latest => self.enter(tick, slot),
                _ => {
                    self.present = self.latest;
                    return None;
                }
            }
        }
    }

    /// When [`Wheel::pop`] should be called next, in milliseconds: never later than a tick after the first deadline, perhaps earlier, but
    /// every call then comes nearer to it. `None` if nothing is scheduled.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.lists[DUE as usize] != NONE {
            return Some(self.present.saturating_mul(TICK_MS));
        }
        self.next_slot().map(|(tick, _)| tick.saturating_mul(TICK_MS))
    }

    /// The first used slot and the tick at which it begins. A lower level's slots all come before a higher level's.
    fn next_slot(&self) -> Option<(u64, u32)> {
        let level = self.used.iter().position(|&used| used != 0)?;
        let slot = self.used[level].trailing_zeros();
        let shift = level as u32 * DIGIT_BITS;
        let above = self.present >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        Some((above | u64::from(slot) << shift, level as u32 * SLOTS as u32 + slot))
    }

    /// Makes `tick` the present and distributes the slot that begins there.
    fn enter(&mut self, tick: u64, slot: u32) {
        self.present = tick;
        while self.lists[slot as usize] != NONE {
            let index = self.lists[slot as usize];
            self.unlink(index);
            self.place(index);
        }
    }

    /// Links a timer into the list in which it belongs at present.
    fn place(&mut self, index: u32) {
        let tick = self.timers[index as usize].tick;
        let differs = tick ^ self.present;
        let list = if differs == 0 {
            DUE
        } else {
            let level = differs.ilog2() / DIGIT_BITS;
            let slot = (tick >> (level * DIGIT_BITS)) as usize % SLOTS;
            self.used[level as usize] |= 1 << slot;
            level * SLOTS as u32 + slot as u32
        };
        let first = std::mem::replace(&mut self.lists[list as usize], index);
        if let Some(first) = self.timers.get_mut(first as usize) {
            first.previous = index;
        }
        let timer = &mut self.timers[index as usize];
        timer.next = first;
        timer.previous = LIST | list;
    }

    /// Takes a timer out of its list.
    fn unlink(&mut self, index: u32) {
        let Timer { next, previous, .. } = self.timers[index as usize];
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.previous = previous;
        }
        if previous & LIST == 0 {
            self.timers[previous as usize].next = next;
            return;
        }
        let list = previous & !LIST;
        self.lists[list as usize] = next;
        if next == NONE && list != DUE {
            self.used[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
        }
    }

    /// Makes the place of an unlinked timer free.
    fn release(&mut self, index: u32) {
        let timer = &mut self.timers[index as usize];
        timer.previous = NONE;
        timer.generation = timer.generation.wrapping_add(1);
        timer.next = std::mem::replace(&mut self.free, index);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests;
