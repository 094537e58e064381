//! `slow`: what reading subscribers notice of those that read slowly or never. Two series a server: the same
//! subscribers without and with a share of slow connections beside them.

use std::time::{Duration, Instant};

use super::rounds::Length;
use super::{fanout, load, rounds};
use crate::cli::SlowOptions;
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::round::{Round, median, ratios};
use crate::stage::{Stage, stalled_count};

/// Size of a message that fills the buffers of stalled connections.
const PREFILL_SIZE: usize = 16 * 1024;
/// Shares of stalled connections that come one after the other in a second, at most. Not five: the kernel probes a closed
/// window 200 ms after it closed, and again each time twice as long after, and those of all shares would meet.
const SHARES_A_SECOND: u128 = 7;
/// Share of stalled connections if `--stalled-share` is not given.
const STALLED_SHARE_DEFAULT: f64 = 0.1;

/// Runs it. `--connections` counts both kinds.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &SlowOptions) -> Result<(), Failure> {
    let mut common = options.common.clone();
    if common.stalled_share == 0.0 {
        common.stalled_share = STALLED_SHARE_DEFAULT;
    }
    if options.rate.is_some_and(|rate| !(0.001..=100_000.0).contains(&rate)) {
        return Err(Failure::Usage("--rate must be between 0.001 and 100000 messages a second".into()));
    }
    let stalled = stalled_count(&common);
    let reading = common.connections.saturating_sub(stalled);
    if reading == 0 || stalled == 0 {
        let nobody = if reading == 0 { "read" } else { "be slow" };
        let cure = "give more --connections or another --stalled-share";
        return Err(Failure::Usage(format!("nobody would {nobody}: {cure}")));
    }
    let (window, size, length) = (usize::from(options.window), options.size, options.rounds.round_seconds);
    let pace = match common.read_rate {
        0 => "never read".to_owned(),
        rate => format!("read {rate} bytes a second"),
    };
    let coming = match options.stall_over {
        Duration::ZERO => String::new(),
        over => format!(", coming over {} s", over.as_secs_f64()),
    };
    let title = format!(
        "{reading} reading subscribers, with and without {stalled} that {pace}{coming}, {size} bytes"
    );
    report.describe("slow", "delivery", title);
    let before = memory_of_all(stage);
    for index in 0..stage.arms.len() {
        stage.crew.open(index, reading, false, &stage.watch)?;
        fanout::warm_up_one(stage, index, window, size)?;
        report.add_memory_of(stage, index, &before, reading, "without stalled");
    }
    let mut backlog_rss: Vec<Option<f64>> = vec![None; stage.arms.len()];
    // At the end of each round with the slow ones there.
    let mut full_rss: Vec<Vec<f64>> = vec![Vec::new(); stage.arms.len()];
    let mut left = vec![stalled as u64; stage.arms.len()];
    let names = series_names(stage);
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds.rounds), |stage, series| {
        let (index, with_stalled) = (series / 2, series % 2 == 0);
        let (mut rss_before, mut missing) = (None, 0);
        if with_stalled {
            (rss_before, missing) = let_stall(stage, index, stalled, options)?;
        }
        let round = match options.rate {
            Some(rate) => load::open_loop(stage, index, rate, window, size, length),
            None => load::closed_loop(stage, index, window, size, length),
        };
        if with_stalled {
            let rss_now = rss_of(stage, index);
            full_rss[index].extend(rss_now);
            left[index] = left[index].min(stage.crew.stats(index).stalled);
            let growth = rss_now.zip(rss_before).map(|(now, before)| now - before);
            backlog_rss[index] = growth.into_iter().chain(backlog_rss[index]).max_by(f64::total_cmp);
            load::unless_interrupted(stage.crew.close(index, true, &stage.watch))?;
        }
        let round = round?;
        Ok(Round { missing: round.missing + missing, ..round })
    })?;
    for (index, backlog_rss) in backlog_rss.into_iter().enumerate() {
        let name = stage.arms[index].target.name.clone();
        let [with, without] = [&report.series[2 * index], &report.series[2 * index + 1]];
        let cpu = median(ratios(with, without, Round::cpu_per_unit));
        let p99 = median(ratios(with, without, Round::p99));
        report.add_fact(
            &format!("{name}_slow_cpu_ratio"),
            cpu,
            "CPU per delivery with the slow / without, median",
        );
        report.add_fact(
            &format!("{name}_slow_p99_ratio"),
            p99,
            "p99 with the slow / without, median of rounds",
        );
        report.add_fact(
            &format!("{name}_backlog_rss_bytes"),
            backlog_rss,
            if shares(stalled, options.stall_over).len() == 1 {
                "bytes RSS growth while the stalled fell behind, at most"
            } else {
                "bytes RSS growth while the stalled came and fell behind, at most"
            },
        );
        report.add_fact(
            &format!("{name}_backlog_per_connection"),
            backlog_rss.map(|bytes| bytes / stalled as f64),
            "bytes of that for each of the stalled",
        );
        let growth = match full_rss[index].as_slice() {
            [first, .., last] => Some(last - first),
            _ => None,
        };
        report.add_fact(
            &format!("{name}_rounds_growth_bytes"),
            growth,
            "bytes RSS with the slow, last round less first",
        );
        report.add_fact(
            &format!("{name}_stalled_left"),
            left[index] as f64,
            "slow ones that had not been told of an end at the end of a round, at least",
        );
        tell_held(stage, report, index);
        report.add_memory_of(stage, index, &before, reading, "after stalled");
    }
    Ok(())
}

/// Opens the stalled connections and publishes until their buffers are full. Gives the memory from before they fell
/// behind, or where they come in shares from before they came, and the deliveries that others missed.
fn let_stall(
    stage: &mut Stage,
    index: usize,
    stalled: usize,
    options: &SlowOptions,
) -> Result<(Option<f64>, u64), Failure> {
    let begin = Instant::now();
    let shares = shares(stalled, options.stall_over);
    let mut rss_before = rss_of(stage, index);
    let mut missing = 0;
    for (share, due) in shares.iter().zip(0..) {
        stage.watch.until_moment(begin + options.stall_over * due / shares.len() as u32)?;
        stage.crew.open(index, *share, true, &stage.watch)?;
        if shares.len() == 1 {
            rss_before = rss_of(stage, index);
        }
        for _ in 0..options.prefill.div_ceil(PREFILL_SIZE / 1024) {
            missing += load::warm_up(stage, index, 1, PREFILL_SIZE)?;
            if missing > 0 && !stage.allows_loss {
                return Ok((rss_before, missing));
            }
        }
    }
    Ok((rss_before, missing))
}

/// How many of `stalled` come at a time, if they come over so long.
fn shares(stalled: usize, over: Duration) -> Vec<usize> {
    let count = usize::try_from(over.as_millis() * SHARES_A_SECOND / 1000).unwrap_or(usize::MAX);
    let count = count.clamp(1, stalled.max(1));
    (0..count).map(|share| stalled / count + usize::from(share < stalled % count)).collect()
}

/// Says what the slow ones of a feed with keys held.
fn tell_held(stage: &Stage, report: &mut Report, index: usize) {
    let (name, stats) = (&stage.arms[index].target.name, stage.crew.stats(index));
    if stats.held == 0 {
        return;
    }
    let age_s = stats.held_age_ns_max as f64 / 1e9;
    report.add_fact(
        &format!("{name}_held_messages"),
        stats.held as f64,
        "messages that the slow received, in order",
    );
    report.add_fact(
        &format!("{name}_held_age_seconds"),
        age_s,
        "s of age at most, of the newest value of a key that a slow one held",
    );
    report.add_fact(&format!("{name}_given_up"), stats.given_up as f64, "slow ones that the server ended");
}

/// Two for each server; one server alone needs no name.
fn series_names(stage: &Stage) -> Vec<String> {
    let names = rounds::server_names(stage);
    let prefix = |name: &str| if names.len() == 1 { String::new() } else { format!("{name} ") };
    let both = |name: &String| ["with stalled", "without"].map(|kind| format!("{}{kind}", prefix(name)));
    names.iter().flat_map(both).collect()
}

fn rss_of(stage: &Stage, index: usize) -> Option<f64> {
    stage.arms[index].processes.memory().map(|memory| memory.rss as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stalled_come_at_once_or_in_equal_shares() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(shares(10, Duration::ZERO), [10]);
        assert_eq!(shares(10, seconds(0.1)), [10]);
        assert_eq!(shares(10, seconds(0.6)), [3, 3, 2, 2]);
        assert_eq!(shares(7000, seconds(10.0)), [100; 70]);
        assert_eq!(shares(3, seconds(60.0)), [1, 1, 1]);
    }
}
