//! `storm`: all connections break at once and all come back, while messages go on: how long until every
//! subscriber is there again and has the newest message, and what that costs.

use std::time::{Duration, Instant};

use super::rounds::Length;
use super::{fanout, load, open_all, rounds};
use crate::cli::StormOptions;
use crate::crew::Manner;
use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, Stopwatch, median};
use crate::stage::Stage;

/// After this a server does not recover any more.
pub const RECOVERY_MAX: Duration = Duration::from_secs(120);

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &StormOptions) -> Result<(), Failure> {
    if !(0.001..=1000.0).contains(&options.rate) || options.at_once == 0 {
        return Err(Failure::Usage(
            "--rate must be between 0.001 and 1000 messages a second, --at-once at least 1".into(),
        ));
    }
    let count = options.common.connections;
    let title =
        format!("{count} subscribers break and come back, {} at once, {}/s", options.at_once, options.rate);
    report.describe("storm", "reconnection", title);
    open_all(stage, &options.common)?;
    fanout::warm_up(stage, 1, options.size)?;
    let names = rounds::server_names(stage);
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds), |stage, index| {
        storm(stage, index, count, Some(options.at_once), options.rate, options.size)
    })?;
    let recoveries: Vec<_> = report
        .series
        .iter()
        .map(|series| {
            (series.name.clone(), series.rounds.iter().map(|round| round.wall_s).collect::<Vec<_>>())
        })
        .collect();
    for (name, seconds) in recoveries {
        let longest = seconds.iter().copied().max_by(f64::total_cmp);
        report.add_fact(
            &format!("{name}_recovery_seconds_median"),
            median(seconds),
            "s until all had the newest",
        );
        report.add_fact(&format!("{name}_recovery_seconds_max"), longest, "s in the worst storm");
    }
    for (index, name) in names.iter().enumerate() {
        let retried = stage.crew.stats(index).retried as f64;
        report.add_fact(
            &format!("{name}_retried"),
            retried,
            "connections refused in a storm and tried again",
        );
    }
    Ok(())
}

/// Breaks `count` connections by reset and opens as many; whoever is refused tries again, as clients do. A unit is a reconnection, the latency that of the
/// handshake, the wall time that until all subscribers have the newest message.
///
/// # Errors
/// If publishing fails or the run is over.
pub fn storm(
    stage: &mut Stage,
    index: usize,
    count: usize,
    at_once: Option<usize>,
    rate: f64,
    size: usize,
) -> Result<Round, Failure> {
    let before = stage.crew.stats(index);
    let stopwatch = Stopwatch::start(stage, index)?;
    let start = Instant::now();
    let count = stage.crew.close_some(index, count, &stage.watch)?;
    stage.crew.begin_to_open(
        index,
        count,
        Manner { midway: true, again: true, at_once, ..Manner::default() },
    );
    let publishes = stage.arms[index].target.publishes;
    for number in 0_u32.. {
        stage.watch.check()?;
        if publishes {
            load::publish(stage, index, 1, size, crate::sys::monotonic_ns())?;
        }
        let next = start + Duration::from_secs_f64(f64::from(number + 1) / rate);
        let mut is_whole = false;
        let (crew, watch) = (&stage.crew, &stage.watch);
        watch.until(|| {
            let stats = crew.stats(index);
            let back = stats.upgraded - before.upgraded;
            is_whole = back >= count as u64;
            if start.elapsed() > RECOVERY_MAX {
                let cause = stats.causes.iter().max_by_key(|(_, times)| **times);
                let cause = cause.map_or("it answers no more", |(cause, _)| cause.as_str());
                return Err(Failure::Unavailable(format!(
                    "{back} of {count} came back within {RECOVERY_MAX:?}: {cause}"
                )));
            }
            Ok(is_whole || Instant::now() >= next)
        })?;
        if is_whole {
            break;
        }
    }
    let missing = load::warm_up(stage, index, 1, size)?;
    let wall_s = start.elapsed().as_secs_f64();
    let round = stopwatch.stop(stage, missing)?;
    Ok(Round { units: count as u64, wall_s, latency: round.handshake.clone(), ..round })
}
