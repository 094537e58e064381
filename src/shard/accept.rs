//! Phase 3, *accept*: new sockets, a bounded number a turn; what happens when the limit or the descriptors are reached.
//!
//! At the connection limit, and when memory is short, a client is answered 503 and goes; if it stays, it does so for a second, or until others are to
//! be told the same: those have their descriptors from a reserve. Without descriptors the queue is left alone and tried
//! again on every close and every 100 ms, without spinning; after a second of that, clients are answered one by one
//! through the spare descriptor, so that none waits in the dark (GUARANTEES C1-C3).

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
use std::io;
use std::time::Duration;

use super::connection::{Connection, Http, Mark, Phase};
use super::reactor::{Accepted, Reactor};
use super::turn::Shard;
use crate::model::{Blame, CloseReason, ConnectionId, Grade, RejectReason, Time};
use crate::net::Transport;

/// Pause between two attempts while descriptors are short, or after an error nobody knows.
const RETRY: Duration = Duration::from_millis(100);
/// How long a queue may wait for descriptors before its clients are answered through the spare one.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether accepting works.
#[derive(Debug, Default)]
pub struct AcceptState {
    /// Connections over the limit that are being told so.
    pub(super) refused: usize,
    /// The same in the order they came; some may have gone since.
    queue_of_refused: VecDeque<ConnectionId>,
    /// No attempt before this, unless a connection closes.
    paused_until: Option<Time>,
    /// When a new connection is due in the long run: the further ahead, the more came at once.
    due: Time,
    /// Since when descriptors have been short.
    exhausted_since: Option<Time>,
}

impl<R: Reactor> Shard<R> {
    pub(super) fn accept(&mut self) {
        if self.accepting.paused_until.is_some_and(|until| until > self.now) {
            return;
        }
        self.accepting.paused_until = None;
        if self.accepting.exhausted_since.is_some() {
            // Another thread may have been given the descriptor while the spare was in use.
            self.reactor.restore_spare();
        }
        if !self.reactor.may_accept() {
            return self.look_for_descriptors();
        }
        for _ in 0..self.config.accepts_per_turn {
            if self.accepting.refused >= self.config.refused_max() {
                return self.make_room_for_refusals();
            }
            match self.reactor.accept() {
                Ok(Some(accepted)) => self.take_in(accepted),
                Ok(None) => break,
                Err(error) => {
                    if self.handle_accept_error(&error) {
                        continue;
                    }
                    return;
                }
            }
        }
        self.set_exhausted(None);
        self.reactor.restore_spare();
    }

    /// As many clients as the reserve has descriptors for are being told that there is no room: half of them, those who
    /// came first and have their answer, need not go by themselves. Their descriptors are free with the next turn.
    fn make_room_for_refusals(&mut self) {
        let wanted = self.accepting.refused.div_ceil(2);
        let mut ended = 0;
        while ended < wanted
            && let Some(id) = self.accepting.queue_of_refused.front().copied()
        {
            let connection = self.slots.contains(id).then(|| self.slots.get(id.slot)).flatten();
            match connection.map(|connection| &connection.phase) {
                Some(Phase::Closing(closing)) if !closing.is_shut_down => break,
                Some(Phase::Closing(_)) => {
                    self.end(id.slot, CloseReason::HttpDone, Blame::Us);
                    ended += 1;
                }
                _ => {}
            }
            self.accepting.queue_of_refused.pop_front();
        }
        if ended == 0 {
            // Their answers go out first, which resumes this, as does one that ends.
            self.accepting.paused_until = Some(self.now.after(RETRY));
        }
    }

    /// A connection ended: a descriptor is free, try at once.
    pub(super) fn resume_accepting(&mut self) {
        self.accepting.paused_until = self.accepting.exhausted_since.map(|_| self.now);
    }

    /// Nobody waits: ends the shortage if there is one and a descriptor is free, else looks again later. Without
    /// this a process that is not ready, and so gets no traffic, would stay so.
    fn look_for_descriptors(&mut self) {
        let Some(since) = self.accepting.exhausted_since else { return };
        if self.reactor.has_free_descriptor() {
            return self.set_exhausted(None);
        }
        self.set_exhausted(Some(since));
        self.accepting.paused_until = Some(self.now.after(RETRY));
    }

    /// Whether the next turn can accept without waiting.
    pub(super) fn can_accept_at_once(&self) -> bool {
        self.accepting.paused_until.is_none() && self.reactor.may_accept()
    }

    /// When to try again after an error; [`Time::NEVER`] when nothing is paused.
    pub(super) fn accept_retry_at(&self) -> Time {
        self.accepting.paused_until.unwrap_or(Time::NEVER)
    }

    /// Whether the queue may be tried on at once after `error`.
    pub(super) fn handle_accept_error(&mut self, error: &io::Error) -> bool {
        match error.raw_os_error() {
            // The client, or the path to it, gave up while it was queued (accept(2)).
            Some(
                libc::ECONNABORTED
                | libc::EPROTO
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EOPNOTSUPP
                | libc::ENOPROTOOPT
                | libc::ENONET
                | libc::EPERM,
            ) => {
                self.counters.accept_errors_other.add(1);
                true
            }
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                self.counters.accept_errors_exhausted.add(1);
                let since = self.accepting.exhausted_since.unwrap_or(self.now);
                self.set_exhausted(Some(since));
                if self.now.since(since) >= PATIENCE {
                    self.answer_through_spare();
                }
                self.accepting.paused_until = Some(self.now.after(RETRY));
                false
            }
            _ => {
                self.counters.accept_errors_other.add(1);
                tracing::warn!(event = "accept_failed", shard = self.id.0, %error);
                self.accepting.paused_until = Some(self.now.after(RETRY));
                false
            }
        }
    }

    fn set_exhausted(&mut self, since: Option<Time>) {
        if since.is_some() && self.accepting.exhausted_since.is_none() {
            tracing::error!(
                event = "descriptors_exhausted",
                shard = self.id.0,
                connections = self.slots.len(),
                "no descriptor for a new connection; raise the limit (ulimit -n, LimitNOFILE) or lower --max-connections"
            );
        }
        self.accepting.exhausted_since = since;
        let seconds = since.map_or(0, |since| self.now.since(since).as_secs() + 1);
        self.counters.descriptors_exhausted_seconds.set(seconds);
    }

    /// Tells clients in the queue that there is no room, each over the spare descriptor.
    fn answer_through_spare(&mut self) {
        for _ in 0..self.config.accepts_per_turn {
            let Some(mut socket) = self.reactor.accept_with_spare() else { break };
            let retry_after_s = self.retry_after_seconds();
            let answer = self.edge.refusal(RejectReason::DescriptorsExhausted, Some(retry_after_s));
            // Before the answer: who has read it finds itself counted.
            self.counters.count_reject(RejectReason::DescriptorsExhausted);
            // The socket is new and its buffer empty; a client that is gone already needs no answer.
            let written = socket.write(&[io::IoSlice::new(&answer)]).unwrap_or(0);
            self.note_turned_away(RejectReason::DescriptorsExhausted, &socket, written);
            socket.shutdown_write();
            drop(socket);
            self.reactor.restore_spare();
        }
        self.reactor.restore_spare();
    }

    pub(super) fn take_in(&mut self, accepted: Accepted<R::Socket>) {
        let Accepted { socket, peer } = accepted;
        self.counters.accepted.add(1);
        let arrival = match self.look_at(peer) {
            Ok(arrival) => arrival,
            Err(reason) => return self.turn_away(socket, peer, reason),
        };
        let no_room = self.refusal_of_new();
        let is_within_limit = no_room.is_none();
        let mut http = Http::new(self.now, self.config.handshake_timeout);
        http.is_from_proxy = arrival.is_from_proxy;
        http.awaits_proxy_header = self.config.proxy_protocol;
        let id = self.slots.insert(Connection::new(socket, http, self.now));
        self.counters.connections.add(1);
        self.counters.pending.add(1);
        if !is_within_limit {
            self.accepting.refused += 1;
            let queue = &mut self.accepting.queue_of_refused;
            if queue.len() >= 2 * self.config.refused_max() {
                queue.retain(|id| self.slots.contains(*id));
            }
            queue.push_back(id);
        }
        let over_address = self.note_admission(id.slot, arrival.admission);
        let Some(connection) = self.slots.get_mut(id.slot) else { return };
        if !is_within_limit {
            connection.marks.set(Mark::OverLimit);
        }
        if let Err(error) = self.reactor.register(&mut connection.socket, id) {
            tracing::warn!(event = "register_failed", shard = self.id.0, %error);
            return self.end(id.slot, CloseReason::Internal, Blame::Us);
        }
        let refusal = match no_room.or(over_address) {
            None if !self.is_within_rate() => Some(RejectReason::Admission),
            reason => reason,
        };
        let Some(reason) = refusal else {
            self.await_head(id.slot);
            return self.arm(id.slot);
        };
        let retry_after_s = self.retry_after_seconds();
        self.refuse(id.slot, reason, Some(retry_after_s));
    }

    /// Counts a new connection against this shard's share of `--connect-rate`; false if it comes too early: a second's
    /// worth may come at once.
    fn is_within_rate(&mut self) -> bool {
        let shards = u32::try_from(self.config.shards).unwrap_or(u32::MAX);
        let rate = u32::try_from(self.config.connect_rate).unwrap_or(u32::MAX);
        let Some(interval) = (Duration::from_secs(1) * shards).checked_div(rate) else { return true };
        let second = Duration::from_secs(1).saturating_sub(interval);
        let is_within = self.accepting.due.since(self.now) <= second;
        if is_within {
            self.accepting.due = self.accepting.due.max(self.now).after(interval);
        }
        is_within
    }

    /// Why whoever comes now finds no room; if there is, it is taken.
    fn refusal_of_new(&self) -> Option<RejectReason> {
        if self.memory.grade >= Grade::Closed {
            return Some(RejectReason::Memory);
        }
        (!self.budget.try_take()).then_some(RejectReason::ConnectionLimit)
    }

    /// 2 to 10 seconds, so that those who were refused do not come back together.
    pub(super) fn retry_after_seconds(&mut self) -> u32 {
        2 + (self.reactor.random() % 9) as u32
    }
}
