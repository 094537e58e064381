//! `churn`: subscribers leave and join all the time; what those who stay notice, and what it costs.

use std::time::{Duration, Instant};

use super::load::Published;
use super::rounds::Length;
use super::{fanout, load, open_all, rounds};
use crate::cli::ChurnOptions;
use crate::crew::Manner;
use crate::failure::Failure;
use crate::report::{Report, memory_of_all};
use crate::round::{Round, Stopwatch};
use crate::stage::Stage;
use crate::stats::{Stats, latencies};
use crate::sys;

/// Time between two looks at who is due to leave and join.
const TICK: Duration = Duration::from_millis(10);

/// What goes on during a round.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Subscribers that leave a second, and others that join.
    pub per_second: f64,
    /// Messages a second.
    pub rate: f64,
    /// Bytes of a message.
    pub size: usize,
}

/// Runs it.
///
/// # Errors
/// Why it could not be completed.
pub fn run(stage: &mut Stage, report: &mut Report, options: &ChurnOptions) -> Result<(), Failure> {
    let churn = Churn { per_second: options.churn, rate: options.rate, size: options.size };
    churn.check()?;
    let title = format!(
        "{} subscribers, {} leave and join a second, {}/s, {} bytes",
        options.common.connections, churn.per_second, churn.rate, churn.size
    );
    report.describe("churn", "delivery", title);
    let before = memory_of_all(stage);
    open_all(stage, &options.common)?;
    fanout::warm_up(stage, 1, churn.size)?;
    let names = rounds::server_names(stage);
    let length = options.rounds.round_seconds;
    rounds::alternate(stage, report, &names, Length::Rounds(options.rounds.rounds), |stage, index| {
        round(stage, index, churn, length)
    })?;
    add_handshakes(report);
    report.add_memory(stage, &before, options.common.connections);
    Ok(())
}

impl Churn {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// `Usage` with the range.
    pub fn check(self) -> Result<(), Failure> {
        if !(0.001..=100_000.0).contains(&self.rate) || !(0.0..=100_000.0).contains(&self.per_second) {
            let text = "--rate must be between 0.001 and 100000 messages, --churn between 0 and 100000 subscribers a second";
            return Err(Failure::Usage(text.into()));
        }
        Ok(())
    }
}

/// A round of the open loop, in which subscribers come and go.
///
/// # Errors
/// If publishing fails or the run is over.
pub fn round(stage: &mut Stage, index: usize, churn: Churn, length: Duration) -> Result<Round, Failure> {
    let mut published = Published::after(load::warm_up(stage, index, 1, churn.size)?);
    let before = stage.crew.stats(index);
    let stopwatch = Stopwatch::start(stage, index)?;
    let played = play(stage, index, churn, length, &mut published, &before);
    load::unless_interrupted(played)?;
    published.stop(stage, stopwatch)
}

fn play(
    stage: &mut Stage,
    index: usize,
    churn: Churn,
    length: Duration,
    published: &mut Published,
    before: &Stats,
) -> Result<(), Failure> {
    let (start, start_ns) = (Instant::now(), sys::monotonic_ns());
    let publishes = stage.arms[index].target.publishes;
    let (mut messages, mut changed) = (0_u32, 0_usize);
    let mut tick = Duration::ZERO;
    while tick < length {
        let live = usize::try_from(stage.crew.stats(index).live).unwrap_or(usize::MAX);
        // Who has not joined yet cannot leave.
        let due = ((tick.as_secs_f64() * churn.per_second) as usize - changed).min(live);
        if due > 0 {
            stage.crew.begin_to_close(index, due);
            stage.crew.begin_to_open(index, due, Manner { midway: true, ..Manner::default() });
            changed += due;
        }
        let message_due = Duration::from_secs_f64(f64::from(messages) / churn.rate);
        if publishes && message_due <= tick {
            let due_ns = start_ns + message_due.as_nanos() as u64;
            published.publish(stage, index, 1, churn.size, due_ns)?;
            messages += 1;
            continue;
        }
        tick = if publishes { message_due.min(tick + TICK) } else { tick + TICK };
        stage.watch.until_moment(start + tick)?;
    }
    // Who was refused is told by its cause.
    stage.crew.wait_opened(index, changed, before, &stage.watch)?;
    if publishes {
        // One more for all: whoever joined last has then received something too.
        published.publish(stage, index, 1, churn.size, sys::monotonic_ns())?;
        published.wait(stage, index)?;
    }
    Ok(())
}

/// Adds how long it took to join.
pub fn add_handshakes(report: &mut Report) {
    let mut facts = Vec::new();
    for series in &report.series {
        let mut all = latencies();
        series.rounds.iter().for_each(|round| all.add(&round.handshake).unwrap_or_default());
        if !all.is_empty() {
            let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
            facts.push((
                format!("{}_handshake_p50_ms", series.name),
                ms(0.5),
                "ms to connect and upgrade, median",
            ));
            facts.push((
                format!("{}_handshake_p99_ms", series.name),
                ms(0.99),
                "ms to connect and upgrade, p99",
            ));
        }
    }
    facts.iter().for_each(|(key, value, meaning)| report.add_fact(key, *value, meaning));
}
