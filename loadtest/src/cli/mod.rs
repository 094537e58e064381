//! The command line: what was typed, with units and defaults. What it means is in `stage.rs` and
//! `scenario/`.

mod scenarios;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::payload::{Form, KeyOrder};
use crate::protocol::Kind;
use crate::publisher::HttpMode;
use crate::report::assert::{Assertion, Gives};
use crate::server::bare::BareOptions;
use crate::sources::Sources;
use crate::wire::url::Url;
pub use scenarios::{
    ChurnOptions, ConnectOptions, FanoutOptions, HoldOptions, HostileKind, HostileOptions, IdleOptions,
    LatencyOptions, ResumeOptions, SlowOptions, SnapshotOptions, SoakOptions, StormOptions,
};
use values::{byte_rate, duration, publish_by, thread_count};

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
    /// Subscribers leave and join all the time under an open loop: what the others notice
    Churn(ChurnOptions),
    /// All connections break, all come back while messages go on: time until all have the newest
    Storm(StormOptions),
    /// All join with snapshot=1 a channel of --keys: server CPU per join, until each has the newest value of every key
    Snapshot(SnapshotOptions),
    /// All connections break, and come back after --messages with since=POSITION: server memory, until each has those
    Resume(ResumeOptions),
    /// Churn, storms and slow readers for hours: the slope of the server's memory
    Soak(SoakOptions),
    /// Connections that do what no client should, beside --connections canaries: what these notice, and the server's memory
    Hostile(HostileOptions),
    /// The built-in bare server (started by --limit)
    #[command(hide = true)]
    BareServer(BareOptions),
}

/// Where the messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishBy {
    /// tidegate's admin API, or any address that takes a message as the body of a POST.
    Http,
    /// A client of the first URL whose messages the server relays to the others.
    Ws,
    /// A command of the user's that gets each message as a line.
    Command(String),
    /// The feed has its own source: other runs of this tool, or nothing.
    None,
    /// The server is a bare server with its control port in --admin: to compare the limit with itself.
    Bare,
}

/// Options of every scenario.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// URL of the server, ws://host:port/path or wss://; several are used in turn. Without any, --limit runs alone
    #[arg(long, help_heading = "Target")]
    pub url: Vec<Url>,
    /// What subscribers speak once they are connected
    #[arg(long, value_enum, default_value = "plain", help_heading = "Target")]
    pub protocol: Kind,
    /// Subscribers ask for permessage-deflate (RFC 7692), and fail where it is not agreed on
    #[arg(long, help_heading = "Target")]
    pub compression: bool,
    /// Subscribe with Server-Sent Events instead: --url http://host:port/path
    #[arg(long, conflicts_with = "protocol", help_heading = "Target")]
    pub sse: bool,
    /// What subscribers of the second server speak, instead of the same
    #[arg(long, value_enum, requires = "versus_url", help_heading = "Target")]
    pub versus_protocol: Option<Kind>,
    /// For wss and https: trust the authorities in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", help_heading = "Target")]
    pub ca: Option<PathBuf>,
    /// For wss and https: trust anyone
    #[arg(long, help_heading = "Target")]
    pub insecure: bool,
    /// Command for sh that starts the server under test; all that it starts is stopped at the end
    #[arg(long, value_name = "COMMAND", requires = "url", help_heading = "Target")]
    pub spawn: Option<String>,
    /// Cores for servers that are started here, such as 0 or 0,1
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = "Target")]
    pub server_core: Vec<usize>,
    /// Processes of the server, for its accounts, with all that they start, such as 17 or 17,18. By itself: whatever listens on
    /// the port of the first --url if that is on loopback, and what --spawn started
    #[arg(long, value_name = "PIDS", value_delimiter = ',', help_heading = "Target")]
    pub pid: Vec<u32>,
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
    /// Subscribers of the second server ask for permessage-deflate
    #[arg(long, requires = "versus_url", help_heading = "Target")]
    pub versus_compression: bool,
    /// Options of the bare server.
    #[command(flatten, next_help_heading = "Target")]
    pub bare: BareOptions,

    /// Connections to each server; canaries in `hostile`
    #[arg(long, short = 'n', alias = "canaries", default_value_t = 1000, help_heading = "Load")]
    pub connections: usize,
    /// Source addresses A-B,C; by itself, on loopback 59 from 127.0.0.2 on, and more beyond a third of their ports
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
    /// Bytes a second that those read instead of never: 2KiB
    #[arg(long, default_value = "0", value_parser = byte_rate, help_heading = "Load")]
    pub read_rate: u64,

    /// Who publishes: http (tidegate's admin API, or --publish-url), ws (a client whose messages the server relays),
    /// none (the feed has its own source), or 'command:COMMAND' (started once by sh, gets each message as a line)
    #[arg(long, default_value = "http", value_name = "HOW", value_parser = publish_by, help_heading = "Publishing")]
    pub publish: PublishBy,
    /// For --publish http: POST each message as it is to this URL
    #[arg(long, value_name = "URL", help_heading = "Publishing")]
    pub publish_url: Option<Url>,
    /// Admin URL of the server, for --publish http
    #[arg(long, default_value = "http://127.0.0.1:8090", help_heading = "Publishing")]
    pub admin: Url,
    /// Channel to publish to; the last segment of --url by itself
    #[arg(long, help_heading = "Publishing")]
    pub channel: Option<String>,
    /// How several messages are put into HTTP requests
    #[arg(long, value_enum, default_value = "auto", help_heading = "Publishing")]
    pub http_mode: HttpMode,
    /// What messages look like
    #[arg(long, value_enum, default_value = "letters", help_heading = "Publishing")]
    pub payload: Form,
    /// Send text instead of binary messages; always so where subscribers of either server speak tidegate.v1 or read events
    #[arg(long, help_heading = "Publishing")]
    pub text: bool,
    /// Give each message one of so many keys, k0, k1 and so on; 0: none
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000), help_heading = "Publishing")]
    pub keys: u32,
    /// How they follow each other
    #[arg(long, value_enum, default_value = "turns", help_heading = "Publishing")]
    pub key_order: KeyOrder,
    /// Keys of the second server's messages, instead of as many
    #[arg(long, requires = "versus_url", help_heading = "Publishing")]
    pub versus_keys: Option<u32>,

    /// Do not fail for lost, duplicated, reordered or corrupted messages or closed connections
    #[arg(long, help_heading = "Outcome")]
    pub allow_loss: bool,
    /// Fail if the median ratio to the last series (the limit, the second server, the run without) is above this
    #[arg(long, value_name = "RATIO", help_heading = "Outcome")]
    pub ratio_max: Option<f64>,
    /// Fail unless this holds of the first series: 'p99<20ms', 'loss==0', 'cpu_per_delivery<1.1*limit'. May be
    /// repeated. Figures: p50 to p99.99, max, mean, rate, cpu_per_delivery, cpu_per_connection, user_per_unit, loss,
    /// duplicates, reordered, corrupted, closed, missing, connections, generator_cores, rss_per_connection,
    /// wire_per_delivery, compressed, any fact.
    /// Units: us ms s B KiB MiB /s %, or a factor of the same figure of limit or versus
    #[arg(long, value_name = "EXPR", value_parser = Assertion::parse, help_heading = "Outcome")]
    pub assert: Vec<Assertion>,
    /// Write the latencies of each round to this file, as a standard HdrHistogram log
    #[arg(long, value_name = "FILE", help_heading = "Outcome")]
    pub hdr: Option<PathBuf>,
    /// Write a page with tables and curves to this file
    #[arg(long, value_name = "FILE", help_heading = "Outcome")]
    pub html: Option<PathBuf>,
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

impl Common {
    /// What subscribers of the first server and of the second speak.
    pub fn kinds(&self) -> (Kind, Kind) {
        let kind = if self.sse { Kind::Sse } else { self.protocol };
        (kind, self.versus_protocol.unwrap_or(kind))
    }
}

impl Scenario {
    /// What can be measured in it, as far as that is known before it runs.
    pub fn gives(&self) -> Gives {
        let usual =
            Gives { has_rounds: true, has_memory: true, unit: "delivery", sets_servers_side_by_side: true };
        match self {
            Self::Connect(_) => Gives { unit: "connection", has_memory: false, ..usual },
            Self::Idle(_) | Self::Hold(_) => Gives { has_rounds: false, unit: "connection", ..usual },
            Self::Storm(_) | Self::Resume(_) => Gives { unit: "reconnection", has_memory: false, ..usual },
            Self::Snapshot(_) => Gives { unit: "join", has_memory: false, ..usual },
            Self::Slow(_) => Gives { sets_servers_side_by_side: false, ..usual },
            _ => usual,
        }
    }

    /// Bytes of a message, where messages are published.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Self::Fanout(options) => options.size,
            Self::Latency(options) => options.size,
            Self::Slow(options) => options.size,
            Self::Hold(options) => options.size,
            Self::Churn(options) => options.size,
            Self::Storm(options) => options.size,
            Self::Snapshot(options) => options.size,
            Self::Resume(options) => options.size,
            Self::Soak(options) => options.size,
            Self::Hostile(options) => options.size,
            Self::Connect(_) | Self::Idle(_) | Self::BareServer(_) => return None,
        })
    }

    /// The options that all have; the bare server has none.
    pub fn common(&self) -> Option<&Common> {
        Some(match self {
            Self::Connect(options) => &options.common,
            Self::Idle(options) => &options.common,
            Self::Fanout(options) => &options.common,
            Self::Latency(options) => &options.common,
            Self::Slow(options) => &options.common,
            Self::Hold(options) => &options.common,
            Self::Churn(options) => &options.common,
            Self::Storm(options) => &options.common,
            Self::Snapshot(options) => &options.common,
            Self::Resume(options) => &options.common,
            Self::Soak(options) => &options.common,
            Self::Hostile(options) => &options.common,
            Self::BareServer(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
