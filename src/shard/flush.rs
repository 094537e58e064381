//! Phase 6, *flush*: the only place that writes to sockets.
//!
//! First connections with something of their own (101, pong, close, the rest of a cut entry), then channels with
//! news, a slice of the pass at a time, fair between channels. A visited subscriber gets everything between its
//! cursor and the head in one write. A blocked one is not written to, only judged.

use std::io::{self, IoSlice};

use super::connection::Phase;
use super::reactor::Reactor;
use super::turn::Shard;
use crate::config::limits::WRITE_BYTES_MAX;
use crate::delivery::{LagVerdict, Owed, Plan, Progress, SLICES_MAX};
use crate::metrics::report::record;
use crate::model::{Blame, ChannelIndex, CloseReason, Offset};
use crate::net::Transport;

/// Visits a channel gets before the next channel's turn, when several have news.
const VISITS_PER_CHANNEL: usize = 64;
/// Connections that are fetched from memory together.
const TOUCHED_AHEAD: usize = 16;

impl<R: Reactor> Shard<R> {
    pub(super) fn flush(&mut self) {
        self.send_interest_changes();
        for _ in 0..self.write_list.len().min(self.config.write_budget) {
            let Some(slot) = self.write_list.pop() else { break };
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            if std::mem::take(&mut connection.is_write_listed) {
                self.visit(slot, None);
            }
        }
        while let Some((held_until, channel)) = self.held_news.front().copied() {
            if held_until > self.now && !self.congested.contains(&channel) {
                break;
            }
            self.held_news.pop_front();
            self.news.push_back(channel);
        }
        let mut visits_left = self.config.write_budget;
        while visits_left > 0 {
            let Some(channel) = self.news.pop_front() else { break };
            let slice = if self.news.is_empty() { visits_left } else { VISITS_PER_CHANNEL.min(visits_left) };
            visits_left -= self.flush_channel(channel, slice).max(1);
        }
        self.runs.settle(self.now, &mut self.histograms);
    }

    /// Visits up to `visits` members of `channel` and says how many; lists the channel again if its pass is not
    /// over.
    fn flush_channel(&mut self, channel: ChannelIndex, visits: usize) -> usize {
        let mut visited = 0;
        while visited < visits {
            if !self.hub.contains(channel) {
                return visited;
            }
            let members = self.hub.members(channel).len() as u32;
            let Some(feed) = self.feeds.get_mut(channel) else { return visited };
            let Some(member) = feed.pass.next_member(members) else { break };
            let Some(slot) = self.hub.members(channel).get(member as usize).copied() else { break };
            if visited % TOUCHED_AHEAD == 0 {
                self.touch_ahead(channel, member as usize);
            }
            visited += 1;
            let cursor = match self.write_plainly(slot, channel) {
                Some(cursor) => Some(cursor),
                None => self.visit(slot, Some(channel)),
            };
            // The visit may have ended the connection and with it the channel's last membership.
            if let Some(cursor) = cursor
                && let Some(feed) = self.feeds.get_mut(channel)
            {
                feed.note_visit(cursor, members, self.now);
            }
        }
        let Some(feed) = self.feeds.get_mut(channel) else { return visited };
        if feed.pass.is_over() {
            record(&mut self.histograms.flush, self.now.since(feed.pass.began_at()), 1);
        } else {
            self.news.push_back(channel);
        }
        visited
    }

    /// Looks at the next few members' connections at once: fetching them from memory then overlaps, where one by one
    /// each would wait between two system calls.
    fn touch_ahead(&self, channel: ChannelIndex, from: usize) {
        let members = self.hub.members(channel);
        let upcoming = members.get(from..members.len().min(from + TOUCHED_AHEAD)).unwrap_or_default();
        let listed =
            upcoming.iter().filter(|slot| self.slots.get(**slot).is_some_and(|other| other.is_write_listed));
        std::hint::black_box(listed.count());
    }

    /// The common case of [`Shard::visit`] and nothing else: an open connection that reads this channel only, is owed
    /// nothing of its own, and whose socket takes everything up to the head. `None`: visit it.
    fn write_plainly(&mut self, slot: u32, channel: ChannelIndex) -> Option<Offset> {
        let connection = self.slots.get_mut(slot)?;
        let is_plain = matches!(connection.phase, Phase::Open(_)) && !connection.has_relayed;
        let subscription = connection.owed.sole_mut().filter(|_| is_plain)?;
        let journal = &self.feeds.get(channel)?.journal;
        let from = subscription.cursor;
        let span = journal.span(from, journal.next(), WRITE_BYTES_MAX);
        if span.bytes.is_empty() || span.next != journal.next() {
            return None;
        }
        let written = match connection.socket.write(&[IoSlice::new(span.bytes)]) {
            Ok(length) if length == span.bytes.len() => length,
            Ok(0) => {
                self.end(slot, CloseReason::Reset, Blame::Peer);
                return None;
            }
            Ok(length) => {
                let plan = Owed::plan_of(channel, from, span);
                self.settle(slot, &plan, length);
                return None;
            }
            // The visit asks the socket again, once, and takes it from there.
            Err(_) => return None,
        };
        subscription.cursor = span.next;
        let delivered = span.next.0 - from.0;
        self.runs.note(channel, from, span.next, &self.feeds, self.now, &mut self.histograms);
        self.counters.delivered.add(delivered);
        self.counters.bytes_out.add(written as u64);
        self.counters.writes.add(1);
        if !self.liveness_rules.idle_timeout.is_zero() {
            connection.liveness.on_message(self.now);
        }
        Some(span.next)
    }

    /// Writes to one connection what it is owed, or judges it if its socket is blocked. Returns its cursor in
    /// `channel` if it is still a member there.
    fn visit(&mut self, slot: u32, channel: Option<ChannelIndex>) -> Option<Offset> {
        let connection = self.slots.get(slot)?;
        match connection.phase {
            Phase::Ended { .. } => return None,
            Phase::Joining(_) => {}
            _ if connection.owed.is_blocked() => self.judge(slot),
            _ => self.write(slot),
        }
        let connection = self.slots.get_mut(slot)?;
        Some(connection.owed.subscription_mut(channel?)?.cursor)
    }

    fn write(&mut self, slot: u32) {
        let origin = self.origin_of(slot);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let me = connection.has_relayed.then_some(origin);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let plan = connection.owed.gather(&self.feeds, me, &mut slices);
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
            self.settle(slot, &plan, written);
        }
        if has_overtaken {
            self.judge(slot);
        }
    }

    /// The socket took `written` bytes of `plan`.
    fn settle(&mut self, slot: u32, plan: &Plan, written: usize) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let (now, feeds, runs, histograms) = (self.now, &self.feeds, &mut self.runs, &mut self.histograms);
        let progress = connection.owed.apply(plan, written, feeds, now, |channel, from, next| {
            runs.note(channel, from, next, feeds, now, histograms);
        });
        self.account(slot, written, progress);
    }

    fn account(&mut self, slot: u32, written: usize, progress: Progress) {
        let Progress { delivered, stepped_over, is_blocked, has_more } = progress;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if delivered > 0 {
            self.counters.delivered.add(delivered);
            if !self.liveness_rules.idle_timeout.is_zero() {
                connection.liveness.on_message(self.now);
            }
        }
        self.counters.stepped_over.add(stepped_over);
        self.counters.bytes_out.add(written as u64);
        self.counters.writes.add(u64::from(written > 0));
        if is_blocked {
            self.counters.writes_blocked.add(1);
            self.counters.lagging.add(1);
            self.arm(slot);
        } else if has_more {
            self.write_list.push(slot, &mut connection.is_write_listed);
        } else if matches!(connection.phase, Phase::Closing(_)) {
            self.after_last_flush(slot);
        }
    }

    /// Applies the lag policies of every channel of a connection that takes no more.
    fn judge(&mut self, slot: u32) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let mut must_disconnect = false;
        for subscription in connection.owed.subscriptions_mut() {
            let Some(feed) = self.feeds.get(subscription.channel) else { continue };
            match feed.judge(subscription.cursor, self.now) {
                LagVerdict::Keep => {}
                LagVerdict::Skip { missed, next } => {
                    subscription.cursor = next;
                    self.counters.skipped.add(missed);
                    tracing::debug!(event = "lag_skip", shard = self.id.0, conn = slot, missed);
                }
                LagVerdict::Disconnect => must_disconnect = true,
            }
        }
        if must_disconnect {
            self.close(slot, CloseReason::SlowConsumer, None);
        }
    }
}
