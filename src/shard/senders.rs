//! Clients that have sent messages of late, and which of them are not read for sending too fast.
//!
//! A table beside the connections, so that one that does not send costs nothing: a client is in it from its first message
//! until its burst is whole again, looked at once a second, or until it ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::reactor::Reactor;
use super::turn::Shard;
use crate::model::{CloseReason, ConnectionId, Time};
use crate::session::{MessageRate, Overrun, Sender};

/// How often the table is looked at for whom to forget.
const SWEEP: Duration = Duration::from_secs(1);

/// The senders of one shard.
#[derive(Debug)]
pub struct Senders {
    rate: Option<MessageRate>,
    by_slot: BTreeMap<u32, Sender>,
    /// Who rests, and until when: all rest equally long, so the first is the next.
    resting: VecDeque<(Time, ConnectionId)>,
    sweep_due: Time,
}

impl Senders {
    /// Nobody yet; `per_second` messages are allowed, 0: any number.
    pub fn new(per_second: u64) -> Self {
        Self {
            rate: MessageRate::new(per_second),
            by_slot: BTreeMap::new(),
            resting: VecDeque::new(),
            sweep_due: Time::ZERO,
        }
    }

    /// Messages that may be taken of whoever is in `slot`.
    pub fn room(&self, slot: u32, now: Time) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        self.by_slot.get(&slot).copied().unwrap_or(Sender::new()).room(rate, now)
    }

    /// Counts `messages` of whoever is in `slot`.
    pub fn take(&mut self, slot: u32, messages: usize, now: Time) {
        if let (Some(rate), 1..) = (self.rate, messages) {
            if self.by_slot.is_empty() {
                self.sweep_due = now.after(SWEEP);
            }
            self.by_slot.entry(slot).or_insert(Sender::new()).take(messages, rate, now);
        }
    }

    /// Whether whoever is in `slot` is not to be read.
    pub fn is_resting(&self, slot: u32, now: Time) -> bool {
        !self.resting.is_empty() && self.by_slot.get(&slot).is_some_and(|sender| sender.rests(now))
    }

    /// Whoever is in `slot` has ended.
    pub fn forget(&mut self, slot: u32) {
        self.by_slot.remove(&slot);
    }

    /// When there is something to do: somebody has rested, or the table is to be looked at.
    pub fn due(&self) -> Time {
        let sweep = if self.by_slot.is_empty() { Time::NEVER } else { self.sweep_due };
        self.resting.front().map_or(Time::NEVER, |(until, _)| *until).min(sweep)
    }

    /// Somebody who has rested; it may have ended since.
    fn next_rested(&mut self, now: Time) -> Option<ConnectionId> {
        let (until, _) = self.resting.front()?;
        if *until > now {
            return None;
        }
        self.resting.pop_front().map(|(_, connection)| connection)
    }

    /// Whether nobody has sent anything of late.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Forgets who is rested. Linear in those who have sent within the last seconds.
    fn sweep(&mut self, now: Time) {
        if now >= self.sweep_due && !self.by_slot.is_empty() {
            self.by_slot.retain(|_, sender| !sender.is_rested(now));
            self.sweep_due = now.after(SWEEP);
        }
    }
}

impl<R: Reactor> Shard<R> {
    /// Reads on from whoever has rested.
    pub(super) fn end_rests(&mut self) {
        while let Some(connection) = self.senders.next_rested(self.now) {
            if self.slots.contains(connection) {
                self.list_read(connection.slot);
            }
        }
        self.senders.sweep(self.now);
    }

    /// More of whoever is in `slot` waits than it may send: it rests, or has done so too often.
    pub(super) fn handle_overrun(&mut self, slot: u32) {
        let connection = self.slots.id(slot);
        match self.senders.by_slot.entry(slot).or_insert(Sender::new()).overrun(self.now) {
            Overrun::RestUntil(until) => {
                self.counters.client_rests.add(1);
                self.senders.resting.push_back((until, connection));
            }
            Overrun::Flood => self.fail(slot, CloseReason::RateLimited),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_a_sender_is_forgotten_once_its_burst_is_whole() {
        let at = Time::from_millis;
        let mut senders = Senders::new(50);
        assert_eq!((senders.room(7, at(0)), senders.due()), (100, Time::NEVER));
        senders.take(7, 0, at(0));
        assert!(senders.is_empty());
        senders.take(7, 100, at(0));
        senders.take(9, 10, at(0));
        assert_eq!((senders.room(7, at(0)), senders.room(9, at(0)), senders.due()), (0, 90, at(1000)));
        senders.sweep(at(999));
        assert_eq!(senders.by_slot.len(), 2);
        senders.sweep(at(1000));
        assert_eq!(senders.by_slot.keys().collect::<Vec<_>>(), [&7], "ten messages are worth 200 ms");
        senders.sweep(at(2000));
        assert_eq!((senders.is_empty(), senders.due()), (true, Time::NEVER));
        senders.take(7, 1, at(3000));
        senders.forget(7);
        assert!(senders.is_empty());
        assert_eq!(Senders::new(0).room(7, at(0)), usize::MAX);
    }
}
