//! All worker threads, as the controller sees them: open, close, wait, count.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use crate::failure::Failure;
use crate::monitor::Counts;
use crate::sources::Sources;
use crate::stats::{Latencies, Stats};
use crate::sys;
use crate::target::Target;
use crate::watch::Watch;
use crate::worker::{Begin, Command, Opening, WAKER, Which, Worker};

/// Descriptors that a thread needs besides its connections.
pub const SPARE_DESCRIPTORS: usize = 64;
/// With no progress for so long, what is missing is taken as lost.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// Workers close at once; one that closes no more has no more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Handshakes at once unless a scenario says otherwise: enough to keep any server busy, and less than its queue.
const HANDSHAKES_AT_ONCE: usize = 256;

/// How the workers are to run.
#[derive(Clone, Debug)]
pub struct CrewOptions {
    /// Number of threads.
    pub threads: usize,
    /// Cores to pin them to, in turn; empty leaves them where the main thread may run.
    pub cores: Vec<usize>,
    /// Sleep between two sweeps.
    pub nap: Duration,
    /// Bytes per second of connections that read slowly; 0: they never read.
    pub read_rate: u64,
    /// Source addresses.
    pub sources: Sources,
}

/// The running workers.
#[derive(Debug)]
pub struct Crew {
    members: Vec<Member>,
    counts: Counts,
    opened: usize,
}

#[derive(Debug)]
struct Member {
    commands: Sender<Command>,
    waker: Waker,
    stats: Arc<Mutex<Vec<Stats>>>,
    thread: Option<JoinHandle<()>>,
}

impl Crew {
    /// Starts the threads, each with its own descriptor table. Polls and wakers are made here, before
    /// any table is copied, so that they mean the same in all of them.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn start(options: &CrewOptions, targets: &[Arc<Target>]) -> Result<Self, Failure> {
        let refused =
            |error: std::io::Error| Failure::Usage(format!("cannot start the worker threads: {error}"));
        let sources = Arc::new(options.sources.clone());
        let polls: Vec<Poll> =
            (0..options.threads).map(|_| Poll::new()).collect::<Result<_, _>>().map_err(refused)?;
        let wakers: Vec<Waker> = polls
            .iter()
            .map(|poll| Waker::new(poll.registry(), WAKER))
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let mut members = Vec::new();
        for (index, (poll, waker)) in polls.into_iter().zip(wakers).enumerate() {
            let (commands, inbox) = channel();
            let stats = Arc::new(Mutex::new(vec![Stats::default(); targets.len()]));
            let (published, targets, sources) = (Arc::clone(&stats), targets.to_vec(), Arc::clone(&sources));
            let (nap, read_rate) = (options.nap, options.read_rate);
            let core: Vec<usize> =
                options.cores.get(index % options.cores.len().max(1)).copied().into_iter().collect();
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let place = sys::take_private_descriptors()
                    .and_then(|()| sys::pin_to_cores(&core))
                    .and_then(|()| sys::preempt_nobody());
                if let Err(error) = place {
                    eprintln!(
                        "tidegate-loadtest: a worker runs without its own descriptors, core or policy: {error}"
                    );
                }
                Worker::new(poll, inbox, targets, published, sources, nap, read_rate).run();
            });
            members.push(Member { commands, waker, stats, thread: Some(thread.map_err(refused)?) });
        }
        let published = members.iter().map(|member: &Member| Arc::clone(&member.stats)).collect();
        Ok(Self { members, counts: Counts::new(published, targets.len()), opened: 0 })
    }

    /// Opens connections to a target, spread over all threads, and waits until all are upgraded.
    ///
    /// # Errors
    /// The cause of the first that failed.
    pub fn open(&mut self, target: usize, count: usize, stalled: bool, watch: &Watch) -> Result<(), Failure> {
        let before = self.stats(target);
        self.begin_to_open(target, count, Manner { stalled, ..Manner::default() });
        let failed = self.wait_opened(target, count, &before, watch)?;
        if failed > 0 {
            let cause = self.stats(target).failure.unwrap_or_else(|| "unknown cause".to_owned());
            return Err(Failure::Unavailable(format!(
                "{} of {count} connected; {cause}",
                count as u64 - failed
            )));
        }
        Ok(())
    }

    /// Lets the workers open connections, and goes on.
    pub fn begin_to_open(&mut self, target: usize, count: usize, manner: Manner) {
        self.counts.expect_upgrades(target, self.stats(target).upgraded, count as u64);
        let threads = self.members.len();
        let pace_ns = manner.rate.map_or(0.0, |rate| 1e9 * threads as f64 / rate) as u64;
        let now_ns = sys::monotonic_ns();
        for (index, member) in self.members.iter().enumerate() {
            member.send(Command::Open(Opening {
                target: target as u16,
                left: count / threads + usize::from(index < count % threads),
                stalled: manner.stalled,
                number: self.opened + index,
                stride: threads,
                midway: manner.midway,
                again: manner.again,
                in_flight_max: manner.at_once.unwrap_or(HANDSHAKES_AT_ONCE).div_ceil(threads),
                pace_ns,
                due_ns: now_ns + pace_ns * index as u64 / threads as u64,
                begin: manner.begin.clone(),
            }));
        }
        self.opened += count;
    }

    /// Waits until so many more than `before` are upgraded or have failed, and returns how many failed.
    ///
    /// # Errors
    /// If the server answers no more, or the run is over.
    pub fn wait_opened(
        &self,
        target: usize,
        count: usize,
        before: &Stats,
        watch: &Watch,
    ) -> Result<u64, Failure> {
        let mut progress = Progress::start();
        let mut failed = 0;
        watch.until(|| {
            let stats = self.stats(target);
            failed = stats.refused - before.refused;
            let done = stats.upgraded - before.upgraded;
            if progress.is_stuck(done + failed) {
                return Err(Failure::Unavailable(format!(
                    "{done} of {count} connected; then the server answered no more"
                )));
            }
            Ok(done + failed >= count as u64)
        })?;
        Ok(failed)
    }

    /// Closes connections by reset and waits until that is done.
    ///
    /// # Errors
    /// Only if the run is over.
    pub fn close(&self, target: usize, stalled_only: bool, watch: &Watch) -> Result<(), Failure> {
        let which = if stalled_only { Which::Stalled } else { Which::All };
        for member in &self.members {
            member.send(Command::Close { target: target as u16, which });
        }
        watch.until(|| {
            let stats = self.stats(target);
            Ok(stats.stalled == 0 && (stalled_only || stats.live == 0))
        })
    }

    /// Lets the workers close so many reading subscribers by reset, each its share, and goes on.
    pub fn begin_to_close(&self, target: usize, count: usize) {
        let threads = self.members.len();
        for (index, member) in self.members.iter().enumerate() {
            let which = Which::Some(count / threads + usize::from(index < count % threads));
            member.send(Command::Close { target: target as u16, which });
        }
    }

    /// Closes so many reading subscribers by reset, each worker its share, and waits until that is done. Returns how
    /// many there were: a worker may have fewer than its share.
    ///
    /// # Errors
    /// Only if the run is over.
    pub fn close_some(&self, target: usize, count: usize, watch: &Watch) -> Result<usize, Failure> {
        let before = self.stats(target).live;
        self.begin_to_close(target, count);
        let gone = before.saturating_sub(count as u64);
        let mut progress = Progress::start();
        watch.until(|| {
            let live = self.stats(target).live;
            Ok(live <= gone || progress.is_stuck_for(CLOSE_TIMEOUT, live))
        })?;
        Ok(usize::try_from(before.saturating_sub(self.stats(target).live)).unwrap_or(count))
    }

    /// The sum of all counts for a target.
    pub fn stats(&self, target: usize) -> Stats {
        self.counts.of(target)
    }

    /// A handle that reads the counts from another thread.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }

    /// The latencies of a target since the last call.
    pub fn take_latencies(&self, target: usize) -> Latencies {
        let (reply, replies) = channel();
        for member in &self.members {
            member.send(Command::TakeLatencies { target: target as u16, reply: reply.clone() });
        }
        drop(reply);
        let mut sum = Latencies::new();
        replies.iter().for_each(|latencies| sum.add(&latencies));
        sum
    }

    /// Waits until every live subscriber has everything up to `head`, or has been passed over.
    /// Returns the number of messages that did not come within the progress timeout.
    ///
    /// # Errors
    /// If the run is over.
    pub fn wait_delivered(&self, target: usize, head: u64, watch: &Watch) -> Result<u64, Failure> {
        let mut progress = Progress::start();
        let mut missing = 0;
        watch.until(|| {
            let stats = self.stats(target);
            missing = stats.behind(head);
            Ok(missing == 0 || stats.live == 0 || progress.is_stuck(stats.sequence_sum))
        })?;
        Ok(missing)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &self.members {
            member.send(Command::Stop);
        }
        for thread in self.members.iter_mut().filter_map(|member| member.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Member {
    /// A worker that is gone has counted its failure already.
    fn send(&self, command: Command) {
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

/// How connections are opened.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// They read slowly or never.
    pub stalled: bool,
    /// Messages are being published meanwhile.
    pub midway: bool,
    /// Whoever is refused tries again after a moment.
    pub again: bool,
    /// How many may be in their handshake at once, all workers together; `None`: a few hundred.
    pub at_once: Option<usize>,
    /// Connections a second, all workers together; `None`: as fast as it goes.
    pub rate: Option<f64>,
    /// Where they begin; `None`: with the next message.
    pub begin: Option<Arc<Begin>>,
}

/// Notices when a number stops changing.
struct Progress {
    value: u64,
    since: Instant,
}

impl Progress {
    fn start() -> Self {
        Self { value: u64::MAX, since: Instant::now() }
    }

    fn is_stuck(&mut self, value: u64) -> bool {
        self.is_stuck_for(PROGRESS_TIMEOUT, value)
    }

    fn is_stuck_for(&mut self, time: Duration, value: u64) -> bool {
        if value != self.value {
            *self = Self { value, since: Instant::now() };
        }
        self.since.elapsed() > time
    }
}
