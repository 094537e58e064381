//! Where frames begin and end, and what a client's frame header may not say (RFC 6455 §5.2, §5.4, §5.5).
//!
//! tungstenite tells neither whether it stands at a message boundary nor refuses everything at the header: it takes
//! lengths in a longer form than needed, buffers a control frame of any size before it complains, and answers an
//! illegal close code as if the peer had said 1002. This tracker walks ahead of it over the same bytes in constant
//! time a frame, so the codec only ever sees frames that may be there. Of the payload it looks at a text that comes in
//! pieces (`utf8.rs`), which the codec checks a frame at a time. Property tests hold the two together.

use super::utf8::Utf8;
use crate::config::MessageType;
use crate::config::limits::{EMPTY_FRAGMENTS_MAX, FRAGMENT_OVERHEAD_BYTES};
use crate::model::{CloseReason, PayloadKind};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PONG: u8 = 0xa;

/// What the next byte is part of.
///
/// ```text
///   First ─► Second ─► Length ─► Mask ─► Payload ─► First      a frame without extended length skips Length,
///                └────────────────┘└───────────────► First      one without payload skips Payload;
///                                                 └► Over       the end of a close frame ends everything
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Part {
    /// FIN, reserved bits, opcode.
    #[default]
    First,
    /// Mask bit and short length.
    Second,
    /// The extended length: two or eight bytes.
    Length,
    /// The four bytes of the mask.
    Mask,
    /// `left` more bytes of payload.
    Payload,
    /// A close frame is complete: nothing after it is part of the conversation (RFC 6455 §5.5.1).
    Over,
}

/// The message that has begun, if its last frame has not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Message {
    /// None.
    #[default]
    None,
    /// A text of which nothing was checked here: if this frame is all of it, and here, the codec does that.
    Text,
    /// A text that comes in pieces, checked byte by byte.
    TextInPieces,
    /// Binary.
    Binary,
}

/// What a message may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageBounds {
    /// Most bytes, fragments added up; never more than 4 GiB.
    pub bytes_max: usize,
    /// Of which type; the rest is refused at the first byte of its first frame.
    pub kind: MessageType,
}

impl From<usize> for MessageBounds {
    /// Of either type, with at most `bytes_max` bytes.
    fn from(bytes_max: usize) -> Self {
        Self { bytes_max, kind: MessageType::Any }
    }
}

/// A frame that breaks a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Which rule.
    pub reason: CloseReason,
    /// Index in the input of the byte that broke it; what stands before is fit for the codec.
    pub at: usize,
}

/// The state of one inbound stream of masked frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Boundary {
    /// Within the header the length read so far, then the payload bytes still to come.
    left: u64,
    /// Payload bytes of the open message as announced by its headers so far, and what its fragments are charged.
    message_bytes: u32,
    /// That of the next byte of payload first; within a close frame as it came.
    mask: [u8; 4],
    /// Of a close frame: its code, unmasked.
    code: [u8; 2],
    /// First byte of the frame.
    first: u8,
    /// Second byte of the frame.
    second: u8,
    part: Part,
    /// Bytes of this `part` still to come, in `Length` and `Mask`.
    part_left: u8,
    message: Message,
    /// Fragments of the open message that carried nothing and were not its last.
    empty_fragments: u8,
}

impl Boundary {
    /// Follows the stream over `input`. Returns the index after a close frame if one ends here; what stands behind
    /// it is not looked at, now or later. Messages beyond `bounds` are refused at the header that says so; a fragment counts [`FRAGMENT_OVERHEAD_BYTES`] on top. Constant time a frame, whatever its
    /// length, but for a text in pieces: that is checked with `utf8`, which belongs to this stream and to it alone.
    ///
    /// # Errors
    /// [`Fault`]: which rule the peer broke and where. The state is then meaningless: drop it.
    pub fn feed(
        &mut self,
        input: &[u8],
        bounds: impl Into<MessageBounds>,
        utf8: &mut Utf8,
    ) -> Result<Option<usize>, Fault> {
        let bounds = bounds.into();
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.part {
                Part::Over => return Ok(None),
                Part::Payload if self.opcode() == CLOSE => {
                    self.on_close_payload(byte).map_err(|reason| Fault { reason, at })?;
                    at += 1;
                }
                Part::Payload => {
                    let here = self.left.min((input.len() - at) as u64);
                    let end = at + here as usize;
                    self.check_text(&input[at..end], utf8)
                        .map_err(|bad| Fault { reason: CloseReason::Utf8, at: at + bad })?;
                    self.left -= here;
                    at = end;
                    if self.left == 0 {
                        self.on_frame_end();
                    }
                }
                Part::First | Part::Second | Part::Length | Part::Mask => {
                    self.on_header(byte, bounds).map_err(|reason| Fault { reason, at })?;
                    at += 1;
                }
            }
            if self.part == Part::Over {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Payload bytes of the open message that have come, and what its fragments are charged.
    pub fn received_bytes(&self) -> usize {
        let left = if self.part == Part::Payload && self.opcode() < CLOSE { self.left } else { 0 };
        u64::from(self.message_bytes).saturating_sub(left) as usize
    }

    /// Whether the stream stands between two messages.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.part, Part::First) && !self.is_in_data_message()
    }

    /// Whether a text or binary message has begun and is not finished; a control frame is none.
    pub const fn is_in_data_message(&self) -> bool {
        !matches!(self.message, Message::None)
    }

    /// Whether a message or frame has begun and is not finished.
    pub const fn is_mid_message(&self) -> bool {
        !self.is_at_rest() && !self.is_over()
    }

    /// Bytes of payload that the present frame still has to come, as far as its header is complete.
    pub fn payload_left(&self) -> u64 {
        if self.part == Part::Payload { self.left } else { 0 }
    }

    /// Whether a close frame has ended the stream.
    pub const fn is_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    /// The code of the close frame that ended the stream, if that had one. Always a legal one.
    pub fn close_code(&self) -> Option<u16> {
        (self.is_over() && self.short_length() >= 2).then(|| u16::from_be_bytes(self.code))
    }

    fn on_header(&mut self, byte: u8, bounds: MessageBounds) -> Result<(), CloseReason> {
        match self.part {
            Part::First => {
                self.first = byte;
                self.check_first()?;
                match self.opcode() {
                    TEXT if !bounds.kind.takes(PayloadKind::Text) => {
                        return Err(CloseReason::TypeUnsupported);
                    }
                    BINARY if !bounds.kind.takes(PayloadKind::Binary) => {
                        return Err(CloseReason::TypeUnsupported);
                    }
                    TEXT => self.message = Message::Text,
                    BINARY => self.message = Message::Binary,
                    _ => {}
                }
                self.part = Part::Second;
            }
            Part::Second => {
                self.second = byte;
                self.check_second()?;
                match self.short_length() {
                    126 => self.expect_length(2),
                    127 => self.expect_length(8),
                    length => {
                        self.left = u64::from(length);
                        self.on_length_known(bounds.bytes_max)?;
                    }
                }
            }
            Part::Length => {
                if self.part_left == 8 && byte & 0x80 != 0 {
                    return Err(CloseReason::LengthForm);
                }
                self.left = self.left << 8 | u64::from(byte);
                self.part_left -= 1;
                if self.part_left == 0 {
                    let shortest = if self.short_length() == 126 { 126 } else { 0x1_0000 };
                    if self.left < shortest {
                        return Err(CloseReason::LengthForm);
                    }
                    self.on_length_known(bounds.bytes_max)?;
                }
            }
            Part::Mask => {
                self.mask[usize::from(4 - self.part_left)] = byte;
                self.part_left -= 1;
                if self.part_left == 0 && self.left == 0 {
                    self.on_frame_end();
                } else if self.part_left == 0 {
                    self.part = Part::Payload;
                }
            }
            Part::Payload | Part::Over => {}
        }
        Ok(())
    }

    fn check_first(&self) -> Result<(), CloseReason> {
        if self.first & 0x70 != 0 {
            return Err(CloseReason::ReservedBits);
        }
        match self.opcode() {
            CONTINUATION if !self.is_in_data_message() => Err(CloseReason::ContinuationState),
            TEXT | BINARY if self.is_in_data_message() => Err(CloseReason::ContinuationState),
            CONTINUATION | TEXT | BINARY => Ok(()),
            CLOSE..=PONG if !self.is_final() => Err(CloseReason::ControlFragmented),
            CLOSE..=PONG => Ok(()),
            _ => Err(CloseReason::Opcode),
        }
    }

    fn check_second(&self) -> Result<(), CloseReason> {
        if self.second & 0x80 == 0 {
            return Err(CloseReason::Unmasked);
        }
        if self.is_control() && self.short_length() > 125 {
            return Err(CloseReason::ControlLength);
        }
        if self.opcode() == CLOSE && self.short_length() == 1 {
            return Err(CloseReason::CloseCode);
        }
        Ok(())
    }

    fn expect_length(&mut self, bytes: u8) {
        self.part = Part::Length;
        self.part_left = bytes;
        self.left = 0;
    }

    fn on_length_known(&mut self, message_bytes_max: usize) -> Result<(), CloseReason> {
        if !self.is_control() {
            let is_fragment = !self.is_final() || self.opcode() == CONTINUATION;
            if !self.is_final() && self.left == 0 {
                self.empty_fragments += 1;
                if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                    return Err(CloseReason::FragmentOverhead);
                }
            }
            let charged = self.left.saturating_add(if is_fragment { FRAGMENT_OVERHEAD_BYTES } else { 0 });
            let total = u64::from(self.message_bytes).saturating_add(charged);
            self.message_bytes = u32::try_from(total)
                .ok()
                .filter(|_| total <= message_bytes_max as u64)
                .ok_or(CloseReason::MessageTooBig)?;
        }
        self.part = Part::Mask;
        self.part_left = 4;
        Ok(())
    }

    /// Takes one payload byte of a close frame: the first two are the code.
    fn on_close_payload(&mut self, byte: u8) -> Result<(), CloseReason> {
        match u64::from(self.short_length()) - self.left {
            0 => self.code[0] = byte ^ self.mask[0],
            1 => {
                self.code[1] = byte ^ self.mask[1];
                if !is_legal_close_code(u16::from_be_bytes(self.code)) {
                    return Err(CloseReason::CloseCode);
                }
            }
            _ => {}
        }
        self.left -= 1;
        if self.left == 0 {
            self.on_frame_end();
        }
        Ok(())
    }

    /// Checks payload of a text that does not stand in this input as one frame. The index of a bad byte is the error.
    fn check_text(&mut self, payload: &[u8], utf8: &mut Utf8) -> Result<(), usize> {
        if self.is_control() {
            return Ok(());
        }
        match self.message {
            Message::None | Message::Binary => return Ok(()),
            Message::Text if self.is_final() && payload.len() as u64 == self.left => return Ok(()),
            Message::Text => {
                self.message = Message::TextInPieces;
                *utf8 = Utf8::default();
            }
            Message::TextInPieces => {}
        }
        utf8.feed(payload, self.mask)?;
        self.mask.rotate_left(payload.len() % 4);
        Ok(())
    }

    fn on_frame_end(&mut self) {
        self.part = if self.opcode() == CLOSE { Part::Over } else { Part::First };
        self.mask = [0; 4];
        if !self.is_control() && self.is_final() {
            self.message = Message::None;
            self.message_bytes = 0;
            self.empty_fragments = 0;
        }
    }

    const fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    const fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    const fn is_control(&self) -> bool {
        self.first & 0x08 != 0
    }

    const fn short_length(&self) -> u8 {
        self.second & 0x7f
    }
}

/// Whether a client may send `code` (RFC 6455 §7.4 and the IANA registry: 1004 to 1006 and 1015 never travel).
pub const fn is_legal_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::io::{self, ErrorKind, Read, Write};
    use tungstenite::Error;
    use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

    /// The masked frame with this first byte, in the shortest length form.
    pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let form = if payload.len() > 0xffff { 127 } else { payload.len().min(126) as u8 };
        let mut bytes = header(first, form, payload.len() as u64);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// The header of a masked frame whose length takes the form `form` says: 126, 127, or the length itself.
    pub fn header(first: u8, form: u8, length: u64) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | form];
        match form {
            126 => bytes.extend((length as u16).to_be_bytes()),
            127 => bytes.extend(length.to_be_bytes()),
            _ => {}
        }
        bytes.extend(MASK);
        bytes
    }

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// `bytes` cut after every length of `cuts`, over and over; the rest is the last piece.
    pub fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle().take(bytes.len() + 1) {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        pieces.push(rest);
        pieces
    }

    /// Frames that may follow one another: fragmented messages with control frames between the fragments.
    pub fn conversation() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let control = (prop_oneof![Just(0x89_u8), Just(0x8a)], vec(any::<u8>(), 0..=125));
        let fragment = (vec(any::<u8>(), 0..300), vec(control, 0..3));
        let message = (prop_oneof![Just(0x1_u8), Just(0x2)], vec(fragment, 1..4));
        vec(message, 0..4).prop_map(|messages| {
            let mut frames = Vec::new();
            for (kind, fragments) in messages {
                let last = fragments.len() - 1;
                for (index, (payload, controls)) in fragments.into_iter().enumerate() {
                    let fin = if index == last { 0x80 } else { 0 };
                    let opcode = if index == 0 { kind } else { CONTINUATION };
                    let payload: Vec<u8> = match kind {
                        TEXT => payload.iter().map(|byte| byte & 0x7f).collect(),
                        _ => payload,
                    };
                    frames.push(frame(fin | opcode, &payload));
                    frames.extend(controls.iter().map(|(first, payload)| frame(*first, payload)));
                }
            }
            frames
        })
    }

    /// A conversation in which some bytes may be wrong.
    pub fn noise() -> impl Strategy<Value = Vec<u8>> {
        let close = prop_oneof![Just(vec![]), Just(frame(0x88, &[])), Just(frame(0x88, b"\x03\xe8bye"))];
        let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        let conversation = (conversation(), close, damage).prop_map(|(frames, close, damage)| {
            let mut bytes = frames.concat();
            bytes.extend(close);
            for (index, value) in damage {
                if !bytes.is_empty() {
                    let index = index.index(bytes.len());
                    bytes[index] = value;
                }
            }
            bytes
        });
        prop_oneof![4 => conversation, 1 => vec(any::<u8>(), 0..60)]
    }

    /// tungstenite alone, over memory.
    struct Codec {
        context: WebSocketContext,
    }

    struct Memory<'a>(&'a [u8]);

    impl Read for Memory<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { self.0.read(out) }
        }
    }

    impl Write for Memory<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Codec {
        fn new(message_bytes_max: usize) -> Self {
            let config = WebSocketConfig::default()
                .read_buffer_size(512)
                .max_message_size(Some(message_bytes_max))
                .max_frame_size(Some(message_bytes_max.max(125)));
            Self { context: WebSocketContext::new(Role::Server, Some(config)) }
        }

        /// How many messages and control frames came out, or what was wrong.
        fn feed(&mut self, input: &[u8]) -> Result<usize, Error> {
            let mut memory = Memory(input);
            let mut events = 0;
            loop {
                match self.context.read(&mut memory) {
                    Ok(message) if message.is_close() => return Ok(events + 1),
                    Ok(_) => events += 1,
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(events),
                    Err(error) => return Err(error),
                }
            }
        }
    }

    #[test]
    fn the_tracker_is_no_larger_than_24_bytes() {
        assert!(size_of::<Boundary>() <= 24);
    }

    #[test]
    fn a_frame_of_every_length_form_is_followed_to_its_last_byte() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let bytes = frame(0x82, &vec![7; length]);
            let mut boundary = Boundary::default();
            assert!(boundary.is_at_rest());
            assert_eq!(boundary.feed(&bytes[..bytes.len() - 1], 70_000, &mut Utf8::default()), Ok(None));
            assert!(!boundary.is_at_rest() && boundary.is_mid_message());
            assert_eq!(boundary.feed(&bytes[bytes.len() - 1..], 70_000, &mut Utf8::default()), Ok(None));
            assert!(boundary.is_at_rest() && !boundary.is_mid_message());
        }
    }

    #[test]
    fn nothing_after_a_close_frame_is_looked_at() {
        let mut bytes = frame(0x88, b"\x0f\xa0bye");
        let end = bytes.len();
        bytes.extend([0xff; 20]);
        let mut boundary = Boundary::default();
        assert_eq!(boundary.feed(&bytes, 100, &mut Utf8::default()), Ok(Some(end)));
        assert_eq!(boundary.feed(&[0xff; 20], 100, &mut Utf8::default()), Ok(None));
        assert!(boundary.is_over() && !boundary.is_at_rest() && !boundary.is_mid_message());
        assert_eq!(boundary.close_code(), Some(4000));
    }

    #[test]
    fn a_message_of_four_gigabytes_is_refused_whatever_the_limit() {
        let mut bytes = frame(0x02, b"a");
        bytes.extend(header(0x80, 127, u64::from(u32::MAX)));
        let fault = Boundary::default().feed(&bytes, usize::MAX, &mut Utf8::default()).unwrap_err();
        assert_eq!(fault, Fault { reason: CloseReason::MessageTooBig, at: bytes.len() - 5 });
    }

    proptest! {
        /// Byte by byte, with what tungstenite makes of the same bytes.
        #[test]
        fn rest_is_where_tungstenite_has_nothing_begun(frames in conversation()) {
            let mut boundary = Boundary::default();
            let mut codec = Codec::new(100_000);
            let mut is_open = false;
            for frame in &frames {
                let is_data = frame[0] & 0x08 == 0;
                let is_final = frame[0] & 0x80 != 0;
                for (index, byte) in frame.iter().enumerate() {
                    let is_last = index + 1 == frame.len();
                    is_open = if is_data && is_last { !is_final } else { is_open };
                    prop_assert_eq!(boundary.feed(&[*byte], 100_000, &mut Utf8::default()), Ok(None));
                    prop_assert_eq!(boundary.is_at_rest(), is_last && !is_open);
                    let events = codec.feed(&[*byte]).unwrap();
                    prop_assert_eq!(events, usize::from(is_last && is_final));
                }
            }
        }

        #[test]
        fn splits_change_nothing(bytes in noise(), cuts in vec(1..40_usize, 1..5), limit in 0..700_usize) {
            let mut whole = Boundary::default();
            let expected = whole.feed(&bytes, limit, &mut Utf8::default());
            let (mut split, mut utf8) = (Boundary::default(), Utf8::default());
            let mut before = 0;
            let mut got = Ok(None);
            for piece in pieces(&bytes, &cuts) {
                got = split.feed(piece, limit, &mut utf8)
                    .map(|end| end.map(|end| before + end))
                    .map_err(|fault| Fault { at: before + fault.at, ..fault });
                before += piece.len();
                if got != Ok(None) {
                    break;
                }
            }
            if let Err(Fault { reason: CloseReason::Utf8, at }) = got && got != expected {
                // A text that came whole is left to the codec, which says the same of it.
                let taken = Codec::new(usize::MAX).feed(&bytes);
                prop_assert!(matches!(taken, Err(Error::Utf8(_))), "{:?} at {}", taken, at);
                return Ok(());
            }
            prop_assert_eq!(got, expected);
            if got.is_ok() {
                prop_assert_eq!(split, whole);
            }
        }

        /// Both ways: what the tracker lets pass tungstenite takes, and what tungstenite refuses the tracker refused.
        #[test]
        fn tungstenite_never_disagrees(bytes in noise(), limit in 0..700_usize) {
            let verdict = Boundary::default().feed(&bytes, limit, &mut Utf8::default());
            let passed = match verdict {
                Ok(end) => end.unwrap_or(bytes.len()),
                Err(fault) => fault.at,
            };
            let taken = Codec::new(limit).feed(&bytes[..passed]);
            prop_assert!(matches!(taken, Ok(_) | Err(Error::Utf8(_))), "{:?} after {:?}", taken, verdict);
            if let Err(error) = Codec::new(limit).feed(&bytes) && !matches!(error, Error::Utf8(_)) {
                prop_assert!(verdict.is_err(), "{:?} went unnoticed", error);
            }
        }
    }
}
