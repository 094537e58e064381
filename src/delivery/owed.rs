//! What one connection owes its client: the rest of an interrupted entry, own frames, and its cursors.
//!
//! A healthy idle connection is its subscriptions and nothing else: 24 bytes, no allocation for a single channel. The
//! backlog box exists only while an entry is cut, own frames wait, or the socket refuses. Own frames go out at the
//! next entry boundary whatever waits behind them, so pings, pongs and closes never queue behind data (GUARANTEES B22).

mod held;

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::feed::Feeds;
use super::plan::{Piece, Plan, Progress, SLICES_MAX};
use crate::config::limits::WRITE_BYTES_MAX;
use crate::journal::Cursor;
use crate::model::encoding::last_control_frame;
use crate::model::{ChannelIndex, Offset, Origin, Time};

/// One channel that a connection reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// Which channel.
    pub channel: ChannelIndex,
    /// Index among its members.
    pub member: u32,
    /// The next message, and how it is read.
    pub cursor: Cursor,
}

#[derive(Debug, Default)]
enum Subscriptions {
    #[default]
    None,
    One(Subscription),
    #[allow(clippy::box_collection, reason = "a word instead of three in every connection")]
    Many(Box<Vec<Subscription>>),
}

#[derive(Debug, Default)]
struct Backlog {
    rest: Bytes,
    own: Vec<u8>,
    own_taken: usize,
    /// A pong that waits until the socket takes more: the newest, or none. Only while blocked.
    pong: Vec<u8>,
    blocked_since: Option<Time>,
}

/// The own frames would exceed their cap; none of the refused unit was taken (GUARANTEES C9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnFull;

/// Everything that one connection still has to be sent.
#[derive(Debug, Default)]
pub struct Owed {
    subscriptions: Subscriptions,
    backlog: Option<Box<Backlog>>,
}

impl Owed {
    /// The channels it reads.
    pub fn subscriptions(&self) -> &[Subscription] {
        match &self.subscriptions {
            Subscriptions::None => &[],
            Subscriptions::One(one) => std::slice::from_ref(one),
            Subscriptions::Many(many) => many,
        }
    }

    /// The channels it reads, for moving cursors and member indices.
    pub fn subscriptions_mut(&mut self) -> &mut [Subscription] {
        match &mut self.subscriptions {
            Subscriptions::None => &mut [],
            Subscriptions::One(one) => std::slice::from_mut(one),
            Subscriptions::Many(many) => many,
        }
    }

    /// The subscription to `channel`, if there is one.
    pub fn subscription_mut(&mut self, channel: ChannelIndex) -> Option<&mut Subscription> {
        self.subscriptions_mut().iter_mut().find(|subscription| subscription.channel == channel)
    }

    /// Adds a subscription.
    pub fn subscribe(&mut self, subscription: Subscription) {
        self.subscriptions = match std::mem::take(&mut self.subscriptions) {
            Subscriptions::None => Subscriptions::One(subscription),
            Subscriptions::One(one) => Subscriptions::Many(Box::new(vec![one, subscription])),
            Subscriptions::Many(mut many) => {
                many.push(subscription);
                Subscriptions::Many(many)
            }
        };
    }

    /// Gives up every subscription; the caller takes them off the channels.
    pub fn take_subscriptions(&mut self) -> Vec<Subscription> {
        match std::mem::take(&mut self.subscriptions) {
            Subscriptions::None => Vec::new(),
            Subscriptions::One(one) => vec![one],
            Subscriptions::Many(many) => *many,
        }
    }

    /// Queues complete own frames as a unit; at most `bytes_max` bytes of them wait.
    ///
    /// # Errors
    /// [`OwnFull`] when there would be more: the peer asks for more replies than it reads; close it.
    pub fn push_own(&mut self, frames: &[u8], bytes_max: usize) -> Result<(), OwnFull> {
        if frames.is_empty() {
            return Ok(());
        }
        if self.own_bytes() + frames.len() > bytes_max {
            return Err(OwnFull);
        }
        let backlog = self.backlog.get_or_insert_default();
        // What was sent makes room before the buffer grows: it never holds more than twice what waits.
        if backlog.own_taken >= backlog.own.len() - backlog.own_taken {
            backlog.own.drain(..backlog.own_taken);
            backlog.own_taken = 0;
        }
        backlog.own.extend_from_slice(frames);
        Ok(())
    }

    /// Queues the newest of `pongs`, whole frames, while the socket refuses; it replaces what an earlier call left, as
    /// RFC 6455 §5.5.3 allows. A peer that pings and does not read costs one pong (GUARANTEES B11).
    pub fn keep_newest_pong(&mut self, pongs: &[u8]) {
        debug_assert!(self.is_blocked(), "else all of them go out now");
        let pong = &mut self.backlog.get_or_insert_default().pong;
        pong.clear();
        pong.extend_from_slice(last_control_frame(pongs));
    }

    /// Queues the last frame (or HTTP answer) this connection will ever get. It always fits: waiting data is not
    /// sent any more, because the subscriptions are gone by now.
    pub fn push_last(&mut self, frame: &[u8]) {
        debug_assert!(self.subscriptions().is_empty(), "a close replaces waiting data");
        if !frame.is_empty() {
            let backlog = self.backlog.get_or_insert_default();
            backlog.own.append(&mut backlog.pong);
            backlog.own.extend_from_slice(frame);
        }
    }

    /// The subscription of a connection that reads one channel and is owed nothing but its entries: most of them,
    /// most of the time. Moving its cursor to the entry after the last one written is all there is to do.
    pub fn sole_mut(&mut self) -> Option<&mut Subscription> {
        match (&mut self.subscriptions, &self.backlog) {
            (Subscriptions::One(one), None) => Some(one),
            _ => None,
        }
    }

    /// Whether the socket refused bytes and has not yet said that it takes more.
    pub fn is_blocked(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.blocked_since.is_some())
    }

    /// Since when the socket has taken nothing, if it is blocked.
    pub fn blocked_since(&self) -> Option<Time> {
        self.backlog.as_ref().and_then(|backlog| backlog.blocked_since)
    }

    /// The socket says that it takes more; a pong that waited for that is an own frame from here on.
    pub fn unblock(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            backlog.blocked_since = None;
            backlog.own.append(&mut backlog.pong);
        }
    }

    /// Bytes of own frames or answers that wait.
    pub fn own_bytes(&self) -> usize {
        self.backlog.as_ref().map_or(0, |backlog| backlog.own.len() - backlog.own_taken)
    }

    /// Whether own frames or the rest of an entry wait; cursors aside.
    pub fn has_own(&self) -> bool {
        self.backlog
            .as_ref()
            .is_some_and(|backlog| !backlog.rest.is_empty() || backlog.own.len() > backlog.own_taken)
    }

    /// Plans the next write and fills `slices` with its bytes: at most [`WRITE_BYTES_MAX`] and [`SLICES_MAX`] pieces.
    ///
    /// `me`: set when this connection has sent messages itself, which its own cursor then steps over.
    pub fn gather<'a>(
        &'a self,
        feeds: &'a Feeds,
        me: Option<Origin>,
        slices: &mut [IoSlice<'a>; SLICES_MAX],
    ) -> Plan {
        let mut plan = Plan::new();
        if let Some(backlog) = &self.backlog {
            if !backlog.rest.is_empty() {
                let end = backlog.rest.len().min(WRITE_BYTES_MAX);
                add(&mut plan, slices, Piece::Rest { bytes: end }, &backlog.rest[..end]);
                if end < backlog.rest.len() {
                    plan.is_truncated = true;
                    return plan;
                }
            }
            if backlog.own.len() > backlog.own_taken {
                let own = &backlog.own[backlog.own_taken..];
                add(&mut plan, slices, Piece::Own { bytes: own.len() }, own);
            }
        }
        for (index, subscription) in self.subscriptions().iter().enumerate() {
            self.gather_entries(feeds, me, index, *subscription, &mut plan, slices);
            if plan.is_truncated {
                break;
            }
        }
        plan
    }

    fn gather_entries<'a>(
        &'a self,
        feeds: &'a Feeds,
        me: Option<Origin>,
        index: usize,
        subscription: Subscription,
        plan: &mut Plan,
        slices: &mut [IoSlice<'a>; SLICES_MAX],
    ) {
        let Some(feed) = feeds.get(subscription.channel) else { return };
        let journal = &feed.journal;
        let mut from = subscription.cursor;
        if from.offset() < journal.first() {
            plan.overtaken = Some(subscription.channel);
            return;
        }
        while from.offset() < journal.next() {
            if plan.is_full() || plan.bytes >= WRITE_BYTES_MAX {
                plan.is_truncated = true;
                return;
            }
            from = journal.board(from);
            let own = me.and_then(|me| journal.next_sent_by(me, from.offset()));
            if own == Some(from.offset()) {
                from = journal.step_over(from);
                plan.push(Piece::StepOver { subscription: index, next: from });
                continue;
            }
            let span = journal.span(from, own.unwrap_or(journal.next()), WRITE_BYTES_MAX - plan.bytes);
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

    /// The plan of a write that was made without [`Owed::gather`]: `bytes` of the sole subscription, from `from` up to entry
    /// `next`.
    pub fn plan_of(channel: ChannelIndex, from: Cursor, next: Offset, bytes: usize) -> Plan {
        let mut plan = Plan::new();
        plan.push(Piece::Entries { subscription: 0, channel, from, next: from.sent_to(next), bytes });
        plan.bytes = bytes;
        plan
    }

    /// Applies what the socket took of `plan`'s bytes: moves cursors, keeps the rest of a cut entry.
    ///
    /// `on_delivered` is told of every run of entries that went out completely, for the latency figures. `now` stamps
    /// the block, or the last progress made while blocked.
    pub fn apply(
        &mut self,
        plan: &Plan,
        written: usize,
        feeds: &Feeds,
        now: Time,
        mut on_delivered: impl FnMut(ChannelIndex, Offset, Offset),
    ) -> Progress {
        let mut progress = Progress { is_blocked: written < plan.bytes, ..Progress::default() };
        let mut left = written;
        for piece in plan.pieces() {
            match *piece {
                Piece::Rest { bytes } => {
                    let taken = left.min(bytes);
                    left -= taken;
                    if let Some(backlog) = &mut self.backlog {
                        backlog.rest.advance(taken);
                        progress.delivered += u64::from(backlog.rest.is_empty());
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
                Piece::StepOver { subscription, next } => {
                    progress.stepped_over += 1;
                    self.move_cursor(subscription, next);
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
                        self.backlog.get_or_insert_default().rest = rest;
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
            if !self.has_own() {
                self.backlog = None;
            }
        }
    }

    fn move_cursor(&mut self, subscription: usize, next: Cursor) {
        if let Some(subscription) = self.subscriptions_mut().get_mut(subscription) {
            subscription.cursor = next;
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

#[cfg(test)]
mod tests;
