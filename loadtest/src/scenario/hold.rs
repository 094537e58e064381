//! `idle` and `hold`: connections that stay, answer pings, and receive a broadcast now and then; what
//! they cost in memory and CPU.

use std::time::{Duration, Instant};

use super::{load, open_all};
use crate::cli::{Common, HoldOptions, IdleOptions};
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::round::cpu_of;
use crate::server::accounts::KernelMemory;
use crate::stage::Stage;

/// Runs `idle`.
///
/// # Errors
/// Why it could not be completed.
pub fn run_idle(stage: &mut Stage, report: &mut Report, options: &IdleOptions) -> Result<(), Failure> {
    let (connections, seconds) = (options.common.connections, options.settle.as_secs());
    report.describe("idle", "connection", format!("{connections} idle connections for {seconds} s"));
    hold(stage, report, &options.common, options.settle, 0, 0)
}

/// Runs `hold`.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &HoldOptions) -> Result<(), Failure> {
    let (connections, seconds) = (options.common.connections, options.hold.as_secs());
    let title = format!("{connections} connections for {seconds} s, {} broadcasts", options.broadcasts);
    report.describe("hold", "connection", title);
    hold(stage, report, &options.common, options.hold, options.broadcasts, options.size)
}

fn hold(
    stage: &mut Stage,
    report: &mut Report,
    common: &Common,
    length: Duration,
    broadcasts: usize,
    size: usize,
) -> Result<(), Failure> {
    let (before, kernel_before) = (memory_of_all(stage), KernelMemory::now());
    let start = Instant::now();
    let mut outcome = open_all(stage, common);
    if outcome.is_ok() {
        report.add_fact("connect_seconds", start.elapsed().as_secs_f64(), "s to connect all");
        let connected = stage.arms.iter().map(cpu_of).collect::<Result<Vec<_>, _>>()?;
        let start = Instant::now();
        outcome = hold_and_broadcast(stage, report, length, broadcasts, size);
        let held_s = start.elapsed().as_secs_f64();
        for (index, earlier) in connected.iter().enumerate() {
            let cpu = cpu_of(&stage.arms[index])? - *earlier;
            let per_second = cpu.total_ns as f64 / held_s / common.connections as f64;
            report.add_fact(
                &format!("{}_cpu_ns_per_connection_second", stage.arms[index].target.name),
                (stage.arms[index].processes.count() > 0).then_some(per_second),
                "ns CPU per connection and second",
            );
        }
    }
    // However it ended, so many are there.
    let live: Vec<usize> = (0..stage.arms.len()).map(|index| stage.crew.stats(index).live as usize).collect();
    for (index, &live) in live.iter().enumerate().filter(|&(_, &live)| live > 0) {
        report.add_memory_of(stage, index, &before, live, "");
    }
    let all = live.iter().sum();
    if all > 0 {
        report.add_kernel_memory(&kernel_before, all);
    }
    outcome
}

fn hold_and_broadcast(
    stage: &mut Stage,
    report: &mut Report,
    length: Duration,
    broadcasts: usize,
    size: usize,
) -> Result<(), Failure> {
    let start = Instant::now();
    for number in 0..broadcasts {
        // The first at once, the last at the end: all that was held has then also been fed.
        let moment = length.mul_f64(number as f64 / (broadcasts - 1).max(1) as f64);
        stage.watch.until_moment(start + moment)?;
        for index in 0..stage.arms.len() {
            if !stage.arms[index].target.publishes {
                continue;
            }
            let (name, since) = (stage.arms[index].target.name.clone(), Instant::now());
            let missing = load::publish_and_wait(stage, index, 1, size)?;
            let seconds = since.elapsed().as_secs_f64();
            stage.say(&format!(
                "{name}: broadcast {} reached {} in {seconds:.3} s, {missing} missing",
                number + 1,
                stage.crew.stats(index).live
            ));
            report.add_fact(
                &format!("{name}_broadcast_{}_seconds", number + 1),
                seconds,
                "s until the last had it",
            );
            report.missing += missing;
            if missing > 0 && !stage.allows_loss {
                return Ok(());
            }
        }
    }
    stage.watch.until_moment(start + length)
}
