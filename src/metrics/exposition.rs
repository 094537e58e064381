//! What a scrape reads: every fact as OpenMetrics text, by prometheus-client.
//!
//! One name a fact, summed over shards; the few that tell shards apart bear a `shard` label. All labels come from
//! closed enums, so the number of series depends on the configuration alone, never on traffic (GUARANTEES J5). Values
//! in histograms are 1 % exact, as the shards record them; their sums are made of bucket middles.

mod admin;

use std::fmt;
use std::sync::Arc;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

pub use admin::AdminFigures;

use super::counters::{Counter, ShardCounters};
use super::memory::MemoryBudget;
use super::report::Histograms;
use crate::model::{Blame, CloseReason, Grade, RejectReason};

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything a scrape tells, gathered by the admin side.
#[derive(Debug)]
pub struct Snapshot {
    /// The counters of every shard, in the order of shards.
    pub shards: Vec<Arc<ShardCounters>>,
    /// What all shards recorded, merged.
    pub histograms: Histograms,
    /// Messages that wait in the inbox of each shard, in the order of shards.
    pub bus_depths: Vec<u64>,
    /// What the admin listener counts.
    pub admin: AdminFigures,
    /// What the kernel says about the process.
    pub process: ProcessFigures,
    /// What the process accounts for.
    pub memory: MemoryBudget,
    /// Log records that were lost because standard error did not take them.
    pub log_dropped: u64,
    /// Most connections the process will hold.
    pub connections_max: u64,
    /// Whether the process is being stopped.
    pub is_draining: bool,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
}

/// Figures of the whole process; zero where the kernel does not say.
#[derive(Debug, Default, Clone, Copy)]
pub struct ProcessFigures {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Descriptors open in the main table; those of private tables are not among them.
    pub open_descriptors: u64,
    /// The limit on descriptors of one table.
    pub descriptors_max: u64,
}

/// The whole exposition. Linear in shards; under a millisecond.
pub fn render(snapshot: Snapshot) -> String {
    let mut registry = Registry::with_prefix("tidegate");
    registry.register_collector(Box::new(snapshot));
    let mut out = String::with_capacity(32 * 1024);
    text::encode(&mut out, &registry).expect("writing to a string does not fail");
    out
}

type Read = fn(&ShardCounters) -> &Counter;

/// Gauges that are summed over shards.
const GAUGES: &[(&str, Option<Unit>, &str, Read)] = &[
    ("connections", None, "Client sockets held, in whatever state", |c| &c.connections),
    ("connections_open", None, "Connections that finished their upgrade and are not closing", |c| &c.open),
    ("connections_pending", None, "Connections that wait for a complete request head", |c| &c.pending),
    ("subscriptions", None, "Connection-channel pairs", |c| &c.subscriptions),
    ("patterns", None, "Different patterns that clients subscribe to, on each shard", |c| &c.patterns),
    ("pattern_subscriptions", None, "Connection-pattern pairs", |c| &c.pattern_subscriptions),
    ("channels", None, "Channels with subscribers or retained messages", |c| &c.channels_homed),
    ("journals", None, "Journals: one for each channel and shard that somebody reads there", |c| &c.channels),
    ("connections_lagging", None, "Connections whose socket takes no more for now", |c| &c.lagging),
    ("outbox", None, "Orders that wait for room in another shard's inbox", |c| &c.outbox),
    ("idempotency_keys", None, "Idempotency keys that are kept", |c| &c.idempotency_keys),
    ("journal", Some(Unit::Bytes), "Memory of journals", |c| &c.journal_bytes),
];

/// Counters that are summed over shards.
const COUNTERS: &[(&str, Option<Unit>, &str, Read)] = &[
    ("accepted", None, "Sockets taken from the listeners", |c| &c.accepted),
    ("upgraded", None, "WebSocket upgrades answered with 101", |c| &c.upgraded),
    ("published", None, "Messages numbered", |c| &c.published),
    ("relayed", None, "Of the messages numbered, those that a WebSocket client sent", |c| &c.relayed),
    ("deflated", None, "Messages deflated, once for all subscribers", |c| &c.deflated),
    ("deflate_input", Some(Unit::Bytes), "Frames of those messages as they would be plain", |c| {
        &c.deflate_bytes_in
    }),
    ("deflate_output", Some(Unit::Bytes), "Frames of those messages deflated", |c| &c.deflate_bytes_out),
    ("skipped", None, "Messages that were let go before slow subscribers got them", |c| &c.skipped),
    (
        "conflated",
        None,
        "Messages left out for slow subscribers that a newer one of the same key replaced",
        |c| &c.conflated,
    ),
    ("conflations", None, "Times that a subscriber fell behind and was sent the newest of each key", |c| {
        &c.conflations
    }),
    ("expired", None, "Messages left out because they had expired", |c| &c.expired),
    ("occupancies", None, "Counts of subscribers published to those who watch", |c| &c.occupancies),
    ("commands", None, "Commands of clients of tidegate.v1", |c| &c.commands),
    ("commands_refused", None, "Of those, answered with an error", |c| &c.commands_refused),
    ("idempotency_duplicates", None, "Publishes not made a second time, for their idempotency key", |c| {
        &c.idempotency_duplicates
    }),
    ("idempotency_evicted", None, "Idempotency keys put away before their time, for want of room", |c| {
        &c.idempotency_evicted
    }),
    ("encoded", None, "Messages written as envelopes or events, each once a shard", |c| &c.encoded),
    ("recovered", None, "Subscriptions that began after the position that the client gave", |c| &c.recovered),
    ("replayed", None, "Messages that those asked for", |c| &c.replayed),
    ("unrecovered", None, "Subscriptions that could not begin there", |c| &c.unrecovered),
    ("snapshots", None, "Subscriptions that began with a snapshot", |c| &c.snapshots),
    (
        "overmatched",
        None,
        "Times a channel matched a pattern of a connection without room for another channel",
        |c| &c.overmatched,
    ),
    ("stepped_over", None, "Messages not delivered to their own sender", |c| &c.stepped_over),
    ("received", Some(Unit::Bytes), "Read from clients", |c| &c.bytes_in),
    ("sent", Some(Unit::Bytes), "Taken by the kernel for clients", |c| &c.bytes_out),
    ("writes", None, "Write calls that the kernel took at least a byte of", |c| &c.writes),
    ("writes_blocked", None, "Write calls that the kernel took nothing or not everything of", |c| {
        &c.writes_blocked
    }),
    ("pings", None, "Pings sent", |c| &c.pings),
    ("pongs", None, "Pongs received", |c| &c.pongs),
    ("messages_received", None, "Messages received from clients", |c| &c.messages_in),
    ("turns_busy", None, "Turns that found left-over work and did not sleep", |c| &c.turns_busy),
    ("stale_events", None, "Events for connections that were gone", |c| &c.stale_events),
    ("timers_fired", None, "Timers that came up", |c| &c.timers_fired),
    ("publish_pushbacks", None, "Times a publishing client was paused by a full home shard", |c| {
        &c.publish_pushbacks
    }),
    ("memory_histories_dropped", None, "Channels whose history was put away for want of memory", |c| {
        &c.memory_histories_dropped
    }),
    ("memory_compressions_declined", None, "Times compression was not begun for want of memory", |c| {
        &c.memory_compressions_declined
    }),
    ("memory_shed", None, "Blocked subscribers that were closed for want of memory", |c| &c.memory_shed),
    ("memory_pauses", None, "Messages of clients that were held back for want of memory", |c| {
        &c.memory_pauses
    }),
    ("client_rests", None, "Times a client was not read for a second, for sending more than it may", |c| {
        &c.client_rests
    }),
];

/// Counters that tell shards apart.
const SHARD_COUNTERS: &[(&str, &str, Read)] = &[
    ("turns", "Turns of the shard's loop", |c| &c.turns),
    ("delivered", "Messages handed completely to a socket", |c| &c.delivered),
    ("freeze", "Times the shard's loop did not turn for so long that deadlines were put off", |c| &c.freezes),
];

/// Upper bounds of duration buckets in nanoseconds, ten microseconds to ten seconds.
const DURATION_BOUNDS: &[u64] = &[
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// Upper bounds of the buckets for messages a write.
const ENTRIES_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096];

const NANOS_PER_SECOND: f64 = 1e9;

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.encode_process(&mut encoder)?;
        self.encode_memory(&mut encoder)?;
        self.encode_sums(&mut encoder)?;
        self.encode_shards(&mut encoder)?;
        self.encode_ends(&mut encoder)?;
        self.encode_histograms(&mut encoder)?;
        self.admin.encode(&mut encoder, self.sum(|shard| shard.keys_missing.get()))
    }
}

impl Snapshot {
    fn encode_process(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        encoder
            .encode_descriptor("build", "The running version", None, MetricType::Info)?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let is_draining = u64::from(self.is_draining);
        let process = &self.process;
        let resident = "Resident memory of the process";
        let open = "Descriptors open in the main table; with --private-fds see connections too";
        let limit = "Descriptors that one table may hold";
        gauge(encoder, "draining", None, "1 while the process is being stopped", is_draining)?;
        gauge(encoder, "connections_max", None, "Connections the process may hold", self.connections_max)?;
        gauge(encoder, "process_resident_memory", Some(&Unit::Bytes), resident, process.resident_bytes)?;
        gauge(encoder, "process_open_descriptors", None, open, process.open_descriptors)?;
        gauge(encoder, "process_descriptors_max", None, limit, process.descriptors_max)?;
        let lost = "Log records lost because standard error did not take them";
        encoder
            .encode_descriptor("log_dropped", lost, None, MetricType::Counter)
            .and_then(|mut metric| count(&mut metric, self.log_dropped))?;
        encoder
            .encode_descriptor(
                "uptime",
                "Since the process started",
                Some(&Unit::Seconds),
                MetricType::Gauge,
            )?
            .encode_gauge(&self.uptime_seconds)
    }

    fn encode_memory(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let grade = "How short of memory the process is: 0 calm, 1 frugal, 2 closed to new connections, 3 shedding, 4 refusing";
        let accounted = "Memory that the process accounts for, its fixed base aside";
        let budget = "Budget of that memory";
        gauge(encoder, "memory_grade", None, grade, self.memory.update() as u64)?;
        gauge(encoder, "memory_accounted", Some(&Unit::Bytes), accounted, self.memory.used())?;
        gauge(encoder, "memory_budget", Some(&Unit::Bytes), budget, self.memory.max())?;
        let help = "Times that a grade of short memory was entered";
        let mut metric =
            encoder.encode_descriptor("memory_grades_entered", help, None, MetricType::Counter)?;
        for grade in Grade::ALL.into_iter().skip(1) {
            count(&mut metric.encode_family(&[("grade", grade.name())])?, self.memory.entered(grade))?;
        }
        Ok(())
    }

    fn encode_sums(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        for (name, unit, help, read) in GAUGES {
            gauge(encoder, name, unit.as_ref(), help, self.sum(|shard| read(shard).get()))?;
        }
        for (name, unit, help, read) in COUNTERS {
            encoder
                .encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)
                .and_then(|mut metric| count(&mut metric, self.sum(|shard| read(shard).get())))?;
        }
        let waited = self.shards.iter().map(|shard| shard.descriptors_exhausted_seconds.get()).max();
        let help = "For how long connections have waited for a free descriptor";
        gauge(encoder, "descriptors_exhausted", Some(&Unit::Seconds), help, waited.unwrap_or_default())?;
        let help = "Accept calls that failed: exhausted is for want of descriptors or memory";
        let mut metric = encoder.encode_descriptor("accept_errors", help, None, MetricType::Counter)?;
        let kinds: [(&str, Read); 2] =
            [("exhausted", |c| &c.accept_errors_exhausted), ("other", |c| &c.accept_errors_other)];
        for (kind, read) in kinds {
            let total = self.sum(|shard| read(shard).get());
            count(&mut metric.encode_family(&[("kind", kind)])?, total)?;
        }
        Ok(())
    }

    fn encode_shards(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        for (name, help, read) in SHARD_COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (index, shard) in self.shards.iter().enumerate() {
                count(&mut metric.encode_family(&[("shard", index)])?, read(shard).get())?;
            }
        }
        let help = "Messages that wait in the shard's inbox";
        let mut metric = encoder.encode_descriptor("bus_depth", help, None, MetricType::Gauge)?;
        for (index, depth) in self.bus_depths.iter().enumerate() {
            metric.encode_family(&[("shard", index)])?.encode_gauge(depth)?;
        }
        let help = "Client sockets that the shard holds";
        let mut metric = encoder.encode_descriptor("shard_connections", help, None, MetricType::Gauge)?;
        for (index, shard) in self.shards.iter().enumerate() {
            metric.encode_family(&[("shard", index)])?.encode_gauge(&shard.connections.get())?;
        }
        Ok(())
    }

    fn encode_ends(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Connections that ended, by reason, WebSocket close code and whose doing it was";
        let mut metric = encoder.encode_descriptor("closed", help, None, MetricType::Counter)?;
        for &reason in CloseReason::ALL {
            let code = if reason.has_code() { reason.code().to_string() } else { "none".to_owned() };
            for (by, label) in [(Blame::Peer, "peer"), (Blame::Us, "us")] {
                let labels = [("reason", reason.token()), ("code", &code), ("by", label)];
                let total = self.sum(|shard| shard.closed_total(reason, by));
                count(&mut metric.encode_family(&labels)?, total)?;
            }
        }
        let help = "Requests of clients that were refused, by reason and HTTP status";
        let mut metric = encoder.encode_descriptor("rejected", help, None, MetricType::Counter)?;
        for &reason in RejectReason::ALL {
            let status = reason.status().to_string();
            let labels = [("reason", reason.token()), ("status", &status)];
            let total = self.sum(|shard| shard.rejected_total(reason));
            count(&mut metric.encode_family(&labels)?, total)?;
        }
        Ok(())
    }

    fn encode_histograms(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let recorded = &self.histograms;
        let durations = [
            ("turn", "One turn of a shard's loop, sleep excluded", &recorded.turn),
            (
                "flush",
                "From the first write of a pass over a channel's subscribers to its last",
                &recorded.flush,
            ),
            (
                "publish_to_write",
                "From taking a message to writing it, once for each delivery",
                &recorded.publish_to_write,
            ),
            ("ping_round_trip", "From a ping to its pong", &recorded.ping_round_trip),
        ];
        for (name, help, histogram) in durations {
            let unit = Some(&Unit::Seconds);
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
            encode_histogram(metric, histogram, DURATION_BOUNDS, NANOS_PER_SECOND)?;
        }
        let help = "Messages carried by one write";
        let metric = encoder.encode_descriptor("entries_per_write", help, None, MetricType::Histogram)?;
        encode_histogram(metric, &recorded.entries_per_write, ENTRIES_BOUNDS, 1.0)
    }

    fn sum(&self, read: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.shards.iter().map(|shard| read(shard)).fold(0, u64::saturating_add)
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    unit: Option<&Unit>,
    help: &str,
    value: u64,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

fn count(metric: &mut MetricEncoder, total: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, u64, f64>(&total, None)
}

fn encode_histogram(
    mut metric: MetricEncoder,
    histogram: &Histogram<u64>,
    bounds: &[u64],
    per_unit: f64,
) -> fmt::Result {
    let (buckets, sum) = buckets(histogram, bounds, per_unit);
    metric.encode_histogram::<NoLabelSet>(sum, histogram.len(), &buckets, None)
}

/// How many values fall at or below each bound and above the one before, the last for the rest; and their sum.
fn buckets(histogram: &Histogram<u64>, bounds: &[u64], per_unit: f64) -> (Vec<(f64, u64)>, f64) {
    let upper = bounds.iter().map(|&bound| bound as f64 / per_unit);
    let mut buckets: Vec<_> = upper.chain([f64::INFINITY]).map(|upper| (upper, 0)).collect();
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let value = step.value_iterated_to();
        let lowest = histogram.lowest_equivalent(value);
        buckets[bounds.partition_point(|&bound| bound < lowest)].1 += step.count_at_value();
        sum += histogram.median_equivalent(value) as f64 / per_unit * step.count_at_value() as f64;
    }
    (buckets, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::report;
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    /// As many as `config/limits.rs` allows.
    const SHARDS: usize = 256;

    fn snapshot(shards: usize) -> Snapshot {
        Snapshot {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            histograms: Histograms::default(),
            bus_depths: vec![0; shards],
            admin: AdminFigures {
                requests: vec![("livez", 3)],
                refused: vec![("overloaded", 503, 2)],
                keys_missing: 6,
            },
            process: ProcessFigures { resident_bytes: 4096, open_descriptors: 12, descriptors_max: 20_000 },
            memory: MemoryBudget::new(1000),
            log_dropped: 5,
            connections_max: 19_936,
            is_draining: false,
            uptime_seconds: 1.5,
        }
    }

    /// Reads the text as a scraper does: name with labels to value; fails on anything out of order.
    fn parse(exposition: &str) -> HashMap<String, f64> {
        let mut series = HashMap::new();
        let mut families = HashSet::new();
        let (mut family, mut kind, mut has_help) = (String::new(), String::new(), String::new());
        let body = exposition.strip_suffix("# EOF\n").expect("ends with EOF");
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty() && name.starts_with("tidegate_"), "{line}");
                has_help = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                assert_eq!(name, has_help, "TYPE follows HELP");
                assert!(families.insert(name.to_owned()), "{name} twice");
                (family, kind) = (name.to_owned(), of.to_owned());
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').unwrap();
                assert!(name == family && name.ends_with(unit), "{line}");
            } else {
                let (labelled, value) = line.rsplit_once(' ').unwrap();
                let name = labelled.split('{').next().unwrap();
                let suffixes: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "info" => &["_info"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    other => panic!("kind {other}"),
                };
                let is_of_family = suffixes.iter().any(|suffix| name == format!("{family}{suffix}"));
                assert!(is_of_family, "{line} under {family} {kind}");
                let before = series.insert(labelled.to_owned(), value.parse().unwrap());
                assert!(before.is_none(), "{labelled} twice");
            }
        }
        series
    }

    #[test]
    fn every_sample_has_help_and_type_and_no_series_comes_twice() {
        let taken = snapshot(2);
        taken.shards[0].connections.set(3);
        taken.shards[1].connections.set(4);
        taken.shards[1].bytes_in.add(100);
        taken.shards[0].count_close(CloseReason::Draining, Blame::Us);
        taken.shards[1].count_close(CloseReason::EndOfFile, Blame::Peer);
        taken.shards[1].count_reject(RejectReason::ConnectionLimit);
        let series = parse(&render(taken));
        for (name, value) in [
            ("tidegate_connections", 7.0),
            ("tidegate_shard_connections{shard=\"1\"}", 4.0),
            ("tidegate_received_bytes_total", 100.0),
            ("tidegate_closed_total{reason=\"draining\",code=\"1012\",by=\"us\"}", 1.0),
            ("tidegate_closed_total{reason=\"eof\",code=\"none\",by=\"peer\"}", 1.0),
            ("tidegate_rejected_total{reason=\"conn_limit\",status=\"503\"}", 1.0),
            ("tidegate_build_info{version=\"0.1.0\"}", 1.0),
            ("tidegate_process_resident_memory_bytes", 4096.0),
            ("tidegate_admin_requests_total{route=\"livez\"}", 3.0),
            ("tidegate_admin_refused_total{reason=\"overloaded\",status=\"503\"}", 2.0),
            ("tidegate_turn_seconds_bucket{le=\"+Inf\"}", 0.0),
            ("tidegate_uptime_seconds", 1.5),
        ] {
            assert_eq!(series.get(name), Some(&value), "{name}");
        }
    }

    #[test]
    fn j5_series_are_bounded_by_the_configuration() {
        let largest = parse(&render(snapshot(SHARDS)));
        assert!(largest.len() <= 2000, "{} series", largest.len());
        let busy = snapshot(2);
        for index in 0..10_000_u64 {
            busy.shards[0].published.add(index);
            busy.shards[0].count_close(CloseReason::ALL[index as usize % CloseReason::ALL.len()], Blame::Us);
        }
        assert_eq!(parse(&render(busy)).len(), parse(&render(snapshot(2))).len());
    }

    #[test]
    fn recorded_values_land_in_their_buckets_with_their_sum() {
        let mut taken = snapshot(1);
        report::record(&mut taken.histograms.turn, Duration::from_micros(10), 2);
        report::record(&mut taken.histograms.turn, Duration::from_millis(30), 1);
        report::record(&mut taken.histograms.turn, Duration::from_secs(3600), 1);
        taken.histograms.entries_per_write.record_n(256, 5).unwrap();
        let series = parse(&render(taken));
        let bucket = |le: &str| series[&format!("tidegate_turn_seconds_bucket{{le=\"{le}\"}}")];
        assert_eq!(bucket("0.00001"), 2.0);
        assert_eq!(bucket("0.025"), 2.0);
        assert_eq!(bucket("0.05"), 3.0);
        assert_eq!(bucket("10.0"), 3.0);
        assert_eq!(bucket("+Inf"), 4.0);
        assert_eq!(series["tidegate_turn_seconds_count"], 4.0);
        let sum = series["tidegate_turn_seconds_sum"];
        assert!((sum - 60.03).abs() < 0.6, "{sum}");
        assert_eq!(series["tidegate_entries_per_write_bucket{le=\"128.0\"}"], 0.0);
        assert_eq!(series["tidegate_entries_per_write_bucket{le=\"256.0\"}"], 5.0);
    }
}
