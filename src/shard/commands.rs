//! What clients of `tidegate.v1` ask for, carried out.
//!
//! Every command with an id gets one reply, before any message that follows from it. A subscription whose channel is not
//! attached yet is answered when it is.

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

use std::collections::HashMap;

use super::connection::Phase;
use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::Outcome;
use crate::config::limits::CHANNELS_PER_CONNECTION_MAX;
use crate::journal::Ride;
use crate::model::{
    ChannelIndex, ChannelName, CloseReason, Conflict, ConnectionId, Grade, PayloadKind, Publication,
    SubscribeRequest,
};
use crate::session::commands::{self, ClientMessage, Command};
use crate::session::{CommandError, replies};

/// Subscriptions that wait for their channel: by connection slot and channel, the command's id and what it asked for.
pub(super) type Subscribing = HashMap<(u32, ChannelIndex), (u64, SubscribeRequest)>;

impl<R: Reactor> Shard<R> {
    /// Carries out the command in a message of the client in `slot`.
    pub(super) fn handle_command(&mut self, slot: u32, kind: PayloadKind, payload: &[u8]) {
        if kind == PayloadKind::Binary {
            return self.close(slot, CloseReason::BadMessage, Some(" commands are texts"));
        }
        self.counters.commands.add(1);
        match commands::parse(payload) {
            Err(bad) => self.close(slot, CloseReason::BadMessage, Some(&format!(" {}", bad.text()))),
            Ok(Command::Subscribe { id, request }) => self.subscribe(slot, id, request),
            Ok(Command::Unsubscribe { id, channel }) => self.unsubscribe(slot, id, &channel),
            Ok(Command::Follow { id, pattern }) => self.follow(slot, Some(id), &pattern),
            Ok(Command::Unfollow { id, pattern }) => self.unfollow(slot, id, &pattern),
            Ok(Command::Publish { id, message }) => self.publish_message(slot, id, &message),
            Ok(Command::Ping { id }) => self.reply(slot, |out| replies::append_pong(id, out)),
            Ok(Command::Refused { id, error }) => self.refuse_command(slot, id, error),
        }
    }

    pub(super) fn refuse_command(&mut self, slot: u32, id: u64, error: CommandError) {
        self.counters.commands_refused.add(1);
        self.reply(slot, |out| replies::append_error(id, error, out));
    }

    fn subscribe(&mut self, slot: u32, id: u64, request: SubscribeRequest) {
        let Some(connection) = self.slots.get(slot) else { return };
        let subscriptions = connection.owed.subscriptions();
        let known = self.hub.find(&request.channel);
        if let Some(channel) = known.filter(|channel| self.hub.patterns().is_matched(slot, *channel)) {
            // It reads the channel because a pattern matches, and goes on where it is unless it asks for another place.
            let is_live = self.hub.name_matched(channel, slot);
            self.note_occupancy(channel);
            self.subscribing.insert((slot, channel), (id, request));
            if is_live {
                self.complete_subscribe(slot, channel);
            }
            return;
        }
        if subscriptions.iter().any(|subscription| Some(subscription.channel) == known) {
            return self.refuse_command(slot, id, CommandError::AlreadySubscribed);
        }
        if subscriptions.len() >= CHANNELS_PER_CONNECTION_MAX {
            return self.refuse_command(slot, id, CommandError::ChannelLimit);
        }
        if self.memory.grade >= Grade::Closed {
            return self.refuse_command(slot, id, CommandError::Memory);
        }
        let is_live = self.join_one(slot, &request.channel, Ride::Envelope);
        let Some(channel) = self.hub.find(&request.channel) else { return };
        self.subscribing.insert((slot, channel), (id, request));
        if is_live {
            self.complete_subscribe(slot, channel);
        }
    }

    /// The channel that the client in `slot` waits for is live: its subscription begins, if it is one of a command.
    pub(super) fn complete_subscribe(&mut self, slot: u32, channel: ChannelIndex) {
        let Some((id, request)) = self.subscribing.remove(&(slot, channel)) else { return };
        let Some(begun) = self.begin(slot, channel, &request) else { return };
        let mut text = Vec::new();
        self.append_subscribed(Some(id), &begun, &mut text);
        self.reply(slot, |out| out.extend_from_slice(&text));
    }

    fn unsubscribe(&mut self, slot: u32, id: u64, name: &ChannelName) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let named = self.hub.find(name).filter(|channel| {
            connection.owed.subscription_mut(*channel).is_some()
                && !self.hub.patterns().is_matched(slot, *channel)
        });
        let Some(channel) = named else {
            return self.refuse_command(slot, id, CommandError::NotSubscribed);
        };
        if let Some((waiting, _)) = self.subscribing.remove(&(slot, channel)) {
            self.refuse_command(slot, waiting, CommandError::NotSubscribed);
        }
        if !self.goes_on_matched(slot, channel, name)
            && let Some(connection) = self.slots.get_mut(slot)
            && let Some(subscription) = connection.owed.unsubscribe(channel)
        {
            self.leave(slot, subscription);
        }
        self.reply(slot, |out| replies::append_unsubscribed(id, name, out));
    }

    fn publish_message(&mut self, slot: u32, id: u64, message: &ClientMessage<'_>) {
        let ClientMessage { channel, payload, key, ttl, idempotency_key } = message;
        let settings = self.config.channels.settings_for(channel);
        let refusal = match settings {
            _ if !settings.relay => Some(CommandError::NotAllowed),
            _ if !settings.message_type.takes(PayloadKind::Text) => Some(CommandError::TypeUnsupported),
            _ => None,
        };
        if let Some(error) = refusal {
            return self.refuse_command(slot, id, error);
        }
        let payload = payload.as_bytes();
        let key = key.clone().or_else(|| self.key_in(channel, PayloadKind::Text, payload));
        let origin = Some(self.origin_of(slot));
        let mut publication = Publication {
            key,
            expires_at: self.expiry(ttl.unwrap_or(settings.ttl)),
            acknowledge: Some(id),
            ..Publication::encode(channel.clone(), PayloadKind::Text, payload, self.now, origin)
        };
        if let Some(key) = idempotency_key {
            self.bus.identify(&mut publication, key.clone());
        }
        self.publish(slot, publication);
    }

    /// Tells the sender of a message what became of it, if it is still there.
    pub(super) fn acknowledge(
        &mut self,
        sender: ConnectionId,
        id: u64,
        channel: &ChannelName,
        outcome: Outcome,
    ) {
        let is_open = |phase: &Phase| matches!(phase, Phase::Open(_));
        if !self.slots.contains(sender) || !self.slots.get(sender.slot).is_some_and(|it| is_open(&it.phase)) {
            return;
        }
        match outcome {
            Ok(receipt) => {
                self.reply(sender.slot, |out| replies::append_published(id, channel, &receipt, out))
            }
            Err(Conflict) => self.refuse_command(sender.slot, id, CommandError::IdempotencyConflict),
        }
    }
}
