//! Phase 1, *wait*: sleep until an event, a deadline or a message; not at all if work is left over. Reads the clock.

use std::io;
use std::time::Duration;

use super::connection::Mark;
use super::reactor::{Reactor, Readiness};
use super::turn::Shard;
use crate::metrics::report::record;
use crate::model::Time;

/// How soon work is tried again that waits for another shard's inbox: nothing reports that there is room.
const RETRY: Duration = Duration::from_millis(1);

impl<R: Reactor> Shard<R> {
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let worked_until = self.reactor.now();
        record(&mut self.histograms.turn, worked_until.since(self.now), 1);
        self.counters.turns.add(1);
        let timeout = self.timeout(worked_until);
        let is_busy = timeout == Some(Duration::ZERO);
        self.counters.turns_busy.add(u64::from(is_busy));
        let timeout = if is_busy || self.receiver.try_sleep(self.takes_publishes()) {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        self.readiness.clear();
        self.freeze.before_wait(self.now, worked_until, timeout);
        let result = self.reactor.wait(timeout, &mut self.readiness);
        self.receiver.awake();
        self.now = self.reactor.now();
        result?;
        self.take_grade();
        if let Some(gap) = self.freeze.after_wait(self.now) {
            self.counters.freezes.add(1);
            let gap_ms = gap.as_millis() as u64;
            tracing::warn!(
                event = "freeze",
                shard = self.id.0,
                gap_ms,
                "the shard did not turn; deadlines are put off"
            );
        }
        for index in 0..self.readiness.len() {
            let ready = self.readiness[index];
            self.dispatch(ready);
        }
        Ok(())
    }

    /// How long to sleep at most; `None` until something happens.
    fn timeout(&self, now: Time) -> Option<Duration> {
        let is_left_over = !self.read_list.is_empty()
            || !self.write_list.is_empty()
            || !self.news.is_empty()
            || self.has_timers_left
            || self.hub.has_interest_changes()
            || self.can_accept_at_once();
        if is_left_over {
            return Some(Duration::ZERO);
        }
        let mut due = self.wheel.next_due().unwrap_or(Time::NEVER).min(self.accept_retry_at());
        if let Some((held_until, _)) = self.held_news.front() {
            due = due.min(*held_until);
        }
        due = due.min(self.memory.next_shed_at());
        if let Some(drain) = &self.drain {
            due = due.min(drain.next_step_at());
        }
        due = due.min(self.ends.summary_due());
        if self.has_sweep_to_do() {
            due = due.min(self.sweep.due);
        }
        due = due.min(self.senders.due()).min(self.sampled.next_due()).min(self.occupancy.next_due());
        due = due.min(self.hub.next_lingering());
        if self.outbox.waiting() > 0 || !self.paused.is_empty() {
            due = due.min(now.after(RETRY));
        }
        (due < Time::NEVER).then(|| due.since(now))
    }

    fn dispatch(&mut self, ready: Readiness) {
        if !self.slots.contains(ready.connection) {
            self.counters.stale_events.add(1);
            return;
        }
        let slot = ready.connection.slot;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if ready.is_read_closed {
            connection.marks.set(Mark::ReadClosed);
        }
        if ready.is_readable || ready.is_read_closed {
            connection.may_have_input = true;
            self.read_list.push(slot, &mut connection.is_read_listed);
        }
        if ready.is_writable && connection.owed.is_blocked() {
            connection.owed.unblock();
            self.counters.lagging.sub(1);
            self.write_list.push(slot, &mut connection.is_write_listed);
        }
    }
}
