//! `connect`: what one accepted and upgraded connection costs the server.

use std::time::{Duration, Instant};

use super::rounds;
use crate::cli::ConnectOptions;
use crate::crew::Manner;
use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, cpu_of};
use crate::server::accounts::CpuTime;
use crate::stage::Stage;
use crate::stats::Latencies;
use crate::sys;

/// A server is at rest when it uses less than `REST_CPU_NS_MAX` in such a time.
const REST_LOOK: Duration = Duration::from_millis(60);
const REST_CPU_NS_MAX: u64 = 1_500_000;
/// Longest wait for rest; a server with work of its own never rests.
const REST_TIMEOUT: Duration = Duration::from_secs(3);

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, options: &ConnectOptions) -> Result<Report, Failure> {
    let count = options.common.connections;
    let mut report = Report::new("connect", "connection");
    if options.rate.is_some_and(|rate| !(1.0..=1e6).contains(&rate)) {
        return Err(Failure::Usage("--rate must be between 1 and 1000000 connections a second".into()));
    }
    let pace =
        options.rate.map_or_else(|| "as fast as it goes".to_owned(), |rate| format!("{rate} a second"));
    report.title = format!("{count} connections, {pace}");
    let names = rounds::server_names(stage);
    // The first time a server grows its tables; that is not what a connection costs in the long run.
    for index in 0..stage.arms.len() {
        connect_all(stage, index, count, options.rate)?;
    }
    rounds::alternate(stage, &mut report, &names, options.rounds, |stage, index| {
        connect_all(stage, index, count, options.rate)
    })?;
    Ok(report)
}

fn connect_all(stage: &mut Stage, index: usize, count: usize, rate: Option<f64>) -> Result<Round, Failure> {
    await_rest(stage, index)?;
    stage.crew.take_latencies(index);
    let before = stage.crew.stats(index);
    let (server, own, started_ns) = (cpu_of(&stage.arms[index])?, CpuTime::own(), sys::monotonic_ns());
    stage.crew.begin_to_open(index, count, Manner { rate, ..Manner::default() });
    let missing = stage.crew.wait_opened(index, count, &before, &stage.watch)?;
    let wall_s = (sys::monotonic_ns() - started_ns) as f64 / 1e9;
    if missing == count as u64 {
        let cause = stage.crew.stats(index).failure.unwrap_or_else(|| "unknown cause".to_owned());
        return Err(Failure::Unavailable(format!("none of {count} connected; {cause}")));
    }
    std::thread::sleep(Duration::from_millis(10));
    let (server, own) = (cpu_of(&stage.arms[index])? - server, CpuTime::own() - own);
    let handshake = stage.crew.take_latencies(index).handshake;
    stage.crew.close(index, false, &stage.watch)?;
    await_rest(stage, index)?;
    let units = count as u64 - missing;
    Ok(Round {
        started_ns,
        units,
        wall_s,
        server,
        own,
        latency: handshake.clone(),
        spread: Latencies::new().delivery,
        handshake,
        acks_by_timer: 0,
        reads: units,
        missing,
    })
}

/// Waits until the server has dealt with what came before.
fn await_rest(stage: &Stage, index: usize) -> Result<(), Failure> {
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
