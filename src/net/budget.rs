//! How many connections the process may hold: one exact number for all shards; and how many of them an address may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::addresses::Addresses;
use crate::config::Config;

/// A shared count with a maximum. Touched twice in a connection's life, never on the data path.
#[derive(Clone, Debug)]
pub struct ConnectionBudget {
    used: Arc<AtomicUsize>,
    max: usize,
    addresses: Option<Addresses>,
}

impl ConnectionBudget {
    /// A budget of `max` connections.
    pub fn new(max: usize) -> Self {
        Self { used: Arc::new(AtomicUsize::new(0)), max, addresses: None }
    }

    /// The same with the limits of `config` for each address.
    pub fn with_address_limits(self, config: &Config) -> Self {
        Self { addresses: Addresses::new(config), ..self }
    }

    /// The limits for each address, if there are any.
    pub fn addresses(&self) -> Option<&Addresses> {
        self.addresses.as_ref()
    }

    /// Takes one; false when none is left. Pair each success with [`ConnectionBudget::give_back`].
    pub fn try_take(&self) -> bool {
        let take = |used| (used < self.max).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives one back.
    pub fn give_back(&self) {
        let before = self.used.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "given back more than taken");
    }

    /// Connections taken.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The maximum.
    pub fn max(&self) -> usize {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_the_limit_is_exact_and_what_is_given_back_can_be_taken_again() {
        let budget = ConnectionBudget::new(2);
        assert!(budget.try_take() && ConnectionBudget::clone(&budget).try_take());
        assert!(!budget.try_take());
        budget.give_back();
        assert!(budget.try_take());
        assert_eq!(budget.used(), 2);
    }
}
