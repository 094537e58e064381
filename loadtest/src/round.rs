//! One measured round against one server, and series of them.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::server::accounts::{self, CpuTime};
use crate::stage::{Arm, Stage};
use crate::stats::Latencies;
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
    /// Latencies, nanoseconds.
    pub latency: Histogram<u64>,
    /// From the first subscriber that had a message to the last, one value a batch, nanoseconds.
    pub spread: Histogram<u64>,
    /// From `connect` to the checked answer, nanoseconds, of those that connected in the round.
    pub handshake: Histogram<u64>,
    /// Acknowledgements by timer on the whole machine, see `accounts::acks_by_timer`.
    pub acks_by_timer: u64,
    /// `recv` calls of this process that returned bytes: about the number of writes it was sent.
    pub reads: u64,
    /// Deliveries that did not come in time.
    pub missing: u64,
}

impl Round {
    /// Server CPU per unit, nanoseconds.
    pub fn cpu_per_unit(&self) -> f64 {
        self.server.total_ns as f64 / self.units.max(1) as f64
    }

    /// How many acknowledgements by timer there were for each `recv`: 0 to about 1.
    pub fn acks_by_timer_share(&self) -> f64 {
        self.acks_by_timer as f64 / self.reads.max(1) as f64
    }

    /// 99th percentile of the latency, nanoseconds.
    pub fn p99(&self) -> f64 {
        self.latency.value_at_quantile(0.99) as f64
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
    delivered: u64,
    reads: u64,
    acks_by_timer: u64,
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
        let (delivered, reads, acks_by_timer) =
            (stats.tally.delivered, stats.reads, accounts::acks_by_timer());
        let server = cpu_of(&stage.arms[index])?;
        Ok(Self {
            started_ns: sys::monotonic_ns(),
            server,
            own: CpuTime::own(),
            delivered,
            reads,
            acks_by_timer,
            index,
        })
    }

    /// Reads them again: a round whose units are deliveries.
    ///
    /// # Errors
    /// As `start`.
    pub fn stop(self, stage: &Stage, missing: u64) -> Result<Round, Failure> {
        let started_ns = self.started_ns;
        let wall_s = (sys::monotonic_ns() - started_ns) as f64 / 1e9;
        // What the server has still to do for this round, such as going to sleep, is part of its price.
        std::thread::sleep(AFTERMATH);
        let server = cpu_of(&stage.arms[self.index])? - self.server;
        let own = CpuTime::own() - self.own;
        let stats = stage.crew.stats(self.index);
        let (units, reads) = (stats.tally.delivered - self.delivered, stats.reads - self.reads);
        let acks_by_timer = accounts::acks_by_timer().saturating_sub(self.acks_by_timer);
        let Latencies { delivery: latency, handshake } = stage.crew.take_latencies(self.index);
        let spread = Latencies::new().delivery;
        Ok(Round {
            started_ns,
            units,
            wall_s,
            server,
            own,
            latency,
            spread,
            handshake,
            acks_by_timer,
            reads,
            missing,
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

/// The middle value; the mean of the two middle ones of an even number. 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Round by round, a figure of `series` divided by the same of `base`; rounds without it are left out.
pub fn ratios(series: &Series, base: &Series, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
    let pairs = series.rounds.iter().zip(&base.rounds).map(|(a, b)| (figure(a), figure(b)));
    pairs.filter(|&(a, b)| a > 0.0 && b > 0.0).map(|(a, b)| a / b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
