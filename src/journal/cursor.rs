//! Where a subscriber stands in a journal, which of its strips it reads, and how: one word.
//!
//! A deflated message can only be inflated by a client that was sent every deflated message before it since the
//! epoch began (RFC 7692 §7.2.2: one context for all messages of a direction). Whoever has not reads the plain strip
//! and changes over where the next epoch begins.

use std::fmt;

use crate::model::{Encoding, Offset};

/// ```text
///  Plain     Waiting ──── its next message begins an epoch ────► Riding      Envelope  Event  EnvelopedEvent
///               ▲                                                  │
///               └──── missed a deflated message of the epoch ──────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ride {
    /// Plain frames: no compression was agreed, or on terms that the shared context does not meet, or for another of the
    /// client's channels, which has the one context that a connection has (RFC 7692 §6 allows plain frames at any time).
    Plain,
    /// Plain frames until the next epoch begins.
    Waiting,
    /// The deflated strip.
    Riding,
    /// The strip of [`Encoding::Envelope`].
    Envelope,
    /// The strip of [`Encoding::Event`].
    Event,
    /// The strip of [`Encoding::EnvelopedEvent`].
    EnvelopedEvent,
}

impl Ride {
    /// The encoding that is read.
    pub const fn encoding(self) -> Encoding {
        match self {
            Self::Plain | Self::Waiting | Self::Riding => Encoding::Frame,
            Self::Envelope => Encoding::Envelope,
            Self::Event => Encoding::Event,
            Self::EnvelopedEvent => Encoding::EnvelopedEvent,
        }
    }
}

/// Which messages a subscriber is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// Every one.
    Every,
    /// Those that are not superseded by a newer one of the same key: it has fallen behind.
    Newest,
    /// At first the newest of each key, up to where it joined; then every one.
    Snapshot,
    /// Every one, and up to where it joined as fast as its socket takes them, however many those are.
    Replay,
    /// None for now: it wants so many updates a second at most, and had one of late.
    Sampled,
}

impl Pace {
    /// Whether a reader at it may fall behind without end: it is not owed every message.
    pub const fn is_patient(self) -> bool {
        matches!(self, Self::Newest | Self::Sampled)
    }
}

/// Offset of the next message, and above it [`Ride`] and [`Pace`]. Subscribers with equal cursors get the same bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

const PACE_SHIFT: u32 = 61;
const RIDE_SHIFT: u32 = 58;
const OFFSET_MASK: u64 = (1 << RIDE_SHIFT) - 1;

impl Cursor {
    /// At `next`, on `ride`, to be given every message.
    pub const fn new(next: Offset, ride: Ride) -> Self {
        Self((next.0 & OFFSET_MASK) | (ride as u64) << RIDE_SHIFT)
    }

    /// At `next`, without compression.
    pub const fn plain(next: Offset) -> Self {
        Self::new(next, Ride::Plain)
    }

    /// On `ride`, at no message at all: the channel is not attached yet.
    pub const fn parked(ride: Ride) -> Self {
        Self::new(Offset(OFFSET_MASK), ride)
    }

    /// Whether it is [`Cursor::parked`].
    pub const fn is_parked(self) -> bool {
        self.0 & OFFSET_MASK == OFFSET_MASK
    }

    /// The next message.
    pub const fn offset(self) -> Offset {
        Offset(self.0 & OFFSET_MASK)
    }

    /// Which strip it reads, and why.
    pub const fn ride(self) -> Ride {
        match self.0 >> RIDE_SHIFT & 7 {
            0 => Ride::Plain,
            1 => Ride::Waiting,
            2 => Ride::Riding,
            3 => Ride::Envelope,
            4 => Ride::Event,
            _ => Ride::EnvelopedEvent,
        }
    }

    /// Which messages it is given.
    pub const fn pace(self) -> Pace {
        match self.0 >> PACE_SHIFT {
            0 => Pace::Every,
            1 => Pace::Newest,
            2 => Pace::Snapshot,
            3 => Pace::Replay,
            _ => Pace::Sampled,
        }
    }

    /// The same, at `pace`.
    #[must_use]
    pub const fn at_pace(self, pace: Pace) -> Self {
        Self((self.0 & !(7 << PACE_SHIFT)) | (pace as u64) << PACE_SHIFT)
    }

    /// Whether it reads the deflated strip, now or from the next epoch on.
    pub const fn wants_deflated(self) -> bool {
        matches!(self.ride(), Ride::Waiting | Ride::Riding)
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
        Self::new(next, if matches!(ride, Ride::Riding) { Ride::Waiting } else { ride }).at_pace(self.pace())
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} at {}", self.pace(), self.ride(), self.offset().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIDES: [Ride; 6] =
        [Ride::Plain, Ride::Waiting, Ride::Riding, Ride::Envelope, Ride::Event, Ride::EnvelopedEvent];

    #[test]
    fn a_cursor_holds_offset_ride_and_pace_in_one_word() {
        assert_eq!(size_of::<Cursor>(), 8);
        for offset in [0, 1, OFFSET_MASK - 1] {
            for ride in RIDES {
                for pace in [Pace::Every, Pace::Newest, Pace::Snapshot, Pace::Replay, Pace::Sampled] {
                    let cursor = Cursor::new(Offset(offset), ride).at_pace(pace);
                    assert_eq!((cursor.offset(), cursor.ride(), cursor.pace()), (Offset(offset), ride, pace));
                    let next = Offset(offset + 1);
                    assert_eq!(cursor.sent_to(next), Cursor::new(next, ride).at_pace(pace));
                    assert!(!cursor.is_parked());
                }
                assert!(Cursor::parked(ride).is_parked());
            }
        }
    }

    #[test]
    fn only_a_rider_that_missed_something_changes_its_ride() {
        for before in RIDES {
            let after = if before == Ride::Riding { Ride::Waiting } else { before };
            let newest = |ride, offset| Cursor::new(Offset(offset), ride).at_pace(Pace::Newest);
            assert_eq!(newest(before, 1).moved_to(Offset(9)), newest(after, 9));
        }
    }
}
