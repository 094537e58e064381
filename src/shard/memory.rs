//! What this shard accounts for, told to the process once a turn; and what it does when the process runs short
//! (GUARANTEES C7). The grades are in `src/model/memory.rs`.
//!
//! Journals charge an account of their own. Connections at rest are a constant each; one in the middle of something is
//! looked at after it was read or written to, and what it holds then stands in a side table until the next look. Messages
//! on the bus are charged by their sender and credited by their receiver. By capacity where it is known, else by length.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::connection::{Awaits, Connection, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::config::ChannelSettings;
use crate::config::limits::{
    CHANNEL_BYTES, COMPRESSOR_BYTES, CONNECTION_BYTES, SHED_DIVISOR, SLOTS_PER_STEP, SUBSCRIPTION_BYTES,
};
use crate::delivery::{Feeds, Subscription};
use crate::metrics::MemoryBudget;
use crate::model::{ChannelIndex, ChannelName, CloseReason, ConnectionId, Grade, Time};

/// Between two rounds of closing those furthest behind.
const SHED_INTERVAL: Duration = Duration::from_secs(1);

/// One shard's share of the memory budget.
#[derive(Debug)]
pub struct Memory {
    budget: MemoryBudget,
    /// What the process knows of this shard.
    told: i64,
    /// Messages sent over the bus less messages taken off it.
    pub(super) on_bus: i64,
    /// Messages of paused senders.
    pub(super) paused: usize,
    /// Connections in the middle of something, by slot.
    busy: HashMap<u32, Busy>,
    busy_bytes: usize,
    /// Entries that cut connections hold on to, by address: how many connections, and bytes counted once for all of them.
    rests: HashMap<usize, (u32, usize)>,
    /// The grade that this turn acts on.
    pub(super) grade: Grade,
    /// History was put away and is to be kept again once the grade allows.
    has_put_history_away: bool,
    shed: Shed,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Busy {
    bytes: usize,
    rest: Option<(usize, usize)>,
}

/// The search for those furthest behind: it goes on for several turns where there are many.
#[derive(Debug, Default)]
struct Shed {
    due: Time,
    next_slot: u32,
    /// The furthest found so far, the nearest of them on top.
    furthest: BinaryHeap<Reverse<(u64, ConnectionId)>>,
}

impl Memory {
    /// An empty share of `budget`.
    pub fn new(budget: MemoryBudget) -> Self {
        Self {
            budget,
            told: 0,
            on_bus: 0,
            paused: 0,
            busy: HashMap::new(),
            busy_bytes: 0,
            rests: HashMap::new(),
            grade: Grade::Calm,
            has_put_history_away: false,
            shed: Shed::default(),
        }
    }

    /// When the next round of closing is due.
    pub(super) fn next_shed_at(&self) -> Time {
        if self.grade >= Grade::Shedding { self.shed.due } else { Time::NEVER }
    }

    /// Whether no connection is in the middle of anything.
    pub(super) fn is_at_rest(&self) -> bool {
        self.busy.is_empty() && self.rests.is_empty() && self.busy_bytes == 0
    }

    /// What the connection in `slot` holds beyond its constant is `now_held`.
    fn note(&mut self, slot: u32, now_held: Busy) {
        if self.busy.is_empty() && now_held == Busy::default() {
            return;
        }
        let before = if now_held == Busy::default() {
            self.busy.remove(&slot).unwrap_or_default()
        } else {
            self.busy.insert(slot, now_held).unwrap_or_default()
        };
        self.busy_bytes = self.busy_bytes - before.bytes + now_held.bytes;
        let address = |busy: Busy| busy.rest.map(|(address, _)| address);
        if address(before) == address(now_held) {
            return;
        }
        if let Some((address, bytes)) = now_held.rest {
            let (holders, counted) = self.rests.entry(address).or_default();
            *holders += 1;
            self.busy_bytes += bytes.saturating_sub(*counted);
            *counted = bytes.max(*counted);
        }
        if let Some((address, _)) = before.rest
            && let Some((holders, counted)) = self.rests.get_mut(&address)
        {
            *holders -= 1;
            if *holders == 0 {
                self.busy_bytes -= *counted;
                self.rests.remove(&address);
            }
        }
    }
}

impl<S> Connection<S> {
    /// Bytes that it holds while it is in the middle of something.
    fn busy(&self) -> Busy {
        let phase = match &self.phase {
            Phase::Http(http) => size_of_val(&**http) + http.buffer.capacity(),
            Phase::Joining(joining) => size_of_val(&**joining) + joining.response.capacity(),
            Phase::Open(Some(open)) => size_of_val(&**open) + open.inbound.memory_bytes(),
            Phase::Closing(closing) => {
                let awaits = match &closing.awaits {
                    Awaits::PeerClose(inbound) => {
                        inbound.as_ref().map_or(0, |inbound| inbound.memory_bytes())
                    }
                    Awaits::Flush | Awaits::EndOfInput => 0,
                };
                size_of_val(&**closing) + awaits
            }
            Phase::Open(None) | Phase::Ended { .. } => 0,
        };
        Busy { bytes: phase + self.owed.own_memory_bytes(), rest: self.owed.rest() }
    }

    /// Encoded bytes that it is behind, over all its channels.
    fn bytes_behind(&self, feeds: &Feeds) -> u64 {
        let behind = |subscription: &Subscription| {
            let feed = feeds.get(subscription.channel);
            feed.map_or(0, |feed| feed.journal.bytes_behind(subscription.cursor.offset()))
        };
        let rest = self.owed.rest().map_or(0, |(_, bytes)| bytes as u64);
        self.owed.subscriptions().iter().map(behind).sum::<u64>() + rest
    }
}

impl<R: Reactor> Shard<R> {
    /// Looks at what the connection in `slot` holds. Constant time; call it when that may have changed.
    pub(super) fn note_memory(&mut self, slot: u32) {
        let busy = self.slots.get(slot).map(Connection::busy).unwrap_or_default();
        self.memory.note(slot, busy);
    }

    /// Takes the grade that this turn acts on. Constant time.
    pub(super) fn take_grade(&mut self) {
        let grade = self.memory.budget.update();
        let before = std::mem::replace(&mut self.memory.grade, grade);
        if (before < Grade::Frugal) != (grade < Grade::Frugal) {
            self.memory.has_put_history_away = true;
            self.sweep.due = self.now;
        }
    }

    /// Whether channels wait for their history to be kept again.
    pub(super) fn has_history_to_restore(&self) -> bool {
        self.memory.has_put_history_away && self.memory.grade < Grade::Frugal
    }

    /// Tells the process what changed in this turn. Constant time.
    pub(super) fn settle_memory(&mut self) {
        let memory = &mut self.memory;
        let counted = self.slots.len() * CONNECTION_BYTES
            + self.counters.subscriptions.get() as usize * SUBSCRIPTION_BYTES
            + self.hub.len() * CHANNEL_BYTES
            + self.hub.deflaters() * COMPRESSOR_BYTES
            + self.hub.pattern_bytes()
            + self.feeds.memory_bytes()
            + self.retries.memory_bytes()
            + memory.busy_bytes
            + memory.paused;
        let sum = counted as i64 + memory.on_bus;
        if sum != memory.told {
            memory.budget.add(sum - memory.told);
            memory.told = sum;
            memory.budget.update();
        }
    }

    /// What holds for a channel whose feed is made now: without history while memory is short.
    pub(super) fn settings_now(&self, channel: &ChannelName) -> ChannelSettings {
        let settings = self.config.channels.settings_for(channel);
        if self.memory.grade < Grade::Frugal {
            return settings;
        }
        ChannelSettings { history_messages: 0, ..settings }
    }

    /// Whether a channel's journal keeps a deflated strip: while somebody here reads it. While memory is short none is begun.
    pub(super) fn keeps_deflated(&self, channel: ChannelIndex) -> bool {
        let has_strip = || self.feeds.get(channel).is_some_and(|feed| feed.journal.has_deflated());
        self.hub.deflating(channel) > 0 && !self.declines_compression(!has_strip())
    }

    /// Whether a compressor or strip that `would_begin` is not to, because memory is short.
    pub(super) fn declines_compression(&self, would_begin: bool) -> bool {
        let declines = would_begin && self.memory.grade >= Grade::Frugal;
        self.counters.memory_compressions_declined.add(u64::from(declines));
        declines
    }

    /// Puts the history of a channel away, or has it kept again, as the grade says.
    pub(super) fn adjust_history(&mut self, channel: ChannelIndex) {
        if !self.memory.has_put_history_away || !self.hub.contains(channel) {
            return;
        }
        let history_messages = self.settings_now(self.hub.name(channel)).history_messages;
        let Some(feed) = self.feeds.get_mut(channel) else { return };
        if history_messages == 0 && feed.settings.history_messages > 0 {
            self.counters.memory_histories_dropped.add(1);
        }
        feed.settings.history_messages = history_messages;
        if self.memory.grade < Grade::Frugal && self.hub.deflating(channel) > 0 {
            feed.journal.keep_deflated(true);
        }
    }

    /// A sweep has seen every channel.
    pub(super) fn end_adjusting_history(&mut self) {
        self.memory.has_put_history_away &= self.memory.grade >= Grade::Frugal;
    }

    /// Once a second, while memory is that short: closes those of the blocked subscribers that are furthest behind, at most
    /// a twentieth of the connections and at least one. Looks at a bounded number of slots a turn.
    pub(super) fn shed(&mut self) {
        if self.now < self.memory.next_shed_at() {
            return;
        }
        let shed = &mut self.memory.shed;
        let most = (self.counters.open.get() as usize / SHED_DIVISOR).max(1);
        let end = self.slots.slot_end().min(shed.next_slot.saturating_add(SLOTS_PER_STEP));
        for slot in shed.next_slot..end {
            let Some(connection) = self.slots.get(slot) else { continue };
            if matches!(connection.phase, Phase::Open(_)) && connection.owed.is_blocked() {
                shed.furthest.push(Reverse((connection.bytes_behind(&self.feeds), self.slots.id(slot))));
                if shed.furthest.len() > most {
                    shed.furthest.pop();
                }
            }
        }
        shed.next_slot = end;
        if end < self.slots.slot_end() {
            return;
        }
        shed.next_slot = 0;
        shed.due = self.now.after(SHED_INTERVAL);
        for Reverse((_, id)) in std::mem::take(&mut shed.furthest).into_sorted_vec() {
            if self.slots.contains(id) {
                self.counters.memory_shed.add(1);
                self.close(id.slot, CloseReason::SlowConsumer, None);
            }
        }
        // What nobody needs any more goes with the next round over those who are left.
        self.sweep.due = self.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(bytes: usize, rest: Option<(usize, usize)>) -> Busy {
        Busy { bytes, rest }
    }

    #[test]
    fn an_entry_that_many_hold_the_rest_of_counts_once() {
        let mut memory = Memory::new(MemoryBudget::new(0));
        memory.note(1, busy(10, Some((77, 1000))));
        memory.note(2, busy(20, Some((77, 1200))));
        memory.note(3, busy(0, Some((78, 5))));
        assert_eq!(memory.busy_bytes, 30 + 1200 + 5);
        memory.note(1, busy(10, Some((77, 400))));
        memory.note(2, busy(20, Some((78, 5))));
        assert_eq!(memory.busy_bytes, 30 + 1200 + 5);
        memory.note(1, Busy::default());
        assert_eq!(memory.busy_bytes, 20 + 5);
        memory.note(2, busy(7, None));
        memory.note(3, Busy::default());
        assert_eq!(memory.busy_bytes, 7);
        memory.note(2, Busy::default());
        assert!(memory.is_at_rest());
    }
}
