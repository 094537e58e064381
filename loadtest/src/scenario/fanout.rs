//! `fanout`: what one delivery costs the server, in a closed loop.

use super::rounds::Length;
use super::{load, open_all, rounds};
use crate::cli::FanoutOptions;
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::stage::Stage;

/// Batches before the first round: caches fill, and the kind of frame is learned.
const WARM_UP_BATCHES: usize = 3;

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &FanoutOptions) -> Result<(), Failure> {
    let (common, window, size) = (&options.common, usize::from(options.window), options.size);
    let title = format!("{} subscribers, window {window}, {size} bytes", common.connections);
    report.describe("fanout", "delivery", title);
    let before = memory_of_all(stage);
    open_all(stage, common)?;
    warm_up(stage, window, size)?;
    let names = rounds::server_names(stage);
    let length = options.rounds.round_seconds;
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds.rounds), |stage, index| {
        load::closed_loop(stage, index, window, size, length)
    })?;
    report.add_memory(stage, &before, common.connections);
    Ok(())
}

/// A few messages to every server, not measured.
pub fn warm_up(stage: &mut Stage, window: usize, size: usize) -> Result<(), Failure> {
    (0..stage.arms.len()).try_for_each(|index| warm_up_one(stage, index, window, size))
}

/// A few messages to one server. If they do not arrive, the run would make no sense.
pub fn warm_up_one(stage: &mut Stage, index: usize, window: usize, size: usize) -> Result<(), Failure> {
    if !stage.arms[index].target.publishes {
        return Ok(());
    }
    for _ in 0..WARM_UP_BATCHES {
        let missing = load::publish_and_wait(stage, index, window, size)?;
        if missing > 0 && !stage.allows_loss {
            let (name, stats) = (&stage.arms[index].target.name, stage.crew.stats(index));
            let hint =
                stats.failure.unwrap_or_else(|| "do --channel and --url mean the same channel?".into());
            let what = format!(
                "{name}: {missing} of the first deliveries to {} subscribers did not come",
                stats.live
            );
            return Err(Failure::Check(format!("{what}: {hint}")));
        }
    }
    Ok(())
}
