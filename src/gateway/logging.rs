//! Log records to standard error, as text or JSON lines. Text is coloured for a terminal only.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::error::GatewayError;
use crate::config::{Config, LogFormat};

/// The codec logs every frame it reads with its payload; nobody gets that without asking for it by name.
const QUIET: &str = "tungstenite=warn";

/// Installs the log writer of the process; a second call changes nothing.
///
/// # Errors
/// [`GatewayError::LogFilter`] when the configured filter cannot be read.
pub fn start(config: &Config) -> Result<(), GatewayError> {
    let filter = filter(&config.log_level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Fails when a writer is installed already, as in tests.
    let _ = match config.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, GatewayError> {
    let unreadable = |_| GatewayError::LogFilter { filter: level.to_owned() };
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_or_refused_and_the_codec_stays_quiet() {
        assert!(filter("debug").unwrap().to_string().contains("tungstenite=warn"));
        assert!(filter("tidegate=debug,info").is_ok());
        assert_eq!(filter("tidegate=loud").unwrap_err().exit_code(), 78);
    }
}
