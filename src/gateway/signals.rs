//! SIGTERM and SIGINT, as the control thread sees them.
//!
//! Made before the shards start: the handler writes to a pipe by its number, and whichever thread runs the handler
//! must have that number in its descriptor table, a private copy included. SIGPIPE is ignored by Rust's start-up
//! code; a test here holds it to that.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the gateway.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over; they no longer end the process by themselves.
    ///
    /// # Errors
    /// As sigaction(2) and pipe(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them. Dropping the future loses none.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_write_to_a_gone_client_is_an_error_and_not_a_signal() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_ne!(ignored & (1 << (libc::SIGPIPE - 1)), 0, "SIGPIPE is not ignored: {ignored:x}");
    }
}
