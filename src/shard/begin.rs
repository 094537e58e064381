//! Where a subscription begins: at the head, after a position that the client has, or with a snapshot.

use super::reactor::Reactor;
use super::turn::Shard;
use crate::journal::{Cursor, Pace};
use crate::model::{ChannelIndex, Dialect, Offset, Position, SubscribeRequest};

/// What a client asked for and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Begun {
    /// The next message comes after this one.
    pub position: Position,
    /// Set when it asked for what came after a position: how many messages that is, or that not all of them are kept.
    pub recovered: Option<Recovered>,
    /// The newest message of each key comes first.
    pub has_snapshot: bool,
}

/// Whether a client is given all that it missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recovered {
    /// All of it: so many messages.
    Replayed(u64),
    /// It cannot be: some are not kept, or they are of another numbering.
    Gap,
}

impl<R: Reactor> Shard<R> {
    /// Begins every subscription of a connection whose channels are all live, and adds to `response` what it is to know.
    pub(super) fn begin_all(&mut self, slot: u32, requests: &[SubscribeRequest], response: &mut Vec<u8>) {
        let mut begun = Vec::with_capacity(requests.len());
        for request in requests {
            if let Some(channel) = self.hub.find(&request.channel) {
                begun.extend(self.begin(slot, channel, request));
            }
        }
        let Some(connection) = self.slots.get(slot) else { return };
        if connection.dialect() == Dialect::Plain {
            add_headers(&begun, response);
        }
    }

    /// Begins the subscription of `slot` to `channel`, which is live.
    pub(super) fn begin(
        &mut self,
        slot: u32,
        channel: ChannelIndex,
        request: &SubscribeRequest,
    ) -> Option<Begun> {
        let feed = self.feeds.get_mut(channel)?;
        let (epoch, next) = (feed.epoch, feed.journal.next());
        let first = feed.journal.first();
        let after = request.since.filter(|since| since.epoch == epoch).map(|since| since.offset.next());
        let after = after.filter(|after| (first..=next).contains(after));
        let has_snapshot = request.wants_snapshot && after.is_none();
        let (offset, pace) = match after {
            Some(after) => (after, Pace::Replay),
            None if has_snapshot => (feed.journal.oldest(), Pace::Snapshot),
            None => (next, Pace::Every),
        };
        let recovered = request.since.map(|_| match after {
            Some(after) => Recovered::Replayed(next.0 - after.0),
            None => Recovered::Gap,
        });
        feed.note_need(if has_snapshot { next } else { offset });
        match recovered {
            Some(Recovered::Replayed(messages)) => {
                self.counters.recovered.add(1);
                self.counters.replayed.add(messages);
            }
            Some(Recovered::Gap) => self.counters.unrecovered.add(1),
            None => {}
        }
        self.counters.snapshots.add(u64::from(has_snapshot));
        let connection = self.slots.get_mut(slot)?;
        let ride = connection.owed.subscription_mut(channel)?.cursor.ride();
        connection.owed.begin_at(channel, Cursor::new(offset, ride).at_pace(pace), next);
        let before = after.unwrap_or(next);
        Some(Begun { position: Position { epoch, offset: Offset(before.0 - 1) }, recovered, has_snapshot })
    }
}

/// Tells a client of plain messages in the head of the answer: where each channel stands, and what of it was recovered.
fn add_headers(begun: &[Begun], response: &mut Vec<u8>) {
    if begun.iter().all(|begun| begun.recovered.is_none()) || !response.ends_with(b"\r\n\r\n") {
        return;
    }
    let recovered = begun.iter().map(|begun| match begun.recovered {
        Some(Recovered::Replayed(messages)) => messages.to_string(),
        Some(Recovered::Gap) => "gap".to_owned(),
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
