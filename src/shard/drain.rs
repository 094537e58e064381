//! The planned end: stop accepting, then closes spread evenly over the schedule (GUARANTEES G1).

use std::time::Duration;

use super::connection::Phase;
use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::DrainSchedule;
use crate::model::{Blame, CloseReason, RejectReason, Time};

/// How often a drain makes a step.
const STEP: Duration = Duration::from_millis(50);
/// The delay a drained client is told to wait before it reconnects, at most; drawn at random for each.
const RECONNECT_MS_MAX: u64 = 5000;

/// Where a drain stands.
#[derive(Debug)]
pub struct Drain {
    schedule: DrainSchedule,
    is_accepting: bool,
    /// Connections when the closes began.
    total: Option<usize>,
    closed: usize,
    next_slot: u32,
    stepped_at: Time,
}

impl Drain {
    /// When there is something to do.
    pub fn next_step_at(&self) -> Time {
        if self.is_accepting {
            return self.schedule.stop_accepting_at;
        }
        self.schedule.closes_begin_at.max(self.stepped_at.after(STEP))
    }

    /// How many of `total` are to be closed by `now`: the one with index k, from 0, once k/`total` of the spread has
    /// passed. The first goes at once, so that who is alone does not wait for the spread to end.
    fn due(&self, total: usize, now: Time) -> usize {
        let spread = self.schedule.closes_end_at.since(self.schedule.closes_begin_at).as_nanos();
        let passed = now.since(self.schedule.closes_begin_at).as_nanos();
        if passed >= spread {
            return total;
        }
        usize::try_from(total as u128 * passed / spread).map_or(total, |index| total.min(index + 1))
    }
}

impl<R: Reactor> Shard<R> {
    /// A drain begins, or is given another schedule: the second signal hurries.
    pub(super) fn begin_drain(&mut self, schedule: DrainSchedule) {
        let is_accepting = self.drain.as_ref().is_none_or(|drain| drain.is_accepting);
        self.drain = Some(Drain {
            schedule,
            is_accepting,
            total: None,
            closed: 0,
            next_slot: 0,
            stepped_at: Time::ZERO,
        });
    }

    /// Whether whoever comes now is sent away.
    pub(super) fn turns_joiners_away(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| !drain.is_accepting)
    }

    pub(super) fn step_drain(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let now = self.now;
        if drain.is_accepting && now >= drain.schedule.stop_accepting_at {
            drain.is_accepting = false;
            // Whoever is in the queue was promised a connection: a closed queue would reset it.
            for _ in 0..self.config.backlog {
                match self.reactor.accept() {
                    Ok(Some(accepted)) => self.take_in(accepted),
                    Err(error) if self.handle_accept_error(&error) => {}
                    Ok(None) | Err(_) => break,
                }
            }
            self.reactor.stop_accepting();
        }
        let Some(drain) = &mut self.drain else { return };
        if now < drain.schedule.closes_begin_at || now < drain.stepped_at.after(STEP) {
            return;
        }
        drain.stepped_at = now;
        let total = *drain.total.get_or_insert(self.slots.len());
        let due = drain.due(total, now).saturating_sub(drain.closed);
        let is_over = now >= drain.schedule.closes_end_at;
        let start = drain.next_slot;
        let mut closed = 0;
        let slots = self.slots.slot_end();
        let mut looked_at = 0;
        while looked_at < slots && (closed < due || is_over) {
            let slot = (start + looked_at) % slots.max(1);
            looked_at += 1;
            closed += usize::from(self.drain_connection(slot, is_over));
        }
        if let Some(drain) = &mut self.drain {
            drain.closed += closed;
            drain.next_slot = (start + looked_at) % slots.max(1);
        }
    }

    /// Tells the connection in `slot` to come back later; false when there is nobody to tell.
    fn drain_connection(&mut self, slot: u32, is_over: bool) -> bool {
        let retry_after_s = self.retry_after_seconds();
        let delay_ms = self.reactor.random() % RECONNECT_MS_MAX;
        let Some(connection) = self.slots.get(slot) else { return false };
        match &connection.phase {
            Phase::Open(_) => self.close(slot, CloseReason::Draining, Some(&format!("in={delay_ms}"))),
            Phase::Joining(_) => self.refuse(slot, RejectReason::Draining, Some(retry_after_s)),
            Phase::Http(http) if http.is_awaiting_head() => {
                if is_over {
                    self.refuse(slot, RejectReason::Draining, Some(retry_after_s));
                }
                return is_over;
            }
            Phase::Http(_) => self.end(slot, CloseReason::HttpDone, Blame::Us),
            Phase::Closing(_) | Phase::Ended { .. } => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(total: usize, spread_ms: u64, passed_ms: u64) -> usize {
        let closes_begin_at = Time::from_millis(1000);
        let schedule = DrainSchedule {
            stop_accepting_at: Time::ZERO,
            closes_begin_at,
            closes_end_at: closes_begin_at.after(Duration::from_millis(spread_ms)),
        };
        let drain = Drain {
            schedule,
            is_accepting: false,
            total: Some(total),
            closed: 0,
            next_slot: 0,
            stepped_at: Time::ZERO,
        };
        drain.due(total, closes_begin_at.after(Duration::from_millis(passed_ms)))
    }

    #[test]
    fn g1_closes_begin_with_the_spread_and_come_evenly() {
        assert_eq!(due(1, 110_000, 0), 1, "who is alone waits for nobody");
        let thirds = [0, 999, 1000, 1999, 2000, 2999, 3000].map(|passed_ms| due(3, 3000, passed_ms));
        assert_eq!(thirds, [1, 1, 2, 2, 3, 3, 3]);
        assert_eq!([0, 1].map(|passed_ms| due(7, 0, passed_ms)), [7, 7], "no spread");
        assert_eq!(due(0, 1000, 0), 0, "nobody is there");
    }
}
