//! Sums over the rounds of a series, and ratios between series.

use hdrhistogram::Histogram;

use crate::round::{Round, Series, median, ratios};
use crate::stats::latencies;

/// A series as a whole.
pub struct Total {
    pub units: u64,
    /// CPU of the server; `None` if its process is not known.
    pub cpu: Option<Cpu>,
    /// CPU of this process, microseconds per unit.
    pub generator_us: f64,
    /// Cores that this process kept busy.
    pub generator_cores: f64,
    /// Share of a core that its busiest thread used.
    pub busiest_thread: f64,
    /// `recv` calls that returned bytes.
    pub reads: u64,
    /// Acknowledgements by timer for each of them.
    pub acks_by_timer: f64,
    /// What came over the wire; `None` if no unit was a delivery.
    pub wire: Option<WireShare>,
    /// Units per second, the median round.
    pub rate_median: f64,
    /// 99th percentile in milliseconds, the median round.
    pub p99_ms_median: f64,
    /// Latencies of all rounds, nanoseconds.
    pub latency: Histogram<u64>,
    /// First to last of all batches, nanoseconds.
    pub spread: Histogram<u64>,
    /// Between two looks at the sockets, nanoseconds.
    pub lag: Histogram<u64>,
    /// From when a batch was due to when its publishing began, nanoseconds.
    pub late: Histogram<u64>,
}

/// Bytes on the wire.
#[derive(Clone, Copy, Debug)]
pub struct WireShare {
    /// For each delivery, with the frame's header.
    pub per_delivery: f64,
    /// For each byte of the messages.
    pub per_payload: f64,
    /// Share of the messages that came compressed.
    pub deflated: f64,
}

/// CPU of a server, microseconds per unit.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// All rounds together.
    pub us: f64,
    /// The median round.
    pub median_us: f64,
    /// The part in user mode, by the timer tick.
    pub user_us: f64,
}

impl Cpu {
    /// The part in the kernel.
    pub fn system_us(self) -> f64 {
        self.us - self.user_us
    }
}

impl Total {
    /// Adds up a series.
    pub fn of(series: &Series) -> Self {
        let mut sum = Round::empty(0);
        series.rounds.iter().for_each(|round| sum.add(round));
        let middle = |figure: fn(&Round) -> Option<f64>| {
            median(series.rounds.iter().filter_map(figure).collect()).unwrap_or_default()
        };
        let (per_unit, wall_s) = (1e3 * sum.units.max(1) as f64, f64::max(sum.wall_s, 1e-9));
        let us = sum.server.total_ns as f64 / per_unit;
        let cpu =
            Cpu { us, median_us: middle(Round::cpu_per_unit) / 1e3, user_us: us * sum.server.user_share() };
        let wire = sum.wire_per_delivery().map(|per_delivery| WireShare {
            per_delivery,
            per_payload: sum.wire.bytes as f64 / sum.wire.payload_bytes as f64,
            deflated: sum.wire.deflated as f64 / sum.units as f64,
        });
        Self {
            units: sum.units,
            wire,
            cpu: (sum.server.total_ns > 0 && sum.units > 0).then_some(cpu),
            generator_us: sum.own.total_ns as f64 / per_unit,
            generator_cores: sum.own.total_ns as f64 / 1e9 / wall_s,
            busiest_thread: sum.busiest_ns as f64 / 1e9 / wall_s,
            reads: sum.reads,
            acks_by_timer: sum.acks_by_timer_share(),
            rate_median: middle(|round| Some(round.rate())),
            p99_ms_median: middle(Round::p99) / 1e6,
            latency: sum.latency,
            spread: sum.spread,
            lag: sum.lag,
            late: sum.late,
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
    let mut sum = latencies();
    for round in &series.rounds {
        let _ = sum.add(of(round));
    }
    sum
}

/// One series beside the last.
pub struct Compared {
    pub name: String,
    pub base: String,
    /// Median of the CPU ratios of rounds that ran side by side; `None` if there are none.
    pub cpu: Option<f64>,
    /// Ratio of the CPU of all rounds together.
    pub cpu_pooled: Option<f64>,
    pub cpu_rounds: Vec<f64>,
    /// Median of the ratios of the 99th percentiles.
    pub p99: Option<f64>,
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
            cpu_pooled: Total::of(series).cpu.zip(base_total.cpu).map(|(cpu, base)| cpu.us / base.us),
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
    use crate::server::accounts::CpuTime;

    fn series(name: &str, cpu_ns: &[u64]) -> Series {
        let round = |&total_ns: &u64| {
            let server = CpuTime { total_ns, user_ns: 1, system_ns: 3 };
            Round { units: 10, wall_s: 1.0, reads: 10, server, ..Round::empty(0) }
        };
        Series { name: name.into(), rounds: cpu_ns.iter().map(round).collect() }
    }

    #[test]
    fn rounds_are_compared_with_those_at_their_side() {
        let compared = compare(&[series("a", &[200, 330, 100]), series("limit", &[100, 300, 100])]);
        assert_eq!(compared.len(), 1);
        let percent = |ratio: Option<f64>| ratio.map(|ratio| (ratio * 100.0).round());
        assert_eq!((percent(compared[0].cpu), percent(compared[0].cpu_pooled)), (Some(110.0), Some(126.0)));
        assert_eq!(compared[0].p99, None);
    }

    #[test]
    fn one_series_alone_is_compared_with_nothing() {
        assert!(compare(&[series("a", &[1])]).is_empty());
        assert!((Total::of(&series("a", &[400])).cpu.unwrap().user_us - 0.01).abs() < 1e-9);
    }

    #[test]
    fn the_cpu_of_a_server_that_is_not_known_is_not_zero() {
        assert!(Total::of(&series("a", &[0, 0])).cpu.is_none());
        assert!(compare(&[series("a", &[0]), series("limit", &[5])])[0].cpu.is_none());
    }
}
