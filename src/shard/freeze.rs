//! Times when the shard did not turn though it should have: the process was stopped, its container or machine frozen.
//!
//! Deadlines that passed meanwhile say nothing about clients, which were perhaps frozen too, or were not read. After such
//! a *freeze* comes a *grace*, as long as the freeze and at most the pong time-out: whatever comes up in it is put off, and
//! a ping that is out is sent anew (GUARANTEES D4). Nothing is kept for a connection. The clock that the shard reads
//! stops while the machine is suspended, so a suspend is no freeze: deadlines move on by its length.

use std::time::Duration;

use crate::config::limits::{FREEZE_MAX, FREEZE_MIN};
use crate::model::Time;

/// How late the shard has been.
#[derive(Debug)]
pub struct Freeze {
    /// From this long on it is a freeze: half the pong time-out, within limits.
    threshold: Duration,
    /// The longest grace.
    patience: Duration,
    /// When the wait that is running should end at the latest; none between waits.
    expected: Option<Time>,
    /// How late the turn that is over was.
    worked: Duration,
    /// The last freeze.
    gap: Duration,
    grace_until: Time,
}

impl Freeze {
    /// Of a shard that waits `pong_timeout` for pongs.
    pub fn new(pong_timeout: Duration) -> Self {
        Self {
            threshold: (pong_timeout / 2).clamp(FREEZE_MIN, FREEZE_MAX),
            patience: pong_timeout,
            expected: None,
            worked: Duration::ZERO,
            gap: Duration::ZERO,
            grace_until: Time::ZERO,
        }
    }

    /// A turn that began at `began` is over at `now`; the wait that begins ends after `timeout` at the latest.
    pub fn before_wait(&mut self, began: Time, now: Time, timeout: Option<Duration>) {
        if self.expected.is_none() {
            self.worked = now.since(began);
            self.expected = Some(timeout.map_or(Time::NEVER, |timeout| now.after(timeout)));
        }
    }

    /// The wait ended at `now`. Gives the length of the freeze, if there was one.
    pub fn after_wait(&mut self, now: Time) -> Option<Duration> {
        let late = now.since(self.expected.take().unwrap_or(Time::NEVER)) + self.worked;
        if late < self.threshold {
            return None;
        }
        self.gap = late;
        self.grace_until = now.after(late.min(self.patience));
        Some(late)
    }

    /// Until when deadlines are put off, if they are at `now`.
    pub fn grace(&self, now: Time) -> Option<Time> {
        (now < self.grace_until).then_some(self.grace_until)
    }

    /// The moment by which the age of what waits for a slow reader is judged: the freeze does not count in its grace.
    pub fn judged_at(&self, now: Time) -> Time {
        let frozen = self.grace(now).map_or(Duration::ZERO, |_| self.gap);
        Time::ZERO.after(now.since(Time::ZERO).saturating_sub(frozen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn d4_a_turn_or_a_wake_that_comes_five_seconds_late_is_a_freeze() {
        let mut freeze = Freeze::new(seconds(10));
        for (worked, timeout, woke, gap) in [
            (1, Some(seconds(25)), 25_001, None),
            (1, Some(seconds(25)), 29_999, None),
            (1, Some(seconds(25)), 30_001, Some(seconds(5))),
            (1, None, 1_000_000, None),
            (5_000, None, 5_000, Some(seconds(5))),
            (2_500, Some(seconds(1)), 6_000, Some(seconds(5))),
            (4_999, Some(Duration::ZERO), 4_999, None),
        ] {
            let began = at(2_000_000);
            let after = |millis| began.after(Duration::from_millis(millis));
            freeze.before_wait(began, after(worked), timeout);
            let found = freeze.after_wait(after(woke)).map(|gap| Duration::from_secs(gap.as_secs()));
            assert_eq!(found, gap, "{worked} {timeout:?} {woke}");
        }
    }

    #[test]
    fn d4_the_grace_is_as_long_as_the_freeze_and_at_most_the_pong_time_out() {
        for (gap, grace) in [(6, 6), (10, 10), (60, 10)] {
            let mut freeze = Freeze::new(seconds(10));
            freeze.before_wait(at(0), at(0), Some(seconds(1)));
            let woke = at(1000 + gap * 1000);
            assert_eq!(freeze.after_wait(woke), Some(seconds(gap)));
            let end = woke.after(seconds(grace));
            assert_eq!(freeze.grace(woke), Some(end));
            assert_eq!(woke.since(freeze.judged_at(woke)), seconds(gap), "the freeze does not count");
            assert_eq!(freeze.grace(end), None);
            assert_eq!(freeze.judged_at(end), end);
        }
    }

    #[test]
    fn short_pong_time_outs_make_shorter_gaps_a_freeze() {
        for (pong_timeout, threshold) in [(1, 250), (1_000, 500), (10_000, 5_000), (60_000, 5_000)] {
            let freeze = Freeze::new(Duration::from_millis(pong_timeout));
            assert_eq!(freeze.threshold, Duration::from_millis(threshold));
        }
    }
}
