//! Sums over the rounds of a series, and ratios between series.

use hdrhistogram::Histogram;

use crate::round::{Round, Series, median, ratios};
use crate::server::accounts::CpuTime;
use crate::stats::Latencies;

/// A series as a whole. CPU times are microseconds per unit.
pub struct Total {
    pub units: u64,
    /// Server CPU, all rounds together.
    pub cpu_us: f64,
    /// Server CPU, the median round.
    pub cpu_us_median: f64,
    /// The part in user mode, by the timer tick.
    pub user_us: f64,
    /// CPU of this process.
    pub generator_us: f64,
    /// Cores that this process kept busy.
    pub generator_cores: f64,
    /// Acknowledgements by timer for each `recv`.
    pub acks_by_timer: f64,
    /// Units per second, the median round.
    pub rate_median: f64,
    /// 99th percentile in milliseconds, the median round.
    pub p99_ms_median: f64,
    /// Latencies of all rounds, nanoseconds.
    pub latency: Histogram<u64>,
    /// First to last of all batches, nanoseconds.
    pub spread: Histogram<u64>,
}

impl Total {
    /// Adds up a series.
    pub fn of(series: &Series) -> Self {
        let (mut server, mut own, mut wall_s, mut units) = (CpuTime::default(), CpuTime::default(), 0.0, 0);
        let (mut acks, mut reads) = (0, 0);
        for round in &series.rounds {
            server += round.server;
            own += round.own;
            wall_s += round.wall_s;
            units += round.units;
            acks += round.acks_by_timer;
            reads += round.reads;
        }
        let middle = |figure: fn(&Round) -> f64| median(series.rounds.iter().map(figure).collect());
        let per_unit = 1e3 * units.max(1) as f64;
        let cpu_us = server.total_ns as f64 / per_unit;
        Self {
            units,
            cpu_us,
            cpu_us_median: middle(|round| round.cpu_per_unit() / 1e3),
            user_us: cpu_us * server.user_share(),
            generator_us: own.total_ns as f64 / per_unit,
            generator_cores: own.total_ns as f64 / 1e9 / f64::max(wall_s, 1e-9),
            acks_by_timer: acks as f64 / reads.max(1) as f64,
            rate_median: middle(|round| round.units as f64 / round.wall_s),
            p99_ms_median: middle(|round| round.p99() / 1e6),
            latency: pooled(series, |round| &round.latency),
            spread: pooled(series, |round| &round.spread),
        }
    }
}

/// What a round keeps all values of, in nanoseconds.
pub struct Distribution {
    /// What it is.
    pub title: &'static str,
    /// What is added to the name of the series, to tell them apart.
    pub suffix: &'static str,
    /// Where it is.
    pub of: fn(&Round) -> &Histogram<u64>,
}

/// All of them: a curve in the page, and a tag in the HdrHistogram log each.
pub const DISTRIBUTIONS: &[Distribution] = &[
    Distribution { title: "Latency", suffix: "", of: |round| &round.latency },
    Distribution {
        title: "From the first subscriber to the last",
        suffix: "_spread",
        of: |round| &round.spread,
    },
];

/// The values of all rounds of a series.
pub fn pooled(series: &Series, of: fn(&Round) -> &Histogram<u64>) -> Histogram<u64> {
    let mut sum = Latencies::new().delivery;
    for round in &series.rounds {
        let _ = sum.add(of(round));
    }
    sum
}

/// One series beside the last.
pub struct Compared {
    pub name: String,
    pub base: String,
    /// Median of the CPU ratios of rounds that ran side by side.
    pub cpu: f64,
    /// Ratio of the CPU of all rounds together.
    pub cpu_pooled: f64,
    pub cpu_rounds: Vec<f64>,
    /// Median of the ratios of the 99th percentiles.
    pub p99: f64,
    pub p99_rounds: Vec<f64>,
}

/// Sets every series but the last beside the last. Empty if nothing can be compared.
pub fn compare(series: &[Series]) -> Vec<Compared> {
    let Some((base, others)) = series.split_last() else { return Vec::new() };
    let base_total = Total::of(base);
    let one = |series: &Series| {
        let cpu_rounds = ratios(series, base, Round::cpu_per_unit);
        let p99_rounds = ratios(series, base, Round::p99);
        Compared {
            name: series.name.clone(),
            base: base.name.clone(),
            cpu: median(cpu_rounds.clone()),
            cpu_pooled: if base_total.cpu_us > 0.0 {
                Total::of(series).cpu_us / base_total.cpu_us
            } else {
                0.0
            },
            cpu_rounds,
            p99: median(p99_rounds.clone()),
            p99_rounds,
        }
    };
    others.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, cpu_ns: &[u64]) -> Series {
        let round = |&total_ns: &u64| Round {
            started_ns: 0,
            units: 10,
            wall_s: 1.0,
            server: CpuTime { total_ns, user_ns: 1, system_ns: 3 },
            own: CpuTime::default(),
            latency: Latencies::new().delivery,
            spread: Latencies::new().delivery,
            handshake: Latencies::new().handshake,
            acks_by_timer: 0,
            reads: 10,
            missing: 0,
        };
        Series { name: name.into(), rounds: cpu_ns.iter().map(round).collect() }
    }

    #[test]
    fn rounds_are_compared_with_those_at_their_side() {
        let compared = compare(&[series("a", &[200, 330, 100]), series("limit", &[100, 300, 100])]);
        assert_eq!(compared.len(), 1);
        assert_eq!((compared[0].cpu * 100.0).round(), 110.0);
        assert_eq!((compared[0].cpu_pooled * 100.0).round(), 126.0);
    }

    #[test]
    fn one_series_alone_is_compared_with_nothing() {
        assert!(compare(&[series("a", &[1])]).is_empty());
        assert!((Total::of(&series("a", &[400])).user_us - 0.01).abs() < 1e-9);
    }
}
