//! Topic names and topic filters (section 4.7), and shared subscriptions (5.0 section 4.8): valid once constructed.
//!
//! [`TopicFilter::matches`] is the naive matcher, linear in the length of both, and the reference for the topic trie. Nothing here
//! recurses, whatever the depth. Levels are compared byte by byte: topics are case-sensitive and never normalised. [MQTT-4.7.3-4]

use super::wire::{MAX_FIELD_BYTES, has_any, has_control};
use std::fmt;

/// Why a text is no topic name, topic filter or shared subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    Empty,
    /// Over 65,535 bytes.
    TooLong,
    /// U+0000 or another control character inside.
    Control,
    /// A wildcard in a topic name.
    WildcardInName,
    /// `#` or `+` that shares its level with other characters, or `#` before the last level.
    MisplacedWildcard,
    /// `$share` without a group, or with one that holds a wildcard.
    ShareName,
    /// `$share/group` without a filter.
    ShareFilter,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TopicError::Empty => "topic is empty",
            TopicError::TooLong => "topic is longer than 65535 bytes",
            TopicError::Control => "topic contains a control character",
            TopicError::WildcardInName => "topic name contains a wildcard",
            TopicError::MisplacedWildcard => "wildcard does not fill its level, or # is not the last level",
            TopicError::ShareName => "shared subscription has an empty group or a wildcard in it",
            TopicError::ShareFilter => "shared subscription has no topic filter",
        })
    }
}

impl std::error::Error for TopicError {}

/// The topic of a message: no wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Errors: empty, too long, a control character, or a wildcard. [MQTT-3.3.2-2] [MQTT-4.7.1-1] (5.0: [MQTT-4.7.0-1])
    pub fn new(text: &'a str) -> Result<TopicName<'a>, TopicError> {
        check_text(text)?;
        if has_any(text.as_bytes(), *b"+##") { Err(TopicError::WildcardInName) } else { Ok(TopicName(text)) }
    }

    #[inline]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels in order; empty ones count.
    pub fn levels(self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }
}

/// What a subscription asks for: a topic, perhaps with wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    /// Errors: empty, too long, a control character, or a wildcard in a wrong place. [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-3]
    pub fn new(text: &'a str) -> Result<TopicFilter<'a>, TopicError> {
        check_text(text)?;
        let mut closed = false;
        for level in text.split('/') {
            if closed || (level.len() > 1 && has_any(level.as_bytes(), *b"+##")) {
                return Err(TopicError::MisplacedWildcard);
            }
            closed = level == "#";
        }
        Ok(TopicFilter(text))
    }

    #[inline]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The levels in order; empty ones count.
    pub fn levels(self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }

    /// Whether the filter can match more than one topic.
    pub fn is_wildcard(self) -> bool {
        has_any(self.0.as_bytes(), *b"+##")
    }

    /// Whether a message on `topic` belongs to this filter.
    pub fn matches(self, topic: TopicName<'_>) -> bool {
        // [MQTT-4.7.2-1] a wildcard in the first level matches no topic that begins with $
        if topic.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            // # matches the parent and any number of levels below, none included
            if level == "#" {
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

/// A shared subscription, `$share/group/filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedFilter<'a> {
    pub group: &'a str,
    pub filter: TopicFilter<'a>,
}

impl<'a> SharedFilter<'a> {
    /// `None` if `text` does not begin with `$share/`, so is an ordinary filter.
    ///
    /// Errors: an empty group or one with a wildcard, a missing or invalid filter. [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    pub fn parse(text: &'a str) -> Option<Result<SharedFilter<'a>, TopicError>> {
        let shared = text.strip_prefix("$share/")?;
        let (group, filter) = shared.split_once('/').unwrap_or((shared, ""));
        if group.is_empty() || has_any(group.as_bytes(), *b"+##") {
            return Some(Err(TopicError::ShareName));
        }
        if filter.is_empty() {
            return Some(Err(TopicError::ShareFilter));
        }
        Some(check_text(text).and_then(|()| TopicFilter::new(filter)).map(|filter| SharedFilter { group, filter }))
    }
}

/// What topic names and filters have in common. [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
fn check_text(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        Err(TopicError::Empty)
    } else if text.len() > MAX_FIELD_BYTES {
        Err(TopicError::TooLong)
    } else if has_control(text) {
        Err(TopicError::Control)
    } else {
        Ok(())
    }
}
