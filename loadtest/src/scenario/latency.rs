//! `latency`: how long after it was due a message reaches each subscriber, in an open loop.

use super::rounds::Length;
use super::{fanout, load, open_all, rounds};
use crate::cli::LatencyOptions;
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::stage::Stage;

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &LatencyOptions) -> Result<(), Failure> {
    let (common, rate, size) = (&options.common, options.rate, options.size);
    if !(0.001..=100_000.0).contains(&rate) {
        return Err(Failure::Usage("--rate must be between 0.001 and 100000 messages a second".into()));
    }
    let title = format!("{} subscribers, {rate}/s, {size} bytes", common.connections);
    report.describe("latency", "delivery", title);
    let before = memory_of_all(stage);
    open_all(stage, common)?;
    fanout::warm_up(stage, 1, size)?;
    let names = rounds::server_names(stage);
    let length = options.rounds.round_seconds;
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds.rounds), |stage, index| {
        load::open_loop(stage, index, rate, 1, size, length)
    })?;
    report.add_memory(stage, &before, common.connections);
    Ok(())
}
