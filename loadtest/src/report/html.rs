//! The report as one page: no scripts, no fonts, nothing from any network. All texts that come from
//! outside are escaped by what builds the page, `table`, `Chart` and `escape`.

use std::fmt::Write;
use std::iter;

use super::Report;
use super::compare::{Cpu, Total, compare};
use crate::cli::Common;
use crate::round::{Round, Series};
use crate::stats::Stats;

/// Forbids the page all network, whatever were in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
const STYLE: &str = include_str!("page.css");
/// A figure that there is not.
const NONE: &str = "–";

/// A column of the table of counts.
struct Count {
    title: &'static str,
    of: fn(&Stats) -> u64,
    /// Whether most runs have none.
    is_rare: bool,
}

const fn usual(title: &'static str, of: fn(&Stats) -> u64) -> Count {
    Count { title, of, is_rare: false }
}

const fn rare(title: &'static str, of: fn(&Stats) -> u64) -> Count {
    Count { title, of, is_rare: true }
}

const COUNTS: &[Count] = &[
    usual("live", |stats| stats.live),
    usual("upgraded", |stats| stats.upgraded),
    usual("delivered", |stats| stats.tally.delivered),
    usual("lost", |stats| stats.tally.lost),
    usual("duplicated", |stats| stats.tally.duplicated),
    usual("reordered", |stats| stats.tally.reordered),
    usual("corrupted", |stats| stats.tally.corrupted),
    rare("never came", |stats| stats.owed),
    rare("foreign", |stats| stats.tally.foreign),
    rare("unverified", |stats| stats.tally.unverified),
    usual("closed", |stats| stats.closed),
    rare("refused", |stats| stats.refused),
    rare("retried", |stats| stats.retried),
    usual("pings", |stats| stats.pings),
    usual("bytes", |stats| stats.bytes),
];

impl Report {
    /// The whole page.
    pub fn html(&self, common: &Common) -> String {
        let heading = escape(&format!("{}: {}", self.scenario, self.title));
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{heading}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{heading}</h1>\n"
        );
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(
            page,
            "<p class=\"muted\">{} · tidegate-loadtest {version}</p>",
            escape(&self.start.date())
        );
        self.push_verdict(&mut page, common);
        let _ = writeln!(page, "<h2>Command</h2>\n<pre><code>{}</code></pre>", escape(&command()));
        self.push_series(&mut page);
        self.push_counts(&mut page);
        // Where nothing was measured in rounds, the facts are what it was about.
        if self.series.is_empty() {
            self.push_facts(&mut page);
            self.push_curves(&mut page);
        } else {
            self.push_curves(&mut page);
            self.push_facts(&mut page);
        }
        self.push_rounds(&mut page);
        let rows: Vec<_> =
            self.fingerprint.0.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]).collect();
        let _ = writeln!(page, "<h2>Machine</h2>\n{}", table("words", &["setting", "value"], &rows));
        page + "</main>\n</body>\n</html>\n"
    }

    fn push_verdict(&self, page: &mut String, common: &Common) {
        let faults = self.faults(common);
        let (class, word) = if faults.is_empty() { ("passed", "Passed") } else { ("failed", "Failed") };
        let _ = writeln!(page, "<section class=\"verdict {class}\">\n<p><strong>{word}</strong></p>\n<ul>");
        for fault in &faults {
            let _ = writeln!(page, "<li><strong>failed</strong> {}</li>", escape(fault));
        }
        for told in self.assertions(common).iter().filter(|told| told.holds) {
            let _ = writeln!(page, "<li>passed {}</li>", escape(&told.text));
        }
        if faults.is_empty() && !common.allow_loss {
            let delivered = self.stats.iter().any(|(_, stats)| stats.tally.delivered > 0);
            let messages = if delivered { "every message once, in order and unchanged; " } else { "" };
            let _ = writeln!(page, "<li>passed {messages}no reading connection ended by the server</li>");
        }
        if self.interrupted {
            page.push_str("<li>interrupted: the figures cover what was seen until then</li>\n");
        }
        for warning in self.warnings() {
            let _ = writeln!(page, "<li class=\"warning\">{}</li>", escape(&warning));
        }
        page.push_str("</ul>\n</section>\n");
    }

    fn push_series(&self, page: &mut String) {
        let Some(last) = self.series.last() else { return };
        let compared = compare(&self.series);
        let (cpu, ratio) = (format!("CPU us per {}", self.unit), format!("CPU x {}", last.name));
        let p99_ratio = format!("p99 x {}", last.name);
        let per_second = if self.unit == "delivery" { "deliveries/s" } else { "connections/s" };
        let head = [
            "series",
            &cpu,
            "user",
            "system",
            &ratio,
            per_second,
            "p50 ms",
            "p90",
            "p99",
            "p99.9",
            "max",
            &p99_ratio,
            "generator cores",
            "late ACKs",
        ];
        let row = |series: &Series| {
            let total = Total::of(series);
            let beside = compared.iter().find(|compared| compared.name == series.name);
            let known =
                |value: Option<f64>| value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"));
            let mut row = vec![
                series.name.clone(),
                known(total.cpu.map(|cpu| cpu.us)),
                known(total.cpu.map(|cpu| cpu.user_us)),
                known(total.cpu.map(Cpu::system_us)),
                known(beside.and_then(|compared| compared.cpu)),
                grouped(total.rate_median),
            ];
            row.extend(latency_cells(&total.latency, &[0.5, 0.9, 0.99, 0.999]));
            row.push(known(beside.and_then(|compared| compared.p99)));
            row.push(format!("{:.2}", total.generator_cores));
            row.push(format!("{:.0} %", total.acks_by_timer * 100.0));
            row
        };
        let rows: Vec<_> = self.series.iter().map(row).collect();
        let _ = writeln!(page, "<h2>Series</h2>\n{}", table("", &head, &rows));
        page.push_str("<p class=\"muted\">Latencies in ms over all rounds. Ratios and rates are those of the median round; \
                       user and system are split by the timer tick.</p>\n");
    }

    fn push_curves(&self, page: &mut String) {
        let charts = self.percentile_charts();
        if !charts.is_empty() {
            page.push_str("<h2>Latency</h2>\n");
            charts.iter().for_each(|chart| page.push_str(&chart.figure()));
        }
        let charts = self.time_charts();
        if !charts.is_empty() {
            page.push_str("<h2>Over time</h2>\n");
            charts.iter().for_each(|chart| page.push_str(&chart.figure()));
        }
    }

    fn push_counts(&self, page: &mut String) {
        // What never happened is left out where it is rare, so that the table fits a screen.
        let columns: Vec<_> = COUNTS
            .iter()
            .filter(|count| !count.is_rare || self.stats.iter().any(|(_, stats)| (count.of)(stats) > 0))
            .collect();
        let head: Vec<&str> = iter::once("server").chain(columns.iter().map(|count| count.title)).collect();
        let row = |(name, stats): &(String, Stats)| {
            let counts = columns.iter().map(|count| grouped((count.of)(stats) as f64));
            iter::once(name.clone()).chain(counts).collect()
        };
        let rows: Vec<_> = self.stats.iter().map(row).collect();
        let _ = writeln!(page, "<h2>Verification</h2>\n{}", table("", &head, &rows));
    }

    fn push_facts(&self, page: &mut String) {
        let mut rows: Vec<_> = self
            .facts
            .iter()
            .map(|(key, value, meaning)| vec![key.clone(), grouped(*value), meaning.clone()])
            .collect();
        let sweep = format!("{:.0}", self.longest_sweep_s() * 1e3);
        rows.push(vec![
            "generator_longest_sweep".into(),
            sweep,
            "ms between two looks at the sockets, at most".into(),
        ]);
        let _ = writeln!(page, "<h2>Facts</h2>\n{}", table("facts", &["fact", "value", "meaning"], &rows));
    }

    fn push_rounds(&self, page: &mut String) {
        let mut rounds: Vec<(&Series, usize, &Round)> = Vec::new();
        for series in &self.series {
            rounds
                .extend(series.rounds.iter().enumerate().map(|(number, round)| (series, number + 1, round)));
        }
        if rounds.is_empty() {
            return;
        }
        rounds.sort_by_key(|(_, _, round)| round.started_ns);
        let head = [
            "series",
            "round",
            "at s",
            "length s",
            "units",
            "units/s",
            "CPU us",
            "p50 ms",
            "p99",
            "p99.9",
            "max",
            "late ACKs",
            "missing",
        ];
        let row = |&(series, number, round): &(&Series, usize, &Round)| {
            let at_s = round.started_ns.saturating_sub(self.start.monotonic_ns) as f64 / 1e9;
            let mut row = vec![
                series.name.clone(),
                number.to_string(),
                format!("{at_s:.2}"),
                format!("{:.3}", round.wall_s),
                grouped(round.units as f64),
                grouped(round.rate()),
                round.cpu_per_unit().map_or_else(|| NONE.to_owned(), |ns| format!("{:.3}", ns / 1e3)),
            ];
            row.extend(latency_cells(&round.latency, &[0.5, 0.99, 0.999]));
            row.push(format!("{:.0} %", round.acks_by_timer_share() * 100.0));
            row.push(grouped(round.missing as f64));
            row
        };
        let rows: Vec<_> = rounds.iter().map(row).collect();
        let _ = writeln!(
            page,
            "<details>\n<summary><h2>Rounds ({})</h2></summary>\n{}</details>",
            rows.len(),
            table("", &head, &rows)
        );
    }
}

/// Percentiles and the maximum in milliseconds.
fn latency_cells(latency: &hdrhistogram::Histogram<u64>, quantiles: &[f64]) -> Vec<String> {
    let values = quantiles.iter().map(|&quantile| latency.value_at_quantile(quantile)).chain([latency.max()]);
    let cell =
        |value: u64| if latency.is_empty() { NONE.into() } else { format!("{:.2}", value as f64 / 1e6) };
    values.map(cell).collect()
}

/// A table in a box of its own, which scrolls where the window is narrow. The first cell of a row names it.
fn table(class: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out =
        format!("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"{}\">", escape(head[0]));
    let _ = write!(out, "<table class=\"{class}\">\n<thead><tr>");
    for cell in head {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(cell));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in rows {
        out += "<tr>";
        for (index, cell) in row.iter().enumerate() {
            let (open, close) = if index == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
            let _ = write!(out, "<{open}>{}</{close}>", escape(cell));
        }
        out += "</tr>\n";
    }
    out + "</tbody>\n</table></div>\n"
}

/// A number, its thousands divided by narrow blanks; three decimals where it is small and has some.
fn grouped(value: f64) -> String {
    if value.abs() < 1000.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value <= -0.5 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The command line, with quotes where a shell needs them.
fn command() -> String {
    let is_plain = |letter: char| letter.is_alphanumeric() || "-_./:=,+%@".contains(letter);
    let quote = |word: String| {
        if !word.is_empty() && word.chars().all(is_plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let arguments = std::env::args().skip(1).map(quote);
    iter::once("tidegate-loadtest".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// A text that cannot be taken for markup, within an element or an attribute in double quotes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // Control characters have no place in a page, and may come from a server's answer.
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_from_outside_is_text() {
        assert_eq!(escape("<a href=\"x\">&'\u{1b}"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\u{fffd}");
        let out = table("", &["<i>"], &[vec!["<script>".into(), "<img>".into()]]);
        assert!(!out.contains("<i>") && !out.contains("<script>") && !out.contains("<img>"), "{out}");
    }

    #[test]
    fn numbers_are_grouped() {
        let shown = [0.0, 1.5, 999.0, 1234.4, -1_234_567.0].map(grouped);
        assert_eq!(shown, ["0", "1.500", "999", "1\u{202f}234", "-1\u{202f}234\u{202f}567"]);
    }
}
