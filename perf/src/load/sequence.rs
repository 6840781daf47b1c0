//! What one subscriber has seen of one publisher: lost, duplicated and reordered messages, told apart exactly.
//!
//! In order, a message costs one comparison. Gaps are kept as ranges until they are filled or the run ends.

use std::ops::Range;

/// The messages of one publisher at one subscriber.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// One more than the highest number seen.
    next: u32,
    /// Numbers below `next` that have not come, in order.
    missing: Vec<Range<u32>>,
}

/// What the arrival of a number means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    InOrder,
    /// Later than expected; the numbers that were passed over.
    After(Range<u32>),
    /// One that had been passed over.
    Reordered,
    Duplicate,
}

impl Sequence {
    #[inline]
    pub fn arrived(&mut self, number: u32) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        self.out_of_order(number)
    }

    #[cold]
    fn out_of_order(&mut self, number: u32) -> Arrival {
        if number > self.next {
            let gap = self.next..number;
            self.missing.push(gap.clone());
            self.next = number.saturating_add(1);
            return Arrival::After(gap);
        }
        let at = self.missing.partition_point(|range| range.end <= number);
        let Some(range) = self.missing.get(at).filter(|range| range.start <= number).cloned() else {
            return Arrival::Duplicate;
        };
        let pieces = [range.start..number, number + 1..range.end];
        self.missing.splice(at..=at, pieces.into_iter().filter(|piece| !piece.is_empty()));
        Arrival::Reordered
    }

    /// Takes a number without caring for those before it, and gives what would have been the next.
    pub fn pass_over(&mut self, number: u32) -> u32 {
        let expected = self.next;
        self.next = expected.max(number.saturating_add(1));
        expected
    }

    /// Messages that have not come, of a publisher that sent `sent`.
    pub fn lost(&self, sent: u32) -> u64 {
        let missing: u64 = self.missing.iter().map(|range| u64::from(range.end - range.start)).sum();
        missing + u64::from(sent.saturating_sub(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_that_is_filled_later_is_reordered_not_lost() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.arrived(0), Arrival::InOrder);
        assert_eq!(sequence.arrived(5), Arrival::After(1..5));
        assert_eq!(sequence.lost(6), 4);
        assert_eq!(sequence.arrived(3), Arrival::Reordered);
        assert_eq!(sequence.arrived(3), Arrival::Duplicate);
        assert_eq!(sequence.arrived(1), Arrival::Reordered);
        assert_eq!(sequence.arrived(4), Arrival::Reordered);
        assert_eq!(sequence.lost(6), 1);
        assert_eq!(sequence.arrived(2), Arrival::Reordered);
        assert_eq!(sequence.arrived(2), Arrival::Duplicate);
        assert_eq!(sequence.arrived(5), Arrival::Duplicate);
        assert_eq!(sequence.arrived(6), Arrival::InOrder);
        assert_eq!(sequence.lost(7), 0);
    }

    #[test]
    fn what_never_came_at_the_end_is_lost() {
        let mut sequence = Sequence::default();
        assert_eq!(sequence.lost(3), 3);
        assert_eq!(sequence.arrived(1), Arrival::After(0..1));
        assert_eq!(sequence.lost(3), 2);
    }
}
