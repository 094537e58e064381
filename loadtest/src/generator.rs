//! How busy this tool itself was: whether what it reports is the server's doing or its own.

use std::collections::HashMap;
use std::fs;

/// CPU time of each thread of this process so far, nanoseconds, by thread id.
#[derive(Clone, Debug, Default)]
pub struct ThreadTimes(HashMap<u32, u64>);

impl ThreadTimes {
    /// Reads `/proc/self/task`; empty if it is not there.
    pub fn now() -> Self {
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Self::default() };
        let time = |task: fs::DirEntry| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((thread, schedstat.split(' ').next()?.parse().ok()?))
        };
        Self(tasks.flatten().filter_map(time).collect())
    }

    /// What the busiest thread has used since `earlier`, nanoseconds.
    pub fn busiest_since(&self, earlier: &Self) -> u64 {
        let used = |(thread, now): (&u32, &u64)| now - earlier.0.get(thread).unwrap_or(&0).min(now);
        self.0.iter().map(used).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_thread_is_the_one_that_works() {
        let times = |pairs: [(u32, u64); 2]| ThreadTimes(pairs.into_iter().collect());
        assert_eq!(times([(1, 10), (2, 500)]).busiest_since(&times([(1, 8), (2, 100)])), 400);
        assert_eq!(times([(1, 10), (3, 50)]).busiest_since(&times([(1, 8), (2, 100)])), 50);
        assert!(!ThreadTimes::now().0.is_empty());
    }
}
