//! The messages of one publisher that are in flight: sent, and not yet with everybody that they are for.

/// A window over the sequence numbers of one publisher.
#[derive(Debug)]
pub struct Window {
    size: u32,
    /// Subscribers that get each message.
    fan: u32,
    /// All numbers below have arrived everywhere (or were given up).
    base: u32,
    /// Numbers below were given up: their arrival changes nothing any more.
    floor: u32,
    /// Arrivals by number, for those from `base` up, where more than one subscriber gets a message.
    arrivals: Vec<u32>,
    /// Messages acknowledged to the publisher; all of them where nothing is acknowledged.
    acknowledged: Option<u32>,
}

impl Window {
    /// `acknowledged`: whether a message also waits for its acknowledgement.
    pub fn new(size: u32, fan: u32, acknowledged: bool) -> Window {
        let places = if fan > 1 { size.next_power_of_two() as usize } else { 0 };
        Window { size, fan, base: 0, floor: 0, arrivals: vec![0; places], acknowledged: acknowledged.then_some(0) }
    }

    /// One subscriber has got a message that it had not got before.
    #[inline]
    pub fn delivered(&mut self, number: u32) {
        if number < self.floor {
            return;
        }
        if self.fan == 1 {
            self.base += 1;
            return;
        }
        let mask = self.arrivals.len() - 1;
        let arrivals = &mut self.arrivals[number as usize & mask];
        *arrivals += 1;
        while self.arrivals[self.base as usize & mask] >= self.fan {
            self.arrivals[self.base as usize & mask] = 0;
            self.base += 1;
        }
    }

    /// The publisher has got the acknowledgement of `count` more messages.
    #[inline]
    pub fn acknowledge(&mut self, count: u32) {
        if let Some(acknowledged) = &mut self.acknowledged {
            *acknowledged += count;
        }
    }

    /// Messages that may be sent now, of a publisher that has sent `sent`.
    #[inline]
    pub fn room(&self, sent: u32) -> u32 {
        let delivered = if self.fan == 0 { sent } else { self.base };
        let done = delivered.min(self.acknowledged.unwrap_or(sent));
        self.size - sent.wrapping_sub(done).min(self.size)
    }

    /// Whether so much of the window is free that it is worth a write.
    #[inline]
    pub fn worth_a_write(&self, sent: u32) -> bool {
        self.room(sent) >= self.size.div_ceil(2)
    }

    /// Holds at most `most` messages from now on.
    pub fn shrink(&mut self, most: u32) {
        self.size = self.size.min(most);
    }

    /// No longer waits for anything that was sent until now.
    pub fn give_up(&mut self, sent: u32) {
        self.base = sent;
        self.floor = sent;
        self.arrivals.fill(0);
        self.acknowledged = self.acknowledged.map(|_| sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_flight_until_the_last_subscriber_has_it() {
        let mut window = Window::new(4, 2, false);
        assert_eq!(window.room(4), 0);
        window.delivered(1);
        window.delivered(1);
        window.delivered(0);
        assert_eq!(window.room(4), 0);
        window.delivered(0);
        assert_eq!(window.room(4), 2);
        assert!(window.worth_a_write(4));
    }

    #[test]
    fn an_acknowledged_message_is_in_flight_until_both_ends_know() {
        let mut window = Window::new(4, 1, true);
        window.delivered(0);
        assert_eq!(window.room(4), 0);
        window.acknowledge(1);
        assert_eq!(window.room(4), 1);
        let mut nobody = Window::new(4, 0, true);
        nobody.acknowledge(3);
        assert_eq!(nobody.room(4), 3);
    }

    #[test]
    fn what_was_given_up_and_comes_late_frees_nothing() {
        let mut window = Window::new(2, 1, false);
        assert_eq!(window.room(2), 0);
        window.give_up(2);
        assert_eq!(window.room(2), 2);
        window.delivered(0);
        assert_eq!(window.room(4), 0);
    }
}
