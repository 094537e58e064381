//! What every stream holds: message by message, from receipts and replies, and when each got its number.
//!
//! Nothing here knows how a journal works: a stream is a list. What a channel keeps is a suffix of it, what supersedes a
//! message is the next one of its key, and the state is the last one of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::config::{ChannelSettings, Retain};
use tidegate::model::Receipt;
use tidegate::model::{ChannelName, Epoch, Position, Time};

use super::super::ledger::MessageId;

/// A moment of a run: the driver's count of turns, and the clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    pub turn: u64,
    pub time: Time,
}

/// One message. Where two moments stand, the truth lies between them.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: MessageId,
    pub channel: usize,
    pub key: Option<String>,
    pub is_deletion: bool,
    /// Of its plain frame.
    pub bytes: u64,
    /// When the gateway took it.
    pub taken: Moment,
    /// When its place was known at the latest.
    pub known: Moment,
    /// How long it lasts.
    pub ttl: Option<Duration>,
    /// The follower that sent it, if one did.
    pub sender: Option<usize>,
    /// Offset of the next message of its key.
    pub successor: Option<u64>,
}

impl Entry {
    /// Whether it may have expired by `time`.
    pub fn may_be_expired(&self, time: Time) -> bool {
        self.ttl.is_some_and(|ttl| self.taken.time.after(ttl) <= time)
    }

    /// Whether it has expired by `time` for sure. A follower's message was taken between its sending and its reply.
    pub fn is_expired(&self, time: Time) -> bool {
        let latest = if self.sender.is_some() { self.known.time } else { self.taken.time };
        self.ttl.is_some_and(|ttl| latest.after(ttl) <= time)
    }
}

/// One numbering of a channel.
#[derive(Debug)]
pub struct Stream {
    pub epoch: Epoch,
    entries: BTreeMap<u64, Entry>,
}

impl Stream {
    /// The message of `offset`.
    pub fn entry(&self, offset: u64) -> Option<&Entry> {
        self.entries.get(&offset)
    }

    /// Offset of the newest message, 0 if there is none.
    pub fn head(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(offset, _)| *offset)
    }

    /// The greatest head that it can have had by `turn`.
    pub fn head_at_most(&self, turn: u64) -> u64 {
        self.head_by(|entry| entry.taken.turn <= turn)
    }

    /// The head that it had by `turn` for sure.
    pub fn head_at_least(&self, turn: u64) -> u64 {
        self.head_by(|entry| entry.known.turn <= turn)
    }

    /// Moments never go back along a stream, see [`Truth::finish`].
    fn head_by(&self, is_there: impl Fn(&Entry) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.head());
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.entry(middle).is_none_or(&is_there) { low = middle } else { high = middle - 1 }
        }
        low
    }

    /// First offset that the channel must still hold at `moment` for those who come back.
    pub fn window_from(&self, settings: &ChannelSettings, moment: Moment) -> u64 {
        let head = self.head_at_most(moment.turn);
        let (mut from, mut bytes) = (head + 1, 0);
        while let Some(entry) = self.entry(from - 1) {
            bytes += entry.bytes;
            let is_within = head + 1 - (from - 1) <= settings.history_messages
                && bytes <= settings.history_bytes
                && moment.time.since(entry.taken.time) < settings.history_age;
            if !is_within {
                break;
            }
            from -= 1;
        }
        from
    }

    /// Offsets of the newest message of each key as of `head`, deleted keys left out.
    pub fn states(&self, head: u64) -> Vec<u64> {
        let newest = |(offset, entry): (&u64, &Entry)| {
            let is_newest = entry.key.is_some() && entry.successor.is_none_or(|next| next > head);
            (is_newest && !entry.is_deletion).then_some(*offset)
        };
        self.entries.range(..=head).filter_map(newest).collect()
    }

    /// Bytes of the messages in `from..=to`.
    pub fn bytes(&self, from: u64, to: u64) -> u64 {
        if from > to {
            return 0;
        }
        self.entries.range(from..=to).map(|(_, entry)| entry.bytes).sum()
    }
}

/// One channel and all its numberings.
#[derive(Debug)]
pub struct Channel {
    pub name: ChannelName,
    pub settings: ChannelSettings,
    pub streams: Vec<Stream>,
}

impl Channel {
    /// The stream of `epoch`.
    pub fn stream(&self, epoch: Epoch) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.epoch == epoch)
    }

    /// Whether every key's newest message is kept.
    pub fn keeps_states(&self) -> bool {
        self.settings.retain == Retain::LatestPerKey
    }
}

/// Everything that was published.
#[derive(Debug, Default)]
pub struct Truth {
    pub channels: Vec<Channel>,
    /// On their way, or numbered: a message is in one of the two.
    pub sent: HashMap<MessageId, Entry>,
    pub receipts: Arc<Mutex<Vec<(MessageId, Receipt)>>>,
    places: HashMap<MessageId, (usize, Position)>,
    pub fault: Option<String>,
}

impl Truth {
    /// The number of the channel that is called `name`.
    pub fn channel_named(&self, name: &str) -> Option<usize> {
        self.channels.iter().position(|channel| channel.name.as_str() == name)
    }

    /// Where the message `id` stands, if its place is known.
    pub fn place(&self, id: MessageId) -> Option<(usize, Position)> {
        self.places.get(&id).copied()
    }

    /// Takes in what the homes have numbered; gives the ids.
    pub fn absorb(&mut self, now: Moment) -> Vec<MessageId> {
        let news: Vec<_> = self.receipts.lock().expect("one thread").drain(..).collect();
        for (id, receipt) in &news {
            self.number(*id, receipt.position, now);
        }
        news.into_iter().map(|(id, _)| id).collect()
    }

    /// The message `id` has this place.
    pub fn number(&mut self, id: MessageId, position: Position, now: Moment) {
        let Some(mut entry) = self.sent.remove(&id) else {
            self.fault.get_or_insert(format!("{id:?} got a second number, {position}"));
            return;
        };
        let channel = entry.channel;
        let streams = &mut self.channels[channel].streams;
        entry.known = now;
        if entry.sender.is_none() {
            // A receipt comes in the very turn.
            entry.taken.turn = now.turn;
        }
        let place = streams.iter().position(|stream| stream.epoch == position.epoch);
        let place = place.unwrap_or_else(|| {
            streams.push(Stream { epoch: position.epoch, entries: BTreeMap::new() });
            streams.len() - 1
        });
        if let Some(other) = streams[place].entries.insert(position.offset.0, entry) {
            self.fault.get_or_insert(format!("{id:?} and {:?} got {position}", other.id));
        }
        self.places.insert(id, (channel, position));
    }

    /// Nothing more comes: checks that numbers are consecutive, and finds the successors.
    pub fn finish(&mut self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Some((id, _)) = self.sent.iter().next() {
            return Err(format!("{id:?} was never accepted"));
        }
        for channel in &mut self.channels {
            for stream in &mut channel.streams {
                let (first, count) = (stream.entries.keys().next().copied(), stream.entries.len() as u64);
                if first != Some(1) || stream.head() != count {
                    return Err(format!("{}: {count} numbers, the last is {}", channel.name, stream.head()));
                }
                let mut turn = 0;
                for entry in stream.entries.values_mut() {
                    turn = turn.max(entry.taken.turn);
                    entry.taken.turn = turn;
                }
                let mut known = None;
                let mut newest: HashMap<String, u64> = HashMap::new();
                for (offset, entry) in stream.entries.iter_mut().rev() {
                    let next = known.map_or(entry.known, |next: Moment| {
                        if entry.known.turn > next.turn { next } else { entry.known }
                    });
                    entry.known = next;
                    known = Some(next);
                    entry.successor = entry.key.clone().and_then(|key| newest.insert(key, *offset));
                }
            }
        }
        Ok(())
    }
}
