//! One connection: its socket, where it stands in its life, what it is still owed.
//!
//! ```text
//!            head complete          channels attached           close frame queued
//!  Http ───────────────────► Joining ───────────────► Open ─────────────────────────► Closing ──► Ended
//!   │ refused, or done           │ client gone          │ client gone                    ▲            ▲
//!   └────────────────────────────┴──────────────────────┴── answer or reply queued ──────┘            │
//!                                                  end of file, reset, deadline ──────────────────────┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::limits::{CLOSE_TIMEOUT, KEEP_ALIVE_IDLE};
use crate::delivery::{Feeds, Owed};
use crate::edge::HeadScanner;
use crate::model::{Blame, CloseReason, Dialect, Pattern, SubscribeRequest, Time, Traffic};
use crate::net::Transport;
use crate::session::{ControlAllowance, Inbound, Liveness, LivenessRules, MESSAGE_FRAME_BYTES_MIN};

/// How long a refused or failed peer may go on sending, once it has our answer, before it is reset.
pub const LINGER: Duration = Duration::from_secs(1);

/// Everything the shard knows of one client: 104 bytes or less while idle.
#[derive(Debug)]
pub struct Connection<S> {
    /// Its socket.
    pub socket: S,
    /// Where it stands.
    pub phase: Phase,
    /// What it is owed.
    pub owed: Owed,
    /// When it was heard.
    pub liveness: Liveness,
    /// What it has moved.
    pub traffic: Traffic,
    /// The wheel's tick it is armed for; entries with another tick are superseded.
    pub armed_tick: u32,
    /// Messages of its own that wait for room on the bus: it is not read meanwhile.
    pub unpublished: u16,
    /// Control frames it sent unasked.
    pub control_allowance: ControlAllowance,
    /// Bytes may wait in the socket that no event will report again: it was readable, and not read dry since.
    pub may_have_input: bool,
    /// On the list of those to read.
    pub is_read_listed: bool,
    /// On the list of those to write.
    pub is_write_listed: bool,
    /// What has become of it for good.
    pub marks: Marks,
}

/// Something that happens to a connection once and holds to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// The peer has ended its side: read on to the end, whatever a short read says.
    ReadClosed = 1,
    /// Has sent messages itself: its cursor steps over them.
    Relayed = 2,
    /// Is only told that there is no room, of connections or of memory, and does not count against the limit.
    OverLimit = 4,
    /// Is only told that its address has too many, or comes too fast, and does not count as one of its connections.
    OverAddress = 8,
    /// Agreed to compression, so that it may compress too.
    Compresses = 16,
    /// Speaks `tidegate.v1`.
    Commands = 32,
    /// Reads an event stream.
    EventStream = 64,
    /// Reads several channels in it.
    SeveralChannels = 128,
}

/// A set of [`Mark`]s, in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks(u8);

impl Marks {
    /// Whether `mark` is set.
    pub const fn has(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }

    /// Sets `mark`.
    pub const fn set(&mut self, mark: Mark) {
        self.0 |= mark as u8;
    }
}

/// See the diagram in the file's header.
#[derive(Debug)]
pub enum Phase {
    /// Requests are read.
    Http(Box<Http>),
    /// The upgrade was accepted; the answer is sent once every channel is live.
    Joining(Box<Joining>),
    /// Upgraded. The codec is there only while the peer is in the middle of something (hibernation).
    Open(Option<Box<Open>>),
    /// The last bytes are going out, or the peer's close is awaited.
    Closing(Box<Closing>),
    /// Over; the slot is given back at the end of the turn.
    Ended {
        /// Why.
        reason: CloseReason,
        /// Whose doing.
        by: Blame,
    },
}

/// A connection that speaks HTTP.
#[derive(Debug)]
pub struct Http {
    /// Finds the end of the head.
    pub scanner: HeadScanner,
    /// The head so far, if it did not come in one piece.
    pub buffer: Vec<u8>,
    /// Requests answered.
    pub served: u32,
    /// For the head, or for the next request on a keep-alive connection.
    pub deadline: Time,
    /// A PROXY header comes before the first request.
    pub awaits_proxy_header: bool,
    /// Its other end is a trusted proxy: a header of each request says who it comes from.
    pub is_from_proxy: bool,
    /// The turn in which it began to wait for the head.
    pub waits_since_turn: u64,
}

/// A connection whose channels are not all live yet.
#[derive(Debug)]
pub struct Joining {
    /// Channels still to come.
    pub awaiting: u32,
    /// The 101, or the head of an event stream.
    pub response: Vec<u8>,
    /// What it asked for.
    pub requests: Vec<SubscribeRequest>,
    /// Patterns that it asked for, which come after.
    pub patterns: Vec<Pattern>,
    /// For all of it.
    pub deadline: Time,
}

/// The part of an open connection that exists only in the middle of something.
#[derive(Debug)]
pub struct Open {
    /// The codec.
    pub inbound: Inbound,
    /// For the message that has begun, if one has.
    pub message_deadline: Time,
}

/// What a closing connection waits for.
#[derive(Debug)]
pub enum Awaits {
    /// That its bytes are out; then it is over.
    Flush,
    /// The peer's close frame, in answer to ours. The codec is there if something was under way, or once something
    /// has come.
    PeerClose(Option<Box<Inbound>>),
    /// The end of what the peer sends, which nobody looks at.
    EndOfInput,
}

/// A connection that ends.
#[derive(Debug)]
pub struct Closing {
    /// Why.
    pub reason: CloseReason,
    /// Whose doing.
    pub by: Blame,
    /// What is waited for.
    pub awaits: Awaits,
    /// Then it is reset.
    pub deadline: Time,
    /// Our side was shut down.
    pub is_shut_down: bool,
    /// The peer's address: the kernel forgets it once both sides have ended.
    pub peer: Option<SocketAddr>,
}

impl Http {
    /// A connection accepted at `now`, whose first head is due `timeout` later.
    pub fn new(now: Time, timeout: Duration) -> Self {
        Self {
            scanner: HeadScanner::new(),
            buffer: Vec::new(),
            served: 0,
            deadline: now.after(timeout),
            awaits_proxy_header: false,
            is_from_proxy: false,
            waits_since_turn: 0,
        }
    }

    /// Ready for the next request on the same connection.
    pub fn next_request(&mut self, now: Time) {
        self.scanner = HeadScanner::new();
        self.buffer = Vec::new();
        self.served += 1;
        self.deadline = now.after(KEEP_ALIVE_IDLE);
    }

    /// Whether a head has begun, or the first one is awaited.
    pub fn is_awaiting_head(&self) -> bool {
        self.served == 0 || !self.buffer.is_empty()
    }
}

impl Closing {
    /// A close that begins at `now`, of a connection to `peer`.
    pub fn new(reason: CloseReason, by: Blame, awaits: Awaits, now: Time, peer: Option<SocketAddr>) -> Self {
        Self { reason, by, awaits, deadline: now.after(CLOSE_TIMEOUT), is_shut_down: false, peer }
    }
}

impl<S> Connection<S> {
    /// A connection accepted at `now`.
    pub fn new(socket: S, http: Http, now: Time) -> Self {
        Self {
            socket,
            phase: Phase::Http(Box::new(http)),
            owed: Owed::default(),
            liveness: Liveness::new(now, 0),
            traffic: Traffic::new(now),
            armed_tick: u32::MAX,
            unpublished: 0,
            is_read_listed: false,
            is_write_listed: false,
            control_allowance: ControlAllowance::default(),
            may_have_input: false,
            marks: Marks::default(),
        }
    }

    /// When to look at it: the nearest of its deadlines, as far as they can be known at `now`.
    pub fn next_look(&self, now: Time, rules: &LivenessRules, feeds: &Feeds) -> Time {
        match &self.phase {
            Phase::Http(http) => http.deadline,
            Phase::Joining(joining) => joining.deadline,
            Phase::Closing(closing) => closing.deadline,
            Phase::Ended { .. } => Time::NEVER,
            Phase::Open(open) => {
                let message = open.as_ref().map_or(Time::NEVER, |open| open.message_deadline);
                self.liveness.next_look(now, rules).min(message).min(self.stall_deadline(feeds))
            }
        }
    }

    /// Whether the client agreed to compression, so that it may compress too.
    pub const fn may_compress(&self) -> bool {
        self.marks.has(Mark::Compresses)
    }

    /// What it speaks once it has joined.
    pub const fn dialect(&self) -> Dialect {
        if self.marks.has(Mark::SeveralChannels) {
            Dialect::EnvelopedEvents
        } else if self.marks.has(Mark::EventStream) {
            Dialect::Events
        } else if self.marks.has(Mark::Commands) {
            Dialect::V1
        } else {
            Dialect::Plain
        }
    }

    /// Bytes that hold no more than `messages` of an open connection, however small they are; one, to see whether anything
    /// waits, if it may send none.
    pub fn read_room(&self, messages: usize) -> usize {
        let Phase::Open(open) = &self.phase else { return 0 };
        let frame_left = open.as_ref().map_or(0, |open| open.inbound.frame_bytes_left());
        match messages {
            0 => 1,
            _ if frame_left == 0 => messages.saturating_mul(MESSAGE_FRAME_BYTES_MIN),
            _ => (messages - 1).saturating_mul(MESSAGE_FRAME_BYTES_MIN).saturating_add(frame_left),
        }
    }

    /// When a socket that takes nothing has been patient long enough: the strictest of its channels.
    pub fn stall_deadline(&self, feeds: &Feeds) -> Time {
        let Some(since) = self.owed.blocked_since() else { return Time::NEVER };
        let ages = self
            .owed
            .subscriptions()
            .iter()
            .filter_map(|subscription| feeds.get(subscription.channel))
            .map(|feed| feed.settings.max_lag_age);
        ages.min().map_or(Time::NEVER, |age| since.after(age))
    }

    /// As the admin listing shows it.
    pub fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::Http(_) => "http",
            Phase::Joining(_) => "joining",
            Phase::Open(_) => "open",
            Phase::Closing(_) | Phase::Ended { .. } => "closing",
        }
    }
}

impl<S: Transport> Connection<S> {
    /// The other end's address; none if the client reset the connection before anybody asked.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.phase {
            Phase::Closing(closing) => closing.peer,
            _ => self.socket.peer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // mio keeps more of a socket in debug builds.
        let extra = if cfg!(debug_assertions) { 16 } else { 0 };
        assert!(
            size_of::<Connection<crate::net::Tcp>>() <= 104 + extra,
            "{}",
            size_of::<Connection<crate::net::Tcp>>()
        );
    }
}
