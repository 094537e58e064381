//! Why connections end: the closed vocabulary of refusals and closes.
//!
//! Every refusal has an HTTP status and a token, every close a WebSocket code and a token; both appear in the answer,
//! the metric and the log under the same name. The token is the first word of a close reason. What clients are told of
//! them is in docs/PROTOCOL.md.

use std::fmt;

/// Whose doing an end was: the `by` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Blame {
    /// The client.
    Peer,
    /// The gateway, on its own account or its operator's.
    Us,
}

macro_rules! vocabulary {
    ($(#[$meta:meta])* $name:ident($number:ident) { $($(#[$doc:meta])* $variant:ident = $code:literal, $token:literal $(, $by:ident)?;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $name { $($(#[$doc])* $variant),* }

        impl $name {
            /// Every member, in the order of declaration; its index is the place of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number that travels: see the type's description.
            pub const fn $number(self) -> u16 {
                match self { $(Self::$variant => $code),* }
            }

            /// The token: a short lower-case word, the same in answers, metrics and logs.
            pub const fn token(self) -> &'static str {
                match self { $(Self::$variant => $token),* }
            }

            /// Index in [`Self::ALL`].
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

vocabulary! {
    /// A request that was refused with an HTTP status.
    RejectReason(status) {
        /// The request line is malformed.
        RequestLine = 400, "request_line";
        /// A header line is malformed.
        HeaderSyntax = 400, "header_syntax";
        /// A header that may stand once stands twice.
        DuplicateHeader = 400, "dup_header";
        /// A body's framing is ambiguous or malformed.
        Framing = 400, "framing";
        /// An upgrade request carries a body.
        BodyOnUpgrade = 400, "body_on_upgrade";
        /// Bytes came before the 101 was sent.
        EarlyData = 400, "early_data";
        /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes in base64.
        WebSocketKey = 400, "ws_key";
        /// CONNECT, `*` or a foreign authority as target.
        TargetForm = 400, "target_form";
        /// The channel name is not valid.
        BadChannel = 400, "bad_channel";
        /// More channels than one connection may join.
        ChannelLimit = 400, "channel_limit";
        /// The host header is missing or malformed.
        Host = 400, "host";
        /// The subprotocols are malformed, or more than are looked at.
        Subprotocol = 400, "subprotocol";
        /// Where to begin is not a position for each channel.
        BadPosition = 400, "bad_position";
        /// A query parameter that is malformed, or stands twice.
        BadParameter = 400, "bad_parameter";
        /// A pattern that is malformed, stands where only channels may, or is one too many.
        BadPattern = 400, "bad_pattern";
        /// A web page from elsewhere asks for a WebSocket or an event stream.
        Origin = 403, "origin";
        /// No such route.
        NoRoute = 404, "no_route";
        /// The route exists, the method does not.
        Method = 405, "method";
        /// The head did not arrive in time.
        HeadTimeout = 408, "head_timeout";
        /// The target is longer than a line may be.
        TargetTooLong = 414, "target_too_long";
        /// An Expect that is not understood.
        Expectation = 417, "expectation";
        /// The host is not one of those that are served here.
        Misdirected = 421, "misdirected";
        /// A WebSocket upgrade is needed here.
        NotWebSocket = 426, "not_websocket";
        /// A WebSocket version other than 13.
        WebSocketVersion = 426, "ws_version";
        /// As many connections of one address as it may have.
        AddressConnections = 429, "addr_conns";
        /// New connections of one address faster than it may.
        AddressRate = 429, "addr_rate";
        /// The request head is too big.
        HeadTooBig = 431, "head_too_big";
        /// The request has too many header lines.
        TooManyHeaders = 431, "too_many_headers";
        /// More extensions are offered than are looked at.
        TooManyExtensions = 431, "too_many_extensions";
        /// The gateway holds as many connections as it may.
        ConnectionLimit = 503, "conn_limit";
        /// New connections come faster than the gateway takes them.
        Admission = 503, "admission";
        /// No descriptor is left for the connection.
        DescriptorsExhausted = 503, "fd_exhausted";
        /// The gateway is being stopped.
        Draining = 503, "draining";
        /// Memory is short.
        Memory = 503, "memory";
        /// The channels could not be joined in time.
        Overloaded = 503, "overloaded";
        /// An HTTP version other than 1.1.
        HttpVersion = 505, "http_version";
    }
}

vocabulary! {
    /// Why an established connection ended: WebSocket close code, or 0 where no code is on the wire.
    CloseReason(code) {
        /// The close handshake, begun by the client.
        Normal = 1000, "normal";
        /// No application message went either way for `--idle-timeout`.
        Idle = 1000, "idle";
        /// A client frame without mask.
        Unmasked = 1002, "unmasked";
        /// A reserved bit set without an extension.
        ReservedBits = 1002, "rsv";
        /// A reserved opcode.
        Opcode = 1002, "opcode";
        /// A fragmented control frame.
        ControlFragmented = 1002, "ctl_frag";
        /// A control frame of more than 125 bytes.
        ControlLength = 1002, "ctl_len";
        /// A length that is not in its shortest form, or has its top bit set.
        LengthForm = 1002, "len_form";
        /// A close frame with an illegal code or a one-byte payload.
        CloseCode = 1002, "close_code";
        /// A continuation without a beginning, or a new message inside another.
        ContinuationState = 1002, "cont_state";
        /// A text where the channel takes binary alone, or the reverse.
        TypeUnsupported = 1003, "type_unsupported";
        /// A text message that is not UTF-8.
        Utf8 = 1007, "utf8";
        /// A compressed message that is not deflated data.
        Inflate = 1007, "inflate";
        /// The client did what it may not: such as publishing where relay is off.
        Policy = 1008, "policy";
        /// More empty fragments than a message may have.
        FragmentOverhead = 1008, "frag_overhead";
        /// More control frames than are answered.
        ControlFlood = 1008, "ctl_flood";
        /// A message that was begun and not finished in time.
        StalledMessage = 1008, "stalled_msg";
        /// A message larger than `--max-message`.
        MessageTooBig = 1009, "msg_too_big";
        /// A fault of ours, caught.
        Internal = 1011, "internal";
        /// The gateway is being stopped; the client reconnects after the stated delay.
        Draining = 1012, "draining";
        /// A message that is no command of `tidegate.v1`.
        BadMessage = 4007, "bad_message";
        /// A subscriber further behind than the channel's policy allows.
        SlowConsumer = 4101, "slow_consumer";
        /// A client that sends messages faster than `--client-rate`, for some seconds.
        RateLimited = 4102, "rate_limited";
        /// No pong, nor anything else, within the pong time-out.
        PingTimeout = 4105, "ping_timeout";
        /// The connection ended without a close frame.
        EndOfFile = 0, "eof";
        /// The connection was reset.
        Reset = 0, "reset";
        /// An HTTP connection that ended after its last answer, or idle.
        HttpDone = 0, "http_done";
        /// Of more connections without a complete request head than may be, the one that waited longest.
        PendingEvicted = 0, "pending_evicted";
        /// What should have been a PROXY header is none.
        ProxyHeader = 0, "proxy_header";
        /// A connection that should begin with a PROXY header does not come from a trusted proxy.
        ProxyUntrusted = 0, "proxy_untrusted";
        /// More connections of an address that has too many than are told so.
        AddressFlood = 0, "addr_flood";
    }
}

impl RejectReason {
    /// What the client should change; the body of the answer after the token.
    pub const fn cure(self) -> &'static str {
        match self {
            Self::RequestLine => "send a request line of the form `GET /path HTTP/1.1`",
            Self::HeaderSyntax => {
                "send header lines of the form `Name: value`, without folding or control bytes"
            }
            Self::DuplicateHeader => {
                "send Host, Content-Length, Transfer-Encoding, Content-Type, Origin, Authorization, Last-Event-ID and the Sec-WebSocket-Key and -Version headers once"
            }
            Self::Framing => {
                "send no body, as no route here takes one; where there is one, send either one Content-Length or `Transfer-Encoding: chunked`"
            }
            Self::BodyOnUpgrade => "send the upgrade request without a body",
            Self::EarlyData => "wait for the 101 response before sending frames",
            Self::WebSocketKey => "send one Sec-WebSocket-Key: 16 random bytes in base64",
            Self::TargetForm => "send the path as request target, such as /ws/lobby",
            Self::BadChannel => {
                "name a channel of 1 to 255 characters A-Z a-z 0-9 _ - . : without empty segments"
            }
            Self::ChannelLimit => "join at most 128 channels with one connection",
            Self::Host => "send one valid Host header",
            Self::Subprotocol => {
                "offer 1 to 16 subprotocols in Sec-WebSocket-Protocol, each a token, split by commas"
            }
            Self::BadPosition => {
                "give in since one position for each channel, in their order, split by commas; leave it empty for a channel to begin with its next message"
            }
            Self::BadParameter => {
                "give channel, since, snapshot and max_rate once each: snapshot as 1, 0, true or false, max_rate as 1/s to 1000/s"
            }
            Self::BadPattern => {
                "name patterns such as news.* or > in channels= of a WebSocket that speaks tidegate.v1, as many as --max-patterns allows, without since, snapshot and max_rate; elsewhere name each channel"
            }
            Self::Origin => {
                "connect from a page of this gateway's own host; the operator can let other pages in with --allow-origin"
            }
            Self::NoRoute => {
                "connect to /, /ws/CHANNEL or /ws?channels=A,B, or read events from /sse/CHANNEL or /sse?channels=A,B"
            }
            Self::Method => "use GET",
            Self::HeadTimeout => "send the whole request head at once",
            Self::TargetTooLong => "send a request target of at most 8 KiB",
            Self::Expectation => "do not send an Expect header here",
            Self::Misdirected => {
                "use a host name that is served here; the operator can add one with --allow-host"
            }
            Self::NotWebSocket => "send `Connection: Upgrade`, `Upgrade: websocket`",
            Self::WebSocketVersion => "send `Sec-WebSocket-Version: 13`",
            Self::HeadTooBig => "send a request head of at most 16 KiB with lines of at most 8 KiB",
            Self::TooManyHeaders => "send at most 64 header lines",
            Self::TooManyExtensions => {
                "offer at most 8 extensions in at most 1 KiB of Sec-WebSocket-Extensions"
            }
            Self::AddressConnections => {
                "use fewer connections; the operator can raise --max-per-address, or name a proxy in between with --trusted-proxy"
            }
            Self::AddressRate => {
                "connect less often; the operator can raise --connect-rate-per-address, or name a proxy in between with --trusted-proxy"
            }
            Self::ConnectionLimit => {
                "try again after the stated delay; the operator can raise --max-connections"
            }
            Self::Admission => "try again after the stated delay; the operator can raise --connect-rate",
            Self::DescriptorsExhausted => {
                "try again after the stated delay; the operator can raise the descriptor limit"
            }
            Self::Memory => "try again after the stated delay; the operator can raise --memory",
            Self::Draining | Self::Overloaded => "try again after the stated delay",
            Self::HttpVersion => "use HTTP/1.1",
        }
    }
}

impl CloseReason {
    /// Whether a close frame with the code travels (a peer that is gone gets none).
    pub const fn has_code(self) -> bool {
        self.code() != 0
    }

    /// Whose doing it was when nothing else is known.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Normal | Self::EndOfFile | Self::Reset | Self::HttpDone => Blame::Peer,
            _ => Blame::Us,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_tokens_are_consistent() {
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(reason.token().len() < 100 && reason.token().is_ascii());
        }
        for (index, reason) in RejectReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!((400..600).contains(&reason.status()));
            assert!(!reason.cure().is_empty());
        }
    }
}
