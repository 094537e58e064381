//! Publishing through a command of the user's: each message is a line on its standard input.
//!
//! `command:'while read -r m; do redis-cli publish "$CHANNEL" "$m"; done'` publishes to whatever has a client.

use std::io::{self, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use mio::unix::pipe;
use mio::{Events, Interest, Poll, Token};

use super::Publisher;
use crate::failure::Failure;
use crate::feed::Batch;
use crate::sys;

/// Time in which a command must have read some more of its input.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Time that a command has to end after SIGTERM, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The command, running for as long as this lives; dropping it ends the command and all that it started.
#[derive(Debug)]
pub struct CommandPublisher {
    command: String,
    child: Child,
    input: Option<Input>,
    patience: Duration,
}

/// The writing end of the command's standard input.
#[derive(Debug)]
struct Input {
    pipe: pipe::Sender,
    poll: Poll,
    events: Events,
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
        let child = sys::die_with_parent(shell.process_group(0)).spawn().map_err(failed)?;
        let mut publisher = Self { command: command.to_owned(), child, input: None, patience: READ_TIMEOUT };
        publisher.input = publisher.child.stdin.take().map(Input::new).transpose().map_err(failed)?;
        Ok(publisher)
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
        input.write_all(&lines, self.patience).map_err(|error| {
            let command = &self.command;
            if error.kind() == ErrorKind::TimedOut {
                let seconds = self.patience.as_secs_f64();
                return Failure::Unavailable(format!(
                    "'{command}' has not read its input for {seconds} s: it must read every line"
                ));
            }
            let end =
                self.child.try_wait().ok().flatten().map_or_else(|| error.to_string(), |end| end.to_string());
            Failure::Unavailable(format!("'{command}' takes no more messages: {end}"))
        })
    }
}

impl Drop for CommandPublisher {
    fn drop(&mut self) {
        // The end of its input is the end of its work; whoever of its process group does not see that is killed.
        self.input = None;
        let group = self.child.id().wrapping_neg();
        let _ = sys::send_signal(group, libc::SIGTERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            // No signal, only the question whether somebody is left.
            if has_ended && sys::send_signal(group, 0).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = sys::send_signal(group, libc::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Input {
    fn new(stdin: ChildStdin) -> io::Result<Self> {
        let mut pipe = pipe::Sender::from(stdin);
        pipe.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.registry().register(&mut pipe, Token(0), Interest::WRITABLE)?;
        Ok(Self { pipe, poll, events: Events::with_capacity(1) })
    }

    /// Writes all bytes, waiting for the reader.
    ///
    /// # Errors
    /// `TimedOut` once the reader has read nothing for as long as `patience`; what the pipe says.
    fn write_all(&mut self, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
        let mut deadline = Instant::now() + patience;
        while !bytes.is_empty() {
            match self.pipe.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    deadline = Instant::now() + patience;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(deadline)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the pipe may have room again.
    fn wait(&mut self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::Feed;
    use crate::protocol::Protocol;

    /// More than a pipe holds.
    fn large_batch() -> std::sync::Arc<Batch> {
        Feed::new(1, Protocol::plain()).append(4, 256 * 1024, 0)
    }

    /// Drops it, and waits until nobody of its process group runs any more.
    fn end(publisher: CommandPublisher) {
        let group = publisher.child.id().to_string();
        let (done, waiting) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            drop(publisher);
            let _ = done.send(());
        });
        waiting
            .recv_timeout(Duration::from_secs(60))
            .expect("the end of a command is waited for without limit");
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_running(&group) {
            assert!(Instant::now() < deadline, "something of the command is left");
            std::thread::yield_now();
        }
    }

    fn is_running(group: &str) -> bool {
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
        stats.map(|stat| stat.rsplit(')').next().unwrap_or_default().to_owned()).any(|fields| {
            let fields: Vec<_> = fields.split_whitespace().collect();
            fields.get(2) == Some(&group) && fields.first() != Some(&"Z")
        })
    }

    #[test]
    fn a_command_that_does_not_read_is_told_and_not_waited_for() {
        let mut publisher = CommandPublisher::start("exec sleep 1000", "x").expect("a shell");
        publisher.patience = Duration::from_millis(50);
        let error = publisher.publish(&large_batch()).expect_err("nobody reads").to_string();
        assert_eq!(error, "'exec sleep 1000' has not read its input for 0.05 s: it must read every line");
    }

    #[test]
    fn whatever_a_command_has_started_ends_with_it() {
        let mut publisher = CommandPublisher::start("sleep 1000 & exec cat", "x").expect("a shell");
        // Once somebody reads, the other one has been started.
        publisher.publish(&large_batch()).expect("cat reads");
        end(publisher);
    }

    #[test]
    fn a_command_that_ignores_the_request_to_end_is_killed() {
        let command = "trap '' TERM; exec <&-; while :; do sleep 1; done";
        let mut publisher = CommandPublisher::start(command, "x").expect("a shell");
        // It closes its input once it ignores the signal.
        let error = publisher.publish(&large_batch()).expect_err("closed").to_string();
        assert!(error.contains("takes no more messages"), "{error}");
        end(publisher);
    }
}
