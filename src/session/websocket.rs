//! The WebSocket protocol after the handshake (RFC 6455), with tungstenite as a codec and no socket in sight.
//!
//! tungstenite's context runs against memory: what arrived is its input, what it answers on its own (a pong) is
//! appended to the connection's own frames, so that one writer serves the socket and no pong lands inside a
//! half-sent message. The tracker of `boundary.rs` goes ahead and refuses bad headers; of close frames tungstenite
//! checks the text, the answer is ours. It answers no fault with a close frame: that is the caller's, with
//! [`append_close_frame`]. A [`WebSocket`] lives from the first byte of a message to its last (**hibernation**):
//! whenever [`WebSocket::is_at_rest`], drop it, and make a new one when bytes arrive.

use std::io::{self, ErrorKind, Read, Write};

use bytes::Bytes;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::boundary::{Boundary, Fault};
use crate::model::{CloseReason, PayloadKind, encoding};

const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
/// Most payload bytes of a control frame (RFC 6455 §5.5).
const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Most bytes of a control frame of ours: two of header, no mask.
const CONTROL_FRAME_BYTES_MAX: usize = 2 + CONTROL_PAYLOAD_BYTES_MAX;
/// Input that tungstenite copies at a time. Small is also faster: it zeroes the window before every copy.
const READ_BUFFER_BYTES: usize = 512;

/// What one connection may ask of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Largest message a client may send, in bytes; beyond: 1009 `msg_too_big` at the header.
    pub max_message: usize,
    /// Bytes of own frames that may wait. Pongs stop short of it by one control frame, so that a close always fits;
    /// of the pings that came meanwhile the newest is answered.
    pub own_frames_bytes_max: usize,
}

/// Something a client said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A complete message.
    Message {
        /// Text or binary.
        kind: PayloadKind,
        /// The message; valid UTF-8 if `kind` is text. May be empty.
        payload: Bytes,
    },
    /// A ping. It is answered already: the pong is in `own`, or waits for room there.
    Ping,
    /// A pong.
    Pong {
        /// Its payload, at most 125 bytes, perhaps that of our last ping.
        payload: Bytes,
    },
    /// The peer began or answered the close handshake; our reply (if we had not closed) is in `own`. Always the last.
    Closed {
        /// The code it gave, a legal one; `None` for an empty close frame.
        code: Option<u16>,
    },
}

/// Which half of the conversation is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Both sides speak.
    Open,
    /// We sent a close frame: whatever comes is decoded, nothing is answered.
    CloseSent,
    /// The peer closed or broke a rule: whatever comes is ignored.
    Over,
}

/// The inbound half of one connection while a message is under way. About 300 bytes, plus a read buffer of 512 and
/// what the unfinished message holds.
#[derive(Debug)]
pub struct WebSocket {
    context: WebSocketContext,
    boundary: Boundary,
    limits: SessionLimits,
    stage: Stage,
    /// A pong waits in `context` for room among the own frames.
    reply_waits: bool,
}

impl WebSocket {
    /// A connection at a message boundary. Costs two allocations and under 100 ns.
    pub fn new(limits: SessionLimits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(CONTROL_FRAME_BYTES_MAX)
            .max_frame_size(Some(limits.max_message.max(CONTROL_PAYLOAD_BYTES_MAX)))
            .max_message_size(Some(limits.max_message))
            .accept_unmasked_frames(false);
        Self {
            context: WebSocketContext::new(Role::Server, Some(config)),
            boundary: Boundary::default(),
            limits,
            stage: Stage::Open,
            reply_waits: false,
        }
    }

    /// Tells that a close frame of ours is on its way: from here on neither pings nor the peer's close are answered.
    ///
    /// A caller that closes and hibernates tells it every new context, until [`Event::Closed`].
    pub fn on_close_sent(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::CloseSent;
        }
    }

    /// Feeds `input` completely; appends what it completes to `events` and automatic replies (pong, close reply) as
    /// whole frames to `own`. `input` may be empty: a pong that waited for room goes out then.
    ///
    /// After [`Event::Closed`] or an error everything is ignored. Linear in the input.
    ///
    /// # Errors
    /// The rule that the peer broke. Nothing more is to be read from it: append a close frame to `own` and end the
    /// connection. What it said before the fault is in `events`.
    pub fn handle_bytes(
        &mut self,
        input: &[u8],
        own: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        if self.stage == Stage::Over {
            return Ok(());
        }
        let outcome = match self.boundary.feed(input, self.limits.max_message) {
            Ok(None) => self.decode(input, own, events),
            Ok(Some(end)) => self.decode_to_close(input.get(..end).unwrap_or(input), own, events),
            Err(Fault { reason, at }) => {
                self.decode(input.get(..at).unwrap_or(input), own, events).and(Err(reason))
            }
        };
        if outcome.is_err() {
            self.stage = Stage::Over;
        }
        outcome
    }

    /// Whether the stream stands at a message boundary with nothing pending: drop the context then. False once the
    /// peer has closed or broken a rule, so that a context which ignores the rest stays.
    pub fn is_at_rest(&self) -> bool {
        self.stage != Stage::Over && self.boundary.is_at_rest() && !self.reply_waits
    }

    /// Whether a message or frame has begun and is not finished: the message deadline runs (FAULTS B9, B23).
    pub fn is_mid_message(&self) -> bool {
        self.stage != Stage::Over && self.boundary.is_mid_message()
    }

    /// Decodes `input`, whose last byte completes a close frame, and replies to that with its own code.
    ///
    /// The last byte goes alone: what the codec says of it is about the close frame and of nothing before.
    fn decode_to_close(
        &mut self,
        input: &[u8],
        own: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        let (before, last) = input.split_at(input.len().saturating_sub(1));
        self.decode(before, own, events)?;
        self.decode(last, own, events).map_err(|reason| match reason {
            CloseReason::Utf8 => CloseReason::CloseCode,
            other => other,
        })?;
        let code = self.boundary.close_code();
        if self.stage == Stage::Open {
            let echo = code.map(u16::to_be_bytes);
            encoding::append_control_frame(OPCODE_CLOSE, echo.as_ref().map_or(&[], |code| code), own);
        }
        self.stage = Stage::Over;
        events.push(Event::Closed { code });
        Ok(())
    }

    /// Runs the codec over `input`, up to a close frame at most.
    fn decode(
        &mut self,
        input: &[u8],
        own: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), CloseReason> {
        let mut pipe = Pipe {
            input,
            own,
            own_bytes_max: self.limits.own_frames_bytes_max.saturating_sub(CONTROL_FRAME_BYTES_MAX),
            is_mute: self.stage != Stage::Open,
            is_blocked: false,
        };
        if self.reply_waits {
            // Older pongs wait before the newest, and the codec moves one of the two places a call: this call the
            // first, the read below the second.
            self.context.flush(&mut pipe).or_else(unless_blocked)?;
        }
        loop {
            pipe.is_blocked = false;
            match self.context.read(&mut pipe) {
                Ok(Message::Text(text)) => {
                    events.push(Event::Message { kind: PayloadKind::Text, payload: text.into() });
                }
                Ok(Message::Binary(payload)) => {
                    events.push(Event::Message { kind: PayloadKind::Binary, payload });
                }
                Ok(Message::Ping(_)) => events.push(Event::Ping),
                Ok(Message::Pong(payload)) => events.push(Event::Pong { payload }),
                // The codec's reply echoes the peer's text as well: it is left where it is and ours is sent.
                Ok(Message::Close(_)) => return Ok(()),
                // Made by writers, never by the reader.
                Ok(Message::Frame(_)) => return Err(CloseReason::Internal),
                Err(error) => {
                    unless_blocked(error)?;
                    self.reply_waits = pipe.is_blocked;
                    return Ok(());
                }
            }
        }
    }
}

/// Appends a close frame to `own`: the code of `reason`, then its token, then `;detail` if there is one.
///
/// The text is cut at 123 bytes, and a byte of `detail` that is not printable ASCII becomes `?`. A reason without a
/// code (the peer is gone) appends nothing.
pub fn append_close_frame(reason: CloseReason, detail: Option<&str>, own: &mut Vec<u8>) {
    if !reason.has_code() {
        return;
    }
    let mut payload = Vec::with_capacity(CONTROL_PAYLOAD_BYTES_MAX);
    payload.extend_from_slice(&reason.code().to_be_bytes());
    payload.extend_from_slice(reason.token().as_bytes());
    if let Some(detail) = detail {
        payload.push(b';');
        payload.extend(detail.chars().map(|sign| match sign {
            ' '..='~' => sign as u8,
            _ => b'?',
        }));
    }
    encoding::append_control_frame(OPCODE_CLOSE, &payload, own);
}

/// Appends a ping frame to `own`; `payload` is cut at 125 bytes.
pub fn append_ping(payload: &[u8], own: &mut Vec<u8>) {
    encoding::append_control_frame(OPCODE_PING, payload, own);
}

/// tungstenite's view of a connection during one call.
struct Pipe<'a> {
    input: &'a [u8],
    own: &'a mut Vec<u8>,
    own_bytes_max: usize,
    /// Replies are swallowed: our close frame was the last of ours.
    is_mute: bool,
    /// A reply found no room.
    is_blocked: bool,
}

impl Read for Pipe<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.input.read(out)
    }
}

impl Write for Pipe<'_> {
    /// Takes all of `frames` or nothing.
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        if self.is_mute {
            return Ok(frames.len());
        }
        if self.own.len().saturating_add(frames.len()) > self.own_bytes_max {
            self.is_blocked = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.own.extend_from_slice(frames);
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `Ok` if the codec only waits for more bytes or room, else the close reason.
fn unless_blocked(error: Error) -> Result<(), CloseReason> {
    match error {
        Error::Io(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        error => Err(reason_of(&error)),
    }
}

/// What a fault that tungstenite found is called here. All but UTF-8 is refused by the tracker before; should the
/// two ever disagree, this keeps the vocabulary right.
fn reason_of(error: &Error) -> CloseReason {
    match error {
        Error::Utf8(_) => CloseReason::Utf8,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseReason::MessageTooBig,
        Error::Protocol(error) => reason_of_protocol_error(error),
        Error::ConnectionClosed => CloseReason::Normal,
        Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::Capacity(CapacityError::TooManyHeaders)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => CloseReason::Internal,
    }
}

fn reason_of_protocol_error(error: &ProtocolError) -> CloseReason {
    match error {
        ProtocolError::UnmaskedFrameFromClient => CloseReason::Unmasked,
        ProtocolError::NonZeroReservedBits => CloseReason::ReservedBits,
        ProtocolError::InvalidOpcode(_)
        | ProtocolError::UnknownControlFrameType(_)
        | ProtocolError::UnknownDataFrameType(_) => CloseReason::Opcode,
        ProtocolError::FragmentedControlFrame => CloseReason::ControlFragmented,
        ProtocolError::ControlFrameTooBig => CloseReason::ControlLength,
        ProtocolError::InvalidCloseSequence => CloseReason::CloseCode,
        ProtocolError::UnexpectedContinueFrame | ProtocolError::ExpectedFragment(_) => {
            CloseReason::ContinuationState
        }
        ProtocolError::ReceivedAfterClosing => CloseReason::Normal,
        ProtocolError::ResetWithoutClosingHandshake => CloseReason::EndOfFile,
        ProtocolError::SendAfterClosing
        | ProtocolError::MaskedFrameFromServer
        | ProtocolError::WrongHttpMethod
        | ProtocolError::WrongHttpVersion
        | ProtocolError::MissingConnectionUpgradeHeader
        | ProtocolError::MissingUpgradeWebSocketHeader
        | ProtocolError::MissingSecWebSocketVersionHeader
        | ProtocolError::MissingSecWebSocketKey
        | ProtocolError::InvalidSecWebSocketKey
        | ProtocolError::SecWebSocketAcceptKeyMismatch
        | ProtocolError::SecWebSocketSubProtocolError(_)
        | ProtocolError::JunkAfterRequest
        | ProtocolError::CustomResponseSuccessful
        | ProtocolError::InvalidHeader(_)
        | ProtocolError::HandshakeIncomplete
        | ProtocolError::HttparseError(_) => CloseReason::Internal,
    }
}
