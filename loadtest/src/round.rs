//! One measured round against one server, and series of them.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::generator::ThreadTimes;
use crate::server::accounts::{self, CpuTime};
use crate::stage::{Arm, Stage};
use crate::stats::{Latencies, Stats, lags, latencies};
use crate::sys;

/// How long after the last delivery the server's accounts are read.
const AFTERMATH: Duration = Duration::from_millis(10);

/// What happened in a round. A unit is a verified delivery, or an upgraded connection.
#[derive(Clone, Debug)]
pub struct Round {
    /// When it began, by `sys::monotonic_ns`.
    pub started_ns: u64,
    /// Units done.
    pub units: u64,
    /// How long it took, seconds.
    pub wall_s: f64,
    /// CPU time of the server's processes; zero if none is known.
    pub server: CpuTime,
    /// CPU time of this process.
    pub own: CpuTime,
    /// CPU time of this process's busiest thread, nanoseconds.
    pub busiest_ns: u64,
    /// Latencies, nanoseconds.
    pub latency: Histogram<u64>,
    /// From the first subscriber that had a message to the last, one value a batch, nanoseconds.
    pub spread: Histogram<u64>,
    /// From `connect` to the checked answer, nanoseconds, of those that connected in the round.
    pub handshake: Histogram<u64>,
    /// From one look of a worker at its sockets to the next, nanoseconds.
    pub lag: Histogram<u64>,
    /// From when a batch was due to when its publishing began, nanoseconds.
    pub late: Histogram<u64>,
    /// Acknowledgements by timer on the whole machine, see `accounts::acks_by_timer`.
    pub acks_by_timer: u64,
    /// `recv` calls of this process that returned bytes: about the number of writes it was sent.
    pub reads: u64,
    /// Deliveries that did not come in time.
    pub missing: u64,
    /// What came over the wire.
    pub wire: Wire,
}

/// Bytes of a stretch of time, and how they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// Frames with their headers, pings among them.
    pub bytes: u64,
    /// The messages in them.
    pub payload_bytes: u64,
    /// Messages that were compressed.
    pub deflated: u64,
}

impl Wire {
    fn of(stats: &Stats) -> Self {
        Self { bytes: stats.wire_bytes, payload_bytes: stats.payload_bytes, deflated: stats.deflated }
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes - earlier.bytes,
            payload_bytes: self.payload_bytes - earlier.payload_bytes,
            deflated: self.deflated - earlier.deflated,
        }
    }

    fn add(&mut self, later: Self) {
        self.bytes += later.bytes;
        self.payload_bytes += later.payload_bytes;
        self.deflated += later.deflated;
    }
}

impl Round {
    /// A round in which nothing has happened yet.
    pub fn empty(started_ns: u64) -> Self {
        Self {
            started_ns,
            units: 0,
            wall_s: 0.0,
            server: CpuTime::default(),
            own: CpuTime::default(),
            busiest_ns: 0,
            latency: latencies(),
            spread: latencies(),
            handshake: latencies(),
            lag: lags(),
            late: lags(),
            acks_by_timer: 0,
            reads: 0,
            missing: 0,
            wire: Wire::default(),
        }
    }

    /// Adds a later round, as if both had been one.
    pub fn add(&mut self, later: &Self) {
        self.units += later.units;
        self.wall_s += later.wall_s;
        self.server += later.server;
        self.own += later.own;
        self.busiest_ns += later.busiest_ns;
        let same = "all histograms of a kind have the same bounds";
        self.latency.add(&later.latency).expect(same);
        self.spread.add(&later.spread).expect(same);
        self.handshake.add(&later.handshake).expect(same);
        self.lag.add(&later.lag).expect(same);
        self.late.add(&later.late).expect(same);
        self.acks_by_timer += later.acks_by_timer;
        self.reads += later.reads;
        self.missing += later.missing;
        self.wire.add(later.wire);
    }

    /// Server CPU per unit, nanoseconds; `None` if either is not known or nothing was done.
    pub fn cpu_per_unit(&self) -> Option<f64> {
        let is_known = self.server.total_ns > 0 && self.units > 0;
        is_known.then(|| self.server.total_ns as f64 / self.units as f64)
    }

    /// How many acknowledgements by timer there were for each `recv`: 0 to about 1.
    pub fn acks_by_timer_share(&self) -> f64 {
        self.acks_by_timer as f64 / self.reads.max(1) as f64
    }

    /// Bytes on the wire for each delivery; `None` if nothing was delivered.
    pub fn wire_per_delivery(&self) -> Option<f64> {
        let has_any = self.units > 0 && self.wire.payload_bytes > 0;
        has_any.then(|| self.wire.bytes as f64 / self.units as f64)
    }

    /// Units per second; 0 of a round that took no time.
    pub fn rate(&self) -> f64 {
        if self.wall_s > 0.0 { self.units as f64 / self.wall_s } else { 0.0 }
    }

    /// 99th percentile of the latency, nanoseconds; `None` if there was none.
    pub fn p99(&self) -> Option<f64> {
        (!self.latency.is_empty()).then(|| self.latency.value_at_quantile(0.99) as f64)
    }
}

/// The rounds under one name.
#[derive(Clone, Debug)]
pub struct Series {
    /// The server, or the circumstance.
    pub name: String,
    /// In order of time; round `i` of all series ran side by side.
    pub rounds: Vec<Round>,
}

/// A round that is being measured.
pub struct Stopwatch {
    started_ns: u64,
    server: CpuTime,
    own: CpuTime,
    threads: ThreadTimes,
    received: u64,
    reads: u64,
    acks_by_timer: u64,
    wire: Wire,
    index: usize,
}

impl Stopwatch {
    /// Reads all accounts.
    ///
    /// # Errors
    /// `Unavailable` when the server's processes are gone.
    pub fn start(stage: &Stage, index: usize) -> Result<Self, Failure> {
        stage.crew.take_latencies(index);
        let stats = stage.crew.stats(index);
        let (received, reads, acks_by_timer) =
            (stats.tally.received(), stats.reads, accounts::acks_by_timer());
        let threads = ThreadTimes::now();
        let server = cpu_of(&stage.arms[index])?;
        Ok(Self {
            started_ns: sys::monotonic_ns(),
            server,
            own: CpuTime::own(),
            threads,
            received,
            reads,
            acks_by_timer,
            wire: Wire::of(&stats),
            index,
        })
    }

    /// Reads them again: a round whose units are deliveries.
    ///
    /// # Errors
    /// As `start`.
    pub fn stop(self, stage: &Stage, missing: u64) -> Result<Round, Failure> {
        let wall_s = (sys::monotonic_ns() - self.started_ns) as f64 / 1e9;
        let stats = stage.crew.stats(self.index);
        // What the server has still to do for this round, such as going to sleep, is part of its price.
        std::thread::sleep(AFTERMATH);
        let server = cpu_of(&stage.arms[self.index])? - self.server;
        let own = CpuTime::own() - self.own;
        let busiest_ns = ThreadTimes::now().busiest_since(&self.threads);
        let Latencies { delivery: latency, handshake, lag } = stage.crew.take_latencies(self.index);
        Ok(Round {
            units: stats.tally.received() - self.received,
            wall_s,
            server,
            own,
            busiest_ns,
            latency,
            handshake,
            lag,
            acks_by_timer: accounts::acks_by_timer().saturating_sub(self.acks_by_timer),
            reads: stats.reads - self.reads,
            missing,
            wire: Wire::of(&stats).since(self.wire),
            ..Round::empty(self.started_ns)
        })
    }
}

/// CPU time of a server's processes so far; zero if none is known.
///
/// # Errors
/// `Unavailable` when all are gone.
pub fn cpu_of(arm: &Arm) -> Result<CpuTime, Failure> {
    arm.processes.cpu()
}

/// The middle value; the mean of the two middle ones of an even number; `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Round by round, a figure of `series` divided by the same of `base`; rounds without it are left out.
pub fn ratios(series: &Series, base: &Series, figure: impl Fn(&Round) -> Option<f64>) -> Vec<f64> {
    let pairs = series.rounds.iter().zip(&base.rounds).filter_map(|(a, b)| figure(a).zip(figure(b)));
    pairs.filter(|&(_, b)| b > 0.0).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
