//! When a drain does what (GUARANTEES G1, G2): pure arithmetic over a schedule.
//!
//! ```text
//! signal ── at most 2 s ── stop accepting ── grace ── first close ── spread ── last close ── 5 s ── cut
//! ```
//! Readiness goes with the signal itself. A further signal pulls everything to within two seconds.

use std::time::Duration;

use crate::bus::DrainSchedule;
use crate::config::Config;
use crate::model::Time;

/// How long balancers have to see that readiness is gone, unless the grace is shorter.
const ACCEPT_FOR: Duration = Duration::from_secs(2);
/// Within this everything is closed after a second signal.
const HURRY: Duration = Duration::from_secs(2);
/// After the last close; then whoever is left is cut.
const HARD_STOP_AFTER: Duration = Duration::from_secs(5);
/// How long after the listeners close a shard may still be taking in who waited in their queues.
const SETTLE: Duration = Duration::from_millis(200);

/// The schedule that a signal at `now` begins, given the one that holds already.
pub fn next_schedule(current: Option<DrainSchedule>, now: Time, config: &Config) -> DrainSchedule {
    match current {
        None => planned(now, config.drain_grace, config.drain_spread),
        Some(current) => hurried(current, now),
    }
}

fn planned(now: Time, grace: Duration, spread: Duration) -> DrainSchedule {
    let closes_begin_at = now.after(grace);
    DrainSchedule {
        stop_accepting_at: now.after(grace.min(ACCEPT_FOR)),
        closes_begin_at,
        closes_end_at: closes_begin_at.after(spread),
    }
}

/// Never later than what holds already.
fn hurried(current: DrainSchedule, now: Time) -> DrainSchedule {
    DrainSchedule {
        stop_accepting_at: current.stop_accepting_at.min(now),
        closes_begin_at: current.closes_begin_at.min(now),
        closes_end_at: current.closes_end_at.min(now.after(HURRY)),
    }
}

/// Whether the shards can be ended: nobody is left and nobody comes any more, or time is up.
pub fn is_over(schedule: &DrainSchedule, now: Time, connections: usize) -> bool {
    let is_empty = connections == 0 && now >= schedule.stop_accepting_at.after(SETTLE);
    is_empty || now >= schedule.closes_end_at.after(HARD_STOP_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(grace_ms: u64, spread_ms: u64) -> Config {
        Config {
            drain_grace: Duration::from_millis(grace_ms),
            drain_spread: Duration::from_millis(spread_ms),
            ..Config::default()
        }
    }

    fn millis(schedule: DrainSchedule) -> (u64, u64, u64) {
        let DrainSchedule { stop_accepting_at, closes_begin_at, closes_end_at } = schedule;
        (stop_accepting_at.as_millis(), closes_begin_at.as_millis(), closes_end_at.as_millis())
    }

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn g1_accepting_stops_before_the_closes_and_the_closes_are_spread() {
        let schedule = next_schedule(None, at(1000), &config(10_000, 110_000));
        assert_eq!(millis(schedule), (3000, 11_000, 121_000));
        let short = next_schedule(None, at(1000), &config(500, 0));
        assert_eq!(millis(short), (1500, 1500, 1500));
        let longest = next_schedule(None, Time::NEVER, &config(u64::MAX / 2_000_000, 1));
        assert_eq!(longest.closes_end_at, Time::NEVER);
    }

    #[test]
    fn g2_a_second_signal_pulls_everything_to_within_two_seconds_and_never_puts_it_off() {
        let first = next_schedule(None, at(0), &config(10_000, 110_000));
        for (second_at, expected) in
            [(0, (0, 0, 2000)), (5000, (2000, 5000, 7000)), (60_000, (2000, 10_000, 62_000))]
        {
            assert_eq!(millis(next_schedule(Some(first), at(second_at), &config(0, 0))), expected);
        }
        let late = next_schedule(Some(first), at(119_500), &config(0, 0));
        assert_eq!(millis(late), (2000, 10_000, 120_000));
    }

    #[test]
    fn a_drain_is_over_when_nobody_is_left_and_nobody_can_come_or_when_time_is_up() {
        let schedule = next_schedule(None, at(0), &config(10_000, 110_000));
        assert!(!is_over(&schedule, at(1999), 0), "still accepting");
        assert!(is_over(&schedule, at(2200), 0));
        assert!(!is_over(&schedule, at(124_999), 1));
        assert!(is_over(&schedule, at(125_000), 1));
    }
}
