//! Topic aliases that we set towards a client which allows them (5.0 section 3.3.2.3.4): the first topics that it is sent get one each, and keep it for
//! as long as the connection lives.

use hashbrown::HashMap;

use super::session::FixedHasher;

/// The aliases of one connection.
#[derive(Debug)]
pub struct TopicAliases {
    numbers: HashMap<Box<str>, u16, FixedHasher>,
    maximum: u16,
}

/// How a topic is written in the next PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alias {
    /// 0: none.
    pub number: u16,
    /// The client knows it already: the topic itself is left out.
    pub known: bool,
}

impl Alias {
    /// This alias if the packet `fits` with it; none, if the bytes that set it are what makes the packet too large; `None` if it is too large without.
    #[inline]
    pub fn if_it_fits(self, fits: impl Fn(Alias) -> bool) -> Option<Alias> {
        if fits(self) {
            return Some(self);
        }
        Some(Alias::default()).filter(|&none| self.number != 0 && !self.known && fits(none))
    }
}

impl TopicAliases {
    /// Aliases from 1 to `maximum` [MQTT-3.1.2-26]; `None` where the client allows none [MQTT-3.1.2-27].
    pub fn new(maximum: u16) -> Option<Box<TopicAliases>> {
        (maximum > 0).then(|| Box::new(TopicAliases { numbers: HashMap::with_hasher(FixedHasher::default()), maximum }))
    }

    /// What the next PUBLISH of `topic` carries; the client learns it only when that is sent.
    pub fn look_up(&self, topic: &str) -> Alias {
        if let Some(&number) = self.numbers.get(topic) {
            return Alias { number, known: true };
        }
        let next = u16::try_from(self.numbers.len() + 1).ok().filter(|&next| next <= self.maximum);
        Alias { number: next.unwrap_or(0), known: false }
    }

    /// The PUBLISH was sent: from now on the client knows its alias.
    pub fn learn(&mut self, topic: &str, alias: Alias) {
        if alias.number != 0 && !alias.known {
            self.numbers.insert(topic.into(), alias.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_once_and_there_are_no_more_aliases_than_allowed() {
        let mut aliases = TopicAliases::new(2).unwrap();
        for (topic, number, known) in [("a", 1, false), ("a", 1, true), ("b", 2, false), ("c", 0, false), ("c", 0, false), ("b", 2, true)] {
            let alias = aliases.look_up(topic);
            assert_eq!(alias, Alias { number, known }, "{topic}");
            aliases.learn(topic, alias);
        }
        assert!(TopicAliases::new(0).is_none());
    }

    #[test]
    fn the_largest_maximum_is_used_up_as_any_other() {
        let mut aliases = TopicAliases::new(u16::MAX).unwrap();
        for number in 1..=u16::MAX {
            let topic = number.to_string();
            assert_eq!(aliases.look_up(&topic).number, number);
            aliases.learn(&topic, aliases.look_up(&topic));
        }
        assert_eq!(aliases.look_up("one more"), Alias::default());
    }

    #[test]
    fn what_was_not_sent_is_not_learnt() {
        let aliases = TopicAliases::new(1).unwrap();
        assert_eq!(aliases.look_up("too large").number, 1);
        assert_eq!(aliases.look_up("other"), Alias { number: 1, known: false });
    }
}
