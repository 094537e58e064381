//! Alternating rounds. A shared machine drifts by more than servers differ, so each round of one server
//! stands beside a round of the other, and the figure is the median of their ratios. The order is
//! A B A B, not A B B A: a server that has just run is warmer, so each must follow the other.

use std::time::Instant;

use crate::failure::Failure;
use crate::report::Report;
use crate::round::{Round, Series};
use crate::stage::Stage;

/// Rounds that are kept apart where a run goes on for a time; of more, neighbours become one, so that hours need no
/// more memory. Only rounds of deliveries: where a round is one event, such as a storm, two are not a longer one.
const ROUNDS_MAX: usize = 128;

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// So many rounds of each series.
    Rounds(usize),
    /// Until this moment; a round that has begun is played to its end, and by all series.
    Until(Instant),
}

impl Length {
    fn is_reached(self, played: usize) -> bool {
        match self {
            Self::Rounds(count) => played >= count,
            Self::Until(moment) => Instant::now() >= moment,
        }
    }
}

/// Plays rounds of each series in turn; `one` plays one round of the series with that index. Ctrl-C, a
/// failure, or a fault that fails the run ends it with what was seen.
///
/// # Errors
/// What `one` returns while there is nothing to tell yet.
pub fn alternate(
    stage: &mut Stage,
    report: &mut Report,
    names: &[String],
    length: Length,
    mut one: impl FnMut(&mut Stage, usize) -> Result<Round, Failure>,
) -> Result<(), Failure> {
    report.series = names.iter().map(|name| Series { name: name.clone(), rounds: Vec::new() }).collect();
    // Whoever of a server's processes came up last is there by now.
    stage.arms.iter().for_each(|arm| arm.processes.find());
    let mut played = 0;
    while !length.is_reached(played) {
        for (index, name) in names.iter().enumerate() {
            let ended = match one(stage, index) {
                Ok(round) => {
                    say(stage, played, name, &round);
                    let is_broken = round.missing > 0 && !stage.allows_loss;
                    report.series[index].rounds.push(round);
                    if is_broken {
                        return Ok(());
                    }
                    stage.watch.check()
                }
                Err(failure) => Err(failure),
            };
            match ended {
                Err(failure) if report.has_figures() => {
                    report.end_early(stage.explain(failure));
                    return Ok(());
                }
                other => other?,
            }
        }
        played += 1;
        if matches!(length, Length::Until(_)) {
            fold(&mut report.series);
        }
    }
    Ok(())
}

fn say(stage: &Stage, played: usize, name: &str, round: &Round) {
    let known = |value: Option<f64>, places: usize| {
        value.map_or_else(|| "?".to_owned(), |value| format!("{value:.places$}"))
    };
    let cpu = known(round.cpu_per_unit().map(|ns| ns / 1e3), 3);
    let p99 = known(round.p99().map(|ns| ns / 1e6), 2);
    stage.say(&format!(
        "round {} {name:>8}: {cpu:>8} us CPU, p99 {p99:>8} ms, {:10.0}/s, late ACKs {:.0} %",
        played + 1,
        round.rate(),
        round.acks_by_timer_share() * 100.0
    ));
}

/// Joins neighbouring rounds once there are too many, in all series alike: those that ran side by side
/// still stand side by side.
fn fold(series: &mut [Series]) {
    if series.iter().all(|series| series.rounds.len() < ROUNDS_MAX) {
        return;
    }
    for series in series {
        let rounds = std::mem::take(&mut series.rounds);
        for (place, round) in rounds.into_iter().enumerate() {
            match series.rounds.last_mut() {
                Some(first) if place % 2 == 1 => first.add(&round),
                _ => series.rounds.push(round),
            }
        }
    }
}

/// The names of all servers.
pub fn server_names(stage: &Stage) -> Vec<String> {
    stage.arms.iter().map(|arm| arm.target.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rounds_become_fewer_and_nothing_of_them_is_lost() {
        let round = |number| Round { units: 1, wall_s: 0.5, ..Round::empty(number) };
        let rounds: Vec<_> = (0..ROUNDS_MAX as u64).map(round).collect();
        let mut series = [Series { name: "server".into(), rounds: rounds.clone() }];
        fold(&mut series);
        let folded = &series[0].rounds;
        assert_eq!(folded.len(), ROUNDS_MAX / 2);
        assert_eq!(folded.iter().map(|round| round.units).sum::<u64>(), ROUNDS_MAX as u64);
        assert_eq!((folded[1].started_ns, folded[1].wall_s), (2, 1.0));

        let mut few = [Series { name: "server".into(), rounds: rounds[1..].to_vec() }];
        fold(&mut few);
        assert_eq!(few[0].rounds.len(), ROUNDS_MAX - 1);
    }
}
