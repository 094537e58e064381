//! Publishing through a command of the user's: each message is a line on its standard input.
//!
//! `command:'while read -r m; do redis-cli publish "$CHANNEL" "$m"; done'` publishes to whatever has a client.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::Publisher;
use crate::failure::Failure;
use crate::feed::Batch;
use crate::sys;

/// The command, running for as long as this lives.
#[derive(Debug)]
pub struct CommandPublisher {
    command: String,
    child: Child,
    input: Option<ChildStdin>,
}

impl CommandPublisher {
    /// Starts it by `sh -c`, with the channel in the variable `CHANNEL`.
    ///
    /// # Errors
    /// `Unavailable` if there is no shell.
    pub fn start(command: &str, channel: &str) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Unavailable(format!("cannot start '{command}': {error}"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).env("CHANNEL", channel).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = sys::die_with_parent(shell.process_group(0)).spawn().map_err(failed)?;
        let input = child.stdin.take();
        Ok(Self { command: command.to_owned(), child, input })
    }
}

impl Publisher for CommandPublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut lines = Vec::with_capacity(batch.bytes.len() + batch.count);
        for payload in batch.payloads() {
            lines.extend_from_slice(payload);
            lines.push(b'\n');
        }
        let Some(input) = &mut self.input else { return Ok(()) };
        input.write_all(&lines).and_then(|()| input.flush()).map_err(|error| {
            let end =
                self.child.try_wait().ok().flatten().map_or_else(|| error.to_string(), |end| end.to_string());
            Failure::Unavailable(format!("'{}' takes no more messages: {end}", self.command))
        })
    }
}

impl Drop for CommandPublisher {
    fn drop(&mut self) {
        // The end of its input is the end of its work; a command that does not see that is killed.
        self.input = None;
        let _ = sys::send_signal(self.child.id(), libc::SIGTERM);
        let _ = self.child.wait();
    }
}
