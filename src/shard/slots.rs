//! Where connections live: a slab, and a generation for every slot.
//!
//! A token carries slot and generation; one that outlived its connection meets another generation and finds nothing
//! (GUARANTEES C16).
//!
//! A value is several cache lines away. What a pass has to know of the many that only wait stands beside them, eight bytes
//! a slot, and is void as soon as anybody may change the value.

use slab::Slab;

use crate::model::{ConnectionId, Offset};

/// From where on a reader whose socket is blocked needs the journal of its only channel, and whether it may wait however far
/// it falls behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait(u64);

impl Wait {
    /// Nothing is noted of a slot.
    const UNKNOWN: Self = Self(u64::MAX);
    const PATIENT: u64 = 1 << 63;

    /// A reader that needs the journal from `from` on.
    pub const fn new(from: Offset, is_patient: bool) -> Self {
        Self(from.0 & !Self::PATIENT | if is_patient { Self::PATIENT } else { 0 })
    }

    /// From where on it needs the journal.
    pub const fn from(self) -> Offset {
        Offset(self.0 & !Self::PATIENT)
    }

    /// Whether it may wait however far it falls behind.
    pub const fn is_patient(self) -> bool {
        self.0 & Self::PATIENT != 0
    }
}

/// Values in slots that are reused, each under an id that is not.
#[derive(Debug)]
pub struct Slots<T> {
    values: Slab<T>,
    generations: Vec<u32>,
    /// By slot, as far as anything was ever noted.
    waiting: Vec<Wait>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Slab::new(), generations: Vec::new(), waiting: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Room for `capacity` values without moving any: growing by doubling would leave as much again behind. Memory that
    /// is not used yet costs address space only.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            values: Slab::with_capacity(capacity),
            generations: Vec::with_capacity(capacity),
            waiting: Vec::new(),
        }
    }

    /// Keeps `value`; the id is good until it is removed.
    pub fn insert(&mut self, value: T) -> ConnectionId {
        let slot = self.values.insert(value);
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        self.id(slot as u32)
    }

    /// The id of whoever is in `slot` now.
    pub fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: self.generations.get(slot as usize).copied().unwrap_or(0) }
    }

    /// Whether `id` is still in its slot.
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.id(id.slot) == id && self.values.contains(id.slot as usize)
    }

    /// Whoever is in `slot`.
    pub fn get(&self, slot: u32) -> Option<&T> {
        self.values.get(slot as usize)
    }

    /// Whoever is in `slot`, who may change: what was noted of the slot is void.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.forget_wait(slot);
        self.values.get_mut(slot as usize)
    }

    /// Notes how whoever is in `slot` waits.
    pub fn note_wait(&mut self, slot: u32, wait: Wait) {
        let end = slot as usize + 1;
        if self.waiting.len() < end {
            // Room for all at once, as address space: it is not there before anybody waits.
            self.waiting.reserve_exact(self.generations.capacity().max(end) - self.waiting.len());
            self.waiting.resize(end, Wait::UNKNOWN);
        }
        if let Some(noted) = self.waiting.get_mut(slot as usize) {
            *noted = wait;
        }
    }

    /// How whoever is in `slot` waits, if that was noted and may not have changed since.
    pub fn wait(&self, slot: u32) -> Option<Wait> {
        self.waiting.get(slot as usize).copied().filter(|wait| *wait != Wait::UNKNOWN)
    }

    fn forget_wait(&mut self, slot: u32) {
        if let Some(noted) = self.waiting.get_mut(slot as usize) {
            *noted = Wait::UNKNOWN;
        }
    }

    /// Empties `slot`; ids given out for it are void from here on.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.values.try_remove(slot as usize)?;
        self.forget_wait(slot);
        if let Some(generation) = self.generations.get_mut(slot as usize) {
            // 31 bits keep a connection's token below the listeners' and the waker's.
            *generation = (*generation + 1) & 0x7fff_ffff;
        }
        Some(value)
    }

    /// Values kept.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// One more than the highest slot ever used.
    pub fn slot_end(&self) -> u32 {
        self.generations.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c16_an_id_is_void_once_its_slot_was_given_to_another() {
        let mut slots = Slots::default();
        let first = slots.insert('a');
        assert!(slots.contains(first));
        slots.remove(first.slot);
        assert!(!slots.contains(first));
        let second = slots.insert('b');
        assert_eq!((second.slot, slots.contains(first), slots.contains(second)), (first.slot, false, true));
    }

    #[test]
    fn what_is_noted_of_a_slot_is_void_once_its_value_may_change() {
        let mut slots = Slots::default();
        let ids = ['a', 'b', 'c'].map(|value| slots.insert(value));
        let noted = |slots: &Slots<char>| ids.map(|id| slots.wait(id.slot).map(|wait| wait.from().0));
        assert_eq!(noted(&slots), [None; 3]);
        for (id, from) in ids.into_iter().zip(7..) {
            slots.note_wait(id.slot, Wait::new(Offset(from), from == 8));
        }
        slots.get(ids[0].slot);
        assert_eq!(noted(&slots), [Some(7), Some(8), Some(9)]);
        assert_eq!(ids.map(|id| slots.wait(id.slot).unwrap().is_patient()), [false, true, false]);
        slots.get_mut(ids[1].slot);
        slots.remove(ids[2].slot);
        assert_eq!(noted(&slots), [Some(7), None, None]);
        slots.insert('d');
        assert_eq!(noted(&slots), [Some(7), None, None], "who takes a slot is not who waited in it");
    }
}
