//! Jumps of the wall clock against the monotonic one. No deadline hangs on the wall clock; who reads its times in the log
//! wants to know of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Clock;
use crate::model::Time;

/// A jump beyond this is told (GUARANTEES D3).
const TOLD_MS: i64 = 2000;

/// Where both clocks stood when they were last looked at.
#[derive(Debug)]
pub struct JumpWatch {
    wall: Duration,
    monotonic: Time,
}

impl JumpWatch {
    /// From now on.
    pub fn start(clock: &Clock) -> Self {
        Self { wall: wall(), monotonic: clock.now() }
    }

    /// By how many milliseconds the wall clock went ahead (or back, below zero) of the monotonic one since the last look,
    /// if that is worth telling. A machine that was suspended shows as a jump ahead: the monotonic clock stood still.
    pub fn look(&mut self, clock: &Clock) -> Option<i64> {
        self.step(wall(), clock.now())
    }

    fn step(&mut self, wall: Duration, monotonic: Time) -> Option<i64> {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let gone = millis(monotonic.since(self.monotonic));
        let jump = millis(wall).saturating_sub(millis(self.wall)).saturating_sub(gone);
        *self = Self { wall, monotonic };
        (jump.saturating_abs() > TOLD_MS).then_some(jump)
    }
}

#[allow(clippy::disallowed_methods, reason = "this module is where the clock is read")]
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d3_a_jump_of_the_wall_clock_is_told_once_and_with_its_sign() {
        let hour = Duration::from_secs(3600);
        let wall = hour * 24 * 365 * 50;
        let mut watch = JumpWatch { wall, monotonic: Time::from_millis(5000) };
        let mut look = |wall, millis| watch.step(wall, Time::from_millis(millis));
        assert_eq!(look(wall + Duration::from_secs(1), 6000), None);
        assert_eq!(look(wall + Duration::from_secs(4), 7000), None, "two seconds are none yet");
        assert_eq!(look(wall + hour, 8000), Some(3_595_000));
        assert_eq!(look(wall + hour + Duration::from_secs(1), 9000), None, "told once");
        assert_eq!(look(wall, 10_000), Some(-3_602_000));
        assert_eq!(look(Duration::ZERO, 10_000), Some(-(wall.as_millis() as i64)));
    }
}
