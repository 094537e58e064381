//! `resume`: all connections break, messages are published to nobody, and all come back for exactly those: what that adds to
//! the server's memory while they catch up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::{self, unless_interrupted};
use super::rounds::{self, Length};
use super::storm::RECOVERY_MAX;
use super::{connect, fanout, open_all};
use crate::cli::ResumeOptions;
use crate::crew::Manner;
use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, Stopwatch};
use crate::server::counters::read;
use crate::stage::Stage;
use crate::sys;
use crate::worker::Begin;

/// How often the server's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Messages of one request, below what tidegate takes in one.
const TOGETHER_MAX: usize = 500;

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &ResumeOptions) -> Result<(), Failure> {
    let (count, messages, size) = (options.common.connections, options.messages as usize, options.size);
    if options.at_once == 0 {
        return Err(Failure::Usage("--at-once must be at least 1".into()));
    }
    let title = format!("{count} come back for {messages} messages each, {size} bytes");
    report.describe("resume", "reconnection", title);
    open_all(stage, &options.common)?;
    fanout::warm_up(stage, 1, size)?;
    let names = rounds::server_names(stage);
    let mut growth: Vec<Option<f64>> = vec![None; names.len()];
    let counted = counters(stage, &options.counter)?;
    let mut grown = counted.iter().map(|values| vec![0.0; values.len()]).collect::<Vec<_>>();
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds), |stage, index| {
        let before = counters(stage, &options.counter)?;
        let (round, added) = come_back(stage, index, options)?;
        let after = counters(stage, &options.counter)?;
        add_growth(&mut grown[index], &before[index], &after[index]);
        growth[index] = growth[index].into_iter().chain(added).max_by(f64::total_cmp);
        Ok(round)
    })?;
    for (index, name) in names.iter().enumerate() {
        let meaning = "bytes RSS that a storm added to what the same subscribers had cost, at most";
        report.add_fact(&format!("{name}_growth_bytes"), growth[index], meaning);
        let retried = stage.crew.stats(index).retried as f64;
        report.add_fact(&format!("{name}_retried"), retried, "connections refused and tried again");
    }
    tell_counters(report, &names, &options.counter, &grown);
    Ok(())
}

/// One storm, and the bytes that it added at most.
fn come_back(
    stage: &mut Stage,
    index: usize,
    options: &ResumeOptions,
) -> Result<(Round, Option<f64>), Failure> {
    let (count, size) = (options.common.connections, options.size);
    connect::await_rest(stage, index)?;
    let rss_before = stage.arms[index].processes.glance().1;
    let Some(position) = stage.arms[index].publisher.position().map(str::to_owned) else {
        let cure = "it takes --publish http and the answers of tidegate";
        return Err(Failure::Usage(format!("nobody said where the newest message stands: {cure}")));
    };
    let sequence = stage.arms[index].target.feed.head();
    stage.crew.close(index, false, &stage.watch)?;
    publish_unheard(stage, index, options.messages as usize, size)?;
    let begin = Some(Arc::new(Begin { query: format!("since={position}"), sequence }));
    let (before, stopwatch) = (stage.crew.stats(index), Stopwatch::start(stage, index)?);
    let at_once = Some(options.at_once);
    let manner = Manner { again: true, at_once, begin, ..Manner::default() };
    let (start, head) = (Instant::now(), stage.arms[index].target.feed.head());
    stage.crew.begin_to_open(index, count, manner);
    let mut peak = rss_before;
    while start.elapsed() < RECOVERY_MAX {
        peak = peak.max(stage.arms[index].processes.glance().1);
        let stats = stage.crew.stats(index);
        if stats.upgraded - before.upgraded >= count as u64 && stats.behind(head) == 0 {
            break;
        }
        stage.watch.until_moment(Instant::now() + LOOK_EVERY)?;
    }
    stage.crew.wait_opened(index, count, &before, &stage.watch)?;
    let mut missing = load::wait_for_all(stage, index)?;
    let units = stage.crew.stats(index).upgraded - before.upgraded;
    let round = stopwatch.stop(stage, missing)?;
    // What is published now begins where the replay ended.
    unless_interrupted(load::publish_and_wait(stage, index, 1, size).map(|late| missing += late))?;
    let added = (rss_before > 0).then(|| peak.saturating_sub(rss_before) as f64);
    Ok((Round { units, missing, latency: round.handshake.clone(), ..round }, added))
}

/// Publishes messages while there are no subscribers.
///
/// # Errors
/// If publishing fails.
pub fn publish_unheard(stage: &mut Stage, index: usize, count: usize, size: usize) -> Result<(), Failure> {
    for first in (0..count).step_by(TOGETHER_MAX) {
        stage.watch.check()?;
        load::publish(stage, index, TOGETHER_MAX.min(count - first), size, sys::monotonic_ns())?;
    }
    Ok(())
}

/// What these counters of each server stand at; none where its admin port is not known.
///
/// # Errors
/// As `read`.
pub fn counters(stage: &Stage, names: &[String]) -> Result<Vec<Vec<f64>>, Failure> {
    let of = |admin| read(admin, names);
    stage.arms.iter().map(|arm| arm.admin.as_ref().map_or_else(|| Ok(Vec::new()), of)).collect()
}

/// Adds what counters have grown by.
pub fn add_growth(sums: &mut [f64], before: &[f64], after: &[f64]) {
    for (sum, (before, after)) in sums.iter_mut().zip(before.iter().zip(after)) {
        *sum += after - before;
    }
}

/// Says what they have grown by in all rounds together.
pub fn tell_counters(report: &mut Report, servers: &[String], names: &[String], grown: &[Vec<f64>]) {
    for (server, sums) in servers.iter().zip(grown) {
        for (name, &sum) in names.iter().zip(sums) {
            report.add_fact(&format!("{server}_{name}"), sum, "counted by the server, in all rounds");
        }
    }
}
