//! Why a run ended badly, sorted by who can help; `main` maps it to an exit code.

use std::fmt;

/// The end of a run that could not be completed. The text is one line: the cause and the cure.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be done: change the command line or a limit of this machine. Exit 64.
    Usage(String),
    /// The server is not there, refuses, or stopped. Exit 69.
    Unavailable(String),
    /// A check failed. Exit 1.
    Check(String),
    /// Ctrl-C: what was seen so far is reported.
    Interrupted,
}

impl Failure {
    /// The exit code: sysexits(3) where it has one.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Check(_) => 1,
            Self::Interrupted => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Unavailable(text) | Self::Check(text) => out.write_str(text),
            Self::Interrupted => out.write_str("interrupted"),
        }
    }
}
