//! Latency of deliveries, recorded by the run: subscribers that got the same messages in the same turn are one record.

use crate::delivery::Feeds;
use crate::metrics::Histograms;
use crate::metrics::report::record;
use crate::model::{ChannelIndex, Offset, Time};

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

/// The run that is being counted.
#[derive(Debug, Default)]
pub struct Runs {
    run: Option<Run>,
    accepted_at: Vec<Time>,
    writes: u64,
}

impl Runs {
    /// Notes that `writes` writes each delivered `from..next` of `channel`. Constant time while the run is the same.
    pub fn note(&mut self, run: Run, writes: u64, feeds: &Feeds, now: Time, histograms: &mut Histograms) {
        if self.run != Some(run) {
            self.settle(now, histograms);
            self.run = Some(run);
            if let Some(feed) = feeds.get(run.channel) {
                let entries =
                    (run.from.0..run.next.0).filter_map(|offset| feed.journal.entry(Offset(offset)));
                self.accepted_at.extend(entries.map(|entry| entry.accepted_at));
            }
        }
        self.writes += writes;
    }

    /// Records what was counted. Call before the turn's `now` changes.
    pub fn settle(&mut self, now: Time, histograms: &mut Histograms) {
        let Some(Run { from, next, .. }) = self.run.take() else { return };
        for accepted_at in self.accepted_at.drain(..) {
            record(&mut histograms.publish_to_write, now.since(accepted_at), self.writes);
        }
        histograms.entries_per_write.saturating_record_n((next.0 - from.0).max(1), self.writes);
        self.writes = 0;
    }
}
