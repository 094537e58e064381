//! What happened when: counts of every target at equal intervals, in bounded memory.

use crate::stats::Stats;

/// Samples that are kept, however long the run.
const SAMPLES_MAX: usize = 600;

/// Counts of one target at one moment: totals since the start, but for `live` and `rss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Subscribers connected, upgraded and being read.
    pub live: u64,
    /// Handshakes completed.
    pub upgraded: u64,
    /// Messages received and verified.
    pub delivered: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Messages lost, duplicated, reordered or corrupted.
    pub faults: u64,
    /// Connections that ended without our asking.
    pub closed: u64,
    /// CPU time of the server's processes, nanoseconds; 0 if none is known.
    pub cpu_ns: u64,
    /// Resident memory of the server's processes, bytes; 0 if none is known.
    pub rss: u64,
}

impl Counted {
    /// From the counts of the workers and the accounts of the server.
    pub fn new(stats: &Stats, cpu_ns: u64, rss: u64) -> Self {
        Self {
            live: stats.live,
            upgraded: stats.upgraded,
            delivered: stats.tally.delivered,
            bytes: stats.bytes,
            faults: stats.tally.faults(),
            closed: stats.closed,
            cpu_ns,
            rss,
        }
    }
}

/// All targets at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since the start of the timeline.
    pub at_s: f64,
    /// In the order of `Timeline::names`.
    pub targets: Vec<Counted>,
}

/// Samples in order of time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The targets.
    pub names: Vec<String>,
    /// At equal distances, but for the last.
    pub samples: Vec<Sample>,
    /// Of so many samples that are offered, one is kept.
    stride: u64,
    offered: u64,
}

impl Timeline {
    /// An empty timeline of these targets.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, samples: Vec::new(), stride: 1, offered: 0 }
    }

    /// Takes a sample in, or passes over it.
    pub fn offer(&mut self, sample: Sample) {
        if self.offered.is_multiple_of(self.stride) {
            self.push(sample);
        }
        self.offered += 1;
    }

    /// Takes the last sample in, whenever it comes.
    pub fn end(&mut self, sample: Sample) {
        self.push(sample);
    }

    /// When all places are taken, every second one is given up: the first stays.
    fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
        if self.samples.len() > SAMPLES_MAX {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(number: u32) -> Sample {
        Sample { at_s: f64::from(number), targets: Vec::new() }
    }

    #[test]
    fn a_long_run_keeps_its_whole_length_in_bounded_memory() {
        let mut timeline = Timeline::new(Vec::new());
        for number in 0..100_000 {
            timeline.offer(sample(number));
            assert!(timeline.samples.len() <= SAMPLES_MAX);
        }
        timeline.end(sample(100_000));
        let times: Vec<f64> = timeline.samples.iter().map(|sample| sample.at_s).collect();
        assert!(times.len() > SAMPLES_MAX / 3, "{}", times.len());
        assert_eq!((times[0], times[times.len() - 1]), (0.0, 100_000.0));
        let steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (first, all_but_last) = (steps[0], &steps[..steps.len() - 1]);
        assert!(all_but_last.iter().all(|&step| step == first), "{steps:?}");
    }

    #[test]
    fn a_short_run_keeps_every_sample() {
        let mut timeline = Timeline::new(Vec::new());
        (0..100).for_each(|number| timeline.offer(sample(number)));
        assert_eq!(timeline.samples.len(), 100);
    }
}
