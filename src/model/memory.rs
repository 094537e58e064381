//! Memory as it is accounted for: what things of one shard have charged, and how short the whole process is of it.
//!
//! A [`Charge`] belongs to whatever holds the bytes and gives them back when it is dropped; the [`Account`] is a plain
//! number of its shard. [`Grade`] says which of the reactions to a shortage are on (GUARANTEES C7); the sum over shards is
//! `MemoryBudget` of `src/metrics/memory.rs`.

use std::cell::Cell;
use std::rc::Rc;

/// The sum of all charges to it, in bytes. Clones share the number; it stays on one thread.
#[derive(Clone, Debug, Default)]
pub struct Account(Rc<Cell<usize>>);

impl Account {
    /// What is charged now.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }
}

/// The bytes that one thing has charged; none while it has no account.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Account>,
    bytes: usize,
}

impl Charge {
    /// Nothing yet, to `account`.
    pub fn to(account: &Account) -> Self {
        Self { account: Some(account.clone()), bytes: 0 }
    }

    /// From here on it is `bytes`. Constant time.
    pub fn set(&mut self, bytes: usize) {
        if let Some(Account(sum)) = &self.account {
            sum.set(sum.get().wrapping_sub(self.bytes).wrapping_add(bytes));
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// What an allocator keeps for `bytes` of a large buffer whose capacity nobody knows: sizes come in steps of a quarter of
/// the power of two below.
pub const fn allocated(bytes: usize) -> usize {
    match bytes.checked_ilog2() {
        Some(log) if log >= 2 => bytes.next_multiple_of(1 << (log - 2)),
        _ => bytes,
    }
}

/// How short of memory the process is. Each grade keeps the reactions of those below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Grade {
    /// Nothing is done.
    #[default]
    Calm = 0,
    /// No compression is begun; no history is kept, only what subscribers need.
    Frugal = 1,
    /// New connections are refused, and `/readyz` says so.
    Closed = 2,
    /// Subscribers that take nothing are closed, those furthest behind first.
    Shedding = 3,
    /// Publishes are refused, and clients that relay are paused.
    Refusing = 4,
}

impl Grade {
    /// Every grade, in order.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Frugal, Self::Closed, Self::Shedding, Self::Refusing];
    /// A grade is left this many per cent of the budget below where it is entered, so that none flickers.
    pub const HYSTERESIS_PERCENT: u64 = 5;

    /// From how many per cent of the budget on it holds.
    pub const fn percent(self) -> u64 {
        match self {
            Self::Calm => 0,
            Self::Frugal => 70,
            Self::Closed => 80,
            Self::Shedding => 90,
            Self::Refusing => 95,
        }
    }

    /// The grade that follows this one when `used` of `max` bytes are accounted for.
    #[must_use]
    pub fn next(self, used: u64, max: u64) -> Self {
        let holds_from = |percent: u64| u128::from(used) * 100 >= u128::from(percent) * u128::from(max);
        let keeps = |grade: &Self| {
            let slack = if *grade <= self { Self::HYSTERESIS_PERCENT } else { 0 };
            *grade == Self::Calm || holds_from(grade.percent() - slack)
        };
        Self::ALL.into_iter().rev().find(keeps).unwrap_or_default()
    }

    /// As logs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Frugal => "frugal",
            Self::Closed => "closed",
            Self::Shedding => "shedding",
            Self::Refusing => "refusing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back_when_its_holder_goes() {
        let account = Account::default();
        let mut one = Charge::to(&account);
        let mut other = Charge::to(&account);
        one.set(100);
        other.set(30);
        one.set(70);
        assert_eq!(account.bytes(), 100);
        drop(one);
        assert_eq!(account.bytes(), 30);
        drop(other);
        assert_eq!(account.bytes(), 0);
        let mut nowhere = Charge::default();
        nowhere.set(7);
        assert_eq!(nowhere.bytes, 0);
    }

    #[test]
    fn large_buffers_are_rounded_up_to_a_quarter_of_a_power_of_two() {
        let sizes = [0, 3, 16_384, 16_398, 20_480, 20_481, 1 << 20, (1 << 20) + 1];
        let kept = [0, 3, 16_384, 20_480, 20_480, 24_576, 1 << 20, 5 << 18];
        assert_eq!(sizes.map(allocated), kept);
    }

    #[test]
    fn c7_grades_are_entered_at_their_share_and_left_five_per_cent_below() {
        use Grade::*;
        let mut grade = Calm;
        let mut walk = |used| {
            grade = grade.next(used, 1000);
            grade
        };
        let up = [699, 700, 799, 800, 899, 900, 949, 950, 2000].map(&mut walk);
        assert_eq!(up, [Calm, Frugal, Frugal, Closed, Closed, Shedding, Shedding, Refusing, Refusing]);
        let down = [900, 899, 850, 849, 750, 749, 650, 649].map(&mut walk);
        assert_eq!(down, [Refusing, Shedding, Shedding, Closed, Closed, Frugal, Frugal, Calm]);
        assert_eq!(
            [Refusing.next(0, 1000), Calm.next(u64::MAX, 1), Calm.next(1 << 62, u64::MAX)],
            [Calm, Refusing, Calm]
        );
    }
}
