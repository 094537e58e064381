//! The scenarios: each a function from its options to a report. `rounds` alternates between servers,
//! `load` publishes; both know nothing of the others.

mod churn;
mod connect;
mod fanout;
mod hold;
mod latency;
mod load;
mod rounds;
mod slow;
mod soak;
mod storm;

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
    match scenario {
        Scenario::Connect(options) => on_stage(&options.common, false, |stage| connect::run(stage, options)),
        Scenario::Idle(options) => on_stage(&options.common, false, |stage| hold::run_idle(stage, options)),
        Scenario::Fanout(options) => {
            load::check_batch(usize::from(options.window), options.size)?;
            on_stage(&options.common, true, |stage| fanout::run(stage, options))
        }
        Scenario::Latency(options) => on_stage(&options.common, true, |stage| latency::run(stage, options)),
        Scenario::Slow(options) => {
            load::check_batch(usize::from(options.window), options.size)?;
            on_stage(&options.common, true, |stage| slow::run(stage, options))
        }
        Scenario::Hold(options) => on_stage(&options.common, true, |stage| hold::run(stage, options)),
        Scenario::Churn(options) => on_stage(&options.common, true, |stage| churn::run(stage, options)),
        Scenario::Storm(options) => on_stage(&options.common, true, |stage| storm::run(stage, options)),
        Scenario::Soak(options) => on_stage(&soak::common(options), true, |stage| soak::run(stage, options)),
        Scenario::BareServer(options) => {
            bare::serve(options).map_err(|error| Failure::Unavailable(format!("bare server: {error}")))?;
            Ok(None)
        }
    }
}

fn on_stage(
    common: &Common,
    publishes: bool,
    scenario: impl FnOnce(&mut Stage) -> Result<Report, Failure>,
) -> Result<Option<Report>, Failure> {
    let mut stage = Stage::raise(common, publishes)?;
    let mut report = scenario(&mut stage).map_err(|failure| stage.explain(failure))?;
    for (index, arm) in stage.arms.iter().enumerate() {
        report.stats.push((arm.target.name.clone(), stage.crew.stats(index)));
    }
    report.timeline = stage.monitor.finish();
    Ok(Some(report))
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
