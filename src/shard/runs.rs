//! Latency of deliveries, recorded by the run: messages that went out together are one record, however many subscribers
//! got them and wherever these stood.
//!
//! Within a turn the clock stands, so that of a message only the number of its deliveries matters. Each run adds to that
//! where it begins and takes away where it ends; the sums in between are the deliveries of each message.

use std::collections::VecDeque;

use crate::delivery::Feeds;
use crate::metrics::Histograms;
use crate::metrics::report::record;
use crate::model::{ChannelIndex, Offset, Time};

/// Messages that are counted at a time at most.
const SPAN_MAX: usize = 4096;

/// Messages that went out together: `from..next` of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Whose.
    pub channel: ChannelIndex,
    /// The first.
    pub from: Offset,
    /// The one after the last.
    pub next: Offset,
}

/// A message that is counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// None at the head, and if it is not kept any more.
    accepted_at: Option<Time>,
    /// Deliveries beyond those of the message before.
    more: i64,
}

/// The runs that are being counted, of one channel.
#[derive(Debug, Default)]
pub struct Runs {
    /// The last one, and its writes.
    run: Option<Run>,
    writes: u64,
    /// Whose messages are counted, and the first of them.
    place: Option<(ChannelIndex, Offset)>,
    /// One more than the messages: where the last run ends.
    counted: VecDeque<Counted>,
}

impl Runs {
    /// Notes that `writes` writes each delivered `from..next` of `channel`. Constant time, and linear in the messages that no
    /// run of this turn had.
    pub fn note(&mut self, run: Run, writes: u64, feeds: &Feeds, now: Time, histograms: &mut Histograms) {
        if self.run != Some(run) {
            self.settle_run(histograms);
            if !self.cover(run, feeds) {
                self.settle(now, histograms);
                self.cover(run, feeds);
            }
            self.run = Some(run);
        }
        self.writes += writes;
    }

    /// Records what was counted. Call before the turn's `now` changes.
    pub fn settle(&mut self, now: Time, histograms: &mut Histograms) {
        self.settle_run(histograms);
        let mut deliveries = 0;
        // Messages that were accepted at the same time are one record: a batch is.
        let mut together = (None, 0);
        for Counted { accepted_at, more } in self.counted.drain(..) {
            deliveries += more;
            if accepted_at == together.0 {
                together.1 += deliveries;
            } else {
                record_deliveries(
                    std::mem::replace(&mut together, (accepted_at, deliveries)),
                    now,
                    histograms,
                );
            }
        }
        record_deliveries(together, now, histograms);
        self.place = None;
        if self.counted.capacity() > SPAN_MAX {
            self.counted = VecDeque::new();
        }
    }

    /// Adds the last run to what is counted.
    fn settle_run(&mut self, histograms: &mut Histograms) {
        let Some(Run { from, next, .. }) = self.run.take() else { return };
        let Some((_, first)) = self.place else { return };
        let writes = std::mem::take(&mut self.writes);
        histograms.entries_per_write.saturating_record_n((next.0 - from.0).max(1), writes);
        for (offset, more) in [(from, writes as i64), (next, -(writes as i64))] {
            let index = offset.0.checked_sub(first.0).and_then(|index| usize::try_from(index).ok());
            if let Some(counted) = index.and_then(|index| self.counted.get_mut(index)) {
                counted.more += more;
            }
        }
    }

    /// Makes `run` part of what is counted, if it adjoins that and the whole is not too much.
    fn cover(&mut self, run: Run, feeds: &Feeds) -> bool {
        let Run { channel, from, next } = run;
        let look = |offset| {
            let entry = feeds.get(channel).and_then(|feed| feed.journal.entry(Offset(offset)));
            Counted { accepted_at: entry.map(|entry| entry.accepted_at), more: 0 }
        };
        let Some((place, first)) = self.place else {
            self.place = Some((channel, from));
            self.counted.extend((from.0..=next.0).map(look));
            return true;
        };
        let end = first.0 + self.counted.len() as u64;
        let span = end.max(next.0 + 1) - first.0.min(from.0);
        if channel != place || from.0 >= end || next < first || span > SPAN_MAX as u64 {
            return false;
        }
        for offset in (from.0..first.0).rev() {
            self.counted.push_front(look(offset));
        }
        self.place = Some((channel, first.min(from)));
        self.counted.extend((end..=next.0).map(look));
        true
    }
}

fn record_deliveries((accepted_at, count): (Option<Time>, i64), now: Time, histograms: &mut Histograms) {
    if let (Some(accepted_at), Ok(count @ 1..)) = (accepted_at, u64::try_from(count)) {
        record(&mut histograms.publish_to_write, now.since(accepted_at), count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChannelSettings;
    use crate::delivery::Feed;
    use crate::model::{ChannelName, Epoch, PayloadKind, Publication};

    const CHANNEL: ChannelIndex = ChannelIndex(0);

    /// Messages 1 to `messages`, accepted at as many milliseconds; two in each.
    fn feeds(messages: u64) -> Feeds {
        let mut feeds = Feeds::default();
        let settings = ChannelSettings { history_messages: messages, ..ChannelSettings::default() };
        let feed = feeds.insert(CHANNEL, Feed::new(settings, Epoch(1), Offset(1)));
        for offset in 1..=messages {
            let name = ChannelName::parse("c").unwrap();
            let at = Time::from_millis(offset / 2 * 2);
            feed.append(Offset(offset), &Publication::encode(name, PayloadKind::Text, b"1", at, None), 0, at);
        }
        feeds
    }

    fn run(from: u64, next: u64) -> Run {
        Run { channel: CHANNEL, from: Offset(from), next: Offset(next) }
    }

    #[test]
    fn every_delivery_is_counted_at_its_age_whatever_the_order_of_the_runs() {
        let (feeds, now) = (feeds(5000), Time::from_millis(6000));
        let cases: [&[(u64, u64, u64)]; 6] = [
            &[(1, 2, 7), (1, 2, 3)],
            &[(10, 20, 1), (15, 20, 2), (5, 20, 3), (19, 20, 1)],
            &[(10, 20, 1), (20, 30, 2), (10, 20, 1)],
            &[(30, 40, 1), (10, 20, 2), (50, 60, 3), (1, 5001, 1), (1, 2, 1)],
            &[(4999, 5001, 2), (1, 3, 1), (4990, 5001, 4)],
            &[(7, 7, 1), (7, 9, 1)],
        ];
        for case in cases {
            let (mut runs, mut counted, mut expected) =
                (Runs::default(), Histograms::default(), Histograms::default());
            for (from, next, writes) in case.iter().copied() {
                runs.note(run(from, next), writes, &feeds, now, &mut counted);
                expected.entries_per_write.saturating_record_n((next - from).max(1), writes);
                for offset in from..next {
                    record(
                        &mut expected.publish_to_write,
                        now.since(Time::from_millis(offset / 2 * 2)),
                        writes,
                    );
                }
            }
            runs.settle(now, &mut counted);
            assert_eq!(counted.publish_to_write, expected.publish_to_write, "{case:?}");
            assert_eq!(counted.entries_per_write, expected.entries_per_write, "{case:?}");
            assert!(runs.counted.is_empty() && runs.place.is_none());
        }
    }
}
