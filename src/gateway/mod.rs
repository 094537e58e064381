//! Starts everything in the right order, watches over it, and ends it.
//!
//! Order matters with private descriptor tables: a shard's table is a copy of what is open when it starts. Signals,
//! pollers, wakers and listeners are therefore made first, on this thread; then the shards start; and nothing is
//! accepted on the admin port before every shard has answered. This thread is the control thread from then on.
//! Read `drain.rs` for how it ends, `error.rs` for how it fails.

mod banner;
mod capacity;
mod drain;
mod error;
mod listeners;
mod log_ring;
mod logging;
mod memory;
mod orders;
mod signals;
mod threads;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use capacity::check_capacity;
pub use error::GatewayError;
pub use memory::machine_memory;

use crate::admin::{self, Admin, AdminSetup, Patience, Shards};
use crate::bus::{Bus, DrainSchedule, Order, Question};
use crate::clock::{Clock, JumpWatch};
use crate::config::limits::BUS_LANE_MESSAGES;
use crate::config::{Config, MachineMemory};
use crate::feeds::Publisher;
use crate::metrics::counters::Counter;
use crate::metrics::{MemoryBudget, ShardCounters};
use crate::net::{ConnectionBudget, sys};
use crate::shard::reactor::Poller;
use banner::Banner;
use capacity::Capacity;
use listeners::Bound;
use orders::Orders;
use signals::Signals;
use threads::{ShardEnd, ShardEnds};

/// How long the shards may take to answer for the first time.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a drain looks whether it is over.
const DRAIN_TICK: Duration = Duration::from_millis(50);
/// How often the wall clock is looked at.
const CLOCK_TICK: Duration = Duration::from_secs(1);
/// How long the shards may take to end once they are told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the gateway until a signal has drained it, on the calling thread, which must be the main one.
///
/// # Errors
/// [`GatewayError`]: what could not be started or has failed, with the cure; end the process with its
/// [`GatewayError::exit_code`]. Shard threads may still run then.
pub fn run(config: Config) -> Result<(), GatewayError> {
    let log = logging::start(&config)?;
    if let Err(error) = sys::use_small_pages() {
        tracing::debug!(event = "huge_pages_stay", %error);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| GatewayError::start("the control thread's runtime", source))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|source| GatewayError::start("signal handlers", source))?;
        let mut gateway = Gateway::start(config, log.dropped()).await?;
        // A closed standard output is no reason to stop serving.
        let mut stdout = std::io::stdout().lock();
        let _ = write!(stdout, "{}", gateway.banner).and_then(|()| stdout.flush());
        drop(stdout);
        gateway.serve(async || signals.next().await).await
    })
}

/// A gateway whose parts are all running.
struct Gateway {
    config: Arc<Config>,
    clock: Clock,
    bus: Bus,
    budget: ConnectionBudget,
    publisher: Publisher,
    admin: Arc<Admin>,
    admin_task: JoinHandle<std::io::Result<()>>,
    shard_ends: ShardEnds,
    banner: Banner,
}

impl Gateway {
    async fn start(mut config: Config, log_dropped: Arc<Counter>) -> Result<Self, GatewayError> {
        let clock = Clock::start();
        let capacity = Capacity::of(&config, capacity::raise_descriptor_limit())?;
        let Bound { addresses, per_shard } = listeners::bind_all(&config)?;
        let admin_listener = bind_admin(&config).await?;
        let admin_address = admin_listener.local_addr();
        let admin_address =
            admin_address.map_err(|source| GatewayError::start("the admin listener", source))?;
        // The demo page names the admin port: the one that was bound, should port 0 have been asked for.
        config.admin_listen = admin_address;
        let config = Arc::new(config);

        let pollers: Result<Vec<_>, _> = (0..config.shards).map(|_| Poller::new()).collect();
        let pollers = pollers.map_err(|source| GatewayError::start("an event queue", source))?;
        let wakers: Result<Vec<_>, _> = pollers.iter().map(Poller::waker).collect();
        let wakers = wakers.map_err(|source| GatewayError::start("a waker", source))?;
        let bus = Bus::new(wakers, BUS_LANE_MESSAGES);
        let counters: Vec<Arc<ShardCounters>> = (0..config.shards).map(|_| Arc::default()).collect();
        let budget = ConnectionBudget::new(capacity.connections_max).with_address_limits(&config);
        let memory = MemoryBudget::new(config.memory);
        let shards = Shards::new(bus.clone(), counters.clone());
        let setups = threads::setups(&config, &bus, counters, per_shard, pollers, clock, (&budget, &memory));
        let mut shard_ends = threads::start(setups)?;
        wait_for_first_answers(&shards, &mut shard_ends).await?;

        let publisher = Publisher::new(bus.clone(), clock, memory.clone());
        let publisher = publisher.with_channels(&config.channels);
        let admin = Arc::new(Admin::new(AdminSetup {
            publisher: publisher.clone(),
            shards,
            clock,
            connections_max: capacity.connections_max as u64,
            memory,
            descriptors_max: capacity.descriptors_max,
            log_dropped,
            patience: Patience::default(),
            channels: config.channels.clone(),
        }));
        let admin_task = tokio::spawn(admin::serve(admin_listener, Arc::clone(&admin)));
        let banner = Banner {
            addresses,
            admin_address,
            capacity,
            memory: MachineMemory { bytes: config.memory, origin: config.memory_origin },
            channel: config.default_channel.clone(),
        };
        banner.log(&config);
        Ok(Self { config, clock, bus, budget, publisher, admin, admin_task, shard_ends, banner })
    }

    /// Serves until a signal comes, then drains; a further signal hurries.
    async fn serve(&mut self, mut next_signal: impl AsyncFnMut()) -> Result<(), GatewayError> {
        let mut orders = Orders::new(self.bus.clone());
        let mut schedule: Option<DrainSchedule> = None;
        let mut tick = tokio::time::interval(DRAIN_TICK);
        let (mut clock_tick, mut jumps) = (tokio::time::interval(CLOCK_TICK), JumpWatch::start(&self.clock));
        loop {
            tokio::select! {
                () = next_signal() => {
                    let next = drain::next_schedule(schedule, self.clock.now(), &self.config);
                    self.begin_drain(schedule.is_some(), next);
                    schedule = Some(next);
                    orders.begin(Box::new(move || Order::Drain(next)));
                }
                end = self.shard_ends.recv() => return Err(end.map_or(GatewayError::AdminEnded, ShardEnd::unexpected)),
                _ = &mut self.admin_task => return Err(GatewayError::AdminEnded),
                _ = clock_tick.tick() => {
                    if let Some(jump_ms) = jumps.look(&self.clock) {
                        tracing::warn!(event = "clock_jump", jump_ms, "the times of log records jump; deadlines do not");
                    }
                }
                _ = tick.tick(), if schedule.is_some() => {
                    orders.push();
                    let is_over = |schedule| drain::is_over(&schedule, self.clock.now(), self.budget.used());
                    if schedule.is_some_and(is_over) {
                        return self.stop().await;
                    }
                }
            }
        }
    }

    fn begin_drain(&self, is_hurried: bool, schedule: DrainSchedule) {
        self.admin.set_draining();
        tracing::info!(
            event = if is_hurried { "drain_hurried" } else { "drain_begun" },
            connections = self.budget.used(),
            closes_end_in_ms = schedule.closes_end_at.since(self.clock.now()).as_millis() as u64,
        );
    }

    /// Ends the shards, which are empty or out of time.
    async fn stop(&mut self) -> Result<(), GatewayError> {
        let cut = self.budget.used();
        if cut > 0 {
            tracing::warn!(event = "drain_cut", connections = cut, "the last connections did not go in time");
        }
        self.publisher.close();
        let mut orders = Orders::new(self.bus.clone());
        orders.begin(Box::new(|| Order::Stop));
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut running = self.bus.shard_count();
        while running > 0 {
            let step = deadline.min(Instant::now() + DRAIN_TICK);
            match timeout_at(step, self.shard_ends.recv()).await {
                Ok(Some(end)) => end.expected()?,
                Ok(None) => break,
                Err(_) if Instant::now() >= deadline => {
                    tracing::warn!(
                        event = "stop_timed_out",
                        shards = running,
                        "shards still run; they are cut"
                    );
                    break;
                }
                Err(_) => {
                    orders.push();
                    continue;
                }
            }
            running -= 1;
        }
        tracing::info!(event = "stopped");
        Ok(())
    }
}

async fn bind_admin(config: &Config) -> Result<TcpListener, GatewayError> {
    let address = config.admin_listen;
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| GatewayError::Bind { option: "--admin-listen", address, source })
}

/// Every shard has its descriptor table and turns once it has answered.
async fn wait_for_first_answers(shards: &Shards, ends: &mut ShardEnds) -> Result<(), GatewayError> {
    let deadline = Instant::now() + START_TIMEOUT;
    let answers = async { while shards.ask_all(Question::Alive).await.iter().any(Option::is_none) {} };
    tokio::select! {
        answered = timeout_at(deadline, answers) => answered.map_err(|_| GatewayError::SlowStart),
        end = ends.recv() => Err(end.map_or(GatewayError::SlowStart, ShardEnd::unexpected)),
    }
}

#[cfg(test)]
mod tests;
