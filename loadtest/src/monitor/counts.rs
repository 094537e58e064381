//! A view of all workers' counts that any thread may read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::stats::Stats;

/// Reads what the workers publish. Cheap to clone; a reading takes each worker's lock for a copy.
#[derive(Clone, Debug)]
pub struct Counts {
    published: Vec<Arc<Mutex<Vec<Stats>>>>,
    goals: Arc<[Goal]>,
}

/// The upgrades that the last opening asks for.
#[derive(Debug, Default)]
struct Goal {
    before: AtomicU64,
    count: AtomicU64,
}

impl Counts {
    /// From the published counts of each worker, for so many targets.
    pub fn new(published: Vec<Arc<Mutex<Vec<Stats>>>>, targets: usize) -> Self {
        Self { published, goals: (0..targets).map(|_| Goal::default()).collect() }
    }

    /// The sum of all workers' counts for a target.
    pub fn of(&self, target: usize) -> Stats {
        let mut sum = Stats::default();
        for stats in &self.published {
            sum.add(&stats.lock().unwrap_or_else(PoisonError::into_inner)[target]);
        }
        sum
    }

    /// Remembers that `count` more connections are being opened after `before`, for whoever shows progress.
    pub fn expect_upgrades(&self, target: usize, before: u64, count: u64) {
        self.goals[target].count.store(count, Ordering::Relaxed);
        self.goals[target].before.store(before, Ordering::Relaxed);
    }

    /// How many of how many connections of the last opening are upgraded; `None` when all are.
    pub fn opening(&self, target: usize, upgraded: u64) -> Option<(u64, u64)> {
        let goal = &self.goals[target];
        let (before, count) = (goal.before.load(Ordering::Relaxed), goal.count.load(Ordering::Relaxed));
        let done = upgraded.saturating_sub(before);
        (done < count).then_some((done, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_workers_add_up() {
        let worker = |live| Arc::new(Mutex::new(vec![Stats { live, ..Stats::default() }]));
        assert_eq!(Counts::new(vec![worker(3), worker(4)], 1).of(0).live, 7);
    }

    #[test]
    fn an_opening_is_under_way_until_all_are_upgraded() {
        let counts = Counts::new(Vec::new(), 1);
        assert_eq!(counts.opening(0, 0), None);
        counts.expect_upgrades(0, 10, 5);
        assert_eq!(counts.opening(0, 12), Some((2, 5)));
        assert_eq!(counts.opening(0, 15), None);
    }
}
