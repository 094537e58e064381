//! Everything that must stand before a scenario can run: servers started, workers started, publishers
//! connected. Dropping it takes all of it down again.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cli::{Common, PublishBy};
use crate::crew::{Crew, CrewOptions, SPARE_DESCRIPTORS};
use crate::failure::Failure;
use crate::feed::Feed;
use crate::monitor::{Monitor, Watched};
use crate::publisher::{BarePublisher, HttpPublisher, NoPublisher, Publisher, WsPublisher};
use crate::server::find;
use crate::server::process::ServerProcess;
use crate::sources::{self, Sources};
use crate::sys;
use crate::target::Target;
use crate::watch::Watch;
use crate::wire::frame;
use crate::wire::url::Url;

/// A server with all that belongs to it.
pub struct Arm {
    /// What the workers see.
    pub target: Arc<Target>,
    /// Its process, if it is on this machine.
    pub pid: Option<u32>,
    /// How messages get in.
    pub publisher: Box<dyn Publisher>,
    process: Option<ServerProcess>,
}

/// The set-up of a run. Fields drop in order: workers and publishers before the servers.
pub struct Stage {
    /// Ends any wait.
    pub watch: Watch,
    /// Watches the run from a thread of its own, and draws it.
    pub monitor: Monitor,
    /// The workers; targets have the index of their arm.
    pub crew: Crew,
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
        let watch = Watch::start(common.timeout)
            .map_err(|error| Failure::Usage(format!("cannot catch signals: {error}")))?;
        let limit = sys::raise_descriptor_limit()
            .map_err(|error| Failure::Usage(format!("descriptor limit: {error}")))?;
        let publish = if publishes { common.publish } else { PublishBy::None };
        let run = sys::monotonic_ns() as u32 ^ std::process::id().rotate_left(16);
        let mut arms = Vec::new();
        if !common.url.is_empty() {
            arms.push(Arm::start(
                "server",
                &common.url,
                common.spawn.as_deref(),
                &common.admin,
                common,
                publish,
                run,
                &watch,
            )?);
            arms[0].pid = common.pid.or(arms[0].pid);
        }
        if !common.versus_url.is_empty() {
            let (urls, spawn, admin) =
                (&common.versus_url, common.versus_spawn.as_deref(), &common.versus_admin);
            arms.push(Arm::start("versus", urls, spawn, admin, common, publish, run, &watch)?);
        }
        for &threads in &common.limit {
            arms.push(Arm::start_bare(common, threads, publishes, run)?);
        }
        let options = crew_options(common, &arms, limit)?;
        sys::pin_to_cores(&common.client_cores)
            .map_err(|error| Failure::Usage(format!("--client-cores {:?}: {error}", common.client_cores)))?;
        let targets: Vec<Arc<Target>> = arms.iter().map(|arm| Arc::clone(&arm.target)).collect();
        let crew = Crew::start(&options, &targets)?;
        let watched =
            arms.iter().map(|arm| Watched { name: arm.target.name.clone(), pid: arm.pid }).collect();
        let monitor = Monitor::start(crew.counts(), watched, common.quiet)
            .map_err(|error| Failure::Usage(format!("cannot start the monitor's thread: {error}")))?;
        Ok(Self { watch, monitor, crew, arms })
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

impl Arm {
    #[expect(
        clippy::too_many_arguments,
        reason = "the three that differ between two servers, and the rest of the run"
    )]
    fn start(
        name: &str,
        urls: &[Url],
        spawn: Option<&str>,
        admin: &Url,
        common: &Common,
        publish: PublishBy,
        run: u32,
        watch: &Watch,
    ) -> Result<Self, Failure> {
        let address = urls[0].address;
        let start = |command| ServerProcess::start(command, &common.server_core, address, watch);
        let process = spawn.map(start).transpose()?;
        let spawned = process.as_ref().map(ServerProcess::pid);
        let pid =
            if address.ip().is_loopback() { find::listener_of(address.port()).or(spawned) } else { spawned };
        let channel = common.channel.clone().or_else(|| urls[0].last_segment().map(str::to_owned));
        let channel = channel.unwrap_or_else(|| "bench".to_owned());
        let publisher: Box<dyn Publisher> = match publish {
            PublishBy::Http => Box::new(HttpPublisher::connect(admin.clone(), channel, common.http_mode)?),
            PublishBy::Ws => {
                let opcode = if common.text { frame::TEXT } else { frame::BINARY };
                Box::new(WsPublisher::connect(&urls[0], opcode)?)
            }
            PublishBy::Bare => Box::new(BarePublisher::connect(&[admin.address.port()])?),
            PublishBy::None => Box::new(NoPublisher),
        };
        let publishes = publish != PublishBy::None;
        let target = Target { name: name.to_owned(), urls: urls.to_vec(), feed: Feed::new(run), publishes };
        Ok(Self { target: Arc::new(target), pid, publisher, process })
    }

    fn start_bare(common: &Common, threads: usize, publishes: bool, run: u32) -> Result<Self, Failure> {
        let options = &common.bare;
        let mut arguments = vec![
            format!("--send-buffer={}", options.send_buffer),
            format!("--receive-buffer={}", options.receive_buffer),
            format!("--notsent-lowat={}", options.notsent_lowat),
            format!("--bare-threads={threads}"),
        ];
        if let Some(plant) = options.plant {
            arguments.push(format!("--plant={plant:?}").to_lowercase());
        }
        let (process, port, controls) = ServerProcess::start_bare(&arguments, &common.server_core)?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let urls = vec![Url { address, host: address.to_string(), path: "/".into() }];
        let name = if threads == 1 { "limit".to_owned() } else { format!("limit-{threads}") };
        let target = Target { name, urls, feed: Feed::new(run), publishes };
        let publisher = Box::new(BarePublisher::connect(&controls)?);
        Ok(Self { target: Arc::new(target), pid: Some(process.pid()), publisher, process: Some(process) })
    }
}

/// Stalled connections for so many reading ones.
pub fn stalled_count(common: &Common) -> usize {
    (common.connections as f64 * common.stalled_share).round() as usize
}

/// Checks the load against the limits of this machine, and chooses what was left open.
fn crew_options(common: &Common, arms: &[Arm], limit: usize) -> Result<CrewOptions, Failure> {
    let per_arm = common.connections + stalled_count(common);
    let total = per_arm * arms.len();
    let room = limit.saturating_sub(SPARE_DESCRIPTORS).max(1);
    let threads = if common.threads == 0 { total.div_ceil(room).max(1) } else { common.threads };
    if total.div_ceil(threads) > room {
        return Err(Failure::Usage(format!(
            "{total} connections on {threads} thread(s) need more than {limit} descriptors a thread: \
             give --threads {} or raise 'ulimit -n'",
            total.div_ceil(room)
        )));
    }
    let urls = arms.iter().flat_map(|arm| &arm.target.urls).map(|url| url.address);
    let sources = common.sources.clone().unwrap_or_else(|| Sources::suitable_for(urls));
    let destinations = arms.iter().map(|arm| arm.target.urls.len()).min().unwrap_or(1);
    let capacity = sources.capacity(sources::ports_per_address()).saturating_mul(destinations);
    if per_arm > capacity {
        return Err(Failure::Usage(format!(
            "{per_arm} connections need more than the {capacity} ports there are: give more --sources or more --url"
        )));
    }
    Ok(CrewOptions { threads, cores: common.client_cores.clone(), nap: common.nap, sources })
}
