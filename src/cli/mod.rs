//! What was typed, and what it means: the command line of tidegate.
//!
//! `arguments.rs` makes the parser from the table of options; here a parsed command is carried out. Commands write
//! to standard output, everything that is not an answer goes to standard error, and every failure maps to one exit
//! code: see `Failure`. Serving itself is handed in by `main.rs`.

mod arguments;
mod failure;
mod publish;
mod subscribe;

pub use failure::Failure;

use std::ffi::OsString;
use std::io::{self, Write};

use crate::config::{self, Config, Inputs, Loaded, report};
use crate::gateway;
use arguments::Command;

/// Carries out the command line `arguments`, the first of which is the program's name. `serve` runs the gateway until
/// it is told to stop.
///
/// # Errors
/// A [`Failure`]: report it and exit with its code.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    serve: impl FnOnce(Config) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match arguments::parse(arguments)? {
        Command::Serve { flags, echo } => {
            let Loaded { config, settings, .. } = load(flags)?;
            serve(Config { echo, ..config }).map_err(|failure| failure.blamed_on(&settings))
        }
        Command::Check { flags, channel } => {
            let loaded = load(flags)?;
            if let Err(error) = gateway::check_capacity(&loaded.config) {
                Failure::from(error).blamed_on(&loaded.settings).warn();
            }
            print(&match channel {
                Some(channel) => report::for_channel(&loaded, &channel),
                None => report::effective(&loaded),
            })
        }
        Command::Publish(request) => print(&format!("{}\n", publish::run(&request)?)),
        Command::Subscribe(subscription) => subscribe::run(&subscription),
        Command::Reference => print(&report::reference()),
    }
}

/// Merges flags, environment and file; warnings go to standard error.
fn load(flags: Vec<(config::options::Key, String)>) -> Result<Loaded, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = gateway::machine_memory();
    let loaded = config::load(&Inputs { flags, environment: std::env::vars_os().collect(), cores, memory })?;
    for warning in &loaded.warnings {
        failure::tell("warning", warning);
    }
    Ok(loaded)
}

/// Writes an answer. A reader that has gone away (`tidegate check | head`) is not a failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Internal(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
