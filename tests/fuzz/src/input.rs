//! Fuzzer bytes as decisions. An input that has come to its end answers every question with the first possibility.

use arbitrary::Unstructured;
use ringmq::mqtt::{QoS, Version};

/// Levels of topics and filters: few, so that they meet; some that are special to the standard or to a table.
const LEVELS: [&str; 8] = ["a", "b", "c", "", "$s", "ä€", "a level too long to be held inline", "$SYS"];

/// A source of decisions.
pub struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Input<'a> {
        Input(Unstructured::new(data))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.int_in_range(0..=end.max(1) - 1).unwrap_or(0)
    }

    pub fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or(0)
    }

    pub fn u32(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or(0)
    }

    /// True for one byte value in `of`.
    pub fn one_in(&mut self, of: u8) -> bool {
        self.byte() % of == of - 1
    }

    pub fn flag(&mut self) -> bool {
        self.one_in(2)
    }

    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// `None` half the time.
    pub fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }

    /// Up to `most` of the bytes that follow.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let length = self.below(most + 1).min(self.0.len());
        self.0.bytes(length).unwrap_or(&[])
    }

    pub fn version(&mut self) -> Version {
        self.choose(&[Version::V5, Version::V311, Version::V31])
    }

    pub fn qos(&mut self) -> QoS {
        self.choose(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }

    /// Text without control characters, so that it may name a client or a topic.
    pub fn text(&mut self, most: usize) -> String {
        String::from_utf8_lossy(self.bytes(most)).replace(char::is_control, "_")
    }

    /// A valid topic name of at most `levels` levels.
    pub fn topic(&mut self, levels: usize) -> String {
        let levels: Vec<&str> = (0..=self.below(levels)).map(|_| self.choose(&LEVELS)).collect();
        Some(levels.join("/")).filter(|topic| !topic.is_empty()).unwrap_or_else(|| "/".into())
    }

    /// A valid topic filter of at most `levels` levels.
    pub fn filter(&mut self, levels: usize) -> String {
        let count = self.below(levels) + 1;
        let mut filter: Vec<&str> = (0..count).map(|_| if self.one_in(3) { "+" } else { self.choose(&LEVELS) }).collect();
        if self.one_in(4) {
            filter[count - 1] = "#";
        }
        Some(filter.join("/")).filter(|filter| !filter.is_empty()).unwrap_or_else(|| "/".into())
    }
}
