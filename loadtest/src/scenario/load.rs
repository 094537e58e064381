//! The two ways to publish: a closed loop as fast as subscribers receive, and an open loop by the clock.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::round::{Round, Stopwatch};
use crate::stage::Stage;
use crate::sys;

/// Publishes `count` messages together and waits until all subscribers have them. Returns how many
/// deliveries did not come.
///
/// # Errors
/// If publishing fails or the run is over.
pub fn publish_and_wait(stage: &mut Stage, index: usize, count: usize, size: usize) -> Result<u64, Failure> {
    publish(stage, index, count, size, sys::monotonic_ns())?;
    stage.crew.wait_delivered(index, stage.arms[index].target.feed.head(), &stage.watch)
}

fn publish(stage: &mut Stage, index: usize, count: usize, size: usize, due_ns: u64) -> Result<(), Failure> {
    let arm = &mut stage.arms[index];
    let batch = arm.target.feed.append(count, size, due_ns);
    arm.publisher.publish(&batch)
}

/// One batch in front of a round, not measured: whoever played last has the caches.
fn warm_up(stage: &mut Stage, index: usize, count: usize, size: usize) -> Result<u64, Failure> {
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
    while missing == 0 && Instant::now() < end {
        missing = publish_and_wait(stage, index, window, size)?;
    }
    stopwatch.stop(stage, missing)
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
    let count = if publishes { (length.as_secs_f64() * rate).ceil().max(1.0) as u32 } else { 0 };
    for number in 0..count {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        stage.watch.until_moment(start + due)?;
        publish(stage, index, 1, size, start_ns + due.as_nanos() as u64)?;
    }
    stage.watch.until_moment(start + length)?;
    let head = stage.arms[index].target.feed.head();
    let missing = if publishes { stage.crew.wait_delivered(index, head, &stage.watch)? } else { 0 };
    stopwatch.stop(stage, missing + missing_before)
}
