//! Where connections live: a slab, and a generation for every slot.
//!
//! A token carries slot and generation; one that outlived its connection meets another generation and finds nothing
//! (GUARANTEES C16).

use slab::Slab;

use crate::model::ConnectionId;

/// Values in slots that are reused, each under an id that is not.
#[derive(Debug)]
pub struct Slots<T> {
    values: Slab<T>,
    generations: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Slab::new(), generations: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Room for `capacity` values without moving any: growing by doubling would leave as much again behind. Memory that
    /// is not used yet costs address space only.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { values: Slab::with_capacity(capacity), generations: Vec::with_capacity(capacity) }
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

    /// Whoever is in `slot`.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.values.get_mut(slot as usize)
    }

    /// Empties `slot`; ids given out for it are void from here on.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.values.try_remove(slot as usize)?;
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
}
