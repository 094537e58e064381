//! What a run found: verdict, figures, and how they are written as text and as JSON.

use serde_json::{Map, Value, json};

use crate::cli::Common;
use crate::round::{Round, Series, median, ratios};
use crate::server::accounts::{KernelMemory, Memory};
use crate::stage::Stage;
use crate::stats::Stats;

/// Everything that a scenario hands back.
#[derive(Debug, Default)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// What a unit of a round is.
    pub unit: &'static str,
    /// The load in words.
    pub title: String,
    /// Measured rounds; the last series is what the others are compared with.
    pub series: Vec<Series>,
    /// Further figures: key, value, meaning.
    pub facts: Vec<(String, f64, String)>,
    /// Counts of each server's subscribers.
    pub stats: Vec<(String, Stats)>,
    /// Deliveries outside of rounds that did not come.
    pub missing: u64,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
}

/// Memory of each server's process, where it is known.
pub fn memory_of_all(stage: &Stage) -> Vec<Option<Memory>> {
    stage.arms.iter().map(|arm| arm.pid.and_then(|pid| Memory::of(pid).ok())).collect()
}

impl Report {
    /// An empty report.
    pub fn new(scenario: &'static str, unit: &'static str) -> Self {
        Self { scenario, unit, ..Self::default() }
    }

    /// Adds one figure.
    pub fn add_fact(&mut self, key: &str, value: f64, meaning: &str) {
        self.facts.push((key.to_owned(), value, meaning.to_owned()));
    }

    /// Adds what each server's memory has grown by since `before`.
    pub fn add_memory(&mut self, stage: &Stage, before: &[Option<Memory>], connections: usize) {
        for index in 0..stage.arms.len() {
            self.add_memory_of(stage, index, before, connections, "");
        }
    }

    /// Adds what one server's memory has grown by, with a word on the circumstance.
    pub fn add_memory_of(
        &mut self,
        stage: &Stage,
        index: usize,
        before: &[Option<Memory>],
        connections: usize,
        when: &str,
    ) {
        let arm = &stage.arms[index];
        let Some((before, now)) = before[index].zip(arm.pid.and_then(|pid| Memory::of(pid).ok())) else {
            return;
        };
        let name = format!("{}{}{}", arm.target.name, if when.is_empty() { "" } else { " " }, when)
            .replace(' ', "_");
        let per = |now: u64, before: u64| (now as f64 - before as f64) / connections as f64;
        self.add_fact(&format!("{name}_rss_bytes"), now.rss as f64, "bytes resident");
        self.add_fact(
            &format!("{name}_pss_bytes"),
            now.pss as f64,
            "bytes, shared pages divided among their users",
        );
        self.add_fact(
            &format!("{name}_rss_per_connection"),
            per(now.rss, before.rss),
            "bytes RSS growth per connection",
        );
        self.add_fact(
            &format!("{name}_anonymous_per_connection"),
            per(now.anonymous, before.anonymous),
            "bytes heap growth per connection",
        );
    }

    /// Adds what the kernel's memory has grown by, for both ends together.
    pub fn add_kernel_memory(&mut self, before: &KernelMemory, connections: usize) {
        let now = KernelMemory::now();
        let per = |growth: f64| growth / connections as f64;
        self.add_fact(
            "kernel_slab_per_connection",
            per(now.slab as f64 - before.slab as f64),
            "bytes kernel slab per connection, both ends",
        );
        self.add_fact(
            "available_per_connection",
            per(before.available as f64 - now.available as f64),
            "bytes less MemAvailable per connection, both ends and processes",
        );
        self.add_fact("tcp_buffer_bytes", now.tcp_buffers as f64, "bytes in TCP buffers of the machine");
    }

    /// What was wrong, one line each; empty if all is well.
    pub fn faults(&self, common: &Common) -> Vec<String> {
        let mut faults = Vec::new();
        let missing = self.missing
            + self.series.iter().flat_map(|series| &series.rounds).map(|round| round.missing).sum::<u64>();
        if missing > 0 {
            faults.push(format!("{missing} deliveries did not come in time"));
        }
        for (name, stats) in &self.stats {
            let tally = &stats.tally;
            if tally.faults() > 0 {
                faults.push(format!(
                    "{name}: {} lost, {} duplicated, {} reordered, {} corrupted",
                    tally.lost, tally.duplicated, tally.reordered, tally.corrupted
                ));
            }
            if stats.closed > 0 || stats.failure.is_some() {
                let cause = stats.failure.as_deref().unwrap_or("unknown cause");
                faults.push(format!(
                    "{name}: {} connections ended by the server; the first: {cause}",
                    stats.closed
                ));
            }
        }
        if common.allow_loss {
            faults.clear();
        }
        for (name, ratio) in self.cpu_ratios() {
            if common.ratio_max.is_some_and(|max| ratio > max) {
                faults.push(format!("{name}: CPU ratio {ratio:.3} is above --ratio-max"));
            }
        }
        faults
    }

    /// Each series' median CPU ratio to the last.
    fn cpu_ratios(&self) -> Vec<(String, f64)> {
        let Some((base, others)) = self.series.split_last() else { return Vec::new() };
        let ratio =
            |series: &Series| (series.name.clone(), median(ratios(series, base, Round::cpu_per_unit)));
        others.iter().map(ratio).filter(|(_, ratio)| *ratio > 0.0).collect()
    }

    /// The summary for people.
    pub fn text(&self, common: &Common) -> String {
        let mut out = format!("\n{}: {}\n", self.scenario, self.title);
        for series in &self.series {
            out += &series_text(series, self.unit);
        }
        if let Some((base, others)) = self.series.split_last() {
            for series in others {
                let cpu = ratios(series, base, Round::cpu_per_unit);
                let p99 = ratios(series, base, Round::p99);
                let list = cpu.iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>().join(" ");
                out += &format!(
                    "{} / {}: CPU x {:.3} (rounds: {list}), p99 x {:.3}\n",
                    series.name,
                    base.name,
                    median(cpu),
                    median(p99)
                );
            }
        }
        for (key, value, meaning) in &self.facts {
            out += &format!("{key:<44} {value:>16.3} {meaning}\n");
        }
        for (name, stats) in &self.stats {
            let tally = &stats.tally;
            out += &format!(
                "{name}: {} live; {} delivered and verified, {} lost, {} duplicated, {} reordered, {} corrupted, {} foreign; \
                 {} pings answered, {} closed; {} recv, {} parsed the long way, longest sweep {:.1} ms\n",
                stats.live,
                tally.delivered,
                tally.lost,
                tally.duplicated,
                tally.reordered,
                tally.corrupted,
                tally.foreign,
                stats.pings,
                stats.closed,
                stats.reads,
                stats.detours,
                stats.lag_ns_max as f64 / 1e6
            );
        }
        if self.interrupted {
            out += "interrupted: the figures cover what was seen until then\n";
        }
        for fault in self.faults(common) {
            out += &format!("FAILED {fault}\n");
        }
        out
    }

    /// All figures.
    pub fn json(&self, common: &Common) -> Value {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(key, value, _)| (key.clone(), json!(value))).collect();
        let stats: Map<String, Value> =
            self.stats.iter().map(|(name, stats)| (name.clone(), stats_json(stats))).collect();
        let series: Vec<Value> = self.series.iter().map(series_json).collect();
        let mut compared = Map::new();
        if let Some((base, others)) = self.series.split_last() {
            for series in others {
                let cpu = ratios(series, base, Round::cpu_per_unit);
                let p99 = ratios(series, base, Round::p99);
                let value = json!({"cpu": median(cpu.clone()), "cpu_rounds": cpu, "p99": median(p99.clone()), "p99_rounds": p99});
                compared.insert(format!("{}/{}", series.name, base.name), value);
            }
        }
        json!({
            "scenario": self.scenario,
            "title": self.title,
            "unit": self.unit,
            "connections": common.connections,
            "series": series,
            "ratios": compared,
            "facts": facts,
            "verification": stats,
            "missing": self.missing,
            "interrupted": self.interrupted,
            "failed": self.faults(common),
        })
    }
}

/// Sums over the rounds of a series.
struct Total {
    units: f64,
    cpu_us: f64,
    user_us: f64,
    own_us: f64,
}

fn total(series: &Series) -> Total {
    let mut server = crate::server::accounts::CpuTime::default();
    let mut own = server;
    let mut units = 0;
    for round in &series.rounds {
        server += round.server;
        own += round.own;
        units += round.units;
    }
    let per_unit = 1e3 * units.max(1) as f64;
    let cpu_us = server.total_ns as f64 / per_unit;
    Total {
        units: units as f64,
        cpu_us,
        user_us: cpu_us * server.user_share(),
        own_us: own.total_ns as f64 / per_unit,
    }
}

fn series_text(series: &Series, unit: &str) -> String {
    let total = total(series);
    let mut latency = crate::stats::Latencies::new().delivery;
    for round in &series.rounds {
        let _ = latency.add(&round.latency);
    }
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
    format!(
        "{:<12} {:8.3} us server CPU per {unit} (median of {} rounds {:.3}; user {:.3}, system {:.3}), generator {:.3} us, {:.0} in all, {:.0}/s\n\
         {:<12} latency p50 {:.2} p90 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms\n",
        series.name,
        total.cpu_us,
        series.rounds.len(),
        median(series.rounds.iter().map(|round| round.cpu_per_unit() / 1e3).collect()),
        total.user_us,
        total.cpu_us - total.user_us,
        total.own_us,
        total.units,
        median(series.rounds.iter().map(|round| round.units as f64 / round.wall_s).collect()),
        "",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        latency.max() as f64 / 1e6
    )
}

fn series_json(series: &Series) -> Value {
    let total = total(series);
    let round_json = |round: &Round| {
        let ms = |quantile: f64| round.latency.value_at_quantile(quantile) as f64 / 1e6;
        json!({
            "units": round.units,
            "wall_seconds": round.wall_s,
            "units_per_second": round.units as f64 / round.wall_s,
            "cpu_us_per_unit": round.cpu_per_unit() / 1e3,
            "server_cpu_ns": round.server.total_ns,
            "server_user_ns": round.server.user_ns,
            "server_system_ns": round.server.system_ns,
            "generator_cpu_ns": round.own.total_ns,
            "latency_ms": {"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p99.9": ms(0.999), "max": round.latency.max() as f64 / 1e6},
            "missing": round.missing,
        })
    };
    json!({
        "name": series.name,
        "cpu_us_per_unit": total.cpu_us,
        "cpu_us_per_unit_median": median(series.rounds.iter().map(|round| round.cpu_per_unit() / 1e3).collect()),
        "user_us_per_unit": total.user_us,
        "system_us_per_unit": total.cpu_us - total.user_us,
        "generator_us_per_unit": total.own_us,
        "p99_ms_median": median(series.rounds.iter().map(|round| round.p99() / 1e6).collect()),
        "rounds": series.rounds.iter().map(round_json).collect::<Vec<_>>(),
    })
}

fn stats_json(stats: &Stats) -> Value {
    json!({
        "live": stats.live,
        "stalled": stats.stalled,
        "upgraded": stats.upgraded,
        "delivered": stats.tally.delivered,
        "lost": stats.tally.lost,
        "duplicated": stats.tally.duplicated,
        "reordered": stats.tally.reordered,
        "corrupted": stats.tally.corrupted,
        "foreign": stats.tally.foreign,
        "bytes": stats.bytes,
        "reads": stats.reads,
        "parsed_the_long_way": stats.detours,
        "pings": stats.pings,
        "closed": stats.closed,
        "longest_sweep_ms": stats.lag_ns_max as f64 / 1e6,
        "first_failure": stats.failure,
    })
}
