//! Alternating rounds. A shared machine drifts by more than servers differ, so each round of one server
//! stands beside a round of the other, and the figure is the median of their ratios. The order is
//! A B A B, not A B B A: a server that has just run is warmer, so each must follow the other.

use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, Series};
use crate::stage::Stage;

/// Plays `count` rounds of each series; `one` plays one round of the series with that index. Ctrl-C, or a fault that fails the run, ends it with what was seen.
///
/// # Errors
/// What `one` returns, but for `Interrupted`.
pub fn alternate(
    stage: &mut Stage,
    report: &mut Report,
    names: &[String],
    count: usize,
    mut one: impl FnMut(&mut Stage, usize) -> Result<Round, Failure>,
) -> Result<(), Failure> {
    report.series = names.iter().map(|name| Series { name: name.clone(), rounds: Vec::new() }).collect();
    // Whoever of a server's processes came up last is there by now.
    stage.arms.iter().for_each(|arm| arm.processes.find());
    for number in 0..count {
        for (index, name) in names.iter().enumerate() {
            match one(stage, index) {
                Ok(round) => {
                    let (cpu, p99) = (round.cpu_per_unit() / 1e3, round.p99() / 1e6);
                    let rate = round.units as f64 / round.wall_s;
                    stage.say(&format!(
                        "round {} {name:>8}: {cpu:8.3} us CPU, p99 {p99:8.2} ms, {rate:10.0}/s, late ACKs {:.0} %",
                        number + 1,
                        round.acks_by_timer_share() * 100.0
                    ));
                    let is_broken = round.missing > 0;
                    report.series[index].rounds.push(round);
                    if is_broken {
                        return Ok(());
                    }
                }
                Err(Failure::Interrupted) => {
                    report.interrupted = true;
                    return Ok(());
                }
                Err(failure) => return Err(failure),
            }
        }
    }
    Ok(())
}

/// The names of all servers.
pub fn server_names(stage: &Stage) -> Vec<String> {
    stage.arms.iter().map(|arm| arm.target.name.clone()).collect()
}
