//! The memory that the whole process accounts for, against its budget: one number for all shards (GUARANTEES C7).
//!
//! A shard adds what has changed once a turn, the control thread whatever it hands over or keeps; both then have the
//! [`Grade`] brought up to date. What a message on the bus holds is added by whoever sends it and taken off by whoever takes
//! it, so a shard's own share may be below nothing for a moment and the sum is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use crate::model::Grade;

/// A shared sum with a maximum. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: u64,
    used: AtomicI64,
    grade: AtomicU8,
    /// Times each grade was entered from below, in the order of [`Grade::ALL`].
    entered: [AtomicU64; Grade::ALL.len()],
}

/// Bytes that somebody on the control thread holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: MemoryBudget,
    bytes: i64,
}

impl MemoryBudget {
    /// A budget of `max` bytes; 0 is none, and the grade stays [`Grade::Calm`].
    pub fn new(max: u64) -> Self {
        let max = if max == 0 { u64::MAX } else { max };
        let shared = Shared {
            max,
            used: AtomicI64::new(0),
            grade: AtomicU8::new(Grade::Calm as u8),
            entered: Default::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Adds `bytes`, which may be below 0.
    pub fn add(&self, bytes: i64) {
        self.shared.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds `bytes` until what is returned is dropped.
    pub fn hold(&self, bytes: usize) -> Held {
        let bytes = bytes as i64;
        self.add(bytes);
        Held { budget: self.clone(), bytes }
    }

    /// Bytes accounted for.
    pub fn used(&self) -> u64 {
        u64::try_from(self.shared.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// The budget in bytes.
    pub fn max(&self) -> u64 {
        self.shared.max
    }

    /// Times that `grade` was entered from below.
    pub fn entered(&self, grade: Grade) -> u64 {
        self.shared.entered[grade as usize].load(Ordering::Relaxed)
    }

    /// The grade as it was last brought up to date.
    pub fn grade(&self) -> Grade {
        let number = self.shared.grade.load(Ordering::Relaxed);
        Grade::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Brings the grade up to date and returns it. Whoever finds that it changed counts and logs that, once for the process.
    pub fn update(&self) -> Grade {
        let before = self.grade();
        let used = self.used();
        let after = before.next(used, self.shared.max);
        if after == before {
            return before;
        }
        let exchange = |grade: &AtomicU8| {
            grade.compare_exchange(before as u8, after as u8, Ordering::Relaxed, Ordering::Relaxed)
        };
        if exchange(&self.shared.grade).is_ok() {
            self.note_change(before, after, used);
        }
        self.grade()
    }

    fn note_change(&self, before: Grade, after: Grade, used: u64) {
        let entered = Grade::ALL.into_iter().filter(|grade| *grade > before && *grade <= after);
        entered.for_each(|grade| {
            self.shared.entered[grade as usize].fetch_add(1, Ordering::Relaxed);
        });
        let (from, to, budget_bytes) = (before.name(), after.name(), self.shared.max);
        if after > before {
            tracing::warn!(event = "memory_grade_entered", from, to, used_bytes = used, budget_bytes);
        } else {
            tracing::warn!(event = "memory_grade_left", from, to, used_bytes = used, budget_bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.add(-self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_may_be_below_nothing_and_the_sum_is_right() {
        let budget = MemoryBudget::new(1000);
        budget.add(-300);
        assert_eq!(budget.used(), 0);
        let held = budget.hold(700);
        assert_eq!(budget.used(), 400);
        drop(held);
        budget.add(300);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn c7_a_change_of_grade_is_counted_once_however_many_look() {
        let budget = MemoryBudget::new(1000);
        budget.add(900);
        assert_eq!([budget.update(), budget.update()], [Grade::Shedding; 2]);
        budget.add(-200);
        assert_eq!(budget.update(), Grade::Frugal);
        budget.add(150);
        assert_eq!(budget.update(), Grade::Closed);
        let entered = Grade::ALL.map(|grade| budget.entered(grade));
        assert_eq!(entered, [0, 1, 2, 1, 0]);
        let endless = MemoryBudget::new(0);
        endless.add(i64::MAX);
        assert_eq!(endless.update(), Grade::Calm);
    }
}
