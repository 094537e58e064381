//! Which channels match which patterns: kept with the channel, and looked at again only where patterns came or went.
//!
//! A home sends a channel's messages to every shard that holds a pattern which matches, beside those that raised an
//! interest. There the first message, or the first since the channel was let go, makes the holders members. A pattern keeps
//! no channel alive by itself: one that was quiet for [`PATTERN_LINGER`] is let go by every shard for itself.

use super::hub::{Attachment, Hub};
use super::patterns::{Known, Patterns, Serial};
use crate::config::limits::{MATCHED_CHANNEL_BYTES, PATTERN_BYTES, PATTERN_HOLDER_BYTES, PATTERN_LINGER};
use crate::model::{ChannelIndex, ChannelName, ShardId, Time};

/// What a channel knows of patterns.
#[derive(Debug, Default)]
pub(super) struct Matching {
    /// Up to here patterns and holders were looked at.
    seen: Serial,
    /// Patterns taken back when it was looked last.
    removals: u64,
    /// Those that match: of this shard, and at the home those of the others.
    matched: Vec<Serial>,
    /// Some client here holds one of them.
    is_followed: bool,
    /// When the last message came.
    used_at: Time,
    /// When the channel is to be looked at for whether it was quiet.
    listed_for: Option<Time>,
}

impl Matching {
    /// Looks at what came and went since the last time. Gives the clients that hold a pattern which matches, and did not.
    fn look(&mut self, name: &ChannelName, is_home: bool, patterns: &Patterns) -> Vec<u32> {
        if self.removals != patterns.removals {
            self.matched.retain(|serial| patterns.known.contains_key(serial));
            self.removals = patterns.removals;
        }
        let is_of_here = |known: &Known| known.shard == patterns.me();
        let later = patterns.known.range(self.seen + 1..);
        let matching = later
            .filter(|(_, known)| (is_home || is_of_here(known)) && known.pattern.matches(name))
            .map(|(serial, _)| *serial);
        self.matched.extend(matching);
        let own = || {
            self.matched.iter().filter_map(|serial| patterns.known.get(serial)).filter(|it| is_of_here(it))
        };
        let mut newcomers: Vec<u32> =
            own().flat_map(|known| known.holders.range(self.seen + 1..)).map(|(_, slot)| *slot).collect();
        newcomers.sort_unstable();
        newcomers.dedup();
        self.is_followed = own().any(|known| !known.holders.is_empty());
        self.seen = patterns.serial;
        newcomers
    }

    fn is_current(&self, patterns: &Patterns) -> bool {
        self.seen == patterns.serial && self.removals == patterns.removals
    }
}

impl Hub {
    /// Whether some shard holds a pattern.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Bytes that patterns, their holders and what channels know of them are accounted for with. Constant time.
    pub fn pattern_bytes(&self) -> usize {
        self.patterns.known.len() * PATTERN_BYTES
            + self.patterns.subscriptions() * PATTERN_HOLDER_BYTES
            + self.lingering.len() * MATCHED_CHANNEL_BYTES
    }

    /// The patterns that are known here.
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// The patterns that are known here.
    pub fn patterns_mut(&mut self) -> &mut Patterns {
        &mut self.patterns
    }

    /// A message of `index` has come, at `now`. Gives the clients that are to become members before they are given it; at
    /// the home, shards whose patterns match are among [`super::Numbering::interested_shards`] from here on. Constant time
    /// unless patterns or holders came or went since the channel's last message.
    pub fn note_message(&mut self, index: ChannelIndex, now: Time) -> Vec<u32> {
        let channel = &mut self.channels[index.index()];
        let matching = channel.matching.get_or_insert_default();
        matching.used_at = now;
        let mut newcomers = Vec::new();
        if !matching.is_current(&self.patterns) {
            let is_home = channel.attachment == Attachment::Home;
            newcomers = matching.look(&channel.name, is_home, &self.patterns);
            if let Some(numbering) = &mut channel.numbering {
                let known = matching.matched.iter().filter_map(|serial| self.patterns.known.get(serial));
                numbering.set_matched(known.map(|known| known.shard).filter(|shard| *shard != self.me));
            }
        }
        if !matching.matched.is_empty() {
            self.list_lingering(index, now);
        }
        newcomers
    }

    /// Whether a client here holds a pattern that matches `index`, as of the channel's last message.
    pub fn is_followed(&self, index: ChannelIndex) -> bool {
        self.channels[index.index()].matching.as_ref().is_some_and(|matching| matching.is_followed)
    }

    /// Makes the client in `slot` a member of `index` because a pattern matches; gives its place among the members.
    pub fn join_matched(&mut self, index: ChannelIndex, slot: u32) -> u32 {
        let channel = &mut self.channels[index.index()];
        channel.members.push(slot);
        channel.matched_members += 1;
        self.patterns.note_matched(slot, index, true);
        channel.members.len() as u32 - 1
    }

    /// The client in `slot`, a member of `index` because a pattern matches, names the channel as well. Says whether the
    /// channel is live for those who do; if not, [`Hub::attach`] names it.
    pub fn name_matched(&mut self, index: ChannelIndex, slot: u32) -> bool {
        let is_matched = self.patterns.forget_matched(slot, index);
        let channel = &mut self.channels[index.index()];
        channel.matched_members -= u32::from(is_matched);
        self.await_attachment(index, slot)
    }

    /// The client in `slot` names `index` no longer, but goes on as a member because a pattern matches.
    pub fn unname(&mut self, index: ChannelIndex, slot: u32) {
        let channel = &mut self.channels[index.index()];
        channel.waiting.retain(|waiting| *waiting != slot);
        channel.matched_members += 1;
        self.patterns.note_matched(slot, index, false);
        self.list_change(index);
    }

    /// Nobody elsewhere names `index` any more, which is homed here: as long as somebody may read it because of a pattern it
    /// goes on as if a message had come at `now`. Linear in the patterns of other shards.
    pub fn linger(&mut self, index: ChannelIndex, now: Time) {
        let channel = &mut self.channels[index.index()];
        let mut others = self.patterns.known.values().filter(|known| known.shard != self.me);
        if channel.attachment == Attachment::Home && others.any(|it| it.pattern.matches(&channel.name)) {
            channel.matching.get_or_insert_default().used_at = now;
            self.list_lingering(index, now);
        }
    }

    fn list_lingering(&mut self, index: ChannelIndex, now: Time) {
        let due = now.after(PATTERN_LINGER);
        if let Some(matching) = &mut self.channels[index.index()].matching
            && matching.listed_for.is_none()
        {
            matching.listed_for = Some(due);
            self.lingering.insert((due, index));
        }
    }

    /// Whether `index` is kept, as patterns match, until nothing of it has come for [`PATTERN_LINGER`].
    pub(super) fn lingers(&self, index: ChannelIndex) -> bool {
        self.channels[index.index()].matching.as_ref().is_some_and(|matching| matching.listed_for.is_some())
    }

    /// When the next channel is to be looked at for whether it was quiet.
    pub fn next_lingering(&self) -> Time {
        self.lingering.first().map_or(Time::NEVER, |(due, _)| *due)
    }

    /// A channel that patterns match and that was quiet for [`PATTERN_LINGER`], if there is one. Call [`Hub::unmatch`], or
    /// [`Hub::keep_matched`] if it cannot be let go yet.
    pub fn next_quiet(&mut self, now: Time) -> Option<ChannelIndex> {
        while let Some((due, index)) = self.lingering.first().copied()
            && due <= now
        {
            self.lingering.pop_first();
            let Some(matching) =
                self.channels.get_mut(index.index()).and_then(|channel| channel.matching.as_mut())
            else {
                continue;
            };
            matching.listed_for = None;
            let due = matching.used_at.after(PATTERN_LINGER);
            if due <= now {
                return Some(index);
            }
            matching.listed_for = Some(due);
            self.lingering.insert((due, index));
        }
        None
    }

    /// The channel is looked at again after another [`PATTERN_LINGER`].
    pub fn keep_matched(&mut self, index: ChannelIndex, now: Time) {
        self.list_lingering(index, now);
    }

    /// Forgets which patterns match: the next message finds out again.
    pub fn unmatch(&mut self, index: ChannelIndex) {
        let channel = &mut self.channels[index.index()];
        if let Some(due) = channel.matching.take().and_then(|matching| matching.listed_for) {
            self.lingering.remove(&(due, index));
        }
        if let Some(numbering) = &mut channel.numbering {
            numbering.set_matched(std::iter::empty::<ShardId>());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Held, Numbering, Waiting};
    use super::*;
    use crate::model::Pattern;

    const NOW: Time = Time::ZERO;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn hold(hub: &mut Hub, slot: u32, text: &str) {
        let held = hub.patterns_mut().hold(&pattern(text), Waiting { slot, id: None }, 16);
        assert_eq!(held, Ok(Held::InForce));
    }

    fn wanting(hub: &Hub, index: ChannelIndex) -> Vec<u16> {
        hub.numbering(index).unwrap().interested_shards().map(|shard| shard.0).collect()
    }

    #[test]
    fn each_holder_is_named_once_however_many_of_its_patterns_match() {
        let mut hub = Hub::new(ShardId(0), 1, 1);
        hold(&mut hub, 1, "a.*");
        hold(&mut hub, 1, ">");
        hold(&mut hub, 2, "b.*");
        let index = hub.open(&name("a.b"));
        assert_eq!(hub.note_message(index, NOW), [1]);
        assert!(hub.note_message(index, NOW).is_empty());
        hold(&mut hub, 3, ">");
        hold(&mut hub, 4, "*.b");
        assert_eq!(hub.note_message(index, NOW), [3, 4]);
        assert!(hub.is_followed(index));
        [1, 3].into_iter().for_each(|slot| _ = hub.patterns_mut().release(slot, &pattern(">")));
        [1, 4].into_iter().for_each(|slot| _ = hub.patterns_mut().forget(slot));
        assert!(hub.note_message(index, NOW).is_empty());
        assert!(!hub.is_followed(index));
    }

    #[test]
    fn a_home_sends_to_shards_with_an_interest_or_a_pattern_to_each_once() {
        let mut hub = Hub::new(ShardId(0), 4, 1);
        let channel = (0..).map(|index| name(&format!("c{index}")));
        let channel = channel.into_iter().find(|it| ShardId::home_of(it, 4) == ShardId(0)).unwrap();
        let (index, _) = hub.note_interest(&channel, ShardId(1), 1, 0, 7);
        for (shard, text) in [(1, "*"), (2, ">"), (2, "*"), (3, "other.*")] {
            hub.patterns_mut().note_elsewhere(ShardId(shard), &pattern(text), true);
        }
        assert!(hub.note_message(index, NOW).is_empty());
        assert_eq!(wanting(&hub, index), [1, 2]);
        hub.patterns_mut().note_elsewhere(ShardId(2), &pattern(">"), false);
        hub.note_message(index, NOW);
        assert_eq!(wanting(&hub, index), [1, 2], "of two, one is left");
        hub.patterns_mut().note_elsewhere(ShardId(2), &pattern("*"), false);
        hub.note_message(index, NOW);
        assert_eq!(wanting(&hub, index), [1]);
        assert_eq!(hub.numbering(index).map(Numbering::remote_members), Some(1), "nobody else names it");
    }

    #[test]
    fn a_channel_that_only_patterns_match_is_kept_while_messages_come_and_a_while_longer() {
        let mut hub = Hub::new(ShardId(0), 2, 1);
        let channel = (0..).map(|index| name(&format!("c{index}")));
        let channel = channel.into_iter().find(|it| ShardId::home_of(it, 2) == ShardId(0)).unwrap();
        hub.patterns_mut().note_elsewhere(ShardId(1), &pattern(">"), true);
        let index = hub.open(&channel);
        hub.note_message(index, NOW);
        assert!(!hub.forget_if_idle(index, false), "its numbering goes on");
        let half = NOW.after(PATTERN_LINGER / 2);
        hub.note_message(index, half);
        assert_eq!(hub.next_quiet(NOW.after(PATTERN_LINGER)), None);
        assert_eq!(hub.next_lingering(), half.after(PATTERN_LINGER));
        assert_eq!(hub.next_quiet(half.after(PATTERN_LINGER)), Some(index));
        hub.unmatch(index);
        assert!(hub.forget_if_idle(index, false));
        assert_eq!((hub.len(), hub.next_lingering()), (0, Time::NEVER));
    }

    #[test]
    fn who_names_a_channel_beside_a_pattern_counts_and_who_only_matches_does_not() {
        let mut hub = Hub::new(ShardId(0), 2, 1);
        let channel = (0..).map(|index| name(&format!("c{index}")));
        let channel = channel.into_iter().find(|it| ShardId::home_of(it, 2) == ShardId(1)).unwrap();
        let held = hub.patterns_mut().hold(&pattern("*"), Waiting { slot: 5, id: None }, 16);
        let Ok(Held::Raised { ticket }) = held else { panic!("two shards") };
        hub.patterns_mut().confirm(ticket);
        let index = hub.open(&channel);
        assert_eq!(hub.note_message(index, NOW), [5]);
        let member = hub.join_matched(index, 5);
        assert_eq!((hub.subscribers(index), hub.attachment(index)), (0, Attachment::Detached));
        assert!(!hub.name_matched(index, 5), "it waits for its home's answer");
        let changes = hub.take_interest_changes();
        assert_eq!(changes.iter().map(|change| change.members).collect::<Vec<_>>(), [1]);
        assert_eq!(hub.attach(&channel, changes[0].ticket), Some((index, vec![5])));
        hub.unname(index, 5);
        assert_eq!(hub.take_interest_changes()[0].members, 0);
        assert_eq!((hub.members(index), hub.attachment(index)), (&[5][..], Attachment::Detached));
        hub.leave(index, member);
        assert!(hub.patterns().matched_by(5).is_empty());
        assert!(hub.take_interest_changes().is_empty());
        assert!(!hub.forget_if_idle(index, false), "the next message would look at every pattern again");
        assert_eq!(hub.next_quiet(NOW.after(PATTERN_LINGER)), Some(index));
        hub.unmatch(index);
        assert!(hub.forget_if_idle(index, false));
    }

    #[test]
    fn a_numbering_outlives_the_last_interest_while_a_pattern_may_be_why_it_is_read() {
        for (text, is_kept) in [("*", true), ("other", false)] {
            let mut hub = Hub::new(ShardId(0), 2, 1);
            let channel = (0..).map(|index| name(&format!("c{index}")));
            let channel = channel.into_iter().find(|it| ShardId::home_of(it, 2) == ShardId(0)).unwrap();
            let (index, _) = hub.note_interest(&channel, ShardId(1), 1, 0, 7);
            hub.patterns_mut().note_elsewhere(ShardId(1), &pattern(text), true);
            hub.note_interest(&channel, ShardId(1), 0, 0, 8);
            hub.linger(index, NOW);
            assert_eq!(hub.forget_if_idle(index, false), !is_kept);
            if is_kept {
                assert_eq!(hub.next_quiet(NOW.after(PATTERN_LINGER)), Some(index));
                hub.unmatch(index);
                assert!(hub.forget_if_idle(index, false), "no message came");
            }
        }
    }
}
