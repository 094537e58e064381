//! Entries laid end to end in a strip, in whichever encoding: what a write takes, and where a short one stopped.
//!
//! Entries are counted from the first that is kept: index 0. What numbers they bear is the journal's business.

use std::collections::VecDeque;

use bytes::Bytes;

use super::strip::Strip;

/// Where an entry lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// Its first byte.
    start: u64,
    /// Wire bytes.
    bytes: u32,
}

/// Consecutive entries and the strip that they lie in. Empty, it owns no memory.
#[derive(Debug, Default)]
pub(super) struct Lane {
    strip: Strip,
    places: VecDeque<Place>,
}

impl Lane {
    /// Adds an entry at the end. Copies `bytes` unless they are many.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        let start = self.strip.end();
        self.places.push_back(Place { start, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) });
        self.strip.append(bytes);
    }

    /// Adds a copy of `bytes` as an entry at the end.
    pub(super) fn push_copy(&mut self, bytes: &[u8]) {
        let start = self.strip.end();
        self.places.push_back(Place { start, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) });
        self.strip.append_copy(bytes);
    }

    /// Takes the first entry off; [`Lane::trim`] gives its memory back.
    pub(super) fn pop_front(&mut self) {
        self.places.pop_front();
    }

    /// Lets go of every entry.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.strip.trim(self.strip.end());
    }

    /// Gives back the memory of entries that were taken off.
    pub(super) fn trim(&mut self) {
        match self.places.front() {
            Some(front) => self.strip.trim(front.start),
            None => {
                self.strip.release();
                self.places = VecDeque::new();
            }
        }
    }

    /// Entries.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes from entry `index` to the end.
    pub(super) fn bytes_from(&self, index: usize) -> u64 {
        self.places.get(index).map_or(0, |place| self.strip.end() - place.start)
    }

    /// The bytes of entry `index`: contiguous, as they were added. Empty if there is no such entry.
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        let Some(Place { start, bytes }) = self.places.get(index) else { return &[] };
        self.strip.slice(*start).get(..*bytes as usize).unwrap_or_default()
    }

    /// The bytes of entry `index` from its byte `from` on, by reference or copied as [`Strip::share`] has it.
    pub(super) fn share(&self, index: usize, from: usize) -> Option<Bytes> {
        let Place { start, bytes } = self.places.get(index)?;
        Some(self.strip.share(start + from as u64, (*bytes as usize).saturating_sub(from)))
    }

    /// The entry that byte `at` lies in or begins; one past the last at the end.
    fn index_at(&self, at: u64) -> usize {
        if at >= self.strip.end() {
            return self.places.len();
        }
        self.places.partition_point(|place| place.start <= at).saturating_sub(1)
    }

    /// As [`Journal::span`](super::Journal::span): the contiguous bytes, and the entry after the last whole one.
    pub(super) fn span(&self, from: usize, until: usize, bytes_max: usize) -> (&[u8], usize) {
        let Some(Place { start, .. }) = self.places.get(from).copied() else { return (&[], from) };
        let end_of_strip = self.strip.end();
        let slice = self.strip.slice(start);
        let segment_end = start + slice.len() as u64;
        let start_of = |index: usize| self.places.get(index).map_or(end_of_strip, |place| place.start);
        let until_start = start_of(until);
        if slice.len() <= bytes_max && segment_end <= until_start {
            return (slice, self.index_at(segment_end));
        }
        let limit = segment_end.min(until_start).min(start + bytes_max as u64);
        let next = self.index_at(limit);
        let end = if next == from { limit } else { start_of(next) };
        (slice.get(..(end - start) as usize).unwrap_or(slice), next)
    }

    /// As [`Journal::interrupted`](super::Journal::interrupted).
    pub(super) fn interrupted(&self, from: usize, taken: usize) -> (usize, Option<Bytes>) {
        let Some(first) = self.places.get(from) else { return (from, None) };
        let at = first.start + taken as u64;
        let cut = self.index_at(at);
        match self.places.get(cut) {
            Some(place) if place.start < at => (cut + 1, self.share(cut, (at - place.start) as usize)),
            _ => (cut, None),
        }
    }

    /// Makes it anew of the entries that `is_kept` says yes to. Linear in what is kept.
    pub(super) fn keep_only(&mut self, is_kept: impl Fn(usize) -> bool) {
        let mut kept = Self::default();
        for index in (0..self.places.len()).filter(|index| is_kept(*index)) {
            kept.push(&self.share(index, 0).unwrap_or_default());
        }
        *self = kept;
    }

    /// Bytes of memory held, index included. Constant time.
    pub(super) fn memory_bytes(&self) -> usize {
        self.strip.memory_bytes() + self.places.capacity() * size_of::<Place>()
    }
}
