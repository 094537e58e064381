//! What a client publishes: to every other subscriber of its channel, where relay is on.
//!
//! A home that cannot take more pushes back on the sender: the message waits here and the sender is not read until
//! it is gone. Nothing that was read is dropped.

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

use std::collections::VecDeque;
use std::time::Duration;

use super::connection::Mark;
use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::{Full, Publish};
use crate::model::{
    ChannelName, CloseReason, ConnectionId, Grade, MessageKey, PayloadKind, Publication, ShardId, Time,
};

/// Messages of paused senders, oldest first: a queue for each home, so that one that is full delays no other's.
#[derive(Debug)]
pub struct Paused {
    queues: Vec<VecDeque<(ConnectionId, Publication)>>,
    waiting: usize,
}

impl Paused {
    /// Empty queues to `shards` homes.
    pub fn new(shards: usize) -> Self {
        Self { queues: (0..shards).map(|_| VecDeque::new()).collect(), waiting: 0 }
    }

    /// Whether nobody is paused.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

impl<R: Reactor> Shard<R> {
    pub(super) fn relay(&mut self, slot: u32, kind: PayloadKind, payload: &[u8]) {
        let origin = self.origin_of(slot);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let [subscription] = connection.owed.subscriptions() else {
            return self.close(slot, CloseReason::Policy, Some(" join one channel to publish to it"));
        };
        let channel = subscription.channel;
        let settings = self.feeds.get(channel).map(|feed| &feed.settings);
        let Some(ttl) = settings.filter(|settings| settings.relay).map(|settings| settings.ttl) else {
            return self.close(slot, CloseReason::Policy, Some(" publishing is off for this channel"));
        };
        let channel = self.hub.name(channel).clone();
        let key = self.key_in(&channel, kind, payload);
        let publication = Publication::encode(channel, kind, payload, self.now, Some(origin));
        self.publish(slot, Publication { key, expires_at: self.expiry(ttl), ..publication });
    }

    /// When a message of now expires that lasts `ttl`; zero: never.
    pub(super) fn expiry(&self, ttl: Duration) -> Time {
        if ttl.is_zero() { Time::NEVER } else { self.now.after(ttl) }
    }

    /// Sends what the client in `slot` publishes to its home. If that takes no more, it waits here and the client is not read
    /// meanwhile.
    pub(super) fn publish(&mut self, slot: u32, publication: Publication) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        connection.marks.set(Mark::Relayed);
        let must_wait = connection.unpublished > 0;
        let refused = if must_wait { Some(publication) } else { self.submit(publication) };
        if let Some(publication) = refused {
            self.counters.publish_pushbacks.add(1);
            self.counters.memory_pauses.add(u64::from(self.memory.grade >= Grade::Refusing));
            self.pause(self.slots.id(slot), publication);
            if let Some(connection) = self.slots.get_mut(slot) {
                connection.unpublished = connection.unpublished.saturating_add(1);
            }
        }
    }

    /// The key of a message whose client gives none, where the channel's rules say that the payload has it.
    pub(super) fn key_in(
        &self,
        channel: &ChannelName,
        kind: PayloadKind,
        payload: &[u8],
    ) -> Option<MessageKey> {
        let key = self.config.channels.key_source_for(channel)?.key_of(kind, payload);
        self.counters.keys_missing.add(u64::from(key.is_none()));
        key
    }

    fn pause(&mut self, sender: ConnectionId, publication: Publication) {
        let home = self.home_of(&publication);
        if let Some(queue) = self.paused.queues.get_mut(home.index()) {
            self.memory.paused += publication.bytes();
            queue.push_back((sender, publication));
            self.paused.waiting += 1;
        }
    }

    /// Tries messages of paused senders again, in order; a sender whose last one went out is read again.
    pub(super) fn retry_paused(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        for home in 0..self.paused.queues.len() {
            self.retry_paused_for(home);
        }
    }

    fn retry_paused_for(&mut self, home: usize) {
        while let Some(queue) = self.paused.queues.get_mut(home)
            && let Some((sender, publication)) = queue.pop_front()
        {
            let bytes = publication.bytes();
            if let Some(publication) = self.submit(publication) {
                // Order within a sender holds: everything behind waits as well.
                if let Some(queue) = self.paused.queues.get_mut(home) {
                    queue.push_front((sender, publication));
                }
                return;
            }
            self.paused.waiting -= 1;
            self.memory.paused -= bytes;
            if !self.slots.contains(sender) {
                continue;
            }
            let Some(connection) = self.slots.get_mut(sender.slot) else { continue };
            connection.unpublished = connection.unpublished.saturating_sub(1);
            if connection.unpublished == 0 {
                self.list_read(sender.slot);
            }
        }
    }

    fn home_of(&self, publication: &Publication) -> ShardId {
        ShardId::home_of(&publication.channel, self.bus.shard_count())
    }

    /// Sends a message to its home, which may be here; hands it back when there is no room, or memory is short.
    pub(super) fn submit(&mut self, publication: Publication) -> Option<Publication> {
        if self.memory.grade >= Grade::Refusing {
            return Some(publication);
        }
        if self.home_of(&publication) != self.id {
            let bytes = publication.bytes() as i64;
            let publish = Publish { publication, on_receipt: None };
            let refused = self.bus.publish(publish).err().map(|Full(back)| back.publication);
            self.memory.on_bus += if refused.is_some() { 0 } else { bytes };
            return refused;
        }
        let is_open = self.takes_publishes() && !self.receiver.is_amid_together();
        if !is_open || self.is_congested() || self.has_deflated_enough() {
            return Some(publication);
        }
        self.number(publication, None);
        None
    }
}
