//! The timer wheel: one entry per connection, armed at the nearest of its deadlines.
//!
//! Slots are plain vectors of (slot, generation): appending and draining them in order is four times cheaper than
//! linked lists at a million entries. Nothing is ever cancelled: an entry that comes up is looked at by its owner,
//! who moves it if the deadline has shifted and drops it if the connection is gone. Deadlines are rounded up to a
//! tick, so an entry never comes up early; one beyond the horizon comes up at the horizon and is armed again.

use std::time::Duration;

use crate::model::{ConnectionId, Time};

/// Resolution of the wheel.
pub const TICK: Duration = Duration::from_millis(16);
/// Slots, a power of two: the horizon is `SLOTS * TICK`, about 65 seconds.
const SLOTS: usize = 4096;
/// A drained slot keeps room for this many entries; more is given back, or a burst would stay in memory for ever.
const SLOT_ENTRIES_KEPT: usize = 8;
const WORDS: usize = SLOTS / 64;

/// What comes up: whose deadline, and the tick it was armed for, by which the owner tells it from a superseded one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Whose.
    pub connection: ConnectionId,
    /// As [`Wheel::arm`] gave it.
    pub tick: u32,
}

/// The wheel of one shard. Memory: 8 bytes an entry plus vector slack, 100 KiB empty.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<ConnectionId>>,
    occupied: [u64; WORDS],
    /// Every tick before this one has been drained.
    next_tick: u64,
    len: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::new(Time::ZERO)
    }
}

impl Wheel {
    /// An empty wheel that stands at `now`.
    pub fn new(now: Time) -> Self {
        Self {
            slots: vec![Vec::new(); SLOTS],
            occupied: [0; WORDS],
            next_tick: tick_at_or_before(now),
            len: 0,
        }
    }

    /// Arms `connection` for `due` and returns the tick it will come up with: the owner keeps it, to tell this
    /// entry from earlier ones. Constant time.
    pub fn arm(&mut self, connection: ConnectionId, due: Time) -> u32 {
        let horizon = self.next_tick + SLOTS as u64 - 1;
        let tick = tick_at_or_after(due).clamp(self.next_tick, horizon);
        let slot = slot_of(tick);
        self.slots[slot].push(connection);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
        tick as u32
    }

    /// Whether an entry armed for `due` would come up before `tick`, as [`Wheel::arm`] gave it (`u32::MAX`: never armed).
    pub fn is_before(&self, due: Time, tick: u32) -> bool {
        if due == Time::NEVER {
            return false;
        }
        // The kept tick has 32 bits and wraps after two years; its distance from here does not.
        let armed_ahead = u64::from(tick.wrapping_sub(self.next_tick as u32));
        tick == u32::MAX || tick_at_or_after(due).max(self.next_tick) - self.next_tick < armed_ahead
    }

    /// Moves entries due at or before `now` to `out`, oldest tick first, at most `budget`; false when the budget
    /// ran out before the work did. Linear in what comes up, plus one step a 64 ticks passed.
    pub fn expire(&mut self, now: Time, budget: usize, out: &mut Vec<Timer>) -> bool {
        let last = tick_at_or_before(now);
        let mut left = budget;
        while let Some(tick) = self.next_occupied().filter(|tick| *tick <= last) {
            self.next_tick = tick;
            let slot = slot_of(tick);
            let entries = &mut self.slots[slot];
            let taken = entries.len().min(left);
            out.extend(
                entries
                    .drain(entries.len() - taken..)
                    .map(|connection| Timer { connection, tick: tick as u32 }),
            );
            self.len -= taken;
            left -= taken;
            if !entries.is_empty() {
                return false;
            }
            if entries.capacity() > SLOT_ENTRIES_KEPT {
                *entries = Vec::new();
            }
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.next_tick = tick + 1;
        }
        self.next_tick = self.next_tick.max(last + 1);
        true
    }

    /// When the next entry comes up; `None` when the wheel is empty. At most 64 steps.
    pub fn next_due(&self) -> Option<Time> {
        self.next_occupied().map(|tick| Time::from_nanos(tick * TICK.as_nanos() as u64))
    }

    /// Entries armed, superseded ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is armed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first tick from `next_tick` on whose slot holds an entry.
    fn next_occupied(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let start = slot_of(self.next_tick);
        for step in 0..=WORDS {
            let word_index = (start / 64 + step) % WORDS;
            let mut word = self.occupied[word_index];
            if step == 0 {
                word &= u64::MAX << (start % 64);
            } else if step == WORDS {
                word &= !(u64::MAX << (start % 64));
            }
            if word != 0 {
                let slot = word_index * 64 + word.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(self.next_tick + ahead as u64);
            }
        }
        None
    }
}

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

fn tick_at_or_before(time: Time) -> u64 {
    time.as_nanos() / TICK.as_nanos() as u64
}

fn tick_at_or_after(time: Time) -> u64 {
    time.as_nanos().div_ceil(TICK.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    #[test]
    fn an_entry_comes_up_at_or_after_its_deadline_and_within_a_tick() {
        let mut wheel = Wheel::default();
        let mut out = Vec::new();
        wheel.arm(id(1), Time::from_millis(100));
        assert!(wheel.expire(Time::from_millis(99), 10, &mut out) && out.is_empty());
        assert_eq!(wheel.next_due(), Some(Time::from_millis(112)));
        assert!(wheel.expire(Time::from_millis(112), 10, &mut out));
        assert_eq!(out.len(), 1);
        assert!(wheel.is_empty() && wheel.next_due().is_none());
    }

    #[test]
    fn a_deadline_in_the_past_comes_up_at_once_and_never_one_is_capped_at_the_horizon() {
        let mut wheel = Wheel::new(Time::from_millis(10_000));
        let mut out = Vec::new();
        wheel.arm(id(1), Time::ZERO);
        wheel.arm(id(2), Time::NEVER);
        assert!(wheel.expire(Time::from_millis(10_000), 10, &mut out));
        assert_eq!(out.iter().map(|timer| timer.connection.slot).collect::<Vec<_>>(), [1]);
        assert!(wheel.next_due().is_some_and(|due| due < Time::from_millis(80_000)));
    }

    #[test]
    fn a_spent_budget_leaves_the_rest_for_the_next_turn() {
        let mut wheel = Wheel::default();
        for slot in 0..10 {
            wheel.arm(id(slot), Time::from_millis(50));
        }
        let mut out = Vec::new();
        assert!(!wheel.expire(Time::from_millis(100), 4, &mut out));
        assert_eq!((out.len(), wheel.len()), (4, 6));
        assert!(wheel.next_due().is_some_and(|due| due <= Time::from_millis(100)));
        assert!(wheel.expire(Time::from_millis(100), 100, &mut out));
        assert_eq!(out.len(), 10);
    }

    /// Fewer in Miri, which interprets them.
    const OPERATIONS: usize = if cfg!(miri) { 200 } else { 1_000_000 };

    /// GUARANTEES D5: a million operations against a sorted map.
    #[test]
    fn d5_wheel_agrees_with_a_sorted_model() {
        let mut random = SmallRng::seed_from_u64(5);
        let mut wheel = Wheel::default();
        let mut model: BTreeMap<(u64, u32), ()> = BTreeMap::new();
        let mut now = Time::ZERO;
        let mut armed = 0_u32;
        let mut out = Vec::new();
        for _ in 0..OPERATIONS {
            if random.random_bool(0.7) {
                let due = now.after(Duration::from_millis(random.random_range(0..90_000)));
                let tick = wheel.arm(id(armed), due);
                let horizon = now.after(TICK * (SLOTS as u32 + 1));
                let shown = Time::from_nanos(u64::from(tick) * TICK.as_nanos() as u64);
                assert!(shown >= due.min(now) && shown <= due.max(now).after(TICK).min(horizon));
                model.insert((u64::from(tick), armed), ());
                armed += 1;
            } else {
                now = now.after(Duration::from_millis(random.random_range(0..400)));
                out.clear();
                assert!(wheel.expire(now, usize::MAX, &mut out));
                let last = tick_at_or_before(now);
                let later = model.split_off(&(last + 1, 0));
                let mut expected: Vec<_> = model.into_keys().collect();
                model = later;
                let mut got: Vec<_> =
                    out.iter().map(|timer| (u64::from(timer.tick), timer.connection.slot)).collect();
                expected.sort_unstable();
                got.sort_unstable();
                assert_eq!(got, expected);
                let next = model.first_key_value().map(|((tick, _), ())| *tick);
                assert_eq!(wheel.next_due().map(tick_at_or_before), next);
            }
        }
    }
}
