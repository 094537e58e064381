//! The only reader of the operating system's clock, and the timer wheel.
//!
//! Monotonic time only: a jump of the wall clock moves no deadline, it is only told. Read `wheel.rs` for the deadlines,
//! `jump.rs` for the jumps.

mod jump;
pub mod wheel;

pub use jump::JumpWatch;
pub use wheel::{Timer, Wheel};

use std::time::Instant;

use crate::model::Time;

/// Reads the monotonic clock, counted from when the process's first `Clock` was made. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the scale: make one per process and copy it to every thread.
    #[allow(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    #[allow(clippy::disallowed_methods, reason = "this module is where the clock is read")]
    pub fn now(&self) -> Time {
        Time::ZERO.after(self.start.elapsed())
    }
}
