//! What one worker thread counts for one target, and what all of them add up to.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::verify::Tally;

/// Counters since the start of the run. Plain numbers with one writer; snapshots travel.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Subscribers that are connected, upgraded and being read.
    pub live: u64,
    /// Connections that are upgraded and never read, by intent.
    pub stalled: u64,
    /// Handshakes completed.
    pub upgraded: u64,
    /// Sum over live subscribers of the sequence each must receive next (wrapping).
    pub sequence_sum: u64,
    /// What was received.
    pub tally: Tally,
    /// Bytes received.
    pub bytes: u64,
    /// Bytes received after the handshake: frames, with their headers.
    pub wire_bytes: u64,
    /// Bytes of the messages that were received in them.
    pub payload_bytes: u64,
    /// Messages that came compressed, and of those the ones that were inflated rather than found inflated.
    pub deflated: u64,
    pub inflated: u64,
    /// `recv` calls that returned bytes.
    pub reads: u64,
    /// Frames that went through the parser because they did not match byte for byte.
    pub detours: u64,
    /// Pings answered.
    pub pings: u64,
    /// Subscribers that ended without our asking.
    pub closed: u64,
    /// Connections that ended before they were upgraded.
    pub refused: u64,
    /// Connections that read slowly or never and were ended by the server, as it may.
    pub given_up: u64,
    /// Messages that slow subscribers of a feed with keys received.
    pub held: u64,
    /// The greatest age of the newest value of a key that one of them held, nanoseconds.
    pub held_age_ns_max: u64,
    /// Refused connections of a storm that were tried again.
    pub retried: u64,
    /// Messages that live subscribers still had to receive when the run had ended.
    pub owed: u64,
    /// Longest time between two looks at the sockets while messages were coming, in nanoseconds.
    pub lag_ns_max: u64,
    /// The first thing that went wrong.
    pub failure: Option<String>,
    /// Everything that went wrong, and how often: as many different things as fit.
    pub causes: BTreeMap<String, u64>,
}

/// Different causes that are kept apart.
const CAUSES_MAX: usize = 16;

impl Stats {
    /// Counts something that went wrong.
    pub fn fail(&mut self, cause: &str) {
        self.failure.get_or_insert_with(|| cause.to_owned());
        self.count_cause(cause, 1);
    }

    /// Counts something that went wrong and is not held against the server.
    pub fn count_cause(&mut self, cause: &str, times: u64) {
        let is_known = self.causes.contains_key(cause) || self.causes.len() < CAUSES_MAX;
        *self.causes.entry(if is_known { cause } else { "other causes" }.to_owned()).or_default() += times;
    }

    /// Messages before `head` that live subscribers have still to receive.
    pub fn behind(&self, head: u64) -> u64 {
        let behind = self.live.wrapping_mul(head).wrapping_sub(self.sequence_sum);
        // A snapshot may hold a message of a worker before its head.
        if behind > u64::MAX / 2 { 0 } else { behind }
    }

    /// Adds the counts of another worker.
    pub fn add(&mut self, other: &Self) {
        self.live += other.live;
        self.stalled += other.stalled;
        self.upgraded += other.upgraded;
        self.sequence_sum = self.sequence_sum.wrapping_add(other.sequence_sum);
        self.tally.add(&other.tally);
        self.bytes += other.bytes;
        self.wire_bytes += other.wire_bytes;
        self.payload_bytes += other.payload_bytes;
        self.deflated += other.deflated;
        self.inflated += other.inflated;
        self.reads += other.reads;
        self.detours += other.detours;
        self.pings += other.pings;
        self.closed += other.closed;
        self.refused += other.refused;
        self.given_up += other.given_up;
        self.held += other.held;
        self.held_age_ns_max = self.held_age_ns_max.max(other.held_age_ns_max);
        self.retried += other.retried;
        self.owed += other.owed;
        other.causes.iter().for_each(|(cause, &times)| self.count_cause(cause, times));
        self.lag_ns_max = self.lag_ns_max.max(other.lag_ns_max);
        if self.failure.is_none() {
            self.failure.clone_from(&other.failure);
        }
    }
}

/// Latencies in nanoseconds since they were last taken.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From when a message was due to when a subscriber had it, one value a delivery.
    pub delivery: Histogram<u64>,
    /// From `connect` to the checked answer to the upgrade.
    pub handshake: Histogram<u64>,
    /// From one look at the sockets to the next, one value a socket that had something: by so much may
    /// what this tool measures be too long.
    pub lag: Histogram<u64>,
}

impl Latencies {
    /// Empty histograms.
    pub fn new() -> Self {
        Self { delivery: latencies(), handshake: latencies(), lag: lags() }
    }

    /// Adds the values of another worker.
    pub fn add(&mut self, other: &Self) {
        let same = "all histograms of a kind have the same bounds";
        self.delivery.add(&other.delivery).expect(same);
        self.handshake.add(&other.handshake).expect(same);
        self.lag.add(&other.lag).expect(same);
    }
}

/// An empty histogram for what is reported: 1 µs to 2 minutes with three digits, 160 KB.
pub fn latencies() -> Histogram<u64> {
    histogram(3)
}

/// An empty histogram for what only warns: the same with one digit, 3 KB.
pub fn lags() -> Histogram<u64> {
    histogram(1)
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 120_000_000_000, digits)
        .unwrap_or_else(|error| unreachable!("constant bounds are valid: {error}"))
}
