//! What is left after a run: the page, the HdrHistogram log, assertions and their exit codes; and what is
//! refused before a run.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogHistogram, IntervalLogIterator, LogEntry};
use serde_json::Value;

/// A short run with two series of two rounds, of 100 subscribers.
const FANOUT: [&str; 8] = ["fanout", "--limit=2,1", "-n", "100", "--rounds", "2", "--round-seconds", "100ms"];

fn loadtest(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tidegate-loadtest");
    Command::new(program).args(arguments).args(["--timeout", "100s"]).output().expect("the binary runs")
}

/// A file that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("tidegate-loadtest-reports-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.path()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn lines_of(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

#[test]
fn the_page_has_all_series_and_needs_no_network() {
    let page = Scratch::new("page.html");
    let output = loadtest(&[&FANOUT[..], &["--html", page.path(), "--assert", "p99<100s"]].concat());
    assert!(output.status.success(), "{output:?}");
    let text = page.text();
    for part in [
        "<th scope=\"row\">limit-2</th>",
        "<th scope=\"row\">limit</th>",
        "Latency by percentile",
        "Deliveries",
        "<summary><h2>Rounds (4)</h2></summary>",
        "net.ipv4.tcp_rmem",
        "Linux ",
        "passed assert p99&lt;100s: p99 was ",
        "prefers-color-scheme: dark",
        "default-src &#39;none&#39;",
    ] {
        let part = part.replace("&#39;", "'");
        assert!(text.contains(&part), "{part} is missing in {text}");
    }
    for part in
        ["<script", "<link", "<img", "<iframe", "@import", "url(", "src=", "href=", "http://", "https://"]
    {
        assert!(!text.contains(part), "{part} is in {text}");
    }
    assert!(!text.contains("NaN"), "{text}");
    for element in
        ["table", "figure", "svg", "div", "details", "section", "ul", "li", "tr", "th", "td", "pre"]
    {
        let (opened, closed) = (
            text.matches(&format!("<{element}>")).count() + text.matches(&format!("<{element} ")).count(),
            text.matches(&format!("</{element}>")).count(),
        );
        assert_eq!(opened, closed, "{element}");
    }
}

#[test]
fn what_comes_from_outside_is_no_markup() {
    let page = Scratch::new("escaped.html");
    let name = "<script>alert(1)</script>\"'&";
    let arguments =
        ["hold", "--limit", "-n", "3", "--hold", "10ms", "--channel", name, "--html", page.path()];
    let output = loadtest(&arguments);
    assert!(output.status.success(), "{output:?}");
    let text = page.text();
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{text}");
    assert!(!text.contains("<script"), "{text}");
}

/// The intervals of a log, read by the library's own reader.
fn intervals(log: &str) -> Vec<IntervalLogHistogram<'_>> {
    IntervalLogIterator::new(log.as_bytes())
        .filter_map(|entry| match entry.expect("a line of an HdrHistogram log") {
            LogEntry::Interval(interval) => Some(interval),
            _ => None,
        })
        .collect()
}

fn histogram_of(interval: &IntervalLogHistogram<'_>) -> Histogram<u64> {
    let bytes = STANDARD.decode(interval.encoded_histogram()).expect("base64");
    Deserializer::new().deserialize(&mut &bytes[..]).expect("a compressed histogram")
}

#[test]
fn the_log_of_histograms_has_each_delivery_of_each_round() {
    let (log, json) = (Scratch::new("run.hdr"), Scratch::new("run.json"));
    let output = loadtest(&[&FANOUT[..], &["--hdr", log.path(), "--json", json.path(), "-q"]].concat());
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_str(&json.text()).expect("valid JSON");
    let text = log.text();
    assert!(text.contains("nanoseconds") && text.contains("#[StartTime: "), "{text}");
    let intervals = intervals(&text);
    let mut rounds: HashMap<String, Vec<&IntervalLogHistogram<'_>>> = HashMap::new();
    for interval in &intervals {
        rounds.entry(interval.tag().expect("a tag").as_str().to_owned()).or_default().push(interval);
    }
    // The timeline begins a little before the report and ends after the last round.
    let run_s =
        report["timeline"]["seconds"].as_array().and_then(|all| all.last()?.as_f64()).expect("seconds");
    for series in report["series"].as_array().expect("series") {
        let logged = &rounds[series["name"].as_str().expect("a name")];
        let measured = series["rounds"].as_array().expect("rounds");
        assert_eq!((logged.len(), measured.len()), (2, 2));
        let mut end = 0.0;
        for (interval, round) in logged.iter().zip(measured) {
            let histogram = histogram_of(interval);
            assert_eq!(Some(histogram.len()), round["units"].as_u64());
            assert_eq!(Some(histogram.max() as f64 / 1e6), round["latency_ms"]["max"].as_f64());
            assert!((interval.max() - histogram.max() as f64 / 1e6).abs() < 0.001, "{interval:?}");
            let (start, length) =
                (interval.start_timestamp().as_secs_f64(), interval.duration().as_secs_f64());
            assert!(
                (length - round["wall_seconds"].as_f64().expect("seconds")).abs() < 0.002,
                "{interval:?}"
            );
            assert!(start > 0.0 && start >= end - 0.002, "rounds follow each other: {start} after {end}");
            end = start + length;
            assert!(end <= run_s, "a round ends at {end} of {run_s}");
        }
    }
}

#[test]
fn the_timeline_and_the_fingerprint_are_in_the_json() {
    let json = Scratch::new("timeline.json");
    let output = loadtest(&[&FANOUT[..], &["--json", json.path(), "-q"]].concat());
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_str(&json.text()).expect("valid JSON");
    let seconds = report["timeline"]["seconds"].as_array().expect("seconds").len();
    assert!(seconds >= 2, "{report:#}");
    for name in ["limit-2", "limit"] {
        let target = &report["timeline"]["targets"][name];
        let last = |figure: &str| target[figure].as_array().expect("a column")[seconds - 1].clone();
        assert_eq!(last("delivered"), report["verification"][name]["delivered"]);
        assert_eq!((last("live"), last("upgraded"), last("faults")), (100.into(), 100.into(), 0.into()));
        assert!(last("cpu_ns").as_u64() > Some(0) && last("rss_bytes").as_u64() > Some(100_000), "{target}");
    }
    assert!(report["fingerprint"]["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("Linux ")));
}

#[test]
fn assertions_decide_the_exit_code_and_say_what_was_measured() {
    let assertions = |assertions: &[&'static str]| -> Vec<&'static str> {
        FANOUT.into_iter().chain(assertions.iter().flat_map(|text| ["--assert", text])).collect()
    };
    let output = loadtest(&assertions(&["loss==0", "p99<100s", "rate>1/s", "cpu_per_delivery<1000*limit"]));
    let lines = lines_of(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(lines.contains(&"passed assert loss==0: loss was 0".to_owned()), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("passed assert ")).count(), 4, "{lines:?}");

    let failing =
        ["loss==0", "p50<1ns", "cpu_per_delivery<0.001*limit", "connections==101", "limit-2_x_bytes<1"];
    let output = loadtest(&assertions(&failing));
    let lines = lines_of(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for beginning in [
        "FAILED assert p50<1ns: p50 was ",
        "FAILED assert cpu_per_delivery<0.001*limit: cpu_per_delivery was ",
        "FAILED assert connections==101: connections was 100",
        "FAILED assert limit-2_x_bytes<1: limit-2_x_bytes cannot be told: this run has no such fact; it has: limit-2_",
        "passed assert loss==0: loss was 0",
    ] {
        assert_eq!(
            lines.iter().filter(|line| line.starts_with(beginning)).count(),
            1,
            "{beginning}: {lines:?}"
        );
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("4 check(s) failed: assert p50<1ns: p50 was "), "{errors}");
}

#[test]
fn an_assertion_on_loss_replaces_the_check_that_was_switched_off() {
    let run = |assertion| {
        let arguments =
            ["latency", "--limit", "-n", "20", "--rate", "50", "--rounds", "1", "--round-seconds"];
        let end = ["400ms", "--plant", "drop", "--allow-loss", "--assert", assertion];
        loadtest(&[&arguments[..], &end].concat()).status.code()
    };
    assert_eq!((run("loss<=1"), run("loss==0")), (Some(0), Some(1)));
}

#[test]
fn every_fact_can_be_held_against_a_bound() {
    for scenario in [
        &["hold", "--limit", "-n", "20", "--hold", "10ms", "--broadcasts", "1"][..],
        &["slow", "--limit", "-n", "20", "--rounds", "1", "--round-seconds", "50ms", "--prefill", "16"],
    ] {
        let json = Scratch::new(scenario[0]);
        loadtest(&[scenario, &["--json", json.path()]].concat());
        let report: Value = serde_json::from_str(&json.text()).expect("valid JSON");
        let facts: Vec<String> = report["facts"].as_object().expect("facts").keys().cloned().collect();
        assert!(facts.len() > 4, "{facts:?}");
        let assertions: Vec<String> = facts.iter().map(|key| format!("--assert={key}>-1e15")).collect();
        let arguments: Vec<&str> =
            scenario.iter().copied().chain(assertions.iter().map(String::as_str)).collect();
        let output = loadtest(&arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

/// Nothing may start: the command that would start the server leaves a file behind.
#[test]
fn what_cannot_come_out_is_refused_before_anything_starts() {
    let (trace, page) = (Scratch::new("trace"), Scratch::new("refused.html"));
    let spawn = format!("touch {}", trace.path());
    let server = ["fanout", "--url", "ws://127.0.0.1:1/x", "--spawn", &spawn];
    for (arguments, hint) in [
        (&["--json", "/nowhere/at/all.json"][..], "--json: cannot write /nowhere/at/all.json: No such file"),
        (&["--hdr", "/nowhere/at/all.hdr"], "--hdr: cannot write"),
        (&["--html", "/nowhere/at/all.html"], "--html: cannot write"),
        (&["--html", "/"], "--html: cannot write /: Is a directory"),
        (&["--html", page.path(), "--json", "/nowhere/at/all.json"], "--json: cannot write"),
        (&["--html", page.path(), "--hdr", page.path()], "name the same file"),
        (&["--assert", "p98<1ms"], "unknown figure 'p98': there are p50 "),
        (&["--assert", "p99<1parsec"], "unknown unit 'parsec', there is: ns us ms s"),
        (&["--assert", "p99~1ms"], "one of < <= > >= =="),
        (&["--assert", "p99<1.1*limit"], "--assert 'p99<1.1*limit': there is no series 'limit' in this run"),
        (&["--assert", "cpu_per_connection<1"], "write cpu_per_delivery"),
    ] {
        let output = loadtest(&[&server[..], arguments].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {errors}");
        assert!(errors.contains(hint), "{arguments:?}: {errors}");
        assert!(
            output.stdout.is_empty() && !trace.0.exists() && !page.0.exists(),
            "{arguments:?}: {output:?}"
        );
    }
    let output = loadtest(&server);
    assert!(trace.0.exists(), "without a fault it would have started: {output:?}");
}

#[test]
fn without_a_terminal_there_are_plain_lines_and_quiet_says_nothing() {
    let output = loadtest(&FANOUT);
    let lines = lines_of(&output.stderr);
    assert!(lines.contains(&"limit: connecting 100 subscribers".to_owned()), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("round ")).count(), 4, "{lines:?}");
    assert!(!output.stderr.contains(&0x1b) && !output.stderr.contains(&b'\r'), "{lines:?}");
    let output = loadtest(&[&FANOUT[..], &["--quiet"]].concat());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
