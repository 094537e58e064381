//! Phase 4, *read*: ready sockets; bytes to the edge or the session, commands to the hub.
//!
//! A socket is read until a short read says that it is drained, or its budget is spent: then it stays on the list.
//! After the peer's end was announced a short read says nothing; it is read on to the end. From an open connection no
//! more is read than the messages that it may send now can have: the rest stays in its socket, and the kernel pushes back.

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

use std::io;

use super::close::Farewell;
use super::connection::{Awaits, Mark, Open, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::config::limits::{
    COMPRESSED_READ_BYTES, HEADS_PER_TURN, MESSAGE_TIMEOUT, MESSAGES_READ_PER_TURN, OWN_FRAMES_BYTES_MAX,
    READ_BYTES_PER_TURN, REQUESTS_PER_CONNECTION_MAX,
};
use crate::delivery::OwnFull;
use crate::edge::{Decision, Scan};
use crate::model::{Blame, CloseReason, Grade, RejectReason, Time};
use crate::net::Transport;
use crate::session::{Event, Inbound, Inflater};

const _: () =
    assert!(COMPRESSED_READ_BYTES <= READ_BYTES_PER_TURN, "the buffer holds what is read at a time");

impl<R: Reactor> Shard<R> {
    pub(super) fn read(&mut self) {
        self.end_rests();
        let mut buffer = std::mem::take(&mut self.read_buffer);
        self.heads_left = HEADS_PER_TURN;
        for _ in 0..self.read_list.len() {
            let Some(slot) = self.read_list.pop() else { break };
            self.read_connection(slot, &mut buffer);
            // Who has something to be sent is looked at in *flush*, when most of it is gone.
            if self.slots.get(slot).is_some_and(|connection| !connection.is_write_listed) {
                self.note_memory(slot);
            }
        }
        self.read_buffer = buffer;
        self.evict_pending();
    }

    fn read_connection(&mut self, slot: u32, buffer: &mut [u8]) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if !std::mem::take(&mut connection.is_read_listed) {
            return;
        }
        if self.heads_left == 0 && matches!(connection.phase, Phase::Http(_)) {
            return self.read_list.push(slot, &mut connection.is_read_listed);
        }
        let mut left = READ_BYTES_PER_TURN;
        let mut messages_left = MESSAGES_READ_PER_TURN;
        while let Some(connection) = self.slots.get_mut(slot) {
            let is_open = matches!(connection.phase, Phase::Open(_));
            // A joining, paused or resting connection is listed again when it goes on.
            let is_paused =
                is_open && (connection.unpublished > 0 || self.senders.is_resting(slot, self.now));
            if is_paused || matches!(connection.phase, Phase::Joining(_) | Phase::Ended { .. }) {
                return;
            }
            // What is compressed may become far more: less is read at a time, and what it became counts.
            let most = if connection.may_compress() { COMPRESSED_READ_BYTES } else { buffer.len() };
            let messages_room = messages_left.min(self.senders.room(slot, self.now));
            let room = if is_open { connection.read_room(messages_room) } else { most };
            let room = room.min(most).min(left);
            let messages_before = self.counters.messages_in.get();
            let Some(window) = buffer.get_mut(..room) else { return };
            match connection.socket.read(window) {
                Ok(0) => return self.handle_end_of_file(slot),
                Ok(length) => {
                    self.counters.bytes_in.add(length as u64);
                    if !is_open {
                        connection.liveness.on_heard(self.now);
                    }
                    connection.traffic.bytes_in += length as u64;
                    let is_drained = length < room && !connection.marks.has(Mark::ReadClosed);
                    // Before the bytes are looked at: who joins by them is not read again for nothing.
                    connection.may_have_input = !is_drained;
                    self.handle_bytes(slot, buffer.get(..length).unwrap_or_default());
                    left = left.saturating_sub(length + self.inflater.take_work());
                    let messages = (self.counters.messages_in.get() - messages_before) as usize;
                    messages_left = messages_left.saturating_sub(messages);
                    self.senders.take(slot, messages, self.now);
                    if is_open && messages_room == 0 && self.is_open(slot) {
                        return self.handle_overrun(slot);
                    }
                    if is_drained {
                        return;
                    }
                    if left == 0 || messages_left == 0 {
                        return self.list_read(slot);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.note_read_dry(slot),
                Err(_) => return self.end(slot, CloseReason::Reset, Blame::Peer),
            }
        }
    }

    fn is_open(&self, slot: u32) -> bool {
        self.slots.get(slot).is_some_and(|connection| matches!(connection.phase, Phase::Open(_)))
    }

    fn note_read_dry(&mut self, slot: u32) {
        if let Some(connection) = self.slots.get_mut(slot) {
            connection.may_have_input = false;
        }
    }

    /// The peer has ended its side. It may be reading: answers that wait still go out.
    fn handle_end_of_file(&mut self, slot: u32) {
        let Some(connection) = self.slots.get(slot) else { return };
        match &connection.phase {
            // Who has ended its side may still read: an answer that is on its way is sent.
            Phase::Http(_) if connection.owed.has_own() => {
                self.bid_farewell(slot, CloseReason::HttpDone, Blame::Peer, Farewell::Rest);
            }
            Phase::Http(_) => self.end(slot, CloseReason::HttpDone, Blame::Peer),
            Phase::Joining(_) | Phase::Open(_) => self.end(slot, CloseReason::EndOfFile, Blame::Peer),
            Phase::Closing(_) => self.finish_closing(slot),
            Phase::Ended { .. } => {}
        }
    }

    fn handle_bytes(&mut self, slot: u32, input: &[u8]) {
        let limits = self.session_limits;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let may_compress = connection.may_compress();
        match &mut connection.phase {
            Phase::Http(http) if http.awaits_proxy_header => self.handle_proxy_header_bytes(slot, input),
            Phase::Http(_) => self.handle_request_bytes(slot, input),
            // Whoever reads an event stream has nothing to say.
            Phase::Open(_) if connection.marks.has(Mark::EventStream) => {}
            Phase::Open(_) => self.handle_frame_bytes(slot, input),
            Phase::Closing(closing) => {
                let is_answered = match &mut closing.awaits {
                    Awaits::PeerClose(inbound) => {
                        let inbound = inbound.get_or_insert_with(|| {
                            let mut inbound = Box::new(Inbound::new(limits, may_compress));
                            inbound.on_close_sent();
                            inbound
                        });
                        is_close_answered(inbound, input, &mut self.inflater, &mut self.events)
                    }
                    Awaits::Flush | Awaits::EndOfInput => false,
                };
                if is_answered {
                    self.finish_closing(slot);
                }
            }
            Phase::Joining(_) | Phase::Ended { .. } => {}
        }
    }

    pub(super) fn handle_request_bytes(&mut self, slot: u32, mut input: &[u8]) {
        while let Some(connection) = self.slots.get_mut(slot) {
            let Phase::Http(http) = &mut connection.phase else { return };
            if input.is_empty() {
                return;
            }
            let end = match http.scanner.scan(input) {
                Err(reason) => return self.refuse(slot, reason, None),
                Ok(Scan::NeedMore) => {
                    if http.served > 0 && http.buffer.is_empty() {
                        http.deadline = self.now.after(self.config.handshake_timeout);
                    }
                    http.buffer.extend_from_slice(input);
                    return self.arm(slot);
                }
                Ok(Scan::Complete(end)) => end,
            };
            self.heads_left = self.heads_left.saturating_sub(1);
            let (head_end, rest) = input.split_at(end.min(input.len()));
            input = rest;
            let is_last = http.served + 1 >= REQUESTS_PER_CONNECTION_MAX;
            let head = if http.buffer.is_empty() {
                head_end
            } else {
                http.buffer.extend_from_slice(head_end);
                &http.buffer
            };
            let client = http.is_from_proxy.then(|| self.edge.forwarded_client(head));
            let decision = self.edge.decide(head, !rest.is_empty(), is_last);
            match client {
                Some(Some(client)) if !self.note_client(slot, client) => return,
                Some(None) if !self.config.proxy_protocol => self.forget_client(slot),
                _ => {}
            }
            match decision {
                Decision::Respond { bytes, closes, reject } => {
                    self.respond(slot, bytes, closes);
                    if let Some(reason) = reject {
                        self.note_refusal(slot, reason);
                    }
                }
                Decision::Join { .. } if self.turns_joiners_away() => {
                    let retry_after_s = self.retry_after_seconds();
                    return self.refuse(slot, RejectReason::Draining, Some(retry_after_s));
                }
                Decision::Join { .. } if self.memory.grade >= Grade::Closed => {
                    let retry_after_s = self.retry_after_seconds();
                    return self.refuse(slot, RejectReason::Memory, Some(retry_after_s));
                }
                Decision::Join { response, requests, patterns, dialect, compression } => {
                    return self.join(slot, response, requests, dialect, compression, patterns);
                }
            }
        }
    }

    /// Queues an answer; then the connection ends if it `closes`, or has nothing left to queue it in, else it goes on
    /// with its next request.
    fn respond(&mut self, slot: u32, bytes: Vec<u8>, closes: bool) {
        if closes {
            return self.bid_farewell(slot, CloseReason::HttpDone, Blame::Peer, Farewell::Answer(bytes));
        }
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if connection.owed.push_own(&bytes, OWN_FRAMES_BYTES_MAX).is_err() {
            // More requests in flight than are answered: it reads nothing of what it asks for.
            return self.end(slot, CloseReason::HttpDone, Blame::Us);
        }
        if let Phase::Http(http) = &mut connection.phase {
            http.next_request(self.now);
        }
        self.await_head(slot);
        self.list_write(slot);
    }

    fn handle_frame_bytes(&mut self, slot: u32, input: &[u8]) {
        let mut limits = self.session_limits;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let may_compress = connection.may_compress();
        if let [subscription] = connection.owed.subscriptions()
            && !connection.marks.has(Mark::Commands)
        {
            let feed = self.feeds.get(subscription.channel);
            limits.message_type = feed.map_or(limits.message_type, |feed| feed.settings.message_type);
        }
        let Phase::Open(place) = &mut connection.phase else { return };
        let open = place.get_or_insert_with(|| {
            Box::new(Open { inbound: Inbound::new(limits, may_compress), message_deadline: Time::NEVER })
        });
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        self.replies.clear();
        let result = open.inbound.handle_bytes(input, &mut self.inflater, &mut self.replies, &mut events);
        let is_mid_message = open.inbound.is_mid_message();
        if open.inbound.is_in_data_message() {
            connection.liveness.on_heard(self.now);
        }
        let has_ended_message = events.iter().any(|event| matches!(event, Event::Message { .. }));
        if open.inbound.is_at_rest() {
            *place = None;
        } else if !is_mid_message {
            open.message_deadline = Time::NEVER;
        } else if has_ended_message || open.message_deadline == Time::NEVER {
            // Another message than the one that an earlier deadline was for.
            open.message_deadline = self.now.after(MESSAGE_TIMEOUT);
        }
        let has_begun_message = is_mid_message;
        let has_closed = events.iter().any(|event| matches!(event, Event::Closed { .. }));
        let mut unasked = 0;
        for event in events.drain(..) {
            unasked += usize::from(self.handle_event(slot, event));
        }
        self.events = events;
        let is_closing =
            self.slots.get(slot).is_some_and(|connection| matches!(connection.phase, Phase::Closing(_)));
        if is_closing && (has_closed || result.is_err()) {
            // Closed for what it said before, and its own end came in the same breath.
            return self.finish_closing(slot);
        }
        if has_closed {
            let reply = std::mem::take(&mut self.replies);
            return self.bid_farewell(slot, CloseReason::Normal, Blame::Peer, Farewell::CloseReply(reply));
        }
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if unasked > 0 && !connection.control_allowance.take(unasked, self.now) {
            return self.fail(slot, CloseReason::ControlFlood);
        }
        // What was said before a fault is answered before the close.
        let outcome = self.queue_replies(slot).and(result);
        if let Err(reason) = outcome {
            return self.fail(slot, reason);
        }
        if has_begun_message {
            self.arm(slot);
        }
    }

    /// Queues what the codec answered; to a socket that takes nothing, no more than the newest pong.
    fn queue_replies(&mut self, slot: u32) -> Result<(), CloseReason> {
        if self.session_limits.echoes {
            self.deflate_echoes(slot);
        }
        let Some(connection) = self.slots.get_mut(slot) else { return Ok(()) };
        if self.replies.is_empty() || !matches!(connection.phase, Phase::Open(_)) {
            return Ok(());
        }
        let limits = self.session_limits;
        if connection.owed.is_blocked() && !limits.echoes {
            connection.owed.keep_newest_pong(&self.replies);
            return Ok(());
        }
        let queued = connection.owed.push_own(&self.replies, limits.own_frames_bytes_max);
        self.list_write(slot);
        queued.map_err(|OwnFull| CloseReason::ControlFlood)
    }

    /// Does what `event` asks for. Says whether it was a control frame that nobody asked the client for: a ping, or a pong
    /// that answers none of ours.
    fn handle_event(&mut self, slot: u32, event: Event) -> bool {
        let Some(connection) = self.slots.get_mut(slot) else { return false };
        if !matches!(connection.phase, Phase::Open(_)) {
            return false;
        }
        match event {
            Event::Message { kind, payload } => {
                self.counters.messages_in.add(1);
                connection.liveness.on_heard(self.now);
                connection.liveness.on_message(self.now);
                if connection.marks.has(Mark::Commands) {
                    self.handle_command(slot, kind, &payload);
                } else if !self.session_limits.echoes {
                    self.relay(slot, kind, &payload);
                }
                false
            }
            Event::Ping => {
                connection.liveness.on_heard(self.now);
                true
            }
            Event::Pong { payload } => {
                self.counters.pongs.add(1);
                let round_trip = connection.liveness.on_pong(&payload, self.now);
                if let Some(round_trip) = round_trip {
                    crate::metrics::report::record(&mut self.histograms.ping_round_trip, round_trip, 1);
                }
                round_trip.is_none()
            }
            Event::Closed { .. } => false,
        }
    }

    /// Refuses the request in `slot` with a status, then ends the connection.
    pub(super) fn refuse(&mut self, slot: u32, reason: RejectReason, retry_after_s: Option<u32>) {
        let answer = self.edge.refusal(reason, retry_after_s);
        self.bid_farewell(slot, CloseReason::HttpDone, Blame::Us, Farewell::Answer(answer));
        self.note_refusal(slot, reason);
    }
}

fn is_close_answered(
    inbound: &mut Inbound,
    input: &[u8],
    inflater: &mut Inflater,
    events: &mut Vec<Event>,
) -> bool {
    events.clear();
    // Our close is on its way: whatever the codec wants to say is not said any more (GUARANTEES B18).
    let mut unsaid = Vec::new();
    let result = inbound.handle_bytes(input, inflater, &mut unsaid, events);
    let is_answered = events.iter().any(|event| matches!(event, Event::Closed { .. }));
    events.clear();
    is_answered || result.is_err()
}
