//! The index of a channel's strips: messages by offset, and what may be let go.
//!
//! Kept is what history promises to those who come later, and what subscribers still need, the latter within a
//! strict bound: a reader further behind than that is overtaken, and its channel's lag policy acts. Offsets are
//! consecutive in this **window**, `first..next`. Before it lies the **base**: of older messages the newest of each key,
//! where the channel keeps those. Distance and bounds count the bytes of the window's plain frames for everybody: the
//! other strips are in step with them, and the deflated one no longer but for a few bytes an epoch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::cursor::Ride;
use super::deflated::DeflatedStrip;
use super::entry::Entry;
use super::keys::Keys;
use super::lane::Lane;
use super::written::Written;
use crate::model::{ChannelName, Encoding, Epoch, Offset, Publication, Time};

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

/// What a channel with keys keeps of them.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) keys: Keys,
    /// The newest of each key stays whatever its age; else only as long as a subscriber may not have had it.
    pub(super) is_retained: bool,
    /// Bytes of dropped entries in the base.
    pub(super) dropped_bytes: u64,
}

/// A channel's entries and their bytes. Empty, it owns no memory.
#[derive(Debug)]
pub struct Journal {
    pub(super) frames: Lane,
    /// First the base, then the window `first..next`.
    pub(super) entries: VecDeque<Entry>,
    /// Entries of the base.
    pub(super) base: usize,
    pub(super) next: Offset,
    /// The newest message that was let go without a newer one of its key.
    pub(super) last_lost: Offset,
    /// There while some subscriber reads it.
    pub(super) deflated: Option<Box<DeflatedStrip>>,
    /// There while some subscriber reads one: at most one an encoding.
    pub(super) written: Vec<(Ride, Written)>,
    pub(super) keyed: Option<Box<Keyed>>,
    /// Entries that expire, the first on top; some of them may be gone.
    pub(super) expiries: BinaryHeap<Reverse<(Time, Offset)>>,
    /// Entries of the window that have expired.
    pub(super) expired: usize,
    /// Bytes that entries hold beyond themselves.
    pub(super) terms_bytes: usize,
}

impl Journal {
    /// An empty journal whose first entry will be `next`.
    pub fn new(next: Offset) -> Self {
        Self {
            frames: Lane::default(),
            entries: VecDeque::new(),
            base: 0,
            next,
            last_lost: Offset(next.0.saturating_sub(1)),
            deflated: None,
            written: Vec::new(),
            keyed: None,
            expiries: BinaryHeap::new(),
            expired: 0,
            terms_bytes: 0,
        }
    }

    /// Notes which message is the newest of each key from here on, of `keys_max` keys at most. With `is_retained` that one is
    /// kept whatever its age.
    pub fn keep_keys(&mut self, keys_max: usize, is_retained: bool) {
        if self.keyed.is_none() {
            let keys = Keys::new(keys_max);
            self.keyed = Some(Box::new(Keyed { keys, is_retained, dropped_bytes: 0 }));
        }
    }

    /// Keeps a deflated strip too, from the next entry on, as long as `is_kept`: some subscriber reads it.
    pub fn keep_deflated(&mut self, is_kept: bool) {
        match is_kept {
            true if self.deflated.is_none() => self.deflated = Some(Box::new(DeflatedStrip::new(self.next))),
            true => {}
            false => self.deflated = None,
        }
    }

    /// Keeps the strip that `ride` reads as well, of the stream `epoch` of `channel`, as long as `is_kept`. The entries that
    /// are there are written at once: linear in their bytes. Says how many.
    pub fn keep_written(&mut self, ride: Ride, is_kept: bool, channel: &ChannelName, epoch: Epoch) -> usize {
        let place = self.written.iter().position(|(other, _)| *other == ride);
        match (place, is_kept) {
            (None, true) if ride.encoding() != Encoding::Frame => {
                let mut written = Written::new(ride.encoding(), channel.clone(), epoch);
                for (index, entry) in self.entries.iter().enumerate() {
                    written.push(entry, self.frames.bytes(index));
                }
                self.written.push((ride, written));
                return self.entries.len();
            }
            (Some(place), false) => {
                self.written.swap_remove(place);
                if self.written.is_empty() {
                    self.written = Vec::new();
                }
            }
            _ => {}
        }
        0
    }

    /// Strips in other encodings that are kept.
    pub fn written_strips(&self) -> usize {
        self.written.len()
    }

    /// Whether a deflated strip is kept.
    pub fn has_deflated(&self) -> bool {
        self.deflated.is_some()
    }

    /// The oldest entry of the window; equals [`Journal::next`] when there is none.
    pub fn first(&self) -> Offset {
        Offset(self.next.0 - self.len() as u64)
    }

    /// The oldest entry of all, base included; equals [`Journal::next`] when there is none.
    pub fn oldest(&self) -> Offset {
        self.entries.front().map_or(self.next, |entry| entry.offset)
    }

    /// The offset of the next entry to come: where a subscriber that wants only what comes starts.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Entries of the window.
    pub fn len(&self) -> usize {
        self.entries.len() - self.base
    }

    /// Whether nothing is kept, base included.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys of which the newest message is known.
    pub fn keys(&self) -> usize {
        self.keyed.as_ref().map_or(0, |keyed| keyed.keys.len())
    }

    /// Of those, keys that are not deleted: messages of a snapshot.
    pub fn states(&self) -> usize {
        self.keyed.as_ref().map_or(0, |keyed| keyed.keys.alive())
    }

    /// Wire bytes of the entries of the window.
    pub fn bytes(&self) -> u64 {
        self.frames.bytes_from(self.base)
    }

    /// Bytes of memory held, index and other strips included. Constant time.
    pub fn memory_bytes(&self) -> usize {
        let keyed = self.keyed.as_ref().map_or(0, |keyed| size_of::<Keyed>() + keyed.keys.memory_bytes());
        self.frames.memory_bytes()
            + self.entries.capacity() * size_of::<Entry>()
            + self.terms_bytes
            + self.deflated.as_ref().map_or(0, |deflated| deflated.memory_bytes())
            + self.written.iter().map(|(_, written)| written.memory_bytes()).sum::<usize>()
            + self.expiries.capacity() * size_of::<(Time, Offset)>()
            + keyed
    }

    /// Adds `publication` as entry `offset`. Amortised linear in its bytes; logarithmic in the keys if it has one.
    ///
    /// An `offset` other than [`Journal::next`] begins anew there: what was kept before belongs to another numbering
    /// or lies across a hole, and is let go.
    pub fn append(&mut self, offset: Offset, publication: &Publication) {
        if offset != self.next {
            self.clear(offset);
        }
        if let Some(deflated) = &mut self.deflated {
            deflated.append(offset, publication);
        }
        self.next = offset.next();
        self.push(offset, publication);
    }

    /// Adds what another journal kept of old messages, before the first is appended: entry `offset` to the base, after those
    /// that are there. Nothing, unless that is kept here whatever its age, or somebody `is_behind` and needs it: else it
    /// would never go.
    pub fn restore(&mut self, offset: Offset, publication: &Publication, is_behind: bool) {
        if !self.keyed.as_ref().is_some_and(|keyed| keyed.is_retained || is_behind) {
            return;
        }
        debug_assert!(self.entries.len() == self.base && offset < self.next, "the base comes first");
        self.push(offset, publication);
        self.base = self.entries.len();
    }

    fn push(&mut self, offset: Offset, publication: &Publication) {
        let entry = Entry::new(offset, publication);
        for (_, written) in &mut self.written {
            written.push(&entry, &publication.frame);
        }
        self.frames.push(&publication.frame);
        if entry.expires_at() != Time::NEVER {
            self.expiries.push(Reverse((entry.expires_at(), offset)));
        }
        self.terms_bytes += entry.memory_bytes();
        self.entries.push_back(entry);
        self.supersede(offset);
    }

    fn clear(&mut self, next: Offset) {
        self.entries.clear();
        self.frames.clear();
        self.expiries.clear();
        (self.base, self.expired, self.terms_bytes) = (0, 0, 0);
        self.last_lost = Offset(next.0.saturating_sub(1));
        for (_, written) in &mut self.written {
            written.lane.clear();
        }
        if let Some(deflated) = &mut self.deflated {
            **deflated = DeflatedStrip::new(next);
        }
        if let Some(keyed) = &mut self.keyed {
            keyed.keys.clear();
            keyed.dropped_bytes = 0;
        }
    }

    /// The entry at `offset`, if it is in the window.
    pub fn entry(&self, offset: Offset) -> Option<&Entry> {
        self.entries.get(self.index(offset)?)
    }

    /// What is kept of old messages and not superseded, oldest first.
    pub fn base(&self) -> impl Iterator<Item = (&Entry, Bytes)> {
        let base = self.entries.iter().take(self.base).enumerate().filter(|(_, entry)| entry.is_live());
        base.map(|(index, entry)| (entry, self.frames.share(index, 0).unwrap_or_default()))
    }

    /// Wire bytes from `cursor` to the newest entry; what was let go counts as one byte an entry.
    pub fn bytes_behind(&self, cursor: Offset) -> u64 {
        match self.index(cursor) {
            Some(index) => self.frames.bytes_from(index),
            None if cursor >= self.next => 0,
            None => self.bytes() + (self.first().0 - cursor.0),
        }
    }

    /// The complete wire bytes of the entry at `offset`, for sending it on to another shard.
    pub fn frame(&self, offset: Offset) -> Option<Bytes> {
        self.frames.share(self.index(offset)?, 0)
    }

    /// The newest message that was let go without a newer one of its key; of what lies before the journal began nothing is
    /// known.
    pub(super) fn last_lost(&self) -> Offset {
        self.last_lost
    }

    /// Entry `index` of all, base included.
    pub(super) fn entry_at(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// The index of the first entry from `offset` on, base included.
    pub(super) fn first_from(&self, offset: Offset) -> usize {
        if offset >= self.first() {
            return self.index(offset).unwrap_or(self.entries.len());
        }
        let base = self.base;
        // A binary search over the base, which is in order of offsets.
        let mut range = 0..base;
        while range.start < range.end {
            let middle = usize::midpoint(range.start, range.end);
            if self.entries[middle].offset < offset {
                range.start = middle + 1;
            } else {
                range.end = middle;
            }
        }
        range.start
    }

    /// The index of entry `offset`, base included.
    pub(super) fn find(&self, offset: Offset) -> Option<usize> {
        let index = self.first_from(offset);
        self.entries.get(index).is_some_and(|entry| entry.offset == offset).then_some(index)
    }

    /// The index of entry `offset` of the window. Constant time.
    pub(super) fn index(&self, offset: Offset) -> Option<usize> {
        let index = usize::try_from(offset.0.checked_sub(self.first().0)?).ok()?;
        (index < self.len()).then_some(self.base + index)
    }

    /// The offset of the entry of the window at `index`, or of the next to come.
    pub(super) fn offset_of(&self, index: usize) -> Offset {
        Offset(self.first().0 + (index - self.base) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Cursor, Reader};
    use crate::model::{ChannelName, MessageKey, PayloadKind};

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
        // In Miri, which interprets all of it, not at every one of the long frame.
        for taken in (0..=whole.len()).filter(|taken| !cfg!(miri) || *taken < 100 || taken % 500 == 0) {
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

    fn keyed_publication(key: &str, ttl_ms: u64) -> Publication {
        let key = Some(MessageKey::parse(key).unwrap());
        let expires_at = if ttl_ms == 0 { Time::NEVER } else { Time::from_millis(ttl_ms) };
        Publication { key, expires_at, ..publication(10, Time::ZERO) }
    }

    const NOBODY: Need = Need { from: Offset(u64::MAX), bytes_max: 0 };

    /// The window has more keys than the channel may have.
    #[test]
    fn a_key_that_was_pushed_out_while_in_the_window_does_not_stay_behind_it() {
        let mut journal = Journal::new(Offset(1));
        journal.keep_keys(10, true);
        let window = Window { messages: 30, ..EVERYTHING };
        for offset in 1..=1000 {
            journal.append(Offset(offset), &keyed_publication(&offset.to_string(), 0));
            journal.retain(window, NOBODY, Time::ZERO);
        }
        assert_eq!((journal.keys(), journal.len(), journal.base().count()), (10, 30, 0));
        let reader = Reader { me: None, snapshot_until: Some(journal.next()) };
        let snapshot = journal.read(Cursor::plain(journal.oldest()), reader, 1 << 20, &mut Vec::new());
        assert_eq!(snapshot.entries, journal.states() as u64);
        let everybody = Need { from: Offset(1), bytes_max: 100 };
        for offset in 1001..=2000 {
            journal.append(Offset(offset), &keyed_publication(&offset.to_string(), 0));
            journal.retain(NOTHING, everybody, Time::ZERO);
            assert!(journal.entries.len() < 1000, "{} entries at {offset}", journal.entries.len());
        }
    }

    #[test]
    fn a_base_that_is_not_retained_here_is_not_restored() {
        for keeps_keys in [false, true] {
            let mut journal = Journal::new(Offset(100));
            if keeps_keys {
                journal.keep_keys(10, false);
            }
            journal.restore(Offset(5), &keyed_publication("a", 0), false);
            for offset in 100..1000 {
                journal.append(Offset(offset), &publication(10, Time::ZERO));
                journal.retain(NOTHING, Need { from: Offset(offset), bytes_max: 100 }, Time::ZERO);
                assert_eq!(journal.entries.len(), 1);
            }
        }
    }

    #[test]
    fn a_base_that_a_reader_needs_is_restored_until_it_has_passed() {
        let mut journal = Journal::new(Offset(100));
        journal.keep_keys(10, false);
        journal.restore(Offset(5), &keyed_publication("a", 0), true);
        for (offset, needed_from, kept) in [(100, 5, 2), (101, 5, 2), (102, 102, 1)] {
            journal.append(Offset(offset), &publication(10, Time::ZERO));
            journal.retain(NOTHING, Need { from: Offset(needed_from), bytes_max: 0 }, Time::ZERO);
            assert_eq!(journal.entries.iter().filter(|entry| entry.is_live()).count(), kept, "{offset}");
        }
    }

    #[test]
    fn expiries_of_what_is_gone_are_not_kept() {
        let mut journal = Journal::new(Offset(1));
        let window = Window { messages: 10, ..EVERYTHING };
        // Fewer in Miri, which interprets them.
        let count = if cfg!(miri) { 300 } else { 10_000 };
        for offset in 1..=count {
            journal.append(Offset(offset), &keyed_publication("a", 60_000 + offset));
            journal.retain(window, NOBODY, Time::ZERO);
            assert!(journal.expiries.len() < 100, "{}", journal.expiries.len());
        }
        journal.expire(Time::from_millis(60_000 + count - 5));
        assert_eq!(journal.expired, 5, "of the last ten the first five");
    }
}
