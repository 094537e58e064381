//! Where frames begin and end, and what a client's frame header may not say (RFC 6455 §5.2, §5.4, §5.5).
//!
//! tungstenite tells neither whether it stands at a message boundary nor refuses everything at the header: it takes
//! lengths in a longer form than needed, buffers a control frame of any size before it complains, and answers an
//! illegal close code as if the peer had said 1002. This tracker walks ahead of it over the same bytes in constant
//! time a frame, so the codec only ever sees frames that may be there. Property tests hold the two together.

use crate::model::CloseReason;

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

/// A header that breaks a rule.
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
    /// Payload bytes of the open message, as announced by its headers so far.
    message_bytes: u32,
    /// Beginning of the mask: enough for the close code.
    mask: [u8; 2],
    /// Of a close frame: its code, unmasked.
    code: [u8; 2],
    /// First byte of the frame.
    first: u8,
    /// Second byte of the frame.
    second: u8,
    part: Part,
    /// Bytes of this `part` still to come, in `Length` and `Mask`.
    part_left: u8,
    /// A fragmented message has begun and its last frame has not.
    message_open: bool,
}

impl Boundary {
    /// Follows the stream over `input`. Returns the index after a close frame if one ends here; what stands behind
    /// it is not looked at, now or later. Messages of more than `message_bytes_max` bytes (or 4 GiB) are refused at
    /// the header that says so. Constant time a frame, whatever its length.
    ///
    /// # Errors
    /// [`Fault`]: which rule the peer broke and where. The state is then meaningless: drop it.
    pub fn feed(&mut self, input: &[u8], message_bytes_max: usize) -> Result<Option<usize>, Fault> {
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
                    self.left -= here;
                    at += here as usize;
                    if self.left == 0 {
                        self.on_frame_end();
                    }
                }
                Part::First | Part::Second | Part::Length | Part::Mask => {
                    self.on_header(byte, message_bytes_max).map_err(|reason| Fault { reason, at })?;
                    at += 1;
                }
            }
            if self.part == Part::Over {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Whether the stream stands between two messages.
    pub const fn is_at_rest(&self) -> bool {
        matches!(self.part, Part::First) && !self.message_open
    }

    /// Whether a message or frame has begun and is not finished.
    pub const fn is_mid_message(&self) -> bool {
        !self.is_at_rest() && !self.is_over()
    }

    /// Whether a close frame has ended the stream.
    pub const fn is_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    /// The code of the close frame that ended the stream, if that had one. Always a legal one.
    pub fn close_code(&self) -> Option<u16> {
        (self.is_over() && self.short_length() >= 2).then(|| u16::from_be_bytes(self.code))
    }

    fn on_header(&mut self, byte: u8, message_bytes_max: usize) -> Result<(), CloseReason> {
        match self.part {
            Part::First => {
                self.first = byte;
                self.check_first()?;
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
                        self.on_length_known(message_bytes_max)?;
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
                    self.on_length_known(message_bytes_max)?;
                }
            }
            Part::Mask => {
                match self.part_left {
                    4 => self.mask[0] = byte,
                    3 => self.mask[1] = byte,
                    _ => {}
                }
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
            CONTINUATION if !self.message_open => Err(CloseReason::ContinuationState),
            TEXT | BINARY if self.message_open => Err(CloseReason::ContinuationState),
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
            let total = u64::from(self.message_bytes).saturating_add(self.left);
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

    fn on_frame_end(&mut self) {
        self.part = if self.opcode() == CLOSE { Part::Over } else { Part::First };
        if !self.is_control() {
            self.message_open = !self.is_final();
            if self.is_final() {
                self.message_bytes = 0;
            }
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
