//! Phase 7, *reap*: close what is over and give slots back. The only place that frees a slot.

use super::connection::{Mark, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::model::{Blame, Cause, CloseReason, End};

impl<R: Reactor> Shard<R> {
    pub(super) fn reap(&mut self) {
        // Connections that ended while flushing have left their channels since.
        self.send_interest_changes();
        if !self.maybe_idle.is_empty() {
            self.forget_idle_channels();
        }
        self.counters.channels.set(self.hub.len() as u64);
        self.counters.channels_homed.set(self.hub.homed() as u64);
        self.counters.patterns.set(self.hub.patterns().own() as u64);
        self.counters.pattern_subscriptions.set(self.hub.patterns().subscriptions() as u64);
        if !self.ended.is_empty() {
            self.give_back();
        }
        self.settle_memory();
    }

    /// Gives back what the connections had that ended in this turn.
    fn give_back(&mut self) {
        for (slot, peer) in std::mem::take(&mut self.ended) {
            let id = self.slots.id(slot);
            self.forget_slot(slot);
            let Some(connection) = self.slots.remove(slot) else { continue };
            self.echoes.forget(slot);
            self.note_memory(slot);
            self.senders.forget(slot);
            if !connection.marks.has(Mark::OverLimit) {
                self.budget.give_back();
            } else {
                self.accepting.refused -= 1;
            }
            self.counters.connections.sub(1);
            let (reason, by) = match connection.phase {
                Phase::Ended { reason, by } => (reason, by),
                _ => (CloseReason::Internal, Blame::Us),
            };
            self.counters.count_close(reason, by);
            self.ends.note(End {
                cause: Cause::Close(reason, by),
                at: self.now,
                shard: self.id,
                connection: Some(id),
                peer,
                traffic: connection.traffic,
            });
        }
        self.check_nothing_leaked();
        self.resume_accepting();
    }

    /// What ended gave everything back.
    fn check_nothing_leaked(&self) {
        let counters = &self.counters;
        debug_assert_eq!(counters.connections.get(), self.slots.len() as u64);
        if self.slots.len() == 0 {
            let left = (counters.open.get(), counters.subscriptions.get(), counters.lagging.get());
            debug_assert_eq!(left, (0, 0, 0), "open, subscriptions, lagging of no connection");
            debug_assert_eq!(counters.pending.get(), 0, "pending of no connection");
            debug_assert!(self.clients.is_empty(), "clients of no connection");
            debug_assert!(self.senders.is_empty(), "senders of no connection");
            debug_assert!(self.hub.patterns().is_unheld(), "patterns of no connection");
            debug_assert_eq!(self.accepting.refused, 0, "refused connections of none");
            debug_assert!(self.memory.is_at_rest(), "{:?} of no connection", self.memory);
        }
    }
}
