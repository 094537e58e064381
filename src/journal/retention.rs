//! What a journal lets go of: what has expired, what nobody needs, what a newer message of the same key replaces.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::entry::{DROPPED, EXPIRED, Entry, FORGOTTEN, SUPERSEDED};
use super::journal::{Journal, Need, Window};
use crate::model::{Offset, Time};

/// Bytes of dropped entries that the base may hold beyond as many as it keeps.
const DROPPED_BYTES_SLACK: u64 = 16 * 1024;
/// Expiries of entries that are gone that may be kept beyond as many as there are entries, twice over.
const GONE_EXPIRIES_SLACK: usize = 64;

impl Journal {
    /// The newest entry takes the place of an older one of its key, and may push out a key too many.
    pub(super) fn supersede(&mut self, offset: Offset) {
        let Some(keyed) = &mut self.keyed else { return };
        let Some(newest) = self.entries.back() else { return };
        let Some(key) = newest.key() else { return };
        let renewed = keyed.keys.renew(key, offset, newest.is_deletion());
        if let Some(index) = renewed.superseded.and_then(|superseded| self.find(superseded)) {
            self.mark(index, SUPERSEDED);
        }
        if let Some(index) = renewed.forgotten.and_then(|forgotten| self.find(forgotten)) {
            self.forget_key(index);
            if index < self.base {
                self.last_lost = self.last_lost.max(self.entries[index].offset);
                self.mark(index, DROPPED);
            } else {
                // As long as the window has it.
                self.mark(index, FORGOTTEN);
            }
        }
    }

    /// Sets `mark` on an entry; of the base, its bytes are dropped from then on.
    fn mark(&mut self, index: usize, mark: u8) {
        let bytes = self.frames.bytes(index).len() as u64;
        let entry = &mut self.entries[index];
        let was_live = entry.is_live();
        entry.marks |= mark;
        if was_live
            && index < self.base
            && let Some(keyed) = &mut self.keyed
        {
            keyed.dropped_bytes += bytes;
        }
    }

    fn forget_key(&mut self, index: usize) {
        let entry = &self.entries[index];
        if let (Some(keyed), Some(key)) = (&mut self.keyed, entry.key()) {
            keyed.keys.forget(key, entry.offset);
        }
    }

    /// Marks what has grown too old to be sent. Constant time if nothing has.
    pub fn expire(&mut self, now: Time) {
        while let Some(Reverse((at, offset))) = self.expiries.peek().copied()
            && at <= now
        {
            self.expiries.pop();
            let Some(index) = self.find(offset) else { continue };
            self.forget_key(index);
            self.expired += usize::from(index >= self.base);
            self.mark(index, EXPIRED);
        }
    }

    /// Lets go of what neither history nor the subscribers keep. Linear in what goes.
    pub fn retain(&mut self, window: Window, need: Need, now: Time) {
        while let Some(front) = self.entries.get(self.base) {
            let offset = front.offset;
            let bytes_from_here = self.frames.bytes_from(self.base);
            let is_history = (self.len() as u64) <= window.messages
                && bytes_from_here <= window.bytes
                && now.since(front.accepted_at) <= window.age;
            let is_needed =
                offset >= need.from && (bytes_from_here <= need.bytes_max || offset.next() == self.next);
            if is_history || is_needed {
                break;
            }
            self.leave_window(need.from);
        }
        self.compact(need.from);
        let first = self.first();
        if let Some(deflated) = &mut self.deflated {
            deflated.trim(first);
        }
        self.frames.trim();
        for (_, written) in &mut self.written {
            written.lane.trim();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
            self.expiries = BinaryHeap::new();
        } else if self.expiries.len() > self.entries.len() * 2 + GONE_EXPIRIES_SLACK {
            let mut expiries = std::mem::take(&mut self.expiries);
            expiries.retain(|Reverse((_, offset))| self.find(*offset).is_some());
            expiries.shrink_to(self.entries.len() * 2);
            self.expiries = expiries;
        }
    }

    /// The first entry of the window becomes the last of the base, if it is the newest of its key and kept for that.
    fn leave_window(&mut self, needed_from: Offset) {
        let Some(front) = self.entries.get(self.base) else { return };
        let (is_live, offset) = (front.is_live(), front.offset);
        self.expired -= usize::from(front.is_expired());
        let is_needed = offset >= needed_from;
        let is_kept = is_live
            && front.key().is_some()
            && !front.is_forgotten()
            && self
                .keyed
                .as_ref()
                .is_some_and(|keyed| is_needed || (keyed.is_retained && !front.is_deletion()));
        if is_live && !is_kept {
            self.last_lost = self.last_lost.max(offset);
            self.forget_key(self.base);
        }
        if self.base == 0 && !is_kept {
            return self.pop_front();
        }
        self.base += 1;
        if !is_kept {
            let bytes = self.frames.bytes(self.base - 1).len() as u64;
            self.entries[self.base - 1].marks |= DROPPED;
            if let Some(keyed) = &mut self.keyed {
                keyed.dropped_bytes += bytes;
            }
        }
    }

    /// Takes the first entry off. Of the base it is one that is not live.
    fn pop_front(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.terms_bytes -= entry.memory_bytes();
        self.frames.pop_front();
        for (_, written) in &mut self.written {
            written.lane.pop_front();
        }
    }

    /// Lets go of what the base does not keep: at its front at once, the rest when it is more than what is kept.
    fn compact(&mut self, needed_from: Offset) {
        let Some(keyed) = &self.keyed else { return };
        let is_retained = keyed.is_retained;
        while self.base > 0 {
            let front = &self.entries[0];
            if front.is_live() && (front.offset >= needed_from || (is_retained && !front.is_deletion())) {
                break;
            }
            if front.is_live() {
                self.forget_key(0);
            } else if let Some(keyed) = &mut self.keyed {
                keyed.dropped_bytes -= self.frames.bytes(0).len() as u64;
            }
            self.pop_front();
            self.base -= 1;
        }
        let dropped_bytes = self.keyed.as_ref().map_or(0, |keyed| keyed.dropped_bytes);
        if dropped_bytes * 2 <= self.frames.bytes_from(0) + DROPPED_BYTES_SLACK {
            return;
        }
        let (base, entries) = (self.base, &self.entries);
        let is_kept = |index: usize| index >= base || entries.get(index).is_some_and(Entry::is_live);
        self.frames.keep_only(is_kept);
        for (_, written) in &mut self.written {
            written.lane.keep_only(is_kept);
        }
        let kept: VecDeque<Entry> =
            (0..entries.len()).filter(|index| is_kept(*index)).map(|index| entries[index].clone()).collect();
        self.base -= entries.len() - kept.len();
        self.entries = kept;
        self.terms_bytes = self.entries.iter().map(Entry::memory_bytes).sum();
        if let Some(keyed) = &mut self.keyed {
            keyed.dropped_bytes = 0;
        }
    }
}
