//! The Autobahn testsuite from PyPI: RFC 6455 and RFC 7692 in some 250 cases, which `scripts/conformance` judges strictly. `make
//! conformance` runs all of its sections.

use crate::script::{Ran, run};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The run takes a quarter of a minute, most of it waits of the suite's own.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs `scripts/conformance` over the gateway that is being tested.
#[track_caller]
fn conformance(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/conformance"));
    command.args(arguments).arg(env!("CARGO_BIN_EXE_tidegate")).envs(variables.iter().copied());
    run(command, DEADLINE)
}

fn last_line(ran: &Ran) -> String {
    String::from_utf8_lossy(&ran.stdout).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn autobahn_finds_nothing_to_object_to() {
    let ran = conformance(&["--profile", "smoke", "--again", "2"], &[]);
    // What passed only then, for who looks at what a test that passed has said.
    print!("{}", String::from_utf8_lossy(&ran.stdout));
    assert!(ran.success, "{}\n{}", String::from_utf8_lossy(&ran.stdout), ran.stderr);
    assert_eq!(last_line(&ran), "258 passed, 0 failed");
}

#[test]
fn a_gateway_that_falls_short_fails_the_run() {
    let limits = [("TIDEGATE_MAX_MESSAGE", "1KiB"), ("TIDEGATE_MAX_LAG_BYTES", "1MiB")];
    let ran = conformance(&["--cases", "1.1.5,1.1.6", "--again", "1"], &limits);
    assert!(!ran.success);
    assert_eq!(last_line(&ran), "1 passed, 1 failed", "{}", ran.stderr);
}

#[test]
fn a_gateway_that_does_not_compress_fails_the_run() {
    let ran = conformance(&["--cases", "1.1.1,13.1.1"], &[("TIDEGATE_COMPRESSION", "off")]);
    assert!(!ran.success);
    assert_eq!(last_line(&ran), "1 passed, 1 failed", "{}", ran.stderr);
}
