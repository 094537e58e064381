//! Histograms of one shard, and the copy of them that a scrape asks for.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Two significant figures: 3 % exact, and a few KiB a histogram.
const SIGNIFICANT_FIGURES: u8 = 2;
/// Longest time told apart: one minute in nanoseconds.
const NANOS_MAX: u64 = 60_000_000_000;

/// The distributions one shard records; durations in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histograms {
    /// One turn of the loop, sleep excluded.
    pub turn: Histogram<u64>,
    /// From the first write of a pass over a channel's subscribers to its last.
    pub flush: Histogram<u64>,
    /// From accepting a message to the turn that wrote it, once for each delivery.
    pub publish_to_write: Histogram<u64>,
    /// From a ping to its pong.
    pub ping_round_trip: Histogram<u64>,
    /// Messages carried by one write.
    pub entries_per_write: Histogram<u64>,
}

/// What a shard answers to a metrics scrape.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// Copies of its histograms.
    pub histograms: Histograms,
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            turn: histogram(NANOS_MAX),
            flush: histogram(NANOS_MAX),
            publish_to_write: histogram(NANOS_MAX),
            ping_round_trip: histogram(NANOS_MAX),
            entries_per_write: histogram(1 << 20),
        }
    }
}

fn histogram(max: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, max, SIGNIFICANT_FIGURES).expect("fixed bounds are valid")
}

impl Histograms {
    /// Adds everything `other` recorded.
    pub fn merge(&mut self, other: &Self) {
        let pairs = [
            (&mut self.turn, &other.turn),
            (&mut self.flush, &other.flush),
            (&mut self.publish_to_write, &other.publish_to_write),
            (&mut self.ping_round_trip, &other.ping_round_trip),
            (&mut self.entries_per_write, &other.entries_per_write),
        ];
        for (mine, theirs) in pairs {
            mine.add(theirs).expect("all have the same bounds");
        }
    }
}

/// Records `duration` `count` times; saturates at the bounds.
pub fn record(histogram: &mut Histogram<u64>, duration: Duration, count: u64) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    histogram.saturating_record_n(nanos.max(1), count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_counts_and_out_of_range_values_saturate() {
        let mut one = Histograms::default();
        let mut two = Histograms::default();
        record(&mut one.turn, Duration::from_micros(10), 3);
        record(&mut two.turn, Duration::from_secs(3600), 1);
        one.merge(&two);
        assert_eq!(one.turn.len(), 4);
        assert!(one.turn.max() >= 59_000_000_000);
    }
}
