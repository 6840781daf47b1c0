//! A moment in UTC, taken apart for people: enough of strftime(3) to write a date and a time.

use std::time::SystemTime;

/// Date and time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clock {
    seconds: i64,
    nanos: u32,
    year: i64,
    /// 1 to 12.
    month: u32,
    /// 1 to 31.
    day: u32,
}

impl Clock {
    /// The moment `now`; moments before 1970 count as 1970.
    pub(super) fn at(now: SystemTime) -> Clock {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        Clock { seconds, nanos: since.subsec_nanos(), year, month, day }
    }

    /// `2016-08-10T09:47:38+0000`
    pub(super) fn iso8601(&self) -> String {
        format!("{}T{}+0000", self.date(), self.time())
    }

    /// `2016-08-10T09:47:38.123456+0000`
    pub(super) fn iso8601_micros(&self) -> String {
        format!("{}T{}.{:06}+0000", self.date(), self.time(), self.nanos / 1_000)
    }

    /// `1470818943.786368637`
    pub(super) fn unix(&self) -> String {
        format!("{}.{:09}", self.seconds, self.nanos)
    }

    /// What strftime(3) writes for `%` and `letter`, or the nanoseconds for `N`; `None` for letters that are not supported.
    pub(super) fn strftime(&self, letter: u8) -> Option<String> {
        let (hour, minute, second) = self.time_of_day();
        Some(match letter {
            b'Y' => self.year.to_string(),
            b'y' => format!("{:02}", self.year % 100),
            b'm' => format!("{:02}", self.month),
            b'd' => format!("{:02}", self.day),
            b'e' => format!("{:2}", self.day),
            b'F' => self.date(),
            b'H' => format!("{hour:02}"),
            b'M' => format!("{minute:02}"),
            b'S' => format!("{second:02}"),
            b'T' => self.time(),
            b'R' => format!("{hour:02}:{minute:02}"),
            b's' => self.seconds.to_string(),
            b'N' => format!("{:09}", self.nanos),
            b'z' => "+0000".to_owned(),
            b'Z' => "UTC".to_owned(),
            _ => return None,
        })
    }

    fn time_of_day(&self) -> (i64, i64, i64) {
        let second = self.seconds.rem_euclid(86_400);
        (second / 3600, second / 60 % 60, second % 60)
    }

    fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn time(&self) -> String {
        let (hour, minute, second) = self.time_of_day();
        format!("{hour:02}:{minute:02}:{second:02}")
    }
}

/// Year, month and day of a day counted from 1970-01-01. Counts in years that begin in March, so that the leap day comes last, and in eras of
/// 400 years, which all have the same length.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Clock {
        Clock::at(SystemTime::UNIX_EPOCH + Duration::new(seconds, 5_000))
    }

    #[test]
    fn dates_agree_with_date_1() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00+0000"),
            (951_782_399, "2000-02-28T23:59:59+0000"),
            (951_782_400, "2000-02-29T00:00:00+0000"),
            (951_868_800, "2000-03-01T00:00:00+0000"),
            (1_470_818_858, "2016-08-10T08:47:38+0000"),
            (1_735_689_599, "2024-12-31T23:59:59+0000"),
            (4_107_542_400, "2100-03-01T00:00:00+0000"),
        ] {
            assert_eq!(at(seconds).iso8601(), date);
        }
    }

    #[test]
    fn parts_are_written_as_strftime_does() {
        let clock = at(1_470_818_858);
        for (letter, text) in [
            (b'Y', "2016"),
            (b'y', "16"),
            (b'm', "08"),
            (b'd', "10"),
            (b'H', "08"),
            (b'M', "47"),
            (b'S', "38"),
            (b'F', "2016-08-10"),
            (b'T', "08:47:38"),
            (b'R', "08:47"),
            (b's', "1470818858"),
            (b'N', "000005000"),
            (b'z', "+0000"),
            (b'Z', "UTC"),
        ] {
            assert_eq!(clock.strftime(letter).as_deref(), Some(text));
        }
        assert_eq!(clock.strftime(b'?'), None);
        assert_eq!((clock.unix().as_str(), clock.iso8601_micros().as_str()), ("1470818858.000005000", "2016-08-10T08:47:38.000005+0000"));
    }
}
