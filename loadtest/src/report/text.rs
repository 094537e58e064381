//! The summary for people.

use std::fmt::Write;

use super::Report;
use super::compare::{Total, compare};
use crate::cli::Common;
use crate::round::Series;
use crate::stats::Stats;

impl Report {
    /// The summary, some lines of at most 140 columns.
    pub fn text(&self, common: &Common) -> String {
        let mut out = format!("\n{}: {}\n", self.scenario, self.title);
        for series in &self.series {
            push_series(&mut out, series, self.unit);
        }
        for compared in compare(&self.series) {
            let rounds =
                compared.cpu_rounds.iter().fold(String::new(), |list, ratio| format!("{list} {ratio:.3}"));
            let _ = writeln!(
                out,
                "{} / {}: CPU x {} median of rounds, x {} pooled; p99 x {}; rounds:{rounds}",
                compared.name,
                compared.base,
                ratio(compared.cpu),
                ratio(compared.cpu_pooled),
                ratio(compared.p99)
            );
        }
        for (key, value, meaning) in &self.facts {
            let _ = writeln!(out, "{key:<44} {value:>16.3} {meaning}");
        }
        for (name, stats) in &self.stats {
            push_stats(&mut out, name, stats);
        }
        let _ = writeln!(
            out,
            "generator: longest time between two looks at the sockets {:.0} ms",
            self.longest_sweep_s() * 1e3
        );
        for warning in self.warnings() {
            let _ = writeln!(out, "{warning}");
        }
        if self.interrupted {
            out += "interrupted: the figures cover what was seen until then\n";
        }
        for told in self.assertions(common).iter().filter(|told| told.holds) {
            let _ = writeln!(out, "passed {}", told.text);
        }
        for fault in self.faults(common) {
            let _ = writeln!(out, "FAILED {fault}");
        }
        out
    }
}

/// A ratio, or that there is none.
fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.3}"))
}

fn push_series(out: &mut String, series: &Series, unit: &str) {
    if series.rounds.is_empty() {
        let _ = writeln!(out, "{:<13} no round was completed", series.name);
        return;
    }
    let total = Total::of(series);
    let ms = |quantile: f64| total.latency.value_at_quantile(quantile) as f64 / 1e6;
    let cpu = total.cpu.map_or_else(
        || format!("server CPU per {unit} unknown (give --pid)"),
        |cpu| {
            format!(
                "server CPU per {unit} {:.3} us (user {:.3}, system {:.3}; median round {:.3})",
                cpu.us,
                cpu.user_us,
                cpu.system_us(),
                cpu.median_us
            )
        },
    );
    let _ = writeln!(
        out,
        "{:<13} {cpu}, {:.0}/s, {} in {} rounds",
        series.name,
        total.rate_median,
        total.units,
        series.rounds.len()
    );
    if let Some(wire) = total.wire {
        let _ = writeln!(
            out,
            "{:<13} wire {:.1} bytes a delivery, {:.1} % of the messages' bytes; {:.1} % of the messages compressed",
            "",
            wire.per_delivery,
            wire.per_payload * 100.0,
            wire.deflated * 100.0
        );
    }
    if total.latency.is_empty() {
        let _ = writeln!(out, "{:<13} no latency was measured", "");
        return;
    }
    let _ = writeln!(
        out,
        "{:<13} latency p50 {:.2} p90 {:.2} p99 {:.2} p99.9 {:.2} max {:.2} ms; generator CPU {:.3} us, {:.2} cores; late ACKs {:.0} %",
        "",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        total.latency.max() as f64 / 1e6,
        total.generator_us,
        total.generator_cores,
        total.acks_by_timer * 100.0
    );
    if !total.spread.is_empty() {
        let ms = |quantile: f64| total.spread.value_at_quantile(quantile) as f64 / 1e6;
        let _ = writeln!(
            out,
            "{:<13} first to last subscriber p50 {:.2} p99 {:.2} max {:.2} ms, {} batches",
            "",
            ms(0.5),
            ms(0.99),
            total.spread.max() as f64 / 1e6,
            total.spread.len()
        );
    }
}

fn push_stats(out: &mut String, name: &str, stats: &Stats) {
    let tally = &stats.tally;
    let _ = writeln!(
        out,
        "{name}: {} live; {} delivered and verified, {} lost, {} duplicated, {} reordered, {} corrupted, {} foreign",
        stats.live,
        tally.delivered,
        tally.lost,
        tally.duplicated,
        tally.reordered,
        tally.corrupted,
        tally.foreign
    );
    let _ = writeln!(
        out,
        "{:<w$}  {} pings answered, {} connections ended by the server; {} recv, {} checked the long way",
        "",
        stats.pings,
        stats.closed,
        stats.reads,
        stats.detours,
        w = name.len()
    );
    if stats.deflated > 0 {
        let _ = writeln!(
            out,
            "{name}: {} messages came compressed, {} were inflated and the others found alike",
            stats.deflated, stats.inflated
        );
    }
    if tally.unverified > 0 {
        let _ = writeln!(
            out,
            "{name}: {} received that are not of this tool, and so not verified",
            tally.unverified
        );
    }
    if stats.owed > 0 {
        let _ = writeln!(out, "{name}: {} never came", stats.owed);
    }
    if stats.retried > 0 {
        let _ =
            writeln!(out, "{name}: {} connections were refused in a storm and tried again", stats.retried);
    }
    if stats.given_up > 0 {
        let _ = writeln!(out, "{name}: {} slow readers ended by the server", stats.given_up);
    }
    for (cause, times) in &stats.causes {
        let _ = writeln!(out, "{name}: {times} x {cause}");
    }
}
