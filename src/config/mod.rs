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
mod memory;
pub mod options;
mod relations;
pub mod report;
pub mod settings;
pub mod source;
pub mod units;
pub mod value;

pub use channel::{ChannelRule, ChannelRules, ChannelSettings, KeySource, LagPolicy, MessageType, Retain};
pub use load::{Inputs, Loaded, load};
pub use memory::{MachineMemory, MemoryOrigin};
pub use source::{ConfigError, Source};

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::{AllowedOrigin, ChannelName, Network, ServedHost, Subprotocol};

/// How log records are written to standard error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One human-readable line a record.
    Text,
    /// One JSON object a line.
    Json,
}

/// The header in which trusted proxies say who a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
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
    /// Most of them that wait for a complete request head; 0: a tenth, at least [`limits::PENDING_MIN`] a shard.
    pub max_pending: usize,
    /// Length of the kernel's accept queue per listener.
    pub backlog: u32,
    /// Most connections taken per turn and shard.
    pub accepts_per_turn: usize,
    /// New connections of the process in a second, in the long run; 0: no limit.
    pub connect_rate: usize,
    /// From accept to complete request head.
    pub handshake_timeout: Duration,
    /// Networks of proxies that are believed who their clients are; may be empty.
    pub trusted_proxies: Vec<Network>,
    /// Where they say it.
    pub forwarded_header: ForwardedHeader,
    /// Every connection begins with a PROXY header, and comes from a trusted proxy.
    pub proxy_protocol: bool,
    /// Most connections of one address; 0: no limit.
    pub max_per_address: usize,
    /// New connections of one address in a second, in the long run; 0: no limit.
    pub connect_rate_per_address: usize,
    /// Loopback addresses are limited like others.
    pub limit_loopback: bool,
    /// Silence after which a ping is sent; a random phase of 20 % is applied.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub pong_timeout: Duration,
    /// Time without any application message in either direction that ends a connection; zero: never.
    pub idle_timeout: Duration,
    /// Largest message a client may send, in bytes.
    pub max_message: usize,
    /// Bytes that the process may account for; 0: no budget, as where nobody knows how much there is.
    pub memory: u64,
    /// Because of what it is as much.
    pub memory_origin: MemoryOrigin,
    /// Web pages that may open a WebSocket; none: those that come from the host that they ask.
    pub allow_origin: Vec<AllowedOrigin>,
    /// Hosts that are served on the client listeners; none: any.
    pub allow_host: Vec<ServedHost>,
    /// Subprotocols that are agreed to when a client offers them.
    pub subprotocols: Vec<Subprotocol>,
    /// Messages a second that a client may send, twice as many at once; zero: any number.
    pub client_rate: u64,
    /// Patterns that one client may subscribe to; 0: none.
    pub max_patterns: usize,
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
    /// Whether connections of `address` are limited: not those of trusted proxies, which speak for many, nor, unless
    /// `--limit-loopback` says so, of loopback, where a proxy is the usual caller.
    pub fn limits(&self, address: IpAddr) -> bool {
        (self.limit_loopback || !address.to_canonical().is_loopback()) && !self.trusts(address)
    }

    /// Whether `address` is that of a proxy that is believed who its clients are. Linear in the networks.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }

    /// Connections without a complete request head that a shard may hold, of `connections_max` in the whole process.
    pub fn pending_max(&self, connections_max: usize) -> usize {
        let (whole, least) = match self.max_pending {
            0 => (connections_max / limits::PENDING_DIVISOR, limits::PENDING_MIN),
            most => (most, 1),
        };
        whole.div_ceil(self.shards.max(1)).max(least)
    }

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
            max_pending: 0,
            backlog: 4096,
            accepts_per_turn: 64,
            connect_rate: 0,
            handshake_timeout: Duration::from_secs(10),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::XForwardedFor,
            proxy_protocol: false,
            max_per_address: 256,
            connect_rate_per_address: 20,
            limit_loopback: false,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            idle_timeout: Duration::ZERO,
            max_message: 64 * 1024,
            memory: 0,
            memory_origin: MemoryOrigin::Given,
            allow_origin: Vec::new(),
            allow_host: Vec::new(),
            subprotocols: Vec::new(),
            client_rate: 50,
            max_patterns: 16,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c4_all_are_limited_but_trusted_proxies_and_unless_asked_for_loopback() {
        let trusted_proxies =
            vec![Network::parse("10.0.0.0/8").unwrap(), Network::parse("127.0.0.2").unwrap()];
        let config = Config { trusted_proxies, ..Config::default() };
        let asked = Config { limit_loopback: true, ..config.clone() };
        for (address, by_default, if_asked) in [
            ("192.0.2.1", true, true),
            ("2001:db8::1", true, true),
            ("10.1.2.3", false, false),
            ("::ffff:10.1.2.3", false, false),
            ("127.0.0.1", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("127.0.0.2", false, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!((config.limits(address), asked.limits(address)), (by_default, if_asked), "{address}");
        }
    }

    #[test]
    fn a23_a_tenth_of_the_connections_may_be_pending_and_each_shard_has_its_share() {
        let of = |shards, max_pending, connections_max| {
            Config { shards, max_pending, ..Config::default() }.pending_max(connections_max)
        };
        assert_eq!(of(1, 0, 20_000), 2000);
        assert_eq!(of(4, 0, 20_000), 500);
        assert_eq!((of(1, 0, 100), of(2, 0, 100)), (64, 64), "the least, for each shard");
        assert_eq!((of(1, 10, 20_000), of(4, 10, 20_000), of(4, 1, 20_000)), (10, 3, 1));
    }
}
