//! The order of topics in which everything below a topic follows it at once: bytewise, with `/` before every other byte.
//!
//! `a`, `a/b`, `a/c/d`, `a!`: so the topics under any prefix of levels are a range, and its end is found without looking at them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::rc::Rc;

/// A topic name as the ordered set holds it.
pub(super) struct Topic(pub Rc<str>);

/// What a set of [`Topic`] can be searched by: a [`Topic`] or a plain text, see [`key`].
pub(super) trait Key {
    fn text(&self) -> &str;
}

impl Key for Topic {
    fn text(&self) -> &str {
        &self.0
    }
}

impl Key for &str {
    fn text(&self) -> &str {
        self
    }
}

/// A text as a search key.
pub(super) fn key<'a>(text: &'a &'a str) -> &'a (dyn Key + 'a) {
    text
}

impl<'a> Borrow<dyn Key + 'a> for Topic {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.text(), other.text())
    }
}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for dyn Key + '_ {}

impl Ord for Topic {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Topic {}

/// Compares two topics level by level.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.iter().zip(b).find(|(a, b)| a != b) {
        None => a.len().cmp(&b.len()),
        Some((b'/', _)) => Ordering::Less,
        Some((_, b'/')) => Ordering::Greater,
        Some((a, b)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_topic_follows_it() {
        let mut topics = ["a!", "a/c/d", "b", "a", "a/b", "", "/", "a/", "a\u{1}", "/a", "a/b/c", "a/b!"];
        topics.sort_by(|a, b| compare(a, b));
        assert_eq!(topics, ["", "/", "/a", "a", "a/", "a/b", "a/b/c", "a/b!", "a/c/d", "a\u{1}", "a!", "b"]);
    }
}
