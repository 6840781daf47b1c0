//! The rate at which a client may send: what it sends beyond it is read later, so that TCP slows the client down.
//!
//! A bucket is the time until which everything received is paid for, at so much a second; it may lie a second behind the present (that is the
//! burst), and when it lies ahead, nothing is read until the present has caught up. What one read brings is always taken whole: the overshoot is
//! one receive buffer, and it is paid for.

use super::connection::State;
use super::ids::ConnId;
use super::shard::Shard;
use super::timers::TimerKey;
use crate::config::Limits;
use crate::metrics::RefuseReason;

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// What one client has sent lately.
#[derive(Debug, Default)]
pub struct Rate {
    publishes: Bucket,
    bytes: Bucket,
}

/// Until when everything is paid for, ns of the shard's clock plus one second (so that the beginning of time has its burst, too).
#[derive(Debug, Default)]
struct Bucket(u64);

impl Bucket {
    /// Adds `amount` and gives how long to wait, ns.
    fn charge(&mut self, now_ms: u64, amount: u64, per_second: u32) -> u64 {
        if per_second == 0 {
            return 0;
        }
        let now = now_ms.saturating_mul(NS_PER_MS);
        let cost = amount.saturating_mul(NS_PER_S) / u64::from(per_second);
        self.0 = self.0.max(now).saturating_add(cost);
        self.0.saturating_sub(now + NS_PER_S)
    }
}

impl Rate {
    /// Adds what was received and gives how long not to read, ms.
    fn charge(&mut self, now_ms: u64, limits: &Limits, publishes: u64, bytes: u64) -> u64 {
        let publishes = self.publishes.charge(now_ms, publishes, limits.max_publish_per_second);
        let bytes = self.bytes.charge(now_ms, bytes, limits.max_publish_bytes_per_second);
        publishes.max(bytes).div_ceil(NS_PER_MS)
    }
}

impl Shard {
    /// PUBLISH packets received so far, where that matters: to be handed to [`Shard::charge_rate`] after more was received.
    #[inline]
    pub(super) fn publishes_so_far(&self) -> Option<u64> {
        let limited = self.limits.max_publish_per_second | self.limits.max_publish_bytes_per_second != 0;
        limited.then(|| self.counters.publishes_received.iter().sum())
    }

    /// Counts what a client sent, and stops to read from it if that was too much.
    #[inline]
    pub(super) fn charge_rate(&mut self, id: ConnId, publishes_before: Option<u64>, bytes: usize) {
        if let Some(before) = publishes_before {
            let publishes = self.counters.publishes_received.iter().sum::<u64>() - before;
            self.charge_limited(id, publishes, bytes as u64);
        }
    }

    fn charge_limited(&mut self, id: ConnId, publishes: u64, bytes: u64) {
        let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.state == State::Connected) else { return };
        let wait_ms = conn.rate.get_or_insert_default().charge(self.now, &self.limits, publishes, bytes);
        if wait_ms == 0 || conn.paused.by_rate {
            return;
        }
        conn.paused.by_rate = true;
        let session = conn.session;
        self.refuse_for(session, RefuseReason::PublishRate);
        self.wheel.schedule(self.now + wait_ms, TimerKey::Rate(id));
    }

    /// The time to wait is over, unless bytes that were under way came meanwhile.
    pub(super) fn on_rate_timer(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get_mut(id) else { return };
        let wait_ms = conn.rate.as_mut().map_or(0, |rate| rate.charge(self.now, &self.limits, 0, 0));
        if wait_ms > 0 {
            self.wheel.schedule(self.now + wait_ms, TimerKey::Rate(id));
            return;
        }
        conn.paused.by_rate = false;
        self.read_again(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_the_rate_holds() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.charge(0, 10, 10), 0);
        assert_eq!(bucket.charge(0, 1, 10), NS_PER_S / 10);
        assert_eq!(bucket.charge(100, 0, 10), 0);
        assert_eq!(bucket.charge(100, 5, 10), NS_PER_S / 2);
    }

    #[test]
    fn rest_earns_one_second_and_no_more() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.charge(1_000_000, 10, 10), 0);
        assert_eq!(bucket.charge(1_000_000, 10, 10), NS_PER_S);
    }

    #[test]
    fn over_a_long_time_the_rate_is_met_exactly() {
        let mut bucket = Bucket::default();
        let (mut now, mut taken) = (0, 0);
        while now < 100_000 {
            taken += 7;
            now += bucket.charge(now, 7, 1_000).div_ceil(NS_PER_MS);
        }
        assert!((100_900..=101_100).contains(&taken), "{taken}");
    }

    #[test]
    fn nothing_overflows_and_no_limit_is_no_wait() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.charge(0, u64::MAX, 0), 0);
        assert!(bucket.charge(0, u64::MAX, 1) > 0);
        assert!(bucket.charge(u64::MAX / NS_PER_MS - 2_000, u64::MAX, 1) > 0);
    }
}
