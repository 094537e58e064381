//! Writes to subscribers that stand at the same place, a group at a time.
//!
//! A system call leaves little of the caller's code in the processor's caches. So the work is done in three steps: find
//! out who gets the same bytes, then write, write, write with nothing in between, then take note of what became of it.
//! Whoever is not in the common case is visited alone (`flush.rs`).

use std::io::IoSlice;

use super::connection::{Connection, Mark, Phase};
use super::reactor::Reactor;
use super::runs::Run;
use super::slots::Wait;
use super::turn::Shard;
use crate::config::limits::WRITE_BYTES_MAX;
use crate::delivery::Owed;
use crate::journal::{Cursor, Journal, Pace, Ride};
use crate::model::{ChannelIndex, Offset};
use crate::net::Transport;

/// Subscribers written to in one go at most.
const GROUP_MAX: usize = 32;
/// Contiguous parts of one write to a group at most: each large message is one, and so is what lies between two.
const SPANS_MAX: usize = 8;

/// Of those that wait as they did before, so many are passed by for what one visit counts: some nanoseconds each, and a
/// write takes some microseconds.
const WAITING_PER_VISIT: usize = 64;

/// Subscribers of one channel whose next message is the same, read from the same strip.
#[derive(Clone, Copy, Debug)]
struct Group {
    slots: [u32; GROUP_MAX],
    count: usize,
    /// The cursor of the first of them: who stands there too is like them without a further look.
    first: Cursor,
}

impl Group {
    const EMPTY: Self = Self { slots: [0; GROUP_MAX], count: 0, first: Cursor::plain(Offset(0)) };

    /// The next message of all of them.
    fn from(&self) -> Offset {
        self.first.offset()
    }

    fn push(&mut self, slot: u32) {
        self.slots[self.count] = slot;
        self.count += 1;
    }
}

/// What the members of a group read, in this order.
const GROUPED: [Ride; 5] = [Ride::Plain, Ride::Riding, Ride::Envelope, Ride::Event, Ride::EnvelopedEvent];

/// Members taken off a pass: a group for each strip, those that are not like the others of their strip, and those that wait
/// as they did before. A shard has one, and uses it for every group.
#[derive(Debug)]
pub(super) struct Found {
    alike: [Group; GROUPED.len()],
    /// Visited one by one. Their cursor means nothing.
    odd: Group,
    /// Members in these groups.
    grouped: usize,
    /// Members whose sockets are blocked as they were when last looked at, and that may stay so.
    waiting: u32,
    /// The least offset from which on one of those needs the journal.
    waiting_from: Offset,
}

impl Found {
    /// Nobody.
    pub(super) const EMPTY: Self = Self {
        alike: [Group::EMPTY; GROUPED.len()],
        odd: Group::EMPTY,
        grouped: 0,
        waiting: 0,
        waiting_from: Offset(u64::MAX),
    };

    fn clear(&mut self) {
        self.alike.iter_mut().for_each(|group| group.count = 0);
        (self.odd.count, self.grouped) = (0, 0);
        (self.waiting, self.waiting_from) = (0, Offset(u64::MAX));
    }

    /// All of them.
    fn count(&self) -> usize {
        self.grouped + self.waiting as usize
    }

    /// What they count for where a turn's work is bounded: [`WAITING_PER_VISIT`] that only wait as one.
    fn visits(&self) -> usize {
        self.grouped + self.waiting as usize / WAITING_PER_VISIT
    }

    /// The group that one at `cursor` belongs to, unless it is to be visited alone.
    fn group_of(&mut self, cursor: Cursor, journal: &Journal) -> Option<&mut Group> {
        if cursor.pace() != Pace::Every || cursor.is_parked() {
            return None;
        }
        let cursor = journal.board(cursor);
        let index = match cursor.ride() {
            Ride::Plain => 0,
            // It changes strips on the way to the head, unless no epoch begins there.
            Ride::Waiting if journal.next_epoch(cursor.offset()).is_some() => return None,
            Ride::Waiting => 0,
            Ride::Riding => 1,
            Ride::Envelope => 2,
            Ride::Event => 3,
            Ride::EnvelopedEvent => 4,
        };
        let group = &mut self.alike[index];
        if group.count == 0 {
            group.first = cursor;
        }
        (group.from() == cursor.offset()).then_some(group)
    }
}

impl<S> Connection<S> {
    /// The cursor of an open connection that reads one channel and is owed nothing but its messages.
    fn lone_cursor(&mut self) -> Option<Cursor> {
        let is_attended = self.marks.has(Mark::Relayed) || self.marks.has(Mark::SeveralChannels);
        let is_lone = matches!(self.phase, Phase::Open(_)) && !is_attended;
        self.owed.sole_mut().filter(|_| is_lone).map(|subscription| subscription.cursor)
    }
}

impl<R: Reactor> Shard<R> {
    /// Takes the next members of `channel`'s pass, `visits` at most, where [`WAITING_PER_VISIT`] that only wait count as one;
    /// says how many. 0: the pass is over.
    pub(super) fn visit_group(&mut self, channel: ChannelIndex, visits: usize) -> usize {
        let members_before = self.hub.members(channel).len();
        self.find_groups(channel, visits);
        let (count, visits) = (self.found.count(), self.found.visits());
        if self.found.waiting > 0
            && let Some(feed) = self.feeds.get_mut(channel)
        {
            feed.note_visits(
                self.found.waiting,
                self.found.waiting_from,
                false,
                members_before as u32,
                self.now,
            );
        }
        for (index, ride) in GROUPED.into_iter().enumerate() {
            if self.found.alike[index].count == 0 {
                continue;
            }
            let group = self.found.alike[index];
            let slots = &group.slots[..group.count];
            if !self.write_group(channel, group.from(), ride, slots) {
                for slot in slots {
                    self.visit_member(*slot, channel);
                }
            }
        }
        for index in 0..self.found.odd.count {
            self.visit_member(self.found.odd.slots[index], channel);
        }
        if count == 0 {
            return 0;
        }
        if self.hub.contains(channel)
            && let Some(feed) = self.feeds.get_mut(channel)
        {
            let members = self.hub.members(channel).len();
            if members != members_before {
                feed.pass.restart_circle(members as u32);
            }
            feed.end_round(members as u32, self.now);
        }
        visits.max(1)
    }

    /// Takes members off the pass, `visits` at most. One that is visited out of its turn is the last, since it is to be noted
    /// before the next. Those that wait fill no group.
    fn find_groups(&mut self, channel: ChannelIndex, visits: usize) {
        let found = &mut self.found;
        found.clear();
        let members = self.hub.members(channel);
        let Some(feed) = self.feeds.get_mut(channel) else { return };
        feed.journal.expire(self.now);
        let judged_at = self.freeze.judged_at(self.now);
        let mut kept = None;
        let visits = visits.min(GROUP_MAX);
        let left_in_circle = feed.pass.left_in_circle(members.len() as u32) as usize;
        while found.visits() < visits && found.count() < left_in_circle {
            let Some(slot) =
                feed.pass.next_member(members.len() as u32).and_then(|index| members.get(index as usize))
            else {
                break;
            };
            let is_out_of_turn = feed.pass.is_out_of_turn();
            if let Some(wait) = self.slots.wait(*slot).filter(|_| !is_out_of_turn)
                && (wait.is_patient() || kept == Some(wait) || feed.may_wait_at(wait.from(), judged_at))
            {
                kept = Some(wait);
                found.waiting += 1;
                found.waiting_from = found.waiting_from.min(wait.from());
                continue;
            }
            let cursor = self.slots.get_mut(*slot).and_then(Connection::lone_cursor);
            let group = match cursor.filter(|_| !is_out_of_turn) {
                Some(cursor) if found.alike[0].count > 0 && cursor == found.alike[0].first => {
                    Some(&mut found.alike[0])
                }
                Some(cursor) => found.group_of(cursor, &feed.journal),
                None => None,
            };
            match group {
                Some(group) => group.push(*slot),
                None => found.odd.push(*slot),
            }
            found.grouped += 1;
            if is_out_of_turn {
                break;
            }
        }
    }

    /// Writes everything from `from` to the head to each of `slots`. False when that is nothing, or more than one write:
    /// nobody was written to.
    fn write_group(&mut self, channel: ChannelIndex, from: Offset, ride: Ride, slots: &[u32]) -> bool {
        let Some(feed) = self.feeds.get(channel) else { return false };
        let next = feed.journal.next();
        if feed.journal.next_expired(from).is_some() {
            return false;
        }
        let mut spans = [IoSlice::new(&[]); SPANS_MAX];
        let Some(count) = gather_spans(&feed.journal, Cursor::new(from, ride), next, &mut spans) else {
            return false;
        };
        let bytes = &spans[..count];
        let length = bytes.iter().map(|span| span.len()).sum();
        let mut written = [0; GROUP_MAX];
        for (slot, written) in slots.iter().zip(&mut written) {
            if let Some(connection) = self.slots.get_mut(*slot) {
                // 0 stands for every failure: the visit below asks the socket again and takes it from there.
                *written = connection.socket.write(bytes).unwrap_or(0);
            }
        }
        let complete = written.iter().filter(|written| **written == length).count() as u64;
        if complete > 0 {
            let run = Run { channel, from, next };
            self.runs.note(run, complete, &self.feeds, self.now, &mut self.histograms);
            self.counters.delivered.add((next.0 - from.0) * complete);
            self.counters.bytes_out.add(length as u64 * complete);
            self.counters.writes.add(complete);
        }
        let done = slots.iter().zip(written).filter(|(_, written)| *written == length).map(|(slot, _)| *slot);
        self.note_complete(done, channel, Cursor::new(next, ride), length);
        for (slot, written) in slots.iter().zip(written).filter(|(_, written)| *written < length) {
            if written > 0 {
                let cursor = self.slots.get_mut(*slot).and_then(Connection::lone_cursor);
                let cursor = cursor.filter(|_| ride != Ride::Riding).unwrap_or(Cursor::new(from, ride));
                let plan = Owed::plan_of(channel, cursor, next, length);
                self.settle(*slot, &plan, written, &[]);
                self.note_member(*slot, channel);
            } else {
                self.visit_member(*slot, channel);
            }
        }
        true
    }

    /// The sockets in `slots` took everything up to `reached`: `length` bytes each.
    fn note_complete(
        &mut self,
        slots: impl Iterator<Item = u32>,
        channel: ChannelIndex,
        reached: Cursor,
        length: usize,
    ) {
        let counts_messages = !self.liveness_rules.idle_timeout.is_zero();
        let mut count = 0;
        for slot in slots {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            connection.traffic.bytes_out += length as u64;
            if counts_messages {
                connection.liveness.on_message(self.now);
            }
            let Some(subscription) = connection.owed.sole_mut() else { continue };
            // Who rides may have got on just now; who waits for an epoch was sent plain frames.
            let cursor = if reached.ride() == Ride::Riding { reached } else { subscription.cursor };
            subscription.cursor = cursor.sent_to(reached.offset());
            count += 1;
        }
        let members = self.hub.members(channel).len() as u32;
        if let Some(feed) = self.feeds.get_mut(channel)
            && count > 0
        {
            feed.note_visits(count, reached.offset(), true, members, self.now);
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
        let Some(subscription) = connection.owed.subscription_mut(channel).map(|place| *place) else {
            return;
        };
        let pace = subscription.cursor.pace();
        let is_blocked = connection.owed.is_blocked();
        // Who is not at the common pace goes on by itself, without another round over all.
        let is_ready = !matches!(connection.phase, Phase::Joining(_)) && !is_blocked && pace == Pace::Every;
        // Who is parked needs nothing yet, however long that takes.
        let waits = is_blocked
            && matches!(connection.phase, Phase::Open(_))
            && connection.owed.subscriptions().len() == 1
            && !subscription.cursor.is_parked();
        let cursor = connection.owed.needed_from(&subscription);
        let members = self.hub.members(channel).len() as u32;
        if let Some(feed) = self.feeds.get_mut(channel) {
            // Who waits for other channels begins at the head, whenever that will be.
            let cursor = cursor.min(feed.journal.next());
            feed.note_visits(1, cursor, is_ready, members, self.now);
            if waits {
                self.slots.note_wait(slot, Wait::new(cursor, pace.is_patient()));
            }
        }
    }
}

/// Fills `spans` with everything from `cursor` up to entry `until` and says how many they are; `None` when that is
/// nothing, or more than one write.
fn gather_spans<'a>(
    journal: &'a Journal,
    cursor: Cursor,
    until: Offset,
    spans: &mut [IoSlice<'a>; SPANS_MAX],
) -> Option<usize> {
    let (mut cursor, mut bytes_left) = (cursor, WRITE_BYTES_MAX);
    for (index, place) in spans.iter_mut().enumerate() {
        let span = journal.span(cursor, until, bytes_left);
        // An entry that does not fit whole leaves the cursor where it is, and one that is not kept has no bytes.
        if span.bytes.is_empty() || span.next == cursor {
            return None;
        }
        *place = IoSlice::new(span.bytes);
        bytes_left -= span.bytes.len();
        cursor = span.next;
        if cursor.offset() == until {
            return Some(index + 1);
        }
    }
    None
}
