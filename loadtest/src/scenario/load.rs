//! The two ways to publish: a closed loop as fast as subscribers receive, and an open loop by the clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::feed::Batch;
use crate::round::{Round, Stopwatch};
use crate::stage::Stage;
use crate::stats::Latencies;
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

/// Waits until all subscribers have everything that was published. Returns how many deliveries did not come.
///
/// # Errors
/// If the run is over.
pub fn wait_for_all(stage: &Stage, index: usize) -> Result<u64, Failure> {
    stage.crew.wait_delivered(index, stage.arms[index].target.feed.head(), &stage.watch)
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

/// Batches of a round whose spread is still to be read. As many as the feed keeps, so that memory is bounded.
#[derive(Debug, Default)]
pub struct Spreads(VecDeque<Arc<Batch>>);

impl Spreads {
    const MAX: usize = 1024;

    /// Remembers a batch; the oldest of too many is read already now.
    pub fn add(&mut self, batch: Arc<Batch>, into: &mut Histogram<u64>) {
        self.0.push_back(batch);
        if self.0.len() > Self::MAX {
            self.0.pop_front().into_iter().for_each(|batch| record(&batch, into));
        }
    }

    /// Reads all of them, once everything has been delivered.
    pub fn finish(self, into: &mut Histogram<u64>) {
        self.0.iter().for_each(|batch| record(batch, into));
    }
}

fn record(batch: &Batch, into: &mut Histogram<u64>) {
    batch.spread_ns().into_iter().for_each(|spread_ns| into.saturating_record(spread_ns));
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
    let mut missing = warm_up(stage, index, window, size)?;
    let stopwatch = Stopwatch::start(stage, index)?;
    let end = Instant::now() + length;
    if !stage.arms[index].target.publishes {
        stage.watch.until_moment(end)?;
    }
    let mut spread = Latencies::new().delivery;
    while missing == 0 && Instant::now() < end {
        let batch = publish(stage, index, window, size, sys::monotonic_ns())?;
        missing = wait_for_all(stage, index)?;
        record(&batch, &mut spread);
    }
    Ok(Round { spread, ..stopwatch.stop(stage, missing)? })
}

/// A round of the open loop: one message each `1 / rate` seconds, whatever the server does meanwhile.
/// Latency counts from when a message was due, so that a late start is not forgiven.
///
/// # Errors
/// As `publish_and_wait`.
pub fn open_loop(
    stage: &mut Stage,
    index: usize,
    rate: f64,
    size: usize,
    length: Duration,
) -> Result<Round, Failure> {
    let missing_before = warm_up(stage, index, 1, size)?;
    let stopwatch = Stopwatch::start(stage, index)?;
    let (start, start_ns) = (Instant::now(), sys::monotonic_ns());
    let publishes = stage.arms[index].target.publishes;
    let (mut spread, mut spreads) = (Latencies::new().delivery, Spreads::default());
    let count = if publishes { (length.as_secs_f64() * rate).ceil().max(1.0) as u32 } else { 0 };
    for number in 0..count {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        stage.watch.until_moment(start + due)?;
        let batch = publish(stage, index, 1, size, start_ns + due.as_nanos() as u64)?;
        spreads.add(batch, &mut spread);
    }
    stage.watch.until_moment(start + length)?;
    let missing = if publishes { wait_for_all(stage, index)? } else { 0 };
    spreads.finish(&mut spread);
    Ok(Round { spread, ..stopwatch.stop(stage, missing + missing_before)? })
}
