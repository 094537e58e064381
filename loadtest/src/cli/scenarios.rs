//! The options of each scenario.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Common;
use super::values::{duration, message_size, round_count, round_length};

/// How rounds alternate.
#[derive(Args, Clone, Debug)]
pub struct RoundOptions {
    /// Rounds for each server
    #[arg(long, default_value_t = 8, value_parser = round_count)]
    pub rounds: usize,
    /// Length of a round
    #[arg(long, default_value = "3s", value_parser = round_length)]
    pub round_seconds: Duration,
}

/// Options of `connect`.
#[derive(Args, Clone, Debug)]
pub struct ConnectOptions {
    #[command(flatten)]
    pub common: Common,
    /// Rounds for each server; each opens and closes all connections
    #[arg(long, default_value_t = 8, value_parser = round_count)]
    pub rounds: usize,
    /// Connections a second; without, as fast as it goes
    #[arg(long)]
    pub rate: Option<f64>,
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
    /// Open loop at so many messages a second; without, a closed loop
    #[arg(long)]
    pub rate: Option<f64>,
    /// Messages published together, and in the closed loop outstanding
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub window: u16,
    /// Bytes of a message
    #[arg(long, default_value = "512", value_parser = message_size)]
    pub size: usize,
    /// KiB published before a round with stalled connections, so that their buffers are full
    #[arg(long, default_value_t = 1024)]
    pub prefill: usize,
    /// Time over which stalled connections come, in equal shares; --prefill is published after each, to all that are
    /// there. 0: all at once
    #[arg(long, default_value = "0s", value_parser = duration)]
    pub stall_over: Duration,
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

/// Options of `churn`.
#[derive(Args, Clone, Debug)]
pub struct ChurnOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub rounds: RoundOptions,
    /// Subscribers that leave a second, and others that join
    #[arg(long, default_value_t = 100.0)]
    pub churn: f64,
    /// Messages per second
    #[arg(long, default_value_t = 5.0)]
    pub rate: f64,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
}

/// Options of `storm`.
#[derive(Args, Clone, Debug)]
pub struct StormOptions {
    #[command(flatten)]
    pub common: Common,
    /// Storms for each server
    #[arg(long, default_value_t = 5, value_parser = round_count)]
    pub rounds: usize,
    /// Messages per second meanwhile
    #[arg(long, default_value_t = 5.0)]
    pub rate: f64,
    /// Handshakes under way at once
    #[arg(long, default_value_t = 2048)]
    pub at_once: usize,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
}

/// Options of `snapshot`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotOptions {
    #[command(flatten)]
    pub common: Common,
    /// Rounds for each server; in each all join, and leave
    #[arg(long, default_value_t = 3, value_parser = round_count)]
    pub rounds: usize,
    /// Joins under way at once
    #[arg(long, default_value_t = 256)]
    pub at_once: usize,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
    /// Say how much this counter of /metrics has grown by the joins; may be repeated
    #[arg(long, value_name = "NAME")]
    pub counter: Vec<String>,
}

/// Options of `resume`.
#[derive(Args, Clone, Debug)]
pub struct ResumeOptions {
    #[command(flatten)]
    pub common: Common,
    /// Storms for each server
    #[arg(long, default_value_t = 3, value_parser = round_count)]
    pub rounds: usize,
    /// Messages that are published while nobody is there
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=16_000))]
    pub messages: u32,
    /// Handshakes under way at once
    #[arg(long, default_value_t = 2048)]
    pub at_once: usize,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
    /// Say how much this counter of /metrics has grown by the storms; may be repeated
    #[arg(long, value_name = "NAME")]
    pub counter: Vec<String>,
}

/// Options of `soak`.
#[derive(Args, Clone, Debug)]
pub struct SoakOptions {
    #[command(flatten)]
    pub common: Common,
    /// Time of the whole run, to which --timeout is raised if it is shorter
    #[arg(long = "for", default_value = "1h", value_parser = duration)]
    pub length: Duration,
    /// Length of a round: churn under load, then a storm of a tenth, then a look at the server's memory
    #[arg(long, default_value = "30s", value_parser = round_length)]
    pub round_seconds: Duration,
    /// Subscribers that leave a second, and others that join
    #[arg(long, default_value_t = 50.0)]
    pub churn: f64,
    /// Messages per second
    #[arg(long, default_value_t = 5.0)]
    pub rate: f64,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
}

/// What hostile connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostileKind {
    /// One message in 130,000 fragments of a byte, on each of 10 connections
    Fragments,
    /// A frame that announces 2^63 + 1 bytes, on each of 10,000 connections
    Lengths,
    /// 15,000 sockets that say nothing, and 5,000 request heads at a byte a second
    Silent,
    /// The server's descriptors run out, 500 clients wait, then there are some again
    Descriptors,
    /// 20,000 clients that ask from a page of another host, each refused once its head is there
    Foreign,
    /// 20,000 clients that ask for an upgrade: for a server that is full without them
    Crowd,
}

/// Options of `hostile`.
#[derive(Args, Clone, Debug)]
pub struct HostileOptions {
    /// What the hostile connections do
    #[arg(value_enum)]
    pub kind: HostileKind,
    #[command(flatten)]
    pub common: Common,
    /// Hostile connections, instead of as many as the kind has; of `silent` a quarter dribbles
    #[arg(long)]
    pub attackers: Option<usize>,
    /// Hostile connections that come a second; more may be more than this tool can open beside its canaries
    #[arg(long, default_value_t = 5000.0)]
    pub open_rate: f64,
    /// Fragments of a message
    #[arg(long, default_value_t = 130_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub fragments: u32,
    /// Longest time of the attack: it is over when all hostile connections are
    #[arg(long = "for", default_value = "15s", value_parser = round_length)]
    pub length: Duration,
    /// Length of the quiet rounds before and after
    #[arg(long, default_value = "3s", value_parser = round_length)]
    pub quiet_seconds: Duration,
    /// Further canaries that join during the attack, a second
    #[arg(long, default_value_t = 20.0)]
    pub joins: f64,
    /// Messages per second
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// Bytes of a message
    #[arg(long, default_value = "128", value_parser = message_size)]
    pub size: usize,
}
