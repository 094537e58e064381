//! tidegate-loadtest: what a WebSocket fan-out server delivers, and what it pays for it.
//!
//! `cli` is what was typed; `stage` sets everything up; `scenario` runs on it; `report` says what was
//! found. Below them: `crew` and `worker` hold the sockets, `feed` and `verify` know what must arrive,
//! `publisher` puts it in, `server` starts and accounts for what is under test, `wire` is RFC 6455.

mod attack;
mod cli;
mod crew;
mod failure;
mod feed;
mod generator;
mod monitor;
mod payload;
mod protocol;
mod publisher;
mod report;
mod round;
mod scenario;
mod server;
mod sources;
mod stage;
mod stats;
mod sys;
mod target;
mod tick;
mod tls;
mod verify;
mod watch;
mod wire;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Common, Scenario};
use failure::Failure;
use report::{OutputFiles, assert};

/// Exit code of a wrong command line, as in sysexits(3).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let outcome = cli
        .scenario
        .common()
        .map_or_else(|| scenario::run(&cli.scenario).map(drop), |common| run(&cli.scenario, common));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tidegate-loadtest: {failure}");
            failure.exit_code().into()
        }
    }
}

/// Runs a scenario, prints and writes its report; a run in which something was wrong is a failure.
fn run(scenario: &Scenario, common: &Common) -> Result<(), Failure> {
    // What cannot come out in the end is refused before anything starts.
    assert::check(common, &scenario.gives())?;
    let files = OutputFiles::open(common)?;
    let Some(mut report) = scenario::run(scenario)? else { return Ok(()) };
    // Whoever reads the summary may have left, as `head` does.
    let _ = std::io::stdout().write_all(report.text(common).as_bytes());
    let written = files.write(&report, common);
    if let (Err(error), true) = (&written, report.failure.is_some() || !report.faults(common).is_empty()) {
        // What the run found is the verdict; this is told beside it.
        eprintln!("tidegate-loadtest: {error}");
    } else {
        written?;
    }
    if let Some(failure) = report.failure.take() {
        return Err(failure);
    }
    if report.interrupted && !report.has_figures() {
        return Err(Failure::Interrupted);
    }
    match report.faults(common).as_slice() {
        [] => Ok(()),
        faults => Err(Failure::Check(format!("{} check(s) failed: {}", faults.len(), faults.join("; ")))),
    }
}
