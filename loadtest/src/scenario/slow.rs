//! `slow`: what reading subscribers notice of those that never read. One server, two series: the same
//! subscribers without and with a share of stalled connections beside them.

use super::{fanout, load, rounds};
use crate::cli::SlowOptions;
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::server::accounts::Memory;
use crate::stage::{Stage, stalled_count};

/// Size of a message that fills the buffers of stalled connections.
const PREFILL_SIZE: usize = 16 * 1024;
/// Share of stalled connections if `--stalled-share` is not given.
const STALLED_SHARE_DEFAULT: f64 = 0.1;

/// Runs it: always against the first server. `--connections` counts both kinds.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, options: &SlowOptions) -> Result<Report, Failure> {
    let mut common = options.common.clone();
    if common.stalled_share == 0.0 {
        common.stalled_share = STALLED_SHARE_DEFAULT;
    }
    let stalled = stalled_count(&common);
    let reading = common.connections - stalled;
    let (window, size, length) = (usize::from(options.window), options.size, options.rounds.round_seconds);
    let mut report = Report::new("slow", "delivery");
    report.title =
        format!("{reading} reading subscribers, with and without {stalled} that never read, {size} bytes");
    let before = memory_of_all(stage);
    stage.crew.open(0, reading, false, &stage.watch)?;
    fanout::warm_up_one(stage, 0, window, size)?;
    report.add_memory_of(stage, 0, &before, reading, "without stalled");
    let mut backlog_rss: f64 = 0.0;
    let names = ["with stalled".to_owned(), "without".to_owned()];
    rounds::alternate(stage, &mut report, &names, options.rounds.rounds, |stage, index| {
        let mut rss_before = 0.0;
        if index == 0 {
            stage.crew.open(0, stalled, true, &stage.watch)?;
            rss_before = rss_of_first(stage);
            for _ in 0..options.prefill.div_ceil(PREFILL_SIZE / 1024) {
                load::publish_and_wait(stage, 0, 1, PREFILL_SIZE)?;
            }
        }
        let round = match options.rate {
            Some(rate) => load::open_loop(stage, 0, rate, size, length),
            None => load::closed_loop(stage, 0, window, size, length),
        };
        if index == 0 {
            backlog_rss = backlog_rss.max(rss_of_first(stage) - rss_before);
            stage.crew.close(0, true, &stage.watch)?;
        }
        round
    })?;
    report.add_fact(
        "server_backlog_rss_bytes",
        backlog_rss,
        "bytes RSS growth while the stalled fell behind, at most",
    );
    report.add_memory_of(stage, 0, &before, reading, "after stalled");
    Ok(report)
}

fn rss_of_first(stage: &Stage) -> f64 {
    stage.arms[0].pid.and_then(|pid| Memory::of(pid).ok()).map_or(0.0, |memory| memory.rss as f64)
}
