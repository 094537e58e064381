//! Patterns that clients of `tidegate.v1` subscribe to: asked for, told to the other shards, and joined to what matches.
//!
//! A pattern is acknowledged once every shard knows it. From then on each home sends the messages of every channel that
//! matches; before the first of them is added to the channel's journal here, whoever holds the pattern becomes a member
//! (`src/hub/matching.rs`). So nothing is missed, also of channels that did not exist.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use super::connection::Phase;
use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::Order;
use crate::config::limits::{CHANNELS_PER_CONNECTION_MAX, QUIET_PER_TURN};
use crate::delivery::{Feed, Subscription};
use crate::hub::{Held, PatternRefusal, Released, Waiting};
use crate::journal::{Cursor, Pace, Ride};
use crate::model::{ChannelIndex, ChannelName, Epoch, Grade, Offset, Pattern, ShardId};
use crate::session::{CommandError, replies};

impl<R: Reactor> Shard<R> {
    /// The client in `slot` asks for what `pattern` matches, with command `id` or when it connected.
    pub(super) fn follow(&mut self, slot: u32, id: Option<u64>, pattern: &Pattern) {
        if self.memory.grade >= Grade::Closed {
            return self.refuse_pattern(slot, id, pattern, CommandError::Memory);
        }
        let max = self.config.max_patterns;
        match self.hub.patterns_mut().hold(pattern, Waiting { slot, id }, max) {
            Ok(Held::InForce) => self.reply(slot, |out| replies::append_followed(id, pattern, out)),
            Ok(Held::Awaited) => {}
            Ok(Held::Raised { ticket }) => self.tell_others(pattern, ticket, true),
            Err(PatternRefusal::Twice) => {
                self.refuse_pattern(slot, id, pattern, CommandError::AlreadySubscribed);
            }
            Err(PatternRefusal::Limit) => self.refuse_pattern(slot, id, pattern, CommandError::PatternLimit),
        }
    }

    fn refuse_pattern(&mut self, slot: u32, id: Option<u64>, pattern: &Pattern, error: CommandError) {
        match id {
            Some(id) => self.refuse_command(slot, id, error),
            None => self.reply(slot, |out| replies::append_pattern_refused(pattern, error, out)),
        }
    }

    /// The client in `slot` gives up `pattern`, and the channels that it reads because of nothing else.
    pub(super) fn unfollow(&mut self, slot: u32, id: u64, pattern: &Pattern) {
        let Some(Released { waiting, is_last }) = self.hub.patterns_mut().release(slot, pattern) else {
            return self.refuse_command(slot, id, CommandError::NotSubscribed);
        };
        if is_last {
            self.tell_others(pattern, 0, false);
        }
        if let Some(waiting) = waiting {
            self.refuse_pattern(slot, waiting.id, pattern, CommandError::NotSubscribed);
        }
        for channel in self.hub.patterns().matched_by(slot) {
            if self.hub.patterns().held_for(slot, self.hub.name(channel)).is_none() {
                self.leave_matched(slot, channel);
            }
        }
        self.reply(slot, |out| replies::append_unfollowed(id, pattern, out));
    }

    /// The client in `slot` is gone, and so are its patterns.
    pub(super) fn unfollow_all(&mut self, slot: u32) {
        for pattern in self.hub.patterns_mut().forget(slot) {
            self.tell_others(&pattern, 0, false);
        }
    }

    fn tell_others(&mut self, pattern: &Pattern, ticket: u64, is_held: bool) {
        let others = (0..self.bus.shard_count()).map(|index| ShardId(index as u16));
        for shard in others.filter(|shard| *shard != self.id) {
            let order = Order::Follow { pattern: pattern.clone(), from: self.id, is_held, ticket };
            self.outbox.send(&self.bus, shard, order);
        }
    }

    /// Another shard holds a pattern from here on, or no longer.
    pub(super) fn handle_follow(&mut self, pattern: &Pattern, from: ShardId, is_held: bool, ticket: u64) {
        self.hub.patterns_mut().note_elsewhere(from, pattern, is_held);
        if is_held {
            // Behind it comes what is numbered here from now on, in this order.
            self.outbox.send(&self.bus, from, Order::Followed { ticket });
        }
    }

    /// Another shard knows the pattern that this one told it of under `ticket`.
    pub(super) fn handle_followed(&mut self, ticket: u64) {
        let Some(pattern) = self.hub.patterns().pattern_of(ticket).cloned() else { return };
        for Waiting { slot, id } in self.hub.patterns_mut().confirm(ticket) {
            self.reply(slot, |out| replies::append_followed(id, &pattern, out));
        }
    }

    /// `newcomers` hold a pattern that matches `channel`: they are members from its message `offset` on, which is to be
    /// added next.
    pub(super) fn welcome(
        &mut self,
        channel: ChannelIndex,
        name: &ChannelName,
        (epoch, offset): (Epoch, Offset),
        newcomers: &[u32],
    ) {
        for slot in newcomers {
            let Some(connection) = self.slots.get_mut(*slot) else { continue };
            if !matches!(connection.phase, Phase::Open(_)) {
                continue;
            }
            let count = connection.owed.subscriptions().len();
            match connection.owed.subscription_mut(channel) {
                // It has named the channel too, and its home has not answered yet.
                Some(place) if place.cursor.is_parked() => place.cursor = place.cursor.sent_to(offset),
                Some(_) => continue,
                None if count >= CHANNELS_PER_CONNECTION_MAX => {
                    self.tell_overmatched(*slot, name);
                    continue;
                }
                None => {
                    let member = self.hub.join_matched(channel, *slot);
                    let cursor = Cursor::new(offset, Ride::Envelope);
                    connection.owed.subscribe(Subscription { channel, member, cursor });
                    self.counters.subscriptions.add(1);
                }
            }
            if self.feeds.get(channel).is_none() {
                let settings = self.settings_now(name);
                self.feeds.insert(channel, Feed::new(settings, epoch, offset));
            }
            let members = self.hub.members(channel).len() as u32;
            if let Some(feed) = self.feeds.get_mut(channel) {
                feed.note_need(offset, members);
                self.counters.encoded.add(feed.begin_reading(Ride::Envelope, name) as u64);
            }
        }
    }

    /// The client in `slot` has no room for a channel that one of its patterns matches.
    fn tell_overmatched(&mut self, slot: u32, channel: &ChannelName) {
        self.counters.overmatched.add(1);
        if !self.hub.patterns_mut().note_full(slot) {
            return;
        }
        let Some(pattern) = self.hub.patterns().held_for(slot, channel).cloned() else { return };
        self.reply(slot, |out| replies::append_overmatched(&pattern, channel, out));
    }

    /// The client in `slot` has named `channel`, which a pattern of its matches, and does not name it any more: it goes on
    /// reading it. Says whether it does.
    pub(super) fn goes_on_matched(&mut self, slot: u32, channel: ChannelIndex, name: &ChannelName) -> bool {
        if self.hub.patterns().held_for(slot, name).is_none() {
            return false;
        }
        let Some(connection) = self.slots.get_mut(slot) else { return false };
        let place = connection.owed.subscription_mut(channel).filter(|place| !place.cursor.is_parked());
        let Some(place) = place else {
            // Nothing of it has come yet: it joins with the next message.
            self.hub.patterns_mut().offer_again(slot);
            return false;
        };
        if place.cursor.pace() == Pace::Sampled {
            place.cursor = place.cursor.at_pace(Pace::Every);
        }
        self.sampled.remove(slot, channel);
        self.hub.unname(channel, slot);
        self.note_occupancy(channel);
        self.list_write(slot);
        true
    }

    fn leave_matched(&mut self, slot: u32, channel: ChannelIndex) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if let Some(subscription) = connection.owed.unsubscribe(channel) {
            self.leave(slot, subscription);
        }
    }

    /// Lets go of channels that patterns match and of which nothing came for a while: no pattern keeps a channel alive.
    pub(super) fn let_quiet_channels_go(&mut self) {
        let mut left = QUIET_PER_TURN;
        while left > 0 {
            let Some(channel) = self.hub.next_quiet(self.now) else { break };
            left = left.saturating_sub(1 + self.hub.members(channel).len());
            let patterns = self.hub.patterns();
            let members = self.hub.members(channel).iter().copied();
            let matched: Vec<u32> = members.filter(|slot| patterns.is_matched(*slot, channel)).collect();
            if matched.iter().any(|slot| self.is_behind(*slot, channel)) {
                self.hub.keep_matched(channel, self.now);
                continue;
            }
            for slot in matched {
                self.leave_matched(slot, channel);
            }
            self.hub.unmatch(channel);
            self.maybe_idle.push(channel);
        }
    }

    /// Whether the client in `slot` has not been given everything of `channel`.
    fn is_behind(&mut self, slot: u32, channel: ChannelIndex) -> bool {
        let Some(next) = self.feeds.get(channel).map(|feed| feed.journal.next()) else { return false };
        let place = self.slots.get_mut(slot).and_then(|connection| connection.owed.subscription_mut(channel));
        place.is_some_and(|place| place.cursor.offset() < next)
    }
}
