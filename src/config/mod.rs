//! What the operator asked for, validated: the one `Config` that every other module reads.
//!
//! `options.rs` is the single definition of every option (flag, variable, TOML key, unit, default, help);
//! `load.rs` merges flags over variables over file over defaults; `limits.rs` names every maximum, `relations.rs` what
//! must not stand together. Whatever is wrong is refused before anything is bound, with one line that names source,
//! key and fix. Read next: `options.rs`, `load.rs`.

pub mod channel;
pub mod file;
pub mod limits;
pub mod load;
pub mod options;
mod relations;
pub mod report;
pub mod settings;
pub mod source;
pub mod units;
pub mod value;

pub use channel::{ChannelRule, ChannelRules, ChannelSettings, LagPolicy, MessageType};
pub use load::{Inputs, Loaded, load};
pub use source::{ConfigError, Source};

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{AllowedOrigin, ChannelName, ServedHost, Subprotocol};

/// How log records are written to standard error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One human-readable line a record.
    Text,
    /// One JSON object a line.
    Json,
}

/// The effective, validated configuration. Durations of zero mean "off" where a field says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Addresses for clients; at least one.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener: publishing, metrics, health.
    pub admin_listen: SocketAddr,
    /// Shard threads, at least 1.
    pub shards: usize,
    /// Pin shard i to core i modulo cores.
    pub pin_shards: bool,
    /// Every shard owns its descriptor table, so that the descriptor limit holds per shard.
    pub private_fds: bool,
    /// The channel that `GET /` with an upgrade joins.
    pub default_channel: ChannelName,
    /// Most client connections of the process; 0: as many as descriptors allow.
    pub max_connections: usize,
    /// Length of the kernel's accept queue per listener.
    pub backlog: u32,
    /// Most connections taken per turn and shard.
    pub accepts_per_turn: usize,
    /// From accept to complete request head.
    pub handshake_timeout: Duration,
    /// Silence after which a ping is sent; a random phase of 20 % is applied.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub pong_timeout: Duration,
    /// Time without any application message in either direction that ends a connection; zero: never.
    pub idle_timeout: Duration,
    /// Largest message a client may send, in bytes.
    pub max_message: usize,
    /// Web pages that may open a WebSocket; none: those that come from the host that they ask.
    pub allow_origin: Vec<AllowedOrigin>,
    /// Hosts that are served on the client listeners; none: any.
    pub allow_host: Vec<ServedHost>,
    /// Subprotocols that are agreed to when a client offers them.
    pub subprotocols: Vec<Subprotocol>,
    /// Messages a second that a client may send, twice as many at once; zero: any number.
    pub client_rate: u64,
    /// SO_SNDBUF in bytes; zero: the kernel decides.
    pub send_buffer: usize,
    /// SO_RCVBUF in bytes; zero: the kernel decides.
    pub receive_buffer: usize,
    /// TCP_NOTSENT_LOWAT in bytes; zero: off.
    pub notsent_lowat: usize,
    /// TCP_USER_TIMEOUT; zero: off.
    pub user_timeout: Duration,
    /// Most socket writes of one flush slice, after which accepts, reads and timers get their turn.
    pub write_budget: usize,
    /// How long a channel waits for more messages before a flush; zero: natural batching.
    pub batch_window: Duration,
    /// From the stop signal to the first close.
    pub drain_grace: Duration,
    /// The closes of a drain are spread over this.
    pub drain_spread: Duration,
    /// Filter for log records, as tracing's EnvFilter reads it: `info`, `tidegate=debug`.
    pub log_level: String,
    /// How records are written.
    pub log_format: LogFormat,
    /// What holds for which channel.
    pub channels: ChannelRules,
    /// Every message of a client goes back to it and nowhere else: the server that a conformance suite asks for. Set by
    /// the hidden `serve --echo` alone.
    pub echo: bool,
}

impl Config {
    /// Clients over the connection limit that a shard may hold at a time: its share of a table's reserve.
    pub fn refused_max(&self) -> usize {
        let shards_of_a_table = if self.private_fds { 1 } else { self.shards.max(1) };
        (limits::REFUSED_MAX / shards_of_a_table).max(1)
    }
}

impl Default for Config {
    /// The values that hold when nothing is said; `options.rs` prints the same, but for `shards`: there it is one a core.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 8080))],
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            shards: 1,
            pin_shards: false,
            private_fds: false,
            default_channel: ChannelName::parse("lobby").expect("a valid literal"),
            max_connections: 0,
            backlog: 4096,
            accepts_per_turn: 64,
            handshake_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            idle_timeout: Duration::ZERO,
            max_message: 64 * 1024,
            allow_origin: Vec::new(),
            allow_host: Vec::new(),
            subprotocols: Vec::new(),
            client_rate: 50,
            send_buffer: 64 * 1024,
            receive_buffer: 16 * 1024,
            notsent_lowat: 16 * 1024,
            user_timeout: Duration::from_secs(20),
            write_budget: 256,
            batch_window: Duration::ZERO,
            drain_grace: Duration::from_secs(10),
            drain_spread: Duration::from_secs(110),
            log_level: "info".to_owned(),
            log_format: LogFormat::Text,
            channels: ChannelRules::default(),
            echo: false,
        }
    }
}
