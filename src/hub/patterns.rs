//! Patterns that clients subscribe to: who holds which here, and which patterns other shards hold.
//!
//! A shard tells every other shard of a pattern when the first of its clients asks for it, and takes it back after the last;
//! it is in force here once all have answered. Holders and patterns get a rising serial, so that a channel that has looked
//! up to some serial need only look at what came later (`matching.rs`).

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::config::limits::PATTERNS_PER_SHARD_MAX;
use crate::model::{ChannelIndex, ChannelName, Pattern, ShardId};

/// When a pattern or a holder came: another and higher one for each.
pub(super) type Serial = u64;

/// A pattern that some shard holds.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) shard: ShardId,
    pub(super) pattern: Pattern,
    /// Of this shard, by when it was in force for them.
    pub(super) holders: BTreeMap<Serial, u32>,
    /// Of this shard, as long as it is not in force.
    waiting: Vec<Waiting>,
    /// Shards that have not answered.
    answers_due: usize,
}

/// A client that waits for a pattern to be in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// The connection.
    pub slot: u32,
    /// Of its command; none if the pattern was named when it connected.
    pub id: Option<u64>,
}

/// A client with patterns.
#[derive(Debug, Default)]
struct Holder {
    /// The pattern's serial, and that of this client as its holder once it is in force.
    patterns: Vec<(Serial, Option<Serial>)>,
    /// Channels that it reads only because a pattern matches.
    matched: HashSet<ChannelIndex>,
    /// Some channel found no room since it last joined one.
    is_full: bool,
}

/// What becomes of a client's wish for a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// It is in force.
    InForce,
    /// It is not yet; [`Patterns::confirm`] names the client when it is.
    Awaited,
    /// The same, and the other shards are to be told of it under this ticket.
    Raised {
        /// Goes with the answers.
        ticket: u64,
    },
}

/// Why a client may not have a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternRefusal {
    /// It has it.
    Twice,
    /// It has, or this shard has, as many as there may be.
    Limit,
}

/// What giving up a pattern changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Released {
    /// It was not in force yet: the client waited for it.
    pub waiting: Option<Waiting>,
    /// Nobody holds it here any more: the other shards are to be told.
    pub is_last: bool,
}

/// All patterns that a shard knows.
#[derive(Debug)]
pub struct Patterns {
    me: ShardId,
    shards: usize,
    pub(super) known: BTreeMap<Serial, Known>,
    by_name: HashMap<(ShardId, Pattern), Serial>,
    holders: HashMap<u32, Holder>,
    own: usize,
    /// Pairs of a client and a pattern.
    subscriptions: usize,
    pub(super) serial: Serial,
    /// Patterns that were taken back so far.
    pub(super) removals: u64,
}

impl Patterns {
    /// No patterns, on shard `me` of `shards`.
    pub(super) fn new(me: ShardId, shards: usize) -> Self {
        Self {
            me,
            shards,
            known: BTreeMap::new(),
            by_name: HashMap::new(),
            holders: HashMap::new(),
            own: 0,
            subscriptions: 0,
            serial: 0,
            removals: 0,
        }
    }

    /// Whether no shard holds any.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn me(&self) -> ShardId {
        self.me
    }

    /// Different patterns that clients of this shard hold.
    pub fn own(&self) -> usize {
        self.own
    }

    /// Pairs of a client of this shard and a pattern that it holds or waits for.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// The client in `waiting` wants `pattern`, and may have `max` of them.
    ///
    /// # Errors
    /// [`PatternRefusal`]: nothing changed.
    pub fn hold(&mut self, pattern: &Pattern, waiting: Waiting, max: usize) -> Result<Held, PatternRefusal> {
        let present = self.by_name.get(&(self.me, pattern.clone())).copied();
        let held = self.holders.get(&waiting.slot).map_or(&[][..], |holder| &holder.patterns);
        if held.iter().any(|(serial, _)| Some(*serial) == present) {
            return Err(PatternRefusal::Twice);
        }
        let is_new = present.is_none();
        if held.len() >= max || is_new && self.own >= PATTERNS_PER_SHARD_MAX {
            return Err(PatternRefusal::Limit);
        }
        let serial = present.unwrap_or_else(|| self.add(self.me, pattern));
        self.subscriptions += 1;
        if is_new {
            self.own += 1;
        }
        let answers_due = self.known.get(&serial).map_or(0, |known| known.answers_due);
        if answers_due == 0 {
            self.enter(serial, waiting.slot, true);
            return Ok(Held::InForce);
        }
        if let Some(known) = self.known.get_mut(&serial) {
            known.waiting.push(waiting);
        }
        self.holders.entry(waiting.slot).or_default().patterns.push((serial, None));
        Ok(if is_new { Held::Raised { ticket: serial } } else { Held::Awaited })
    }

    /// Another shard knows the pattern of `ticket`. Once all do, those who waited hold it, and are given back.
    pub fn confirm(&mut self, ticket: u64) -> Vec<Waiting> {
        // One that was taken back meanwhile, and asked for again, has another serial.
        let Some(known) = self.known.get_mut(&ticket).filter(|known| known.answers_due > 0) else {
            return Vec::new();
        };
        known.answers_due -= 1;
        if known.answers_due > 0 {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut known.waiting);
        for Waiting { slot, .. } in &waiting {
            self.enter(ticket, *slot, false);
        }
        waiting
    }

    /// The pattern of `ticket`, if it is held here.
    pub fn pattern_of(&self, ticket: u64) -> Option<&Pattern> {
        self.known.get(&ticket).map(|known| &known.pattern)
    }

    /// The client in `slot` gives up `pattern`; nothing if it does not hold it.
    pub fn release(&mut self, slot: u32, pattern: &Pattern) -> Option<Released> {
        let serial = self.by_name.get(&(self.me, pattern.clone())).copied()?;
        let patterns = &mut self.holders.get_mut(&slot)?.patterns;
        let place = patterns.iter().position(|(held, _)| *held == serial)?;
        let (_, in_force) = patterns.swap_remove(place);
        Some(self.let_go(slot, serial, in_force))
    }

    /// The client in `slot` is gone. Gives back the patterns that nobody holds here any more.
    pub fn forget(&mut self, slot: u32) -> Vec<Pattern> {
        if self.holders.is_empty() {
            return Vec::new();
        }
        let Some(holder) = self.holders.remove(&slot) else { return Vec::new() };
        let mut last = Vec::new();
        for (serial, in_force) in holder.patterns {
            let pattern = self.known.get(&serial).map(|known| known.pattern.clone());
            if self.let_go(slot, serial, in_force).is_last {
                last.extend(pattern);
            }
        }
        last
    }

    fn let_go(&mut self, slot: u32, serial: Serial, in_force: Option<Serial>) -> Released {
        self.subscriptions -= 1;
        let mut released = Released { waiting: None, is_last: false };
        let Some(known) = self.known.get_mut(&serial) else { return released };
        if let Some(in_force) = in_force {
            known.holders.remove(&in_force);
        } else if let Some(place) = known.waiting.iter().position(|waiting| waiting.slot == slot) {
            released.waiting = Some(known.waiting.swap_remove(place));
        }
        if known.holders.is_empty() && known.waiting.is_empty() {
            released.is_last = true;
            self.own -= 1;
            self.remove(serial);
        }
        released
    }

    /// `shard`, which is another, holds `pattern`, or no longer.
    pub fn note_elsewhere(&mut self, shard: ShardId, pattern: &Pattern, is_held: bool) {
        let present = self.by_name.get(&(shard, pattern.clone())).copied();
        match (present, is_held) {
            (None, true) => {
                self.add(shard, pattern);
            }
            (Some(serial), false) => self.remove(serial),
            _ => {}
        }
    }

    fn add(&mut self, shard: ShardId, pattern: &Pattern) -> Serial {
        let serial = self.next_serial();
        let known = Known {
            shard,
            pattern: pattern.clone(),
            holders: BTreeMap::new(),
            waiting: Vec::new(),
            answers_due: if shard == self.me { self.shards - 1 } else { 0 },
        };
        self.known.insert(serial, known);
        self.by_name.insert((shard, pattern.clone()), serial);
        serial
    }

    fn remove(&mut self, serial: Serial) {
        if let Some(known) = self.known.remove(&serial) {
            self.by_name.remove(&(known.shard, known.pattern));
            self.removals += 1;
        }
    }

    fn next_serial(&mut self) -> Serial {
        self.serial += 1;
        self.serial
    }

    /// The client in `slot` holds the pattern from here on; `is_new`: it did not even wait for it.
    fn enter(&mut self, pattern: Serial, slot: u32, is_new: bool) {
        let serial = self.next_serial();
        if let Some(known) = self.known.get_mut(&pattern) {
            known.holders.insert(serial, slot);
        }
        let patterns = &mut self.holders.entry(slot).or_default().patterns;
        if is_new {
            patterns.push((pattern, Some(serial)));
        } else if let Some(place) = patterns.iter_mut().find(|(held, _)| *held == pattern) {
            place.1 = Some(serial);
        }
    }

    /// Has every channel that matches a pattern of the client in `slot` look at it again.
    pub fn offer_again(&mut self, slot: u32) {
        let Some(holder) = self.holders.get_mut(&slot) else { return };
        holder.is_full = false;
        for (pattern, in_force) in &mut holder.patterns {
            let (Some(known), Some(serial)) = (self.known.get_mut(pattern), in_force) else { continue };
            known.holders.remove(serial);
            self.serial += 1;
            *serial = self.serial;
            known.holders.insert(*serial, slot);
        }
    }

    /// Whether the client in `slot` reads `channel` only because a pattern matches.
    pub fn is_matched(&self, slot: u32, channel: ChannelIndex) -> bool {
        self.holders.get(&slot).is_some_and(|holder| holder.matched.contains(&channel))
    }

    /// The client in `slot` reads `channel` because a pattern matches; `has_joined`: it did not before.
    pub(super) fn note_matched(&mut self, slot: u32, channel: ChannelIndex, has_joined: bool) {
        if let Some(holder) = self.holders.get_mut(&slot) {
            holder.is_full &= !has_joined;
            holder.matched.insert(channel);
        }
    }

    /// Says whether it was matched.
    pub(super) fn forget_matched(&mut self, slot: u32, channel: ChannelIndex) -> bool {
        self.holders.get_mut(&slot).is_some_and(|holder| holder.matched.remove(&channel))
    }

    /// A channel that matches found no room at the client in `slot`. Says whether that is to be told: once, until it has
    /// joined another.
    pub fn note_full(&mut self, slot: u32) -> bool {
        self.holders.get_mut(&slot).is_some_and(|holder| !std::mem::replace(&mut holder.is_full, true))
    }

    /// The client in `slot` has room for another channel: those that found none are offered again.
    pub fn note_room(&mut self, slot: u32) {
        if self.holders.get(&slot).is_some_and(|holder| holder.is_full) {
            self.offer_again(slot);
        }
    }

    /// A pattern in force of the client in `slot` that matches `channel`.
    pub fn held_for(&self, slot: u32, channel: &ChannelName) -> Option<&Pattern> {
        let patterns = self.holders.get(&slot)?.patterns.iter();
        let in_force = patterns.filter(|(_, in_force)| in_force.is_some());
        let mut known = in_force.filter_map(|(serial, _)| self.known.get(serial));
        known.find(|known| known.pattern.matches(channel)).map(|known| &known.pattern)
    }

    /// The channels that the client in `slot` reads only because a pattern matches.
    pub fn matched_by(&self, slot: u32) -> Vec<ChannelIndex> {
        self.holders.get(&slot).map(|holder| holder.matched.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether nobody holds or waits for any here.
    pub fn is_unheld(&self) -> bool {
        self.holders.values().all(|holder| holder.patterns.is_empty() && holder.matched.is_empty())
            && self.own == 0
            && self.subscriptions == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 16;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn client(slot: u32) -> Waiting {
        Waiting { slot, id: Some(7) }
    }

    #[test]
    fn a_pattern_is_in_force_once_every_other_shard_has_answered() {
        let mut patterns = Patterns::new(ShardId(1), 3);
        let Ok(Held::Raised { ticket }) = patterns.hold(&pattern("a.*"), client(1), MAX) else {
            panic!("raised")
        };
        assert_eq!(patterns.hold(&pattern("a.*"), client(2), MAX), Ok(Held::Awaited));
        assert_eq!(patterns.hold(&pattern("a.*"), client(2), MAX), Err(PatternRefusal::Twice));
        let name = ChannelName::parse("a.b").unwrap();
        assert_eq!(patterns.confirm(ticket), []);
        assert_eq!(patterns.held_for(1, &name), None);
        assert_eq!(patterns.confirm(ticket), [client(1), client(2)]);
        assert_eq!(patterns.held_for(1, &name), Some(&pattern("a.*")));
        assert_eq!(patterns.hold(&pattern("a.*"), client(3), MAX), Ok(Held::InForce));
        assert_eq!((patterns.own(), patterns.subscriptions()), (1, 3));
    }

    #[test]
    fn an_answer_to_a_pattern_that_was_given_up_and_asked_for_again_is_void() {
        let mut patterns = Patterns::new(ShardId(0), 2);
        let Ok(Held::Raised { ticket: first }) = patterns.hold(&pattern(">"), client(1), MAX) else {
            panic!()
        };
        let released = patterns.release(1, &pattern(">")).unwrap();
        assert_eq!(released, Released { waiting: Some(client(1)), is_last: true });
        let Ok(Held::Raised { ticket: second }) = patterns.hold(&pattern(">"), client(2), MAX) else {
            panic!()
        };
        assert_eq!(patterns.confirm(first), []);
        assert_eq!(patterns.confirm(second), [client(2)]);
    }

    #[test]
    fn the_last_holder_takes_a_pattern_back_and_leaves_nothing() {
        let mut patterns = Patterns::new(ShardId(0), 1);
        for slot in 1..=3 {
            assert_eq!(patterns.hold(&pattern(">"), client(slot), MAX), Ok(Held::InForce));
            assert_eq!(patterns.hold(&pattern(&format!("{slot}.*")), client(slot), MAX), Ok(Held::InForce));
        }
        assert_eq!(patterns.forget(1), [pattern("1.*")]);
        assert_eq!(patterns.release(2, &pattern(">")), Some(Released { waiting: None, is_last: false }));
        assert_eq!(patterns.release(2, &pattern(">")), None);
        let mut last = patterns.forget(3);
        last.sort_by_key(ToString::to_string);
        assert_eq!(last, [pattern("3.*"), pattern(">")]);
        assert_eq!(patterns.forget(2), [pattern("2.*")]);
        assert!(patterns.is_empty() && patterns.is_unheld());
    }

    #[test]
    fn who_comes_after_one_that_had_no_room_is_told_when_it_has_none() {
        let mut patterns = Patterns::new(ShardId(0), 1);
        patterns.hold(&pattern(">"), client(1), MAX).unwrap();
        assert!(patterns.note_full(1));
        assert!(!patterns.note_full(1), "once");
        patterns.release(1, &pattern(">"));
        assert!(patterns.is_empty());
        assert_eq!(patterns.forget(1), []);
        patterns.hold(&pattern(">"), client(1), MAX).unwrap();
        assert!(patterns.note_full(1));
    }

    #[test]
    fn a_channel_that_is_named_no_longer_makes_no_room() {
        let mut patterns = Patterns::new(ShardId(0), 1);
        patterns.hold(&pattern(">"), client(1), MAX).unwrap();
        assert!(patterns.note_full(1));
        let before = patterns.serial;
        patterns.note_matched(1, ChannelIndex(0), false);
        patterns.note_room(1);
        assert!(patterns.serial > before, "those that found none are offered again");
        patterns.note_matched(1, ChannelIndex(1), true);
        let before = patterns.serial;
        patterns.note_room(1);
        assert_eq!(patterns.serial, before, "all have joined");
    }

    #[test]
    fn patterns_of_a_connection_and_of_a_shard_are_bounded() {
        let mut patterns = Patterns::new(ShardId(0), 1);
        for index in 0..PATTERNS_PER_SHARD_MAX {
            let slot = (index / MAX) as u32;
            assert_eq!(patterns.hold(&pattern(&format!("{index}.*")), client(slot), MAX), Ok(Held::InForce));
        }
        assert_eq!(patterns.hold(&pattern("1023.*"), client(0), MAX), Err(PatternRefusal::Limit), "a 17th");
        assert_eq!(patterns.hold(&pattern("0.*"), client(1000), MAX), Ok(Held::InForce), "others hold it");
        assert_eq!(patterns.hold(&pattern("more.*"), client(1000), MAX), Err(PatternRefusal::Limit));
        patterns.forget(5);
        assert_eq!(patterns.hold(&pattern("more.*"), client(1000), MAX), Ok(Held::InForce));
    }
}
