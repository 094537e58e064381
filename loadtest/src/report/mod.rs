//! What a run found: figures and verdict. `compare` sets one server beside another; `assert` holds
//! figures against bounds; `text`, `json`, `hdr` and `html` write all of it down.

pub mod assert;
mod chart;
mod compare;
mod curves;
mod files;
mod fingerprint;
mod hdr;
mod html;
mod json;
mod notes;
mod text;

use crate::cli::Common;
use crate::failure::Failure;
use crate::monitor::Timeline;
use crate::round::Series;
use crate::server::accounts::{KernelMemory, Memory};
use crate::stage::Stage;
use crate::stats::Stats;
use compare::{Total, compare};
pub use files::OutputFiles;
use fingerprint::{Fingerprint, Start};

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
    /// When it began.
    pub start: Start,
    /// Where it ran.
    pub fingerprint: Fingerprint,
    /// What happened when.
    pub timeline: Timeline,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
    /// What else ended it before its time.
    pub failure: Option<Failure>,
    /// Cores that this tool may use.
    pub cores: usize,
}

/// Memory of each server's processes, where they are known.
pub fn memory_of_all(stage: &Stage) -> Vec<Option<Memory>> {
    stage.arms.iter().map(|arm| arm.processes.memory()).collect()
}

impl Report {
    /// An empty report of a run that begins now and may use so many cores for itself.
    pub fn new(cores: usize) -> Self {
        let start = Start::default();
        Self { cores, start, fingerprint: Fingerprint::take(&start), ..Self::default() }
    }

    /// Says what the run is about.
    pub fn describe(&mut self, scenario: &'static str, unit: &'static str, title: String) {
        (self.scenario, self.unit, self.title) = (scenario, unit, title);
    }

    /// Notes what ended the run before its time, so that it can be told with what was seen until then.
    pub fn end_early(&mut self, failure: Failure) {
        match failure {
            Failure::Interrupted => self.interrupted = true,
            other => self.failure = Some(other),
        }
    }

    /// Whether anything was measured that is worth telling.
    pub fn has_figures(&self) -> bool {
        !self.facts.is_empty() || self.series.iter().any(|series| !series.rounds.is_empty())
    }

    /// Adds one figure, if it is known.
    pub fn add_fact(&mut self, key: &str, value: impl Into<Option<f64>>, meaning: &str) {
        debug_assert!(assert::is_fact(key), "{key} is missing in FACTS of report/assert.rs");
        if let Some(value) = value.into() {
            self.facts.push((key.to_owned(), value, meaning.to_owned()));
        }
    }

    /// What makes figures doubtful, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let of = |series: &Series| {
            let notes = notes::notes(&Total::of(series), self.cores);
            notes.into_iter().map(|note| format!("{}: {note}", series.name)).collect::<Vec<_>>()
        };
        self.series.iter().flat_map(of).collect()
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
        let Some((before, now)) = before[index].zip(arm.processes.memory()) else {
            return;
        };
        let name = format!("{}{}{}", arm.target.name, if when.is_empty() { "" } else { " " }, when)
            .replace(' ', "_");
        let per = |now: u64, before: u64| (now as f64 - before as f64) / connections as f64;
        let (processes, count) = (arm.processes.clone(), arm.processes.count());
        self.add_fact(&format!("{name}_processes"), count as f64, "processes accounted for");
        let descriptors = processes.descriptors().map(|count| count as f64);
        self.add_fact(&format!("{name}_descriptors"), descriptors, "open descriptors");
        self.add_fact(&format!("{name}_threads"), processes.threads() as f64, "threads");
        let several = "bytes resident, shared pages counted once for each process: see PSS";
        let resident = if count > 1 { several } else { "bytes resident" };
        self.add_fact(&format!("{name}_rss_bytes"), now.rss as f64, resident);
        if let Some(pss) = now.pss {
            let meaning = "bytes, shared pages divided among their users";
            self.add_fact(&format!("{name}_pss_bytes"), pss as f64, meaning);
        }
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
        let missing = self.missing_in_all();
        if missing > 0 && self.unit == "connection" {
            faults.push(format!("{missing} connections did not come to be"));
        } else if missing > 0 {
            faults.push(format!("{missing} deliveries did not come in time"));
        }
        for series in self.series.iter().filter(|_| self.unit == "delivery") {
            if !series.rounds.is_empty() && series.rounds.iter().all(|round| round.units == 0) {
                faults.push(format!("{}: no message came", series.name));
            }
        }
        for (name, stats) in &self.stats {
            let tally = &stats.tally;
            // What has been told already is not told as another fault.
            if stats.owed > missing {
                faults.push(format!("{name}: {} deliveries never came", stats.owed));
            }
            if tally.faults() > 0 {
                faults.push(format!(
                    "{name}: {} lost, {} duplicated, {} reordered, {} corrupted",
                    tally.lost, tally.duplicated, tally.reordered, tally.corrupted
                ));
            }
            if stats.closed > 0 || stats.failure.is_some() {
                let cause = stats.failure.as_deref().unwrap_or("unknown cause");
                let (closed, refused) = (stats.closed, stats.refused);
                faults.push(format!(
                    "{name}: {closed} connections ended by the server, {refused} refused; the first: {cause}"
                ));
            }
        }
        if common.allow_loss {
            faults.clear();
        }
        faults.extend(self.failure.as_ref().map(ToString::to_string));
        for compared in compare(&self.series) {
            let Some(max) = common.ratio_max else { continue };
            let name = compared.name;
            match compared.cpu {
                // Nothing measured is not a ratio of nothing.
                None => faults
                    .push(format!("{name}: no CPU ratio for --ratio-max: whose process is it? give --pid")),
                Some(cpu) if cpu > max => {
                    faults.push(format!("{name}: CPU ratio {cpu:.3} is above --ratio-max"))
                }
                Some(_) => {}
            }
        }
        faults.extend(self.assertions(common).into_iter().filter(|told| !told.holds).map(|told| told.text));
        faults
    }

    /// Deliveries that did not come, in and outside of rounds.
    fn missing_in_all(&self) -> u64 {
        let rounds = self.series.iter().flat_map(|series| &series.rounds);
        self.missing + rounds.map(|round| round.missing).sum::<u64>()
    }

    /// Longest time in which a worker did not look at its sockets while messages were coming, seconds.
    fn longest_sweep_s(&self) -> f64 {
        self.stats.iter().map(|(_, stats)| stats.lag_ns_max).max().unwrap_or(0) as f64 / 1e9
    }
}
