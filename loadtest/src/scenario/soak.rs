//! `soak`: everything at once for hours. Subscribers come and go, some read slowly, every round ends with a
//! storm of a tenth of them; what matters is whether the server's memory and descriptors come back.

use std::time::{Duration, Instant};

use super::rounds::Length;
use super::{churn, fanout, open_all, rounds, storm};
use crate::cli::{Common, SoakOptions};
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::stage::Stage;

/// Share of slow readers if none is given, and what they read.
const SLOW_SHARE_DEFAULT: f64 = 0.02;
const SLOW_RATE_DEFAULT: u64 = 4096;
/// Share of the rounds at the beginning in which a server may still grow.
const WARM_UP_SHARE: f64 = 0.2;
/// What is to be added to the length of the run for connecting and ending.
const GRACE: Duration = Duration::from_secs(300);

/// The common options, with what a soak has by itself.
pub fn common(options: &SoakOptions) -> Common {
    let mut common = options.common.clone();
    let servers = 1 + usize::from(!common.versus_url.is_empty()) + common.limit.len();
    // Everybody plays the last round to its end, with its storm.
    let last_round = (options.round_seconds + storm::RECOVERY_MAX) * servers as u32;
    common.timeout = common.timeout.max(options.length + last_round + GRACE);
    if common.stalled_share == 0.0 {
        common.stalled_share = SLOW_SHARE_DEFAULT;
    }
    if common.read_rate == 0 {
        common.read_rate = SLOW_RATE_DEFAULT;
    }
    common
}

/// Runs it, against every server in turn.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &SoakOptions) -> Result<(), Failure> {
    let load = churn::Churn { per_second: options.churn, rate: options.rate, size: options.size };
    load.check()?;
    let common = common(options);
    let title = format!(
        "{} subscribers and {:.0} % slow ones for {} s, {} leave and join a second, {}/s",
        common.connections,
        common.stalled_share * 100.0,
        options.length.as_secs(),
        load.per_second,
        load.rate
    );
    report.describe("soak", "delivery", title);
    let before = memory_of_all(stage);
    open_all(stage, &common)?;
    fanout::warm_up(stage, 1, load.size)?;
    let names = rounds::server_names(stage);
    let start = Instant::now();
    let length = Length::Until(start + options.length);
    let mut looks: Vec<Vec<(f64, f64)>> = vec![Vec::new(); names.len()];
    rounds::alternate(stage, report, &names, length, |stage, index| {
        let mut round = churn::round(stage, index, load, options.round_seconds)?;
        let tenth = common.connections.div_ceil(10);
        match storm::storm(stage, index, tenth, None, load.rate, load.size) {
            Ok(storm) => round.missing += storm.missing,
            Err(Failure::Interrupted) => {}
            Err(failure) => return Err(failure),
        }
        if let Some(memory) = stage.arms[index].processes.memory() {
            looks[index].push((start.elapsed().as_secs_f64(), memory.rss as f64));
        }
        Ok(round)
    })?;
    for (name, looks) in names.iter().zip(&looks) {
        let settled = &looks[(looks.len() as f64 * WARM_UP_SHARE) as usize..];
        report.add_fact(
            &format!("{name}_rss_slope"),
            slope(settled).map(|per_second| per_second * 3600.0),
            "bytes RSS an hour, after the first fifth of the run",
        );
    }
    churn::add_handshakes(report);
    report.add_memory(stage, &before, common.connections);
    Ok(())
}

/// Slope of the line through points that has the least squares; `None` of fewer than two.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (mean_x / count, mean_y / count);
    let above: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (below > 0.0).then(|| above / below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line() {
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), Some(2.0));
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 5.0)]), Some(0.0));
        assert_eq!((slope(&[]), slope(&[(1.0, 1.0)])), (None, None));
    }
}
