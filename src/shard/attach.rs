//! A channel is attached to its home, or its messages come because a pattern matches: the feed that they go into.
//!
//! What a home sends is one stream, whoever it is for. A feed that patterns began goes on where the answer to an interest
//! finds it at the place that the answer names; only what the home retains from before is put in front of it.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use super::reactor::Reactor;
use super::tell::Teller;
use super::turn::Shard;
use crate::bus::{Attach, Numbered};
use crate::config::Retain;
use crate::config::limits::OWN_FRAMES_BYTES_MAX;
use crate::delivery::{Feed, Herald};
use crate::hub::Attachment;
use crate::journal::{Entry, Journal, Pace, Passed};
use crate::model::{ChannelIndex, ChannelName, CloseReason, Epoch, Offset, Publication};

impl<R: Reactor> Shard<R> {
    /// A message of a channel that is homed elsewhere.
    pub(super) fn handle_delivery(&mut self, epoch: Epoch, numbered: &Numbered) {
        let Numbered { offset, publication } = numbered;
        let name = &publication.channel;
        let has_patterns = self.hub.has_patterns();
        let channel = match self.hub.find(name) {
            Some(channel) => channel,
            None if has_patterns => self.hub.open(name),
            None => return,
        };
        let newcomers = if has_patterns { self.hub.note_message(channel, self.now) } else { Vec::new() };
        if matches!(self.hub.attachment(channel), Attachment::Live { .. }) {
            let Some(epoch) = self.feeds.get(channel).map(|feed| feed.epoch) else { return };
            self.welcome(channel, name, (epoch, *offset), &newcomers);
            return self.append(channel, epoch, *offset, publication);
        }
        if !has_patterns || !self.hub.is_followed(channel) {
            // It belongs to an interest before the present one, or to a pattern that was given up.
            self.maybe_idle.push(channel);
            return;
        }
        let goes_on = |feed: &Feed| feed.epoch == epoch && feed.journal.next() == *offset;
        if self.feeds.get(channel).is_some_and(|feed| !goes_on(feed)) {
            self.begin_anew(channel, name, epoch, *offset);
        }
        self.welcome(channel, name, (epoch, *offset), &newcomers);
        self.append(channel, epoch, *offset, publication);
    }

    /// What is kept of a channel for those who come later, oldest first.
    pub(super) fn retained(&self, channel: ChannelIndex, name: &ChannelName) -> Vec<Numbered> {
        let Some(feed) = self.feeds.get(channel) else { return Vec::new() };
        let journal = &feed.journal;
        // What else the base has, slow subscribers here still need.
        let (base, kept) = match feed.settings.retain {
            Retain::LatestPerKey => (usize::MAX, journal.len() as u64),
            Retain::Window => (0, (journal.len() as u64).min(feed.settings.history_messages)),
        };
        let window = window_of(journal, name, Offset(journal.next().0 - kept));
        journal.base().take(base).map(|(entry, frame)| numbered(name, entry, frame)).chain(window).collect()
    }

    /// The home's answer to an interest.
    pub(super) fn handle_attach(&mut self, attach: &Attach) {
        let Some((channel, waiting)) = self.hub.attach(&attach.channel, attach.ticket) else { return };
        let name = &attach.channel;
        let settings = self.settings_now(name);
        // The last of them are consecutive; what is before is the newest of some keys.
        let places = attach.retained.iter().rev().zip(1..);
        let window = places.take_while(|(numbered, back)| numbered.offset.0 + back == attach.next.0).count();
        let (base, window) = attach.retained.split_at(attach.retained.len() - window);
        let mut first = Offset(attach.next.0 - window.len() as u64);

        let before = self.feeds.take(channel);
        let readers = self.readers(channel);
        let goes_on = |feed: &Feed| feed.epoch == attach.epoch && feed.journal.next() == attach.next;
        let mut older = Vec::new();
        let mut was_over = true;
        if let Some(feed) = before.as_deref().filter(|feed| !readers.is_empty() && goes_on(feed)) {
            was_over = feed.pass.is_over();
            older = window_of(&feed.journal, name, feed.journal.first()).collect();
            older.retain(|numbered| numbered.offset < first);
            first = first.min(feed.journal.first());
        }
        let members = if readers.is_empty() { 0 } else { self.hub.members(channel).len() as u32 };
        let feed = self.feeds.insert(channel, Feed::new(settings, attach.epoch, first));
        let continued = before.as_deref().filter(|feed| !readers.is_empty() && goes_on(feed));
        if let Some(before) = continued {
            feed.take_over(before, members);
        }
        // Of keys that the home does not retain a slow reader here may still need the newest.
        let is_retained = feed.settings.retain == Retain::LatestPerKey;
        for (entry, frame) in continued.filter(|_| !is_retained).into_iter().flat_map(|it| it.journal.base())
        {
            if entry.offset < first {
                feed.journal.restore(entry.offset, &numbered(name, entry, frame).publication, true);
            }
        }
        for numbered in base.iter().filter(|numbered| numbered.offset < first) {
            feed.journal.restore(numbered.offset, &numbered.publication, false);
        }
        for numbered in older.iter().chain(window) {
            feed.append(numbered.offset, &numbered.publication, members, self.now);
        }
        let is_under_way = !feed.pass.is_over();
        let retained_bytes = feed.journal.memory_bytes() as u64;
        if retained_bytes > 0 {
            self.note_journal_growth(retained_bytes);
        }
        if let Some(before) = before.filter(|_| !readers.is_empty()) {
            let next = (!goes_on(&before)).then_some(attach.next);
            self.readers_go_on(channel, name, &readers, before.journal.next(), next);
            if is_under_way && was_over {
                self.list_news(channel);
            }
        }
        for slot in waiting {
            self.channel_became_live(slot, channel);
        }
    }

    /// The numbering of a channel that patterns match has begun anew while it was followed, or some of it was not for this
    /// shard: its feed begins anew with message `offset`.
    fn begin_anew(&mut self, channel: ChannelIndex, name: &ChannelName, epoch: Epoch, offset: Offset) {
        let Some(before) = self.feeds.take(channel) else { return };
        let readers = self.readers(channel);
        let settings = self.settings_now(name);
        self.feeds.insert(channel, Feed::new(settings, epoch, offset));
        self.readers_go_on(channel, name, &readers, before.journal.next(), Some(offset));
    }

    /// Members that read already; the others wait for the answer to the interest.
    fn readers(&mut self, channel: ChannelIndex) -> Vec<u32> {
        let (hub, slots) = (&self.hub, &mut self.slots);
        let mut reads = |slot: &u32| {
            let place = slots.get_mut(*slot).and_then(|it| it.owed.subscription_mut(channel).map(|it| *it));
            place.is_some_and(|place| !place.cursor.is_parked())
        };
        hub.members(channel).iter().copied().filter(|slot| reads(slot)).collect()
    }

    /// `readers` of a feed that ended at `ended_at` read another in its place: from where they are, or from `moved_to` on.
    /// What they had not had by then they are told of.
    fn readers_go_on(
        &mut self,
        channel: ChannelIndex,
        name: &ChannelName,
        readers: &[u32],
        ended_at: Offset,
        moved_to: Option<Offset>,
    ) {
        let members = self.hub.members(channel).len() as u32;
        let mut unreachable = Vec::new();
        for slot in readers {
            let Some(connection) = self.slots.get_mut(*slot) else { continue };
            let Some(mut cursor) = connection.owed.subscription_mut(channel).map(|place| place.cursor) else {
                continue;
            };
            if let Some(next) = moved_to {
                let missed = ended_at.0.saturating_sub(cursor.offset().0);
                cursor = cursor.moved_to(next).at_pace(Pace::Every);
                let told = connection.owed.told(channel);
                connection.owed.forget_told(channel);
                connection.owed.begin_at(channel, cursor, next);
                self.counters.skipped.add(missed);
                let teller = Teller { dialect: connection.dialect(), hub: &self.hub, feeds: &self.feeds };
                let mut notices = Vec::new();
                let lost = Passed { lost: missed, ..Passed::default() }.without(told);
                teller.announce(channel, next, lost, &mut notices);
                if connection.owed.push_own(&notices, OWN_FRAMES_BYTES_MAX).is_err() {
                    unreachable.push(*slot);
                }
            }
            if let Some(feed) = self.feeds.get_mut(channel) {
                feed.note_need(cursor.offset(), members);
                self.counters.encoded.add(feed.begin_reading(cursor.ride(), name) as u64);
            }
        }
        for slot in unreachable {
            self.close(slot, CloseReason::SlowConsumer, None);
        }
    }
}

/// The messages of `journal`'s window from `from` on.
fn window_of(journal: &Journal, name: &ChannelName, from: Offset) -> impl Iterator<Item = Numbered> {
    (from.0..journal.next().0).filter_map(move |offset| {
        let offset = Offset(offset);
        Some(numbered(name, journal.entry(offset)?, journal.frame(offset)?))
    })
}

fn numbered(name: &ChannelName, entry: &Entry, frame: bytes::Bytes) -> Numbered {
    Numbered {
        offset: entry.offset,
        publication: Publication {
            channel: name.clone(),
            frame,
            accepted_at: entry.accepted_at,
            origin: entry.origin(),
            // Who joins waits for the next epoch: it needs no older deflated form.
            deflated: None,
            key: entry.key().cloned(),
            expires_at: entry.expires_at(),
            acknowledge: None,
            idempotency: None,
        },
    }
}
