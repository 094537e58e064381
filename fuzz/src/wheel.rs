//! The timer wheel against a sorted map.
//!
//! Input: where time begins, then operations: arm, ask, let time pass.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::clock::wheel::{TICK, Timer, Wheel};
use tidegate::model::{ConnectionId, Time};

use super::input::Input;

/// Ticks that the wheel looks ahead.
const HORIZON: u64 = 4096;
/// Operations of one input.
const OPERATIONS_MAX: usize = 2000;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    // The last: where the 32 bits of a kept tick come round.
    let start = input.one_of(&[0, 1, 4095, 4096, (1 << 32) - 100, (1 << 32) - 5000]);
    let mut world = World::new(Time::from_nanos(start * nanos(TICK) + u64::from(input.byte()) * 1_000_000));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 4 {
            0 => world.arm(world.now.after(Duration::from_millis(u64::from(input.word())))),
            // Far ahead, never, and long ago.
            1 => world.arm(match input.byte() {
                0 => Time::NEVER,
                1 => Time::ZERO,
                far => world.now.after(Duration::from_secs(u64::from(far))),
            }),
            2 => world.ask(world.now.after(Duration::from_millis(u64::from(input.word()))), input.byte()),
            _ => {
                let millis = u64::from(input.byte()) * input.one_of(&[0, 1, 16, 300, 10_000]);
                let budget = input.one_of(&[usize::MAX, 0, 1, 2, 5]);
                world.expire(Duration::from_millis(millis), budget);
            }
        }
        world.check();
    }
}

const fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

struct World {
    wheel: Wheel,
    now: Time,
    /// The first tick that is not drained.
    next_tick: u64,
    /// Tick and slot of what is armed.
    armed: BTreeMap<(u64, u32), ()>,
    slots: u32,
}

impl World {
    fn new(now: Time) -> Self {
        let next_tick = now.as_nanos() / nanos(TICK);
        Self { wheel: Wheel::new(now), now, next_tick, armed: BTreeMap::new(), slots: 0 }
    }

    fn arm(&mut self, due: Time) {
        let slot = self.slots;
        self.slots += 1;
        let tick = self.wheel.arm(ConnectionId { slot, generation: slot ^ 7 }, due);
        let expected =
            due.as_nanos().div_ceil(nanos(TICK)).clamp(self.next_tick, self.next_tick + HORIZON - 1);
        assert_eq!(tick, expected as u32);
        self.armed.insert((expected, slot), ());
    }

    /// Whether `due` comes before one of those that are armed.
    fn ask(&mut self, due: Time, which: u8) {
        let Some(((tick, _), ())) = self.armed.iter().nth(usize::from(which)) else { return };
        let expected = due.as_nanos().div_ceil(nanos(TICK)).max(self.next_tick) < *tick;
        if *tick as u32 != u32::MAX {
            assert_eq!(self.wheel.is_before(due, *tick as u32), expected);
        }
        assert!(self.wheel.is_before(due, u32::MAX) && !self.wheel.is_before(Time::NEVER, *tick as u32));
    }

    fn expire(&mut self, passed: Duration, budget: usize) {
        self.now = self.now.after(passed);
        let last = self.now.as_nanos() / nanos(TICK);
        let mut out = Vec::new();
        let is_done = self.wheel.expire(self.now, budget, &mut out);
        let due = self.armed.range(..(last + 1, 0)).count();
        assert_eq!((out.len(), is_done), (due.min(budget), due <= budget));
        let mut newest = 0;
        for Timer { connection, tick } in out {
            assert_eq!(connection.generation, connection.slot ^ 7);
            let (oldest, _) = *self.armed.first_key_value().expect("one is armed").0;
            assert_eq!(tick, oldest as u32, "the oldest tick first");
            assert!(self.armed.remove(&(oldest, connection.slot)).is_some(), "it was armed, and once");
            newest = oldest;
        }
        self.next_tick = match is_done {
            true => self.next_tick.max(last + 1),
            false => self.armed.first_key_value().map_or(newest, |((tick, _), ())| *tick),
        };
    }

    fn check(&self) {
        let first = self.armed.first_key_value().map(|((tick, _), ())| Time::from_nanos(tick * nanos(TICK)));
        assert_eq!(self.wheel.next_due(), first);
        assert_eq!((self.wheel.len(), self.wheel.is_empty()), (self.armed.len(), self.armed.is_empty()));
    }
}
