//! Everything that must stand before a scenario can run: servers started, workers started, publishers
//! connected. Dropping it takes all of it down again.

mod arm;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use crate::cli::{Common, PublishBy};
use crate::crew::{Crew, CrewOptions, SPARE_DESCRIPTORS};
use crate::failure::Failure;
use crate::monitor::{Monitor, Watched};
use crate::payload::Keys;
use crate::protocol::Kind;
use crate::sources::{self, Sources};
use crate::sys;
use crate::target::Target;
use crate::watch::Watch;
pub use arm::Arm;
use arm::{Casting, Named};

/// What is said once if the owner of a server's socket may not be seen.
const HIDDEN: &str =
    "the server's process belongs to another user: no CPU or memory figures; run as root or give --pid";

/// The set-up of a run. Fields drop in order: workers and publishers before the servers.
pub struct Stage {
    /// Ends any wait.
    pub watch: Watch,
    /// Watches the run from a thread of its own, and draws it.
    pub monitor: Monitor,
    /// The workers; targets have the index of their arm.
    pub crew: Crew,
    /// Whether what subscribers do not get ends nothing.
    pub allows_loss: bool,
    /// Of each server, the deliveries that a wait has told missing and that have not come since.
    pub overdue: Vec<u64>,
    /// The servers; what the others are compared with comes last.
    pub arms: Vec<Arm>,
}

impl Stage {
    /// Starts everything. `publishes` says whether the scenario sends messages at all.
    ///
    /// # Errors
    /// `Usage` if the machine's limits do not allow the load, `Unavailable` if a server does not start.
    pub fn raise(common: &Common, publishes: bool) -> Result<Self, Failure> {
        if common.url.is_empty() && common.limit.is_empty() {
            return Err(Failure::Usage(
                "give --url ws://host:port/path, or --limit to run the bare server alone".into(),
            ));
        }
        if !(0.0..=1.0).contains(&common.stalled_share) || common.connections == 0 {
            return Err(Failure::Usage(
                "--connections must be at least 1 and --stalled-share within 0 to 1".into(),
            ));
        }
        if publishes && common.publish == PublishBy::None && !common.limit.is_empty() {
            return Err(Failure::Usage(
                "nobody would publish to --limit: leave it away, or give another --publish".into(),
            ));
        }
        let (kind, versus_kind) = common.kinds();
        let is_plain = |asks: bool, kind| !asks || kind == Kind::Plain;
        if !is_plain(common.compression, kind) || !is_plain(common.versus_compression, versus_kind) {
            return Err(Failure::Usage(
                "--compression is for WebSocket messages as they are: leave --sse and --protocol away".into(),
            ));
        }
        let (keys, versus_keys) = (common.keys, common.versus_keys.unwrap_or(common.keys));
        if keys.max(versus_keys) > 0 && (common.publish != PublishBy::Http || common.publish_url.is_some()) {
            return Err(Failure::Usage("--keys is for --publish http without --publish-url".into()));
        }
        // The controller looks at its workers thousands of times a second.
        if let Err(error) = sys::preempt_nobody() {
            eprintln!("tidegate-loadtest: on shared cores this run may disturb the server: {error}");
        }
        let watch = Watch::start(common.timeout)
            .map_err(|error| Failure::Usage(format!("cannot catch signals: {error}")))?;
        let limit = sys::raise_descriptor_limit()
            .map_err(|error| Failure::Usage(format!("descriptor limit: {error}")))?;
        let publish = if publishes { common.publish.clone() } else { PublishBy::None };
        let run = sys::monotonic_ns() as u32 ^ std::process::id().rotate_left(16);
        let is_text = common.text || kind.wants_text() || versus_kind.wants_text();
        let casting = Casting { common, publish, is_text, run: Cell::new(run), watch: &watch };
        let about = |count| Keys { count, order: common.key_order };
        let mut arms = Vec::new();
        if !common.url.is_empty() {
            arms.push(casting.server(&Named {
                name: "server",
                urls: &common.url,
                spawn: common.spawn.as_deref(),
                admin: &common.admin,
                pids: &common.pid,
                kind,
                compression: common.compression,
                keys: about(keys),
            })?);
        }
        if !common.versus_url.is_empty() {
            arms.push(casting.server(&Named {
                name: "versus",
                urls: &common.versus_url,
                spawn: common.versus_spawn.as_deref(),
                admin: &common.versus_admin,
                pids: &[],
                kind: versus_kind,
                compression: common.versus_compression,
                keys: about(versus_keys),
            })?);
        }
        for &threads in &common.limit {
            arms.push(casting.limit(threads)?);
        }
        let options = crew_options(common, &arms, limit)?;
        sys::pin_to_cores(&common.client_cores)
            .map_err(|error| Failure::Usage(format!("--client-cores {:?}: {error}", common.client_cores)))?;
        let targets: Vec<Arc<Target>> = arms.iter().map(|arm| Arc::clone(&arm.target)).collect();
        let crew = Crew::start(&options, &targets)?;
        let watched = |arm: &Arm| Watched { name: arm.target.name.clone(), processes: arm.processes.clone() };
        let watched = arms.iter().map(watched).collect();
        let monitor = Monitor::start(crew.counts(), watched, common.quiet)
            .map_err(|error| Failure::Usage(format!("cannot start the monitor's thread: {error}")))?;
        if arms.iter().any(|arm| arm.processes.are_hidden()) {
            monitor.say(HIDDEN);
        }
        Ok(Self { watch, monitor, crew, allows_loss: common.allow_loss, overdue: vec![0; arms.len()], arms })
    }

    /// Tells the user what is going on, unless that is not wanted.
    pub fn say(&self, text: &str) {
        self.monitor.say(text);
    }

    /// If a server that we started has ended by itself, that is the cause of whatever else went wrong.
    pub fn explain(&mut self, failure: Failure) -> Failure {
        match self.arms.iter_mut().find_map(|arm| arm.process.as_mut()?.ended()) {
            Some(cause) if !matches!(failure, Failure::Interrupted) => {
                Failure::Unavailable(format!("{cause}; {failure}"))
            }
            _ => failure,
        }
    }
}

/// Stalled connections for so many reading ones.
pub fn stalled_count(common: &Common) -> usize {
    (common.connections as f64 * common.stalled_share).round() as usize
}

/// Checks the load against the limits of this machine, and chooses what was left open.
fn crew_options(common: &Common, arms: &[Arm], limit: usize) -> Result<CrewOptions, Failure> {
    let per_arm = common.connections.saturating_add(stalled_count(common));
    let total = per_arm.saturating_mul(arms.len());
    let room = limit.saturating_sub(SPARE_DESCRIPTORS).max(1);
    let threads = if common.threads == 0 { total.div_ceil(room).max(1) } else { common.threads };
    if total.div_ceil(threads) > room {
        return Err(Failure::Usage(format!(
            "{total} connections on {threads} thread(s) need more than {limit} descriptors a thread: \
             give --threads {} or raise 'ulimit -n'",
            total.div_ceil(room)
        )));
    }
    let addresses = |arm: &Arm| arm.target.urls.iter().map(|url| url.address).collect::<HashSet<_>>();
    // Several URLs of one address share its ports.
    let destinations = arms.iter().map(|arm| addresses(arm).len()).min().unwrap_or(1).max(1);
    let ports = sources::ports_per_address();
    let all = arms.iter().flat_map(addresses);
    let suitable = || Sources::suitable_for(all, per_arm.div_ceil(destinations), ports);
    let sources = common.sources.clone().unwrap_or_else(suitable);
    let capacity = sources.capacity(ports).saturating_mul(destinations);
    if per_arm > capacity {
        return Err(Failure::Usage(format!(
            "{per_arm} connections need more than the {capacity} ports there are: give more --sources or more --url"
        )));
    }
    let cores = common.client_cores.clone();
    Ok(CrewOptions { threads, cores, nap: common.nap, sources, read_rate: common.read_rate })
}
