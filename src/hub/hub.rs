//! Membership of this shard's connections, and interest between shards.
//!
//! A shard that is not a channel's home is attached to it while it has members: the first member raises an interest
//! with a fresh ticket, the home's answer with the same ticket makes the attachment live, the last member's leaving
//! withdraws. Joiners of a channel that is not live yet wait, so that nothing accepted after their reply is missed
//! (GUARANTEES E10).

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::deflater::Deflater;
use super::matching::Matching;
use super::numbering::{InterestOutcome, Numbering};
use super::patterns::Patterns;
use crate::model::{ChannelIndex, ChannelName, Epoch, ShardId, Time};

/// ```text
///            first member joins                    home answers with the ticket
/// (absent) ─────────────────────► Awaiting{ticket} ─────────────────────────────► Live{ticket}
///     ▲                              │ last member leaves                            │
///     └──────────────────────────────┴───────────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// This shard is the channel's home.
    Home,
    /// No members here, nothing asked for.
    Detached,
    /// Interest was raised; what arrives before the answer belongs to an earlier interest and is dropped.
    Awaiting {
        /// Of the interest.
        ticket: u64,
    },
    /// Messages arrive in order.
    Live {
        /// Of the interest.
        ticket: u64,
    },
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) members: Vec<u32>,
    pub(super) waiting: Vec<u32>,
    /// Members that read deflated messages.
    pub(super) deflating: u32,
    pub(super) attachment: Attachment,
    pub(super) numbering: Option<Box<Numbering>>,
    /// At the home, while some subscriber of the process reads deflated messages.
    pub(super) deflater: Option<Box<Deflater>>,
    pub(super) is_change_listed: bool,
    pub(super) has_raised_interest: bool,
    /// Members that do not name the channel: a pattern of theirs matches.
    pub(super) matched_members: u32,
    pub(super) matching: Option<Box<Matching>>,
}

impl Channel {
    /// Members that name the channel.
    fn named(&self) -> u32 {
        self.members.len() as u32 - self.matched_members
    }
}

/// A new member's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The channel.
    pub channel: ChannelIndex,
    /// Index among the channel's members; changes when another leaves ([`Left::moved`]).
    pub member: u32,
    /// Whether messages arrive already; if not, the joiner is named by [`Hub::attach`] later.
    pub is_live: bool,
}

/// What leaving changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// The connection slot that took the leaver's place among the members.
    pub moved: Option<u32>,
    /// Members that are left.
    pub members: u32,
}

/// A count that the home must learn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterestChange {
    /// Which channel.
    pub channel: ChannelName,
    /// Members here that name it; 0 withdraws.
    pub members: u32,
    /// Of those, members that read deflated messages.
    pub deflating: u32,
    /// Ticket of the interest.
    pub ticket: u64,
}

/// By names that clients choose: the hasher is keyed at random, so that nobody finds names that collide (GUARANTEES C13).
type ByName<Name> = HashMap<Name, ChannelIndex>;

/// Everything one shard knows of channels.
#[derive(Debug)]
pub struct Hub {
    pub(super) me: ShardId,
    pub(super) shards: usize,
    pub(super) channels: Slab<Channel>,
    pub(super) by_name: ByName<ChannelName>,
    pub(super) changed: Vec<ChannelIndex>,
    pub(super) homed: usize,
    pub(super) deflaters: usize,
    pub(super) next_ticket: u64,
    pub(super) epoch_state: u64,
    pub(super) patterns: Patterns,
    /// Channels that patterns match, by when to look whether they were quiet.
    pub(super) lingering: BTreeSet<(Time, ChannelIndex)>,
}

impl Hub {
    /// An empty hub of shard `me` among `shards`; `seed` makes its epochs.
    pub fn new(me: ShardId, shards: usize, seed: u64) -> Self {
        Self {
            me,
            shards,
            channels: Slab::new(),
            by_name: ByName::new(),
            changed: Vec::new(),
            homed: 0,
            deflaters: 0,
            next_ticket: 1,
            epoch_state: seed,
            patterns: Patterns::new(me, shards),
            lingering: BTreeSet::new(),
        }
    }

    /// Channels known here.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Of those, channels that are homed here.
    pub fn homed(&self) -> usize {
        self.homed
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The channel of this name, if it is known.
    pub fn find(&self, name: &ChannelName) -> Option<ChannelIndex> {
        self.by_name.get(name).copied()
    }

    /// Whether the channel is still known.
    pub fn contains(&self, index: ChannelIndex) -> bool {
        self.channels.contains(index.index())
    }

    /// The channel of this name, made if it is new. The home's numbering begins with it.
    pub fn open(&mut self, name: &ChannelName) -> ChannelIndex {
        if let Some(index) = self.find(name) {
            return index;
        }
        let is_home = ShardId::home_of(name, self.shards) == self.me;
        self.homed += usize::from(is_home);
        let numbering = is_home.then(|| Box::new(Numbering::new(self.fresh_epoch())));
        let attachment = if is_home { Attachment::Home } else { Attachment::Detached };
        let index = ChannelIndex(self.channels.insert(Channel {
            name: name.clone(),
            members: Vec::new(),
            waiting: Vec::new(),
            deflating: 0,
            attachment,
            numbering,
            deflater: None,
            is_change_listed: false,
            has_raised_interest: false,
            matched_members: 0,
            matching: None,
        }) as u32);
        self.by_name.insert(name.clone(), index);
        index
    }

    /// Adds the connection in `slot` to the members of `name`. Constant time.
    pub fn join(&mut self, name: &ChannelName, slot: u32) -> Joined {
        let index = self.open(name);
        let channel = &mut self.channels[index.index()];
        channel.members.push(slot);
        let member = channel.members.len() as u32 - 1;
        Joined { channel: index, member, is_live: self.await_attachment(index, slot) }
    }

    /// The member in `slot` names the channel: raises an interest if there is none. Says whether messages arrive already.
    pub(super) fn await_attachment(&mut self, index: ChannelIndex, slot: u32) -> bool {
        let ticket = self.next_ticket;
        let channel = &mut self.channels[index.index()];
        if channel.attachment == Attachment::Detached {
            channel.attachment = Attachment::Awaiting { ticket };
            self.next_ticket += 1;
        }
        let is_live = matches!(channel.attachment, Attachment::Home | Attachment::Live { .. });
        if !is_live {
            channel.waiting.push(slot);
        }
        self.list_change(index);
        is_live
    }

    /// Whether the member in `slot` waits for the answer of the home of `index`. Linear in those who wait.
    pub fn is_waiting(&self, index: ChannelIndex, slot: u32) -> bool {
        self.channels.get(index.index()).is_some_and(|channel| channel.waiting.contains(&slot))
    }

    /// Takes the `member`-th member off `index`. Constant time, unless it was still waiting.
    pub fn leave(&mut self, index: ChannelIndex, member: u32) -> Left {
        let channel = &mut self.channels[index.index()];
        let slot = channel.members.swap_remove(member as usize);
        channel.matched_members -= u32::from(self.patterns.forget_matched(slot, index));
        if !channel.waiting.is_empty() {
            channel.waiting.retain(|waiting| *waiting != slot);
        }
        let left = Left {
            moved: channel.members.get(member as usize).copied(),
            members: channel.members.len() as u32,
        };
        self.list_change(index);
        left
    }

    /// Slots of the members, in no order that means anything.
    pub fn members(&self, index: ChannelIndex) -> &[u32] {
        &self.channels[index.index()].members
    }

    /// The channel's name.
    pub fn name(&self, index: ChannelIndex) -> &ChannelName {
        &self.channels[index.index()].name
    }

    /// How this shard gets the channel's messages.
    pub fn attachment(&self, index: ChannelIndex) -> Attachment {
        self.channels[index.index()].attachment
    }

    /// The numbering, if this shard is the home.
    pub fn numbering(&self, index: ChannelIndex) -> Option<&Numbering> {
        self.channels[index.index()].numbering.as_deref()
    }

    /// The numbering, if this shard is the home.
    pub fn numbering_mut(&mut self, index: ChannelIndex) -> Option<&mut Numbering> {
        self.channels[index.index()].numbering.as_deref_mut()
    }

    /// Subscribers in the whole process that name the channel, as far as the home has heard.
    pub fn subscribers(&self, index: ChannelIndex) -> u64 {
        let channel = &self.channels[index.index()];
        u64::from(channel.named())
            + channel.numbering.as_ref().map_or(0, |numbering| numbering.remote_members())
    }

    /// An index that is beyond all channels.
    pub fn place_end(&self) -> u32 {
        self.channels.capacity() as u32
    }

    /// At the home: notes that `from` has `members` subscribers of `name`, `deflating` of which read deflated messages.
    /// Makes the channel if it is new.
    pub fn note_interest(
        &mut self,
        name: &ChannelName,
        from: ShardId,
        members: u32,
        deflating: u32,
        ticket: u64,
    ) -> (ChannelIndex, InterestOutcome) {
        let index = self.open(name);
        let outcome = self.numbering_mut(index).map_or(InterestOutcome::Noted, |numbering| {
            numbering.note_interest(from, members, deflating, ticket)
        });
        self.drop_idle_deflater(index);
        (index, outcome)
    }

    /// The home answered interest `ticket`: the attachment is live, if it is still the one that was asked for.
    /// Returns the slots that waited for it.
    pub fn attach(&mut self, name: &ChannelName, ticket: u64) -> Option<(ChannelIndex, Vec<u32>)> {
        let index = self.find(name)?;
        let channel = &mut self.channels[index.index()];
        if channel.attachment != (Attachment::Awaiting { ticket }) {
            return None;
        }
        channel.attachment = Attachment::Live { ticket };
        Some((index, std::mem::take(&mut channel.waiting)))
    }

    /// Whether a home is to be told something.
    pub fn has_interest_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What changed since the last call, a channel once however often it changed. Withdrawals detach.
    pub fn take_interest_changes(&mut self) -> Vec<InterestChange> {
        let mut changes = Vec::new();
        for index in std::mem::take(&mut self.changed) {
            let Some(channel) = self.channels.get_mut(index.index()) else { continue };
            channel.is_change_listed = false;
            let (Attachment::Awaiting { ticket } | Attachment::Live { ticket }) = channel.attachment else {
                continue;
            };
            let members = channel.named();
            if members == 0 {
                channel.attachment = Attachment::Detached;
                if !std::mem::take(&mut channel.has_raised_interest) {
                    continue;
                }
            } else {
                channel.has_raised_interest = true;
            }
            let deflating = channel.deflating;
            changes.push(InterestChange { channel: channel.name.clone(), members, deflating, ticket });
        }
        changes
    }

    /// Forgets the channel if nobody here or elsewhere needs it; `has_retained`: messages are kept for later.
    pub fn forget_if_idle(&mut self, index: ChannelIndex, has_retained: bool) -> bool {
        let channel = &self.channels[index.index()];
        let is_idle = channel.members.is_empty()
            && !has_retained
            && !channel.is_change_listed
            && matches!(channel.attachment, Attachment::Home | Attachment::Detached)
            // Else its next message would look at all patterns and holders anew.
            && !self.lingers(index)
            && !channel.numbering.as_ref().is_some_and(|it| it.has_interests() || it.has_matched());
        if is_idle {
            self.unmatch(index);
            let channel = self.channels.remove(index.index());
            self.by_name.remove(&channel.name);
            self.homed -= usize::from(channel.numbering.is_some());
            self.deflaters -= usize::from(channel.deflater.is_some());
        }
        is_idle
    }

    pub(super) fn list_change(&mut self, index: ChannelIndex) {
        let channel = &mut self.channels[index.index()];
        if channel.attachment != Attachment::Home && !channel.is_change_listed {
            channel.is_change_listed = true;
            self.changed.push(index);
        }
    }

    /// splitmix64 over the seed the shard was given: unguessable as far as the seed is.
    fn fresh_epoch(&mut self) -> Epoch {
        self.epoch_state = self.epoch_state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.epoch_state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Epoch(mixed ^ (mixed >> 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChannelSettings;
    use crate::config::limits::COMPRESSORS_MAX;
    use crate::model::Offset;

    fn name(text: &str) -> ChannelName {
        ChannelName::parse(text).unwrap()
    }

    /// A channel that is homed at shard `home` of two.
    fn homed(home: u16) -> ChannelName {
        (0..)
            .map(|index| name(&format!("c{index}")))
            .find(|name| ShardId::home_of(name, 2) == ShardId(home))
            .unwrap()
    }

    #[test]
    fn at_home_a_joiner_is_live_at_once_and_numbers_are_consecutive() {
        let mut hub = Hub::new(ShardId(0), 2, 1);
        let joined = hub.join(&homed(0), 5);
        assert!(joined.is_live);
        let numbering = hub.numbering_mut(joined.channel).unwrap();
        let first = numbering.take_next();
        assert_eq!((first.offset, numbering.take_next().offset), (Offset(1), Offset(2)));
        assert!(hub.take_interest_changes().is_empty());
    }

    #[test]
    fn away_from_home_joiners_wait_for_the_answer_to_their_own_interest() {
        let channel = homed(1);
        let mut hub = Hub::new(ShardId(0), 2, 1);
        assert!(!hub.join(&channel, 5).is_live);
        let first = hub.take_interest_changes();
        assert_eq!(first.iter().map(|change| change.members).collect::<Vec<_>>(), [1]);
        // It leaves and another comes before the answer: the first answer is void.
        let index = hub.find(&channel).unwrap();
        hub.leave(index, 0);
        assert_eq!(hub.take_interest_changes()[0].members, 0);
        assert!(!hub.join(&channel, 6).is_live);
        let second = hub.take_interest_changes();
        assert_ne!(first[0].ticket, second[0].ticket);
        assert_eq!(hub.attach(&channel, first[0].ticket), None);
        assert_eq!(hub.attach(&channel, second[0].ticket), Some((index, vec![6])));
        assert!(hub.join(&channel, 7).is_live);
    }

    #[test]
    fn the_home_answers_a_new_ticket_once_and_counts_members() {
        let channel = homed(0);
        let mut home = Hub::new(ShardId(0), 2, 1);
        let (index, outcome) = home.note_interest(&channel, ShardId(1), 1, 0, 7);
        assert_eq!(outcome, InterestOutcome::Attach);
        assert_eq!(home.note_interest(&channel, ShardId(1), 3, 0, 7).1, InterestOutcome::Noted);
        assert_eq!(home.subscribers(index), 3);
        assert!(!home.forget_if_idle(index, false));
        home.note_interest(&channel, ShardId(1), 0, 0, 7);
        assert!(!home.forget_if_idle(index, true));
        assert!(home.forget_if_idle(index, false));
        assert!(home.is_empty());
    }

    #[test]
    fn a_compressor_is_there_while_somebody_in_the_process_reads_deflated_messages() {
        let (channel, settings) = (homed(0), |_: &ChannelName| ChannelSettings::default());
        let mut home = Hub::new(ShardId(0), 2, 1);
        let index = home.join(&channel, 5).channel;
        assert!(home.deflater_mut(index, settings).is_none());
        home.begin_deflating(index);
        home.begin_deflating(index);
        assert!(home.deflater_mut(index, settings).is_some());
        home.note_interest(&channel, ShardId(1), 1, 1, 7);
        home.end_deflating(index);
        home.end_deflating(index);
        assert_eq!(home.deflating(index), 0);
        let same = home.deflater_mut(index, |_| unreachable!("it is still there"));
        assert!(same.is_some(), "somebody reads it on another shard");
        home.note_interest(&channel, ShardId(1), 1, 0, 7);
        assert!(home.deflater_mut(index, settings).is_none());
        assert_eq!(home.deflaters, 0);
    }

    #[test]
    fn a_shard_has_a_bounded_number_of_compressors() {
        let mut hub = Hub::new(ShardId(0), 1, 1);
        let open = |hub: &mut Hub, number: usize| {
            let index = hub.join(&name(&format!("c{number}")), 0).channel;
            hub.begin_deflating(index);
            let is_deflated = hub.deflater_mut(index, |_| ChannelSettings::default()).is_some();
            (index, is_deflated)
        };
        let first = open(&mut hub, 0).0;
        assert!((1..COMPRESSORS_MAX).all(|number| open(&mut hub, number).1));
        assert!(!open(&mut hub, COMPRESSORS_MAX).1);
        hub.end_deflating(first);
        assert!(open(&mut hub, COMPRESSORS_MAX + 1).1, "one is free");
    }

    #[test]
    fn the_home_learns_how_many_read_deflated_messages() {
        let mut hub = Hub::new(ShardId(0), 2, 1);
        let index = hub.join(&homed(1), 1).channel;
        hub.begin_deflating(index);
        let [change] = &hub.take_interest_changes()[..] else { panic!("one change") };
        assert_eq!((change.members, change.deflating), (1, 1));
        hub.end_deflating(index);
        assert_eq!(hub.take_interest_changes()[0].deflating, 0);
    }

    #[test]
    fn the_last_member_takes_the_place_of_the_one_that_left() {
        let mut hub = Hub::new(ShardId(0), 1, 1);
        let index = hub.join(&name("c"), 10).channel;
        hub.join(&name("c"), 11);
        hub.join(&name("c"), 12);
        assert_eq!(hub.leave(index, 0), Left { moved: Some(12), members: 2 });
        assert_eq!(hub.members(index), [12, 11]);
        assert_eq!(hub.leave(index, 1), Left { moved: None, members: 1 });
    }

    #[test]
    fn a_join_and_leave_within_one_turn_tells_the_home_nothing() {
        let mut hub = Hub::new(ShardId(0), 2, 1);
        let joined = hub.join(&homed(1), 1);
        hub.leave(joined.channel, joined.member);
        assert!(hub.take_interest_changes().is_empty());
        assert!(hub.forget_if_idle(joined.channel, false));
    }

    /// Comparisons of [`Counting`] names.
    static COMPARISONS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    /// A name that counts how often it is compared with another.
    #[derive(Eq)]
    struct Counting(String);

    impl std::hash::Hash for Counting {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    impl PartialEq for Counting {
        fn eq(&self, other: &Self) -> bool {
            COMPARISONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0 == other.0
        }
    }

    #[test]
    fn c13_names_that_collide_under_a_fixed_hash_cost_no_more_comparisons_than_others() {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        const NAMES: usize = 64;
        type Fixed = BuildHasherDefault<DefaultHasher>;
        // What a map looks at first: the lowest bits for where, the highest seven for whether.
        let marks = |name: &String| Fixed::default().hash_one(name) & (127 << 57 | 127);
        let wanted = marks(&"name0".to_owned());
        let names = || (0..).map(|index| format!("name{index}"));
        let colliding: Vec<String> = names().filter(|name| marks(name) == wanted).take(NAMES).collect();
        fn comparisons<S: BuildHasher>(
            mut map: HashMap<Counting, ChannelIndex, S>,
            names: Vec<String>,
        ) -> usize {
            let before = COMPARISONS.load(std::sync::atomic::Ordering::Relaxed);
            map.extend(names.into_iter().map(|name| (Counting(name), ChannelIndex(0))));
            COMPARISONS.load(std::sync::atomic::Ordering::Relaxed) - before
        }

        let fixed = comparisons(HashMap::with_hasher(Fixed::default()), colliding.clone());
        let random = comparisons(ByName::new(), names().take(NAMES).collect());
        let chosen = comparisons(ByName::new(), colliding);
        assert!(fixed > 20 * NAMES, "{fixed} under a fixed hash");
        assert!(chosen <= 2 * random + NAMES / 2, "{chosen} against {random}");
    }
}
