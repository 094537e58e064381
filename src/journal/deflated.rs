//! The second strip of a journal: the newest entries once more, deflated where the channel's home has deflated them.
//!
//! It is there only while some subscriber of this shard reads it. A message that travels plain stands in it as the same
//! frame, so that a rider's backlog is one slice. Entries are in step with the journal's: the last one of both is the
//! same message, and this one may begin later.

use std::collections::VecDeque;

use bytes::Bytes;

use super::lane::Lane;
use crate::model::{Offset, Publication};

/// The entries from `first` on.
#[derive(Debug, Default)]
pub(super) struct DeflatedStrip {
    lane: Lane,
    /// Of each entry, whether it is deflated here.
    are_deflated: VecDeque<bool>,
    first: u64,
    /// Entries that begin an epoch, in order.
    epochs: VecDeque<Offset>,
}

impl DeflatedStrip {
    /// An empty strip whose first entry will be `next`.
    pub(super) fn new(next: Offset) -> Self {
        Self { first: next.0, ..Self::default() }
    }

    /// Adds the message `offset`, which is the next one. Amortised linear in its bytes.
    pub(super) fn append(&mut self, offset: Offset, publication: &Publication) {
        debug_assert_eq!(offset, self.next(), "in step");
        let deflated = publication.deflated.as_deref();
        self.are_deflated.push_back(deflated.is_some());
        if deflated.is_some_and(|deflated| deflated.begins_epoch) {
            self.epochs.push_back(offset);
        }
        self.lane.push(deflated.map_or(&publication.frame, |deflated| &deflated.frame));
    }

    /// Lets go of what is before `first`. Linear in what goes.
    pub(super) fn trim(&mut self, first: Offset) {
        while self.first < first.0 && self.are_deflated.pop_front().is_some() {
            self.lane.pop_front();
            self.first += 1;
        }
        while self.epochs.front().is_some_and(|epoch| *epoch < first) {
            self.epochs.pop_front();
        }
        if self.are_deflated.is_empty() {
            // As the journal does: empty, it owns no memory.
            (self.are_deflated, self.epochs) = (VecDeque::new(), VecDeque::new());
        }
        self.lane.trim();
    }

    /// Whether a rider whose next message is `offset` finds it here, or will.
    pub(super) fn covers(&self, offset: Offset) -> bool {
        (Offset(self.first)..=self.next()).contains(&offset)
    }

    /// Whether entry `offset` is deflated here: who is not sent it cannot read those after it.
    pub(super) fn is_deflated(&self, offset: Offset) -> bool {
        self.index(offset)
            .and_then(|index| self.are_deflated.get(index))
            .is_some_and(|is_deflated| *is_deflated)
    }

    /// The first entry from `from` on that begins an epoch. Logarithmic in the epochs kept.
    pub(super) fn next_epoch(&self, from: Offset) -> Option<Offset> {
        self.epochs.get(self.epochs.partition_point(|epoch| *epoch < from)).copied()
    }

    /// As [`Journal::span`](super::Journal::span): the bytes, and the entry after the last whole one.
    pub(super) fn span(&self, from: Offset, until: Offset, bytes_max: usize) -> (&[u8], Offset) {
        let Some(index) = self.index(from) else { return (&[], from) };
        let until = usize::try_from(until.0.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let (bytes, next) = self.lane.span(index, until, bytes_max);
        (bytes, Offset(self.first + next as u64))
    }

    /// As [`Journal::interrupted`](super::Journal::interrupted).
    pub(super) fn interrupted(&self, from: Offset, taken: usize) -> (Offset, Option<Bytes>) {
        let Some(index) = self.index(from) else { return (from, None) };
        let (next, rest) = self.lane.interrupted(index, taken);
        (Offset(self.first + next as u64), rest)
    }

    /// Bytes of memory held, index included.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.lane.memory_bytes()
            + self.are_deflated.capacity()
            + self.epochs.capacity() * size_of::<Offset>()
    }

    fn next(&self) -> Offset {
        Offset(self.first + self.lane.len() as u64)
    }

    fn index(&self, offset: Offset) -> Option<usize> {
        let index = offset.0.checked_sub(self.first)?;
        usize::try_from(index).ok().filter(|index| *index < self.lane.len())
    }
}
