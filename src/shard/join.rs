//! Joining and leaving channels: the connection's cursor, the hub's membership and the feed's pass, kept in step.

use super::connection::{Joining, Mark, Open, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::Order;
use crate::config::limits::OWN_FRAMES_BYTES_MAX;
use crate::delivery::{Feed, Subscription};
use crate::edge::Compression;
use crate::hub::{Attachment, Joined};
use crate::journal::{Cursor, Ride};
use crate::model::{
    Blame, ChannelIndex, ChannelName, CloseReason, Dialect, Pattern, ShardId, SubscribeRequest,
};
use crate::session::Liveness;

impl<R: Reactor> Shard<R> {
    /// The client in `slot` joins the channels of `requests`; `response` is sent once all of them are live, so that nothing
    /// accepted after it is missed (GUARANTEES E10).
    pub(super) fn join(
        &mut self,
        slot: u32,
        response: Vec<u8>,
        requests: Vec<SubscribeRequest>,
        dialect: Dialect,
        compression: Compression,
        patterns: Vec<Pattern>,
    ) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match dialect {
            Dialect::Plain => {}
            Dialect::V1 => connection.marks.set(Mark::Commands),
            Dialect::Events => connection.marks.set(Mark::EventStream),
            Dialect::EnvelopedEvents => {
                connection.marks.set(Mark::EventStream);
                connection.marks.set(Mark::SeveralChannels);
            }
        }
        if compression != Compression::Declined {
            connection.marks.set(Mark::Compresses);
        }
        let mut awaiting = 0;
        let mut has_context = compression == Compression::Shared;
        for request in &requests {
            let name = &request.channel;
            // A connection has one context for all its messages: one of its channels can fill it.
            let ride = match dialect {
                Dialect::Plain if has_context && self.config.channels.settings_for(name).compression => {
                    has_context = false;
                    Ride::Waiting
                }
                Dialect::Plain => Ride::Plain,
                Dialect::V1 => Ride::Envelope,
                Dialect::Events => Ride::Event,
                Dialect::EnvelopedEvents => Ride::EnvelopedEvent,
            };
            awaiting += u32::from(!self.join_one(slot, name, ride));
        }
        if awaiting == 0 {
            self.open(slot, response, &requests, &patterns);
            return;
        }
        let deadline = self.now.after(self.config.handshake_timeout);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        connection.phase =
            Phase::Joining(Box::new(Joining { awaiting, response, requests, patterns, deadline }));
        self.counters.pending.sub(1);
        self.arm(slot);
    }

    /// The client in `slot` becomes a member of `name`, at no message yet. Says whether messages arrive already.
    pub(super) fn join_one(&mut self, slot: u32, name: &ChannelName, ride: Ride) -> bool {
        let Joined { channel, member, is_live } = self.hub.join(name, slot);
        if ride == Ride::Waiting {
            self.hub.begin_deflating(channel);
        }
        let Some(connection) = self.slots.get_mut(slot) else { return is_live };
        connection.owed.subscribe(Subscription { channel, member, cursor: Cursor::parked(ride) });
        self.counters.subscriptions.add(1);
        self.note_occupancy(channel);
        if is_live {
            self.enter(channel, name, ride);
        } else if let Some(feed) = self.feeds.get_mut(channel) {
            // Those whose patterns match read already, and the ring of members that are visited has grown.
            feed.on_join(feed.journal.next(), self.hub.members(channel).len() as u32);
        }
        is_live
    }

    /// A member was added to a live channel. Makes the feed if there is none yet.
    fn enter(&mut self, channel: ChannelIndex, name: &ChannelName, ride: Ride) {
        let members = self.hub.members(channel).len() as u32;
        if self.feeds.get(channel).is_none() {
            let Some(numbering) = self.hub.numbering(channel) else { return };
            let settings = self.settings_now(name);
            self.feeds.insert(channel, Feed::new(settings, numbering.epoch(), numbering.next()));
        }
        let is_deflated = self.keeps_deflated(channel);
        let Some(feed) = self.feeds.get_mut(channel) else { return };
        feed.on_join(feed.journal.next(), members);
        feed.journal.keep_deflated(is_deflated);
        self.counters.encoded.add(feed.begin_reading(ride, name) as u64);
    }

    /// The home answered: `slot` is a member of `channel`, and open once it waits for no other.
    pub(super) fn channel_became_live(&mut self, slot: u32, channel: ChannelIndex) {
        let name = self.hub.name(channel).clone();
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let cursor = connection.owed.subscription_mut(channel).map(|place| place.cursor);
        let ride = cursor.map_or(Ride::Plain, Cursor::ride);
        // A pattern of its matches, and messages came already.
        let is_reading = cursor.is_some_and(|cursor| !cursor.is_parked());
        if !is_reading {
            self.enter(channel, &name, ride);
        }
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Phase::Joining(joining) = &mut connection.phase else {
            return self.complete_subscribe(slot, channel);
        };
        joining.awaiting -= 1;
        if joining.awaiting == 0 {
            let response = std::mem::take(&mut joining.response);
            let requests = std::mem::take(&mut joining.requests);
            let patterns = std::mem::take(&mut joining.patterns);
            self.open(slot, response, &requests, &patterns);
        }
    }

    /// Every channel is live: answers, and speaks what was agreed from here on. What the first channels had while others
    /// were waited for came before the answer, and does not count.
    fn open(
        &mut self,
        slot: u32,
        mut response: Vec<u8>,
        requests: &[SubscribeRequest],
        patterns: &[Pattern],
    ) {
        let phase = self.phases.next_phase();
        self.begin_all(slot, requests, &mut response);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if connection.owed.push_own_whole(response, OWN_FRAMES_BYTES_MAX).is_err() {
            // More answers wait than are kept: it reads nothing of what it asks for.
            return self.end(slot, CloseReason::HttpDone, Blame::Us);
        }
        if matches!(connection.phase, Phase::Http(_)) {
            self.counters.pending.sub(1);
        }
        connection.phase = Phase::Open(None::<Box<Open>>);
        connection.liveness = Liveness::new(self.now, phase);
        self.counters.upgraded.add(1);
        self.counters.open.add(1);
        self.list_write(slot);
        // Whatever came while the channels were attached was left in the socket.
        self.list_read(slot);
        self.arm(slot);
        for pattern in patterns {
            self.follow(slot, None, pattern);
        }
    }

    /// Takes `slot` off all its channels. Constant time a channel.
    pub(super) fn leave_all(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        for subscription in connection.owed.take_subscriptions() {
            self.leave(slot, subscription);
        }
        self.unfollow_all(slot);
    }

    /// Takes the client in `slot` off the channel of `subscription`.
    pub(super) fn leave(&mut self, slot: u32, subscription: Subscription) {
        let Subscription { channel, member, cursor } = subscription;
        if !self.subscribing.is_empty() {
            self.subscribing.remove(&(slot, channel));
        }
        self.sampled.remove(slot, channel);
        // Who waits for the home's answer reads nothing yet, though there may be a feed for those whose patterns match.
        let has_read = !(cursor.is_parked() && self.hub.is_waiting(channel, slot));
        let left = self.hub.leave(channel, member);
        if cursor.wants_deflated() {
            self.hub.end_deflating(channel);
        }
        let is_deflated = self.keeps_deflated(channel);
        self.counters.subscriptions.sub(1);
        self.note_occupancy(channel);
        if let Some(feed) = self.feeds.get_mut(channel) {
            feed.on_leave(member, left.members, self.now);
            feed.journal.keep_deflated(is_deflated);
            if has_read {
                feed.end_reading(cursor.ride());
            }
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
        if self.hub.has_patterns() {
            self.hub.patterns_mut().note_room(slot);
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
