//! What the control thread asks shards, and what they answer: bounded, whatever is asked for.

use crate::metrics::report::ShardReport;
use crate::model::{ChannelName, ConnectionId, End, Position, ShardId};

/// What the control thread may ask a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Question {
    /// Whether it turns.
    Alive,
    /// Histograms and sizes, for a metrics scrape.
    Report,
    /// Up to `limit` channels homed here, in places from `from_place`.
    Channels {
        /// First place to look at.
        from_place: u32,
        /// Rows at most.
        limit: usize,
    },
    /// One channel, which is homed here.
    Channel(ChannelName),
    /// Up to `limit` connections in slots from `from_slot`.
    Connections {
        /// First slot to look at.
        from_slot: u32,
        /// Rows at most.
        limit: usize,
    },
    /// Up to `limit` of the last connections that ended and requests that were refused.
    Ends {
        /// Rows at most.
        limit: usize,
    },
}

/// What a shard answers.
#[derive(Debug)]
pub enum Answer {
    /// To [`Question::Alive`].
    Alive,
    /// To [`Question::Report`].
    Report(Box<ShardReport>),
    /// To [`Question::Channels`].
    Channels(Page<ChannelRow>),
    /// To [`Question::Channel`]: nothing if there is none of this name.
    Channel(Option<Box<ChannelRow>>),
    /// To [`Question::Connections`].
    Connections(Page<ConnectionRow>),
    /// To [`Question::Ends`]: newest first.
    Ends(Vec<End>),
}

/// Rows of a bounded walk over a shard's places.
#[derive(Debug)]
pub struct Page<T> {
    /// What was found.
    pub rows: Vec<T>,
    /// The place to go on from, if the walk is not over.
    pub next: Option<u32>,
}

/// Called once, on the shard's thread: must not block.
pub type OnAnswer = Box<dyn FnOnce(Answer) + Send>;

/// One channel as its home sees it.
#[derive(Clone, Debug)]
pub struct ChannelRow {
    /// Its name.
    pub channel: ChannelName,
    /// Where the stream stands: the newest message's place, offset 0 before the first.
    pub position: Position,
    /// Subscribers in the whole process.
    pub subscribers: u64,
    /// Messages retained.
    pub retained_messages: u64,
    /// Their encoded bytes.
    pub retained_bytes: u64,
}

/// One connection as its shard sees it.
#[derive(Clone, Debug)]
pub struct ConnectionRow {
    /// Its shard.
    pub shard: ShardId,
    /// Which connection there.
    pub id: ConnectionId,
    /// The client's address, if the kernel still knows it.
    pub peer: Option<std::net::SocketAddr>,
    /// `http`, `open` or `closing`.
    pub state: &'static str,
    /// Channels joined.
    pub channels: u32,
    /// Encoded bytes behind the newest message of its channels.
    pub lag_bytes: u64,
    /// How long ago anything was heard from it.
    pub silent_for_ms: u64,
}
