//! Reading the retained messages that match a filter, in slices, while the store changes.
//!
//! All that a cursor remembers is the text from which it goes on, in the order of `order`; so no change of the store can break it. It looks
//! at the first topic from there. If that matches, it is handed out; if not, the first level in which it differs tells the next text that
//! could match, and what lies between is leapt over by one search. So `a/+/c` costs two searches for each level that exists under `a`,
//! whatever else is stored there, and a filter without `+` two in all; `#` goes on from topic to topic without searching.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::collections::btree_set::Range;
use std::ops::Bound::{Included, Unbounded};

use super::order::{Key, Topic, compare, key};

/// The place of a reader among the retained messages.
#[derive(Clone, Debug)]
pub struct Cursor {
    filter: Box<str>,
    /// The first text that has not been looked at.
    from: String,
    done: bool,
}

/// How it goes on after a topic.
enum Next {
    /// With the topic that follows.
    Following,
    /// With the first topic from the cursor's `from`.
    Leap,
    /// Not at all.
    End,
}

impl Cursor {
    /// A reader of the topics that match `filter`, which must be valid.
    pub fn new(filter: &str) -> Cursor {
        // A leading wildcard does not match a topic that begins with $ [MQTT-4.7.2-1]: `walk` leaps over those.
        Cursor { filter: filter.into(), from: String::new(), done: false }
    }

    /// A reader of all topics, also those that begin with `$`.
    pub fn everything() -> Cursor {
        // No filter says so: the empty one, which is none, stands for it.
        Cursor::new("")
    }

    /// The filter that is read.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Calls `found` for matching topics until it says false; looks at `max` topics at most. True at the end.
    pub(super) fn walk<F: FnMut(&str) -> bool>(&mut self, order: &BTreeSet<Topic>, max: usize, mut found: F) -> bool {
        if self.done {
            return true;
        }
        let mut topics = range(order, &self.from);
        // The last topic looked at, unless `from` says already where to go on.
        let mut last = None;
        for _ in 0..max {
            let mut topic = topics.next();
            if last.is_none() && topic.is_some_and(|Topic(t)| compare(t, &self.from) == Ordering::Less) {
                topics = range(order, &self.from);
                topic = topics.next();
            }
            let Some(Topic(topic)) = topic else {
                self.done = true;
                return true;
            };
            let (matches, next) = judge(&self.filter, topic, &mut self.from);
            let more = !matches || found(topic);
            last = match next {
                Next::Following => Some(topic),
                Next::Leap => None,
                Next::End => {
                    self.done = true;
                    return true;
                }
            };
            if !more {
                break;
            }
        }
        if let Some(topic) = last {
            // The least text that is greater.
            self.from.clear();
            self.from.push_str(topic);
            self.from.push('/');
        }
        false
    }
}

fn range<'a>(order: &'a BTreeSet<Topic>, from: &str) -> Range<'a, Topic> {
    order.range::<dyn Key, _>((Included(key(&from)), Unbounded))
}

/// Whether `topic` matches, and where the next one that may match is to be looked for; a leap's target is put into `from`.
fn judge(filter: &str, topic: &str, from: &mut String) -> (bool, Next) {
    if filter.is_empty() {
        return (true, Next::Following);
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return (false, leap(from, &["%"]));
    }
    let mut levels = Levels { topic, end: None };
    // Where the topic's level ends that stands for the last `+` so far.
    let mut plus = None;
    for wanted in filter.split('/') {
        if wanted == "#" {
            return (true, Next::Following);
        }
        let start = levels.start();
        let Some(level) = levels.next() else {
            // The topic is too short: what is below it may match.
            return (false, leap(from, &[topic, "/", if wanted == "+" { "" } else { wanted }]));
        };
        if wanted == "+" {
            plus = levels.end;
        } else if level != wanted {
            return match compare(level, wanted) {
                Ordering::Less => (false, leap(from, &[&topic[..start], wanted])),
                _ => (false, leave(topic, plus, from)),
            };
        }
    }
    (levels.end == Some(topic.len()), leave(topic, plus, from))
}

/// Goes on with the next level in place of the last `+`: nothing else under the present one can match.
fn leave(topic: &str, plus: Option<usize>, from: &mut String) -> Next {
    match plus {
        // U+0001 is the first character after the slash in the order, as U+0000 cannot stand in a topic. [MQTT-4.7.3-2]
        Some(end) => leap(from, &[&topic[..end], "\u{1}"]),
        None => Next::End,
    }
}

fn leap(from: &mut String, parts: &[&str]) -> Next {
    from.clear();
    from.extend(parts.iter().copied());
    Next::Leap
}

/// The levels of a topic, and where they end.
struct Levels<'a> {
    topic: &'a str,
    /// The end of the level that came last.
    end: Option<usize>,
}

impl<'a> Levels<'a> {
    /// Where the next level begins.
    fn start(&self) -> usize {
        self.end.map_or(0, |end| end + 1)
    }

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.topic.get(self.start()..)?;
        let level = rest.split('/').next()?;
        self.end = Some(self.start() + level.len());
        Some(level)
    }
}
