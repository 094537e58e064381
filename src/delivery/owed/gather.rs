//! Planning one write: what goes into it, in which order.

use std::io::IoSlice;

use super::{Herald, Manner, Owed, Subscription};
use crate::config::limits::WRITE_BYTES_MAX;
use crate::delivery::feed::{Feed, Feeds};
use crate::delivery::plan::{Piece, Plan, SLICES_MAX};
use crate::journal::{Cursor, Pace, Passed};
use crate::model::ChannelIndex;

/// Bytes that lie nowhere else as they are sent, and which slices they belong to.
struct Scratched<'s> {
    bytes: &'s mut Vec<u8>,
    /// Where the bytes of each slice end, 0 for a slice of other bytes.
    ends: [usize; SLICES_MAX],
}

impl Scratched<'_> {
    /// The last `bytes` of it are `piece`.
    fn add(&mut self, plan: &mut Plan, piece: Piece, bytes: usize) {
        if bytes == 0 {
            return plan.push(piece);
        }
        if let Some(end) = self.ends.get_mut(plan.slices) {
            *end = self.bytes.len();
            plan.slices += 1;
            plan.push(piece);
            plan.bytes += bytes;
        }
    }
}

impl Owed {
    /// Plans the next write and fills `slices` with its bytes: at most [`WRITE_BYTES_MAX`] and [`SLICES_MAX`] pieces.
    ///
    /// `scratch` holds the bytes that lie nowhere else as they are sent: what a slow reader is given of a channel, and what it
    /// is told.
    pub fn gather<'a>(
        &'a self,
        feeds: &'a Feeds,
        manner: Manner<'_>,
        scratch: &'a mut Vec<u8>,
        slices: &mut [IoSlice<'a>; SLICES_MAX],
    ) -> Plan {
        let mut plan = Plan::new();
        scratch.clear();
        let mut scratched = Scratched { bytes: scratch, ends: [0; SLICES_MAX] };
        if let Some(backlog) = &self.backlog {
            if !backlog.rest.is_empty() {
                let end = backlog.rest.len().min(WRITE_BYTES_MAX);
                plan.is_truncated = end < backlog.rest.len();
                let ends_message = backlog.is_rest_of_message && !plan.is_truncated;
                add(&mut plan, slices, Piece::Rest { bytes: end, ends_message }, &backlog.rest[..end]);
            }
            if backlog.own.len() > backlog.own_taken && !plan.is_truncated {
                let own = &backlog.own[backlog.own_taken..];
                add(&mut plan, slices, Piece::Own { bytes: own.len() }, own);
            }
        }
        for (index, subscription) in self.subscriptions().iter().enumerate() {
            if plan.is_truncated {
                break;
            }
            self.gather_entries(feeds, manner, index, *subscription, &mut plan, &mut scratched, slices);
        }
        if let Some(herald) = manner.herald {
            self.gather_trailer(herald, &mut plan, &mut scratched);
        }
        let Scratched { bytes, ends } = scratched;
        if bytes.is_empty() {
            return plan;
        }
        let (bytes, mut start): (&'a [u8], usize) = (bytes, 0);
        for (slice, end) in slices.iter_mut().zip(ends) {
            if end > start {
                *slice = IoSlice::new(&bytes[start..end]);
                start = end;
            }
        }
        plan
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one gathering")]
    fn gather_entries<'a>(
        &'a self,
        feeds: &'a Feeds,
        manner: Manner<'_>,
        index: usize,
        subscription: Subscription,
        plan: &mut Plan,
        scratched: &mut Scratched<'_>,
        slices: &mut [IoSlice<'a>; SLICES_MAX],
    ) {
        let Some(feed) = feeds.get(subscription.channel) else { return };
        let journal = &feed.journal;
        let mut from = subscription.cursor;
        if from.is_parked() {
            return;
        }
        if matches!(from.pace(), Pace::Newest | Pace::Snapshot) {
            from = self.gather_read(feed, manner, index, subscription, plan, scratched);
        }
        let is_every = matches!(from.pace(), Pace::Every | Pace::Replay);
        // What an earlier write has told of what comes now.
        let mut told = self.told(subscription.channel);
        if is_every && from.offset() < journal.first() {
            plan.overtaken = Some(subscription.channel);
            return;
        }
        while is_every && from.offset() < journal.next() && !plan.is_truncated {
            if !plan.has_room() || plan.bytes >= WRITE_BYTES_MAX {
                plan.is_truncated = true;
                return;
            }
            from = journal.board(from);
            let own = manner.me.and_then(|me| journal.next_sent_by(me, from.offset()));
            let expired = journal.next_expired(from.offset());
            if own == Some(from.offset()) || expired == Some(from.offset()) {
                let (next, passed) = if own == Some(from.offset()) {
                    (journal.step_over(from), Passed::OWN)
                } else {
                    journal.step_over_expired(from, own.unwrap_or(journal.next()))
                };
                let news = passed.without(told);
                told = told.without(passed);
                self.gather_notice(manner, index, (subscription.channel, from), news, plan, scratched);
                from = next;
                plan.push(Piece::Pass { subscription: index, next: from, passed });
                continue;
            }
            let until = own.unwrap_or(journal.next()).min(expired.unwrap_or(journal.next()));
            let span = journal.span(from, until, WRITE_BYTES_MAX - plan.bytes);
            let is_cut = span.next == from;
            if is_cut && plan.bytes > 0 {
                // Begin a large entry with a write of its own, so that what is before it completes.
                plan.is_truncated = true;
                return;
            }
            let piece = Piece::Entries {
                subscription: index,
                channel: subscription.channel,
                from,
                next: span.next,
                bytes: span.bytes.len(),
            };
            add(plan, slices, piece, span.bytes);
            if is_cut {
                plan.is_truncated = true;
                return;
            }
            from = span.next;
        }
    }

    /// Plans what a subscription gets that leaves out what is superseded, and says where it stands then.
    fn gather_read(
        &self,
        feed: &Feed,
        manner: Manner<'_>,
        index: usize,
        subscription: Subscription,
        plan: &mut Plan,
        scratched: &mut Scratched<'_>,
    ) -> Cursor {
        let Subscription { channel, cursor, .. } = subscription;
        let reader = self.reader(channel, cursor, manner.me);
        let until = reader.snapshot_until.unwrap_or(feed.journal.next());
        if cursor.offset() >= until {
            return cursor;
        }
        if !plan.has_room() || plan.bytes >= WRITE_BYTES_MAX {
            plan.is_truncated = true;
            return cursor;
        }
        let begin = scratched.bytes.len();
        let stretch = feed.journal.read(cursor, reader, WRITE_BYTES_MAX - plan.bytes, scratched.bytes);
        if stretch.is_cut && plan.bytes > 0 {
            scratched.bytes.truncate(begin);
            plan.is_truncated = true;
            return cursor;
        }
        let bytes = scratched.bytes.len() - begin;
        let news = stretch.passed.without(self.told(channel));
        if manner.herald.is_some() && news.told() > 0 {
            // It comes before what it is about.
            let read = scratched.bytes.split_off(begin);
            self.gather_notice(manner, index, (channel, cursor), news, plan, scratched);
            scratched.bytes.extend_from_slice(&read);
        }
        let next = if stretch.next.offset() >= until && cursor.pace() == Pace::Snapshot {
            stretch.next.at_pace(Pace::Every)
        } else {
            stretch.next
        };
        let (from, is_cut) = (cursor, stretch.is_cut);
        scratched.add(plan, Piece::Read { subscription: index, channel, from, next, bytes, is_cut }, bytes);
        plan.is_truncated |= is_cut || next.offset() < until;
        next
    }

    fn gather_notice(
        &self,
        manner: Manner<'_>,
        subscription: usize,
        (channel, from): (ChannelIndex, Cursor),
        passed: Passed,
        plan: &mut Plan,
        scratched: &mut Scratched<'_>,
    ) {
        let Some(herald) = manner.herald.filter(|_| passed.told() > 0) else { return };
        let begin = scratched.bytes.len();
        herald.announce(channel, from.offset(), passed, scratched.bytes);
        let bytes = scratched.bytes.len() - begin;
        if bytes > 0 {
            scratched.add(plan, Piece::Notice { subscription, passed, bytes }, bytes);
        }
    }

    fn gather_trailer(&self, herald: &dyn Herald, plan: &mut Plan, scratched: &mut Scratched<'_>) {
        let is_cut = plan.pieces().last().is_some_and(Piece::is_cut);
        let is_over = self.subscriptions().is_empty();
        if is_cut || is_over || !plan.pieces().iter().any(Piece::ends_message) {
            return;
        }
        let begin = scratched.bytes.len();
        let mut cursors = self.subscriptions().iter().enumerate().map(|(index, subscription)| {
            let moved = plan.pieces().iter().rev().find_map(|piece| piece.cursor_of(index));
            (subscription.channel, moved.unwrap_or(subscription.cursor))
        });
        herald.conclude(&mut cursors, scratched.bytes);
        let bytes = scratched.bytes.len() - begin;
        if bytes > 0 {
            scratched.add(plan, Piece::Trailer { bytes }, bytes);
        }
    }
}

fn add<'a>(plan: &mut Plan, slices: &mut [IoSlice<'a>; SLICES_MAX], piece: Piece, bytes: &'a [u8]) {
    if let Some(slice) = slices.get_mut(plan.slices) {
        *slice = IoSlice::new(bytes);
        plan.slices += 1;
        plan.push(piece);
        plan.bytes += bytes.len();
    }
}
