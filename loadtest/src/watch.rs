//! The two things that end any wait: Ctrl-C and the time limit of the whole run.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How often a waiting controller looks again.
const LOOK_EVERY: Duration = Duration::from_micros(250);

/// Asked in every loop of the controller.
#[derive(Clone, Debug)]
pub struct Watch {
    interrupted: Arc<AtomicBool>,
    deadline: Instant,
}

impl Watch {
    /// Starts the clock and catches Ctrl-C and SIGTERM.
    ///
    /// # Errors
    /// If the kernel refuses the signal handler.
    pub fn start(timeout: Duration) -> io::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        Ok(Self { interrupted, deadline: Instant::now() + timeout })
    }

    /// Whether the run may go on.
    ///
    /// # Errors
    /// `Interrupted` after Ctrl-C, `Check` after the time limit.
    pub fn check(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        if Instant::now() > self.deadline {
            return Err(Failure::Check("the run took longer than --timeout allows".into()));
        }
        Ok(())
    }

    /// Waits until the condition holds.
    ///
    /// # Errors
    /// As `check`, or what the condition returns.
    pub fn until(&self, mut condition: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
        while !condition()? {
            self.check()?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until a moment.
    ///
    /// # Errors
    /// As `check`.
    pub fn until_moment(&self, moment: Instant) -> Result<(), Failure> {
        loop {
            self.check()?;
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}
