//! All figures, for programs.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::Report;
use super::compare::{Cpu, Total, compare};
use crate::cli::Common;
use crate::monitor::{Counted, Timeline};
use crate::round::{Round, Series};
use crate::stats::Stats;

impl Report {
    /// Everything in one object; CPU in microseconds per unit, latencies in milliseconds.
    pub fn json(&self, common: &Common) -> Value {
        let facts: Map<String, Value> =
            self.facts.iter().map(|(key, value, _)| (key.clone(), json!(value))).collect();
        let stats: Map<String, Value> =
            self.stats.iter().map(|(name, stats)| (name.clone(), stats_json(stats))).collect();
        let ratios: Map<String, Value> = compare(&self.series)
            .into_iter()
            .map(|compared| {
                let value = json!({
                    "cpu": compared.cpu,
                    "cpu_pooled": compared.cpu_pooled,
                    "cpu_rounds": compared.cpu_rounds,
                    "p99": compared.p99,
                    "p99_rounds": compared.p99_rounds,
                });
                (format!("{}/{}", compared.name, compared.base), value)
            })
            .collect();
        let fingerprint: Map<String, Value> =
            self.fingerprint.0.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let assertions: Vec<Value> = self
            .assertions(common)
            .into_iter()
            .map(|told| json!({"holds": told.holds, "text": told.text}))
            .collect();
        json!({
            "scenario": self.scenario,
            "title": self.title,
            "command": std::env::args().collect::<Vec<_>>(),
            "unit": self.unit,
            "connections": common.connections,
            "series": self.series.iter().map(series_json).collect::<Vec<_>>(),
            "ratios": ratios,
            "facts": facts,
            "verification": stats,
            "generator_longest_sweep_ms": self.longest_sweep_s() * 1e3,
            "timeline": timeline_json(&self.timeline),
            "started": self.start.date(),
            "fingerprint": fingerprint,
            "missing": self.missing_in_all(),
            "warnings": self.warnings(),
            "interrupted": self.interrupted,
            "ended_by": self.failure.as_ref().map(ToString::to_string),
            "assertions": assertions,
            "failed": self.faults(common),
        })
    }
}

fn series_json(series: &Series) -> Value {
    let total = Total::of(series);
    json!({
        "name": series.name,
        "units": total.units,
        "cpu_us_per_unit": total.cpu.map(|cpu| cpu.us),
        "cpu_us_per_unit_median": total.cpu.map(|cpu| cpu.median_us),
        "user_us_per_unit": total.cpu.map(|cpu| cpu.user_us),
        "system_us_per_unit": total.cpu.map(Cpu::system_us),
        "units_per_second_median": total.rate_median,
        "generator_us_per_unit": total.generator_us,
        "acks_by_timer_per_recv": total.acks_by_timer,
        "generator_cores": total.generator_cores,
        "generator_busiest_thread": total.busiest_thread,
        "generator_lag_ms": latency_json(&total.lag),
        "published_late_ms": latency_json(&total.late),
        "latency_ms": latency_json(&total.latency),
        "first_to_last_ms": latency_json(&total.spread),
        "wire_bytes_per_delivery": total.wire.map(|wire| wire.per_delivery),
        "wire_bytes_per_payload_byte": total.wire.map(|wire| wire.per_payload),
        "compressed_share": total.wire.map(|wire| wire.deflated),
        "p99_ms_median": (!total.latency.is_empty()).then_some(total.p99_ms_median),
        "rounds": series.rounds.iter().map(round_json).collect::<Vec<_>>(),
    })
}

fn round_json(round: &Round) -> Value {
    let known = |ns: u64| (round.server.total_ns > 0).then_some(ns);
    json!({
        "units": round.units,
        "wall_seconds": round.wall_s,
        "units_per_second": round.rate(),
        "cpu_us_per_unit": round.cpu_per_unit().map(|ns| ns / 1e3),
        "server_cpu_ns": known(round.server.total_ns),
        "server_user_ns": known(round.server.user_ns),
        "server_system_ns": known(round.server.system_ns),
        "generator_cpu_ns": round.own.total_ns,
        "latency_ms": latency_json(&round.latency),
        "acks_by_timer_per_recv": round.acks_by_timer_share(),
        "missing": round.missing,
        "wire_bytes": round.wire.bytes,
        "payload_bytes": round.wire.payload_bytes,
        "compressed": round.wire.deflated,
    })
}

/// Percentiles; null of nothing.
fn latency_json(latency: &Histogram<u64>) -> Value {
    if latency.is_empty() {
        return Value::Null;
    }
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
    json!({"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p99.9": ms(0.999), "max": latency.max() as f64 / 1e6})
}

/// A column of numbers for each count; totals since the start, but for `live` and `rss_bytes`.
fn timeline_json(timeline: &Timeline) -> Value {
    let column = |index: usize, figure: fn(&Counted) -> u64| -> Vec<u64> {
        timeline.samples.iter().map(|sample| figure(&sample.targets[index])).collect()
    };
    let target = |(index, name): (usize, &String)| {
        let value = json!({
            "live": column(index, |counted| counted.live),
            "upgraded": column(index, |counted| counted.upgraded),
            "delivered": column(index, |counted| counted.delivered),
            "bytes": column(index, |counted| counted.bytes),
            "faults": column(index, |counted| counted.faults),
            "closed": column(index, |counted| counted.closed),
            "cpu_ns": column(index, |counted| counted.cpu_ns),
            "rss_bytes": column(index, |counted| counted.rss),
        });
        (name.clone(), value)
    };
    let targets: Map<String, Value> = timeline.names.iter().enumerate().map(target).collect();
    let seconds: Vec<f64> = timeline.samples.iter().map(|sample| sample.at_s).collect();
    json!({"seconds": seconds, "targets": targets})
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
        "unverified": stats.tally.unverified,
        "owed": stats.owed,
        "bytes": stats.bytes,
        "wire_bytes": stats.wire_bytes,
        "payload_bytes": stats.payload_bytes,
        "compressed": stats.deflated,
        "inflated": stats.inflated,
        "reads": stats.reads,
        "checked_the_long_way": stats.detours,
        "pings": stats.pings,
        "closed": stats.closed,
        "refused": stats.refused,
        "retried": stats.retried,
        "slow_ended_by_server": stats.given_up,
        "causes": stats.causes,
        "first_failure": stats.failure,
    })
}
