//! Entries laid end to end in a strip, whichever of the two it is: what a write takes, and where a short one stopped.

use bytes::Bytes;

use super::strip::Strip;
use crate::model::Offset;

/// Where an entry lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Its first byte.
    pub start: u64,
    /// Wire bytes.
    pub bytes: u32,
}

/// Consecutive entries and the strip that they lie in.
pub(super) trait Track {
    /// The bytes.
    fn strip(&self) -> &Strip;

    /// Where entry `offset` lies, if it is kept.
    fn place(&self, offset: Offset) -> Option<Place>;

    /// The entry that byte `at` lies in or begins; the next to come at the end.
    fn offset_at(&self, at: u64) -> Offset;

    /// As [`Journal::span`](super::Journal::span): the bytes, and the entry after the last whole one.
    fn span(&self, from: Offset, until: Offset, bytes_max: usize) -> (&[u8], Offset) {
        let Some(Place { start, .. }) = self.place(from) else { return (&[], from) };
        let end_of_strip = self.strip().end();
        let slice = self.strip().slice(start);
        let segment_end = start + slice.len() as u64;
        let start_of = |offset| self.place(offset).map_or(end_of_strip, |place| place.start);
        let until_start = start_of(until);
        if slice.len() <= bytes_max && segment_end <= until_start {
            return (slice, self.offset_at(segment_end));
        }
        let limit = segment_end.min(until_start).min(start + bytes_max as u64);
        let next = self.offset_at(limit);
        let end = if next == from { limit } else { start_of(next) };
        (slice.get(..(end - start) as usize).unwrap_or(slice), next)
    }

    /// As [`Journal::interrupted`](super::Journal::interrupted).
    fn interrupted(&self, from: Offset, taken: usize) -> (Offset, Option<Bytes>) {
        let Some(first) = self.place(from) else { return (from, None) };
        let at = first.start + taken as u64;
        let cut = self.offset_at(at);
        match self.place(cut) {
            Some(place) if place.start < at => {
                let rest = (place.start + u64::from(place.bytes) - at) as usize;
                (cut.next(), Some(self.strip().share(at, rest)))
            }
            _ => (cut, None),
        }
    }
}
