//! How a command fails, and the exit code that says so (those of `sysexits.h`).

use std::io::Write;
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::config::ConfigError;
use crate::config::limits::LOG_FLUSH_TIMEOUT;
use crate::config::options::Key;
use crate::config::settings::{Setting, Settings};
use crate::config::value::Value;
use crate::gateway::GatewayError;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong; the parser's own text, or one line.
    Usage(Usage),
    /// The gateway that a client command spoke to refused it; trying again unchanged is useless.
    Refused(String),
    /// An address cannot be bound or reached, or the other side went away; trying again may help.
    Unavailable(String),
    /// A fault of ours, or of the machine.
    Internal(String),
    /// The configuration is wrong.
    Config(ConfigError),
    /// The gateway could not start or go on.
    Gateway(GatewayError),
}

/// A wrong command line.
#[derive(Debug)]
pub enum Usage {
    /// As the parser words it, with the usage line; also its help and version texts, which are no failure.
    Parser(Box<clap::Error>),
    /// In our words.
    Line(String),
}

impl Failure {
    /// A wrong command line in one line.
    pub fn usage(line: impl Into<String>) -> Self {
        Self::Usage(Usage::Line(line.into()))
    }

    /// The same, as the fault of whoever asked for more connections than fit, if anybody did.
    #[must_use]
    pub fn blamed_on(self, settings: &Settings) -> Self {
        let Setting { value, source } = settings.get(Key::MaxConnections);
        let Self::Gateway(error) = &self else { return self };
        match error.refusal_of_max_connections() {
            Some(refusal) if *value != Value::Count(0) => {
                Self::Config(refusal.at(source, &Key::MaxConnections.definition().toml_key()))
            }
            _ => self,
        }
    }

    /// 0 for help and version, 64 wrong command line, 65 refused by the gateway, 69 unavailable, 70 internal, 78 wrong
    /// configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(Usage::Parser(error)) if !error.use_stderr() => 0,
            Self::Usage(_) => 64,
            Self::Refused(_) => 65,
            Self::Unavailable(_) => 69,
            Self::Internal(_) => 70,
            Self::Config(_) => 78,
            Self::Gateway(error) => error.exit_code(),
        }
    }

    /// Tells the operator: on standard error, or on standard output for help and version.
    pub fn report(&self) {
        match self {
            // Whoever asked for help and closed the pipe has what they wanted.
            Self::Usage(Usage::Parser(error)) => drop(error.print()),
            Self::Usage(Usage::Line(line)) => {
                tell("error", &format!("{line}; see `tidegate --help`"));
            }
            Self::Refused(line) | Self::Unavailable(line) | Self::Internal(line) => tell("error", line),
            Self::Config(error) => tell("configuration", &error.to_string()),
            Self::Gateway(error) => tell("error", &error.to_string()),
        }
    }

    /// As a warning of what is only checked.
    pub fn warn(&self) {
        match self {
            Self::Config(error) => tell("warning", &error.to_string()),
            Self::Gateway(error) => tell("warning", &error.to_string()),
            other => other.report(),
        }
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self::Gateway(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Writes `tidegate: KIND: LINE` to standard error; there is nobody to tell if that fails. Waits a second at most for who
/// reads it: a failure must not keep the process from ending.
pub(super) fn tell(kind: &str, line: &str) {
    let text = format!("tidegate: {kind}: {line}\n");
    let (written, is_written) = sync_channel(1);
    let writer = thread::Builder::new().spawn(move || {
        drop(std::io::stderr().write_all(text.as_bytes()));
        let _ = written.send(());
    });
    if writer.is_ok() {
        let _ = is_written.recv_timeout(LOG_FLUSH_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::{Refusal, Source};

    #[test]
    fn every_failure_has_its_exit_code() {
        let config = Refusal::new("a", "b").at(&Source::Default, "c");
        for (failure, code) in [
            (Failure::usage("x"), 64),
            (Failure::Refused(String::new()), 65),
            (Failure::Unavailable(String::new()), 69),
            (Failure::Internal(String::new()), 70),
            (Failure::Config(config), 78),
        ] {
            assert_eq!(failure.exit_code(), code, "{failure:?}");
        }
    }
}
