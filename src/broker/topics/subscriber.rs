//! The subscribers of one filter: none, one (without heap) or many.
//!
//! A list is a slice for the fan-out and keeps no order. Up to [`INDEX_ABOVE`] entries a session is looked for by scanning; a longer list
//! has an index by session, so that a topic with 100,000 subscribers who come and go costs O(1) each.

use hashbrown::HashTable;

use crate::broker::hash;
use crate::mqtt::types::QoS;

/// Index of a session in its shard.
pub type SessionIx = u32;

/// What a subscription asks for, in one byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubOptions(u8);

const QOS_BITS: u8 = 0b0011;
const NO_LOCAL: u8 = 0b0100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;

impl SubOptions {
    /// Packs the granted QoS and the two flags of 5.0.
    pub fn new(qos: QoS, no_local: bool, retain_as_published: bool) -> SubOptions {
        let no_local = if no_local { NO_LOCAL } else { 0 };
        let retain = if retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        SubOptions(qos as u8 | no_local | retain)
    }

    /// The packed byte, for a journal.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The options of a byte that [`SubOptions::bits`] gave; unknown bits are left out.
    pub fn from_bits(bits: u8) -> SubOptions {
        SubOptions(bits & (QOS_BITS | NO_LOCAL | RETAIN_AS_PUBLISHED))
    }

    /// The granted QoS: the most at which a message is delivered.
    #[inline]
    pub fn qos(self) -> QoS {
        QoS::from_bits(self.0 & QOS_BITS).unwrap_or_default()
    }

    /// Whether the session does not want its own messages back. [MQTT-3.8.3-3]
    #[inline]
    pub fn no_local(self) -> bool {
        self.0 & NO_LOCAL != 0
    }

    /// Whether RETAIN is forwarded as it was published. [MQTT-3.3.1-12]
    #[inline]
    pub fn retain_as_published(self) -> bool {
        self.0 & RETAIN_AS_PUBLISHED != 0
    }
}

/// One subscription of one session to one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub session: SessionIx,
    /// Subscription Identifier of 5.0; 0 for none.
    pub subscription_id: u32,
    pub options: SubOptions,
}

const _: () = assert!(size_of::<Subscriber>() == 12);
const _: () = assert!(size_of::<Subscribers>() == 16);

/// Entries beyond which a list has an index by session.
const INDEX_ABOVE: usize = 64;

/// Capacity below which a list is not shrunk.
const SHRINK_ABOVE: usize = 8;

/// The subscribers of one filter, at most one entry per session.
#[derive(Default)]
pub(super) struct Subscribers(Repr);

#[derive(Default)]
enum Repr {
    #[default]
    None,
    One(Subscriber),
    Many(Box<Many>),
}

struct Many {
    list: Vec<Subscriber>,
    /// Session -> position in `list`; empty while the list is short.
    index: HashTable<u32>,
}

impl Subscribers {
    #[inline]
    pub fn as_slice(&self) -> &[Subscriber] {
        match &self.0 {
            Repr::None => &[],
            Repr::One(one) => std::slice::from_ref(one),
            Repr::Many(many) => &many.list,
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        matches!(self.0, Repr::None)
    }

    /// Where the entry of `session` stands in the slice.
    pub fn position(&self, session: SessionIx) -> Option<usize> {
        match &self.0 {
            Repr::Many(many) => many.position(session),
            _ => self.as_slice().iter().position(|s| s.session == session),
        }
    }

    /// Adds an entry or replaces the one of the same session; true if it was there. [MQTT-3.8.4-3]
    pub fn insert(&mut self, sub: Subscriber) -> bool {
        let at = self.position(sub.session);
        match (&mut self.0, at) {
            (Repr::One(one), Some(_)) => *one = sub,
            (Repr::Many(many), Some(at)) => many.list[at] = sub,
            (Repr::Many(many), None) => many.push(sub),
            (Repr::One(one), None) => {
                let list = vec![*one, sub];
                self.0 = Repr::Many(Box::new(Many { list, index: HashTable::new() }));
            }
            (Repr::None, _) => self.0 = Repr::One(sub),
        }
        at.is_some()
    }

    /// Exchanges two entries that exist.
    pub fn swap(&mut self, a: usize, b: usize) {
        if let Repr::Many(many) = &mut self.0 {
            many.swap(a, b);
        }
    }

    /// Takes out the entry at `at`, which must exist; the last one takes its place.
    pub fn swap_remove(&mut self, at: usize) {
        match &mut self.0 {
            Repr::None => {}
            Repr::One(_) => self.0 = Repr::None,
            Repr::Many(many) => {
                many.swap_remove(at);
                if let [one] = many.list[..] {
                    self.0 = Repr::One(one);
                }
            }
        }
    }
}

impl Many {
    fn position(&self, session: SessionIx) -> Option<usize> {
        if self.index.is_empty() {
            return self.list.iter().position(|s| s.session == session);
        }
        let found = self.index.find(hash_of(session), |&at| self.list[at as usize].session == session);
        found.map(|&at| at as usize)
    }

    fn push(&mut self, sub: Subscriber) {
        self.list.push(sub);
        let Many { list, index } = self;
        let hasher = |&at: &u32| hash_of(list[at as usize].session);
        if !index.is_empty() {
            index.insert_unique(hash_of(sub.session), list.len() as u32 - 1, hasher);
        } else if list.len() > INDEX_ABOVE {
            for (at, sub) in list.iter().enumerate() {
                index.insert_unique(hash_of(sub.session), at as u32, hasher);
            }
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let (was_a, was_b) = (self.list[a].session, self.list[b].session);
        self.list.swap(a, b);
        if !self.index.is_empty() {
            // Both entries are found before either is changed: in between, two sessions would claim one position.
            self.unindex(was_a, a);
            self.unindex(was_b, b);
            let Many { list, index } = self;
            for at in [a, b] {
                index.insert_unique(hash_of(list[at].session), at as u32, |&at| hash_of(list[at as usize].session));
            }
        }
    }

    fn swap_remove(&mut self, at: usize) {
        let removed = self.list.swap_remove(at);
        if !self.index.is_empty() {
            self.unindex(removed.session, at);
            if let Some(moved) = self.list.get(at) {
                let was = self.list.len() as u32;
                if let Some(entry) = self.index.find_mut(hash_of(moved.session), |&e| e == was) {
                    *entry = at as u32;
                }
            }
        }
        self.shrink();
    }

    fn unindex(&mut self, session: SessionIx, at: usize) {
        if let Ok(entry) = self.index.find_entry(hash_of(session), |&e| e == at as u32) {
            entry.remove();
        }
    }

    /// Gives memory back once three quarters are unused. The distance between growing and shrinking keeps a list that goes
    /// up and down by one from doing either each time.
    fn shrink(&mut self) {
        let Many { list, index } = self;
        if list.len() <= INDEX_ABOVE / 2 {
            *index = HashTable::new();
        }
        if list.capacity() > SHRINK_ABOVE && list.len() < list.capacity() / 4 {
            list.shrink_to(list.len() * 2);
            index.shrink_to(list.len() * 2, |&at| hash_of(list[at as usize].session));
        }
    }
}

#[inline]
fn hash_of(session: SessionIx) -> u64 {
    hash::number(u64::from(session))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn sub(session: u32, subscription_id: u32) -> Subscriber {
        Subscriber { session, subscription_id, options: SubOptions::new(QoS::AtLeastOnce, true, false) }
    }

    #[test]
    fn options_come_out_as_they_went_in() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for (no_local, retain) in [(false, false), (false, true), (true, false), (true, true)] {
                let options = SubOptions::new(qos, no_local, retain);
                assert_eq!((options.qos(), options.no_local(), options.retain_as_published()), (qos, no_local, retain));
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u32, u32),
        Remove(u32),
        Swap(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0u32..200, 1u32..9).prop_map(|(s, id)| Step::Insert(s, id)),
            4 => (0u32..200).prop_map(Step::Remove),
            1 => (0usize..200, 0usize..200).prop_map(|(a, b)| Step::Swap(a, b)),
        ]
    }

    proptest! {
        /// Long enough to pass the index's threshold in both directions.
        #[test]
        fn behaves_like_a_map(fill in 0u32..150, steps in prop::collection::vec(step(), 0..300)) {
            let mut list = Subscribers::default();
            let mut map = BTreeMap::new();
            let fill = (0..fill).map(|s| Step::Insert(s, 1));
            let drain = (0..200).map(Step::Remove);
            for step in fill.chain(steps).chain(drain) {
                match step {
                    Step::Insert(session, id) => {
                        prop_assert_eq!(list.insert(sub(session, id)), map.insert(session, id).is_some());
                    }
                    Step::Remove(session) => {
                        let at = list.position(session);
                        prop_assert_eq!(at.is_some(), map.remove(&session).is_some());
                        if let Some(at) = at {
                            list.swap_remove(at);
                        }
                    }
                    Step::Swap(a, b) => {
                        if a.max(b) < list.len() {
                            list.swap(a, b);
                        }
                    }
                }
                let mut got: Vec<_> = list.as_slice().iter().map(|s| (s.session, s.subscription_id)).collect();
                got.sort_unstable();
                prop_assert_eq!(got, map.iter().map(|(&s, &id)| (s, id)).collect::<Vec<_>>());
                prop_assert_eq!(list.is_empty(), map.is_empty());
            }
        }
    }
}
