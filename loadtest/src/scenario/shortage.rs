//! The attack `descriptors`: the server may open no more of them while clients come, and then may again. Nobody new comes
//! and nothing is published from the moment of the shortage on: the server has to notice by itself.

use std::time::{Duration, Instant};

use super::hostile::Attack;
use super::load::{self, Published};
use crate::failure::Failure;
use crate::round::{Round, Stopwatch, cpu_of};
use crate::stage::Stage;
use crate::sys;

const SERVER: usize = 0;
/// Descriptors that are still free when the clients come.
const SPARE: usize = 10;
/// How long the clients wait: less than a second, after which a server may tell them to come back.
const WAIT: Duration = Duration::from_millis(400);
/// Time in which all clients must have been served or refused.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether all are served.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What was seen of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shortage {
    /// Clients that were served while there were no descriptors.
    pub served_before: u64,
    /// From when there were some until all clients were served or refused, seconds.
    pub served_s: Option<f64>,
    /// Cores that the server kept busy while the clients waited.
    pub waiting_cores: Option<f64>,
}

/// Plays it; the round's units are the deliveries to the canaries afterwards.
///
/// # Errors
/// `Usage` if the server's limit may not be set.
pub fn round(stage: &mut Stage, attack: &mut Attack<'_>) -> Result<Round, Failure> {
    let mut published = Published::after(load::warm_up(stage, SERVER, 1, attack.options.size)?);
    let stopwatch = Stopwatch::start(stage, SERVER)?;
    attack.shortage = play(stage, attack)?;
    published.publish(stage, SERVER, 1, attack.options.size, sys::monotonic_ns())?;
    published.wait(stage, SERVER)?;
    published.stop(stage, stopwatch)
}

fn play(stage: &Stage, attack: &mut Attack<'_>) -> Result<Shortage, Failure> {
    let processes = &stage.arms[SERVER].processes;
    let ([pid], Some(descriptors)) = (&processes.pids()[..], processes.descriptors()) else {
        let cure = "start one with --spawn, or give --pid";
        return Err(Failure::Usage(format!("the descriptors of one process of ours are limited: {cure}")));
    };
    let count = attack.orders.scripts.iter().map(|(_, count)| *count as u64).sum::<u64>();
    let set = |soft: u64| {
        sys::set_descriptor_limit(*pid, soft).map_err(|error| {
            Failure::Usage(format!("the descriptor limit of process {pid} cannot be set: {error}"))
        })
    };
    let usual = set((descriptors + SPARE) as u64)?;
    let outcome = under_limit(stage, attack, count, || set(usual).map(drop));
    // Whatever happened, the server is not left without.
    set(usual)?;
    outcome
}

fn under_limit(
    stage: &Stage,
    attack: &mut Attack<'_>,
    count: u64,
    free: impl Fn() -> Result<(), Failure>,
) -> Result<Shortage, Failure> {
    let squad = attack.start()?;
    let give_up = Instant::now() + PATIENCE;
    let progress = squad.progress();
    stage.watch.until(|| Ok(progress.connected() + progress.ended() >= count || Instant::now() > give_up))?;
    let (start, before) = (Instant::now(), cpu_of(&stage.arms[SERVER])?);
    stage.watch.until_moment(start + WAIT)?;
    let used = cpu_of(&stage.arms[SERVER])? - before;
    let waiting_cores =
        (used.total_ns > 0).then(|| used.total_ns as f64 / 1e9 / start.elapsed().as_secs_f64());
    let served_before = progress.upgraded();
    free()?;
    let freed = Instant::now();
    let mut served_s = None;
    while served_s.is_none() && freed.elapsed() < PATIENCE {
        let is_done = progress.upgraded() + progress.ended() >= count;
        served_s = is_done.then(|| freed.elapsed().as_secs_f64());
        attack.look(stage);
        stage.watch.until_moment(Instant::now() + LOOK_EVERY)?;
    }
    attack.end(squad);
    Ok(Shortage { served_before, served_s, waiting_cores })
}
