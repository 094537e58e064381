//! tidegate-loadtest: what a WebSocket fan-out server delivers, and what it pays for it.
//!
//! `cli` is what was typed; `stage` sets everything up; `scenario` runs on it; `report` says what was
//! found. Below them: `crew` and `worker` hold the sockets, `feed` and `verify` know what must arrive,
//! `publisher` puts it in, `server` starts and accounts for what is under test, `wire` is RFC 6455.

mod cli;
mod crew;
mod failure;
mod feed;
mod monitor;
mod payload;
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
mod verify;
mod watch;
mod wire;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Common};
use failure::Failure;
use report::Report;

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
    let outcome = scenario::run(&cli.scenario).and_then(|report| match (report, cli.scenario.common()) {
        (Some(report), Some(common)) => hand_over(&report, common),
        _ => Ok(()),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tidegate-loadtest: {failure}");
            failure.exit_code().into()
        }
    }
}

/// Prints and writes the report; a run in which something was wrong is a failure.
fn hand_over(report: &Report, common: &Common) -> Result<(), Failure> {
    print!("{}", report.text(common));
    if let Some(file) = &common.json {
        let text = format!("{:#}\n", report.json(common));
        std::fs::write(file, text)
            .map_err(|error| Failure::Usage(format!("cannot write {}: {error}", file.display())))?;
    }
    match report.faults(common).as_slice() {
        [] => Ok(()),
        faults => Err(Failure::Check(format!("{} check(s) failed: {}", faults.len(), faults.join("; ")))),
    }
}
