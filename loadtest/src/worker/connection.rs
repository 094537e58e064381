//! One connection as a worker keeps it: a few dozen bytes, and a box while something is unfinished.

use mio::net::TcpStream;

use crate::feed::Position;
use crate::wire::frame::FrameReader;

/// One socket and what it has received.
#[derive(Debug)]
pub struct Connection {
    /// The socket; non-blocking, registered once for both directions.
    pub stream: TcpStream,
    /// Which of the run's targets it is connected to.
    pub target: u16,
    /// Whether the handshake is over.
    pub is_upgraded: bool,
    /// Not to be read from once it is upgraded.
    pub stalled: bool,
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
    Frames(FrameReader),
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
    /// When `connect` was called, nanoseconds of `CLOCK_MONOTONIC`.
    pub started_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_costs_a_few_dozen_bytes() {
        assert!(size_of::<Option<Connection>>() <= 48, "{}", size_of::<Option<Connection>>());
    }
}
