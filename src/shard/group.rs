//! Writes to subscribers that stand at the same place, a group at a time.
//!
//! A system call leaves little of the caller's code in the processor's caches. So the work is done in three steps: find
//! out who gets the same bytes, then write, write, write with nothing in between, then take note of what became of it.
//! Whoever is not in the common case is visited alone (`flush.rs`).

use std::io::IoSlice;

use super::connection::{Connection, Mark, Phase};
use super::reactor::Reactor;
use super::runs::Run;
use super::turn::Shard;
use crate::config::limits::WRITE_BYTES_MAX;
use crate::delivery::Owed;
use crate::model::{ChannelIndex, Offset};
use crate::net::Transport;

/// Subscribers written to in one go at most.
const GROUP_MAX: usize = 32;

/// Subscribers of one channel whose next message is the same, and one that is not like them.
struct Group {
    slots: [u32; GROUP_MAX],
    count: usize,
    /// The next message of all of them.
    from: Offset,
    /// The member that ended the search: it is visited alone.
    odd: Option<u32>,
}

impl<S> Connection<S> {
    /// The cursor of an open connection that reads one channel and is owed nothing but its messages.
    fn plain_cursor(&mut self) -> Option<Offset> {
        let is_plain = matches!(self.phase, Phase::Open(_)) && !self.marks.has(Mark::Relayed);
        self.owed.sole_mut().filter(|_| is_plain).map(|subscription| subscription.cursor)
    }
}

impl<R: Reactor> Shard<R> {
    /// Visits the next members of `channel`'s pass, `visits` at most; says how many. 0: the pass is over.
    pub(super) fn visit_group(&mut self, channel: ChannelIndex, visits: usize) -> usize {
        let Some(group) = self.find_group(channel, visits.min(GROUP_MAX)) else { return 0 };
        let slots = &group.slots[..group.count];
        if !self.write_group(channel, group.from, slots) {
            for slot in slots {
                self.visit_member(*slot, channel);
            }
        }
        if let Some(slot) = group.odd {
            self.visit_member(slot, channel);
        }
        if self.hub.contains(channel)
            && let Some(feed) = self.feeds.get_mut(channel)
        {
            feed.end_round(self.hub.members(channel).len() as u32, self.now);
        }
        group.count + usize::from(group.odd.is_some())
    }

    /// Takes members off the pass while they are like the first.
    fn find_group(&mut self, channel: ChannelIndex, limit: usize) -> Option<Group> {
        let members = self.hub.members(channel);
        let pass = &mut self.feeds.get_mut(channel)?.pass;
        let mut group = Group { slots: [0; GROUP_MAX], count: 0, from: Offset(0), odd: None };
        while group.count < limit {
            let Some(slot) =
                pass.next_member(members.len() as u32).and_then(|index| members.get(index as usize))
            else {
                break;
            };
            match self.slots.get_mut(*slot).and_then(Connection::plain_cursor) {
                Some(cursor) if (group.count == 0 || cursor == group.from) && !pass.is_out_of_turn() => {
                    group.from = cursor;
                    group.slots[group.count] = *slot;
                    group.count += 1;
                }
                _ => {
                    group.odd = Some(*slot);
                    break;
                }
            }
        }
        (group.count > 0 || group.odd.is_some()).then_some(group)
    }

    /// Writes everything from `from` to the head to each of `slots`. False when that is nothing, or more than one
    /// contiguous write: nobody was written to.
    fn write_group(&mut self, channel: ChannelIndex, from: Offset, slots: &[u32]) -> bool {
        let Some(feed) = self.feeds.get(channel) else { return false };
        let next = feed.journal.next();
        let span = feed.journal.span(from, next, WRITE_BYTES_MAX);
        if span.bytes.is_empty() || span.next != next {
            return false;
        }
        let bytes = [IoSlice::new(span.bytes)];
        let length = span.bytes.len();
        let mut written = [0; GROUP_MAX];
        for (slot, written) in slots.iter().zip(&mut written) {
            if let Some(connection) = self.slots.get_mut(*slot) {
                // 0 stands for every failure: the visit below asks the socket again and takes it from there.
                *written = connection.socket.write(&bytes).unwrap_or(0);
            }
        }
        let plan = Owed::plan_of(channel, from, span);
        let complete = written.iter().filter(|written| **written == length).count() as u64;
        if complete > 0 {
            let run = Run { channel, from, next };
            self.runs.note(run, complete, &self.feeds, self.now, &mut self.histograms);
            self.counters.delivered.add((next.0 - from.0) * complete);
            self.counters.bytes_out.add(length as u64 * complete);
            self.counters.writes.add(complete);
        }
        for (slot, written) in slots.iter().zip(written) {
            if written == length {
                self.note_complete(*slot, channel, next, length);
            } else if written > 0 {
                self.settle(*slot, &plan, written);
                self.note_member(*slot, channel);
            } else {
                self.visit_member(*slot, channel);
            }
        }
        true
    }

    /// The socket in `slot` took everything up to `next`: `length` bytes.
    fn note_complete(&mut self, slot: u32, channel: ChannelIndex, next: Offset, length: usize) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        connection.traffic.bytes_out += length as u64;
        if !self.liveness_rules.idle_timeout.is_zero() {
            connection.liveness.on_message(self.now);
        }
        let Some(subscription) = connection.owed.subscription_mut(channel) else { return };
        subscription.cursor = next;
        let members = self.hub.members(channel).len() as u32;
        if let Some(feed) = self.feeds.get_mut(channel) {
            feed.note_visit(next, true, members, self.now);
        }
    }

    /// Visits one member alone and notes where it stands.
    fn visit_member(&mut self, slot: u32, channel: ChannelIndex) {
        self.visit(slot);
        self.note_member(slot, channel);
    }

    /// Tells the pass where a visited member stands, if it is one still: the visit may have ended it, and with it the
    /// channel's last membership.
    fn note_member(&mut self, slot: u32, channel: ChannelIndex) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let is_ready = !matches!(connection.phase, Phase::Joining(_)) && !connection.owed.is_blocked();
        let Some(subscription) = connection.owed.subscription_mut(channel) else { return };
        let cursor = subscription.cursor;
        let members = self.hub.members(channel).len() as u32;
        if let Some(feed) = self.feeds.get_mut(channel) {
            feed.note_visit(cursor, is_ready, members, self.now);
        }
    }
}
