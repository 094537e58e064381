//! Waiting on conditions, never for a time: each wait has a deadline that only a failing test reaches.

use std::time::{Duration, Instant};

/// How long a test waits for something that should happen at once. Long, because machines are shared; a passing test
/// never waits it out.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lets `time` pass. For the pace of a slow client and the gap between two polls, not for hoping that something is done.
pub fn pause(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Polls until `condition` holds.
///
/// # Panics
/// With `what` if it does not hold within `deadline`.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Polls until `look` finds a value, and gives it back.
///
/// # Panics
/// With `what` if there is none within `deadline`.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    let mut gap = Duration::from_millis(1);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "still waiting after {deadline:?}: {what}");
        pause(gap);
        gap = (gap * 2).min(Duration::from_millis(50));
    }
}
