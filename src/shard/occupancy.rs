//! Who watches how many subscribe to a channel: the home publishes the count to `$occupancy.NAME`, not more often than
//! once in [`DEBOUNCE`], where the channel's settings ask for it.
//!
//! Each count is the newest state under the channel's name as its key. That the first subscriber came or the last one left
//! is said with it; the latter expires, and with it the watching channel.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::reactor::Reactor;
use super::turn::Shard;
use crate::model::{ChannelIndex, ChannelName, MessageKey, PayloadKind, Publication, Time};

/// Counts that change within this time are published once.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// How long it can be read that a channel has no subscribers any more.
const VACATED_TTL: Duration = Duration::from_secs(60);
/// Channels looked at in a turn.
const WATCHED_PER_TURN: usize = 256;

/// The counts of channels that are homed here.
#[derive(Debug, Default)]
pub struct Occupancy {
    /// What was published last; channels without subscribers are not here.
    published: HashMap<ChannelName, u64>,
    /// Channels whose count may have changed, by when to look.
    changed: BTreeSet<(Time, ChannelName)>,
    /// The same channels.
    listed: HashMap<ChannelName, Time>,
    /// Not before this: a home took no more.
    resumes_at: Time,
}

impl Occupancy {
    /// When to look at a count.
    pub(super) fn next_due(&self) -> Time {
        self.changed.first().map_or(Time::NEVER, |(due, _)| *due.max(&self.resumes_at))
    }

    fn list(&mut self, channel: &ChannelName, due: Time) {
        if !self.listed.contains_key(channel) {
            self.listed.insert(channel.clone(), due);
            self.changed.insert((due, channel.clone()));
        }
    }

    fn next_changed(&mut self, now: Time) -> Option<ChannelName> {
        if self.next_due() > now {
            return None;
        }
        let (_, channel) = self.changed.pop_first()?;
        self.listed.remove(&channel);
        Some(channel)
    }
}

impl<R: Reactor> Shard<R> {
    /// At the home of `channel`: its subscribers may be more or fewer from here on.
    pub(super) fn note_occupancy(&mut self, channel: ChannelIndex) {
        if !self.config.channels.watches_occupancy() || self.hub.numbering(channel).is_none() {
            return;
        }
        let name = self.hub.name(channel);
        if self.config.channels.settings_for(name).occupancy {
            self.occupancy.list(name, self.now.after(DEBOUNCE));
        }
    }

    /// Publishes the counts that have changed. What its home does not take is tried again.
    pub(super) fn publish_occupancy(&mut self) {
        for _ in 0..WATCHED_PER_TURN {
            let Some(channel) = self.occupancy.next_changed(self.now) else { break };
            let count = self.hub.find(&channel).map_or(0, |index| self.hub.subscribers(index));
            let before = self.occupancy.published.get(&channel).copied().unwrap_or(0);
            if count == before {
                continue;
            }
            let Some(publication) = self.count_of(&channel, before, count) else { continue };
            if self.submit(publication).is_some() {
                self.occupancy.list(&channel, self.now);
                self.occupancy.resumes_at = self.now.after(DEBOUNCE);
                break;
            }
            self.counters.occupancies.add(1);
            if count == 0 {
                self.occupancy.published.remove(&channel);
            } else {
                self.occupancy.published.insert(channel, count);
            }
        }
    }

    /// The message that says so; none if the watching channel's name would be too long.
    fn count_of(&self, channel: &ChannelName, before: u64, count: u64) -> Option<Publication> {
        let edge = match (before, count) {
            (0, _) => r#","edge":"occupied""#,
            (_, 0) => r#","edge":"vacated""#,
            _ => "",
        };
        let text = format!(r#"{{"channel":"{channel}","subscribers":{count}{edge}}}"#);
        let watching = channel.occupancy()?;
        let publication = Publication::encode(watching, PayloadKind::Text, text.as_bytes(), self.now, None);
        let ttl = if count == 0 { VACATED_TTL } else { Duration::ZERO };
        Some(Publication {
            // A name of 128 bytes and more is no key: then no count is the newest.
            key: MessageKey::parse(channel.as_str()).ok(),
            expires_at: self.expiry(ttl),
            ..publication
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_a_home_takes_no_more_nothing_is_due() {
        let mut occupancy = Occupancy::default();
        for name in ["a", "b", "c"] {
            occupancy.list(&ChannelName::parse(name).unwrap(), Time::from_millis(5));
        }
        assert_eq!(occupancy.next_due(), Time::from_millis(5));
        occupancy.resumes_at = Time::from_millis(9);
        assert_eq!(
            (occupancy.next_due(), occupancy.next_changed(Time::from_millis(8))),
            (Time::from_millis(9), None)
        );
        let mut taken = std::iter::from_fn(|| occupancy.next_changed(Time::from_millis(9)));
        assert_eq!(taken.by_ref().count(), 3);
        assert_eq!(occupancy.next_due(), Time::NEVER);
    }
}
