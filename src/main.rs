//! The `tidegate` binary: carries out the command line and maps its outcome to an exit code.

use std::process::ExitCode;

use tidegate::cli::{self, Failure};
use tidegate::gateway;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), |config| gateway::run(config).map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit_code())
        }
    }
}
