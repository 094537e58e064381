//! Reading a journal from a cursor that is given every message: contiguous bytes, and where a write stopped.

use bytes::Bytes;

use super::cursor::{Cursor, Ride};
use super::journal::Journal;
use super::lane::Lane;
use crate::model::{Encoding, Offset, Origin};

/// A run of entries as bytes: contiguous, starting and ending at an entry boundary or at `bytes_max`.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The wire bytes.
    pub bytes: &'a [u8],
    /// Where a subscriber stands that is sent all of it: at the entry after the last whole one in `bytes`.
    pub next: Cursor,
}

impl Journal {
    /// The first entry from `from` on that begins an epoch of the deflated strip. Logarithmic in the epochs kept.
    pub fn next_epoch(&self, from: Offset) -> Option<Offset> {
        self.deflated.as_ref()?.next_epoch(from)
    }

    /// The first entry from `from` on that has expired. Linear in the entries between, if any has.
    pub fn next_expired(&self, from: Offset) -> Option<Offset> {
        if self.expired == 0 {
            return None;
        }
        let expired = self.entries.range(self.index(from)?..).find(|entry| entry.is_expired());
        expired.map(|entry| entry.offset)
    }

    /// Where a subscriber at `cursor` goes on reading: the same, but on the deflated strip if it waits for an epoch and
    /// its next message begins one.
    pub fn board(&self, cursor: Cursor) -> Cursor {
        let next = cursor.offset();
        match (cursor.ride(), &self.deflated) {
            (Ride::Waiting, Some(deflated)) if deflated.next_epoch(next) == Some(next) => {
                Cursor::new(next, Ride::Riding)
            }
            (Ride::Riding, Some(deflated)) if deflated.covers(next) => cursor,
            // Nobody rides what is not there; plain frames are right for everybody.
            _ => cursor.moved_to(next),
        }
    }

    /// The contiguous bytes from `cursor` on, at most `bytes_max`, not beyond entry `until`, and for who waits for an epoch
    /// not beyond where the next one begins. Of the strip that it reads; [`Journal::board`] says who rides the deflated one.
    ///
    /// Ends at an entry boundary unless not even one entry fits: then it is that entry's first `bytes_max` bytes and
    /// `next` is still `cursor`. Empty when its entry is not in the window. Constant time unless the bound cuts.
    pub fn span(&self, cursor: Cursor, until: Offset, bytes_max: usize) -> Span<'_> {
        let from = cursor.offset();
        let (bytes, next) = match (cursor.ride(), &self.deflated) {
            (Ride::Riding, Some(deflated)) => deflated.span(from, until, bytes_max),
            (Ride::Waiting, Some(deflated)) => {
                let epoch = deflated.next_epoch(from).unwrap_or(until);
                self.span_of(&self.frames, from, until.min(epoch), bytes_max)
            }
            (ride, _) => self.span_of(self.lane_of(ride), from, until, bytes_max),
        };
        Span { bytes, next: cursor.sent_to(next) }
    }

    fn span_of<'a>(
        &'a self,
        lane: &'a Lane,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> (&'a [u8], Offset) {
        let Some(index) = self.index(from) else { return (&[], from) };
        let until = self.index(until).unwrap_or(self.entries.len());
        let (bytes, next) = lane.span(index, until, bytes_max);
        (bytes, self.offset_of(next))
    }

    /// The strip that `ride` reads; that of plain frames if it is not kept.
    pub(super) fn lane_of(&self, ride: Ride) -> &Lane {
        let written = self.written.iter().find(|(other, _)| *other == ride);
        debug_assert!(
            written.is_some() || ride.encoding() == Encoding::Frame,
            "a strip that is read is kept"
        );
        written.map_or(&self.frames, |(_, written)| &written.lane)
    }

    /// Where a subscriber at `cursor` goes on that is not sent its next message.
    pub fn step_over(&self, cursor: Cursor) -> Cursor {
        let stepped_over = cursor.offset();
        let is_missed = self.deflated.as_ref().is_none_or(|deflated| deflated.is_deflated(stepped_over));
        let next = stepped_over.next();
        if is_missed { cursor.moved_to(next) } else { cursor.sent_to(next) }
    }

    /// The first entry from `from` on that `origin` sent. Linear in the entries between.
    pub fn next_sent_by(&self, origin: Origin, from: Offset) -> Option<Offset> {
        let start = self.index(from)?;
        let sent = self.entries.range(start..).find(|entry| entry.origin() == Some(origin));
        sent.map(|entry| entry.offset)
    }

    /// Which entry a write that stopped `taken` bytes after the start of the entry at `cursor` got to: the entry that
    /// comes next for the subscriber, and the rest of the one that was cut, if it was.
    pub fn interrupted(&self, cursor: Cursor, taken: usize) -> (Cursor, Option<Bytes>) {
        let from = cursor.offset();
        let (next, rest) = match (cursor.ride(), &self.deflated) {
            (Ride::Riding, Some(deflated)) => deflated.interrupted(from, taken),
            (ride, _) => match self.index(from) {
                Some(index) => {
                    let (next, rest) = self.lane_of(ride).interrupted(index, taken);
                    (self.offset_of(next), rest)
                }
                None => (from, None),
            },
        };
        (cursor.sent_to(next), rest)
    }
}
