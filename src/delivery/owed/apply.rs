//! What became of one write: cursors move, what was cut is kept.

use bytes::{Buf, Bytes};

use super::Owed;
use crate::delivery::feed::Feeds;
use crate::delivery::plan::{Piece, Plan, Progress};
use crate::journal::{Cursor, Pace, Passed};
use crate::model::{ChannelIndex, Offset, Origin, Time};

impl Owed {
    /// The plan of a write that was made without [`Owed::gather`]: `bytes` of the sole subscription, from `from` up to entry
    /// `next`.
    pub fn plan_of(channel: ChannelIndex, from: Cursor, next: Offset, bytes: usize) -> Plan {
        let mut plan = Plan::new();
        plan.push(Piece::Entries { subscription: 0, channel, from, next: from.sent_to(next), bytes });
        plan.bytes = bytes;
        plan
    }

    /// Applies what the socket took of `plan`'s bytes: moves cursors, keeps the rest of a cut entry. `scratch` is what the plan
    /// was made with, and `me` too.
    ///
    /// `on_delivered` is told of every run of entries that went out completely, for the latency figures. `now` stamps
    /// the block, or the last progress made while blocked.
    #[allow(clippy::too_many_arguments, reason = "what the write was, and what it was made with")]
    pub fn apply(
        &mut self,
        plan: &Plan,
        written: usize,
        feeds: &Feeds,
        scratch: &[u8],
        me: Option<Origin>,
        now: Time,
        mut on_delivered: impl FnMut(ChannelIndex, Offset, Offset),
    ) -> Progress {
        let mut progress = Progress { is_blocked: written < plan.bytes, ..Progress::default() };
        let mut left = written;
        let mut scratch_at = 0;
        for piece in plan.pieces() {
            match *piece {
                Piece::Rest { bytes, ends_message } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    if let Some(backlog) = &mut self.backlog {
                        backlog.rest.advance(taken);
                        progress.delivered += u64::from(ends_message && backlog.rest.is_empty());
                    }
                    if taken < bytes {
                        break;
                    }
                }
                Piece::Own { bytes } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    if let Some(backlog) = &mut self.backlog {
                        backlog.own_taken += taken;
                        if taken == bytes {
                            backlog.own = Vec::new();
                            backlog.own_taken = 0;
                        }
                    }
                    if taken < bytes {
                        break;
                    }
                }
                Piece::Pass { subscription, next, passed } => {
                    progress.passed.add(passed);
                    self.settle_told(subscription, passed);
                    self.move_cursor(subscription, next);
                }
                Piece::Notice { subscription, passed, bytes } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    if taken > 0 {
                        self.note_told(subscription, passed);
                    }
                    self.keep_rest(scratch, scratch_at + taken, bytes - taken, taken);
                    scratch_at += bytes;
                    if taken < bytes {
                        break;
                    }
                }
                Piece::Trailer { bytes } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    self.keep_rest(scratch, scratch_at + taken, bytes - taken, taken);
                    scratch_at += bytes;
                }
                Piece::Read { subscription, channel, from, next, bytes, is_cut } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    scratch_at += bytes;
                    let Some(feed) = feeds.get(channel) else { break };
                    let reader = self.reader(channel, from, me);
                    let journal = &feed.journal;
                    if taken == bytes && !is_cut {
                        let (entries, passed) = journal.passed_on_the_way(from, reader, next.offset());
                        progress.delivered += entries;
                        progress.passed.add(passed);
                        self.settle_told(subscription, passed);
                        self.move_cursor(subscription, next);
                        continue;
                    }
                    let (stretch, rest) = journal.read_interrupted(from, reader, taken);
                    progress.delivered += stretch.entries - u64::from(rest.is_some());
                    progress.passed.add(stretch.passed);
                    self.settle_told(subscription, stretch.passed);
                    self.move_cursor(subscription, stretch.next);
                    if let Some(rest) = rest {
                        self.set_rest(rest, true);
                    }
                    break;
                }
                Piece::Entries { subscription, channel, from, next, bytes } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    if taken == bytes && next != from {
                        progress.delivered += next.offset().0 - from.offset().0;
                        self.move_cursor(subscription, next);
                        on_delivered(channel, from.offset(), next.offset());
                        continue;
                    }
                    let (reached, rest) =
                        feeds.get(channel).map_or((from, None), |feed| feed.journal.interrupted(from, taken));
                    let from = from.offset();
                    let whole = Offset(reached.offset().0 - u64::from(rest.is_some()));
                    progress.delivered += whole.0 - from.0;
                    if whole > from {
                        on_delivered(channel, from, whole);
                    }
                    self.move_cursor(subscription, reached);
                    if let Some(rest) = rest {
                        self.set_rest(rest, true);
                    }
                    break;
                }
            }
        }
        self.settle(&progress, written, now);
        progress.has_more = !progress.is_blocked && plan.is_truncated;
        progress
    }

    fn settle(&mut self, progress: &Progress, written: usize, now: Time) {
        if progress.is_blocked {
            let backlog = self.backlog.get_or_insert_default();
            if written > 0 || backlog.blocked_since.is_none() {
                backlog.blocked_since = Some(now);
            }
        } else if self.backlog.is_some() {
            self.unblock();
            let holds_more =
                |backlog: &super::Backlog| !backlog.told.is_empty() || !backlog.catching_up.is_empty();
            if !self.has_own() && !self.backlog.as_deref().is_some_and(holds_more) {
                self.backlog = None;
            }
        }
    }

    fn move_cursor(&mut self, subscription: usize, next: Cursor) {
        let Some(place) = self.subscriptions_mut().get_mut(subscription) else { return };
        let was_catching_up = matches!(place.cursor.pace(), Pace::Snapshot | Pace::Replay);
        place.cursor = next;
        let channel = place.channel;
        if !was_catching_up {
            return;
        }
        let is_over = self.catches_up_at(channel).is_none_or(|until| next.offset() >= until);
        if is_over {
            self.end_catching_up(channel);
        }
        if is_over && let Some(place) = self.subscriptions_mut().get_mut(subscription) {
            place.cursor = next.at_pace(Pace::Every);
        }
    }

    /// Keeps `length` bytes of `scratch` from `from` on as the rest of what was cut, if anything of it was taken.
    fn keep_rest(&mut self, scratch: &[u8], from: usize, length: usize, taken: usize) {
        if taken > 0 && length > 0 {
            let rest = scratch.get(from..from + length).unwrap_or_default();
            self.set_rest(Bytes::copy_from_slice(rest), false);
        }
    }

    fn set_rest(&mut self, rest: Bytes, is_of_message: bool) {
        let backlog = self.backlog.get_or_insert_default();
        (backlog.rest, backlog.is_rest_of_message) = (rest, is_of_message);
    }

    /// The connection was told of messages that it misses, before they are passed over.
    fn note_told(&mut self, subscription: usize, passed: Passed) {
        let Some(channel) = self.subscriptions().get(subscription).map(|place| place.channel) else { return };
        let told = &mut self.backlog.get_or_insert_default().told;
        match told.iter_mut().find(|(other, _)| *other == channel) {
            Some((_, told)) => told.add(passed),
            None => told.push((channel, passed)),
        }
    }

    /// Of what it was told, `passed` has come.
    fn settle_told(&mut self, subscription: usize, passed: Passed) {
        let Some(channel) = self.subscriptions().get(subscription).map(|place| place.channel) else { return };
        let Some(backlog) = &mut self.backlog else { return };
        backlog.told.retain_mut(|(other, told)| {
            if *other == channel {
                *told = told.without(passed);
            }
            told.told() > 0
        });
    }
}
