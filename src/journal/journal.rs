//! The index of a channel's strips: messages by offset, and what may be let go.
//!
//! Kept is what history promises to those who come later, and what subscribers still need, the latter within a
//! strict bound: a reader further behind than that is overtaken, and its channel's lag policy acts. Offsets are
//! consecutive; `first..next` are here. Distance and bounds count the bytes of the plain strip for everybody: the
//! deflated one is in step with it, and no longer but for a few bytes an epoch.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::cursor::{Cursor, Ride};
use super::deflated::DeflatedStrip;
use super::strip::Strip;
use super::track::{Place, Track};
use crate::model::{Offset, Origin, Publication, Time};

/// One message of a journal.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    place: Place,
    /// When the gateway took it.
    pub accepted_at: Time,
    /// The connection that sent it, if one did.
    pub origin: Option<Origin>,
}

/// What history promises: entries within all three bounds are kept for those who come later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Most entries; 0 keeps none.
    pub messages: u64,
    /// Most bytes.
    pub bytes: u64,
    /// Oldest.
    pub age: Duration,
}

/// What the present subscribers still need: entries from `from` on, as far as they fit in `bytes_max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// No subscriber's cursor is before this.
    pub from: Offset,
    /// Strict bound on the bytes held for them; the newest entry is always kept.
    pub bytes_max: u64,
}

/// A run of entries as bytes: contiguous, starting and ending at an entry boundary or at `bytes_max`.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// The wire bytes.
    pub bytes: &'a [u8],
    /// Where a subscriber stands that is sent all of it: at the entry after the last whole one in `bytes`.
    pub next: Cursor,
}

/// A channel's entries `first..next` and their bytes. Empty, it owns no memory.
#[derive(Debug)]
pub struct Journal {
    strip: Strip,
    entries: VecDeque<Entry>,
    next: Offset,
    /// There while some subscriber reads it.
    deflated: Option<Box<DeflatedStrip>>,
}

impl Journal {
    /// An empty journal whose first entry will be `next`.
    pub fn new(next: Offset) -> Self {
        Self { strip: Strip::default(), entries: VecDeque::new(), next, deflated: None }
    }

    /// Keeps a deflated strip too, from the next entry on, as long as `is_kept`: some subscriber reads it.
    pub fn keep_deflated(&mut self, is_kept: bool) {
        match is_kept {
            true if self.deflated.is_none() => self.deflated = Some(Box::new(DeflatedStrip::new(self.next))),
            true => {}
            false => self.deflated = None,
        }
    }

    /// Whether a deflated strip is kept.
    pub fn has_deflated(&self) -> bool {
        self.deflated.is_some()
    }

    /// The oldest entry kept; equals [`Journal::next`] when there is none.
    pub fn first(&self) -> Offset {
        Offset(self.next.0 - self.entries.len() as u64)
    }

    /// The offset of the next entry to come: where a subscriber that wants only what comes starts.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Entries kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Wire bytes of the entries kept.
    pub fn bytes(&self) -> u64 {
        self.entries.front().map_or(0, |entry| self.strip.end() - entry.place.start)
    }

    /// Bytes of memory held, index and deflated strip included. Constant time.
    pub fn memory_bytes(&self) -> usize {
        self.strip.memory_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.deflated.as_ref().map_or(0, |deflated| deflated.memory_bytes())
    }

    /// Adds `publication` as entry `offset`. Amortised linear in its bytes.
    ///
    /// An `offset` other than [`Journal::next`] begins anew there: what was kept before belongs to another numbering
    /// or lies across a hole, and is let go.
    pub fn append(&mut self, offset: Offset, publication: &Publication) {
        if offset != self.next {
            self.entries.clear();
            self.strip.trim(self.strip.end());
            if let Some(deflated) = &mut self.deflated {
                **deflated = DeflatedStrip::new(offset);
            }
        }
        if let Some(deflated) = &mut self.deflated {
            deflated.append(offset, publication);
        }
        let bytes = u32::try_from(publication.frame.len()).unwrap_or(u32::MAX);
        self.entries.push_back(Entry {
            place: Place { start: self.strip.end(), bytes },
            accepted_at: publication.accepted_at,
            origin: publication.origin,
        });
        self.strip.append(&publication.frame);
        self.next = offset.next();
    }

    /// The entry at `offset`, if it is kept.
    pub fn entry(&self, offset: Offset) -> Option<&Entry> {
        self.entries.get(self.index(offset)?)
    }

    /// Wire bytes from `cursor` to the newest entry; what was let go counts as one byte an entry.
    pub fn bytes_behind(&self, cursor: Offset) -> u64 {
        match self.entry(cursor) {
            Some(entry) => self.strip.end() - entry.place.start,
            None if cursor >= self.next => 0,
            None => self.bytes() + (self.first().0 - cursor.0),
        }
    }

    /// The first entry from `from` on that begins an epoch of the deflated strip. Logarithmic in the epochs kept.
    pub fn next_epoch(&self, from: Offset) -> Option<Offset> {
        self.deflated.as_ref()?.next_epoch(from)
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
    /// not beyond where the next one begins. Of the deflated strip for who rides; [`Journal::board`] says who does.
    ///
    /// Ends at an entry boundary unless not even one entry fits: then it is that entry's first `bytes_max` bytes and
    /// `next` is still `cursor`. Empty when its entry is not kept. Constant time unless the bound cuts.
    pub fn span(&self, cursor: Cursor, until: Offset, bytes_max: usize) -> Span<'_> {
        let from = cursor.offset();
        let (bytes, next) = match (cursor.ride(), &self.deflated) {
            (Ride::Riding, Some(deflated)) => deflated.span(from, until, bytes_max),
            (Ride::Waiting, Some(deflated)) => {
                let epoch = deflated.next_epoch(from).unwrap_or(until);
                Track::span(self, from, until.min(epoch), bytes_max)
            }
            _ => Track::span(self, from, until, bytes_max),
        };
        Span { bytes, next: cursor.sent_to(next) }
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
        let place = self.entries.range(start..).position(|entry| entry.origin == Some(origin))?;
        Some(Offset(from.0 + place as u64))
    }

    /// Which entry a write that stopped `taken` bytes after the start of the entry at `cursor` got to: the entry that
    /// comes next for the subscriber, and the rest of the one that was cut, if it was.
    pub fn interrupted(&self, cursor: Cursor, taken: usize) -> (Cursor, Option<Bytes>) {
        let from = cursor.offset();
        let (next, rest) = match (cursor.ride(), &self.deflated) {
            (Ride::Riding, Some(deflated)) => deflated.interrupted(from, taken),
            _ => Track::interrupted(self, from, taken),
        };
        (cursor.sent_to(next), rest)
    }

    /// The complete wire bytes of the entry at `offset`, for sending it on to another shard.
    pub fn frame(&self, offset: Offset) -> Option<Bytes> {
        let entry = self.entry(offset)?;
        Some(self.strip.share(entry.place.start, entry.place.bytes as usize))
    }

    /// Lets go of what neither history nor the subscribers keep. Linear in what goes.
    pub fn retain(&mut self, window: Window, need: Need, now: Time) {
        while let Some(front) = self.entries.front() {
            let offset = self.first();
            let bytes_from_here = self.strip.end() - front.place.start;
            let is_history = (self.entries.len() as u64) <= window.messages
                && bytes_from_here <= window.bytes
                && now.since(front.accepted_at) <= window.age;
            let is_needed =
                offset >= need.from && (bytes_from_here <= need.bytes_max || offset.next() == self.next);
            if is_history || is_needed {
                break;
            }
            self.entries.pop_front();
        }
        if let Some(deflated) = &mut self.deflated {
            deflated.trim(Offset(self.next.0 - self.entries.len() as u64));
        }
        match self.entries.front() {
            Some(front) => self.strip.trim(front.place.start),
            None => {
                self.strip.release();
                self.entries = VecDeque::new();
            }
        }
    }

    fn index(&self, offset: Offset) -> Option<usize> {
        let index = offset.0.checked_sub(self.first().0)?;
        usize::try_from(index).ok().filter(|index| *index < self.entries.len())
    }
}

impl Track for Journal {
    fn strip(&self) -> &Strip {
        &self.strip
    }

    fn place(&self, offset: Offset) -> Option<Place> {
        self.entry(offset).map(|entry| entry.place)
    }

    fn offset_at(&self, at: u64) -> Offset {
        if at >= self.strip.end() {
            return self.next;
        }
        let index = self.entries.partition_point(|entry| entry.place.start <= at);
        Offset(self.first().0 + index.saturating_sub(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, PayloadKind};

    const EVERYTHING: Window = Window { messages: u64::MAX, bytes: u64::MAX, age: Duration::MAX };
    const NOTHING: Window = Window { messages: 0, bytes: 0, age: Duration::ZERO };

    fn publication(bytes: usize, at: Time) -> Publication {
        let channel = ChannelName::parse("c").unwrap();
        Publication::encode(channel, PayloadKind::Binary, &vec![bytes as u8; bytes], at, None)
    }

    fn journal(sizes: &[usize]) -> Journal {
        let mut journal = Journal::new(Offset(1));
        for (index, size) in sizes.iter().enumerate() {
            journal.append(Offset(index as u64 + 1), &publication(*size, Time::from_millis(index as u64)));
        }
        journal
    }

    #[test]
    fn one_span_carries_everything_from_the_cursor_to_the_head() {
        let journal = journal(&[10, 20, 30]);
        let span = journal.span(Cursor::plain(Offset(2)), Offset(99), 1000);
        assert_eq!((span.bytes.len(), span.next.offset()), (22 + 32, Offset(4)));
        assert!(journal.span(Cursor::plain(Offset(4)), Offset(99), 1000).bytes.is_empty());
        assert!(journal.span(Cursor::plain(Offset(0)), Offset(99), 1000).bytes.is_empty());
    }

    #[test]
    fn a_bounded_span_ends_at_an_entry_boundary_unless_not_one_entry_fits() {
        let journal = journal(&[10, 20, 30]);
        for (bytes_max, expected, next) in [
            (11, 11, Offset(1)),
            (12, 12, Offset(2)),
            (33, 12, Offset(2)),
            (34, 34, Offset(3)),
            (66, 66, Offset(4)),
        ] {
            let span = journal.span(Cursor::plain(Offset(1)), Offset(99), bytes_max);
            assert_eq!((span.bytes.len(), span.next.offset()), (expected, next), "at most {bytes_max}");
        }
        let until = journal.span(Cursor::plain(Offset(1)), Offset(3), 1000);
        assert_eq!((until.bytes.len(), until.next.offset()), (34, Offset(3)));
    }

    #[test]
    fn spans_stop_where_a_large_frame_begins_and_ends() {
        let journal = journal(&[10, 9000, 20]);
        assert_eq!(journal.span(Cursor::plain(Offset(1)), Offset(99), 1 << 20).next.offset(), Offset(2));
        assert_eq!(journal.span(Cursor::plain(Offset(2)), Offset(99), 1 << 20).next.offset(), Offset(3));
        assert_eq!(journal.span(Cursor::plain(Offset(3)), Offset(99), 1 << 20).next.offset(), Offset(4));
    }

    #[test]
    fn an_interrupted_write_resumes_at_every_byte() {
        let journal = journal(&[10, 20, 9000]);
        let whole: Vec<u8> = (1..=3).flat_map(|offset| journal.frame(Offset(offset)).unwrap()).collect();
        for taken in 0..=whole.len() {
            let (next, rest) = journal.interrupted(Cursor::plain(Offset(1)), taken);
            let mut seen = whole[..taken].to_vec();
            seen.extend_from_slice(&rest.unwrap_or_default());
            for offset in next.offset().0..4 {
                seen.extend_from_slice(&journal.frame(Offset(offset)).unwrap());
            }
            assert_eq!(seen, whole, "cut after {taken} bytes");
        }
    }

    #[test]
    fn history_keeps_by_count_bytes_and_age() {
        let nobody = Need { from: Offset(u64::MAX), bytes_max: 0 };
        let now = Time::from_millis(9);
        for (window, kept) in [
            (EVERYTHING, 10),
            (Window { messages: 3, ..EVERYTHING }, 3),
            (Window { bytes: 12 * 4 + 11, ..EVERYTHING }, 4),
            (Window { age: Duration::from_millis(4), ..EVERYTHING }, 5),
            (NOTHING, 0),
        ] {
            let mut journal = journal(&[10; 10]);
            journal.retain(window, nobody, now);
            assert_eq!((journal.len(), journal.next()), (kept, Offset(11)), "{window:?}");
        }
    }

    #[test]
    fn what_subscribers_need_is_kept_within_its_strict_bound() {
        let mut journal = journal(&[10; 10]);
        journal.retain(NOTHING, Need { from: Offset(4), bytes_max: 1000 }, Time::ZERO);
        assert_eq!(journal.first(), Offset(4));
        journal.retain(NOTHING, Need { from: Offset(4), bytes_max: 24 }, Time::ZERO);
        assert_eq!(journal.first(), Offset(9));
        journal.retain(NOTHING, Need { from: Offset(1), bytes_max: 1 }, Time::ZERO);
        assert_eq!(journal.first(), Offset(10), "the newest stays");
        journal.retain(NOTHING, Need { from: Offset(11), bytes_max: 1 }, Time::ZERO);
        assert!(journal.is_empty());
        assert_eq!((journal.memory_bytes(), journal.next()), (0, Offset(11)));
    }

    #[test]
    fn a_jump_in_numbering_begins_anew() {
        let mut journal = journal(&[10, 10]);
        journal.append(Offset(7), &publication(5, Time::ZERO));
        assert_eq!((journal.first(), journal.next(), journal.bytes()), (Offset(7), Offset(8), 7));
        assert!(journal.entry(Offset(2)).is_none());
        assert_eq!(journal.bytes_behind(Offset(2)), 7 + 5);
    }
}
