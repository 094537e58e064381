//! How many control frames a client may send that the gateway did not ask for: pings, and pongs that answer none of its
//! pings. A burst at once, then ten a second (GUARANTEES B11); beyond that the client is after work, not after an answer.
//!
//! Two bytes a connection, because it must outlive the codec: whoever pings once costs nothing more while it is idle.

use crate::config::limits::{CONTROL_FRAMES_BURST, CONTROL_FRAMES_INTERVAL};
use crate::model::Time;

/// Bits of the count; the others hold the moment.
const COUNT_BITS: u32 = 5;
const COUNT_MASK: u16 = (1 << COUNT_BITS) - 1;
const _: () = assert!(CONTROL_FRAMES_BURST < COUNT_MASK, "the count holds one frame more than the burst");

/// A count of control frames that one frame leaves every [`CONTROL_FRAMES_INTERVAL`].
///
/// The moment is kept in intervals, modulo 204.8 s: [`ControlAllowance::settle`] it more often than that, or a rest that
/// lasted as long looks like none. A shard does so whenever the connection's timer comes up, which is at the horizon of
/// the wheel at the latest, 65 s, whatever the ping interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ControlAllowance {
    /// The moment of the count in the upper bits, the count in the lower; zero when nothing is counted.
    moment_and_count: u16,
}

impl ControlAllowance {
    /// Counts `frames` more at `now`. False if those are too many: end the connection. Constant time.
    pub fn take(&mut self, frames: usize, now: Time) -> bool {
        let count = usize::from(self.count_at(now)).saturating_add(frames);
        let is_within = count <= usize::from(CONTROL_FRAMES_BURST);
        self.set(if is_within { count as u16 } else { COUNT_MASK }, now);
        is_within
    }

    /// Forgets what is over at `now`.
    pub fn settle(&mut self, now: Time) {
        self.set(self.count_at(now), now);
    }

    fn count_at(self, now: Time) -> u16 {
        let passed =
            (interval_of(now) << COUNT_BITS).wrapping_sub(self.moment_and_count & !COUNT_MASK) >> COUNT_BITS;
        (self.moment_and_count & COUNT_MASK).saturating_sub(passed)
    }

    fn set(&mut self, count: u16, now: Time) {
        self.moment_and_count = if count == 0 { 0 } else { interval_of(now) << COUNT_BITS | count };
    }
}

/// The number of the interval that `now` is in; its upper bits are lost in the shift.
const fn interval_of(now: Time) -> u16 {
    (now.as_millis() / CONTROL_FRAMES_INTERVAL.as_millis() as u64) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: usize = CONTROL_FRAMES_BURST as usize;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn an_allowance_is_two_bytes() {
        assert_eq!(size_of::<ControlAllowance>(), 2);
    }

    #[test]
    fn b11_a_burst_is_taken_and_the_frame_after_it_is_not() {
        for start in [0, 99, 204_700, 1 << 40] {
            for frames in [1, 4, BURST] {
                let mut allowance = ControlAllowance::default();
                assert!((0..BURST / frames).all(|_| allowance.take(frames, at(start))), "{start}");
                assert!(!allowance.take(1, at(start)), "{start}");
            }
            assert!(!ControlAllowance::default().take(BURST + 1, at(start)));
            assert!(!ControlAllowance::default().take(usize::MAX, at(start)));
            assert!(ControlAllowance::default().take(0, at(start)));
        }
    }

    #[test]
    fn b11_ten_a_second_are_taken_for_ever_and_eleven_are_not() {
        let mut allowance = ControlAllowance::default();
        assert!((0..100_000_u64).all(|number| allowance.take(1, at(number * 100 + 30))));
        let mut allowance = ControlAllowance::default();
        let refused = (0..10_000_u64).find(|number| !allowance.take(1, at(number * 1000 / 11)));
        assert!(refused.is_some_and(|number| (150..300).contains(&number)), "{refused:?}");
    }

    #[test]
    fn b11_a_rest_gives_the_burst_back_whatever_its_length() {
        for rest in (100..1_000_000).step_by(900) {
            let mut allowance = ControlAllowance::default();
            assert!(allowance.take(BURST, at(5000)));
            let mut now = 5000;
            // As the ping timer does.
            while now < 5000 + rest {
                now = (now + 30_000).min(5000 + rest);
                allowance.settle(at(now));
            }
            let back = BURST.min(rest as usize / 100);
            assert!(allowance.take(back, at(now)), "{rest}");
            assert!(!allowance.take(1, at(now)), "{rest}");
        }
    }
}
