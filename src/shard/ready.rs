//! Connections that wait for their turn: each listed once, taken in order.
//!
//! mio reports readiness once; whoever was not drained stays here and keeps the shard from sleeping. The flag that
//! prevents listing twice is the connection's (`connection.rs`), so an entry may outlive its connection: taking it
//! then finds the flag unset and does nothing.

use std::collections::VecDeque;

/// A queue of slots.
#[derive(Debug, Default)]
pub struct ReadyList {
    slots: VecDeque<u32>,
}

impl ReadyList {
    /// Lists `slot` unless `is_listed` says that it is; sets the flag.
    pub fn push(&mut self, slot: u32, is_listed: &mut bool) {
        if !std::mem::replace(is_listed, true) {
            self.slots.push_back(slot);
        }
    }

    /// The next slot; the caller unsets its flag.
    pub fn pop(&mut self) -> Option<u32> {
        self.slots.pop_front()
    }

    /// Slots listed.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
