//! A server that we started: pinned before it runs, ended when we end, whichever way that is.
//!
//! It runs in a process group of its own, with whatever it starts; only what leaves that group, as daemons do,
//! is not ended. Of a command for the shell a guard takes care: it ends the group if we end without a word.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::sys;
use crate::watch::Watch;

/// Time that a server has to open its port.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time that a server has to end after SIGTERM, before SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The child process; dropping it ends it.
#[derive(Debug)]
pub struct ServerProcess {
    /// The leader of the group.
    child: Child,
    command: String,
    guard: Option<Child>,
}

impl ServerProcess {
    /// Starts `command`, whatever the shell makes of it, pinned to `cores`, and waits until it accepts on `address`.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be started, ends, or does not open the port in time.
    pub fn start(
        command: &str,
        cores: &[usize],
        address: SocketAddr,
        watch: &Watch,
    ) -> Result<Self, Failure> {
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Err(Failure::Usage(format!(
                "something listens on {address} already: stop it, or leave --spawn away"
            )));
        }
        let mut shell = Command::new("sh");
        let takes_the_shells_place = if is_one_program(command) { "exec " } else { "" };
        shell.args(["-c", &format!("{takes_the_shells_place}{command}")]).stdout(Stdio::null());
        let mut server = Self { child: spawn(&mut shell, cores)?, command: command.to_owned(), guard: None };
        let guard = guard(server.pid());
        server.guard = Some(guard.map_err(|error| {
            Failure::Unavailable(format!("cannot start the guard of '{command}': {error}"))
        })?);
        let deadline = Instant::now() + START_TIMEOUT;
        watch.until(|| {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(Failure::Unavailable(format!("'{command}' ended at once: {status}")));
            }
            if Instant::now() > deadline {
                return Err(Failure::Unavailable(format!("'{command}' did not open {address} in time")));
            }
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
        })?;
        Ok(server)
    }

    /// Starts our own bare server. Returns it with the ports of its listener and of each thread's control socket.
    ///
    /// # Errors
    /// `Unavailable` if it does not say its ports.
    pub fn start_bare(arguments: &[String], cores: &[usize]) -> Result<(Self, u16, Vec<u16>), Failure> {
        let failed = |cause: &str| Failure::Unavailable(format!("cannot start the bare server: {cause}"));
        let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
        let mut command = Command::new(program);
        command.arg("bare-server").args(arguments).stdout(Stdio::piped());
        let mut server =
            Self { child: spawn(&mut command, cores)?, command: "bare-server".into(), guard: None };
        let mut line = String::new();
        if let Some(output) = server.child.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        let mut ports = line.split_whitespace().filter_map(|word| word.parse().ok());
        match (ports.next(), ports.collect::<Vec<_>>()) {
            (Some(port), controls) if !controls.is_empty() => Ok((server, port, controls)),
            _ => Err(failed("it did not say its ports")),
        }
    }

    /// The process that was started; what the command names is that process, or below it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself, and how.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("'{}' ended: {status}", self.command))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let group = self.child.id();
        let _ = sys::signal_group(group, libc::SIGTERM);
        let deadline = Instant::now() + STOP_TIMEOUT;
        // The leader is in the group until it has been waited for; the others may outlive it.
        while matches!(self.child.try_wait(), Ok(None)) || sys::signal_group(group, 0).is_ok() {
            if Instant::now() > deadline {
                let _ = sys::signal_group(group, libc::SIGKILL);
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.kill();
            let _ = guard.wait();
        }
    }
}

/// Whether a command for the shell is a program and its arguments, as far as that is plain to see. The shell
/// then need not stay, and is not accounted for.
fn is_one_program(command: &str) -> bool {
    let program = command.split_whitespace().next().unwrap_or_default();
    let is_file = |folder: PathBuf| folder.join(program).is_file();
    let is_in_path =
        || std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(is_file));
    !command.contains(['\n', ';', '&', '|', '(', ')', '`'])
        && !program.contains('=')
        && !program.is_empty()
        && (program.contains('/') || is_in_path())
}

/// A shell that waits for the end of its standard input, which only we hold, and then kills the group.
fn guard(group: u32) -> io::Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -s KILL -- \"-$0\"", &group.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn()
}

/// A child inherits the cores of the thread that spawns it: ours are changed for that moment.
/// In its own process group, so that Ctrl-C reaches us and not the server.
fn spawn(command: &mut Command, cores: &[usize]) -> Result<Child, Failure> {
    let usage =
        |error: io::Error| Failure::Usage(format!("cannot pin the server to cores {cores:?}: {error}"));
    let own = sys::cores_allowed().map_err(usage)?;
    sys::pin_to_cores(cores).map_err(usage)?;
    let child = sys::die_with_parent(command.stdin(Stdio::null()).process_group(0)).spawn();
    sys::pin_to_cores(&own).map_err(usage)?;
    child.map_err(|error| {
        Failure::Unavailable(format!("cannot start {}: {error}", command.get_program().display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_is_told_from_what_only_the_shell_can_do() {
        for command in ["sleep 9", " sleep 9 >/dev/null", "./server --port 1", "$HOME/bin/server 'a b'"] {
            assert!(is_one_program(command), "{command}");
        }
        for command in
            ["", "A=/x sleep 9", "cd /x && ./server", "a/b & a/b", "exec sleep 9", ". ./start", "! sleep 9"]
        {
            assert!(!is_one_program(command), "{command}");
        }
    }
}
