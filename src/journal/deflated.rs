//! The second strip of a journal: the newest entries once more, deflated where the channel's home has deflated them.
//!
//! It is there only while some subscriber of this shard reads it. A message that travels plain stands in it as the same
//! frame, so that a rider's backlog is one slice. Entries are in step with the journal's: the last one of both is the
//! same message, and this one may begin later.

use std::collections::VecDeque;

use super::strip::Strip;
use super::track::{Place, Track};
use crate::model::{Offset, Publication};

/// One message of the deflated strip.
#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    is_deflated: bool,
}

/// The entries from `first` on.
#[derive(Debug, Default)]
pub(super) struct DeflatedStrip {
    strip: Strip,
    entries: VecDeque<Entry>,
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
        let frame = deflated.map_or(&publication.frame, |deflated| &deflated.frame);
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let place = Place { start: self.strip.end(), bytes };
        self.entries.push_back(Entry { place, is_deflated: deflated.is_some() });
        if deflated.is_some_and(|deflated| deflated.begins_epoch) {
            self.epochs.push_back(offset);
        }
        self.strip.append(frame);
    }

    /// Lets go of what is before `first`. Linear in what goes.
    pub(super) fn trim(&mut self, first: Offset) {
        while self.first < first.0 && self.entries.pop_front().is_some() {
            self.first += 1;
        }
        while self.epochs.front().is_some_and(|epoch| *epoch < first) {
            self.epochs.pop_front();
        }
        match self.entries.front() {
            Some(front) => self.strip.trim(front.place.start),
            None => {
                // As the journal does: empty, it owns no memory.
                (self.entries, self.epochs) = (VecDeque::new(), VecDeque::new());
                self.strip.release();
            }
        }
    }

    /// Whether a rider whose next message is `offset` finds it here, or will.
    pub(super) fn covers(&self, offset: Offset) -> bool {
        (Offset(self.first)..=self.next()).contains(&offset)
    }

    /// Whether entry `offset` is deflated here: who is not sent it cannot read those after it.
    pub(super) fn is_deflated(&self, offset: Offset) -> bool {
        self.entry(offset).is_some_and(|entry| entry.is_deflated)
    }

    /// The first entry from `from` on that begins an epoch. Logarithmic in the epochs kept.
    pub(super) fn next_epoch(&self, from: Offset) -> Option<Offset> {
        self.epochs.get(self.epochs.partition_point(|epoch| *epoch < from)).copied()
    }

    /// Bytes of memory held, index included.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.strip.memory_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.epochs.capacity() * size_of::<Offset>()
    }

    fn next(&self) -> Offset {
        Offset(self.first + self.entries.len() as u64)
    }

    fn entry(&self, offset: Offset) -> Option<&Entry> {
        let index = offset.0.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }
}

impl Track for DeflatedStrip {
    fn strip(&self) -> &Strip {
        &self.strip
    }

    fn place(&self, offset: Offset) -> Option<Place> {
        self.entry(offset).map(|entry| entry.place)
    }

    fn offset_at(&self, at: u64) -> Offset {
        if at >= self.strip.end() {
            return self.next();
        }
        let index = self.entries.partition_point(|entry| entry.place.start <= at);
        Offset(self.first + index.saturating_sub(1) as u64)
    }
}
