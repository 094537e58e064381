//! `snapshot`: what a join costs a server that gives the newest value of every key first, until the subscriber has them all.
//!
//! Keys take turns, so that the newest of all are the messages published last, in their order: whoever joins must receive
//! exactly these, and then what is published next.

use std::sync::Arc;

use super::load::{self, unless_interrupted};
use super::rounds::{self, Length};
use super::{connect, resume};
use crate::cli::SnapshotOptions;
use crate::crew::Manner;
use crate::failure::Failure;
use crate::payload::KeyOrder;
use crate::report::Report;
use crate::round::{Round, Stopwatch};
use crate::stage::Stage;
use crate::worker::Begin;

/// How often every key gets a value before anybody joins: all but the newest must not come.
const VALUES: usize = 2;

/// Refuses what cannot be verified.
///
/// # Errors
/// `Usage` with the cure.
pub fn check(options: &SnapshotOptions) -> Result<(), Failure> {
    let common = &options.common;
    let takes_turns = common.key_order == KeyOrder::Turns && common.versus_keys != Some(0);
    if common.keys == 0 || !takes_turns || options.at_once == 0 {
        return Err(Failure::Usage("give --keys that take turns, and --at-once 1 or more".into()));
    }
    Ok(())
}

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &SnapshotOptions) -> Result<(), Failure> {
    let (common, size) = (&options.common, options.size);
    let keys = common.keys;
    let title = format!("{} join a channel of {keys} keys, {size} bytes", common.connections);
    report.describe("snapshot", "join", title);
    for index in 0..stage.arms.len() {
        let keys = stage.arms[index].target.feed.keys.count as usize;
        resume::publish_unheard(stage, index, VALUES * keys, size)?;
    }
    let names = rounds::server_names(stage);
    let counted = resume::counters(stage, &options.counter)?;
    let mut grown = counted.iter().map(|values| vec![0.0; values.len()]).collect::<Vec<_>>();
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds), |stage, index| {
        let before = resume::counters(stage, &options.counter)?;
        let round = join_all(stage, index, options)?;
        let after = resume::counters(stage, &options.counter)?;
        resume::add_growth(&mut grown[index], &before[index], &after[index]);
        unless_interrupted(leave(stage, index, size))?;
        Ok(round)
    })?;
    resume::tell_counters(report, &names, &options.counter, &grown);
    Ok(())
}

fn join_all(stage: &mut Stage, index: usize, options: &SnapshotOptions) -> Result<Round, Failure> {
    let count = options.common.connections;
    connect::await_rest(stage, index)?;
    let feed = &stage.arms[index].target.feed;
    let sequence = feed.head() - u64::from(feed.keys.count);
    let begin = Some(Arc::new(Begin { query: "snapshot=1".into(), sequence }));
    let before = stage.crew.stats(index);
    let stopwatch = Stopwatch::start(stage, index)?;
    let at_once = Some(options.at_once);
    stage.crew.begin_to_open(index, count, Manner { begin, at_once, ..Manner::default() });
    let failed = stage.crew.wait_opened(index, count, &before, &stage.watch)?;
    let missing = load::wait_for_all(stage, index)?;
    let stats = stage.crew.stats(index);
    if failed == count as u64 {
        let cause = stats.failure.unwrap_or_else(|| "unknown cause".to_owned());
        return Err(Failure::Unavailable(format!("none of {count} joined; {cause}")));
    }
    let units = stats.upgraded - before.upgraded;
    let round = stopwatch.stop(stage, missing + failed)?;
    Ok(Round { units, latency: round.handshake.clone(), ..round })
}

/// One more message to all, which begins where the snapshot ended; then everybody goes.
fn leave(stage: &mut Stage, index: usize, size: usize) -> Result<(), Failure> {
    let missing = load::publish_and_wait(stage, index, 1, size)?;
    if missing > 0 && !stage.allows_loss {
        return Err(Failure::Check(format!("{missing} did not get what was published after their snapshot")));
    }
    stage.crew.close(index, false, &stage.watch)
}
