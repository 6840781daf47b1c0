//! What the segments of a log say together: which commits count, in which order.
//!
//! A writer syncs what has gathered, and only then writes more. So of what was written last anything may be missing after a power loss, also in the midst of
//! it; what was durable before is whole, unless the disk has lost it since. Each frame says how far that was. A commit that cannot be found counts as lost,
//! and those behind it are read; but behind the last one that is known to have been durable, the first that is missing ends the log: nobody was promised any
//! of the rest, and it may be about what is missing.
//!
//! A commit whose sync failed is written once more, to the next segment, and may stand whole or damaged in both; each is taken once.

use std::collections::BTreeMap;

use super::frame::Frame;

/// The commits of one log while its segments are read.
#[derive(Debug, Default)]
pub struct Commits {
    found: BTreeMap<u64, Vec<u8>>,
    synced: u64,
}

impl Commits {
    pub fn add(&mut self, frame: &Frame<'_>) {
        self.synced = self.synced.max(frame.synced);
        self.found.entry(frame.number).or_insert_with(|| frame.payload.to_vec());
    }

    /// The commits that count, in their order.
    pub fn finish(self) -> Vec<Vec<u8>> {
        let synced = self.synced;
        let mut expected = synced + 1;
        let counts = self.found.into_iter().take_while(|&(number, _)| {
            let follows = number == expected;
            expected += u64::from(follows);
            number <= synced || follows
        });
        counts.map(|(_, payload)| payload).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of commits given as number and what was durable when each was written.
    fn left(frames: &[(u64, u64)]) -> Vec<u64> {
        let mut commits = Commits::default();
        for &(number, synced) in frames {
            commits.add(&Frame { number, synced, payload: &number.to_le_bytes() });
        }
        commits.finish().into_iter().map(|payload| u64::from_le_bytes(payload.try_into().unwrap())).collect()
    }

    #[test]
    fn behind_what_was_durable_the_first_gap_ends_the_log() {
        assert_eq!(left(&[(1, 0), (2, 0), (3, 2), (4, 2), (5, 2)]), [1, 2, 3, 4, 5]);
        assert_eq!(left(&[(1, 0), (2, 0), (3, 2), (5, 2)]), [1, 2, 3]);
        assert_eq!(left(&[(1, 0), (2, 0), (4, 2), (5, 2)]), [1, 2]);
        assert_eq!(left(&[(2, 0), (3, 0)]), [0; 0]);
    }

    #[test]
    fn what_the_disk_has_lost_of_what_was_durable_takes_nothing_along() {
        assert_eq!(left(&[(1, 0), (3, 2), (4, 3)]), [1, 3, 4]);
        // The segments before these were freed.
        assert_eq!(left(&[(7, 6), (9, 8)]), [7, 9]);
    }

    #[test]
    fn what_was_written_twice_counts_once_and_in_its_place() {
        // Of the first try, the second commit survived, and all of the next try.
        assert_eq!(left(&[(1, 0), (3, 1), (2, 1), (3, 1), (4, 3)]), [1, 2, 3, 4]);
    }
}
