//! What one write is made of: pieces in order, and what became of them.

use crate::journal::{Cursor, Passed};
use crate::model::ChannelIndex;

/// Slices of one write at most; what does not fit comes with the next one.
pub const SLICES_MAX: usize = 16;

/// One piece of a planned write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// The rest of what an earlier write cut; with `ends_message` a message is complete then.
    Rest { bytes: usize, ends_message: bool },
    /// Own frames.
    Own { bytes: usize },
    /// Entries `from..next` of a subscription, of the strip that `from` reads; `next == from` when not even one fits whole.
    Entries { subscription: usize, channel: ChannelIndex, from: Cursor, next: Cursor, bytes: usize },
    /// The cursor passes over one entry: the connection sent it itself, or it has expired.
    Pass { subscription: usize, next: Cursor, passed: Passed },
    /// Entries of a subscription that leaves out what is superseded; inside the first of them when `is_cut`.
    Read {
        subscription: usize,
        channel: ChannelIndex,
        from: Cursor,
        next: Cursor,
        bytes: usize,
        is_cut: bool,
    },
    /// What the connection is told of messages of `subscription` that the next piece leaves out.
    Notice { subscription: usize, passed: Passed, bytes: usize },
    /// What ends a write: the ids of an event stream.
    Trailer { bytes: usize },
}

impl Piece {
    /// Whether a message is complete with it.
    pub(super) fn ends_message(&self) -> bool {
        match *self {
            Self::Rest { ends_message, .. } => ends_message,
            Self::Entries { from, next, .. } => next != from,
            Self::Read { bytes, is_cut, .. } => bytes > 0 && !is_cut,
            Self::Own { .. } | Self::Pass { .. } | Self::Notice { .. } | Self::Trailer { .. } => false,
        }
    }

    /// Whether it ends inside a message: nothing may follow it.
    pub(super) fn is_cut(&self) -> bool {
        match *self {
            Self::Entries { from, next, .. } => next == from,
            Self::Read { is_cut, .. } => is_cut,
            _ => false,
        }
    }

    /// Where it takes the cursor of a subscription, if it moves that.
    pub(super) fn cursor_of(&self, index: usize) -> Option<Cursor> {
        match *self {
            Self::Entries { subscription, next, .. }
            | Self::Pass { subscription, next, .. }
            | Self::Read { subscription, next, .. } => (subscription == index).then_some(next),
            Self::Rest { .. } | Self::Own { .. } | Self::Notice { .. } | Self::Trailer { .. } => None,
        }
    }
}

/// The pieces of one write, in the order of its slices.
#[derive(Debug)]
pub struct Plan {
    pieces: [Piece; SLICES_MAX],
    count: usize,
    pub(super) slices: usize,
    /// Bytes in all.
    pub bytes: usize,
    /// More waits than this write carries.
    pub is_truncated: bool,
    /// A subscription whose cursor retention has overtaken: the lag policy decides.
    pub overtaken: Option<ChannelIndex>,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self {
            pieces: [Piece::Own { bytes: 0 }; SLICES_MAX],
            count: 0,
            slices: 0,
            bytes: 0,
            is_truncated: false,
            overtaken: None,
        }
    }

    /// Whether a notice, what it is about, and a trailer still fit.
    pub(super) const fn has_room(&self) -> bool {
        self.count + 3 <= SLICES_MAX
    }

    pub(super) fn push(&mut self, piece: Piece) {
        debug_assert!(self.count < SLICES_MAX, "the caller looks first");
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = piece;
            self.count += 1;
        }
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }

    /// Slices that carry bytes; they come first.
    pub fn slice_count(&self) -> usize {
        self.slices
    }

    /// Whether there is nothing to write and no cursor to move.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What a write achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Entries handed over completely.
    pub delivered: u64,
    /// Entries left out.
    pub passed: Passed,
    /// The socket did not take everything: wait until it says that it can.
    pub is_blocked: bool,
    /// The socket took everything, and there is more.
    pub has_more: bool,
}
