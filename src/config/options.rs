//! The one definition of every option: name, group, kind, default, help.
//!
//! The command line, the environment, the TOML file, `--help`, `check` and the reference page are all made from
//! `OPTIONS`. To add an option: a `Key`, a row here in the same place, a field in `Config`, a line in
//! `settings.rs`. What a value may be is in `value.rs`, how sources are merged in `load.rs`.

use super::limits;
use super::source::Source;
use super::value::{Kind, Value, Zero};

/// Names an option; its number is the row of [`OPTIONS`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[expect(missing_docs, reason = "the rows of the table describe them")]
pub enum Key {
    Listen,
    AdminListen,
    DefaultChannel,
    Shards,
    PinShards,
    PrivateFds,
    MaxConnections,
    MaxPending,
    Backlog,
    AcceptsPerTurn,
    ConnectRate,
    HandshakeTimeout,
    MaxMessage,
    Memory,
    AllowOrigin,
    AllowHost,
    Subprotocol,
    TrustedProxy,
    ForwardedHeader,
    ProxyProtocol,
    MaxPerAddress,
    ConnectRatePerAddress,
    LimitLoopback,
    ClientRate,
    MaxPatterns,
    PingInterval,
    PongTimeout,
    IdleTimeout,
    SendBuffer,
    ReceiveBuffer,
    NotsentLowat,
    UserTimeout,
    Relay,
    HistoryMessages,
    HistoryBytes,
    HistoryAge,
    OnLag,
    MaxLagBytes,
    MaxLagAge,
    Compression,
    CompressionLevel,
    CompressionMinSize,
    CompressionEpoch,
    MessageType,
    ConflateEnter,
    ConflateLeave,
    Retain,
    KeysPerChannel,
    KeySource,
    Ttl,
    Occupancy,
    WriteBudget,
    BatchWindow,
    DrainGrace,
    DrainSpread,
    LogLevel,
    LogFormat,
    Config,
}

/// The task an option belongs to: a heading of the help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the titles describe them")]
pub enum Group {
    Listening,
    Shards,
    Connections,
    Liveness,
    Sockets,
    Channels,
    FanOut,
    Draining,
    Logging,
    General,
}

impl Group {
    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Shards => "Shards",
            Self::Connections => "Connections",
            Self::Liveness => "Liveness",
            Self::Sockets => "Sockets",
            Self::Channels => "Channels (a file sets these per pattern as well)",
            Self::FanOut => "Fan-out",
            Self::Draining => "Draining",
            Self::Logging => "Logging",
            Self::General => "General",
        }
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its key.
    pub key: Key,
    /// The flag without dashes: `ping-interval`.
    pub name: &'static str,
    /// Where the help lists it.
    pub group: Group,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nobody says anything, in the spelling of flags; empty: nothing.
    pub default: &'static str,
    /// What it does; begins with a capital, ends without a full stop.
    pub help: &'static str,
    /// What it may be in a `[[channel]]` table, if it may stand there.
    pub per_channel: Option<Kind>,
}

impl Definition {
    const fn new(
        key: Key,
        name: &'static str,
        group: Group,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { key, name, group, kind, default, help, per_channel: None }
    }

    const fn per_channel(self) -> Self {
        let kind = if matches!(self.kind, Kind::Patterns) { Kind::Switch } else { self.kind };
        Self { per_channel: Some(kind), ..self }
    }

    /// The flag as it is typed: `--ping-interval`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// The variable: `TIDEGATE_PING_INTERVAL`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.replace('-', "_").to_ascii_uppercase())
    }

    /// The TOML key: `ping_interval`.
    pub fn toml_key(&self) -> String {
        self.name.replace('-', "_")
    }

    /// Whether the file may set it: all but the file's own name.
    pub fn is_in_file(&self) -> bool {
        self.key != Key::Config
    }

    /// A value of this option as TOML has it.
    pub fn to_toml(&self, value: &Value) -> String {
        match (self.kind, value) {
            (Kind::Count { zero: Zero::Auto(_), .. }, Value::Count(0))
            | (Kind::Size { zero: Zero::Auto(_), .. }, Value::Size(0)) => "\"auto\"".to_owned(),
            _ => value.to_toml(),
        }
    }

    /// The default as a value.
    pub fn default_value(&self) -> Value {
        self.kind
            .parse(self.default)
            .unwrap_or_else(|refusal| panic!("{}", refusal.at(&Source::Default, self.name)))
    }
}

impl Key {
    /// The option's row.
    pub const fn definition(self) -> &'static Definition {
        &OPTIONS[self as usize]
    }
}

/// What every variable begins with.
pub const VARIABLE_PREFIX: &str = "TIDEGATE_";

const fn duration(zero: Zero) -> Kind {
    Kind::Duration { zero, max: limits::DURATION_MAX }
}

const fn count(max: u64) -> Kind {
    Kind::Count { zero: Zero::Refused, max }
}

const fn journal_size() -> Kind {
    Kind::Size { zero: Zero::Means("nothing"), max: limits::JOURNAL_BYTES_MAX }
}

const fn socket_size(zero: &'static str) -> Kind {
    Kind::Size { zero: Zero::Means(zero), max: limits::SOCKET_BUFFER_BYTES_MAX }
}

/// Every option, in the order of the help and of [`Key`].
#[rustfmt::skip]
pub const OPTIONS: &[Definition] = {
    use {Group as G, Key as K, Zero::*};
    const SHARDS: Kind = Kind::Count { zero: Auto("one per core"), max: limits::SHARDS_MAX as u64 };
    const CONNECTIONS: Kind = Kind::Count { zero: Auto("as many as descriptors allow"), max: limits::CONNECTIONS_MAX };
    const PENDING: Kind = Kind::Count { zero: Auto("a tenth of the connections"), max: limits::CONNECTIONS_MAX };
    const PATTERNS: Kind = Kind::Count { zero: Means("none"), max: limits::PATTERNS_PER_CONNECTION_MAX as u64 };
const CLIENT_RATE: Kind = Kind::Count { zero: Means("any number"), max: limits::CLIENT_RATE_MAX };
    const MESSAGE: Kind = Kind::Size { zero: Refused, max: limits::MESSAGE_BYTES_MAX };
    const MEMORY: Kind = Kind::Size { zero: Auto("75% of what there is"), max: limits::MEMORY_BYTES_MAX };
    const USER_TIMEOUT: Kind = Kind::Duration { zero: Means("off"), max: limits::USER_TIMEOUT_MAX };
    const HISTORY: Kind = Kind::Count { zero: Means("none"), max: limits::HISTORY_MESSAGES_MAX };
    const BATCH: Kind = Kind::Duration { zero: Means("natural batching"), max: limits::BATCH_WINDOW_MAX };
    const PER_ADDRESS: Kind = Kind::Count { zero: Means("off"), max: limits::PER_ADDRESS_MAX };
    const CONNECT_RATE: Kind = Kind::Count { zero: Means("off"), max: limits::CONNECT_RATE_MAX };
    const FORWARDED: Kind = Kind::Choice(&["x-forwarded-for", "forwarded"]);
    const ON_LAG: Kind = Kind::Choice(&["disconnect", "skip", "conflate"]);
    const CONFLATE: Kind = Kind::Size { zero: Refused, max: limits::JOURNAL_BYTES_MAX };
    const RETAIN: Kind = Kind::Choice(&["window", "latest-per-key"]);
    const DEFLATE_FROM: Kind = Kind::Size { zero: Means("every message"), max: limits::PUBLISH_BYTES_MAX as u64 };
    &[
        Definition::new(K::Listen, "listen", G::Listening, Kind::Addresses, "0.0.0.0:8080",
            "Where clients connect; repeatable"),
        Definition::new(K::AdminListen, "admin-listen", G::Listening, Kind::Address, "127.0.0.1:8090",
            "Where publishing, metrics and health are served; keep it private"),
        Definition::new(K::DefaultChannel, "default-channel", G::Listening, Kind::Channel, "lobby",
            "The channel that a WebSocket to / joins"),
        Definition::new(K::Shards, "shards", G::Shards, SHARDS, "auto",
            "Threads that serve clients; auto: one per core"),
        Definition::new(K::PinShards, "pin-shards", G::Shards, Kind::Switch, "false",
            "Keep each shard on a core of its own"),
        Definition::new(K::PrivateFds, "private-fds", G::Shards, Kind::Switch, "false",
            "Give each shard its own descriptor table, so that the descriptor limit holds per shard"),
        Definition::new(K::MaxConnections, "max-connections", G::Connections, CONNECTIONS, "auto",
            "Most clients at a time; auto: as many as descriptors allow"),
        Definition::new(K::MaxPending, "max-pending", G::Connections, PENDING, "auto",
            "Most of them without a complete request head; auto: a tenth, at least 64 a shard"),
        Definition::new(K::Backlog, "backlog", G::Connections, count(limits::BACKLOG_MAX), "4096",
            "Connections the kernel holds until they are accepted"),
        Definition::new(K::AcceptsPerTurn, "accepts-per-turn", G::Connections, count(limits::ACCEPTS_PER_TURN_MAX), "64",
            "Connections a shard accepts before it does other work"),
        Definition::new(K::ConnectRate, "connect-rate", G::Connections, CONNECT_RATE, "0",
            "New clients a second, as many at once; 0: off"),
        Definition::new(K::HandshakeTimeout, "handshake-timeout", G::Connections, duration(Refused), "10s",
            "From accept to the complete request head; as long again for joining channels"),
        Definition::new(K::MaxMessage, "max-message", G::Connections, MESSAGE, "64KiB",
            "Largest message a client may send"),
        Definition::new(K::Memory, "memory", G::Connections, MEMORY, "auto",
            "Memory that the process may hold; auto: 75% of what the machine or its control group has"),
        Definition::new(K::AllowOrigin, "allow-origin", G::Connections, Kind::Origins, "",
            "Web pages that may connect, as in https://app.example.com; repeatable; none: those of the gateway's own host"),
        Definition::new(K::AllowHost, "allow-host", G::Connections, Kind::Hosts, "",
            "Hosts that are served to clients, as in live.example.com; repeatable; none: any"),
        Definition::new(K::Subprotocol, "subprotocol", G::Connections, Kind::Subprotocols, "",
            "Subprotocols that are agreed to; repeatable"),
        Definition::new(K::TrustedProxy, "trusted-proxy", G::Connections, Kind::Networks, "",
            "Networks of proxies that are believed who their clients are, as in 10.0.0.0/8; repeatable"),
        Definition::new(K::ForwardedHeader, "forwarded-header", G::Connections, FORWARDED, "x-forwarded-for",
            "The header in which they say it"),
        Definition::new(K::ProxyProtocol, "proxy-protocol", G::Connections, Kind::Switch, "false",
            "Expect a PROXY header, version 1 or 2, before each connection, and take none but from trusted proxies"),
        Definition::new(K::MaxPerAddress, "max-per-address", G::Connections, PER_ADDRESS, "256",
            "Most clients of one address, or of a /64 of IPv6, trusted proxies and loopback aside; 0: off"),
        Definition::new(K::ConnectRatePerAddress, "connect-rate-per-address", G::Connections, PER_ADDRESS, "20",
            "New ones of them in a second, three times as many at once; 0: off"),
        Definition::new(K::LimitLoopback, "limit-loopback", G::Connections, Kind::Switch, "false",
            "Limit loopback addresses like others"),
        Definition::new(K::ClientRate, "client-rate", G::Connections, CLIENT_RATE, "50",
            "Messages a second that a client may send, twice as many at once; 0: any number"),
        Definition::new(K::MaxPatterns, "max-patterns", G::Connections, PATTERNS, "16",
            "Patterns such as news.* that one client may subscribe to; 0: none"),
        Definition::new(K::PingInterval, "ping-interval", G::Liveness, duration(Refused), "25s",
            "Silence after which a client is pinged"),
        Definition::new(K::PongTimeout, "pong-timeout", G::Liveness, duration(Refused), "10s",
            "Silence after a ping that ends the connection"),
        Definition::new(K::IdleTimeout, "idle-timeout", G::Liveness, duration(Means("never")), "0s",
            "Time without any message that ends a connection; 0: never"),
        Definition::new(K::SendBuffer, "send-buffer", G::Sockets, socket_size("the kernel's choice"), "64KiB",
            "SO_SNDBUF; 0: the kernel decides"),
        Definition::new(K::ReceiveBuffer, "receive-buffer", G::Sockets, socket_size("the kernel's choice"), "16KiB",
            "SO_RCVBUF; 0: the kernel decides"),
        Definition::new(K::NotsentLowat, "notsent-lowat", G::Sockets, socket_size("off"), "16KiB",
            "TCP_NOTSENT_LOWAT: unsent bytes that a socket takes; 0: off"),
        Definition::new(K::UserTimeout, "user-timeout", G::Sockets, USER_TIMEOUT, "20s",
            "TCP_USER_TIMEOUT: unacknowledged bytes end a connection; 0: off"),
        Definition::new(K::Relay, "relay", G::Channels, Kind::Patterns, "",
            "Channels where what a client sends goes to the others; repeatable").per_channel(),
        Definition::new(K::HistoryMessages, "history-messages", G::Channels, HISTORY, "0",
            "Messages kept for those who come later; 0: none").per_channel(),
        Definition::new(K::HistoryBytes, "history-bytes", G::Channels, journal_size(), "1MiB",
            "Most bytes of them").per_channel(),
        Definition::new(K::HistoryAge, "history-age", G::Channels, duration(Refused), "1m",
            "Oldest of them").per_channel(),
        Definition::new(K::OnLag, "on-lag", G::Channels, ON_LAG, "disconnect",
            "What happens to a client too far behind: close it with 4101, skip what it missed, or give it the newest of each key").per_channel(),
        Definition::new(K::MaxLagBytes, "max-lag-bytes", G::Channels, Kind::Size { zero: Refused, max: limits::JOURNAL_BYTES_MAX }, "1MiB",
            "Most bytes a client may be behind").per_channel(),
        Definition::new(K::MaxLagAge, "max-lag-age", G::Channels, duration(Refused), "10s",
            "Longest time a client may be behind").per_channel(),
        Definition::new(K::Compression, "compression", G::Channels, Kind::Choice(&["off", "on"]), "off",
            "Deflate messages, once for all clients that offer permessage-deflate").per_channel(),
        Definition::new(K::CompressionLevel, "compression-level", G::Channels, count(limits::COMPRESSION_LEVEL_MAX), "1",
            "How hard to try: 1 is fastest, 9 smallest").per_channel(),
        Definition::new(K::CompressionMinSize, "compression-min-size", G::Channels, DEFLATE_FROM, "32B",
            "Smallest message that is deflated; 0: every message").per_channel(),
        Definition::new(K::CompressionEpoch, "compression-epoch", G::Channels, count(limits::COMPRESSION_EPOCH_MAX), "64",
            "Deflated messages after which the compressor starts afresh, and who joined meanwhile gets them").per_channel(),
        Definition::new(K::MessageType, "message-type", G::Channels, Kind::Choice(&["any", "text", "binary"]), "any",
            "What may be sent and published there: text, binary, or any").per_channel(),
        Definition::new(K::ConflateEnter, "conflate-enter", G::Channels, CONFLATE, "64KiB",
            "Bytes behind at which a client gets only the newest of each key, where on-lag is conflate").per_channel(),
        Definition::new(K::ConflateLeave, "conflate-leave", G::Channels, CONFLATE, "4KiB",
            "Bytes behind at which it gets everything again").per_channel(),
        Definition::new(K::Retain, "retain", G::Channels, RETAIN, "window",
            "What is kept for those who come later: the history alone, or the newest message of each key as well").per_channel(),
        Definition::new(K::KeysPerChannel, "keys-per-channel", G::Channels, count(limits::KEYS_PER_CHANNEL_MAX), "10000",
            "Most keys whose newest message is kept").per_channel(),
        Definition::new(K::KeySource, "key", G::Channels, Kind::KeySource, "",
            "Where in a JSON payload its key stands if its publisher gives none, as in json:/symbol").per_channel(),
        Definition::new(K::Ttl, "ttl", G::Channels, duration(Means("never")), "0s",
            "Age at which messages whose publisher says nothing else expire; 0: never").per_channel(),
        Definition::new(K::Occupancy, "occupancy", G::Channels, Kind::Choice(&["off", "on"]), "off",
            "Publish how many subscribe, to $occupancy.NAME, at most once a second").per_channel(),
        Definition::new(K::WriteBudget, "write-budget", G::FanOut, count(limits::WRITE_BUDGET_MAX), "256",
            "Writes in a row before accepts, reads and timers get their turn"),
        Definition::new(K::BatchWindow, "batch-window", G::FanOut, BATCH, "0s",
            "Time a channel waits for more before it is sent; 0: natural batching"),
        Definition::new(K::DrainGrace, "drain-grace", G::Draining, duration(Means("at once")), "10s",
            "From the stop signal to the first close"),
        Definition::new(K::DrainSpread, "drain-spread", G::Draining, duration(Means("all at once")), "1m50s",
            "The time over which the closes are spread"),
        Definition::new(K::LogLevel, "log-level", G::Logging, Kind::Filter, "info",
            "off, error, warn, info, debug, trace, or target=level pairs"),
        Definition::new(K::LogFormat, "log-format", G::Logging, Kind::Choice(&["text", "json"]), "text",
            "How records are written to standard error"),
        Definition::new(K::Config, "config", G::General, Kind::File, "",
            "TOML file with any of these options"),
    ]
};

/// The definition whose TOML key is `key`. Linear in the options.
pub fn by_toml_key(key: &str) -> Option<&'static Definition> {
    OPTIONS.iter().filter(|option| option.is_in_file()).find(|option| option.toml_key() == key)
}

/// The definition whose variable is `variable`. Linear in the options.
pub fn by_variable(variable: &str) -> Option<&'static Definition> {
    OPTIONS.iter().find(|option| option.variable() == variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_their_keys_and_defaults_are_valid() {
        for (row, option) in OPTIONS.iter().enumerate() {
            assert_eq!(option.key as usize, row, "{}", option.name);
            option.default_value();
            assert!(!option.help.ends_with('.'), "{}", option.name);
        }
        assert_eq!(OPTIONS.len(), Key::Config as usize + 1);
    }

    #[test]
    fn one_name_gives_flag_variable_and_key() {
        let option = Key::PingInterval.definition();
        assert_eq!(
            (option.flag(), option.variable(), option.toml_key()),
            ("--ping-interval".into(), "TIDEGATE_PING_INTERVAL".into(), "ping_interval".into())
        );
    }

    #[test]
    fn compression_has_the_levels_of_zlib_and_epochs_of_at_least_one_message() {
        let takes = |key: Key, text: &str| key.definition().kind.parse(text).is_ok();
        let numbers = ["0", "1", "9", "10", "65536", "65537"];
        assert_eq!(
            numbers.map(|text| takes(Key::CompressionLevel, text)),
            [false, true, true, false, false, false]
        );
        assert_eq!(
            numbers.map(|text| takes(Key::CompressionEpoch, text)),
            [false, true, true, true, true, false]
        );
        let sizes = ["0", "1B", "1MiB", "1048577B"];
        assert_eq!(sizes.map(|text| takes(Key::CompressionMinSize, text)), [true, true, true, false]);
    }

    #[test]
    fn options_of_a_group_stand_together() {
        let mut groups: Vec<Group> = OPTIONS.iter().map(|option| option.group).collect();
        groups.dedup();
        let titles: std::collections::BTreeSet<_> = groups.iter().map(|group| group.title()).collect();
        assert_eq!(titles.len(), groups.len());
    }
}
