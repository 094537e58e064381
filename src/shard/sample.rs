//! Subscribers that want so many updates a second at most: of what came since the last, the newest of each key.
//!
//! Such a subscription rests until its time has come; then it reads at the pace of [`Pace::Newest`] to the head and rests
//! again. The first message after a quiet time is not delayed.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::reactor::Reactor;
use super::turn::Shard;
use crate::journal::Pace;
use crate::model::{ChannelIndex, Time};

/// The subscriptions of a shard that are sampled.
#[derive(Debug, Default)]
pub struct Sampled {
    samples: HashMap<(u32, ChannelIndex), Sample>,
    /// Those that have something to get, by when they may.
    waiting: BTreeSet<(Time, u32, ChannelIndex)>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    interval: Duration,
    due: Time,
}

impl Sampled {
    /// When the next subscription may get something that it waits for.
    pub(super) fn next_due(&self) -> Time {
        self.waiting.first().map_or(Time::NEVER, |(due, ..)| *due)
    }

    /// The subscription of `slot` to `channel` gets at most `rate_max` updates a second, the first at once.
    pub(super) fn insert(&mut self, slot: u32, channel: ChannelIndex, rate_max: u16, now: Time) {
        let interval = Duration::from_secs(1) / u32::from(rate_max.max(1));
        self.samples.insert((slot, channel), Sample { interval, due: now });
    }

    /// The subscription is over.
    pub(super) fn remove(&mut self, slot: u32, channel: ChannelIndex) {
        if self.is_empty() {
            return;
        }
        if let Some(sample) = self.samples.remove(&(slot, channel)) {
            self.waiting.remove(&(sample.due, slot, channel));
        }
    }

    fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

impl<R: Reactor> Shard<R> {
    /// Lets the connection in `slot` have what it waits for of channels whose time has come, and notes the others.
    pub(super) fn wake_sampled(&mut self, slot: u32) {
        if self.sampled.is_empty() {
            return;
        }
        let Some(connection) = self.slots.get_mut(slot) else { return };
        for place in connection.owed.subscriptions_mut() {
            let has_news =
                self.feeds.get(place.channel).is_some_and(|feed| place.cursor.offset() < feed.journal.next());
            if place.cursor.pace() != Pace::Sampled || !has_news {
                continue;
            }
            let Some(sample) = self.sampled.samples.get(&(slot, place.channel)) else { continue };
            if sample.due <= self.now {
                place.cursor = place.cursor.at_pace(Pace::Newest);
                self.sampled.waiting.remove(&(sample.due, slot, place.channel));
            } else {
                self.sampled.waiting.insert((sample.due, slot, place.channel));
            }
        }
    }

    /// The connection in `slot` was given everything: its sampled subscriptions rest.
    pub(super) fn rest_sampled(&mut self, slot: u32) {
        if self.sampled.is_empty() {
            return;
        }
        let Some(connection) = self.slots.get_mut(slot) else { return };
        for place in connection.owed.subscriptions_mut() {
            if !matches!(place.cursor.pace(), Pace::Every | Pace::Newest) {
                continue;
            }
            if let Some(sample) = self.sampled.samples.get_mut(&(slot, place.channel)) {
                place.cursor = place.cursor.at_pace(Pace::Sampled);
                sample.due = self.now.after(sample.interval);
            }
        }
    }

    /// Lists the connections of subscriptions whose time has come.
    pub(super) fn list_sampled(&mut self) {
        while let Some((due, slot, channel)) = self.sampled.waiting.first().copied()
            && due <= self.now
        {
            self.sampled.waiting.remove(&(due, slot, channel));
            self.list_write(slot);
        }
    }
}
