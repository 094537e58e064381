//! What one write is made of: pieces in order, and what became of them.

use crate::journal::Cursor;
use crate::model::ChannelIndex;

/// Slices of one write at most; what does not fit comes with the next one.
pub const SLICES_MAX: usize = 16;

/// One piece of a planned write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// The rest of an entry that an earlier write cut.
    Rest { bytes: usize },
    /// Own frames.
    Own { bytes: usize },
    /// Entries `from..next` of a subscription, of the strip that `from` reads; `next == from` when not even one fits whole.
    Entries { subscription: usize, channel: ChannelIndex, from: Cursor, next: Cursor, bytes: usize },
    /// The cursor steps over entries that the connection sent itself.
    StepOver { subscription: usize, next: Cursor },
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

    pub(super) fn is_full(&self) -> bool {
        self.count == SLICES_MAX
    }

    pub(super) fn push(&mut self, piece: Piece) {
        debug_assert!(!self.is_full(), "the caller looks first");
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
    /// Own entries stepped over.
    pub stepped_over: u64,
    /// The socket did not take everything: wait until it says that it can.
    pub is_blocked: bool,
    /// The socket took everything, and there is more.
    pub has_more: bool,
}
