//! Runs a foreign program to its end under a deadline, and says plainly when it is not installed.

use crate::support::pause;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The folder of the scripts and of what they import.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// How a program ended and what it wrote.
pub struct Ran {
    /// Its exit code was 0.
    pub success: bool,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

/// Runs `command`, and ends it if it takes longer than `deadline`.
///
/// # Panics
/// If the program is not there: `make test` installs it.
#[track_caller]
pub fn run(mut command: Command, deadline: Duration) -> Ran {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} is not installed ({error}): run scripts/install-test-tools"));
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let stdout = std::thread::spawn(move || drain(stdout));
    let stderr = std::thread::spawn(move || drain(stderr));
    let end = Instant::now() + deadline;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break Some(status);
        }
        if Instant::now() >= end {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            break None;
        }
        pause(Duration::from_millis(5));
    };
    let stdout = stdout.join().expect("the reader does not panic");
    let mut stderr = String::from_utf8_lossy(&stderr.join().expect("the reader does not panic")).into_owned();
    if status.is_none() {
        stderr.push_str(&format!("\n{name} was ended after {deadline:?}"));
    }
    Ran { success: status.is_some_and(|status| status.success()), stdout, stderr }
}

/// Runs a script that checks by itself and prints what it checked.
///
/// # Panics
/// With everything that it wrote, if it does not end with exit code 0.
#[track_caller]
pub fn expect_success(command: Command) {
    let shown = format!("{command:?}");
    let ran = run(command, Duration::from_secs(120));
    let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.success, "{shown} failed\n{stdout}\n{}", ran.stderr);
    println!("{stdout}");
}

/// Node with a script of this folder.
///
/// # Panics
/// If the packages that the script imports are not installed.
#[track_caller]
pub fn node(script: &str) -> Command {
    assert!(
        folder().join("node_modules").exists(),
        "the Node packages are missing: run scripts/install-test-tools"
    );
    let mut command = Command::new("node");
    command.arg(folder().join(script));
    command
}

/// The folder's own Python with a script of this folder.
#[track_caller]
pub fn python(script: &str) -> Command {
    let mut command = Command::new(folder().join(".venv/bin/python"));
    command.arg(folder().join(script));
    command
}

fn drain(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}
