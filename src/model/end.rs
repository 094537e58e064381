//! An end: a connection that is over, or a request that was refused. What operators are told of it.

use std::net::SocketAddr;
use std::time::Duration;

use super::close::{Blame, CloseReason, RejectReason};
use super::id::{ConnectionId, ShardId};
use super::time::Time;

/// Why, in the words of `close.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A request was refused.
    Reject(RejectReason),
    /// A connection is over.
    Close(CloseReason, Blame),
}

impl Cause {
    /// Members: indices are below this.
    pub const COUNT: usize = RejectReason::ALL.len() + CloseReason::ALL.len();

    /// A number of its own for each reason, whoever is to blame.
    pub const fn index(self) -> usize {
        match self {
            Self::Reject(reason) => reason.index(),
            Self::Close(reason, _) => RejectReason::ALL.len() + reason.index(),
        }
    }

    /// `reject` or `close`.
    pub const fn event(self) -> &'static str {
        match self {
            Self::Reject(_) => "reject",
            Self::Close(..) => "close",
        }
    }

    /// The token of its reason.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Reject(reason) => reason.token(),
            Self::Close(reason, _) => reason.token(),
        }
    }

    /// HTTP status or close code; 0 where none is on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Reject(reason) => reason.status(),
            Self::Close(reason, _) => reason.code(),
        }
    }

    /// Whose doing it was: a refused request is the peer's, but for those that we have no room or time for.
    pub const fn blame(self) -> Blame {
        use RejectReason::{Admission, ConnectionLimit, DescriptorsExhausted, Draining, Memory, Overloaded};
        match self {
            Self::Reject(
                Admission | ConnectionLimit | DescriptorsExhausted | Draining | Memory | Overloaded,
            ) => Blame::Us,
            Self::Reject(_) => Blame::Peer,
            Self::Close(_, by) => by,
        }
    }

    /// Whether connections end like this all day, with nothing wrong anywhere.
    pub const fn is_ordinary(self) -> bool {
        use CloseReason::{EndOfFile, HttpDone, Normal, Reset};
        matches!(self, Self::Close(Normal | EndOfFile | Reset | HttpDone, _))
    }
}

/// What one connection has moved, and since when it exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// Bytes read from it.
    pub bytes_in: u64,
    /// Bytes the kernel took for it.
    pub bytes_out: u64,
    /// When it was accepted.
    pub since: Time,
}

impl Traffic {
    /// A connection accepted at `now`.
    pub const fn new(now: Time) -> Self {
        Self { bytes_in: 0, bytes_out: 0, since: now }
    }
}

/// One end, with everything that is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Time,
    /// Where.
    pub shard: ShardId,
    /// Which connection; none for a client that was turned away before it became one.
    pub connection: Option<ConnectionId>,
    /// The client's address, unless the client reset the connection: the kernel then knows it no longer.
    pub peer: Option<SocketAddr>,
    /// What it had moved by then; for a refusal its answer counts as sent.
    pub traffic: Traffic,
}

impl End {
    /// How long the connection had existed.
    pub const fn age(&self) -> Duration {
        self.at.since(self.traffic.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_an_index_of_its_own() {
        let rejects = RejectReason::ALL.iter().map(|reason| Cause::Reject(*reason));
        let closes = CloseReason::ALL.iter().map(|reason| Cause::Close(*reason, Blame::Us));
        let indices: Vec<_> = rejects.chain(closes).map(Cause::index).collect();
        assert_eq!(indices, (0..Cause::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn a_refusal_for_want_of_room_is_our_doing_and_every_other_the_peers() {
        for reason in RejectReason::ALL {
            let expected = if reason.status() == 503 { Blame::Us } else { Blame::Peer };
            assert_eq!(Cause::Reject(*reason).blame(), expected, "{reason:?}");
        }
    }
}
