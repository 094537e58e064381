//! Where a subscriber stands in a journal, and which of its strips it reads: one word.
//!
//! A deflated message can only be inflated by a client that was sent every deflated message before it since the
//! epoch began (RFC 7692 §7.2.2: one context for all messages of a direction). Whoever has not reads the plain strip
//! and changes over where the next epoch begins.

use std::fmt;

use crate::model::Offset;

/// ```text
///  Plain     Barred     Waiting ──── its next message begins an epoch ────► Riding
///                          ▲                                                  │
///                          └──── missed a deflated message of the epoch ──────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ride {
    /// No compression was agreed.
    Plain,
    /// It was, on terms that the shared context does not meet, or for another of the client's channels, which has the
    /// one context that a connection has: plain frames, which RFC 7692 §6 allows at any time.
    Barred,
    /// Plain frames until the next epoch begins.
    Waiting,
    /// The deflated strip.
    Riding,
}

/// Offset of the next message, and the [`Ride`] in the two highest bits. Subscribers with equal cursors get the same bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

const RIDE_SHIFT: u32 = 62;
const OFFSET_MASK: u64 = (1 << RIDE_SHIFT) - 1;

impl Cursor {
    /// At `next`, on `ride`.
    pub const fn new(next: Offset, ride: Ride) -> Self {
        let ride = match ride {
            Ride::Plain => 0,
            Ride::Barred => 1,
            Ride::Waiting => 2,
            Ride::Riding => 3,
        };
        Self((next.0 & OFFSET_MASK) | ride << RIDE_SHIFT)
    }

    /// At `next`, without compression.
    pub const fn plain(next: Offset) -> Self {
        Self::new(next, Ride::Plain)
    }

    /// The next message.
    pub const fn offset(self) -> Offset {
        Offset(self.0 & OFFSET_MASK)
    }

    /// Which strip it reads, and why.
    pub const fn ride(self) -> Ride {
        match self.0 >> RIDE_SHIFT {
            0 => Ride::Plain,
            1 => Ride::Barred,
            2 => Ride::Waiting,
            _ => Ride::Riding,
        }
    }

    /// Whether it reads the deflated strip, now or from the next epoch on.
    pub const fn wants_deflated(self) -> bool {
        matches!(self.ride(), Ride::Waiting | Ride::Riding)
    }

    /// Whether compression was agreed.
    pub const fn has_agreed(self) -> bool {
        !matches!(self.ride(), Ride::Plain)
    }

    /// At `next`, everything in between sent: the ride goes on.
    #[must_use]
    pub const fn sent_to(self, next: Offset) -> Self {
        Self((self.0 & !OFFSET_MASK) | (next.0 & OFFSET_MASK))
    }

    /// At `next`, something in between not sent: who rode waits for the next epoch.
    #[must_use]
    pub const fn moved_to(self, next: Offset) -> Self {
        let ride = self.ride();
        Self::new(next, if matches!(ride, Ride::Riding) { Ride::Waiting } else { ride })
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.ride(), self.offset().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_holds_offset_and_ride_in_one_word() {
        assert_eq!(size_of::<Cursor>(), 8);
        for offset in [0, 1, OFFSET_MASK - 1] {
            for ride in [Ride::Plain, Ride::Barred, Ride::Waiting, Ride::Riding] {
                let cursor = Cursor::new(Offset(offset), ride);
                assert_eq!((cursor.offset(), cursor.ride()), (Offset(offset), ride));
                assert_eq!(cursor.sent_to(Offset(offset + 1)), Cursor::new(Offset(offset + 1), ride));
            }
        }
    }

    #[test]
    fn only_a_rider_that_missed_something_changes_its_ride() {
        for (before, after) in [
            (Ride::Plain, Ride::Plain),
            (Ride::Barred, Ride::Barred),
            (Ride::Waiting, Ride::Waiting),
            (Ride::Riding, Ride::Waiting),
        ] {
            assert_eq!(Cursor::new(Offset(1), before).moved_to(Offset(9)), Cursor::new(Offset(9), after));
        }
    }
}
