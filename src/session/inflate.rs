//! What a client deflates (permessage-deflate, RFC 7692), in front of the protocol of `websocket.rs`.
//!
//! The unpacker walks over the client's frames for `inbound.rs`. What is not compressed goes on as it came, control frames between the
//! fragments of a compressed message included. A compressed message is gathered, inflated within its bounds, and goes on as
//! one ordinary frame: nothing behind this file knows of compression. A client never refers to its earlier messages
//! (`client_no_context_takeover` is in every answer), so one [`Inflater`] serves a shard, and a connection keeps nothing.
//! A long message has one of its own until it ends, and is inflated while it comes: no single turn pays for all of it.

use super::inflater::{INFLATER_BYTES, Inflater};
use crate::config::limits::{EMPTY_FRAGMENTS_MAX, FRAGMENT_OVERHEAD_BYTES, INFLATE_AT_ONCE_BYTES_MAX};
use crate::model::CloseReason;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
/// All three reserved bits.
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
/// First and second byte, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// What the next byte is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Part {
    /// FIN, reserved bits, opcode.
    #[default]
    First,
    /// The rest of the header.
    Header,
    /// The payload.
    Payload,
}

/// A compressed message under way.
#[derive(Debug, Default)]
pub(super) struct Compressed {
    opcode: u8,
    /// Payload that came and is not inflated yet.
    bytes: Vec<u8>,
    /// Payload that its headers announced so far, and what its fragments are charged.
    charged_bytes: u64,
    empty_fragments: u8,
    /// Of a long one, what it has become so far.
    begun: Option<Box<Begun>>,
}

/// A message that is inflated while it comes.
#[derive(Debug)]
struct Begun {
    inflater: Inflater,
    /// Room for a header, then payload.
    frame: Vec<u8>,
}

impl Compressed {
    /// Charges a frame as `boundary.rs` charges a plain one (GUARANTEES B7, B8).
    fn charge(&mut self, first: u8, length: u64, compressed_max: usize) -> Result<(), CloseReason> {
        let is_final = first & FIN != 0;
        if !is_final && length == 0 {
            self.empty_fragments += 1;
            if self.empty_fragments > EMPTY_FRAGMENTS_MAX {
                return Err(CloseReason::FragmentOverhead);
            }
        }
        let is_fragment = !is_final || first & 0x0f == CONTINUATION;
        let overhead = if is_fragment { FRAGMENT_OVERHEAD_BYTES } else { 0 };
        self.charged_bytes = self.charged_bytes.saturating_add(length).saturating_add(overhead);
        if self.charged_bytes > compressed_max as u64 { Err(CloseReason::MessageTooBig) } else { Ok(()) }
    }

    fn memory_bytes(&self) -> usize {
        let begun = self.begun.as_ref().map_or(0, |begun| INFLATER_BYTES + begun.frame.capacity());
        self.bytes.capacity() + begun
    }

    /// Inflates what came of a message that is too long to do it at once: it gets an inflater of its own.
    fn advance(&mut self, bytes_max: usize, shared: &mut Inflater) -> Result<(), CloseReason> {
        if self.begun.is_none() && self.bytes.len() < INFLATE_AT_ONCE_BYTES_MAX {
            return Ok(());
        }
        let begun = self.begun.get_or_insert_with(|| {
            let mut inflater = Inflater::default();
            inflater.begin();
            Box::new(Begun { inflater, frame: vec![0; HEADER_BYTES_MAX] })
        });
        let outcome = begun.inflater.feed(&self.bytes, bytes_max + HEADER_BYTES_MAX, &mut begun.frame);
        shared.add_work(begun.inflater.take_work());
        self.bytes.clear();
        outcome
    }

    /// The message as an ordinary frame, and where in it that begins.
    pub(super) fn finish(
        mut self,
        bytes_max: usize,
        shared: &mut Inflater,
    ) -> Result<(Vec<u8>, usize), CloseReason> {
        let length_max = bytes_max + HEADER_BYTES_MAX;
        self.advance(bytes_max, shared)?;
        let mut frame = match self.begun {
            Some(mut begun) => {
                begun.inflater.finish(length_max, &mut begun.frame)?;
                begun.frame
            }
            None => {
                let mut frame = vec![0; HEADER_BYTES_MAX];
                shared.begin();
                shared.feed(&self.bytes, length_max, &mut frame)?;
                shared.finish(length_max, &mut frame)?;
                frame
            }
        };
        let start = put_header(FIN | self.opcode, &mut frame);
        Ok((frame, start))
    }
}

/// Follows the frames of one client and gathers what is compressed.
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    part: Part,
    /// The present frame is part of a compressed message.
    is_gathered: bool,
    /// Payload bytes of the frame still to come.
    left: u64,
    /// Payload bytes of the frame so far, as far as the mask has to know.
    mask_place: usize,
    compressed: Option<Compressed>,
    /// A fragmented message that is not compressed has begun and its last frame has not.
    is_plain_open: bool,
}

impl Unpacker {
    /// Bytes of memory held, what came of a compressed message included.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.compressed.as_ref().map_or(0, Compressed::memory_bytes)
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.part == Part::First && self.compressed.is_none()
    }

    /// Bytes of payload that the present frame still has to come.
    pub(super) fn payload_left(&self) -> u64 {
        if self.part == Part::Payload { self.left } else { 0 }
    }

    /// Whether what comes next goes on as it came, as far as is known yet.
    pub(super) fn passes_on(&self) -> bool {
        self.part == Part::First || !self.is_gathered
    }

    /// Whether a compressed message has begun and is not finished.
    pub(super) fn is_in_message(&self) -> bool {
        self.compressed.is_some()
    }

    /// Whether the frame that begins with `first` is to be gathered rather than to go on.
    fn gathers(&self, first: u8) -> bool {
        let opcode = first & 0x0f;
        match self.compressed {
            Some(_) => matches!(opcode, CONTINUATION | TEXT | BINARY),
            None => first & RSV1 != 0 && matches!(opcode, TEXT | BINARY) && !self.is_plain_open,
        }
    }

    /// Walks over frames that go on as they are; gives the index of the first byte that does not, or the end.
    pub(super) fn pass(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.part {
                Part::First if self.gathers(byte) => break,
                Part::First => {
                    self.on_first(byte, false);
                    if matches!(byte & 0x0f, CONTINUATION | TEXT | BINARY) {
                        self.is_plain_open = byte & FIN == 0;
                    }
                    at += 1;
                }
                Part::Header => {
                    self.on_header(byte);
                    at += 1;
                }
                Part::Payload => {
                    let here = self.left.min((input.len() - at) as u64);
                    self.on_payload(here);
                    at += here as usize;
                }
            }
        }
        at
    }

    /// Inflates what came of a compressed message that is long.
    pub(super) fn advance(&mut self, bytes_max: usize, shared: &mut Inflater) -> Result<(), CloseReason> {
        self.compressed.as_mut().map_or(Ok(()), |message| message.advance(bytes_max, shared))
    }

    /// Gathers from a frame of a compressed message, at most to its end; gives the bytes taken, and the message once its
    /// last frame is complete.
    pub(super) fn gather(
        &mut self,
        input: &[u8],
        compressed_max: usize,
    ) -> Result<(usize, Option<Compressed>), CloseReason> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.part {
                Part::First => {
                    self.begin(byte)?;
                    at += 1;
                }
                Part::Header => {
                    self.on_header(byte);
                    at += 1;
                    self.check_header(compressed_max)?;
                }
                Part::Payload => {
                    let here = self.left.min((input.len() - at) as u64) as usize;
                    self.unmask(input.get(at..at + here).unwrap_or_default());
                    self.on_payload(here as u64);
                    at += here;
                }
            }
            if self.part == Part::First {
                let is_final = self.header[0] & FIN != 0;
                return Ok((at, if is_final { self.compressed.take() } else { None }));
            }
        }
        Ok((at, None))
    }

    fn begin(&mut self, first: u8) -> Result<(), CloseReason> {
        let (reserved, opcode) = (first & RESERVED, first & 0x0f);
        match self.compressed {
            // RFC 7692 §6: only the first frame of a message has the bit.
            Some(_) if reserved != 0 => return Err(CloseReason::ReservedBits),
            Some(_) if opcode != CONTINUATION => return Err(CloseReason::ContinuationState),
            Some(_) => {}
            None if reserved != RSV1 => return Err(CloseReason::ReservedBits),
            None => self.compressed = Some(Compressed { opcode, ..Compressed::default() }),
        }
        self.on_first(first, true);
        Ok(())
    }

    /// What `boundary.rs` checks of the frames that go on (RFC 6455 §5.1, §5.2), as soon as the header says it.
    fn check_header(&mut self, compressed_max: usize) -> Result<(), CloseReason> {
        if self.header[1] & MASKED == 0 {
            return Err(CloseReason::Unmasked);
        }
        let Some(length) = self.length().filter(|_| self.header_bytes == self.mask_start()) else {
            return Ok(());
        };
        let shortest = match self.header[1] & !MASKED {
            126 => 126,
            127 => 0x1_0000,
            _ => 0,
        };
        if length < shortest || length >> 63 != 0 {
            return Err(CloseReason::LengthForm);
        }
        let first = self.header[0];
        self.compressed.as_mut().map_or(Ok(()), |message| message.charge(first, length, compressed_max))
    }

    fn on_first(&mut self, first: u8, is_gathered: bool) {
        self.header[0] = first;
        self.is_gathered = is_gathered;
        (self.header_bytes, self.mask_place, self.part) = (1, 0, Part::Header);
    }

    fn on_header(&mut self, byte: u8) {
        if let Some(place) = self.header.get_mut(self.header_bytes) {
            *place = byte;
            self.header_bytes += 1;
        }
        let mask_bytes = if self.header[1] & MASKED == 0 { 0 } else { 4 };
        if self.header_bytes == self.mask_start() + mask_bytes {
            self.left = self.length().unwrap_or_default();
            self.part = if self.left == 0 { Part::First } else { Part::Payload };
        }
    }

    fn on_payload(&mut self, bytes: u64) {
        self.left -= bytes;
        if self.left == 0 {
            self.part = Part::First;
        }
    }

    /// Where the mask begins, once the second byte is known.
    fn mask_start(&self) -> usize {
        match self.header[1] & !MASKED {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    /// The payload's length, once it is known.
    fn length(&self) -> Option<u64> {
        let extended = self.header.get(2..self.mask_start())?;
        if self.header_bytes < self.mask_start() {
            return None;
        }
        match extended {
            [] => Some(u64::from(self.header[1] & !MASKED)),
            bytes => Some(bytes.iter().fold(0, |length, byte| length << 8 | u64::from(*byte))),
        }
    }

    fn unmask(&mut self, payload: &[u8]) {
        let start = self.mask_start();
        let mask =
            self.header.get(start..start + 4).unwrap_or(&[0; 4]).iter().cycle().skip(self.mask_place % 4);
        if let Some(compressed) = &mut self.compressed {
            compressed.bytes.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
        self.mask_place = (self.mask_place + payload.len()) % 4;
    }
}

/// Writes the header of a frame masked with zeros in front of its payload, which begins at [`HEADER_BYTES_MAX`]; gives where
/// it begins.
fn put_header(first: u8, frame: &mut [u8]) -> usize {
    let length = frame.len().saturating_sub(HEADER_BYTES_MAX) as u64;
    let (short, extended_bytes) = match length {
        0..=125 => (length as u8, 0),
        126..=0xffff => (126, 2),
        _ => (127, 8),
    };
    let start = HEADER_BYTES_MAX - 6 - extended_bytes;
    let extended = length.to_be_bytes().into_iter().skip(8 - extended_bytes);
    let header = [first, MASKED | short].into_iter().chain(extended);
    for (place, byte) in frame.iter_mut().skip(start).zip(header) {
        *place = byte;
    }
    start
}

#[cfg(test)]
mod tests;
