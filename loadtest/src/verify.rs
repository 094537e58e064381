//! The judge of one subscriber's messages: each published message once, in order, unchanged.
//!
//! Only messages that did not match byte for byte come here (`feed.rs`), so cost does not matter and
//! the memory for gaps exists only for connections that have some.

use std::collections::BTreeSet;

use crate::payload::Payload;

/// Missing sequences that are remembered per connection, to tell late from duplicated.
const GAPS_MAX: usize = 4096;

/// The sequence of a subscriber that joined a running feed and has seen nothing yet.
pub const SEQUENCE_UNKNOWN: u64 = u64::MAX;

/// Counts of what subscribers received. Any of the last four fails a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages received in order and unchanged.
    pub delivered: u64,
    /// Messages of somebody else on the same channel: unchanged, but not of this run.
    pub foreign: u64,
    /// Messages that a later one overtook and that never came.
    pub lost: u64,
    /// Messages received again.
    pub duplicated: u64,
    /// Messages received after a later one.
    pub reordered: u64,
    /// Messages whose bytes were changed.
    pub corrupted: u64,
}

impl Tally {
    /// The sum of everything that must not happen.
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.foreign += other.foreign;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
    }
}

/// The sequences that one subscriber has been passed over with.
#[derive(Debug, Default)]
pub struct Gaps(BTreeSet<u64>);

impl Gaps {
    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Judges one message against the sequence that is `expected` next and moves that on. Returns the
/// payload if it was unchanged and of this `run` (of any run if `None`).
pub fn judge(
    message: &[u8],
    run: Option<u32>,
    expected: &mut u64,
    gaps: &mut Gaps,
    tally: &mut Tally,
) -> Option<Payload> {
    let Some(payload) = Payload::parse(message) else {
        tally.corrupted += 1;
        if *expected != SEQUENCE_UNKNOWN {
            *expected += 1;
        }
        return None;
    };
    if run.is_some_and(|run| run != payload.run) {
        tally.foreign += 1;
        return None;
    }
    let sequence = payload.sequence;
    if *expected == SEQUENCE_UNKNOWN {
        *expected = sequence;
    }
    if sequence >= *expected {
        tally.lost += sequence - *expected;
        tally.delivered += 1;
        gaps.0.extend((*expected..sequence).take(GAPS_MAX - gaps.0.len().min(GAPS_MAX)));
        *expected = sequence + 1;
    } else if gaps.0.remove(&sequence) {
        tally.lost -= 1;
        tally.reordered += 1;
    } else {
        tally.duplicated += 1;
    }
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(sequences: &[u64]) -> (u64, Tally) {
        let (mut expected, mut gaps, mut tally) = (0, Gaps::default(), Tally::default());
        for &sequence in sequences {
            let mut message = Vec::new();
            Payload { sequence, due_ns: 0, run: 1 }.push(80, &mut message);
            judge(&message, Some(1), &mut expected, &mut gaps, &mut tally);
        }
        (expected, tally)
    }

    #[test]
    fn all_in_order_is_no_fault() {
        assert_eq!(received(&[0, 1, 2]), (3, Tally { delivered: 3, ..Tally::default() }));
    }

    #[test]
    fn a_dropped_message_is_lost() {
        assert_eq!(received(&[0, 2, 3]), (4, Tally { delivered: 3, lost: 1, ..Tally::default() }));
    }

    #[test]
    fn a_repeated_message_is_duplicated() {
        assert_eq!(received(&[0, 1, 1, 2]), (3, Tally { delivered: 3, duplicated: 1, ..Tally::default() }));
    }

    #[test]
    fn two_swapped_messages_are_reordered_and_not_lost() {
        assert_eq!(received(&[0, 2, 1, 3]), (4, Tally { delivered: 3, reordered: 1, ..Tally::default() }));
    }

    #[test]
    fn a_changed_byte_is_corrupted_and_the_next_message_is_not_blamed() {
        let (mut expected, mut gaps, mut tally) = (0, Gaps::default(), Tally::default());
        for sequence in 0..3 {
            let mut message = Vec::new();
            Payload { sequence, due_ns: 0, run: 1 }.push(80, &mut message);
            message[70] ^= u8::from(sequence == 1);
            judge(&message, Some(1), &mut expected, &mut gaps, &mut tally);
        }
        assert_eq!(tally, Tally { delivered: 2, corrupted: 1, ..Tally::default() });
    }

    #[test]
    fn a_message_of_another_run_is_foreign() {
        let (mut expected, mut gaps, mut tally) = (0, Gaps::default(), Tally::default());
        let mut message = Vec::new();
        Payload { sequence: 9, due_ns: 0, run: 2 }.push(80, &mut message);
        assert_eq!(judge(&message, Some(1), &mut expected, &mut gaps, &mut tally), None);
        assert_eq!((expected, tally.foreign, tally.faults()), (0, 1, 0));
        judge(&message, None, &mut SEQUENCE_UNKNOWN.clone(), &mut gaps, &mut tally);
        assert_eq!(tally.delivered, 1);
    }
}
