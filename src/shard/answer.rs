//! Answers to the control thread's questions: bounded, so that no listing ever stalls the loop (GUARANTEES J7).

use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::{Answer, ChannelRow, ConnectionRow, OnAnswer, Page, Question};
use crate::config::limits::PAGE_ROWS_MAX;
use crate::journal::Journal;
use crate::metrics::ShardReport;
use crate::model::ChannelIndex;

/// Slots of connections, or places of channels, looked at for one page at most, empty ones included.
const PLACES_PER_PAGE: u32 = 16 * 1024;

impl<R: Reactor> Shard<R> {
    pub(super) fn answer(&mut self, question: Question, on_answer: OnAnswer) {
        let answer = match question {
            Question::Alive => Answer::Alive,
            Question::Report => Answer::Report(Box::new(ShardReport { histograms: self.histograms.clone() })),
            Question::Channels { from_place, limit } => {
                let row = |place| self.channel_row(ChannelIndex(place));
                Answer::Channels(page(from_place, self.hub.place_end(), limit, row))
            }
            Question::Channel(name) => {
                let channel = self.hub.find(&name);
                Answer::Channel(channel.and_then(|channel| self.channel_row(channel)).map(Box::new))
            }
            Question::Connections { from_slot, limit } => {
                let row = |slot| self.connection_row(slot);
                Answer::Connections(page(from_slot, self.slots.slot_end(), limit, row))
            }
            Question::Ends { limit } => Answer::Ends(self.ends.recent(limit.min(PAGE_ROWS_MAX))),
        };
        on_answer(answer);
    }

    fn channel_row(&self, channel: ChannelIndex) -> Option<ChannelRow> {
        if !self.hub.contains(channel) {
            return None;
        }
        let numbering = self.hub.numbering(channel)?;
        let journal = self.feeds.get(channel).map(|feed| &feed.journal);
        Some(ChannelRow {
            channel: self.hub.name(channel).clone(),
            position: numbering.newest(),
            subscribers: self.hub.subscribers(channel),
            retained_messages: journal.map_or(0, |journal| journal.len() as u64),
            retained_bytes: journal.map_or(0, Journal::bytes),
        })
    }

    fn connection_row(&self, slot: u32) -> Option<ConnectionRow> {
        let connection = self.slots.get(slot)?;
        let subscriptions = connection.owed.subscriptions();
        let lag = subscriptions.iter().filter_map(|subscription| {
            Some(self.feeds.get(subscription.channel)?.journal.bytes_behind(subscription.cursor.offset()))
        });
        Some(ConnectionRow {
            shard: self.id,
            id: self.slots.id(slot),
            peer: self.client(slot),
            state: connection.state_name(),
            channels: subscriptions.len() as u32,
            lag_bytes: lag.sum(),
            silent_for_ms: u64::try_from(connection.liveness.silent_for(self.now).as_millis())
                .unwrap_or(u64::MAX),
        })
    }
}

/// Up to `limit` rows from place `from` on, and where to go on if `end` was not reached.
fn page<T>(from: u32, end: u32, limit: usize, row: impl Fn(u32) -> Option<T>) -> Page<T> {
    let limit = limit.min(PAGE_ROWS_MAX);
    let last = from.saturating_add(PLACES_PER_PAGE).min(end);
    let mut rows = Vec::new();
    for place in from..last {
        if rows.len() == limit {
            return Page { rows, next: Some(place) };
        }
        rows.extend(row(place));
    }
    Page { rows, next: (last < end).then_some(last) }
}
