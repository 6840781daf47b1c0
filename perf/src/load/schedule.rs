//! The open loop's timetable: message k is due at start + k / rate, whether or not the ones before have been answered.

pub struct Schedule {
    /// Nanoseconds between two messages.
    interval: f64,
    start: u64,
    sent: u64,
}

impl Schedule {
    /// `rate` in messages per second.
    pub fn new(rate: f64) -> Schedule {
        Schedule { interval: 1e9 / rate.max(1e-3), start: 0, sent: 0 }
    }

    /// The first message is due at `now`.
    pub fn start(&mut self, now: u64) {
        self.start = now;
        self.sent = 0;
    }

    /// Messages taken so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// When the next message is due, in nanoseconds.
    pub fn next_due(&self) -> u64 {
        self.start + (self.sent as f64 * self.interval) as u64
    }

    /// The time of the next message, if that has come.
    pub fn take_due(&mut self, now: u64) -> Option<u64> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        self.sent += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_keeps_the_time_at_which_it_was_due() {
        let mut schedule = Schedule::new(1_000.0);
        schedule.start(5);
        assert_eq!(schedule.take_due(5), Some(5));
        assert_eq!(schedule.take_due(5), None);
        assert_eq!(schedule.take_due(2_000_005), Some(1_000_005));
        assert_eq!(schedule.take_due(2_000_005), Some(2_000_005));
        assert_eq!(schedule.take_due(2_000_005), None);
        assert_eq!((schedule.sent(), schedule.next_due()), (3, 3_000_005));
    }
}
