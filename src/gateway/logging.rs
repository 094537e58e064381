//! Log records to standard error, as text or JSON lines. Text is coloured for a terminal only.
//!
//! They go through the ring of `log_ring.rs`, panics too: nobody waits for who reads them.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use super::error::GatewayError;
use super::log_ring::{LogRing, Records};
use super::threads::message_of;
use crate::config::limits::LOG_FLUSH_TIMEOUT;
use crate::config::{Config, LogFormat};
use crate::metrics::counters::Counter;

/// The codec logs every frame it reads with its payload; nobody gets that without asking for it by name.
const QUIET: &str = "tungstenite=warn";

/// The log of the process. Dropping it waits a second at most for what was logged to be written.
pub struct Log(Arc<LogRing>);

impl Log {
    /// Records that were lost because standard error did not take them.
    pub fn dropped(&self) -> Arc<Counter> {
        self.0.dropped()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LOG_FLUSH_TIMEOUT);
    }
}

/// Installs the log writer of the process, for panics too; a second call changes nothing.
///
/// # Errors
/// [`GatewayError::LogFilter`] when the configured filter cannot be read, [`GatewayError::Start`] when there is no thread.
pub fn start(config: &Config) -> Result<Log, GatewayError> {
    let filter = filter(&config.log_level)?;
    let ring = LogRing::start(io::stderr());
    let ring = ring.map_err(|source| GatewayError::start("the log writer", source))?;
    let log = Log(Arc::clone(&ring));
    let make_writer = move || Records(Arc::clone(&ring));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(make_writer);
    // Fails when a writer is installed already, as in tests.
    let installed = match config.log_format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_ok() {
        // The standard library's would write to standard error itself, and wait there.
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(log)
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("a thread");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    // As with debugging quotes: one record is one line.
    let message = message_of(info.payload());
    tracing::error!(event = "panic", message_text = ?message, "{thread} panicked at {location}");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(event = "panic_backtrace", text = ?backtrace.to_string());
    }
}

fn filter(level: &str) -> Result<EnvFilter, GatewayError> {
    let unreadable = |_| GatewayError::LogFilter { filter: level.to_owned() };
    EnvFilter::try_new(format!("{QUIET},{level}")).map_err(unreadable)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "waits for another process")]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    /// Set in the process that panics for [`c15_a_panic_is_told_before_the_process_ends`].
    const ROLE: &str = "TIDEGATE_TEST_PANICS";

    #[test]
    fn a_process_that_panics() {
        let Ok(role) = std::env::var(ROLE) else { return };
        let log = start(&Config::default()).unwrap();
        if role == "stuck" {
            // More than a pipe and both buffers take, and nobody reads.
            (0..20_000).for_each(|_| tracing::warn!(event = "filler", "{}", "x".repeat(100)));
            assert!(log.dropped().get() > 0);
        }
        let shard = std::thread::Builder::new().name("shard-3".to_owned());
        let shard = shard.spawn(|| panic!("slot 7\nis empty")).unwrap();
        assert!(shard.join().is_err());
        drop(log);
        #[allow(clippy::disallowed_methods, reason = "the harness would write on")]
        std::process::exit(70);
    }

    fn process_that_panics(role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "gateway::logging::tests::a_process_that_panics", "--nocapture"]);
        command.env(ROLE, role).env_remove("RUST_BACKTRACE").stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn c15_a_panic_is_told_before_the_process_ends() {
        for attempt in 1.. {
            let ended = process_that_panics("free").output().unwrap();
            let log = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(70), "{log}");
            let line = log.lines().find(|line| line.contains("shard-3 panicked at src/gateway/logging.rs:"));
            if line.is_some_and(|line| line.contains(r"slot 7\nis empty")) {
                return;
            }
            // The process waits a second for its log, in which a busy machine may not have run it.
            assert!(attempt < 3, "{log}");
        }
    }

    #[test]
    fn c15_a_panic_ends_the_process_though_nobody_reads_its_log() {
        let mut child = process_that_panics("stuck").spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => std::thread::yield_now(),
            }
        };
        let _ = child.kill();
        assert_eq!(status.and_then(|status| status.code()), Some(70));
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(log.contains("filler"), "{log}");
    }

    #[test]
    fn a_filter_is_read_or_refused_and_the_codec_stays_quiet() {
        assert!(filter("debug").unwrap().to_string().contains("tungstenite=warn"));
        assert!(filter("tidegate=debug,info").is_ok());
        assert_eq!(filter("tidegate=loud").unwrap_err().exit_code(), 78);
    }
}
