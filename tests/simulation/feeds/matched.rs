//! Judges a follower of patterns: of every channel that one matches it is due every message after the moment at which it
//! asked, when nothing was under way, in every numbering that there was since, until nothing that it holds matches the
//! channel or names it. While it names a channel, that goes on in the numbering in which it was named.

use tidegate::model::{Epoch, Position};

use super::follower::{Follower, Following, Held, Note, Word};
use super::judge::{Reading, Rest, Sums, end};
use super::truth::{Moment, Truth};

/// One numbering of one channel that the follower is due.
struct Due<'a> {
    channel: usize,
    epoch: Epoch,
    reading: Reading<'a>,
}

/// Everything that it is due, each channel's numberings in their order.
struct Matched<'a> {
    truth: &'a Truth,
    follower: &'a Follower,
    held: Held,
    due: Vec<Due<'a>>,
}

impl<'a> Matched<'a> {
    fn place(&self, channel: usize, epoch: Epoch) -> Option<usize> {
        self.due.iter().position(|due| (due.channel, due.epoch) == (channel, epoch))
    }

    fn find(&self, channel: usize, epoch: Epoch) -> Result<usize, String> {
        self.place(channel, epoch).ok_or_else(|| format!("{epoch:?} of {channel} came unasked"))
    }

    /// The first of the numberings of `channel` before `place` of which something is due.
    fn owed_before(&self, channel: usize, place: usize, at: Moment) -> Result<Option<usize>, String> {
        for (index, due) in self.due[..place].iter().enumerate() {
            if due.channel == channel && due.reading.is_owed(at)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// It has one pattern more: of channels that are new to it, what comes from now on is due.
    fn follow(&mut self, following: &Following) {
        for (index, channel) in self.truth.channels.iter().enumerate() {
            if !following.pattern.matches(&channel.name) || self.held.has(index, self.truth) {
                continue;
            }
            for stream in &channel.streams {
                let base = stream.head_at_most(following.asked.turn);
                let reading = Reading::live(self.follower, channel, Some(stream), base);
                self.due.push(Due { channel: index, epoch: stream.epoch, reading });
            }
        }
    }

    /// Nothing is due of channels that it does not hold any more.
    fn let_go(&mut self, at: Moment, rest: Rest, sums: &mut Sums) -> Result<(), String> {
        let (truth, held) = (self.truth, &self.held);
        for gone in self.due.extract_if(.., |due| !held.has(due.channel, truth)) {
            end(gone.reading, at, rest, sums)?;
        }
        Ok(())
    }

    /// It names `channel` and stands at `position`: where it stood before.
    fn name(&mut self, channel: usize, position: Position, at: Moment) -> Result<(), String> {
        let place = self.place(channel, position.epoch);
        if let Some(before) = self.owed_before(channel, place.unwrap_or(self.due.len()), at)? {
            return Err(format!("named at {position}, and lacks some of {:?}", self.due[before].epoch));
        }
        let Some(place) = place else {
            // A numbering that never came to have a message.
            let is_new =
                position.offset.0 == 0 && self.truth.channels[channel].stream(position.epoch).is_none();
            return if is_new { Ok(()) } else { Err(format!("named at {position}, which it had not")) };
        };
        let reading = &self.due[place].reading;
        if position.offset.0 < reading.base {
            return Err(format!("named at {position}, before {}", reading.base));
        }
        reading.check_id(position).map_err(|fault| format!("named: {fault}"))
    }
}

/// Judges `follower`. `ended`: its last moment, and what it may lack then; `given_up`: what it may lack of what it wanted no
/// more.
pub fn judge_matched(
    truth: &Truth,
    follower: &Follower,
    ended: (Moment, Rest),
    given_up: Rest,
    sums: &mut Sums,
) -> Result<(), String> {
    let mut matched = Matched { truth, follower, held: Held::default(), due: Vec::new() };
    for (place, Note { word, at }) in follower.notes.iter().enumerate() {
        match word {
            Word::Message { channel, position, id, key } => {
                let position = position.ok_or("a message without position")?;
                let channel = channel.ok_or("a message without channel")?;
                let index = matched.find(channel, position.epoch)?;
                if matched.held.named(channel).is_some_and(|epoch| epoch != position.epoch) {
                    return Err(format!("{position} came of a channel named in another numbering"));
                }
                if matched.owed_before(channel, index, *at)?.is_some() {
                    return Err(format!("{position} came before all of the numbering before it"));
                }
                let Due { channel, reading, .. } = &mut matched.due[index];
                reading.on_message(position.offset.0, *at, sums)?;
                let entry = reading.entry(reading.passed - 1)?;
                let is_it = id.map_or(entry.is_deletion, |id| id == entry.id && !entry.is_deletion);
                if !is_it || *channel != entry.channel || *key != entry.key {
                    return Err(format!("{position} is {id:?} of key {key:?}, not {entry:?}"));
                }
            }
            Word::Notice { channel, left, count, position } => {
                // Without a position it is about the numbering of what comes next.
                let next = follower.notes[place + 1..].iter().find_map(|note| match &note.word {
                    Word::Message { channel: of, position, .. } if *of == Some(*channel) => *position,
                    Word::Notice { channel: of, position, .. } if of == channel => *position,
                    _ => None,
                });
                let last = truth.channels[*channel].streams.last().map(|stream| stream.epoch);
                let epoch = position.or(next).map(|it| it.epoch).or(last).ok_or("a notice of nothing")?;
                let named = matched.find(*channel, epoch)?;
                // Nothing of a numbering is passed before all of the one before it is accounted for.
                let index = matched.owed_before(*channel, named, *at)?.unwrap_or(named);
                let is_of_the_one_before = index < named && position.is_some();
                let reading = &mut matched.due[index].reading;
                reading.is_cut_off |= is_of_the_one_before;
                reading.announced[*left as usize] += count;
                *sums.counted(*left) += count;
                if let Some(position) = position.filter(|_| !is_of_the_one_before) {
                    reading.check_id(position).map_err(|fault| format!("{left:?}: {fault}"))?;
                    reading.goes_on_after = position.offset.0;
                }
            }
            Word::Followed(following) => matched.follow(following),
            Word::Named(channel, position) => {
                sums.named += 1;
                matched.name(*channel, *position, *at)?;
            }
            Word::Unfollowed(_) => sums.unfollowed += 1,
            Word::Unnamed(_) => sums.unnamed += 1,
            other => return Err(format!("{other:?} unasked")),
        }
        matched.held.absorb(word);
        if matches!(word, Word::Unfollowed(_) | Word::Unnamed(_)) {
            matched.let_go(*at, given_up, sums)?;
        }
    }
    for due in matched.due {
        end(due.reading, ended.0, ended.1, sums)?;
    }
    Ok(())
}
