//! The scenarios: each a function from its options to what a report says. `rounds` alternates between servers,
//! `load` publishes; both know nothing of the others.

mod churn;
mod connect;
mod fanout;
mod hold;
mod hostile;
mod latency;
mod load;
mod resume;
mod rounds;
mod shortage;
mod slow;
mod snapshot;
mod soak;
mod storm;

use std::collections::BTreeSet;

use crate::cli::{Common, Scenario};
use crate::failure::Failure;
use crate::report::Report;
use crate::server::bare;
use crate::stage::{Stage, stalled_count};

/// Runs a scenario to its end. The bare server gives no report.
///
/// # Errors
/// Why it could not be completed.
pub fn run(scenario: &Scenario) -> Result<Option<Report>, Failure> {
    if let Some((common, size)) = scenario.common().zip(scenario.size())
        && size < common.payload.size_min()
    {
        let least = common.payload.size_min();
        return Err(Failure::Usage(format!(
            "a message of this --payload has {least} bytes or more: give --size"
        )));
    }
    match scenario {
        Scenario::Connect(options) => {
            on_stage(&options.common, false, |stage, report| connect::run(stage, report, options))
        }
        Scenario::Idle(options) => {
            on_stage(&options.common, false, |stage, report| hold::run_idle(stage, report, options))
        }
        Scenario::Fanout(options) => {
            load::check_batch(usize::from(options.window), options.size)?;
            on_stage(&options.common, true, |stage, report| fanout::run(stage, report, options))
        }
        Scenario::Latency(options) => {
            on_stage(&options.common, true, |stage, report| latency::run(stage, report, options))
        }
        Scenario::Slow(options) => {
            load::check_batch(usize::from(options.window), options.size)?;
            on_stage(&options.common, true, |stage, report| slow::run(stage, report, options))
        }
        Scenario::Hold(options) => {
            on_stage(&options.common, true, |stage, report| hold::run(stage, report, options))
        }
        Scenario::Churn(options) => {
            on_stage(&options.common, true, |stage, report| churn::run(stage, report, options))
        }
        Scenario::Storm(options) => {
            on_stage(&options.common, true, |stage, report| storm::run(stage, report, options))
        }
        Scenario::Snapshot(options) => {
            snapshot::check(options)?;
            on_stage(&options.common, true, |stage, report| snapshot::run(stage, report, options))
        }
        Scenario::Resume(options) => {
            on_stage(&options.common, true, |stage, report| resume::run(stage, report, options))
        }
        Scenario::Soak(options) => {
            on_stage(&soak::common(options), true, |stage, report| soak::run(stage, report, options))
        }
        Scenario::Hostile(options) => {
            on_stage(&hostile::common(options)?, true, |stage, report| hostile::run(stage, report, options))
        }
        Scenario::BareServer(options) => {
            bare::serve(options).map_err(|error| Failure::Unavailable(format!("bare server: {error}")))?;
            Ok(None)
        }
    }
}

fn on_stage(
    common: &Common,
    publishes: bool,
    scenario: impl FnOnce(&mut Stage, &mut Report) -> Result<(), Failure>,
) -> Result<Option<Report>, Failure> {
    let mut stage = Stage::raise(common, publishes)?;
    let mut report = Report::new(generator_cores(common));
    if let Err(failure) = scenario(&mut stage, &mut report) {
        let failure = stage.explain(failure);
        // What was seen until then is told all the same, if there was anything.
        let has_connected = (0..stage.arms.len()).any(|index| stage.crew.stats(index).upgraded > 0);
        if !matches!(failure, Failure::Interrupted) && !report.has_figures() && !has_connected {
            return Err(failure);
        }
        report.end_early(failure);
    }
    let is_whole = !report.interrupted && report.failure.is_none();
    for (index, arm) in stage.arms.iter().enumerate() {
        let mut stats = stage.crew.stats(index);
        stats.owed = if is_whole && arm.target.publishes { stats.behind(arm.target.feed.head()) } else { 0 };
        report.stats.push((arm.target.name.clone(), stats));
    }
    report.timeline = stage.monitor.finish();
    Ok(Some(report))
}

/// Cores that this tool may use for itself.
fn generator_cores(common: &Common) -> usize {
    match common.client_cores.iter().collect::<BTreeSet<_>>().len() {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        pinned => pinned,
    }
}

/// Opens what `--connections` and `--stalled-share` ask for, to each server.
fn open_all(stage: &mut Stage, common: &Common) -> Result<(), Failure> {
    let stalled = stalled_count(common);
    for index in 0..stage.arms.len() {
        stage.say(&format!(
            "{}: connecting {} subscribers",
            stage.arms[index].target.name, common.connections
        ));
        stage.crew.open(index, common.connections, false, &stage.watch)?;
        if stalled > 0 {
            stage.crew.open(index, stalled, true, &stage.watch)?;
        }
    }
    Ok(())
}
