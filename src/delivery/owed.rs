//! What one connection owes its client: the rest of an interrupted entry, own frames, and its cursors.
//!
//! A healthy idle connection is its subscriptions and nothing else: 24 bytes, no allocation for a single channel. The
//! backlog box exists only while an entry is cut, own frames wait, or the socket refuses. Own frames go out at the
//! next entry boundary whatever waits behind them, so pings, pongs and closes never queue behind data (GUARANTEES B22).

mod apply;
mod gather;
mod held;

use bytes::Bytes;

use crate::journal::{Cursor, Pace, Passed, Reader};
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
    /// The rest is one of a message, not of what is told beside them.
    is_rest_of_message: bool,
    own: Vec<u8>,
    own_taken: usize,
    /// A pong that waits until the socket takes more: the newest, or none. Only while blocked.
    pong: Vec<u8>,
    blocked_since: Option<Time>,
    /// Channels of which it is given a snapshot or what it missed, and where that ends.
    catching_up: Vec<(ChannelIndex, Offset)>,
    /// Of subscriptions, what they were told that they miss and have not come to yet.
    told: Vec<(ChannelIndex, Passed)>,
}

/// How a connection is written to.
#[derive(Clone, Copy, Default)]
pub struct Manner<'a> {
    /// Set when it has sent messages itself, which its own cursors then step over.
    pub me: Option<Origin>,
    /// Tells it of what it is not sent, if it is to be told.
    pub herald: Option<&'a dyn Herald>,
}

/// Writes what a connection is told beside its messages, as its dialect has it.
pub trait Herald {
    /// Appends that the messages of `channel` from `from` on leave out `passed`; nothing if that is nothing to tell.
    fn announce(&self, channel: ChannelIndex, from: Offset, passed: Passed, out: &mut Vec<u8>);

    /// Appends what ends a write after which the subscriptions' cursors are those of `cursors`.
    fn conclude(&self, cursors: &mut dyn Iterator<Item = (ChannelIndex, Cursor)>, out: &mut Vec<u8>);
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
        if let Some(backlog) = self.room_for_own(frames.len(), bytes_max)? {
            backlog.own.extend_from_slice(frames);
        }
        Ok(())
    }

    /// The same, without a copy where nothing waits before them.
    ///
    /// # Errors
    /// As [`Owed::push_own`].
    pub fn push_own_whole(&mut self, frames: Vec<u8>, bytes_max: usize) -> Result<(), OwnFull> {
        match self.room_for_own(frames.len(), bytes_max)? {
            Some(backlog) if backlog.own.is_empty() => backlog.own = frames,
            Some(backlog) => backlog.own.extend_from_slice(&frames),
            None => {}
        }
        Ok(())
    }

    /// Where own frames of `length` bytes are added; nowhere if that is none.
    fn room_for_own(&mut self, length: usize, bytes_max: usize) -> Result<Option<&mut Backlog>, OwnFull> {
        if length == 0 {
            return Ok(None);
        }
        if self.own_bytes() + length > bytes_max {
            return Err(OwnFull);
        }
        let backlog = self.backlog.get_or_insert_default();
        // What was sent makes room before the buffer grows: it never holds more than twice what waits.
        if backlog.own_taken >= backlog.own.len() - backlog.own_taken {
            backlog.own.drain(..backlog.own_taken);
            backlog.own_taken = 0;
        }
        Ok(Some(backlog))
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

    /// If the socket is blocked, it counts as blocked since `now`.
    pub fn stall_anew(&mut self, now: Time) {
        self.backlog.iter_mut().flat_map(|backlog| &mut backlog.blocked_since).for_each(|since| *since = now);
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

    fn reader(&self, channel: ChannelIndex, cursor: Cursor, me: Option<Origin>) -> Reader {
        let snapshot_until = (cursor.pace() == Pace::Snapshot).then(|| self.catches_up_at(channel)).flatten();
        // A state is whole, whoever published what of it.
        Reader { me: me.filter(|_| snapshot_until.is_none()), snapshot_until }
    }

    /// What it was told that it misses of `channel` and has not come to yet.
    pub fn told(&self, channel: ChannelIndex) -> Passed {
        let told = self.backlog.as_ref().and_then(|backlog| {
            backlog.told.iter().find(|(other, _)| *other == channel).map(|(_, passed)| *passed)
        });
        told.unwrap_or_default()
    }

    /// Where the snapshot of `channel` or what was missed of it ends, if the connection is in the middle of that.
    pub fn catches_up_at(&self, channel: ChannelIndex) -> Option<Offset> {
        let catching_up = &self.backlog.as_ref()?.catching_up;
        catching_up.iter().find(|(other, _)| *other == channel).map(|(_, until)| *until)
    }

    /// The subscription to `channel` begins at `cursor`, with what was published before `until`.
    pub fn begin_at(&mut self, channel: ChannelIndex, cursor: Cursor, until: Offset) {
        self.end_catching_up(channel);
        let is_catching_up = matches!(cursor.pace(), Pace::Snapshot | Pace::Replay);
        let is_over = is_catching_up && cursor.offset() >= until;
        let cursor = if is_over { cursor.at_pace(Pace::Every) } else { cursor };
        if is_catching_up && !is_over {
            self.backlog.get_or_insert_default().catching_up.push((channel, until));
        }
        if let Some(place) = self.subscription_mut(channel) {
            place.cursor = cursor;
        }
    }

    /// What it was told of `channel` is of no account any more.
    pub fn forget_told(&mut self, channel: ChannelIndex) {
        if let Some(backlog) = &mut self.backlog {
            backlog.told.retain(|(other, _)| *other != channel);
        }
    }

    /// Forgets that `channel` is caught up with.
    pub(super) fn end_catching_up(&mut self, channel: ChannelIndex) {
        if let Some(backlog) = &mut self.backlog {
            backlog.catching_up.retain(|(other, _)| *other != channel);
        }
    }

    /// What `subscription` needs of the journal: nothing before.
    pub fn needed_from(&self, subscription: &Subscription) -> Offset {
        let cursor = subscription.cursor;
        match cursor.pace() {
            Pace::Snapshot => self.catches_up_at(subscription.channel).unwrap_or(cursor.offset()),
            Pace::Every | Pace::Replay | Pace::Newest | Pace::Sampled => cursor.offset(),
        }
    }

    /// Takes the subscription to `channel` out, if there is one; the caller takes it off the channel.
    pub fn unsubscribe(&mut self, channel: ChannelIndex) -> Option<Subscription> {
        self.end_catching_up(channel);
        self.forget_told(channel);
        let place = self.subscriptions().iter().position(|subscription| subscription.channel == channel)?;
        let Subscriptions::Many(many) = &mut self.subscriptions else {
            return self.take_subscriptions().pop();
        };
        let removed = many.remove(place);
        if let [one] = many[..] {
            self.subscriptions = Subscriptions::One(one);
        }
        Some(removed)
    }
}

#[cfg(test)]
mod tests;
