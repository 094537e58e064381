//! Where a subscription begins: at the head, after a position that the client has, or with a snapshot.

use super::connection::Connection;
use super::reactor::Reactor;
use super::tell::append_frame;
use super::turn::Shard;
use crate::config::Retain;
use crate::journal::{Cursor, Pace};
use crate::model::{ChannelIndex, Dialect, Offset, Position, SubscribeRequest, encoding};
use crate::session::{Recovery, Subscribed, Window, replies};

/// How long an event stream waits before it comes back after it was cut, in milliseconds: at least, and drawn on top.
const RETRY_MS: (u64, u64) = (1000, 4000);

/// What a client asked for and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Begun {
    channel: ChannelIndex,
    /// The next message comes after this one.
    position: Position,
    /// What became of `since`, if it was given.
    recovery: Option<Recovery>,
    /// Messages of the snapshot that comes first, if there is one.
    snapshot: Option<u64>,
}

impl Begun {
    /// Where a reader goes on that is cut before it has read anything. Behind the snapshot it would never get that.
    fn resumes_at(&self) -> Option<Position> {
        self.snapshot.is_none().then_some(self.position)
    }
}

impl<R: Reactor> Shard<R> {
    /// Begins every subscription of a connection whose channels are all live, and adds to `response` what it is to know.
    pub(super) fn begin_all(&mut self, slot: u32, requests: &[SubscribeRequest], response: &mut Vec<u8>) {
        let Some(dialect) = self.slots.get(slot).map(Connection::dialect) else { return };
        // Who comes for what is live from here on and knows nothing but messages is told nothing.
        let is_told = dialect != Dialect::Plain || requests.iter().any(|request| request.since.is_some());
        let mut begun = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            // It has subscribed to nothing else, and to these in this order.
            let subscriptions = self.slots.get(slot).map(|connection| connection.owed.subscriptions());
            let Some(subscription) = subscriptions.and_then(|all| all.get(index)) else { continue };
            let channel = subscription.channel;
            debug_assert_eq!(self.hub.name(channel), &request.channel);
            let one = self.begin(slot, channel, request);
            begun.extend(one.filter(|_| is_told));
        }
        match dialect {
            Dialect::Plain => add_headers(&begun, response),
            Dialect::V1 => {
                for begun in &begun {
                    append_frame(response, |out| self.append_subscribed(None, begun, out));
                }
            }
            Dialect::Events | Dialect::EnvelopedEvents => {
                encoding::append_retry(self.draw_retry_ms(), response);
                encoding::append_id(&begun.iter().map(Begun::resumes_at).collect::<Vec<_>>(), response);
                for begun in &begun {
                    let mut json = Vec::new();
                    self.append_subscribed(None, begun, &mut json);
                    encoding::append_notice_event("subscribed", &json, response);
                }
            }
        }
    }

    /// When an event stream is to come back, in milliseconds: another for each.
    pub(super) fn draw_retry_ms(&mut self) -> u64 {
        RETRY_MS.0 + self.reactor.random() % RETRY_MS.1
    }

    /// Appends the reply to `subscribe` command `id`, or to a channel that was named at connect.
    pub(super) fn append_subscribed(&self, id: Option<u64>, begun: &Begun, out: &mut Vec<u8>) {
        let Begun { channel, position, recovery, snapshot } = *begun;
        let Some(feed) = self.feeds.get(channel) else { return };
        let window = Window {
            messages: feed.settings.history_messages,
            age_ms: u64::try_from(feed.settings.history_age.as_millis()).unwrap_or(u64::MAX),
        };
        let channel = self.hub.name(channel);
        replies::append_subscribed(&Subscribed { id, channel, position, recovery, snapshot, window }, out);
    }

    /// Begins the subscription of `slot` to `channel`, which is live.
    pub(super) fn begin(
        &mut self,
        slot: u32,
        channel: ChannelIndex,
        request: &SubscribeRequest,
    ) -> Option<Begun> {
        let place = self.slots.get_mut(slot)?.owed.subscription_mut(channel)?;
        let reading = Some(place.cursor).filter(|cursor| !cursor.is_parked());
        let feed = self.feeds.get_mut(channel)?;
        let (epoch, next) = (feed.epoch, feed.journal.next());
        let first = feed.journal.first();
        // A client may name any number: of those that were never given none has a next one here.
        let since = request.since.filter(|since| since.epoch == epoch && since.offset < next);
        // What is there beyond history, because others lag, may go at any time: it is no promise.
        let is_history = |after: &Offset| {
            *after >= first && feed.journal.bytes_behind(*after) <= feed.settings.history_bytes
        };
        let after = since.map(|since| since.offset.next()).filter(is_history);
        feed.journal.expire(self.now);
        // Only a channel that keeps the newest message of each key has one.
        let keeps_states = feed.settings.retain == Retain::LatestPerKey;
        let has_snapshot = request.wants_snapshot && keeps_states && after.is_none();
        // It reads the channel already, as a pattern of its matches, and does not ask for another place.
        let goes_on = reading.filter(|_| request.since.is_none() && !has_snapshot);
        let (offset, pace) = match (after, goes_on) {
            (Some(after), _) => (after, Pace::Replay),
            (None, Some(cursor)) => (cursor.offset(), cursor.pace()),
            (None, None) if has_snapshot => (feed.journal.oldest(), Pace::Snapshot),
            (None, None) => (next, Pace::Every),
        };
        let recovery = request.since.map(|_| match after {
            Some(after) => Recovery::Replayed(next.0 - after.0),
            None => Recovery::Impossible,
        });
        let snapshot = has_snapshot.then(|| feed.journal.states() as u64);
        let members = self.hub.members(channel).len() as u32;
        match pace {
            Pace::Replay => feed.promise(offset, members),
            _ => feed.note_need(if has_snapshot { next } else { offset }, members),
        }
        match recovery {
            Some(Recovery::Replayed(messages)) => {
                self.counters.recovered.add(1);
                self.counters.replayed.add(messages);
            }
            Some(Recovery::Impossible) => self.counters.unrecovered.add(1),
            None => {}
        }
        self.counters.snapshots.add(u64::from(has_snapshot));
        if request.rate_max > 0 {
            let keys_max = usize::try_from(feed.settings.keys_per_channel).unwrap_or(usize::MAX);
            feed.journal.keep_keys(keys_max, false);
            self.sampled.insert(slot, channel, request.rate_max, self.now);
        }
        // Who is given nothing of before rests until something comes.
        let pace = if offset >= next && request.rate_max > 0 { Pace::Sampled } else { pace };
        let connection = self.slots.get_mut(slot)?;
        if goes_on.is_none() {
            connection.owed.forget_told(channel);
        }
        let ride = connection.owed.subscription_mut(channel)?.cursor.ride();
        connection.owed.begin_at(channel, Cursor::new(offset, ride).at_pace(pace), next);
        let before = after.or(goes_on.map(Cursor::offset)).unwrap_or(next);
        let position = Position { epoch, offset: Offset(before.0 - 1) };
        Some(Begun { channel, position, recovery, snapshot })
    }
}

/// Tells a client of plain messages in the head of the answer: where each channel stands, and what of it was recovered.
fn add_headers(begun: &[Begun], response: &mut Vec<u8>) {
    if begun.iter().all(|begun| begun.recovery.is_none()) || !response.ends_with(b"\r\n\r\n") {
        return;
    }
    let recovered = begun.iter().map(|begun| match begun.recovery {
        Some(Recovery::Replayed(messages)) => messages.to_string(),
        Some(Recovery::Impossible) => "gap".to_owned(),
        None => "-".to_owned(),
    });
    let recovered: Vec<_> = recovered.collect();
    let positions: Vec<_> = begun.iter().map(|begun| begun.position.to_string()).collect();
    response.truncate(response.len() - 2);
    response.extend_from_slice(
        format!(
            "Tidegate-Recovered: {}\r\nTidegate-Position: {}\r\n\r\n",
            recovered.join(", "),
            positions.join(", ")
        )
        .as_bytes(),
    );
}
