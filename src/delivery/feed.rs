//! A channel as this shard delivers it: its journal, what is kept of it, and the pass over its members.

use super::pass::Pass;
use crate::config::{ChannelSettings, LagPolicy, Retain};
use crate::journal::{Journal, Need, Ride, Window};
use crate::model::{Account, ChannelIndex, ChannelName, Charge, Encoding, Epoch, Offset, Publication, Time};

/// What members that came back were promised of what they missed.
#[derive(Clone, Copy, Debug)]
struct Promise {
    /// The first message that none of them was.
    until: Offset,
    /// The most that one of them was.
    bytes: u64,
}

/// One channel's journal and where its delivery stands.
#[derive(Debug)]
pub struct Feed {
    /// The messages.
    pub journal: Journal,
    /// The numbering they belong to.
    pub epoch: Epoch,
    /// What holds for the channel.
    pub settings: ChannelSettings,
    /// The visit of its members.
    pub pass: Pass,
    needed_from: Offset,
    unflushed_bytes: u64,
    promise: Promise,
    /// In this round some member was left with more, though its socket takes it.
    has_unfinished: bool,
    /// Members that read each of the journal's further strips, as [`Feed::begin_reading`] counts them.
    readers: Vec<(Ride, u32)>,
    /// What it and its journal hold.
    charge: Charge,
}

impl Feed {
    /// A feed whose first message will be `next` of `epoch`.
    pub fn new(settings: ChannelSettings, epoch: Epoch, next: Offset) -> Self {
        let mut journal = Journal::new(next);
        let is_retained = settings.retain == Retain::LatestPerKey;
        if is_retained || settings.on_lag == LagPolicy::Conflate {
            journal.keep_keys(usize::try_from(settings.keys_per_channel).unwrap_or(usize::MAX), is_retained);
        }
        Self {
            journal,
            epoch,
            settings,
            pass: Pass::default(),
            needed_from: next,
            unflushed_bytes: 0,
            promise: Promise { until: next, bytes: 0 },
            has_unfinished: false,
            readers: Vec::new(),
            charge: Charge::default(),
        }
    }

    /// Whether history keeps anything for those who come later.
    pub fn has_history(&self) -> bool {
        self.settings.history_messages > 0 || self.settings.retain == Retain::LatestPerKey
    }

    /// Adds a message and begins a pass over `members`.
    pub fn append(&mut self, offset: Offset, publication: &Publication, members: u32, now: Time) {
        if members == 0 {
            self.needed_from = offset.next();
        }
        self.journal.append(offset, publication);
        if members > 0 {
            if self.pass.is_over() {
                self.unflushed_bytes = 0;
            }
            self.unflushed_bytes += publication.frame.len() as u64;
            self.pass.restart(members, now);
        }
        self.retain(now);
    }

    /// Whether so much waits for a pass over healthy members that taking more could overtake one of them: the
    /// shard takes nothing from the bus until the pass has gone round, and the publisher is paced.
    pub fn is_congested(&self) -> bool {
        !self.pass.is_over() && self.unflushed_bytes > self.settings.max_lag_bytes / 2
    }

    /// Notes where `count` visited members stand, and whether their sockets take more; lets go of what nobody needs once
    /// all were seen. Call [`Feed::end_round`] after the last of those that were taken off the pass together.
    pub fn note_visits(&mut self, count: u32, cursor: Offset, is_ready: bool, members: u32, now: Time) {
        self.has_unfinished |= is_ready && cursor < self.journal.next();
        if let Some(least) = self.pass.note_cursors(count, cursor, members) {
            self.needed_from = self.needed_from.max(least);
            self.retain(now);
        }
    }

    /// Ends the pass if nobody is left to visit, or begins another round if one that takes more was not given
    /// everything (a write has a bound). Everybody taken off the pass must be noted: a new round begins a new circle.
    pub fn end_round(&mut self, members: u32, now: Time) {
        if !self.pass.is_over() {
            return;
        }
        if std::mem::take(&mut self.has_unfinished) {
            self.pass.restart(members, now);
        } else {
            self.unflushed_bytes = 0;
        }
    }

    /// A member joined at `cursor`.
    pub fn on_join(&mut self, cursor: Offset, members: u32) {
        self.needed_from = self.needed_from.min(cursor);
        self.pass.on_join(members);
    }

    /// A member reads what `ride` does: the strip is there from now on. Says how many messages were written for that.
    pub fn begin_reading(&mut self, ride: Ride, channel: &ChannelName) -> usize {
        if ride.encoding() == Encoding::Frame {
            return 0;
        }
        match self.readers.iter_mut().find(|(other, _)| *other == ride) {
            Some((_, readers)) => *readers += 1,
            None => self.readers.push((ride, 1)),
        }
        self.journal.keep_written(ride, true, channel, self.epoch)
    }

    /// A member that did has left. When the last of them has, the strip goes with [`Feed::drop_unread_strips`]: one who comes
    /// and goes has it written but once in between.
    pub fn end_reading(&mut self, ride: Ride) {
        let reader = self.readers.iter_mut().find(|(other, readers)| *other == ride && *readers > 0);
        if let Some((_, readers)) = reader {
            *readers -= 1;
        }
    }

    /// Lets go of strips that nobody reads.
    pub fn drop_unread_strips(&mut self, channel: &ChannelName) {
        while let Some(place) = self.readers.iter().position(|(_, readers)| *readers == 0) {
            let (ride, _) = self.readers.swap_remove(place);
            self.journal.keep_written(ride, false, channel, self.epoch);
        }
    }

    /// One of `members` needs the journal from `from` on, however the circle that is under way has noted it.
    pub fn note_need(&mut self, from: Offset, members: u32) {
        self.needed_from = self.needed_from.min(from);
        self.pass.restart_circle(members);
    }

    /// One of `members` is promised everything from `from` to the head: its lag is counted from there.
    pub fn promise(&mut self, from: Offset, members: u32) {
        // What is there beyond history, because others lag or were promised it, is not promised once more.
        let bytes = self.journal.bytes_behind(from).min(self.settings.history_bytes);
        self.promise = Promise { until: self.journal.next(), bytes: bytes.max(self.promised_bytes()) };
        self.note_need(from, members);
    }

    /// Bytes that may be kept beyond what may wait for slow members: none once nobody needs what was promised.
    fn promised_bytes(&self) -> u64 {
        if self.needed_from < self.promise.until { self.promise.bytes } else { 0 }
    }

    /// Goes on where `before` ended, with the same `members`: what they need and were promised holds here too. What `before`
    /// has of old messages and of news is for the caller to bring over.
    pub fn take_over(&mut self, before: &Self, members: u32) {
        self.promise = before.promise;
        self.note_need(before.needed_from, members);
    }

    /// The member at `left` left, and the last one has its place.
    pub fn on_leave(&mut self, left: u32, members: u32, now: Time) {
        self.pass.on_leave(left, members);
        if members == 0 {
            self.needed_from = self.journal.next();
            self.unflushed_bytes = 0;
            self.retain(now);
        }
    }

    /// Lets go of what age and bounds no longer keep.
    pub fn retain(&mut self, now: Time) {
        let window = Window {
            messages: self.settings.history_messages,
            bytes: self.settings.history_bytes,
            age: self.settings.history_age,
        };
        // What the running pass has not offered to everyone yet is kept beyond the bound: a subscriber is overtaken
        // for being slow, never because two messages came in one turn. Congestion keeps this small.
        let bytes_max = self.settings.max_lag_bytes.max(self.unflushed_bytes);
        let need = Need { from: self.needed_from, bytes_max: bytes_max + self.promised_bytes() };
        self.journal.retain(window, need, now);
        self.charge.set(size_of::<Self>() + self.journal.memory_bytes());
    }

    /// Whether more is kept than history asks for, though no pass runs: some member lags or has just caught up,
    /// and a round over all of them would tell.
    pub fn wants_round(&self) -> bool {
        self.pass.is_over() && !self.journal.is_empty() && self.needed_from < self.journal.next()
    }
}

/// The feeds of one shard, by channel.
#[derive(Debug, Default)]
pub struct Feeds {
    slots: Vec<Option<Box<Feed>>>,
    account: Account,
}

impl Feeds {
    /// The channel's feed, if it has one.
    pub fn get(&self, channel: ChannelIndex) -> Option<&Feed> {
        self.slots.get(channel.index())?.as_deref()
    }

    /// The channel's feed, if it has one.
    pub fn get_mut(&mut self, channel: ChannelIndex) -> Option<&mut Feed> {
        self.slots.get_mut(channel.index())?.as_deref_mut()
    }

    /// Gives the channel a feed; an older one is dropped.
    pub fn insert(&mut self, channel: ChannelIndex, feed: Feed) -> &mut Feed {
        if self.slots.len() <= channel.index() {
            self.slots.resize_with(channel.index() + 1, || None);
        }
        let feed = self.slots[channel.index()].insert(Box::new(feed));
        feed.charge = Charge::to(&self.account);
        feed.charge.set(size_of::<Feed>() + feed.journal.memory_bytes());
        feed
    }

    /// Bytes that all feeds and their journals hold, as of what was last added or let go of. Constant time.
    pub fn memory_bytes(&self) -> usize {
        self.account.bytes()
    }

    /// Takes the channel's feed out.
    pub fn take(&mut self, channel: ChannelIndex) -> Option<Box<Feed>> {
        self.slots.get_mut(channel.index())?.take()
    }

    /// Drops the channel's feed.
    pub fn remove(&mut self, channel: ChannelIndex) {
        if let Some(slot) = self.slots.get_mut(channel.index()) {
            *slot = None;
        }
    }

    /// Up to `count` channels that have a feed, from index `from` on, in order.
    pub fn indices_from(&self, from: u32, count: usize) -> impl Iterator<Item = ChannelIndex> {
        let slots = self.slots.get(from as usize..).unwrap_or_default().iter().zip(from..);
        slots.filter_map(|(slot, index)| slot.is_some().then_some(ChannelIndex(index))).take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PayloadKind;

    fn feed(messages: u64) -> Feed {
        let mut feed = Feed::new(ChannelSettings::default(), Epoch(1), Offset(1));
        for offset in 1..=messages {
            let publication = Publication::encode(name(), PayloadKind::Text, b"1", Time::ZERO, None);
            feed.append(Offset(offset), &publication, 2, Time::ZERO);
        }
        feed
    }

    fn name() -> ChannelName {
        ChannelName::parse("c").unwrap()
    }

    /// It waited for other channels meanwhile, and goes back to what history has.
    #[test]
    fn a_member_that_was_noted_at_the_head_and_goes_back_keeps_what_it_needs() {
        let mut feed = feed(10);
        assert_eq!(feed.journal.first(), Offset(1));
        feed.note_visits(1, Offset(11), false, 2, Time::ZERO);
        feed.note_need(Offset(4), 2);
        feed.note_visits(1, Offset(11), false, 2, Time::ZERO);
        assert!(feed.journal.first() <= Offset(4));
        feed.note_visits(1, Offset(4), false, 2, Time::ZERO);
        assert_eq!(feed.journal.first(), Offset(4));
    }

    /// Whatever comes in the turn in which it came back, and as much as any other may lag after that.
    #[test]
    fn who_came_back_is_not_overtaken_for_what_it_was_promised() {
        let message = |offset| {
            let publication = Publication::encode(name(), PayloadKind::Text, &[0; 98], Time::ZERO, None);
            (Offset(offset), publication)
        };
        let settings = ChannelSettings {
            history_messages: 10,
            max_lag_bytes: 500,
            history_age: std::time::Duration::from_secs(60),
            ..ChannelSettings::default()
        };
        for promised_from in [1, 6, 11] {
            let mut feed = Feed::new(settings, Epoch(1), Offset(1));
            for offset in 1..=10 {
                let (offset, publication) = message(offset);
                feed.append(offset, &publication, 0, Time::ZERO);
            }
            feed.promise(Offset(promised_from), 1);
            // It has been visited, and takes nothing.
            let lag = |feed: &mut Feed, offset| {
                let (offset, publication) = message(offset);
                feed.append(offset, &publication, 1, Time::ZERO);
                feed.pass.next_member(1);
                feed.note_visits(1, Offset(promised_from), false, 1, Time::ZERO);
                feed.end_round(1, Time::ZERO);
            };
            (11..=15).for_each(|offset| lag(&mut feed, offset));
            assert!(feed.journal.first() <= Offset(promised_from), "500 bytes came since");
            // History does not reach as far any more.
            (16..=25).for_each(|offset| lag(&mut feed, offset));
            assert!(feed.journal.first() > Offset(promised_from));
            assert!(feed.journal.bytes_behind(feed.journal.first()) <= 1500, "no more than both");
        }
    }

    /// Each of them asks for all that there is, and takes nothing.
    #[test]
    fn those_who_come_back_again_and_again_hold_no_more_than_one() {
        let settings = ChannelSettings {
            history_messages: 10,
            history_bytes: 1000,
            max_lag_bytes: 500,
            ..ChannelSettings::default()
        };
        let mut feed = Feed::new(settings, Epoch(1), Offset(1));
        let mut most = 0;
        for offset in 1..=1000 {
            let publication = Publication::encode(name(), PayloadKind::Text, &[0; 98], Time::ZERO, None);
            feed.append(Offset(offset), &publication, 1, Time::ZERO);
            feed.promise(feed.journal.first(), 1);
            feed.pass.next_member(1);
            feed.note_visits(1, feed.journal.first(), false, 1, Time::ZERO);
            feed.end_round(1, Time::ZERO);
            most = most.max(feed.journal.bytes_behind(feed.journal.first()));
        }
        assert_eq!(most, 1500);
    }

    #[test]
    fn who_comes_and_goes_has_a_strip_written_but_once() {
        let mut feed = feed(10);
        assert_eq!(feed.begin_reading(Ride::Envelope, &name()), 10);
        for _ in 0..100 {
            feed.end_reading(Ride::Envelope);
            assert_eq!(feed.begin_reading(Ride::Envelope, &name()), 0);
        }
        feed.drop_unread_strips(&name());
        assert_eq!(feed.journal.written_strips(), 1);
        feed.end_reading(Ride::Envelope);
        feed.drop_unread_strips(&name());
        assert_eq!(feed.journal.written_strips(), 0);
    }
}
