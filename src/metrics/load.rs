//! Moving averages of a counter's growth as Mosquitto publishes them below `$SYS/broker/load`: events per minute, over 1, 5 and 15 minutes.

use std::time::Duration;

/// Time constants in seconds.
const WINDOWS_S: [f64; 3] = [60.0, 300.0, 900.0];

/// The averages of one counter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadAverage {
    last: u64,
    per_minute: [f64; 3],
}

impl LoadAverage {
    /// Takes in the counter's value `elapsed` after the value before: the rate over that time replaces a share of the average that grows with
    /// the time, `1 - exp(-elapsed / window)`.
    pub fn update(&mut self, counter: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let rate = counter.saturating_sub(self.last) as f64 * 60.0 / seconds;
        self.last = counter;
        for (average, window) in self.per_minute.iter_mut().zip(WINDOWS_S) {
            *average = rate + (-seconds / window).exp() * (*average - rate);
        }
    }

    /// Events per minute over the last 1, 5 and 15 minutes.
    pub fn per_minute(&self) -> [f64; 3] {
        self.per_minute
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(load: &LoadAverage) -> [String; 3] {
        load.per_minute().map(|average| format!("{average:.2}"))
    }

    #[test]
    fn averages_follow_mosquittos_formula() {
        // Mosquitto 2.0 with sys_interval 1 shows 1.97, 0.40 and 0.13 two seconds after two connections were made in one go.
        let mut load = LoadAverage::default();
        load.update(2, Duration::from_secs(2));
        assert_eq!(shown(&load), ["1.97", "0.40", "0.13"]);
        load.update(2, Duration::from_secs(2));
        assert_eq!(shown(&load), ["1.90", "0.40", "0.13"]);
    }

    #[test]
    fn a_steady_rate_is_reached_whatever_the_interval() {
        let mut load = LoadAverage::default();
        (1..=3600).for_each(|second| load.update(second * 10, Duration::from_secs(1)));
        let [one, five, fifteen] = load.per_minute();
        assert!((one - 600.0).abs() < 0.01 && (five - 600.0).abs() < 0.1 && (fifteen - 600.0).abs() < 12.0, "{:?}", load.per_minute());
    }

    #[test]
    fn no_time_and_a_counter_that_shrinks_change_nothing_for_the_worse() {
        let mut load = LoadAverage::default();
        load.update(100, Duration::ZERO);
        assert_eq!(load, LoadAverage::default());
        load.update(100, Duration::from_secs(1));
        load.update(50, Duration::from_secs(1));
        assert!(load.per_minute().iter().all(|average| average.is_finite() && *average >= 0.0));
    }
}
