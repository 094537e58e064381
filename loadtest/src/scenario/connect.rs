//! `connect`: what one accepted and upgraded connection costs the server.

use std::time::{Duration, Instant};

use super::load::unless_interrupted;
use super::rounds::{self, Length};
use crate::cli::ConnectOptions;
use crate::crew::Manner;
use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, Stopwatch, cpu_of};
use crate::stage::Stage;

/// A server is at rest when it uses less than `REST_CPU_NS_MAX` in such a time.
const REST_LOOK: Duration = Duration::from_millis(60);
const REST_CPU_NS_MAX: u64 = 1_500_000;
/// Longest wait for rest; a server with work of its own never rests.
const REST_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &ConnectOptions) -> Result<(), Failure> {
    let count = options.common.connections;
    if options.rate.is_some_and(|rate| !(1.0..=1e6).contains(&rate)) {
        return Err(Failure::Usage("--rate must be between 1 and 1000000 connections a second".into()));
    }
    let pace =
        options.rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("{rate} a second"));
    report.describe("connect", "connection", format!("{count} connections, {pace}"));
    let names = rounds::server_names(stage);
    // The first time a server grows its tables; that is not what a connection costs in the long run.
    for index in 0..stage.arms.len() {
        connect_all(stage, index, count, options.rate)?;
    }
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds), |stage, index| {
        connect_all(stage, index, count, options.rate)
    })
}

fn connect_all(stage: &mut Stage, index: usize, count: usize, rate: Option<f64>) -> Result<Round, Failure> {
    await_rest(stage, index)?;
    let before = stage.crew.stats(index);
    let stopwatch = Stopwatch::start(stage, index)?;
    stage.crew.begin_to_open(index, count, Manner { rate, ..Manner::default() });
    let opened = stage.crew.wait_opened(index, count, &before, &stage.watch);
    let stats = stage.crew.stats(index);
    let (units, missing) = (stats.upgraded - before.upgraded, stats.refused - before.refused);
    unless_interrupted(opened.map(drop))?;
    if missing == count as u64 {
        let cause = stats.failure.unwrap_or_else(|| "unknown cause".to_owned());
        return Err(Failure::Unavailable(format!("none of {count} connected; {cause}")));
    }
    let round = stopwatch.stop(stage, missing)?;
    unless_interrupted(stage.crew.close(index, false, &stage.watch).and_then(|()| await_rest(stage, index)))?;
    Ok(Round { units, reads: units, latency: round.handshake.clone(), ..round })
}

/// Waits until the server has dealt with what came before.
///
/// # Errors
/// If its processes are gone, or the run is over.
pub fn await_rest(stage: &Stage, index: usize) -> Result<(), Failure> {
    let give_up = Instant::now() + REST_TIMEOUT;
    let mut before = cpu_of(&stage.arms[index])?;
    while Instant::now() < give_up {
        stage.watch.until_moment(Instant::now() + REST_LOOK)?;
        let now = cpu_of(&stage.arms[index])?;
        if (now - before).total_ns < REST_CPU_NS_MAX {
            return Ok(());
        }
        before = now;
    }
    Ok(())
}
