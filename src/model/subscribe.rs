//! What a client asks for when it subscribes.

use super::channel::ChannelName;
use super::position::Position;

/// One channel that a client wants, and where it wants to begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscribeRequest {
    /// Which channel.
    pub channel: ChannelName,
    /// The last message that it has: it wants those after it.
    pub since: Option<Position>,
    /// It wants the newest message of every key first, unless it is given all since `since`.
    pub wants_snapshot: bool,
    /// Most messages a second that it wants, of each key the newest; 0: all.
    pub rate_max: u16,
}

impl SubscribeRequest {
    /// `channel`, from its next message on.
    pub const fn live(channel: ChannelName) -> Self {
        Self { channel, since: None, wants_snapshot: false, rate_max: 0 }
    }
}

/// What a connection speaks once it has joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Dialect {
    /// WebSocket messages with the payloads as they were published.
    Plain,
    /// WebSocket messages of `tidegate.v1`: commands, replies, messages and notices in JSON.
    V1,
    /// An event stream of one channel.
    Events,
    /// An event stream of several channels, with the JSON of `tidegate.v1` as data.
    EnvelopedEvents,
}

impl Dialect {
    /// Whether it is an event stream (SSE) and not a WebSocket.
    pub const fn is_event_stream(self) -> bool {
        matches!(self, Self::Events | Self::EnvelopedEvents)
    }
}
