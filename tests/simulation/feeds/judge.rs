//! Holds what a follower was told of a channel against the truth: where it began, what came, what was left out and why.
//!
//! What a subscription is due is a list of offsets: first those of its snapshot, if it has one, then every one after its
//! begin. What comes must come in the order of that list. What is missing must be announced where it is missing, and for
//! each missing message one of the announced reasons must be a good one.

use tidegate::config::LagPolicy;
use tidegate::model::Position;

use super::follower::{Answer, Ask, Follower, Left, Note, Word};
use super::truth::{Channel, Entry, Moment, Stream, Truth};

/// What subscriptions add up to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sums {
    pub conflated: u64,
    pub expired: u64,
    pub skipped: u64,
    /// Left out for sure, told or not.
    pub missing: u64,
    pub own: u64,
    pub delivered: u64,
    /// How far cursors moved: at least, and at most.
    pub moved: (u64, u64),
    pub recovered: u64,
    pub replayed: u64,
    pub unrecovered: u64,
    pub snapshots: u64,
    pub snapshot_messages: u64,
    /// Channels that followers of patterns named, names that they gave up, and patterns.
    pub named: u64,
    pub unnamed: u64,
    pub unfollowed: u64,
}

impl Sums {
    /// Adds those of another seed.
    pub fn add(&mut self, other: &Self) {
        self.conflated += other.conflated;
        self.expired += other.expired;
        self.skipped += other.skipped;
        self.missing += other.missing;
        self.own += other.own;
        self.delivered += other.delivered;
        self.moved.0 += other.moved.0;
        self.moved.1 += other.moved.1;
        self.recovered += other.recovered;
        self.replayed += other.replayed;
        self.unrecovered += other.unrecovered;
        self.snapshots += other.snapshots;
        self.snapshot_messages += other.snapshot_messages;
        self.named += other.named;
        self.unnamed += other.unnamed;
        self.unfollowed += other.unfollowed;
    }

    pub(super) fn counted(&mut self, left: Left) -> &mut u64 {
        match left {
            Left::Conflated => &mut self.conflated,
            Left::Expired => &mut self.expired,
            Left::Skipped => &mut self.skipped,
        }
    }
}

/// A subscription while its notes are read.
pub(super) struct Reading<'a> {
    pub(super) follower: &'a Follower,
    pub(super) channel: &'a Channel,
    pub(super) stream: Option<&'a Stream>,
    /// Offsets of its snapshot.
    pub(super) states: Vec<u64>,
    /// Offset that what is live follows.
    pub(super) base: u64,
    /// How many of what it is due have come, or were announced and passed.
    pub(super) passed: u64,
    /// It is given what it missed before.
    pub(super) has_missed: bool,
    /// Of its snapshot, how many came.
    pub(super) states_seen: u64,
    /// Announced since all that was announced had been left out: conflated, expired, skipped.
    pub(super) announced: [u64; 3],
    /// Left out of what is live since then, by the reasons that there may be.
    pub(super) kinds: [u64; 8],
    pub(super) missing: u64,
    /// It was beyond the bounds since then.
    pub(super) is_beyond: bool,
    /// Where it goes on after, as it was told last.
    pub(super) goes_on_after: u64,
    /// The numbering ended before it had read to its end.
    pub(super) is_cut_off: bool,
}

impl<'a> Reading<'a> {
    /// One that is due every message of `stream` after `base`.
    pub(super) fn live(
        follower: &'a Follower,
        channel: &'a Channel,
        stream: Option<&'a Stream>,
        base: u64,
    ) -> Self {
        Self {
            follower,
            channel,
            stream,
            states: Vec::new(),
            base,
            passed: 0,
            has_missed: false,
            states_seen: 0,
            announced: [0; 3],
            kinds: [0; 8],
            missing: 0,
            is_beyond: false,
            goes_on_after: 0,
            is_cut_off: false,
        }
    }
}

impl Reading<'_> {
    fn due(&self, place: u64) -> u64 {
        let states = self.states.len() as u64;
        if place < states { self.states[place as usize] } else { self.base + 1 + (place - states) }
    }

    fn place(&self, offset: u64) -> Option<u64> {
        match offset.checked_sub(self.base + 1) {
            Some(place) => Some(self.states.len() as u64 + place),
            None => self.states.binary_search(&offset).ok().map(|place| place as u64),
        }
    }

    pub(super) fn entry(&self, place: u64) -> Result<&Entry, String> {
        let offset = self.due(place);
        let entry = self.stream.and_then(|stream| stream.entry(offset));
        entry.ok_or_else(|| format!("offset {offset} is nothing"))
    }

    fn is_own(&self, entry: &Entry) -> bool {
        entry.sender == Some(self.follower.number)
    }

    /// Good reasons to leave out what is due at `place`, by `moment`: superseded, expired, lost.
    fn excuses(&self, place: u64, hole: u64, moment: Moment) -> Result<[bool; 3], String> {
        let entry = self.entry(place)?;
        let Some(stream) = self.stream else { return Err("no stream".to_owned()) };
        let settings = &self.channel.settings;
        let is_state = place < self.states.len() as u64;
        // Who is given what it missed is as far behind as that.
        let is_slow = self.follower.is_slow || self.has_missed;
        let is_superseded = entry
            .successor
            .and_then(|next| stream.entry(next))
            .is_some_and(|next| next.taken.turn <= moment.turn);
        let may_conflate = is_state || settings.on_lag == LagPolicy::Conflate && is_slow;
        let behind = stream.bytes(self.due(hole), stream.head_at_most(moment.turn));
        let first = self.entry(hole)?.taken.time;
        let is_beyond = behind > settings.max_lag_bytes || moment.time.since(first) > settings.max_lag_age;
        let is_given_up = settings.on_lag != LagPolicy::Disconnect && (is_beyond || self.is_beyond);
        let is_expired = entry.may_be_expired(moment.time);
        // Of each key who conflates has the newest, however far it fell behind.
        let conflates = settings.on_lag == LagPolicy::Conflate && !is_state;
        let is_newest = conflates && entry.key.is_some() && !is_superseded && !is_expired;
        let may_lose = is_slow && (is_given_up && !is_newest || self.is_cut_off);
        Ok([is_superseded && may_conflate, is_expired, may_lose])
    }

    /// What is due up to `end` and did not come was left out for good reasons, and announced before.
    fn close_hole(&mut self, end: u64, moment: Moment, sums: &mut Sums) -> Result<(), String> {
        let hole = self.passed..end;
        let is_told = self.follower.is_told();
        let mut missing = 0;
        for place in hole.clone() {
            let entry = self.entry(place)?.clone();
            let is_state = place < self.states.len() as u64;
            if self.is_own(&entry) && !is_state {
                sums.own += 1;
                continue;
            }
            let [superseded, expired, lost] = self.excuses(place, hole.start, moment)?;
            self.is_beyond |= lost;
            let lost = lost && !(is_state && is_told && self.announced[2] == 0);
            let kind = usize::from(superseded) | usize::from(expired) << 1 | usize::from(lost) << 2;
            if kind == 0 {
                return Err(format!(
                    "offset {} was left out for nothing: {entry:?}, announced {:?}, hole {hole:?}, {:?}",
                    self.due(place),
                    self.announced,
                    self.states
                ));
            }
            // Of a snapshot nothing is counted: a newer message of the key comes. What has expired and is gone may count as
            // superseded.
            if !is_state {
                missing += 1;
                self.kinds[kind | usize::from(expired)] += 1;
            }
        }
        self.passed = end;
        let announced: u64 = self.announced.iter().sum();
        sums.missing += missing;
        if !is_told {
            return Ok(());
        }
        self.missing += missing;
        if self.missing > announced {
            let offsets: Vec<u64> = hole.take(10).map(|place| self.due(place)).collect();
            return Err(format!(
                "{} left out, {:?} announced: {offsets:?}, before {end}",
                self.missing, self.announced
            ));
        } else if self.missing == announced && announced > 0 {
            self.check_reasons()?;
        }
        Ok(())
    }

    /// Each message left out has a reason of its own among those announced: no set of reasons is wanted by more than were
    /// announced (Hall's theorem).
    fn check_reasons(&mut self) -> Result<(), String> {
        for set in 1..8_usize {
            let wanted: u64 = (1..8).filter(|kind| kind & !set == 0).map(|kind| self.kinds[kind]).sum();
            let offered: u64 = (0..3).filter(|bit| set >> bit & 1 == 1).map(|bit| self.announced[bit]).sum();
            if wanted > offered {
                let (announced, kinds) = (self.announced, self.kinds);
                return Err(format!("{announced:?} announced for {kinds:?} before {}", self.passed));
            }
        }
        (self.announced, self.kinds, self.missing, self.is_beyond) = ([0; 3], [0; 8], 0, false);
        Ok(())
    }

    pub(super) fn on_message(&mut self, offset: u64, at: Moment, sums: &mut Sums) -> Result<(), String> {
        let place = self.place(offset).ok_or_else(|| format!("{offset} is not due: {:?}", self.states))?;
        if place < self.passed {
            return Err(format!("{offset} came when {} was due", self.due(self.passed)));
        }
        let entry = self.entry(place)?;
        if self.is_own(entry) && place >= self.states.len() as u64 {
            return Err(format!("got back its own {offset}"));
        }
        if entry.is_expired(at.time) {
            return Err(format!("{offset} was written {at:?}, expired: {entry:?}"));
        }
        if entry.taken.turn > at.turn {
            return Err(format!("{offset} came before it was there: {entry:?}, {at:?}"));
        }
        if offset <= self.goes_on_after {
            return Err(format!("{offset} came after it was said to go on after {}", self.goes_on_after));
        }
        self.close_hole(place, at, sums)?;
        self.passed = place + 1;
        self.states_seen += u64::from(place < self.states.len() as u64);
        sums.delivered += 1;
        Ok(())
    }

    /// Where a subscription stands, as an id says it.
    pub(super) fn check_id(&self, position: Position) -> Result<(), String> {
        if self.stream.is_some_and(|stream| stream.epoch != position.epoch) {
            return Err(format!("id {position} of another stream"));
        }
        let states = self.states.len() as u64;
        let end = match position.offset.0.checked_sub(self.base) {
            Some(live) => states + live,
            None => self.states.partition_point(|state| *state <= position.offset.0) as u64,
        };
        let (missing, announced) = (self.left_out_by(end)?, self.announced.iter().sum());
        if missing > announced || end < self.passed {
            return Err(format!("id {position} after {} of {end}, {missing} of {announced}", self.passed));
        }
        Ok(())
    }

    /// How many are left out for one that passes all that it is due before `end` without being given any of it.
    fn left_out_by(&self, end: u64) -> Result<u64, String> {
        let mut missing = self.missing;
        for place in self.passed.min(end).max(self.states.len() as u64)..end {
            missing += u64::from(!self.is_own(self.entry(place)?));
        }
        Ok(missing)
    }

    /// Whether by `moment` something was due that did not come, and that no notice announced.
    pub(super) fn is_owed(&self, moment: Moment) -> Result<bool, String> {
        let head = self.stream.map_or(0, |stream| stream.head_at_most(moment.turn)).max(self.base);
        let all = self.states.len() as u64 + (head - self.base);
        Ok(self.left_out_by(all)? > self.announced.iter().sum())
    }
}

/// What the reply says is right: one of three outcomes, and the snapshot.
fn begin<'a>(
    follower: &'a Follower,
    channel: &'a Channel,
    ask: &Ask,
    answer: &Answer,
    at: Moment,
    sums: &mut Sums,
) -> Result<Reading<'a>, String> {
    let position = answer.position.ok_or("no position")?;
    let stream = channel.stream(position.epoch);
    let head_most = stream.map_or(0, |stream| stream.head_at_most(at.turn));
    if answer.recovered.is_some() != ask.since.is_some() {
        return Err(format!("asked for {ask:?}, got {answer:?}"));
    }
    let settled = stream.filter(|_| ask.is_settled).map_or(0, |stream| stream.head_at_least(ask.at.turn));
    let is_live = answer.recovered != Some(true);
    if is_live && !(settled..=head_most).contains(&position.offset.0) {
        return Err(format!("goes on after {position}, not within {settled}..={head_most}"));
    }
    match (answer.recovered, ask.since) {
        (Some(true), Some(since)) => {
            let replayed = answer.replayed.ok_or("no count")?;
            let head = since.offset.0 + replayed;
            if since != position || !(settled.max(since.offset.0)..=head_most).contains(&head) {
                return Err(format!("{ask:?} was answered with {answer:?}, head {settled}..={head_most}"));
            }
            sums.recovered += 1;
            sums.replayed += replayed;
        }
        (Some(false), Some(since)) => {
            let head = stream.map_or(0, |stream| stream.head_at_least(ask.at.turn));
            let window = stream.map_or(0, |stream| stream.window_from(&channel.settings, at));
            let is_there =
                since.epoch == position.epoch && (window..=head + 1).contains(&(since.offset.0 + 1));
            // Numbered, and perhaps not yet here when it was asked for.
            let is_known = ask.is_settled || since.offset.0 <= position.offset.0;
            if is_there && is_known {
                return Err(format!(
                    "{since} is within {window}..={head}, and was not recovered: {answer:?}"
                ));
            }
            sums.unrecovered += 1;
        }
        _ => {}
    }
    let has_snapshot = ask.snapshot && is_live && channel.keeps_states();
    let is_told = follower.is_told();
    if is_told && answer.snapshot.is_some() != has_snapshot {
        return Err(format!("asked for {ask:?}, got {answer:?}"));
    }
    let mut states = Vec::new();
    if has_snapshot {
        sums.snapshots += 1;
        states = snapshot(stream, position.offset.0, answer.snapshot, at)?;
        sums.snapshot_messages += states.len() as u64;
    }
    Ok(Reading {
        states,
        has_missed: answer.replayed.unwrap_or(0) > 0,
        ..Reading::live(follower, channel, stream, position.offset.0)
    })
}

/// Offsets of the snapshot as of `head`; `count` is how many there are said to be.
fn snapshot(stream: Option<&Stream>, head: u64, count: Option<u64>, at: Moment) -> Result<Vec<u64>, String> {
    let Some(stream) = stream else {
        return if count.unwrap_or(0) == 0 {
            Ok(Vec::new())
        } else {
            Err("a snapshot of nothing".to_owned())
        };
    };
    let mut states = stream.states(head);
    let Some(count) = count else { return Ok(states) };
    let missing = (states.len() as u64).checked_sub(count);
    let missing = missing.ok_or_else(|| format!("{count} states instead of {}", states.len()))? as usize;
    if missing > 0 {
        // Those that have expired need not be among them.
        let expiry = |offset: &u64| {
            let entry = stream.entry(*offset)?;
            entry.may_be_expired(at.time).then(|| entry.taken.time.after(entry.ttl.unwrap_or_default()))
        };
        let mut expired: Vec<_> =
            states.iter().filter_map(|offset| Some((expiry(offset)?, *offset))).collect();
        expired.sort_unstable();
        if expired.len() < missing {
            return Err(format!("{count} states instead of {states:?}, expired {expired:?}"));
        }
        let gone = &expired[..missing];
        states.retain(|offset| gone.iter().all(|(_, other)| other != offset));
    }
    Ok(states)
}

/// Whether the run's end, or that of a connection, found everything delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// It is all there.
    Nothing,
    /// Who knows how far it got.
    Unknown,
}

pub(super) fn end(mut reading: Reading<'_>, at: Moment, rest: Rest, sums: &mut Sums) -> Result<(), String> {
    let head = reading.stream.map_or(0, |stream| stream.head_at_most(at.turn)).max(reading.base);
    let all = reading.states.len() as u64 + (head - reading.base);
    let announced = |reading: &Reading<'_>| reading.announced.iter().sum::<u64>() - reading.missing;
    if rest == Rest::Nothing {
        reading.close_hole(all, at, sums)?;
        if announced(&reading) > 0 {
            return Err(format!("{} announced more than were left out", announced(&reading)));
        }
    }
    let states = reading.states.len() as u64;
    let live = |passed: u64| passed.saturating_sub(states) + reading.states_seen;
    let ahead = announced(&reading);
    if live(reading.passed) + ahead > live(all) + (states - reading.states_seen) {
        return Err(format!("{ahead} announced after {} of {all}", reading.passed));
    }
    sums.moved.0 += live(reading.passed);
    sums.moved.1 += live(all.max(reading.passed)) + if rest == Rest::Nothing { 0 } else { states };
    Ok(())
}

/// Judges a follower that is told everything. `ended`: its last moment, and what it may lack then.
pub fn judge_told(
    truth: &Truth,
    follower: &Follower,
    ended: (Moment, Rest),
    unsubscribed: Rest,
    sums: &mut Sums,
) -> Result<(), String> {
    let mut readings: Vec<(usize, Reading<'_>)> = Vec::new();
    let mut ids: Vec<Option<Position>> = Vec::new();
    for Note { word, at } in &follower.notes {
        match word {
            Word::Begun(ask, answer) => {
                let channel = &truth.channels[ask.channel];
                let reading = begin(follower, channel, ask, answer, *at, sums)?;
                let place = readings.len();
                let id = ids.get(place).copied().flatten();
                if id.is_some_and(|id| Some(id) != answer.position || !reading.states.is_empty()) {
                    return Err(format!("id {id:?} before {answer:?}: a resume would miss the snapshot"));
                }
                readings.push((ask.channel, reading));
            }
            Word::Message { channel, position, id, key } => {
                let position = position.ok_or("a message without position")?;
                let reading = readings.iter_mut().find(|(known, _)| Some(*known) == *channel);
                let (_, reading) = reading.ok_or_else(|| format!("{position} came unasked"))?;
                let epoch = reading.stream.map(|stream| stream.epoch);
                if epoch != Some(position.epoch) {
                    return Err(format!("{position} of another stream than {epoch:?}"));
                }
                reading.on_message(position.offset.0, *at, sums)?;
                let entry = reading.entry(reading.passed - 1)?;
                let has_key =
                    *channel == Some(entry.channel) && follower.tongue != super::follower::Tongue::Events;
                let is_it = match id {
                    Some(id) => *id == entry.id && !entry.is_deletion,
                    None => entry.is_deletion,
                };
                if !is_it || has_key && *key != entry.key {
                    return Err(format!("{position} is {id:?} of key {key:?}, not {entry:?}"));
                }
            }
            Word::Notice { channel, left, count, position } => {
                let reading = readings.iter_mut().find(|(known, _)| known == channel);
                let (_, reading) = reading.ok_or("a notice unasked")?;
                reading.announced[*left as usize] += count;
                *sums.counted(*left) += count;
                if *count == 0 {
                    return Err(format!("{left:?} of nothing"));
                }
                if let Some(position) = position {
                    reading.check_id(*position).map_err(|fault| format!("{left:?}: {fault}"))?;
                    reading.goes_on_after = position.offset.0;
                }
            }
            Word::Ids(positions) if readings.is_empty() => ids.clone_from(positions),
            Word::Ids(positions) => {
                for (place, position) in positions.iter().enumerate() {
                    if let (Some((_, reading)), Some(position)) = (readings.get(place), position) {
                        reading.check_id(*position)?;
                    }
                }
            }
            Word::Unsubscribed(channel) => {
                let place = readings.iter().position(|(known, _)| known == channel);
                let (_, reading) = readings.remove(place.ok_or("unsubscribed unasked")?);
                end(reading, *at, unsubscribed, sums)?;
            }
            other => return Err(format!("{other:?} unasked")),
        }
    }
    for (_, reading) in readings {
        end(reading, ended.0, ended.1, sums)?;
    }
    Ok(())
}

/// Judges a follower of one channel that gets payloads alone.
pub fn judge_plain(
    truth: &Truth,
    follower: &Follower,
    ended: (Moment, Rest),
    sums: &mut Sums,
) -> Result<(), String> {
    let mut notes = follower.notes.iter();
    let Some(Note { word: Word::Begun(ask, answer), at }) = notes.next() else { return Ok(()) };
    let channel = &truth.channels[ask.channel];
    let messages: Vec<_> = notes
        .map(|note| match &note.word {
            Word::Message { channel, id, .. } if channel.is_none_or(|channel| channel == ask.channel) => {
                Ok((*id, note.at))
            }
            other => Err(format!("{other:?}")),
        })
        .collect::<Result<_, _>>()?;
    let places: Vec<Option<Position>> = messages
        .iter()
        .map(|(id, _)| {
            id.map(|id| truth.place(id).map(|(_, place)| place).ok_or("never accepted")).transpose()
        })
        .collect::<Result<_, _>>()?;
    let first = places.iter().flatten().next();
    let mut answer = answer.clone();
    if answer.position.is_none() {
        // Not told where it began: before its first message, and not after what was accepted before its 101.
        let Some(first) = first else {
            let count = messages.len() as u64;
            sums.delivered += count;
            sums.moved.0 += count;
            sums.moved.1 += channel.streams.iter().map(Stream::head).max().unwrap_or(0);
            return Ok(());
        };
        let stream = channel.stream(first.epoch).ok_or("no stream")?;
        let mut base = (first.offset.0 - 1).min(stream.head_at_most(at.turn));
        // Empty messages before the first are deletions: of those that came after its 101 it may have had every one.
        let is_deletion = |offset: &u64| stream.entry(*offset).is_some_and(|entry| entry.is_deletion);
        let since = (base + 1..first.offset.0).filter(is_deletion).count();
        let empty = places.iter().take_while(|place| place.is_none()).count();
        let mut leading = empty.saturating_sub(since);
        while let Some(entry) = stream.entry(base).filter(|_| leading > 0) {
            if !entry.is_deletion && !entry.may_be_expired(messages[0].1.time) {
                break;
            }
            leading -= usize::from(entry.is_deletion);
            base -= 1;
        }
        answer.position = Some(Position { epoch: first.epoch, offset: tidegate::model::Offset(base) });
    }
    let mut reading = begin(follower, channel, ask, &answer, *at, sums)?;
    let epoch = answer.position.map(|position| position.epoch);
    let mut waiting: Vec<Moment> = Vec::new();
    let last = reading.stream.map_or(0, |stream| stream.head_at_most(ended.0.turn));
    let all = reading.states.len() as u64 + last.max(reading.base) - reading.base;
    for (place, (_, at)) in places.iter().zip(&messages) {
        let Some(place) = place else {
            waiting.push(*at);
            continue;
        };
        if Some(place.epoch) != epoch {
            return Err(format!("{place} of another stream"));
        }
        let next = reading.place(place.offset.0).ok_or_else(|| format!("{place} is not due"))?;
        deletions(&mut reading, next, true, &mut waiting, sums)?;
        reading.on_message(place.offset.0, *at, sums)?;
    }
    deletions(&mut reading, all, ended.1 == Rest::Nothing, &mut waiting, sums)?;
    end(reading, ended.0, ended.1, sums)
}

/// Messages without a payload came before what is due at `end`: they were the deletions there that there was least reason
/// to leave out, or the first ones if others `are_due` no more.
fn deletions(
    reading: &mut Reading<'_>,
    end: u64,
    are_due: bool,
    waiting: &mut Vec<Moment>,
    sums: &mut Sums,
) -> Result<(), String> {
    let Some(last) = waiting.last().copied() else { return Ok(()) };
    let mut found = Vec::new();
    for place in reading.passed..end {
        let entry = reading.entry(place)?;
        if entry.is_deletion && !reading.is_own(entry) && entry.taken.turn <= last.turn {
            let is_excused = reading.excuses(place, reading.passed, last)?.contains(&true);
            found.push((is_excused, std::cmp::Reverse(place)));
        }
    }
    if are_due {
        found.sort_unstable();
    }
    if found.len() < waiting.len() {
        return Err(format!("{} empty messages, {} deletions", waiting.len(), found.len()));
    }
    let mut places: Vec<u64> = found[..waiting.len()].iter().map(|(_, place)| place.0).collect();
    places.sort_unstable();
    for (place, at) in places.into_iter().zip(waiting.drain(..)) {
        let offset = reading.due(place);
        reading.on_message(offset, at, sums)?;
    }
    Ok(())
}
