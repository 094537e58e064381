//! The figures that can be held against a bound: names, units, and where in a report they are.

use hdrhistogram::Histogram;

use crate::report::Report;
use crate::report::compare::{Cpu, Total, pooled};
use crate::round::{Round, Series};
use crate::stats::Stats;

/// Facts of a whole run. Those of one server begin with its name instead.
const FACTS: &[&str] =
    &["connect_seconds", "kernel_slab_per_connection", "available_per_connection", "tcp_buffer_bytes"];
/// Beginning of the facts of an attack, of which there are as many as ways to end.
const ATTACK: &str = "hostile_";
/// Beginnings of the facts of one server.
const SERVERS: &[&str] = &["server_", "versus_", "limit_", "limit-"];

/// Whether a key can be that of a fact.
pub fn is_fact(key: &str) -> bool {
    FACTS.contains(&key) || key.starts_with(ATTACK) || SERVERS.iter().any(|name| key.starts_with(name))
}

/// Whether a fact is one of the whole run, or of one of these servers.
pub fn belongs(key: &str, servers: &[String]) -> bool {
    let is_of = |server: &String| key.strip_prefix(server.as_str()).is_some_and(|rest| rest.starts_with('_'));
    FACTS.contains(&key) || key.starts_with(ATTACK) || servers.iter().any(is_of)
}

/// What a number counts, and so which units it may have. Time is in nanoseconds inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dimension {
    /// Time; the number is the nanoseconds of the unit that is meant when none is written.
    Time(f64),
    /// Bytes.
    Bytes,
    /// Something per second.
    PerSecond,
    /// A count; `%` is of the whole that it belongs to.
    Count,
    /// Cores kept busy; `%` is of one core.
    Cores,
    /// Just a number.
    Plain,
}

impl Dimension {
    /// What a number with this unit is multiplied by; `None` if there is no such unit here.
    pub fn scale(self, unit: &str) -> Option<f64> {
        Some(match (self, unit) {
            (Self::Time(default_ns), "") => default_ns,
            (Self::Time(_), "ns") => 1.0,
            (Self::Time(_), "us") => 1e3,
            (Self::Time(_), "ms") => 1e6,
            (Self::Time(_), "s") => 1e9,
            (Self::Bytes, "KiB") => 1024.0,
            (Self::Bytes, "MiB") => 1024.0 * 1024.0,
            (Self::Bytes, "B") | (Self::PerSecond, "/s") | (_, "") => 1.0,
            (Self::Cores | Self::Count, "%") => 0.01,
            _ => return None,
        })
    }

    /// The units there are, for a refusal.
    pub fn units(self) -> &'static str {
        match self {
            Self::Time(_) => "ns us ms s",
            Self::Bytes => "B KiB MiB",
            Self::PerSecond => "/s",
            Self::Count | Self::Cores => "%",
            Self::Plain => "none",
        }
    }

    /// A value as people read it.
    pub fn show(self, value: f64) -> String {
        let (value, unit) = match self {
            Self::Time(_) if value.abs() >= 1e9 => (value / 1e9, " s"),
            Self::Time(_) if value.abs() >= 1e6 => (value / 1e6, " ms"),
            Self::Time(_) if value.abs() >= 1e3 => (value / 1e3, " us"),
            Self::Time(_) => (value, " ns"),
            Self::Bytes => (value, " B"),
            Self::PerSecond => (value, "/s"),
            Self::Cores => (value, " cores"),
            Self::Count | Self::Plain => (value, ""),
        };
        let number = format!("{value:.3}");
        format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Where a figure comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A figure of the values that the rounds of a series keep, nanoseconds.
    Latency(fn(&Round) -> &Histogram<u64>, fn(&Histogram<u64>) -> f64),
    /// Server CPU of a series, nanoseconds per unit; the unit's name if it must be that one.
    Cpu(Option<&'static str>),
    /// User part of the server CPU, nanoseconds per unit.
    UserCpu,
    /// Units per second of a series.
    Rate,
    /// Cores that this tool kept busy.
    GeneratorCores,
    /// Bytes on the wire for each delivery.
    WirePerDelivery,
    /// Deliveries of a series that came compressed, and all of them.
    Compressed,
    /// Counts of a server's subscribers, and the whole that they are a part of.
    Counts(fn(&Stats) -> u64, fn(&Stats) -> u64),
    /// Connections that are still there, of those that were asked for.
    Connections,
    /// Deliveries that did not come in time.
    Missing,
    /// The growth of a server's memory by connection.
    RssPerConnection,
}

/// A figure by its name.
pub struct Known {
    pub name: &'static str,
    pub dimension: Dimension,
    pub origin: Origin,
}

const fn known(name: &'static str, dimension: Dimension, origin: Origin) -> Known {
    Known { name, dimension, origin }
}

const LATENCIES: fn(&Round) -> &Histogram<u64> = |round| &round.latency;
const SPREADS: fn(&Round) -> &Histogram<u64> = |round| &round.spread;
const HANDSHAKES: fn(&Round) -> &Histogram<u64> = |round| &round.handshake;
const LATENCY: Dimension = Dimension::Time(1e6);
const CPU: Dimension = Dimension::Time(1e3);

/// All figures with names of their own.
pub const KNOWN: &[Known] = &[
    known("p50", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.5) as f64)),
    known("p75", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.75) as f64)),
    known("p90", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.9) as f64)),
    known("p95", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.95) as f64)),
    known("p99", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.99) as f64)),
    known("p99.9", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.999) as f64)),
    known("p999", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.999) as f64)),
    known("p99.99", LATENCY, Origin::Latency(LATENCIES, |latency| latency.value_at_quantile(0.9999) as f64)),
    known("max", LATENCY, Origin::Latency(LATENCIES, |latency| latency.max() as f64)),
    known("mean", LATENCY, Origin::Latency(LATENCIES, Histogram::mean)),
    known("spread_p50", LATENCY, Origin::Latency(SPREADS, |spread| spread.value_at_quantile(0.5) as f64)),
    known("spread_p99", LATENCY, Origin::Latency(SPREADS, |spread| spread.value_at_quantile(0.99) as f64)),
    known("spread_max", LATENCY, Origin::Latency(SPREADS, |spread| spread.max() as f64)),
    known("handshake_p50", LATENCY, Origin::Latency(HANDSHAKES, |taken| taken.value_at_quantile(0.5) as f64)),
    known(
        "handshake_p99",
        LATENCY,
        Origin::Latency(HANDSHAKES, |taken| taken.value_at_quantile(0.99) as f64),
    ),
    known("rate", Dimension::PerSecond, Origin::Rate),
    known("cpu_per_delivery", CPU, Origin::Cpu(Some("delivery"))),
    known("cpu_per_connection", CPU, Origin::Cpu(Some("connection"))),
    known("cpu_per_unit", CPU, Origin::Cpu(None)),
    known("user_per_unit", CPU, Origin::UserCpu),
    known("loss", Dimension::Count, Origin::Counts(lost, messages)),
    known("lost", Dimension::Count, Origin::Counts(lost, messages)),
    known("duplicates", Dimension::Count, Origin::Counts(|stats| stats.tally.duplicated, messages)),
    known("reordered", Dimension::Count, Origin::Counts(|stats| stats.tally.reordered, messages)),
    known("corrupted", Dimension::Count, Origin::Counts(|stats| stats.tally.corrupted, messages)),
    known("foreign", Dimension::Count, Origin::Counts(|stats| stats.tally.foreign, messages)),
    known("closed", Dimension::Count, Origin::Counts(|stats| stats.closed, |stats| stats.upgraded)),
    known("missing", Dimension::Plain, Origin::Missing),
    known("connections", Dimension::Count, Origin::Connections),
    known("generator_cores", Dimension::Cores, Origin::GeneratorCores),
    known("wire_per_delivery", Dimension::Bytes, Origin::WirePerDelivery),
    known("compressed", Dimension::Count, Origin::Compressed),
    known("rss_per_connection", Dimension::Bytes, Origin::RssPerConnection),
];

/// Messages that a later one overtook for good, and those that had not come when the run had ended.
fn lost(stats: &Stats) -> u64 {
    stats.tally.lost + stats.owed
}

/// Messages that were to be received.
fn messages(stats: &Stats) -> u64 {
    stats.tally.received() + lost(stats)
}

/// Reads a figure from a round.
pub type RoundFigure = Box<dyn Fn(&Round) -> Option<f64>>;

/// A figure that was asked for.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: String,
    pub dimension: Dimension,
    /// `None`: the fact with that key.
    pub origin: Option<Origin>,
}

impl Figure {
    /// Finds it by its name, or takes the name as the key of a fact.
    ///
    /// # Errors
    /// One line that lists what there is.
    pub fn parse(name: &str) -> Result<Self, String> {
        if let Some(known) = KNOWN.iter().find(|known| known.name == name) {
            let (dimension, origin) = (known.dimension, Some(known.origin));
            return Ok(Self { name: name.to_owned(), dimension, origin });
        }
        if is_fact(name) {
            return Ok(Self { name: name.to_owned(), dimension: dimension_of_fact(name), origin: None });
        }
        let names = KNOWN.iter().map(|known| known.name).collect::<Vec<_>>().join(" ");
        Err(format!(
            "unknown figure '{name}': there are {names}, and facts by their key: {}, or of a server, such as server_rss_bytes",
            FACTS.join(" ")
        ))
    }

    /// Whether it is one of a series of rounds, and not of a server over the whole run.
    pub fn is_of_series(&self) -> bool {
        matches!(
            self.origin,
            Some(
                Origin::Latency(..)
                    | Origin::Cpu(_)
                    | Origin::UserCpu
                    | Origin::Rate
                    | Origin::GeneratorCores
                    | Origin::WirePerDelivery
                    | Origin::Compressed
            )
        )
    }

    /// The figure of a single round, where a round has it.
    pub fn of_round(&self) -> Option<RoundFigure> {
        match self.origin? {
            Origin::Latency(of, figure) => Some(Box::new(move |round| {
                let values = of(round);
                (!values.is_empty()).then(|| figure(values))
            })),
            Origin::Cpu(_) => Some(Box::new(Round::cpu_per_unit)),
            Origin::Rate => Some(Box::new(|round| Some(round.rate()))),
            Origin::WirePerDelivery => Some(Box::new(Round::wire_per_delivery)),
            _ => None,
        }
    }

    /// The figure of the server or series at this place of the report, and the whole that `%` is of.
    ///
    /// # Errors
    /// Why the run does not have it.
    pub fn of(&self, report: &Report, index: usize, connections: usize) -> Result<(f64, f64), String> {
        let (series, stats) = (report.series.get(index), report.stats.get(index));
        let series = series.filter(|series| !series.rounds.is_empty()).ok_or("no round was measured");
        let stats = stats.map(|(_, stats)| stats).ok_or("nothing was counted");
        let value = match self.origin {
            Some(Origin::Latency(of, figure)) => {
                let values = pooled(series?, of);
                if values.is_empty() {
                    return Err("no latency was measured".into());
                }
                figure(&values)
            }
            Some(Origin::Cpu(unit)) => match unit {
                Some(unit) if unit != report.unit => {
                    return Err(format!("a unit of this run is a {}", report.unit));
                }
                _ => cpu_of(series?)?.us * 1e3,
            },
            Some(Origin::UserCpu) => cpu_of(series?)?.user_us * 1e3,
            Some(Origin::Rate) => Total::of(series?).rate_median,
            Some(Origin::GeneratorCores) => Total::of(series?).generator_cores,
            Some(Origin::WirePerDelivery) => {
                Total::of(series?).wire.ok_or("nothing was delivered")?.per_delivery
            }
            Some(Origin::Compressed) => {
                let rounds = &series?.rounds;
                let sum = |count: fn(&Round) -> u64| rounds.iter().map(count).sum::<u64>() as f64;
                return Ok((sum(|round| round.wire.deflated), sum(|round| round.units)));
            }
            Some(Origin::Counts(part, whole)) => {
                let (part, whole) = (part(stats?), whole(stats?));
                if whole == 0 {
                    return Err("there was nothing that it could be a part of".into());
                }
                return Ok((part as f64, whole as f64));
            }
            Some(Origin::Connections) => {
                // Rounds of connections close what they open: the least of them counts.
                let opened = series.ok().filter(|_| report.unit == "connection");
                let opened = opened.and_then(|series| series.rounds.iter().map(|round| round.units).min());
                return Ok((opened.unwrap_or(stats?.live) as f64, connections as f64));
            }
            Some(Origin::Missing) => report.missing_in_all() as f64,
            Some(Origin::RssPerConnection) => rss_per_connection(report, index)?,
            None => fact(report, &self.name)? * self.dimension.scale("").unwrap_or(1.0),
        };
        Ok((value, 1.0))
    }
}

fn cpu_of(series: &Series) -> Result<Cpu, String> {
    Total::of(series).cpu.ok_or_else(|| "the CPU of the server is not known: give --pid".into())
}

fn rss_per_connection(report: &Report, index: usize) -> Result<f64, String> {
    let name = report.stats.get(index).map_or("", |(name, _)| name.as_str());
    let is_it = |key: &str| key.starts_with(&format!("{name}_")) && key.ends_with("_rss_per_connection");
    let fact = report.facts.iter().find(|(key, _, _)| is_it(key));
    fact.map(|(_, value, _)| *value).ok_or_else(|| "the memory of the server is not known: give --pid".into())
}

fn fact(report: &Report, name: &str) -> Result<f64, String> {
    let found = report.facts.iter().find(|(key, _, _)| key == name);
    found.map(|(_, value, _)| *value).ok_or_else(|| {
        let keys: Vec<&str> = report.facts.iter().map(|(key, _, _)| key.as_str()).collect();
        format!("this run has no such fact; it has: {}", keys.join(" "))
    })
}

/// The unit of a fact is in the end of its key.
fn dimension_of_fact(key: &str) -> Dimension {
    let endings = [
        ("_cpu_ns_per_connection_second", Dimension::Time(1.0)),
        ("_ns", Dimension::Time(1.0)),
        ("_us", Dimension::Time(1e3)),
        ("_ms", Dimension::Time(1e6)),
        ("_seconds", Dimension::Time(1e9)),
        ("_bytes", Dimension::Bytes),
        ("_per_connection", Dimension::Bytes),
        ("_per_second", Dimension::PerSecond),
    ];
    endings
        .iter()
        .find(|(ending, _)| key.ends_with(ending))
        .map_or(Dimension::Plain, |&(_, dimension)| dimension)
}
