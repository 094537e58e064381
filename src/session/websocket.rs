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

use super::boundary::{Boundary, Fault, MessageBounds};
use super::utf8::Utf8;
use crate::config::MessageType;
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
    /// Which messages it may send; beyond: 1003 `type_unsupported` at the first frame of the message (GUARANTEES B25), of
    /// a compressed one at its end.
    pub message_type: MessageType,
    /// Bytes of own frames that may wait. Pongs stop short of it by one control frame, so that a close always fits;
    /// of the pings that came meanwhile the newest is answered.
    pub own_frames_bytes_max: usize,
    /// Every message is answered with itself, as a conformance suite wants it of a server.
    pub echoes: bool,
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
    utf8: Utf8,
    limits: SessionLimits,
    stage: Stage,
    /// A pong waits in `context` for room among the own frames.
    reply_waits: bool,
}

impl WebSocket {
    /// A connection at a message boundary. One allocation; with the box that the caller puts it in about 85 ns.
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
            utf8: Utf8::default(),
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
        let bounds = MessageBounds { bytes_max: self.limits.max_message, kind: self.limits.message_type };
        let outcome = match self.boundary.feed(input, bounds, &mut self.utf8) {
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

    /// Bytes of memory held: itself, the codec's window, and what came of the message under way.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + READ_BUFFER_BYTES + self.boundary.received_bytes()
    }

    /// Whether a message or frame has begun and is not finished: the message deadline runs (GUARANTEES B9).
    pub fn is_mid_message(&self) -> bool {
        self.stage != Stage::Over && self.boundary.is_mid_message()
    }

    /// Whether a text or binary message has begun and is not finished.
    pub fn is_in_data_message(&self) -> bool {
        self.stage != Stage::Over && self.boundary.is_in_data_message()
    }

    /// As [`Boundary::payload_left`].
    pub fn payload_left(&self) -> u64 {
        self.boundary.payload_left()
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
                    events.push(pipe.on_message(PayloadKind::Text, text.into(), self.limits));
                }
                Ok(Message::Binary(payload)) => {
                    events.push(pipe.on_message(PayloadKind::Binary, payload, self.limits));
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

impl Pipe<'_> {
    /// Echoes a message where that is asked for, in its place among the replies.
    fn on_message(&mut self, kind: PayloadKind, payload: Bytes, limits: SessionLimits) -> Event {
        if limits.echoes && !self.is_mute {
            encoding::append_data_frame(kind, &payload, self.own);
        }
        Event::Message { kind, payload }
    }
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

#[cfg(test)]
mod tests {
    use super::super::boundary::tests::{frame, header, noise, pieces};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tungstenite::protocol::CloseFrame;

    const LIMITS: SessionLimits = SessionLimits {
        max_message: 700,
        message_type: MessageType::Any,
        own_frames_bytes_max: 64 * 1024,
        echoes: false,
    };

    /// What a session made of some input.
    #[derive(PartialEq, Debug, Default)]
    struct Heard {
        own: Vec<u8>,
        events: Vec<Event>,
        fault: Option<CloseReason>,
    }

    /// Feeds piece after piece until a fault; as the shard does, keeps the context only where it must.
    fn hear(limits: SessionLimits, pieces: &[&[u8]]) -> Heard {
        let mut heard = Heard::default();
        let mut context: Option<WebSocket> = None;
        for piece in pieces {
            let mut websocket = context.take().unwrap_or_else(|| WebSocket::new(limits));
            if let Err(reason) = websocket.handle_bytes(piece, &mut heard.own, &mut heard.events) {
                heard.fault = Some(reason);
                break;
            }
            context = Some(websocket).filter(|websocket| !websocket.is_at_rest());
        }
        heard
    }

    fn fault(bytes: &[u8]) -> Option<CloseReason> {
        hear(LIMITS, &[bytes]).fault
    }

    fn text(payload: &'static str) -> Event {
        Event::Message { kind: PayloadKind::Text, payload: Bytes::from_static(payload.as_bytes()) }
    }

    fn binary(payload: impl Into<Bytes>) -> Event {
        Event::Message { kind: PayloadKind::Binary, payload: payload.into() }
    }

    /// Our own frame with this first byte and a payload below 126 bytes.
    fn ours(first: u8, payload: &[u8]) -> Vec<u8> {
        [&[first, payload.len() as u8], payload].concat()
    }

    #[test]
    fn a_message_under_way_costs_about_three_hundred_bytes() {
        assert!(size_of::<WebSocket>() <= 320, "{}", size_of::<WebSocket>());
    }

    #[test]
    fn messages_pings_and_pongs_come_out_in_order_and_pings_are_answered() {
        let bytes = [
            frame(0x81, b"hello"),
            frame(0x89, b"are you there"),
            frame(0x02, b"two "),
            frame(0x8a, b"12345678"),
            frame(0x80, b"parts"),
            frame(0x82, b""),
        ];
        let heard = hear(LIMITS, &[&bytes.concat()]);
        assert_eq!(
            heard.events,
            [
                text("hello"),
                Event::Ping,
                Event::Pong { payload: Bytes::from_static(b"12345678") },
                binary("two parts"),
                binary(""),
            ]
        );
        assert_eq!((heard.own, heard.fault), (ours(0x8a, b"are you there"), None));
    }

    #[test]
    fn an_echo_takes_its_place_among_the_replies_until_our_close() {
        let limits = SessionLimits { echoes: true, ..LIMITS };
        let bytes = [
            frame(0x01, b"one "),
            frame(0x89, b"?"),
            frame(0x80, b"text"),
            frame(0x82, b"\xff"),
            frame(0x89, b"!"),
            frame(0x81, b""),
            frame(0x88, b"\x03\xe8"),
        ];
        let heard = hear(limits, &[&bytes.concat()]);
        let expected = [
            ours(0x8a, b"?"),
            ours(0x81, b"one text"),
            ours(0x82, b"\xff"),
            ours(0x8a, b"!"),
            ours(0x81, b""),
            ours(0x88, b"\x03\xe8"),
        ];
        assert_eq!(heard.own, expected.concat());
        let mut websocket = WebSocket::new(limits);
        websocket.on_close_sent();
        let (mut own, mut events) = (Vec::new(), Vec::new());
        assert_eq!(websocket.handle_bytes(&frame(0x81, b"late"), &mut own, &mut events), Ok(()));
        assert_eq!((own, events), (vec![], vec![text("late")]));
    }

    #[test]
    fn b25_a_message_of_the_wrong_type_is_refused_at_the_first_byte_of_its_first_frame() {
        for (message_type, right, wrong) in
            [(MessageType::Text, 0x81, 0x82), (MessageType::Binary, 0x82, 0x81)]
        {
            let limits = SessionLimits { message_type, ..LIMITS };
            let ping = frame(0x89, b"x");
            let said =
                [frame(right, b"taken"), frame(right & 0x0f, b"in "), ping, frame(0x80, b"pieces")].concat();
            let heard = hear(limits, &[&said]);
            assert_eq!((heard.events.len(), heard.fault), (3, None), "{message_type:?}");
            // What came before is heard, and of the wrong message not even a header.
            for first in [wrong, wrong & 0x0f] {
                let heard = hear(limits, &[&said, &[first]]);
                let expected = (3, Some(CloseReason::TypeUnsupported));
                assert_eq!((heard.events.len(), heard.fault), expected, "{message_type:?} {first:#x}");
            }
        }
        for first in [0x81, 0x82, 0x01, 0x02] {
            assert_eq!(fault(&[first]), None, "{first:#x}");
        }
    }

    #[test]
    fn b1_unmasked_frames_are_refused_at_their_second_byte() {
        for first in [0x81, 0x82, 0x88, 0x89, 0x8a, 0x01, 0x02] {
            for second in 0..0x80 {
                assert_eq!(fault(&[first, second]), Some(CloseReason::Unmasked));
            }
        }
        assert_eq!(fault(&[&frame(0x01, b"a")[..], &[0x80, 0]].concat()), Some(CloseReason::Unmasked));
    }

    #[test]
    fn b2_every_first_byte_means_what_it_may() {
        for first in 0..=u8::MAX {
            for is_open in [false, true] {
                let expected = match (first & 0x70, first & 0x0f, first & 0x80 != 0, is_open) {
                    (1.., ..) => Some(CloseReason::ReservedBits),
                    (_, 0x3..=0x7 | 0xb.., ..) => Some(CloseReason::Opcode),
                    (_, 0x8..=0xa, false, _) => Some(CloseReason::ControlFragmented),
                    (_, 0x0, _, false) | (_, 0x1 | 0x2, _, true) => Some(CloseReason::ContinuationState),
                    _ => None,
                };
                let before = if is_open { frame(0x01, b"begun") } else { Vec::new() };
                assert_eq!(fault(&[&before[..], &[first]].concat()), expected, "{first:#x} {is_open}");
                assert_eq!(fault(&[&before[..], &frame(first, b"")].concat()), expected, "{first:#x}");
            }
        }
    }

    #[test]
    fn b3_control_frames_are_short_and_whole() {
        for opcode in [0x8, 0x9, 0xa] {
            for length in 0..=300_u16 {
                let payload = [&1000_u16.to_be_bytes()[..], &vec![b'x'; length.into()]].concat();
                let payload = &payload[..length.into()];
                assert_eq!(fault(&frame(opcode, payload)), Some(CloseReason::ControlFragmented));
                let expected = match (opcode, length) {
                    (_, 126..) => Some(CloseReason::ControlLength),
                    (0x8, 1) => Some(CloseReason::CloseCode),
                    _ => None,
                };
                assert_eq!(fault(&frame(0x80 | opcode, payload)), expected, "{opcode:#x} {length}");
                for form in [126, 127] {
                    let bytes = header(0x80 | opcode, form, length.into());
                    assert_eq!(fault(&bytes), Some(CloseReason::ControlLength));
                }
            }
        }
    }

    #[test]
    fn b4_huge_lengths_are_refused_before_anything_is_reserved() {
        for length in [1 << 63, (1 << 63) + 1, u64::MAX] {
            assert_eq!(fault(&header(0x82, 127, length)[..3]), Some(CloseReason::LengthForm), "{length:#x}");
        }
        for power in [31, 32, 63] {
            for length in [(1_u64 << power) - 1, 1 << power, (1 << power) + 1] {
                let expected =
                    if length >> 63 == 0 { CloseReason::MessageTooBig } else { CloseReason::LengthForm };
                assert_eq!(fault(&header(0x82, 127, length)[..10]), Some(expected), "{length:#x}");
            }
        }
        for length in [0xffff_u64, 0x1_0000, 0x1_0001] {
            let header = header(0x82, if length > 0xffff { 127 } else { 126 }, length);
            assert_eq!(fault(&header), Some(CloseReason::MessageTooBig), "{length:#x}");
        }
    }

    #[test]
    fn b5_lengths_come_in_their_shortest_form() {
        let limits = SessionLimits { max_message: 100_000, ..LIMITS };
        for length in 0..=70_000 {
            let shortest = if length > 0xffff { 127 } else { length.min(126) as u8 };
            for form in [126, 127] {
                if form < shortest || (form == 126 && length > 0xffff) {
                    continue;
                }
                let expected = (form != shortest).then_some(CloseReason::LengthForm);
                let mut own = Vec::new();
                let mut websocket = WebSocket::new(limits);
                let got = websocket.handle_bytes(&header(0x82, form, length), &mut own, &mut Vec::new());
                assert_eq!(got.err(), expected, "{length} as {form}");
            }
        }
    }

    #[test]
    fn b6_a_frame_over_the_limit_is_refused_at_its_header() {
        assert_eq!(hear(LIMITS, &[&frame(0x82, &[7; 700])]).events, [binary(vec![7; 700])]);
        for length in [701_u64, 65_535] {
            assert_eq!(fault(&header(0x82, 126, length)[..4]), Some(CloseReason::MessageTooBig));
        }
        assert_eq!(fault(&header(0x82, 127, 1 << 30)[..10]), Some(CloseReason::MessageTooBig));
        let none = SessionLimits { max_message: 0, ..LIMITS };
        assert_eq!(hear(none, &[&frame(0x89, &[1; 125]), &frame(0x81, b"")]).fault, None);
        assert_eq!(hear(none, &[&frame(0x81, b"a")]).fault, Some(CloseReason::MessageTooBig));
    }

    #[test]
    fn b7_a_message_over_the_limit_is_refused_at_the_fragment_that_crosses_it() {
        // 64 bytes for each of the three fragments.
        let mut bytes = frame(0x02, &[1; 300]);
        bytes.extend(frame(0x89, &[2; 125]));
        bytes.extend(frame(0x00, &[1; 208]));
        assert_eq!(fault(&[&bytes[..], &frame(0x80, b"")].concat()), None);
        assert_eq!(fault(&[&bytes[..], &header(0x80, 1, 1)[..2]].concat()), Some(CloseReason::MessageTooBig));
    }

    #[test]
    fn b8_tiny_fragments_count_sixty_four_bytes_each_and_nine_empty_ones_are_too_many() {
        let message = |count: usize, payload: &[u8]| {
            let between = frame(0x00, payload).repeat(count - 2);
            [frame(0x02, payload), between, frame(0x80, payload)].concat()
        };
        // Ten times 64 and one: 650 of 700; one more is 715.
        assert_eq!(hear(LIMITS, &[&message(10, b"x")]).events, [binary(vec![b'x'; 10])]);
        assert_eq!(fault(&message(11, b"x")), Some(CloseReason::MessageTooBig));
        // The last one ends the message, empty or not.
        assert_eq!(hear(LIMITS, &[&message(9, b"")]).events, [binary("")]);
        let limits = SessionLimits { max_message: 100_000, ..LIMITS };
        let bytes = message(10, b"");
        let heard = hear(limits, &[&bytes]);
        assert_eq!((heard.fault, heard.events), (Some(CloseReason::FragmentOverhead), vec![]));
        // At the header of the ninth, whatever stands between them; the count begins anew with each message.
        let ninth = 8 * 6 + 2;
        assert_eq!(hear(limits, &[&bytes[..ninth]]).fault, Some(CloseReason::FragmentOverhead));
        assert_eq!(hear(limits, &[&bytes[..ninth - 1]]).fault, None);
        let between =
            [frame(0x02, b""), [frame(0x00, b"a"), frame(0x89, b"?"), frame(0x00, b"")].concat().repeat(8)];
        assert_eq!(hear(limits, &[&between.concat()]).fault, Some(CloseReason::FragmentOverhead));
        assert_eq!(hear(limits, &[&message(9, b"").repeat(5)]).events.len(), 5);
    }

    #[test]
    fn b8_fragments_grow_one_buffer() {
        let limits = SessionLimits { max_message: 64 * 1024, ..LIMITS };
        let counted = |bytes: &[u8]| {
            allocation_counter::measure(|| {
                let heard = hear(limits, &[bytes]);
                assert_eq!(heard.fault, None);
            })
        };
        // As many as the limit takes: 1008 fragments of a byte; their payload is 1 KiB.
        let tiny = [frame(0x02, b"x"), frame(0x00, b"x").repeat(1007)].concat();
        let held = counted(&tiny).bytes_max;
        assert!(held <= 2 * 64 * 1024, "{held} bytes");
    }

    #[test]
    fn b10_text_in_pieces_is_refused_at_its_first_impossible_byte() {
        let bad = b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80edited";
        let impossible = 6;
        for bytes in [
            frame(0x81, bad),
            [frame(0x01, &bad[..2]), frame(0x80, &bad[2..])].concat(),
            [frame(0x01, &bad[..6]), frame(0x89, b"\xff"), frame(0x00, b""), frame(0x80, &bad[6..])].concat(),
        ] {
            let rest = bad.len() - impossible;
            let at = bytes.len() - rest;
            // Split before each byte: what comes up to the impossible one is taken, whatever follows.
            for cut in 1..at {
                let taken = hear(LIMITS, &[&bytes[..cut], &bytes[cut..at]]);
                assert_eq!((taken.fault, taken.events.len()), (None, usize::from(bytes.len() > 30)), "{cut}");
                let refused = hear(LIMITS, &[&bytes[..cut], &bytes[cut..=at]]);
                assert_eq!(refused.fault, Some(CloseReason::Utf8), "{cut}");
            }
        }
        // Binary is not looked at, and a text after it begins anew.
        let other =
            [frame(0x02, bad), frame(0x80, b"\xff"), frame(0x01, b"\xce"), frame(0x80, b"\xba")].concat();
        for pieces in [vec![&other[..]], pieces(&other, &[1])] {
            assert_eq!(hear(LIMITS, &pieces).events[1..], [text("\u{3ba}")]);
        }
    }

    #[test]
    fn b10_text_is_utf8_within_and_across_fragments() {
        let ok = [frame(0x01, b"\xce"), frame(0x80, b"\xba")].concat();
        assert_eq!(hear(LIMITS, &[&ok]).events, [text("\u{3ba}")]);
        for bad in [
            frame(0x81, b"\xce"),
            frame(0x81, b"a\xed\xa0\x80"),
            frame(0x01, b"\xff"),
            [frame(0x01, b"\xce"), frame(0x80, b"a")].concat(),
            [frame(0x81, b"\xff"), frame(0x88, b"\x03\xe8bye")].concat(),
            [frame(0x81, b"\xff"), vec![0xff; 9]].concat(),
        ] {
            let heard = hear(LIMITS, &[&bad]);
            assert_eq!((heard.fault, heard.events), (Some(CloseReason::Utf8), vec![]), "{bad:?}");
        }
    }

    #[test]
    fn b17_every_close_code_is_echoed_or_refused() {
        for code in 0..=u16::MAX {
            let is_legal =
                matches!(code, 1000..=1003 | 1007..=1011 | 1012 | 1013 | 1014 | 3000..=3999 | 4000..=4999);
            let payload = [&code.to_be_bytes()[..], b"why"].concat();
            let heard = hear(LIMITS, &[&frame(0x88, &payload)]);
            if is_legal {
                assert_eq!(heard.events, [Event::Closed { code: Some(code) }]);
                assert_eq!(heard.own, ours(0x88, &code.to_be_bytes()), "the code only");
            } else {
                let refused = Heard { fault: Some(CloseReason::CloseCode), ..Heard::default() };
                assert_eq!(heard, refused, "{code}");
            }
        }
        assert_eq!(fault(&frame(0x88, b"\x03")), Some(CloseReason::CloseCode));
        assert_eq!(fault(&frame(0x88, b"\x03\xe8\xff")), Some(CloseReason::CloseCode));
        let empty = hear(LIMITS, &[&frame(0x88, b"")]);
        assert_eq!((empty.events, empty.own), (vec![Event::Closed { code: None }], vec![0x88, 0]));
    }

    #[test]
    fn nothing_after_a_close_or_a_fault_is_decoded() {
        let after = [frame(0x89, b"?"), frame(0x81, b"more"), vec![0xff; 20]].concat();
        for (end, result) in
            [(frame(0x88, b"\x03\xe8"), Ok(())), (vec![0xf0], Err(CloseReason::ReservedBits))]
        {
            let mut websocket = WebSocket::new(LIMITS);
            let (mut own, mut events) = (Vec::new(), Vec::new());
            let bytes = [&frame(0x81, b"last words")[..], &end, &after].concat();
            assert_eq!(websocket.handle_bytes(&bytes, &mut own, &mut events), result);
            assert_eq!(events[0], text("last words"));
            let before = (own.clone(), events.clone());
            assert_eq!(websocket.handle_bytes(&after, &mut own, &mut events), Ok(()));
            assert_eq!((own, events), before);
            assert!(!websocket.is_at_rest() && !websocket.is_mid_message());
        }
    }

    #[test]
    fn b18_nothing_is_answered_once_our_close_frame_is_sent() {
        let mut websocket = WebSocket::new(LIMITS);
        let (mut own, mut events) = (Vec::new(), Vec::new());
        websocket.on_close_sent();
        let bytes = [frame(0x89, b"?"), frame(0x81, b"late"), frame(0x88, b"\x03\xe8")].concat();
        assert_eq!(websocket.handle_bytes(&bytes, &mut own, &mut events), Ok(()));
        assert_eq!(events, [Event::Ping, text("late"), Event::Closed { code: Some(1000) }]);
        assert!(own.is_empty());
    }

    #[test]
    fn own_frames_never_exceed_their_cap_and_the_newest_ping_is_answered_once_there_is_room() {
        let limits = SessionLimits { own_frames_bytes_max: 300, ..LIMITS };
        let mut websocket = WebSocket::new(limits);
        let (mut own, mut events) = (Vec::new(), Vec::new());
        for ping in 0..1000_u16 {
            let payload = [&ping.to_be_bytes()[..], &vec![0; usize::from(ping) % 124]].concat();
            websocket.handle_bytes(&frame(0x89, &payload), &mut own, &mut events).unwrap();
            assert!(own.len() <= 300 - CONTROL_FRAME_BYTES_MAX);
        }
        assert_eq!(events.len(), 1000);
        assert!(!websocket.is_at_rest() && !websocket.is_mid_message());
        own.clear();
        websocket.handle_bytes(&[], &mut own, &mut events).unwrap();
        let newest = [&999_u16.to_be_bytes()[..], &[0; 999 % 124]].concat();
        assert!(own.ends_with(&ours(0x8a, &newest)), "{own:?}");
        assert!(own.len() <= 300 - CONTROL_FRAME_BYTES_MAX && websocket.is_at_rest());
    }

    #[test]
    fn a_close_reply_finds_room_where_pongs_do_not() {
        let limits = SessionLimits { own_frames_bytes_max: 300, ..LIMITS };
        let pings = frame(0x89, &[1; 100]).repeat(5);
        let heard = hear(limits, &[&pings, &frame(0x88, b"\x0f\xa0")]);
        assert_eq!(heard.own, [ours(0x8a, &[1; 100]), ours(0x88, b"\x0f\xa0")].concat());
        assert!(heard.own.len() <= 300);
    }

    #[test]
    fn a_context_is_needed_exactly_while_something_is_under_way() {
        let bytes = [frame(0x01, b"be"), frame(0x89, b"?"), frame(0x80, b"gun")].concat();
        let mut websocket = WebSocket::new(LIMITS);
        assert!(websocket.is_at_rest() && !websocket.is_mid_message());
        for (index, byte) in bytes.iter().enumerate() {
            websocket.handle_bytes(&[*byte], &mut Vec::new(), &mut Vec::new()).unwrap();
            let is_last = index + 1 == bytes.len();
            assert_eq!(websocket.is_at_rest(), is_last);
            assert_eq!(websocket.is_mid_message(), !is_last);
        }
    }

    #[test]
    fn close_frames_carry_code_token_and_detail_within_their_limit() {
        let mut own = Vec::new();
        append_close_frame(CloseReason::SlowConsumer, None, &mut own);
        append_close_frame(CloseReason::Draining, Some("in=250"), &mut own);
        let expected =
            [ours(0x88, b"\x10\x05slow_consumer"), ours(0x88, b"\x03\xf4draining;in=250")].concat();
        assert_eq!(own, expected);
        own.clear();
        append_close_frame(CloseReason::Policy, Some(&"gr\u{fc}n\n".repeat(50)), &mut own);
        assert!(own.starts_with(b"\x88\x7d\x03\xf0policy;gr?n?") && own.len() == 127 && own[4..].is_ascii());
        own.clear();
        append_close_frame(CloseReason::EndOfFile, Some("gone"), &mut own);
        assert!(own.is_empty());
        append_ping(b"12345678", &mut own);
        assert_eq!(own, b"\x89\x0812345678");
    }

    /// Should the tracker ever let one through, tungstenite's word for it is ours.
    #[test]
    fn both_lines_of_defence_call_a_fault_by_the_same_name() {
        for bytes in [
            vec![0x81, 0x01, b'a'],
            frame(0xc1, b""),
            frame(0x83, b""),
            frame(0x8b, b""),
            frame(0x09, b""),
            frame(0x89, &[0; 126]),
            frame(0x80, b""),
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            frame(0x82, &[0; 701]),
            [frame(0x02, &[0; 400]), frame(0x80, &[0; 301])].concat(),
            frame(0x88, b"\x03"),
            frame(0x81, b"\xff"),
        ] {
            let mut alone = WebSocket::new(LIMITS);
            let found = alone.decode(&bytes, &mut Vec::new(), &mut Vec::new());
            assert_eq!(found.err(), fault(&bytes), "{bytes:?}");
            assert!(found.is_err());
        }
    }

    /// tungstenite as the peer: what it writes and what it makes of what we write.
    struct Peer {
        context: WebSocketContext,
    }

    impl Peer {
        fn new() -> Self {
            let config = WebSocketConfig::default().read_buffer_size(512).write_buffer_size(0);
            Self { context: WebSocketContext::new(Role::Client, Some(config)) }
        }

        fn say(&mut self, message: Message) -> Vec<u8> {
            let mut said = Vec::new();
            let mut pipe = Pipe {
                input: &[],
                own: &mut said,
                own_bytes_max: usize::MAX,
                is_mute: false,
                is_blocked: false,
            };
            match self.context.write(&mut pipe, message) {
                Ok(()) | Err(Error::ConnectionClosed) => said,
                Err(error) => panic!("{error}"),
            }
        }

        fn hear(&mut self, input: &[u8]) -> Vec<Message> {
            let mut said = Vec::new();
            let mut pipe =
                Pipe { input, own: &mut said, own_bytes_max: usize::MAX, is_mute: true, is_blocked: false };
            let mut messages = Vec::new();
            while let Ok(message) = self.context.read(&mut pipe) {
                messages.push(message);
            }
            assert!(pipe.input.is_empty());
            messages
        }
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            "\\PC{0,200}".prop_map(Message::text),
            vec(any::<u8>(), 0..700).prop_map(Message::binary),
            vec(any::<u8>(), 0..=125).prop_map(|payload| Message::Ping(payload.into())),
            vec(any::<u8>(), 0..=125).prop_map(|payload| Message::Pong(payload.into())),
        ]
    }

    proptest! {
        #[test]
        fn splits_and_hibernation_change_nothing(bytes in noise(), cuts in vec(1..60_usize, 1..5)) {
            let expected = hear(LIMITS, &[&bytes]);
            prop_assert_eq!(&hear(LIMITS, &pieces(&bytes, &cuts)), &expected);
            prop_assert_eq!(&hear(LIMITS, &pieces(&bytes, &[1])), &expected);
        }

        #[test]
        fn tungstenite_as_client_is_understood_and_understands(
            messages in vec(message(), 0..8),
            farewell in prop_oneof![
                Just(None),
                (3000..5000_u16, "[ -~]{0,50}").prop_map(Some),
            ],
            cuts in vec(1..300_usize, 1..5),
        ) {
            let limits = SessionLimits { max_message: 4000, ..LIMITS };
            let mut peer = Peer::new();
            let mut said: Vec<u8> = Vec::new();
            let (mut expected, mut answers) = (Vec::new(), Vec::new());
            for message in messages {
                said.extend(peer.say(message.clone()));
                expected.push(match message {
                    Message::Text(text) => Event::Message { kind: PayloadKind::Text, payload: text.into() },
                    Message::Binary(payload) => binary(payload),
                    Message::Ping(payload) => {
                        answers.push(Message::Pong(payload));
                        Event::Ping
                    }
                    Message::Pong(payload) => Event::Pong { payload },
                    Message::Close(_) | Message::Frame(_) => unreachable!("not generated"),
                });
            }
            let code = farewell.as_ref().map(|(code, _)| *code);
            let close = farewell.map(|(code, reason)| CloseFrame { code: code.into(), reason: reason.into() });
            said.extend(peer.say(Message::Close(close)));
            expected.push(Event::Closed { code });
            answers.push(Message::Close(
                code.map(|code| CloseFrame { code: code.into(), reason: "".into() }),
            ));
            let heard = hear(limits, &pieces(&said, &cuts));
            prop_assert_eq!(heard.fault, None);
            prop_assert_eq!(heard.events, expected);
            prop_assert_eq!(peer.hear(&heard.own), answers);
        }

        /// Accepted exactly when the sum says so.
        #[test]
        fn b7_the_sum_of_the_fragments_decides(lengths in vec(0..400_usize, 1..6), limit in 0..1200_usize) {
            let mut bytes = Vec::new();
            for (index, length) in lengths.iter().enumerate() {
                let first = if index == 0 { 0x02 } else { 0x00 };
                let fin = if index + 1 == lengths.len() { 0x80 } else { 0x00 };
                bytes.extend(frame(fin | first, &vec![9; *length]));
            }
            let heard = hear(SessionLimits { max_message: limit, ..LIMITS }, &[&bytes]);
            let sum: usize = lengths.iter().sum();
            let overhead = if lengths.len() > 1 { 64 * lengths.len() } else { 0 };
            if sum + overhead <= limit {
                prop_assert_eq!(heard.events, [binary(vec![9; sum])]);
            } else {
                prop_assert_eq!(heard.fault, Some(CloseReason::MessageTooBig));
            }
        }
    }
}
