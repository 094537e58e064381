//! Phase 6, *flush*: the only place that writes to sockets.
//!
//! First connections with something of their own (101, pong, close, the rest of a cut entry), then channels with
//! news, a slice of the pass at a time, fair between channels. A visited subscriber gets everything between its
//! cursor and the head in one write. A blocked one is not written to, only judged, and passed by as long as nothing
//! would befall it.

use std::io::{self, IoSlice};

use super::connection::{Mark, Phase};
use super::reactor::Reactor;
use super::runs::Run;
use super::tell::Teller;
use super::turn::Shard;
use crate::config::limits::{OWN_FRAMES_BYTES_MAX, WRITE_BYTES_MAX};
use crate::delivery::{Herald, LagVerdict, Manner, Plan, Progress, SLICES_MAX};
use crate::journal::{Pace, Passed};
use crate::metrics::report::record;
use crate::model::{Blame, ChannelIndex, CloseReason, Dialect};
use crate::net::Transport;

/// Visits a channel gets before the next channel's turn, when several have news.
const VISITS_PER_CHANNEL: usize = 64;

impl<R: Reactor> Shard<R> {
    pub(super) fn flush(&mut self) {
        self.send_interest_changes();
        for _ in 0..self.write_list.len().min(self.config.write_budget) {
            let Some(slot) = self.write_list.pop() else { break };
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            if std::mem::take(&mut connection.is_write_listed) {
                self.visit(slot);
                self.note_memory(slot);
            }
        }
        self.release_held_news();
        let mut visits_left = self.config.write_budget;
        while visits_left > 0 {
            let Some(channel) = self.news.pop_front() else { break };
            let slice = if self.news.is_empty() { visits_left } else { VISITS_PER_CHANNEL.min(visits_left) };
            visits_left -= self.flush_channel(channel, slice).max(1);
        }
        self.runs.settle(self.now, &mut self.histograms);
    }

    /// Lists channels whose batch window is over, or that must be flushed before more is taken.
    fn release_held_news(&mut self) {
        if !self.congested.is_empty() {
            let (congested, news) = (&self.congested, &mut self.news);
            self.held_news.retain(|(_, channel)| {
                let is_congested = congested.contains(channel);
                if is_congested {
                    news.push_back(*channel);
                }
                !is_congested
            });
        }
        while let Some((held_until, channel)) = self.held_news.front().copied() {
            if held_until > self.now {
                break;
            }
            self.held_news.pop_front();
            self.news.push_back(channel);
        }
    }

    /// Visits up to `visits` members of `channel`, as [`Shard::visit_group`] counts them, and says how many; lists the channel
    /// again if its pass is not over.
    fn flush_channel(&mut self, channel: ChannelIndex, visits: usize) -> usize {
        let mut visited = 0;
        while visited < visits && self.hub.contains(channel) {
            match self.visit_group(channel, visits - visited) {
                0 => break,
                count => visited += count,
            }
        }
        let Some(feed) = self.feeds.get_mut(channel) else { return visited };
        if feed.pass.is_over() {
            // Nobody visited: the pass ended when its last members left, or the entry is an earlier feed's.
            if visited > 0 {
                record(&mut self.histograms.flush, self.now.since(feed.pass.began_at()), 1);
            }
        } else {
            self.news.push_back(channel);
        }
        visited
    }

    /// Writes to one connection what it is owed, or judges it if its socket is blocked.
    pub(super) fn visit(&mut self, slot: u32) {
        let Some(connection) = self.slots.get(slot) else { return };
        match connection.phase {
            Phase::Ended { .. } | Phase::Joining(_) => {}
            _ if connection.owed.is_blocked() => self.judge(slot),
            _ => {
                self.wake_sampled(slot);
                self.write(slot);
            }
        }
    }

    fn write(&mut self, slot: u32) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.write_with(slot, &mut scratch);
        if scratch.capacity() > WRITE_BYTES_MAX * 2 {
            scratch = Vec::new();
        }
        self.scratch = scratch;
    }

    fn write_with(&mut self, slot: u32, scratch: &mut Vec<u8>) {
        let origin = self.origin_of(slot);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let me = connection.marks.has(Mark::Relayed).then_some(origin);
        for subscription in connection.owed.subscriptions() {
            if let Some(feed) = self.feeds.get_mut(subscription.channel) {
                feed.journal.expire(self.now);
            }
        }
        let teller = Teller { dialect: connection.dialect(), hub: &self.hub, feeds: &self.feeds };
        let herald = (teller.dialect != Dialect::Plain).then_some(&teller as &dyn Herald);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let plan = connection.owed.gather(&self.feeds, Manner { me, herald }, scratch, &mut slices);
        let has_overtaken = plan.overtaken.is_some();
        let mut written = 0;
        if plan.bytes > 0 {
            match connection.socket.write(&slices[..plan.slice_count()]) {
                Ok(0) => return self.end(slot, CloseReason::Reset, Blame::Peer),
                Ok(length) => written = length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.end(slot, CloseReason::Reset, Blame::Peer),
            }
        }
        if !plan.is_empty() {
            self.settle(slot, &plan, written, scratch);
        }
        if has_overtaken {
            self.judge(slot);
            // Where its policy lets it go on, it does so at once.
            if self.slots.get(slot).is_some_and(|connection| !connection.owed.is_blocked()) {
                self.list_write(slot);
            }
        }
    }

    /// The socket took `written` bytes of `plan`, which was made with `scratch`.
    pub(super) fn settle(&mut self, slot: u32, plan: &Plan, written: usize, scratch: &[u8]) {
        let origin = self.origin_of(slot);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let me = connection.marks.has(Mark::Relayed).then_some(origin);
        let (now, feeds, runs, histograms) = (self.now, &self.feeds, &mut self.runs, &mut self.histograms);
        let progress =
            connection.owed.apply(plan, written, feeds, scratch, me, now, |channel, from, next| {
                runs.note(Run { channel, from, next }, 1, feeds, now, histograms);
            });
        self.account(slot, written, progress);
    }

    fn account(&mut self, slot: u32, written: usize, progress: Progress) {
        let Progress { delivered, passed, is_blocked, has_more } = progress;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        connection.traffic.bytes_out += written as u64;
        if delivered > 0 {
            self.counters.delivered.add(delivered);
            if !self.liveness_rules.idle_timeout.is_zero() {
                connection.liveness.on_message(self.now);
            }
        }
        self.counters.stepped_over.add(passed.own);
        self.counters.conflated.add(passed.superseded);
        self.counters.expired.add(passed.expired);
        self.counters.skipped.add(passed.lost);
        self.counters.bytes_out.add(written as u64);
        self.counters.writes.add(u64::from(written > 0));
        if is_blocked {
            self.counters.writes_blocked.add(1);
            self.counters.lagging.add(1);
            self.arm(slot);
            self.note_memory(slot);
        } else if has_more {
            self.write_list.push(slot, &mut connection.is_write_listed);
        } else if matches!(connection.phase, Phase::Closing(_)) {
            self.after_last_flush(slot);
        } else {
            for place in connection.owed.subscriptions_mut() {
                if let Some(feed) = self.feeds.get(place.channel) {
                    place.cursor = place.cursor.at_pace(feed.pace_at(place.cursor));
                }
            }
            self.rest_sampled(slot);
        }
    }

    /// Applies the lag policies of every channel of a connection that takes no more.
    fn judge(&mut self, slot: u32) {
        let name = self.slots.id(slot).name_on(self.id);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let judged_at = self.freeze.judged_at(self.now);
        let teller = Teller { dialect: connection.dialect(), hub: &self.hub, feeds: &self.feeds };
        let mut must_disconnect = false;
        let mut notices = Vec::new();
        for index in 0..connection.owed.subscriptions().len() {
            let Some(subscription) = connection.owed.subscriptions().get(index).copied() else { break };
            let Some(feed) = self.feeds.get(subscription.channel) else { continue };
            let cursor = subscription.cursor;
            let next = match feed.judge(cursor, connection.owed.needed_from(&subscription), judged_at) {
                LagVerdict::Keep => continue,
                LagVerdict::Conflate => {
                    self.counters.conflations.add(1);
                    cursor.at_pace(Pace::Newest)
                }
                LagVerdict::Skip { missed, next } => {
                    self.counters.skipped.add(missed);
                    let lost = Passed { lost: missed, ..Passed::default() };
                    let lost = lost.without(connection.owed.told(subscription.channel));
                    connection.owed.forget_told(subscription.channel);
                    teller.announce(subscription.channel, next, lost, &mut notices);
                    tracing::debug!(event = "lag_skip", shard = self.id.0, conn = %name, missed);
                    cursor.moved_to(next).at_pace(Pace::Every)
                }
                LagVerdict::Disconnect => {
                    must_disconnect = true;
                    continue;
                }
            };
            connection.owed.begin_at(subscription.channel, next, next.offset());
        }
        let has_room = connection.owed.push_own(&notices, OWN_FRAMES_BYTES_MAX).is_ok();
        if must_disconnect || !has_room {
            self.close(slot, CloseReason::SlowConsumer, None);
        }
    }
}
