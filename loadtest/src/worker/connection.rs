//! One connection as a worker keeps it: a few dozen bytes, and a box while something is unfinished.

use super::held::Held;
use super::inflating::Inflating;
use super::stream::Stream;
use crate::feed::Position;
use crate::wire::frame::FrameReader;
use crate::wire::sse::EventReader;

/// One socket and what it has received.
#[derive(Debug)]
pub struct Connection {
    /// The socket; non-blocking, registered once for both directions.
    pub stream: Stream,
    /// Which of the run's targets it is connected to.
    pub target: u16,
    /// Whether it counts as connected: the handshake is over, and the subscription stands.
    pub is_upgraded: bool,
    /// Not to be read from once it is upgraded, or slowly.
    pub stalled: bool,
    /// Tried again after a moment if it is refused.
    pub again: bool,
    /// Where it stands in the target's feed.
    pub position: Position,
    /// Present while bytes cannot simply be compared.
    pub detour: Option<Box<Detour>>,
}

/// What stands between a connection and plain comparing.
#[derive(Debug)]
pub enum Detour {
    /// Not upgraded yet.
    Handshake(Handshake),
    /// In the middle of something that is not the expected frame: a ping, a fragment, a fault.
    Frames(Inside),
    /// Compressed messages may come: always read by what came before.
    Inflating(Inflating),
    /// An event stream: always taken apart.
    Events(EventReader),
}

/// A way into the feed that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Joining {
    /// When `connect` was called, nanoseconds of `CLOCK_MONOTONIC`.
    pub started_ns: u64,
    /// Whether messages are being published meanwhile, so that the first to come is the first due.
    pub midway: bool,
}

/// An upgrade that is under way.
#[derive(Debug)]
pub struct Handshake {
    /// The `Sec-WebSocket-Key` that was or will be sent.
    pub key: String,
    /// Whether the request is out.
    pub is_sent: bool,
    /// The answer so far, if it came in pieces.
    pub answer: Vec<u8>,
    /// What it is for.
    pub joining: Joining,
}

/// Frames, and a broker's protocol inside them.
#[derive(Debug, Default)]
pub struct Inside {
    /// Joins bytes to messages.
    pub reader: FrameReader,
    /// Bytes of the broker's protocol that are not complete.
    pub pending: Vec<u8>,
    /// Present until the broker says that the subscription stands.
    pub joining: Option<Joining>,
    /// What a slow subscriber of a feed with keys knows of each.
    pub held: Option<Box<Held>>,
}

impl Inside {
    /// Whether nothing is unfinished.
    pub fn is_at_rest(&self) -> bool {
        self.reader.is_at_rest() && self.pending.is_empty() && self.joining.is_none() && self.held.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_a_few_dozen_bytes() {
        assert!(size_of::<Option<Connection>>() <= 48, "{}", size_of::<Option<Connection>>());
    }
}
