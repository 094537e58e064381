//! Joining and leaving channels: the connection's cursor, the hub's membership and the feed's pass, kept in step.

use super::connection::{Joining, Open, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::Order;
use crate::config::limits::OWN_FRAMES_BYTES_MAX;
use crate::delivery::{Feed, Subscription};
use crate::edge::Compression;
use crate::hub::Attachment;
use crate::journal::{Cursor, Ride};
use crate::model::{Blame, ChannelIndex, ChannelName, CloseReason, Offset, ShardId};
use crate::session::Liveness;

impl<R: Reactor> Shard<R> {
    /// The client in `slot` joins `channels`; `response` is sent once all of them are live, so that nothing accepted
    /// after it is missed (GUARANTEES E10).
    pub(super) fn join(
        &mut self,
        slot: u32,
        response: Vec<u8>,
        channels: &[ChannelName],
        compression: Compression,
    ) {
        let mut awaiting = 0;
        let mut has_context = compression == Compression::Shared;
        for name in channels {
            let joined = self.hub.join(name, slot);
            // A connection has one context for all its messages: one of its channels can fill it.
            let ride = match compression {
                Compression::Declined => Ride::Plain,
                _ if has_context && self.config.channels.settings_for(name).compression => {
                    has_context = false;
                    self.hub.begin_deflating(joined.channel);
                    Ride::Waiting
                }
                Compression::Shared | Compression::Unshared => Ride::Barred,
            };
            let cursor = if joined.is_live {
                self.enter(joined.channel, name)
            } else {
                awaiting += 1;
                Offset(0)
            };
            let Some(connection) = self.slots.get_mut(slot) else { return };
            connection.owed.subscribe(Subscription {
                channel: joined.channel,
                member: joined.member,
                cursor: Cursor::new(cursor, ride),
            });
            self.counters.subscriptions.add(1);
        }
        if awaiting == 0 {
            self.open(slot, &response);
            return;
        }
        let deadline = self.now.after(self.config.handshake_timeout);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        connection.phase = Phase::Joining(Box::new(Joining { awaiting, response, deadline }));
        self.counters.pending.sub(1);
        self.arm(slot);
    }

    /// A member was added to a live channel: it starts at the head. Makes the feed if there is none yet.
    fn enter(&mut self, channel: ChannelIndex, name: &ChannelName) -> Offset {
        let members = self.hub.members(channel).len() as u32;
        if self.feeds.get(channel).is_none() {
            let Some(numbering) = self.hub.numbering(channel) else { return Offset(0) };
            let settings = self.settings_now(name);
            self.feeds.insert(channel, Feed::new(settings, numbering.epoch(), numbering.next()));
        }
        let is_deflated = self.keeps_deflated(channel);
        let Some(feed) = self.feeds.get_mut(channel) else { return Offset(0) };
        let cursor = feed.journal.next();
        feed.on_join(cursor, members);
        feed.journal.keep_deflated(is_deflated);
        cursor
    }

    /// The home answered: `slot` starts at the head of `channel`, and is open once it waits for no other.
    pub(super) fn channel_became_live(&mut self, slot: u32, channel: ChannelIndex) {
        let name = self.hub.name(channel).clone();
        let cursor = self.enter(channel, &name);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if let Some(subscription) = connection.owed.subscription_mut(channel) {
            subscription.cursor = subscription.cursor.moved_to(cursor);
        }
        let Phase::Joining(joining) = &mut connection.phase else { return };
        joining.awaiting -= 1;
        if joining.awaiting == 0 {
            let response = std::mem::take(&mut joining.response);
            self.open(slot, &response);
        }
    }

    /// Every channel is live: answers 101 and speaks WebSocket from here on.
    fn open(&mut self, slot: u32, response: &[u8]) {
        let phase = self.phases.next_phase();
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if connection.owed.push_own(response, OWN_FRAMES_BYTES_MAX).is_err() {
            // More answers wait than are kept: it reads nothing of what it asks for.
            return self.end(slot, CloseReason::HttpDone, Blame::Us);
        }
        if matches!(connection.phase, Phase::Http(_)) {
            self.counters.pending.sub(1);
        }
        connection.phase = Phase::Open(None::<Box<Open>>);
        // While it waited for its last channel it was sent nothing: what the first ones had meanwhile came before
        // its 101, and must not count as lag.
        for subscription in connection.owed.subscriptions_mut() {
            if let Some(feed) = self.feeds.get(subscription.channel) {
                subscription.cursor = subscription.cursor.moved_to(feed.journal.next());
            }
        }
        connection.liveness = Liveness::new(self.now, phase);
        self.counters.upgraded.add(1);
        self.counters.open.add(1);
        self.list_write(slot);
        // Whatever came while the channels were attached was left in the socket.
        self.list_read(slot);
        self.arm(slot);
    }

    /// Takes `slot` off all its channels. Constant time a channel.
    pub(super) fn leave_all(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        for subscription in connection.owed.take_subscriptions() {
            self.leave(subscription);
        }
    }

    fn leave(&mut self, subscription: Subscription) {
        let Subscription { channel, member, cursor } = subscription;
        let left = self.hub.leave(channel, member);
        if cursor.wants_deflated() {
            self.hub.end_deflating(channel);
        }
        let is_deflated = self.keeps_deflated(channel);
        self.counters.subscriptions.sub(1);
        if let Some(feed) = self.feeds.get_mut(channel) {
            feed.on_leave(member, left.members, self.now);
            feed.journal.keep_deflated(is_deflated);
        }
        if let Some(moved) = left.moved
            && let Some(place) =
                self.slots.get_mut(moved).and_then(|other| other.owed.subscription_mut(channel))
        {
            place.member = member;
        }
        if left.members == 0 {
            self.maybe_idle.push(channel);
        }
    }

    /// Tells homes which channels have how many members here, once a turn a channel.
    pub(super) fn send_interest_changes(&mut self) {
        for change in self.hub.take_interest_changes() {
            let home = ShardId::home_of(&change.channel, self.bus.shard_count());
            let order = Order::Interest {
                channel: change.channel,
                from: self.id,
                members: change.members,
                deflating: change.deflating,
                ticket: change.ticket,
            };
            self.outbox.send(&self.bus, home, order);
        }
    }

    /// Forgets channels that nobody needs any more: they cost nothing from here on.
    pub(super) fn forget_idle_channels(&mut self) {
        let mut withdrawing = Vec::new();
        for channel in std::mem::take(&mut self.maybe_idle) {
            if !self.hub.contains(channel) {
                continue;
            }
            let has_members = !self.hub.members(channel).is_empty();
            let attachment = self.hub.attachment(channel);
            if !has_members && matches!(attachment, Attachment::Awaiting { .. } | Attachment::Live { .. }) {
                // The last one left after this turn's withdrawals were sent. Until the next ones are, a joiner finds
                // the channel live and needs its feed.
                withdrawing.push(channel);
                continue;
            }
            let is_detached = attachment == Attachment::Detached;
            let has_retained = !is_detached
                && self.feeds.get(channel).is_some_and(|feed| feed.has_history() && !feed.journal.is_empty());
            if !has_members && !has_retained {
                self.feeds.remove(channel);
            }
            self.hub.forget_if_idle(channel, has_retained);
        }
        self.maybe_idle = withdrawing;
    }
}
