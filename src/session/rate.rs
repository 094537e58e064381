//! How many messages a client may send: a burst at once, then so many a second (GUARANTEES B13).
//!
//! Who has used up its burst is not read for a second, so that the kernel holds back what it sends; who is then found to
//! have sent more again and again for some seconds is closed. A rest gives back a little more than its time is worth:
//! nobody who keeps to the rate on average is ever closed, however late its messages come in.

use std::time::Duration;

use crate::config::limits::{CLIENT_FLOOD_TIMEOUT, CLIENT_REST};
use crate::model::Time;

/// Bytes of the smallest message: a masked frame without payload.
pub const MESSAGE_FRAME_BYTES_MIN: usize = 6;

/// Seconds of the rate that may be sent at once.
const BURST: Duration = Duration::from_secs(2);
/// What a rest gives back on top of its own time.
const REST_BONUS: Duration = Duration::from_millis(250);

/// A rate of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageRate {
    interval_ns: u64,
}

impl MessageRate {
    /// `per_second` messages, twice as many at once; `None` for 0, which is no limit.
    pub fn new(per_second: u64) -> Option<Self> {
        1_000_000_000_u64.checked_div(per_second).map(|interval_ns| Self { interval_ns: interval_ns.max(1) })
    }
}

/// What to do about a client that sends more than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overrun {
    /// Do not read it before this moment.
    RestUntil(Time),
    /// Close it.
    Flood,
}

/// The rests that followed each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Rests {
    /// When the first began.
    since: Time,
    /// When the last ends.
    until: Time,
}

/// A client that has sent messages of late. Forget it once it [`Sender::is_rested`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// When all of the burst is there again.
    full_at: Time,
    rests: Option<Rests>,
}

impl Sender {
    /// A client with all of its burst.
    pub const fn new() -> Self {
        Self { full_at: Time::ZERO, rests: None }
    }

    /// Messages that may be taken at `now`.
    pub fn room(&self, rate: MessageRate, now: Time) -> usize {
        let left = BURST.saturating_sub(self.full_at.since(now));
        (left.as_nanos() as u64 / rate.interval_ns) as usize
    }

    /// Counts `messages` that were taken at `now`.
    pub fn take(&mut self, messages: usize, rate: MessageRate, now: Time) {
        let worth = Duration::from_nanos(rate.interval_ns.saturating_mul(messages as u64));
        self.full_at = self.full_at.max(now).after(worth);
    }

    /// More waits at `now` than there is room for.
    pub fn overrun(&mut self, now: Time) -> Overrun {
        let follows_on = |rests: &Rests| now.since(rests.until) < CLIENT_REST;
        let since = self.rests.filter(follows_on).map_or(now, |rests| rests.since);
        if now.since(since) >= CLIENT_FLOOD_TIMEOUT {
            return Overrun::Flood;
        }
        let until = now.after(CLIENT_REST);
        self.rests = Some(Rests { since, until });
        self.full_at = Time::from_nanos(self.full_at.as_nanos().saturating_sub(REST_BONUS.as_nanos() as u64));
        Overrun::RestUntil(until)
    }

    /// Whether it is not to be read at `now`.
    pub fn rests(&self, now: Time) -> bool {
        self.rests.is_some_and(|rests| now < rests.until)
    }

    /// Whether nothing of what it sent matters any more at `now`.
    pub fn is_rested(&self, now: Time) -> bool {
        self.full_at <= now && self.rests.is_none_or(|rests| now >= rests.until.after(CLIENT_REST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a client whose messages come at these milliseconds: how many rests, and when it is closed. Each is
    /// taken as soon as there is room; while it rests they wait.
    fn fate(per_second: u64, arrivals: impl Iterator<Item = u64>) -> (usize, Option<u64>) {
        let rate = MessageRate::new(per_second).unwrap();
        let (mut sender, mut rests, mut free_at) = (Sender::new(), 0, 0);
        for arrival in arrivals {
            loop {
                let at = arrival.max(free_at);
                let now = Time::from_millis(at);
                if sender.room(rate, now) > 0 {
                    sender.take(1, rate, now);
                    break;
                }
                match sender.overrun(now) {
                    Overrun::RestUntil(until) => free_at = until.as_millis(),
                    Overrun::Flood => return (rests, Some(at)),
                }
                rests += 1;
                assert!(sender.rests(now) && !sender.rests(Time::from_millis(free_at)));
            }
        }
        (rests, None)
    }

    #[test]
    fn b13_a_burst_of_two_seconds_is_taken_and_the_message_after_it_waits() {
        for per_second in [1, 50, 1000, 1_000_000] {
            let rate = MessageRate::new(per_second).unwrap();
            let (mut sender, now) = (Sender::new(), Time::from_millis(77));
            assert_eq!(sender.room(rate, now), 2 * per_second as usize);
            sender.take(2 * per_second as usize, rate, now);
            assert_eq!(sender.room(rate, now), 0, "{per_second}");
            assert_eq!(sender.room(rate, now.after(Duration::from_secs(1))), per_second as usize);
            assert_eq!(sender.room(rate, now.after(Duration::from_secs(90))), 2 * per_second as usize);
        }
        assert_eq!(MessageRate::new(0), None);
    }

    #[test]
    fn b13_who_keeps_to_the_rate_is_never_closed() {
        for per_second in [1, 7, 50, 333] {
            let steadily = (0..per_second * 600).map(|number| number * 1000 / per_second);
            assert_eq!(fate(per_second, steadily), (0, None), "{per_second}");
            // All of a second at once, behind a burst that left nothing over.
            let burst = std::iter::repeat_n(0, 2 * per_second as usize);
            let at_once = (1..300).flat_map(|second| std::iter::repeat_n(second * 1000, per_second as usize));
            assert_eq!(fate(per_second, burst.clone().chain(at_once)).1, None, "{per_second}");
            // And with messages that come in late, each with the one after it.
            let late = (0..per_second * 300).map(|number| (number | 1) * 1000 / per_second);
            assert_eq!(fate(per_second, burst.chain(late)).1, None, "{per_second}");
        }
    }

    #[test]
    fn b13_who_sends_faster_rests_and_is_closed_after_five_seconds_of_it() {
        for per_second in [5, 50, 1000] {
            let (rests, closed) = fate(per_second, std::iter::repeat_n(0, 20 * per_second as usize));
            assert_eq!((rests, closed), (5, Some(5000)), "all at once, {per_second}");
            let twice = (0..per_second * 60).map(|number| number * 500 / per_second);
            let (rests, closed) = fate(per_second, twice);
            assert_eq!(rests, 5, "{per_second}");
            assert!(closed.is_some_and(|at| (6500..8000).contains(&at)), "{per_second}: {closed:?}");
        }
    }

    #[test]
    fn b13_a_crowd_of_messages_that_ends_is_taken_and_forgotten() {
        let (rests, closed) = fate(50, std::iter::repeat_n(0, 300));
        assert!(closed.is_none() && rests <= 4, "{rests} {closed:?}");
        // Two of them with rest in between are not one flood.
        let twice = (0..4).flat_map(|round| std::iter::repeat_n(round * 20_000, 300));
        assert_eq!(fate(50, twice).1, None);

        let rate = MessageRate::new(50).unwrap();
        let (mut sender, now) = (Sender::new(), Time::from_millis(0));
        sender.take(100, rate, now);
        assert!(!sender.is_rested(now));
        sender.overrun(now);
        assert!(!sender.is_rested(Time::from_millis(1999)) && sender.is_rested(Time::from_millis(2000)));
        assert!(Sender::new().is_rested(now));
    }
}
