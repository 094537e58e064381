//! Answers to the control thread's questions: bounded, so that no listing ever stalls the loop (FAULTS J7).

use super::reactor::Reactor;
use super::turn::Shard;
use crate::bus::{Answer, ChannelRow, ConnectionRow, OnAnswer, Question};
use crate::config::limits::PAGE_ROWS_MAX;
use crate::metrics::ShardReport;
use crate::net::Transport;

/// Slots looked at for one page at most, empty ones included.
const SLOTS_PER_PAGE: u32 = 16 * 1024;

impl<R: Reactor> Shard<R> {
    pub(super) fn answer(&mut self, question: Question, on_answer: OnAnswer) {
        let answer = match question {
            Question::Report => Answer::Report(Box::new(ShardReport { histograms: self.histograms.clone() })),
            Question::Channels { limit } => Answer::Channels(self.channel_rows(limit.min(PAGE_ROWS_MAX))),
            Question::Connections { from_slot, limit } => {
                let (rows, next) = self.connection_rows(from_slot, limit.min(PAGE_ROWS_MAX));
                Answer::Connections(rows, next)
            }
        };
        on_answer(answer);
    }

    fn channel_rows(&self, limit: usize) -> Vec<ChannelRow> {
        let homed = self.hub.channels().filter_map(|channel| Some((channel, self.hub.numbering(channel)?)));
        homed
            .take(limit)
            .map(|(channel, numbering)| {
                let journal = self.feeds.get(channel).map(|feed| &feed.journal);
                ChannelRow {
                    channel: self.hub.name(channel).clone(),
                    position: numbering.newest(),
                    subscribers: self.hub.subscribers(channel),
                    retained_messages: journal.map_or(0, |journal| journal.len() as u64),
                    retained_bytes: journal.map_or(0, crate::journal::Journal::bytes),
                }
            })
            .collect()
    }

    fn connection_rows(&self, from_slot: u32, limit: usize) -> (Vec<ConnectionRow>, Option<u32>) {
        let end = self.slots.slot_end();
        let last = from_slot.saturating_add(SLOTS_PER_PAGE).min(end);
        let mut rows = Vec::new();
        for slot in from_slot..last {
            if rows.len() == limit {
                return (rows, Some(slot));
            }
            rows.extend(self.connection_row(slot));
        }
        (rows, (last < end).then_some(last))
    }

    fn connection_row(&self, slot: u32) -> Option<ConnectionRow> {
        let connection = self.slots.get(slot)?;
        let subscriptions = connection.owed.subscriptions();
        let lag = subscriptions.iter().filter_map(|subscription| {
            Some(self.feeds.get(subscription.channel)?.journal.bytes_behind(subscription.cursor))
        });
        Some(ConnectionRow {
            shard: self.id,
            id: self.slots.id(slot).pack(),
            peer: connection.socket.peer(),
            state: connection.state_name(),
            channels: subscriptions.len() as u32,
            lag_bytes: lag.sum(),
            silent_for_ms: u64::try_from(connection.liveness.silent_for(self.now).as_millis())
                .unwrap_or(u64::MAX),
        })
    }
}
