//! Phase 2, *receive*: publications and orders from the bus into journals; at the home, numbers for publications.
//!
//! Bounded by counts, by bytes that are deflated, and by congestion: while a channel holds more than its healthy subscribers have had, nothing
//! is taken, so that no subscriber is overtaken because the gateway itself is behind.

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

use std::sync::Arc;

use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::{Attach, Numbered, OnReceipt, Order, Outcome, Publish};
use crate::config::Retain;
use crate::config::limits::{DEFLATED_BYTES_PER_TURN, ORDERS_PER_TURN, PUBLISHES_PER_TURN};
use crate::delivery::Feed;
use crate::hub::InterestOutcome;
use crate::model::{
    ChannelIndex, ChannelName, Epoch, Idempotency, Offset, Publication, Receipt, ShardId, encoding,
};

impl<R: Reactor> Shard<R> {
    pub(super) fn receive(&mut self) {
        self.deflated_bytes = 0;
        for _ in 0..ORDERS_PER_TURN {
            if self.is_congested() {
                break;
            }
            let Some(order) = self.receiver.next_order() else { break };
            self.memory.on_bus -= order.bytes() as i64;
            self.handle_order(order);
        }
        self.outbox.flush(&self.bus);
        self.retry_paused();
        for _ in 0..PUBLISHES_PER_TURN {
            if !self.takes_publishes() || self.is_congested() || self.has_deflated_enough() {
                break;
            }
            let Some(Publish { publication, on_receipt }) = self.receiver.next_publish() else { break };
            self.memory.on_bus -= publication.bytes() as i64;
            self.number(publication, on_receipt);
        }
        self.counters.outbox.set(self.outbox.waiting() as u64);
    }

    /// Whether publishes are taken: not while this shard's own orders find no room.
    pub(super) fn takes_publishes(&self) -> bool {
        !self.outbox.is_backed_up()
    }

    /// Whether so much was deflated in this turn that what else is to be numbered waits for the next.
    pub(super) fn has_deflated_enough(&self) -> bool {
        self.deflated_bytes >= DEFLATED_BYTES_PER_TURN
    }

    /// Whether some channel is so far ahead of its healthy subscribers that nothing may be added.
    pub(super) fn is_congested(&mut self) -> bool {
        if self.congested.is_empty() {
            return false;
        }
        let feeds = &self.feeds;
        self.congested.retain(|channel| feeds.get(*channel).is_some_and(Feed::is_congested));
        !self.congested.is_empty()
    }

    fn handle_order(&mut self, order: Order) {
        match order {
            Order::Deliver(epoch, numbered) => self.handle_delivery(epoch, &numbered),
            Order::Interest { channel, from, members, deflating, ticket } => {
                self.handle_interest(&channel, from, members, deflating, ticket)
            }
            Order::Attach(attach) => self.handle_attach(&attach),
            Order::Follow { pattern, from, is_held, ticket } => {
                self.handle_follow(&pattern, from, is_held, ticket);
            }
            Order::Followed { ticket } => self.handle_followed(ticket),
            Order::Ask(question, on_answer) => self.answer(question, on_answer),
            Order::Published { sender, id, channel, outcome } => {
                self.acknowledge(sender, id, &channel, outcome);
            }
            Order::Drain(schedule) => self.begin_drain(schedule),
            Order::Stop => self.is_stopped = true,
        }
    }

    /// At the home: gives the message its number, unless it has one already, and tells whoever wants to know.
    pub(super) fn number(&mut self, mut publication: Publication, on_receipt: Option<OnReceipt>) {
        let outcome = match publication.idempotency.take() {
            None => self.distribute(&mut publication).map(Ok),
            Some(idempotency) => self.distribute_once(&mut publication, *idempotency),
        };
        let Some(outcome) = outcome else { return };
        if let Some(on_receipt) = on_receipt {
            on_receipt(outcome);
        }
        if let (Some(origin), Some(id)) = (publication.origin, publication.acknowledge) {
            let (sender, channel) = (origin.connection, publication.channel);
            if origin.shard == self.id {
                self.acknowledge(sender, id, &channel, outcome);
            } else {
                self.outbox.send(&self.bus, origin.shard, Order::Published { sender, id, channel, outcome });
            }
        }
    }

    /// Numbers a message that may have come before, or finds what became of it then.
    fn distribute_once(
        &mut self,
        publication: &mut Publication,
        idempotency: Idempotency,
    ) -> Option<Outcome> {
        match self.retries.find(&publication.channel, &idempotency, self.now) {
            Ok(None) => {}
            Ok(Some(receipt)) => {
                self.counters.idempotency_duplicates.add(1);
                return Some(Ok(receipt));
            }
            Err(conflict) => return Some(Err(conflict)),
        }
        let receipt = self.distribute(publication)?;
        self.expect_sweep();
        let (channel, is_of_client) = (publication.channel.clone(), publication.origin.is_some());
        let evicted = self.retries.note(channel, idempotency, receipt, is_of_client, self.now);
        self.counters.idempotency_evicted.add(evicted);
        self.counters.idempotency_keys.set(self.retries.len() as u64);
        Some(Ok(receipt))
    }

    /// Numbers a message, deflates it if somebody reads it so, and sends it to every shard that wants it.
    fn distribute(&mut self, publication: &mut Publication) -> Option<Receipt> {
        let channel = self.hub.open(&publication.channel);
        self.deflate(channel, publication);
        let newcomers =
            if self.hub.has_patterns() { self.hub.note_message(channel, self.now) } else { Vec::new() };
        let subscribers = self.hub.subscribers(channel);
        let numbering = self.hub.numbering_mut(channel)?;
        let position = numbering.take_next();
        for shard in numbering.interested_shards() {
            let numbered = Numbered { offset: position.offset, publication: publication.clone() };
            self.memory.on_bus += publication.bytes() as i64;
            self.outbox.send(&self.bus, shard, Order::Deliver(position.epoch, numbered));
        }
        self.counters.published.add(1);
        self.counters.relayed.add(u64::from(publication.origin.is_some()));
        self.welcome(channel, &publication.channel, (position.epoch, position.offset), &newcomers);
        self.append(channel, position.epoch, position.offset, publication);
        Some(Receipt { position, subscribers, is_duplicate: false })
    }

    /// Deflates a message once for every subscriber of the process that reads it so.
    fn deflate(&mut self, channel: ChannelIndex, publication: &mut Publication) {
        if self.declines_compression(self.hub.would_begin_deflater(channel)) {
            return;
        }
        let rules = &self.config.channels;
        let Some(deflater) = self.hub.deflater_mut(channel, |name| rules.settings_for(name)) else { return };
        let Some((kind, payload)) = encoding::data_of(&publication.frame) else { return };
        self.deflated_bytes += payload.len();
        publication.deflated = deflater.deflate(kind, payload).map(Arc::new);
        if let Some(deflated) = &publication.deflated {
            self.counters.deflated.add(1);
            self.counters.deflate_bytes_in.add(publication.frame.len() as u64);
            self.counters.deflate_bytes_out.add(deflated.frame.len() as u64);
        }
    }

    /// Puts a message into the channel's journal here and begins a pass over its members.
    pub(super) fn append(
        &mut self,
        channel: ChannelIndex,
        epoch: Epoch,
        offset: Offset,
        publication: &Publication,
    ) {
        let members = self.hub.members(channel).len() as u32;
        if self.feeds.get(channel).is_none() {
            let settings = self.settings_now(&publication.channel);
            if members == 0 && settings.history_messages == 0 && settings.retain == Retain::Window {
                self.maybe_idle.push(channel);
                return;
            }
            self.feeds.insert(channel, Feed::new(settings, epoch, offset));
        }
        let Some(feed) = self.feeds.get_mut(channel) else { return };
        let was_over = feed.pass.is_over();
        feed.append(offset, publication, members, self.now);
        self.counters.encoded.add(feed.journal.written_strips() as u64);
        let is_kept = !feed.journal.is_empty();
        if feed.is_congested() && !self.congested.contains(&channel) {
            self.congested.push(channel);
        }
        if was_over && members > 0 {
            self.list_news(channel);
        }
        if is_kept {
            self.note_journal_growth(publication.frame.len() as u64);
        } else if members == 0 {
            // Too large for its history, it pushed out what was kept before it.
            self.maybe_idle.push(channel);
        }
    }

    /// Lists a channel whose pass has begun, at once or when the batch window is over.
    pub(super) fn list_news(&mut self, channel: ChannelIndex) {
        if self.config.batch_window.is_zero() {
            self.news.push_back(channel);
        } else {
            self.held_news.push_back((self.now.after(self.config.batch_window), channel));
        }
    }

    fn handle_interest(
        &mut self,
        name: &ChannelName,
        from: ShardId,
        members: u32,
        deflating: u32,
        ticket: u64,
    ) {
        let (channel, outcome) = self.hub.note_interest(name, from, members, deflating, ticket);
        self.note_occupancy(channel);
        if members == 0 {
            self.hub.linger(channel, self.now);
            self.maybe_idle.push(channel);
        }
        if outcome == InterestOutcome::Attach {
            let Some(numbering) = self.hub.numbering(channel) else { return };
            let (epoch, next) = (numbering.epoch(), numbering.next());
            let attach =
                Attach { channel: name.clone(), ticket, epoch, next, retained: self.retained(channel, name) };
            self.memory.on_bus += attach.bytes() as i64;
            self.outbox.send(&self.bus, from, Order::Attach(Box::new(attach)));
        }
    }
}
