//! Reading a journal at another pace than every message: what is left out, and why.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::cursor::Cursor;
use super::entry::Entry;
use super::journal::Journal;
use crate::model::{Offset, Origin};

/// Messages that a subscriber was not sent, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// A newer message of the same key takes their place.
    pub superseded: u64,
    /// They were too old when their turn came.
    pub expired: u64,
    /// They were let go before their turn came: some may have been superseded as well.
    pub lost: u64,
    /// The subscriber sent them itself.
    pub own: u64,
}

impl Passed {
    /// One message that the subscriber sent itself.
    pub const OWN: Self = Self { superseded: 0, expired: 0, lost: 0, own: 1 };
    /// One message that was too old.
    pub const EXPIRED: Self = Self { superseded: 0, expired: 1, lost: 0, own: 0 };

    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.superseded += other.superseded;
        self.expired += other.expired;
        self.lost += other.lost;
        self.own += other.own;
    }

    /// Less as many to hear of as are in `other`: of the same reason as far as there are, else of another. A message that was
    /// superseded may have expired by the time it is passed.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        let mut left = self;
        let mut debt = 0;
        let counts = [
            (&mut left.superseded, other.superseded),
            (&mut left.expired, other.expired),
            (&mut left.lost, other.lost),
        ];
        for (count, less) in counts {
            debt += less.saturating_sub(*count);
            *count = count.saturating_sub(less);
        }
        for count in [&mut left.superseded, &mut left.expired, &mut left.lost] {
            let less = debt.min(*count);
            *count -= less;
            debt -= less;
        }
        left.own = left.own.saturating_sub(other.own);
        left
    }

    /// Messages that a subscriber may want to hear of.
    pub const fn told(&self) -> u64 {
        self.superseded + self.expired + self.lost
    }
}

/// For whom a journal is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reader {
    /// Set when it has sent messages itself: those are left out.
    pub me: Option<Origin>,
    /// Before this, of each key the newest that was not deleted, and nothing else: a snapshot. What is left out of it counts
    /// for nothing.
    pub snapshot_until: Option<Offset>,
}

/// What a reading gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Where the reader stands that is sent all of it.
    pub next: Cursor,
    /// Entries in it.
    pub entries: u64,
    /// What was left out.
    pub passed: Passed,
    /// Not even one entry fitted: it ends inside the one at `next`.
    pub is_cut: bool,
}

enum Step {
    Pass(Offset, Passed),
    Entry(usize, Offset),
}

impl Journal {
    /// Appends to `out` what a reader at `cursor` is to have that leaves out the superseded: at most `bytes_max` bytes, and of
    /// the first entry as much as that if it alone is longer. Linear in what is read and left out.
    pub fn read(&self, cursor: Cursor, reader: Reader, bytes_max: usize, out: &mut Vec<u8>) -> Stretch {
        let begin = out.len();
        let mut stretch = Stretch { next: cursor, entries: 0, passed: Passed::default(), is_cut: false };
        let lane = self.lane_of(cursor.ride());
        self.walk(cursor, reader, |step| {
            match step {
                Step::Pass(next, passed) => {
                    stretch.next = stretch.next.moved_to(next);
                    stretch.passed.add(passed);
                }
                Step::Entry(index, offset) => {
                    let bytes = lane.bytes(index);
                    let room = bytes_max - (out.len() - begin);
                    if bytes.len() > room {
                        if stretch.entries == 0 && room == bytes_max {
                            out.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                            stretch.next = stretch.next.moved_to(offset);
                            stretch.is_cut = true;
                        }
                        return ControlFlow::Break(());
                    }
                    out.extend_from_slice(bytes);
                    stretch.entries += 1;
                    stretch.next = stretch.next.moved_to(offset.next());
                }
            }
            ControlFlow::Continue(())
        });
        stretch
    }

    /// How far a reader got whose socket took `taken` bytes of what [`Journal::read`] gave, and the rest of the entry that
    /// was cut, if it was: that one counts as read.
    pub fn read_interrupted(&self, cursor: Cursor, reader: Reader, taken: usize) -> (Stretch, Option<Bytes>) {
        let mut left = taken;
        let mut rest = None;
        let mut stretch = Stretch { next: cursor, entries: 0, passed: Passed::default(), is_cut: false };
        let lane = self.lane_of(cursor.ride());
        self.walk(cursor, reader, |step| {
            match step {
                Step::Pass(..) if left == 0 => return ControlFlow::Break(()),
                Step::Pass(next, passed) => {
                    stretch.next = stretch.next.moved_to(next);
                    stretch.passed.add(passed);
                }
                Step::Entry(index, offset) => {
                    if left == 0 {
                        return ControlFlow::Break(());
                    }
                    let length = lane.bytes(index).len();
                    stretch.entries += 1;
                    stretch.next = stretch.next.moved_to(offset.next());
                    if left < length {
                        rest = lane.share(index, left);
                        return ControlFlow::Break(());
                    }
                    left -= length;
                }
            }
            ControlFlow::Continue(())
        });
        (stretch, rest)
    }

    /// What a reader at `cursor` is not sent on its way to `until`. Linear in what is read and left out.
    pub fn passed_on_the_way(&self, cursor: Cursor, reader: Reader, until: Offset) -> (u64, Passed) {
        let (mut entries, mut sum) = (0, Passed::default());
        self.walk_until(cursor, reader, until, |step| {
            match step {
                Step::Pass(_, passed) => sum.add(passed),
                Step::Entry(..) => entries += 1,
            }
            ControlFlow::Continue(())
        });
        (entries, sum)
    }

    /// Goes from `cursor` to the head, or to the end of the snapshot, and tells of what is read and what is left out.
    fn walk(&self, cursor: Cursor, reader: Reader, visit: impl FnMut(Step) -> ControlFlow<()>) {
        self.walk_until(cursor, reader, reader.snapshot_until.unwrap_or(self.next()), visit);
    }

    /// The same, to `until`. What is left out in a row is told of at once: a slow reader of keys has thousands of those.
    fn walk_until(
        &self,
        cursor: Cursor,
        reader: Reader,
        until: Offset,
        mut visit: impl FnMut(Step) -> ControlFlow<()>,
    ) {
        let (begin, mut at) = (cursor.offset(), cursor.offset());
        let mut told = begin;
        let mut passed = Passed::default();
        let mut index = self.first_from(begin);
        loop {
            let superseded = self.superseded_in_a_row(index, at, until, reader);
            (index, at) = (index + superseded, Offset(at.0 + superseded as u64));
            passed.superseded += superseded as u64;
            let entry = self.entry_at(index).filter(|entry| entry.offset < until);
            let found = entry.map_or(until, |entry| entry.offset);
            if at < found {
                passed.add(self.missing(at, found));
                at = found;
            }
            let Some(entry) = entry else { break };
            (index, at) = (index + 1, found.next());
            if let Some(reason) = self.reason_to_pass(entry, reader) {
                passed.add(reason);
                continue;
            }
            if told < found
                && visit(Step::Pass(found, counted(std::mem::take(&mut passed), reader))).is_break()
            {
                return;
            }
            if visit(Step::Entry(index - 1, found)).is_break() {
                return;
            }
            told = at;
        }
        if told < at {
            let _ = visit(Step::Pass(at, counted(passed, reader)));
        }
    }

    /// How many entries from `index` on, which is `at`, are superseded and nothing else, before `until`. A loop of its own: of
    /// a reader that fell far behind it is nearly all that there is to do.
    fn superseded_in_a_row(&self, index: usize, at: Offset, until: Offset, reader: Reader) -> usize {
        let is_window = index >= self.base && self.entry_at(index).is_some_and(|entry| entry.offset == at);
        // Whether one is the reader's own is said by the entry's terms.
        if !is_window || reader.me.is_some() {
            return 0;
        }
        let most = usize::try_from(until.0.saturating_sub(at.0)).unwrap_or(usize::MAX);
        let entries = self.entries.range(index..).take(most);
        entries.take_while(|entry| entry.is_superseded_alone()).count()
    }

    /// Messages `from..to`, none of which is kept.
    fn missing(&self, from: Offset, to: Offset) -> Passed {
        let count = to.0.saturating_sub(from.0);
        if from <= self.last_lost() {
            Passed { lost: count, ..Passed::default() }
        } else {
            Passed { superseded: count, ..Passed::default() }
        }
    }

    fn reason_to_pass(&self, entry: &Entry, reader: Reader) -> Option<Passed> {
        if reader.me.is_some() && entry.origin() == reader.me {
            return Some(Passed::OWN);
        }
        if entry.is_expired() {
            return Some(Passed::EXPIRED);
        }
        if entry.is_superseded() {
            return Some(Passed { superseded: 1, ..Passed::default() });
        }
        if entry.is_dropped() {
            return Some(self.missing(entry.offset, entry.offset.next()));
        }
        let is_state = entry.key().is_some() && !entry.is_deletion() && !entry.is_forgotten();
        (reader.snapshot_until.is_some() && !is_state).then_some(Passed::default())
    }
}

fn counted(passed: Passed, reader: Reader) -> Passed {
    if reader.snapshot_until.is_some() { Passed::default() } else { passed }
}
