//! The two ways to publish: a closed loop as fast as subscribers receive, and an open loop by the clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::feed::{Batch, RETAINED_BATCHES_MAX, Seen};
use crate::round::{Round, Stopwatch};
use crate::stage::Stage;
use crate::stats::{lags, latencies};
use crate::sys;

/// Bytes that may be published together: the tool keeps a few copies of them, a server one for each slow reader.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Refuses more messages together than fit into memory.
///
/// # Errors
/// `Usage` with the bound.
pub fn check_batch(window: usize, size: usize) -> Result<(), Failure> {
    let bytes = window.saturating_mul(size);
    if bytes > BATCH_BYTES_MAX {
        let (asked, most) = (bytes.div_ceil(1024 * 1024), BATCH_BYTES_MAX / (1024 * 1024));
        return Err(Failure::Usage(format!(
            "{window} messages of {size} bytes are {asked} MiB at once: --window times --size may be {most} MiB"
        )));
    }
    Ok(())
}

/// Publishes `count` messages together and waits until all subscribers have them. Returns how many
/// deliveries did not come.
///
/// # Errors
/// If publishing fails or the run is over.
pub fn publish_and_wait(stage: &mut Stage, index: usize, count: usize, size: usize) -> Result<u64, Failure> {
    publish(stage, index, count, size, sys::monotonic_ns())?;
    wait_for_all(stage, index)
}

/// Waits until all subscribers have everything that was published. Returns how many deliveries did not come, those
/// aside that an earlier wait has told.
///
/// # Errors
/// If the run is over.
pub fn wait_for_all(stage: &mut Stage, index: usize) -> Result<u64, Failure> {
    let missing = stage.crew.wait_delivered(index, stage.arms[index].target.feed.head(), &stage.watch)?;
    Ok(missing.saturating_sub(std::mem::replace(&mut stage.overdue[index], missing)))
}

/// Publishes `count` messages together, as due at a moment of `CLOCK_MONOTONIC`.
///
/// # Errors
/// If publishing fails.
pub fn publish(
    stage: &mut Stage,
    index: usize,
    count: usize,
    size: usize,
    due_ns: u64,
) -> Result<Arc<Batch>, Failure> {
    let arm = &mut stage.arms[index];
    let batch = arm.target.feed.append(count, size, due_ns);
    arm.publisher.publish(&batch)?;
    Ok(batch)
}

/// What became of the batches of a round.
#[derive(Debug)]
pub struct Published {
    /// From the first subscriber that had a batch to the last, nanoseconds.
    spread: Histogram<u64>,
    /// From when a batch was due to when it began to be published, nanoseconds.
    late: Histogram<u64>,
    /// Batches whose spread is still to be read, as many as the feed keeps.
    open: VecDeque<Arc<Seen>>,
    /// Deliveries that did not come in time.
    missing: u64,
}

impl Published {
    /// Nothing yet but what a warm-up has found missing.
    pub fn after(missing: u64) -> Self {
        Self { spread: latencies(), late: lags(), open: VecDeque::new(), missing }
    }

    /// Publishes a message that is due at a moment, and remembers it.
    ///
    /// # Errors
    /// If publishing fails.
    pub fn publish(
        &mut self,
        stage: &mut Stage,
        index: usize,
        count: usize,
        size: usize,
        due_ns: u64,
    ) -> Result<(), Failure> {
        self.late.saturating_record(sys::monotonic_ns().saturating_sub(due_ns));
        let batch = publish(stage, index, count, size, due_ns)?;
        self.open.push_back(Arc::clone(&batch.seen));
        if self.open.len() > RETAINED_BATCHES_MAX {
            self.read_oldest();
        }
        Ok(())
    }

    /// Waits until all subscribers have all of it, and counts what they do not get.
    ///
    /// # Errors
    /// If the run is over.
    pub fn wait(&mut self, stage: &mut Stage, index: usize) -> Result<(), Failure> {
        self.missing += wait_for_all(stage, index)?;
        while !self.open.is_empty() {
            self.read_oldest();
        }
        Ok(())
    }

    fn read_oldest(&mut self) {
        let spread_ns = self.open.pop_front().and_then(|seen| seen.spread_ns());
        spread_ns.into_iter().for_each(|spread_ns| self.spread.saturating_record(spread_ns));
    }

    /// Ends the round with it.
    ///
    /// # Errors
    /// As `Stopwatch::stop`.
    pub fn stop(mut self, stage: &Stage, stopwatch: Stopwatch) -> Result<Round, Failure> {
        while !self.open.is_empty() {
            self.read_oldest();
        }
        let round = stopwatch.stop(stage, self.missing)?;
        Ok(Round { spread: self.spread, late: self.late, ..round })
    }
}

/// What is left of a round that Ctrl-C ended: `Interrupted` is no failure of it, all others are.
///
/// # Errors
/// The failure.
pub fn unless_interrupted(outcome: Result<(), Failure>) -> Result<(), Failure> {
    match outcome {
        Err(Failure::Interrupted) => Ok(()),
        other => other,
    }
}

/// One batch in front of a round, not measured: whoever played last has the caches.
pub fn warm_up(stage: &mut Stage, index: usize, count: usize, size: usize) -> Result<u64, Failure> {
    if stage.arms[index].target.publishes { publish_and_wait(stage, index, count, size) } else { Ok(0) }
}

/// A round of the closed loop: `window` messages, the next when all have received the last. Without a
/// publisher of ours, a round is a stretch of time.
///
/// # Errors
/// As `publish_and_wait`.
pub fn closed_loop(
    stage: &mut Stage,
    index: usize,
    window: usize,
    size: usize,
    length: Duration,
) -> Result<Round, Failure> {
    let mut published = Published::after(warm_up(stage, index, window, size)?);
    let stopwatch = Stopwatch::start(stage, index)?;
    let end = Instant::now() + length;
    let mut play = || {
        if !stage.arms[index].target.publishes {
            return stage.watch.until_moment(end);
        }
        while (published.missing == 0 || stage.allows_loss) && Instant::now() < end {
            published.publish(stage, index, window, size, sys::monotonic_ns())?;
            published.wait(stage, index)?;
        }
        Ok(())
    };
    unless_interrupted(play())?;
    published.stop(stage, stopwatch)
}

/// A round of the open loop: `rate` messages a second, `window` of them at a time, whatever the server does meanwhile.
/// Latency counts from when a message was due, so that a late start is not forgiven.
///
/// # Errors
/// As `publish_and_wait`.
pub fn open_loop(
    stage: &mut Stage,
    index: usize,
    rate: f64,
    window: usize,
    size: usize,
    length: Duration,
) -> Result<Round, Failure> {
    let mut published = Published::after(warm_up(stage, index, window, size)?);
    let rate = rate / window as f64;
    let stopwatch = Stopwatch::start(stage, index)?;
    let (start, start_ns) = (Instant::now(), sys::monotonic_ns());
    let publishes = stage.arms[index].target.publishes;
    let count = if publishes { (length.as_secs_f64() * rate).ceil().max(1.0) as u32 } else { 0 };
    let mut play = || {
        for number in 0..count {
            let due = Duration::from_secs_f64(f64::from(number) / rate);
            stage.watch.until_moment(start + due)?;
            published.publish(stage, index, window, size, start_ns + due.as_nanos() as u64)?;
        }
        stage.watch.until_moment(start + length)?;
        if publishes { published.wait(stage, index) } else { Ok(()) }
    };
    unless_interrupted(play())?;
    published.stop(stage, stopwatch)
}
