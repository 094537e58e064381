//! Expressions, refusals and verdicts, one by one.

use clap::Parser;

use super::*;
use crate::cli::Cli;
use crate::round::{Round, Series, Wire};
use crate::server::accounts::CpuTime;
use crate::stats::{Stats, latencies};
use crate::verify::Tally;

const USUAL: Gives =
    Gives { has_rounds: true, has_memory: true, unit: "delivery", sets_servers_side_by_side: true };

fn common(arguments: &[&str]) -> Common {
    let cli = Cli::try_parse_from([&["tidegate-loadtest", "fanout"], arguments].concat());
    cli.unwrap_or_else(|error| panic!("{error}")).scenario.common().unwrap().clone()
}

/// A round of 1000 deliveries in half a second, each after `latency_ms` but for one after ten times that.
fn round(latency_ms: u64, cpu_us: u64) -> Round {
    let mut latency = latencies();
    latency.record_n(latency_ms * 1_000_000, 999).unwrap();
    latency.record(latency_ms * 10_000_000).unwrap();
    let server = CpuTime { total_ns: cpu_us * 1_000_000, user_ns: 1, system_ns: 3 };
    let own = CpuTime { total_ns: 250_000_000, ..CpuTime::default() };
    Round {
        units: 1000,
        wall_s: 0.5,
        server,
        own,
        spread: latency.clone(),
        handshake: latency.clone(),
        latency,
        reads: 1000,
        ..Round::empty(0)
    }
}

fn report() -> Report {
    let mut report = Report::new(2);
    report.describe("fanout", "delivery", String::new());
    let series = |name: &str, rounds| Series { name: name.to_owned(), rounds };
    // Round by round the server needs twice what the limit needs, though the second round is slower for both.
    let server = vec![round(10, 2), round(10, 2), round(20, 8)];
    report.series =
        vec![series("server", server), series("limit", vec![round(5, 1), round(5, 1), round(10, 4)])];
    let tally = Tally { delivered: 9_990, lost: 10, duplicated: 2, ..Tally::default() };
    let stats = Stats { live: 90, upgraded: 100, closed: 1, tally, ..Stats::default() };
    let clean = Tally { delivered: 9_990, lost: 5, ..Tally::default() };
    report.stats = vec![
        ("server".to_owned(), stats),
        ("limit".to_owned(), Stats { live: 100, upgraded: 100, tally: clean, ..Stats::default() }),
    ];
    report.add_fact("server_rss_per_connection", 2_048.0, "bytes");
    report.add_fact("limit_rss_per_connection", 1_024.0, "bytes");
    report.add_fact("connect_seconds", 1.5, "s");
    report
}

fn told(text: &str) -> Told {
    let assertion = Assertion::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assertion.judge(&report(), 100)
}

#[test]
fn something_may_be_added_to_a_reference_where_totals_are_compared() {
    for (text, holds) in [
        ("rss_per_connection<=limit+1KiB", true),
        ("rss_per_connection<=limit+1023", false),
        ("rss_per_connection<=2*limit + 0", true),
        ("rss_per_connection<=0.5*limit+1536B", true),
        ("rss_per_connection<=0.5*limit+1535B", false),
    ] {
        assert_eq!(told(text).holds, holds, "{text}");
    }
    for text in
        ["p99<limit+1ms", "rss_per_connection<limit+", "rss_per_connection<limit+limit", "loss<limit+1%"]
    {
        assert!(Assertion::parse(text).is_err(), "{text}");
    }
}

#[test]
fn bytes_on_the_wire_are_compared_round_by_round() {
    let mut report = report();
    for (series, per_delivery) in [(0, 40), (1, 100)] {
        for round in &mut report.series[series].rounds {
            let bytes = round.units * per_delivery;
            round.wire = Wire { bytes, payload_bytes: round.units * 98, deflated: round.units / 2 };
        }
    }
    for (text, holds) in [
        ("wire_per_delivery<=40B", true),
        ("wire_per_delivery<40", false),
        ("wire_per_delivery<=0.4*limit", true),
        ("wire_per_delivery<0.4*limit", false),
        ("compressed>=50%", true),
        ("compressed>50%", false),
    ] {
        assert_eq!(Assertion::parse(text).unwrap().judge(&report, 100).holds, holds, "{text}");
    }
    assert!(!told("wire_per_delivery<1000").holds, "nothing was counted");
}

#[test]
fn each_operator_holds_and_fails_where_it_should() {
    for (holding, failing) in [
        (&["loss<11", "loss<10.5"][..], &["loss<10", "loss<9"][..]),
        (&["loss<=10", "loss<=11"], &["loss<=9"]),
        (&["loss>9"], &["loss>10", "loss>11"]),
        (&["loss>=10", "loss>=9"], &["loss>=11"]),
        (&["loss==10", "loss == 10"], &["loss==9", "loss==11"]),
    ] {
        holding.iter().for_each(|text| assert!(told(text).holds, "{text}"));
        failing.iter().for_each(|text| assert!(!told(text).holds, "{text}"));
    }
}

#[test]
fn units_are_those_that_are_written_or_those_of_the_summary() {
    // p50 is 10 ms, CPU is 4 us per delivery, RSS 2 KiB, half a core of the generator's.
    for text in [
        "p50<10.1ms",
        "p50>9900us",
        "p50>0.0099s",
        "p50<10.1",
        "p50>9.9",
        "cpu_per_delivery==4us",
        "cpu_per_delivery==4",
        "cpu_per_unit==4000ns",
        "user_per_unit==1",
        "rate==2000/s",
        "rate==2e3",
        "rss_per_connection==2KiB",
        "rss_per_connection==2048",
        "rss_per_connection==2048B",
        "rss_per_connection<1MiB",
        "generator_cores==50%",
        "generator_cores==0.5",
        "loss==0.1%",
        "closed==1%",
        "connections==90%",
        "connections==90",
        "duplicates==2",
        "missing==0",
        "connect_seconds==1.5s",
        "connect_seconds==1500ms",
        "connect_seconds==1.5",
        "server_rss_per_connection==2KiB",
        "max>199ms",
        "max<201",
        "p99.9<20.1ms",
        "p999<20.1ms",
        "p99.99>99ms",
        "mean>13ms",
    ] {
        assert!(told(text).holds, "{}", told(text).text);
    }
}

#[test]
fn a_reference_is_the_median_of_ratios_or_the_same_figure_of_the_other() {
    for text in [
        "cpu_per_delivery<2.01*limit",
        "cpu_per_delivery>1.99*limit",
        "p50<2.1*limit",
        "rate==limit",
        "rate>=1*limit",
        "loss<=2*limit",
        "loss==2 * limit",
        "rss_per_connection==2*limit",
        "server_rss_per_connection==2*limit",
        "generator_cores==limit",
        "user_per_unit<2.01*limit",
    ] {
        assert!(told(text).holds, "{}", told(text).text);
    }
    for text in ["cpu_per_delivery<1.9*limit", "cpu_per_delivery<limit", "loss<limit", "p99>3*limit"] {
        assert!(!told(text).holds, "{}", told(text).text);
    }
}

#[test]
fn what_is_told_has_the_measured_value_and_the_bound() {
    assert_eq!(told("loss == 0").text, "assert loss==0: loss was 10");
    assert_eq!(told("loss<0.01%").text, "assert loss<0.01%: loss was 10, 0.1000 % of 10000");
    assert_eq!(told("cpu_per_unit<3us").text, "assert cpu_per_unit<3us: cpu_per_unit was 4 us");
    assert_eq!(
        told("cpu_per_unit<1.1*limit").text,
        "assert cpu_per_unit<1.1*limit: cpu_per_unit was 4 us, 2.000 x limit, median of rounds"
    );
    assert_eq!(told("loss<1.5*limit").text, "assert loss<1.5*limit: loss was 10, that of limit 5");
}

#[test]
fn what_never_came_is_lost_too() {
    let mut report = report();
    report.stats[0].1.owed = 3;
    let told = Assertion::parse("loss==13").unwrap().judge(&report, 100);
    assert!(told.holds, "{}", told.text);
}

#[test]
fn rounds_of_connections_are_held_against_the_least_of_them() {
    let mut report = report();
    report.unit = "connection";
    report.series[0].rounds[1].units = 70;
    let told = Assertion::parse("connections==70%").unwrap().judge(&report, 100);
    assert!(told.holds, "{}", told.text);
}

#[test]
fn without_is_that_of_the_first_server() {
    let names = ["server with stalled", "server without", "limit with stalled", "limit without"];
    assert_eq!(place_of(&names.map(str::to_owned), "without"), Some(1));
}

#[test]
fn what_was_not_measured_fails_and_says_so() {
    for (text, cause) in [
        ("server_no_such_fact<1", "this run has no such fact; it has: server_rss_per_connection"),
        ("cpu_per_connection<1", "a unit of this run is a delivery"),
        ("cpu_per_unit<versus", "this run has no series 'versus'"),
    ] {
        let told = told(text);
        assert!(!told.holds && told.text.contains("cannot be told") && told.text.contains(cause), "{told:?}");
    }
    let mut empty = Report::new(2);
    empty.describe("fanout", "delivery", String::new());
    for text in ["p99<1s", "cpu_per_unit<1s", "loss==0", "rss_per_connection<1MiB", "rate>0", "connections>0"]
    {
        let told = Assertion::parse(text).unwrap().judge(&empty, 1);
        assert!(!told.holds && told.text.contains("cannot be told"), "{told:?}");
    }
    let mut unknown_cpu = report();
    unknown_cpu.series[0].rounds.iter_mut().for_each(|round| round.server = CpuTime::default());
    for text in ["cpu_per_unit<1s", "user_per_unit<1s", "cpu_per_unit<9*limit"] {
        let told = Assertion::parse(text).unwrap().judge(&unknown_cpu, 1);
        assert!(!told.holds && told.text.contains("give --pid"), "{told:?}");
    }
}

#[test]
fn what_does_not_exist_is_refused_with_a_list_of_what_does() {
    for (text, hint) in [
        ("p98<1ms", "p99.99 max mean spread_p50"),
        ("nothing==0", "and facts by their key: "),
        ("<1", "unknown figure ''"),
        ("p99", "one of < <= > >= =="),
        ("p99=1", "one of < <= > >= =="),
        ("p99!=1ms", "one of < <= > >= =="),
        ("p99<", "'' is no value"),
        ("p99<-", "'-' is no value"),
        ("p99<1min", "unknown unit 'min', there is: ns us ms s for p99"),
        ("p99<1KiB", "ns us ms s"),
        ("loss<1ms", "there is: %"),
        ("missing<1%", "there is: none"),
        ("rate>1%", "there is: /s"),
        ("rss_per_connection<1ms", "B KiB MiB"),
        ("generator_cores<1/s", "there is: %"),
        ("p99<1.1*limits", "unknown reference 'limits', there are: limit"),
        ("p99<nan", "unknown reference 'nan'"),
        ("p99<1e999ms", "no value"),
        ("p99<1.1*", "unknown reference ''"),
    ] {
        let refusal = Assertion::parse(text).expect_err(text);
        assert!(refusal.contains(hint) && !refusal.contains('\n'), "{text}: {refusal}");
    }
}

#[test]
fn what_this_run_cannot_measure_is_refused_before_it() {
    let url = ["--url", "ws://127.0.0.1:1/x"];
    let held = Gives { has_rounds: false, unit: "connection", ..USUAL };
    let opened = Gives { has_memory: false, unit: "connection", ..USUAL };
    let stalled = Gives { sets_servers_side_by_side: false, ..USUAL };
    for (arguments, gives, text, hint) in [
        (&url[..], USUAL, "p99<limit", "give --limit"),
        (&url[..], USUAL, "p99<limit-2", "give --limit=2"),
        (&url[..], USUAL, "p99<versus", "give --versus-url"),
        (&["--limit"], USUAL, "p99<limit", "the first series itself"),
        (&["--limit=2"], USUAL, "p99<limit", "the first series itself"),
        (&url[..], stalled, "p99<limit", "'without'"),
        (&url[..], stalled, "loss<=1*without", "over the whole run"),
        (&url[..], USUAL, "limit_rss_bytes<1", "no such server in this run, only server"),
        (&["--limit=2"], USUAL, "limit_rss_bytes<1", "no such server in this run, only limit-2"),
        (&url[..], held, "p99<1s", "no rounds"),
        (&url[..], held, "rate>1", "no rounds"),
        (&url[..], USUAL, "cpu_per_connection<1", "write cpu_per_delivery"),
        (&url[..], opened, "cpu_per_delivery<1", "write cpu_per_connection"),
        (&url[..], opened, "rss_per_connection<1KiB", "memory"),
    ] {
        let common = common(&[arguments, &["--assert", text]].concat());
        match check(&common, &gives) {
            Err(Failure::Usage(line)) => {
                assert!(line.contains(hint) && line.contains(text), "{text}: {line}")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    for (arguments, gives, text) in [
        (&["--url", "ws://127.0.0.1:1/x", "--limit=2"][..], USUAL, "p99<limit"),
        (&["--limit=2,1"], USUAL, "p99<limit"),
        (&["--limit"], stalled, "p99<1.2*without"),
        (&["--limit"], held, "connections==100%"),
        (&["--limit"], opened, "cpu_per_connection<1ms"),
        (&["--limit"], stalled, "limit_backlog_rss_bytes<1MiB"),
    ] {
        let common = common(&[arguments, &["--assert", text]].concat());
        assert!(check(&common, &gives).is_ok(), "{text}");
    }
}
