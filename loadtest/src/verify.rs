//! The judge of one subscriber's messages: each published message once, in order, unchanged.
//!
//! Only messages that did not match byte for byte come here (`feed.rs`), so cost does not matter and
//! the memory for gaps exists only for connections that have some.

use std::collections::BTreeSet;

use crate::feed::Position;
use crate::payload::{self, Payload};

/// Missing sequences that are remembered per connection, to tell late from duplicated.
const GAPS_MAX: usize = 4096;

/// Set in the sequence of a subscriber that joined a running feed and has received nothing yet. What was
/// published while it joined may come or not; the message that the other bits name must come.
const JOINING: u64 = payload::SEQUENCE_END;

/// The sequence of a subscriber that joins a feed whose head is known.
pub fn joining_at(head: u64) -> u64 {
    JOINING | head
}

/// The sequence of a subscriber of a feed that somebody else publishes: whatever comes first is right.
pub const SEQUENCE_UNKNOWN: u64 = u64::MAX;

/// The message that a subscriber must receive next, by its sequence.
pub fn owed(sequence: u64) -> u64 {
    sequence & !JOINING
}

/// Counts of what subscribers received. Any of the last four fails a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages received in order and unchanged.
    pub delivered: u64,
    /// Messages of somebody else on the same channel, or a server's greeting: not of this run.
    pub foreign: u64,
    /// Messages of a feed that is not ours and not of this tool: received, and more is not known of them.
    pub unverified: u64,
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
    /// Everything that arrived as it should, as far as can be told.
    pub fn received(&self) -> u64 {
        self.delivered + self.unverified
    }

    /// The sum of everything that must not happen.
    pub fn faults(&self) -> u64 {
        self.lost + self.duplicated + self.reordered + self.corrupted
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.foreign += other.foreign;
        self.unverified += other.unverified;
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

/// What a message is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The run that publishes; `None` if that is not this one.
    pub run: Option<u32>,
    /// The message that is due, if that is known.
    pub due: Option<&'a [u8]>,
}

impl Expected<'_> {
    /// Whether a message that does not pass its checksum was one of ours: it begins as ours do, or most of it is
    /// what is due.
    fn resembles(&self, message: &[u8]) -> bool {
        let is_most_of = |due: &[u8]| {
            let same = due.iter().zip(message).filter(|(due, byte)| due == byte).count();
            due.len() == message.len() && same > due.len() / 2
        };
        Payload::is_ours(message) || self.due.is_some_and(is_most_of)
    }
}

/// Judges one message against the `position` of its subscriber and moves that on. Returns the payload if
/// it was unchanged and of this run.
pub fn judge(
    message: &[u8],
    expected: Expected<'_>,
    position: &mut Position,
    gaps: &mut Gaps,
    tally: &mut Tally,
) -> Option<Payload> {
    let sequence = &mut position.sequence;
    let Some(payload) = Payload::parse(message) else {
        if expected.resembles(message) {
            tally.corrupted += 1;
            *sequence += u64::from(*sequence < JOINING);
        } else if expected.run.is_none() {
            tally.unverified += 1;
        } else {
            tally.foreign += 1;
        }
        return None;
    };
    if expected.run.is_some_and(|run| run != payload.run) {
        tally.foreign += 1;
        return None;
    }
    if expected.run.is_none() && payload.run != std::mem::replace(&mut position.run, payload.run) {
        // Its source began anew, or another has joined it.
        *sequence = SEQUENCE_UNKNOWN;
    }
    if *sequence >= JOINING {
        *sequence = owed(*sequence).min(payload.sequence);
    }
    let (came, due) = (payload.sequence, *sequence);
    if came >= due {
        tally.lost += came - due;
        tally.delivered += 1;
        gaps.0.extend((due..came).take(GAPS_MAX - gaps.0.len().min(GAPS_MAX)));
        *sequence = came + 1;
    } else if gaps.0.remove(&came) {
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

    fn message(sequence: u64) -> Vec<u8> {
        let mut message = Vec::new();
        Payload { sequence, due_ns: 0, run: 1 }.push(80, &mut message);
        message
    }

    fn judged(sequence: u64, run: Option<u32>, messages: &[Vec<u8>]) -> (u64, Tally) {
        let (mut gaps, mut tally) = (Gaps::default(), Tally::default());
        let mut position = Position::at(sequence);
        for received in messages {
            let due = message(owed(position.sequence));
            let expected = Expected { due: run.map(|_| due.as_slice()), run };
            judge(received, expected, &mut position, &mut gaps, &mut tally);
        }
        (position.sequence, tally)
    }

    fn received(start: u64, sequences: &[u64]) -> (u64, Tally) {
        judged(start, Some(1), &sequences.iter().map(|&sequence| message(sequence)).collect::<Vec<_>>())
    }

    #[test]
    fn all_in_order_is_no_fault() {
        assert_eq!(received(0, &[0, 1, 2]), (3, Tally { delivered: 3, ..Tally::default() }));
    }

    #[test]
    fn a_dropped_message_is_lost() {
        assert_eq!(received(0, &[0, 2, 3]), (4, Tally { delivered: 3, lost: 1, ..Tally::default() }));
    }

    #[test]
    fn a_repeated_message_is_duplicated() {
        assert_eq!(
            received(0, &[0, 1, 1, 2]),
            (3, Tally { delivered: 3, duplicated: 1, ..Tally::default() })
        );
    }

    #[test]
    fn two_swapped_messages_are_reordered_and_not_lost() {
        assert_eq!(received(0, &[0, 2, 1, 3]), (4, Tally { delivered: 3, reordered: 1, ..Tally::default() }));
    }

    #[test]
    fn who_joins_midway_is_owed_what_was_published_after_the_join_and_may_have_more() {
        let clean = |delivered| Tally { delivered, ..Tally::default() };
        assert_eq!(received(joining_at(5), &[5, 6]), (7, clean(2)));
        assert_eq!(received(joining_at(5), &[3, 4, 5]), (6, clean(3)));
        assert_eq!(received(joining_at(5), &[7]), (8, Tally { delivered: 1, lost: 2, ..Tally::default() }));
        assert_eq!(
            received(joining_at(5), &[3, 5]),
            (6, Tally { delivered: 2, lost: 1, ..Tally::default() })
        );
        assert_eq!(received(SEQUENCE_UNKNOWN, &[900]), (901, clean(1)));
        assert_eq!((owed(joining_at(5)), owed(7)), (5, 7));
    }

    #[test]
    fn a_changed_byte_is_corrupted_and_the_next_message_is_not_blamed() {
        for place in [0, 70] {
            let mut messages = [message(0), message(1), message(2)];
            messages[1][place] ^= 1;
            let tally = Tally { delivered: 2, corrupted: 1, ..Tally::default() };
            assert_eq!(judged(0, Some(1), &messages), (3, tally), "byte {place}");
        }
    }

    #[test]
    fn a_greeting_is_foreign_and_moves_nothing() {
        let messages = [b"welcome".to_vec(), message(0), message(1)];
        assert_eq!(
            judged(0, Some(1), &messages),
            (2, Tally { delivered: 2, foreign: 1, ..Tally::default() })
        );
    }

    #[test]
    fn a_feed_of_somebody_else_is_counted_without_a_verdict() {
        let (_, tally) = judged(SEQUENCE_UNKNOWN, None, &[b"1.08523".to_vec(), b"1.08524".to_vec()]);
        assert_eq!((tally.unverified, tally.received(), tally.faults()), (2, 2, 0));
    }

    #[test]
    fn a_message_of_another_run_is_foreign() {
        let mut other = Vec::new();
        Payload { sequence: 9, due_ns: 0, run: 2 }.push(80, &mut other);
        assert_eq!(judged(0, Some(1), &[other.clone()]), (0, Tally { foreign: 1, ..Tally::default() }));
        assert_eq!(judged(SEQUENCE_UNKNOWN, None, &[other]).1.delivered, 1);
    }

    #[test]
    fn a_message_of_the_due_length_is_not_for_that_one_of_ours() {
        let messages = [vec![b'?'; 80], message(0)];
        let tally = Tally { delivered: 1, foreign: 1, ..Tally::default() };
        assert_eq!(judged(0, Some(1), &messages), (1, tally));
    }

    #[test]
    fn a_feed_of_somebody_else_may_begin_anew() {
        let of = |run, sequence| {
            let mut message = Vec::new();
            Payload { sequence, due_ns: 0, run }.push(80, &mut message);
            message
        };
        let restarted = [of(7, 40), of(7, 41), of(8, 0), of(8, 1)];
        assert_eq!(judged(SEQUENCE_UNKNOWN, None, &restarted).1, Tally { delivered: 4, ..Tally::default() });
        let lossy = [of(7, 40), of(7, 42)];
        assert_eq!(judged(SEQUENCE_UNKNOWN, None, &lossy).1.lost, 1);
    }
}
