//! Connections that have not sent a complete request head: they may hold a share of the connections, and the one that
//! has waited longest makes room (GUARANTEES A23).
//!
//! Pending is who is in [`Phase::Http`]: from accept to the end of the first head, and again between the requests of a
//! kept connection. Who joins or is open never is. The queue is kept on the side, so that nobody carries it along once
//! upgraded; an entry that no longer says how things stand is passed over.

use std::collections::VecDeque;

use super::connection::Phase;
use super::reactor::Reactor;
use super::turn::Shard;
use crate::model::{Blame, CloseReason, ConnectionId};
use crate::net::Transport;

/// Entries kept beyond twice the share before those that are out of date are thrown away.
const SLACK: usize = 64;

/// Who waits, in the order in which they began to.
#[derive(Debug)]
pub struct Pending {
    /// The id, and the turn in which the wait began.
    queue: VecDeque<(ConnectionId, u64)>,
    /// This shard's share.
    max: usize,
}

impl Pending {
    /// A queue for at most `max` that wait.
    pub fn new(max: usize) -> Self {
        Self { queue: VecDeque::new(), max }
    }
}

impl<R: Reactor> Shard<R> {
    /// The connection in `slot` waits for a request head from here on; whether it did before is left to the caller to
    /// count. Constant time, averaged over calls.
    pub(super) fn await_head(&mut self, slot: u32) {
        let turn = self.counters.turns.get();
        let id = self.slots.id(slot);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let Phase::Http(http) = &mut connection.phase else { return };
        http.waits_since_turn = turn;
        while self.pending.queue.front().is_some_and(|entry| !self.is_pending(*entry)) {
            self.pending.queue.pop_front();
        }
        if self.pending.queue.len() >= 2 * self.pending.max + SLACK {
            let mut queue = std::mem::take(&mut self.pending.queue);
            queue.retain(|entry| self.is_pending(*entry));
            self.pending.queue = queue;
        }
        self.pending.queue.push_back((id, turn));
    }

    /// Resets who has waited longest while more wait than may. Who came in the running turn could not be read yet and
    /// stays, so that there may be so many more until the next.
    pub(super) fn evict_pending(&mut self) {
        let turn = self.counters.turns.get();
        while self.counters.pending.get() > self.pending.max as u64
            && let Some(entry) = self.pending.queue.front().copied()
            && entry.1 < turn
        {
            self.pending.queue.pop_front();
            let slot = entry.0.slot;
            if !self.is_pending(entry) {
                continue;
            }
            if self.slots.get(slot).is_some_and(|connection| connection.is_read_listed) {
                // The turn had completed as many heads as it may: this one may be there already.
                self.await_head(slot);
            } else {
                self.evict(slot);
            }
        }
    }

    fn is_pending(&self, (id, turn): (ConnectionId, u64)) -> bool {
        self.slots.contains(id)
            && self.slots.get(id.slot).is_some_and(|connection| match &connection.phase {
                Phase::Http(http) => http.waits_since_turn == turn,
                _ => false,
            })
    }

    /// One that had an answer is closed in order, so that it can read it; one that had none is owed nothing.
    fn evict(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if matches!(&connection.phase, Phase::Http(http) if http.served == 0) {
            connection.socket.reset_on_close();
        }
        self.end(slot, CloseReason::PendingEvicted, Blame::Us);
    }
}
