//! The command line: what was typed, with units and defaults. What it means is in `stage.rs` and
//! `scenario/`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::payload;
use crate::publisher::HttpMode;
use crate::server::bare::BareOptions;
use crate::sources::Sources;
use crate::wire::url::Url;

/// Load generator for WebSocket fan-out servers: counts what subscribers receive, byte for byte, and
/// what the server pays for it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The scenarios.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    /// Connect and upgrade as fast as it goes: server CPU per connection, handshake latency
    Connect(ConnectOptions),
    /// Hold idle connections and answer pings: server memory per connection
    Idle(IdleOptions),
    /// Closed loop: a window of messages, the next when all have the last; server CPU per delivery
    Fanout(FanoutOptions),
    /// Open loop at a fixed rate: latency from when each message was due
    Latency(LatencyOptions),
    /// Rounds with and without a share of connections that never read: what the others notice
    Slow(SlowOptions),
    /// Hold many connections, answer pings, deliver a few broadcasts to all
    Hold(HoldOptions),
    /// The built-in bare server (started by --limit)
    #[command(hide = true)]
    BareServer(BareOptions),
}

/// Where the messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublishBy {
    /// tidegate's admin API, see --admin
    Http,
    /// A client of the first --url whose messages the server relays to the others
    Ws,
    /// The feed has its own source: other runs of this tool, or nothing
    None,
    /// The server is a bare server with its control port in --admin: to compare the limit with itself
    #[value(hide = true)]
    Bare,
}

/// Options of every scenario.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// WebSocket URL of the server, ws://host:port/path; several are used in turn. Without any, --limit runs alone
    #[arg(long, help_heading = "Target")]
    pub url: Vec<Url>,
    /// Command that starts the server under test; it is stopped at the end
    #[arg(long, value_name = "COMMAND", requires = "url", help_heading = "Target")]
    pub spawn: Option<String>,
    /// Cores for servers that are started here, such as 0 or 0,1
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = "Target")]
    pub server_core: Vec<usize>,
    /// Process of the server, for its accounts; found by itself for a local port
    #[arg(long, help_heading = "Target")]
    pub pid: Option<u32>,
    /// Run the same against the built-in bare-send server, in alternating rounds: the kernel's own price.
    /// Several thread counts are several servers: --limit=2,1
    #[arg(
        long,
        value_name = "THREADS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_delimiter = ',',
        value_parser = thread_count,
        help_heading = "Target"
    )]
    pub limit: Vec<usize>,
    /// A second server to compare with, in alternating rounds; see --versus-spawn, --versus-admin
    #[arg(long, value_name = "URL", help_heading = "Target")]
    pub versus_url: Vec<Url>,
    /// Command that starts the second server
    #[arg(long, value_name = "COMMAND", requires = "versus_url", help_heading = "Target")]
    pub versus_spawn: Option<String>,
    /// Admin URL of the second server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8091", help_heading = "Target")]
    pub versus_admin: Url,
    /// Options of the bare server.
    #[command(flatten, next_help_heading = "Target")]
    pub bare: BareOptions,

    /// Connections to each server
    #[arg(long, short = 'n', default_value_t = 1000, help_heading = "Load")]
    pub connections: usize,
    /// Source addresses A-B,C; 127.0.0.2-127.0.0.60 by itself on loopback
    #[arg(long, value_parser = Sources::parse, help_heading = "Load")]
    pub sources: Option<Sources>,
    /// Worker threads, each with its own descriptor table; 0: as many as descriptors require
    #[arg(long, default_value_t = 0, help_heading = "Load")]
    pub threads: usize,
    /// Cores for the load generator, such as 1
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = "Load")]
    pub client_cores: Vec<usize>,
    /// Sleep of a worker between two looks at its sockets
    #[arg(long, default_value = "500us", value_parser = duration, help_heading = "Load")]
    pub nap: Duration,
    /// Share of additional connections, of --connections, that never read: 0.1
    #[arg(long, default_value_t = 0.0, help_heading = "Load")]
    pub stalled_share: f64,

    /// Who publishes
    #[arg(long, value_enum, default_value = "http", help_heading = "Publishing")]
    pub publish: PublishBy,
    /// Admin URL of the server, for --publish http
    #[arg(long, default_value = "http://127.0.0.1:8090", help_heading = "Publishing")]
    pub admin: Url,
    /// Channel to publish to; the last segment of --url by itself
    #[arg(long, help_heading = "Publishing")]
    pub channel: Option<String>,
    /// How several messages are put into HTTP requests
    #[arg(long, value_enum, default_value = "auto", help_heading = "Publishing")]
    pub http_mode: HttpMode,
    /// Send text instead of binary messages, for --publish ws
    #[arg(long, help_heading = "Publishing")]
    pub text: bool,

    /// Do not fail for lost, duplicated, reordered or corrupted messages or closed connections
    #[arg(long, help_heading = "Outcome")]
    pub allow_loss: bool,
    /// Fail if the median ratio to the last series (the limit, the second server, the run without) is above this
    #[arg(long, value_name = "RATIO", help_heading = "Outcome")]
    pub ratio_max: Option<f64>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE", help_heading = "Outcome")]
    pub json: Option<PathBuf>,
    /// End the run after this time at the latest
    #[arg(long, default_value = "15min", value_parser = duration, help_heading = "Outcome")]
    pub timeout: Duration,
    /// Print the result only
    #[arg(long, short, help_heading = "Outcome")]
    pub quiet: bool,
}

/// How rounds alternate.
#[derive(Args, Clone, Debug)]
pub struct RoundOptions {
    /// Rounds for each server
    #[arg(long, default_value_t = 8)]
    pub rounds: usize,
    /// Length of a round
    #[arg(long, default_value = "3s", value_parser = duration)]
    pub round_seconds: Duration,
}

/// Options of `connect`.
#[derive(Args, Clone, Debug)]
pub struct ConnectOptions {
    #[command(flatten)]
    pub common: Common,
    /// Rounds for each server; each opens and closes all connections
    #[arg(long, default_value_t = 8)]
    pub rounds: usize,
}

/// Options of `idle`.
#[derive(Args, Clone, Debug)]
pub struct IdleOptions {
    #[command(flatten)]
    pub common: Common,
    /// Time to hold the connections before measuring
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub settle: Duration,
}

/// Options of `fanout`.
#[derive(Args, Clone, Debug)]
pub struct FanoutOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub rounds: RoundOptions,
    /// Messages outstanding, published together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub window: u16,
    /// Bytes of a message
    #[arg(long, default_value = "512", value_parser = message_size)]
    pub size: usize,
}

/// Options of `latency`.
#[derive(Args, Clone, Debug)]
pub struct LatencyOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub rounds: RoundOptions,
    /// Messages per second
    #[arg(long, default_value_t = 5.0)]
    pub rate: f64,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
}

/// Options of `slow`.
#[derive(Args, Clone, Debug)]
pub struct SlowOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub rounds: RoundOptions,
    /// Open loop at this rate; without, a closed loop
    #[arg(long)]
    pub rate: Option<f64>,
    /// Messages outstanding in the closed loop
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub window: u16,
    /// Bytes of a message
    #[arg(long, default_value = "512", value_parser = message_size)]
    pub size: usize,
    /// KiB published before a round with stalled connections, so that their buffers are full
    #[arg(long, default_value_t = 1024)]
    pub prefill: usize,
}

/// Options of `hold`.
#[derive(Args, Clone, Debug)]
pub struct HoldOptions {
    #[command(flatten)]
    pub common: Common,
    /// Time to hold the connections
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub hold: Duration,
    /// Broadcasts, spread over that time, each verified by all
    #[arg(long, default_value_t = 3)]
    pub broadcasts: usize,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
}

impl Scenario {
    /// The options that all have; the bare server has none.
    pub fn common(&self) -> Option<&Common> {
        Some(match self {
            Self::Connect(options) => &options.common,
            Self::Idle(options) => &options.common,
            Self::Fanout(options) => &options.common,
            Self::Latency(options) => &options.common,
            Self::Slow(options) => &options.common,
            Self::Hold(options) => &options.common,
            Self::BareServer(_) => return None,
        })
    }
}

/// Reads `500us`, `20ms`, `4s`, `4` (seconds) or `15min`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number with us, ms, s, min or h".into()),
    };
    let number: f64 = number.parse().map_err(|_| "write a number with us, ms, s, min or h")?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

fn thread_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=64).contains(&count) => Ok(count),
        _ => Err("write a number of threads from 1 to 64".into()),
    }
}

fn message_size(text: &str) -> Result<usize, String> {
    let (number, scale) = text.strip_suffix("KiB").map_or((text, 1), |number| (number, 1024));
    let size = number.parse::<usize>().map_err(|_| "write a number of bytes, or of KiB: 16KiB")? * scale;
    let (low, high) = (payload::SIZE_MIN, payload::SIZE_MAX);
    if (low..=high).contains(&size) { Ok(size) } else { Err(format!("a message has {low} to {high} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_sizes_carry_units() {
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("4"), Ok(Duration::from_secs(4)));
        assert_eq!(duration("1.5min"), Ok(Duration::from_secs(90)));
        assert!(duration("4 parsecs").is_err() && duration("s").is_err());
        assert_eq!(message_size("16KiB"), Ok(16 * 1024));
        assert!(message_size("10").is_err());
    }
}
