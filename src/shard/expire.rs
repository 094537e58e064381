//! Phase 5, *expire*: deadlines that came up: request head, ping, silence, stall, linger; the drain; the sweep.

use std::time::Duration;

use super::connection::{Mark, Phase};
use super::reactor::Reactor;
use super::turn::Shard;
use crate::config::limits::{MESSAGE_TIMEOUT, OWN_FRAMES_BYTES_MAX, TIMERS_PER_TURN};
use crate::model::{Blame, CloseReason, RejectReason, Time};
use crate::net::Transport;
use crate::session::{Verdict, append_ping};

/// How often journals are looked at for what has grown too old.
const SWEEP: Duration = Duration::from_secs(1);
/// Channels looked at per turn while a sweep runs.
const SWEPT_PER_TURN: usize = 1024;
/// Idempotency keys of publishers, and as many of clients, that are put away per turn then: a millisecond's work.
const KEYS_SWEPT_PER_TURN: usize = 4096;

/// Where the sweep over the journals stands.
#[derive(Debug, Default)]
pub struct Sweep {
    /// When the next one begins, or this one goes on.
    pub(super) due: Time,
    next: u32,
    bytes: u64,
}

impl<R: Reactor> Shard<R> {
    pub(super) fn expire(&mut self) {
        let mut timers = std::mem::take(&mut self.timers);
        timers.clear();
        self.has_timers_left = !self.wheel.expire(self.now, TIMERS_PER_TURN, &mut timers);
        for timer in &timers {
            let slot = timer.connection.slot;
            let is_current = self.slots.contains(timer.connection)
                && self.slots.get(slot).is_some_and(|connection| connection.armed_tick == timer.tick);
            if is_current {
                self.counters.timers_fired.add(1);
                self.handle_deadline(slot);
            }
        }
        self.timers = timers;
        self.list_sampled();
        self.publish_occupancy();
        self.let_quiet_channels_go();
        self.step_drain();
        self.ends.summarise(self.now);
        self.shed();
        if self.has_sweep_to_do() && self.now >= self.sweep.due {
            self.sweep();
        }
    }

    fn handle_deadline(&mut self, slot: u32) {
        let now = self.now;
        if let Some(until) = self.freeze.grace(now) {
            self.put_off(slot, until);
        }
        let Some(connection) = self.slots.get_mut(slot) else { return };
        connection.armed_tick = u32::MAX;
        match &mut connection.phase {
            Phase::Http(http) if now >= http.deadline => {
                if http.is_awaiting_head() {
                    self.refuse_late_head(slot);
                } else {
                    self.end(slot, CloseReason::HttpDone, Blame::Us);
                }
            }
            Phase::Joining(joining) if now >= joining.deadline => {
                let retry_after_s = self.retry_after_seconds();
                self.refuse(slot, RejectReason::Overloaded, Some(retry_after_s));
            }
            Phase::Closing(closing) if now >= closing.deadline => {
                let (reason, by) = (closing.reason, closing.by);
                connection.socket.reset_on_close();
                self.end(slot, reason, by);
            }
            Phase::Open(_) => self.handle_open_deadline(slot),
            Phase::Http(_) | Phase::Joining(_) | Phase::Closing(_) | Phase::Ended { .. } => {}
        }
        self.arm(slot);
    }

    /// In the grace after a freeze: nobody is closed for time until `until`.
    fn put_off(&mut self, slot: u32, until: Time) {
        let now = self.now;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let deadline = match &mut connection.phase {
            Phase::Http(http) => &mut http.deadline,
            Phase::Joining(joining) => &mut joining.deadline,
            Phase::Closing(closing) => &mut closing.deadline,
            Phase::Open(open) => {
                connection.owed.stall_anew(now);
                let Some(open) = open else { return };
                &mut open.message_deadline
            }
            Phase::Ended { .. } => return,
        };
        *deadline = until.max(*deadline);
    }

    fn handle_open_deadline(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if self.now >= connection.stall_deadline(&self.feeds) {
            return self.close(slot, CloseReason::SlowConsumer, None);
        }
        if connection.unpublished > 0 || self.senders.is_resting(slot, self.now) {
            // It is not read while its messages wait for room, or it rests: its silence, and what it has begun, are on us.
            connection.liveness.on_heard(self.now);
            if let Phase::Open(Some(open)) = &mut connection.phase
                && open.message_deadline != Time::NEVER
            {
                open.message_deadline = self.now.after(MESSAGE_TIMEOUT);
            }
        }
        if let Phase::Open(Some(open)) = &connection.phase
            && self.now >= open.message_deadline
        {
            return self.fail(slot, CloseReason::StalledMessage);
        }
        connection.control_allowance.settle(self.now);
        let verdict = if self.freeze.grace(self.now).is_some() {
            connection.liveness.check_leniently(self.now, &self.liveness_rules)
        } else {
            connection.liveness.check(self.now, &self.liveness_rules)
        };
        match verdict {
            Verdict::Wait(_) => {}
            Verdict::Dead(reason) => self.close(slot, reason, None),
            Verdict::Ping { .. } if connection.marks.has(Mark::EventStream) => {
                // It has no way to answer: its socket tells when it is gone.
                connection.liveness.on_heard(self.now);
                self.counters.pings.add(1);
                self.push_heartbeat(slot);
            }
            Verdict::Ping { payload, .. } => {
                self.replies.clear();
                append_ping(&payload, &mut self.replies);
                self.counters.pings.add(1);
                if connection.owed.push_own(&self.replies, OWN_FRAMES_BYTES_MAX).is_err() {
                    return self.fail(slot, CloseReason::ControlFlood);
                }
                self.list_write(slot);
            }
        }
    }

    /// Whether a sweep would find anything.
    pub(super) fn has_sweep_to_do(&self) -> bool {
        self.counters.journal_bytes.get() > 0 || self.has_history_to_restore() || !self.retries.is_empty()
    }

    /// Lets go of messages that have grown too old, and of what was kept for readers that have caught up: a bounded
    /// number of channels a turn, all of them once a [`SWEEP`]; and of idempotency keys that are past their time.
    fn sweep(&mut self) {
        self.retries.forget_old(self.now, KEYS_SWEPT_PER_TURN);
        self.counters.idempotency_keys.set(self.retries.len() as u64);
        let channels: Vec<_> = self.feeds.indices_from(self.sweep.next, SWEPT_PER_TURN).collect();
        for channel in &channels {
            self.adjust_history(*channel);
            let Some(feed) = self.feeds.get_mut(*channel) else { continue };
            feed.drop_unread_strips(self.hub.name(*channel));
            feed.journal.expire(self.now);
            feed.retain(self.now);
            let members = self.hub.members(*channel).len() as u32;
            if members > 0 && feed.wants_round() {
                feed.pass.restart(members, self.now);
                self.news.push_back(*channel);
            } else if members == 0 && feed.journal.is_empty() {
                self.maybe_idle.push(*channel);
            }
            self.sweep.bytes += feed.journal.memory_bytes() as u64;
        }
        if channels.len() == SWEPT_PER_TURN {
            self.sweep.next = channels.last().map_or(0, |last| last.0 + 1);
            return;
        }
        self.end_adjusting_history();
        self.counters.journal_bytes.set(self.sweep.bytes);
        self.sweep = Sweep { due: self.now.after(SWEEP), ..Sweep::default() };
    }

    /// Has the next sweep happen soon, if there was nothing for one so far.
    pub(super) fn expect_sweep(&mut self) {
        if !self.has_sweep_to_do() {
            self.sweep.due = self.now.after(SWEEP);
        }
    }

    /// A journal has something to let go of.
    pub(super) fn note_journal_growth(&mut self, bytes: u64) {
        self.expect_sweep();
        if self.sweep.next > 0 {
            // A sweep is under way and may have passed this journal; too much is put right by the next one.
            self.sweep.bytes += bytes;
        }
        self.counters.journal_bytes.add(bytes);
    }
}
