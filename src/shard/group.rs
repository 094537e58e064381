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
use crate::journal::{Cursor, Journal, Ride};
use crate::model::{ChannelIndex, Offset};
use crate::net::Transport;

/// Subscribers written to in one go at most.
const GROUP_MAX: usize = 32;
/// Contiguous parts of one write to a group at most: each large message is one, and so is what lies between two.
const SPANS_MAX: usize = 8;

/// Subscribers of one channel whose next message is the same, read from the same strip.
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

/// Members taken off a pass: those who read the plain strip, those who ride the deflated one, and those that are not like
/// the others of their strip.
struct Found {
    plain: Group,
    riding: Group,
    /// Visited one by one. Their cursor means nothing.
    odd: Group,
}

impl Found {
    fn count(&self) -> usize {
        self.plain.count + self.riding.count + self.odd.count
    }

    /// The group that one at `cursor` belongs to, unless it is to be visited alone.
    fn group_of(&mut self, cursor: Cursor, journal: &Journal) -> Option<&mut Group> {
        let cursor = journal.board(cursor);
        let group = match cursor.ride() {
            Ride::Plain | Ride::Barred => &mut self.plain,
            Ride::Riding => &mut self.riding,
            // It changes strips on the way to the head, unless no epoch begins there.
            Ride::Waiting if journal.next_epoch(cursor.offset()).is_some() => return None,
            Ride::Waiting => &mut self.plain,
        };
        if group.count == 0 {
            group.first = cursor;
        }
        (group.from() == cursor.offset()).then_some(group)
    }
}

impl<S> Connection<S> {
    /// The cursor of an open connection that reads one channel and is owed nothing but its messages.
    fn lone_cursor(&mut self) -> Option<Cursor> {
        let is_lone = matches!(self.phase, Phase::Open(_)) && !self.marks.has(Mark::Relayed);
        self.owed.sole_mut().filter(|_| is_lone).map(|subscription| subscription.cursor)
    }
}

impl<R: Reactor> Shard<R> {
    /// Visits the next members of `channel`'s pass, `visits` at most; says how many. 0: the pass is over.
    pub(super) fn visit_group(&mut self, channel: ChannelIndex, visits: usize) -> usize {
        let members_before = self.hub.members(channel).len();
        let Some(found) = self.find_groups(channel, visits.min(GROUP_MAX)) else { return 0 };
        let count = found.count();
        let Found { plain, riding, odd } = found;
        for (group, is_riding) in [(&plain, false), (&riding, true)] {
            let slots = &group.slots[..group.count];
            if !slots.is_empty() && !self.write_group(channel, group.from(), is_riding, slots) {
                for slot in slots {
                    self.visit_member(*slot, channel);
                }
            }
        }
        for slot in &odd.slots[..odd.count] {
            self.visit_member(*slot, channel);
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
        count
    }

    /// Takes members off the pass. One that is visited out of its turn is the last, since it is to be noted before the next.
    fn find_groups(&mut self, channel: ChannelIndex, limit: usize) -> Option<Found> {
        let members = self.hub.members(channel);
        let feed = self.feeds.get_mut(channel)?;
        let (pass, journal) = (&mut feed.pass, &feed.journal);
        let mut found = Found { plain: Group::EMPTY, riding: Group::EMPTY, odd: Group::EMPTY };
        let limit = limit.min(pass.left_in_circle(members.len() as u32) as usize);
        while found.count() < limit {
            let Some(slot) =
                pass.next_member(members.len() as u32).and_then(|index| members.get(index as usize))
            else {
                break;
            };
            let cursor = self.slots.get_mut(*slot).and_then(Connection::lone_cursor);
            let group = match cursor.filter(|_| !pass.is_out_of_turn()) {
                Some(cursor) if found.plain.count > 0 && cursor == found.plain.first => {
                    Some(&mut found.plain)
                }
                Some(cursor) => found.group_of(cursor, journal),
                None => None,
            };
            match group {
                Some(group) => group.push(*slot),
                None => found.odd.push(*slot),
            }
            if pass.is_out_of_turn() {
                break;
            }
        }
        (found.count() > 0).then_some(found)
    }

    /// Writes everything from `from` to the head to each of `slots`. False when that is nothing, or more than one write:
    /// nobody was written to.
    fn write_group(&mut self, channel: ChannelIndex, from: Offset, is_riding: bool, slots: &[u32]) -> bool {
        let Some(feed) = self.feeds.get(channel) else { return false };
        let next = feed.journal.next();
        let ride = if is_riding { Ride::Riding } else { Ride::Plain };
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
        self.note_complete(done, channel, next, is_riding, length);
        for (slot, written) in slots.iter().zip(written).filter(|(_, written)| *written < length) {
            if written > 0 {
                let cursor = self.slots.get_mut(*slot).and_then(Connection::lone_cursor);
                let cursor = cursor.filter(|_| !is_riding).unwrap_or(Cursor::new(from, ride));
                let plan = Owed::plan_of(channel, cursor, next, length);
                self.settle(*slot, &plan, written);
                self.note_member(*slot, channel);
            } else {
                self.visit_member(*slot, channel);
            }
        }
        true
    }

    /// The sockets in `slots` took everything up to `next`: `length` bytes each, of the deflated strip if they are riding.
    fn note_complete(
        &mut self,
        slots: impl Iterator<Item = u32>,
        channel: ChannelIndex,
        next: Offset,
        is_riding: bool,
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
            let cursor = subscription.cursor;
            subscription.cursor =
                if is_riding { Cursor::new(next, Ride::Riding) } else { cursor.sent_to(next) };
            count += 1;
        }
        let members = self.hub.members(channel).len() as u32;
        if let Some(feed) = self.feeds.get_mut(channel)
            && count > 0
        {
            feed.note_visits(count, next, true, members, self.now);
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
        let cursor = subscription.cursor.offset();
        let members = self.hub.members(channel).len() as u32;
        if let Some(feed) = self.feeds.get_mut(channel) {
            feed.note_visits(1, cursor, is_ready, members, self.now);
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
