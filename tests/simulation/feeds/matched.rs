//! Judges a follower of a pattern: of every channel that matches it is due every message after the moment at which it
//! asked, when nothing was under way, in every numbering that there was since.

use tidegate::model::Epoch;

use super::follower::{Follower, Note, Word};
use super::judge::{Reading, Rest, Sums, end};
use super::truth::{Moment, Truth};

/// Judges `follower`. `ended`: its last moment, and what it may lack then.
pub fn judge_matched(
    truth: &Truth,
    follower: &Follower,
    ended: (Moment, Rest),
    sums: &mut Sums,
) -> Result<(), String> {
    let Some((pattern, asked)) = &follower.follows else { return Ok(()) };
    let mut readings: Vec<(usize, Epoch, Reading<'_>)> = Vec::new();
    for (index, channel) in truth.channels.iter().enumerate() {
        for stream in channel.streams.iter().filter(|_| pattern.matches(&channel.name)) {
            let base = stream.head_at_most(asked.turn);
            readings.push((index, stream.epoch, Reading::live(follower, channel, Some(stream), base)));
        }
    }
    let find = |readings: &[(usize, Epoch, Reading<'_>)], channel: usize, epoch: Epoch| {
        let is_it = |(other, of, _): &(usize, Epoch, Reading<'_>)| (*other, *of) == (channel, epoch);
        readings.iter().position(is_it).ok_or_else(|| format!("{epoch:?} of {channel} came unasked"))
    };
    for (place, Note { word, at }) in follower.notes.iter().enumerate() {
        match word {
            Word::Message { channel, position, id, key } => {
                let position = position.ok_or("a message without position")?;
                let channel = channel.ok_or("a message without channel")?;
                let index = find(&readings, channel, position.epoch)?;
                for (_, _, before) in readings[..index].iter().filter(|(of, ..)| *of == channel) {
                    if before.is_owed(*at)? {
                        return Err(format!("{position} came before all of the numbering before it"));
                    }
                }
                let (channel, _, reading) = &mut readings[index];
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
                let named = find(&readings, *channel, epoch)?;
                // Nothing of a numbering is passed before all of the one before it is accounted for.
                let mut index = named;
                for (place, (of, _, reading)) in readings[..named].iter().enumerate() {
                    if of == channel && reading.is_owed(*at)? {
                        index = place;
                        break;
                    }
                }
                let is_of_the_one_before = index < named && position.is_some();
                readings[index].2.is_cut_off |= is_of_the_one_before;
                let reading = &mut readings[index].2;
                reading.announced[*left as usize] += count;
                *sums.counted(*left) += count;
                if let Some(position) = position.filter(|_| !is_of_the_one_before) {
                    reading.check_id(position).map_err(|fault| format!("{left:?}: {fault}"))?;
                    reading.goes_on_after = position.offset.0;
                }
            }
            other => return Err(format!("{other:?} unasked")),
        }
    }
    for (_, _, reading) in readings {
        end(reading, ended.0, ended.1, sums)?;
    }
    Ok(())
}
