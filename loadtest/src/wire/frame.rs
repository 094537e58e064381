//! Frames of RFC 6455 §5: a reader for what a server sends, and a writer for what a client sends.
//!
//! The reader takes any split of the byte stream, keeps only what is unfinished, and stops after each
//! message or control frame, so that the caller can go back to comparing bytes (`feed.rs`) at once.

use super::deflate::RSV1;

/// Largest message that is put together, in bytes. What is larger is a violation.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Opcode of a text message (RFC 6455 §11.8).
pub const TEXT: u8 = 1;
/// Opcode of a binary message.
pub const BINARY: u8 = 2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 8;
/// Opcode of a ping frame.
pub const PING: u8 = 9;
/// Opcode of a pong frame.
pub const PONG: u8 = 10;

/// Something complete that the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole message, fragments joined; the opcode is `TEXT` or `BINARY`.
    Message(u8, Vec<u8>),
    /// The same of a message that is compressed, as it came (RFC 7692 §6).
    Deflated(u8, Vec<u8>),
    /// A ping to be answered with the same payload.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// A close frame: its code, if any, and its reason.
    Close(Option<u16>, String),
}

/// The server broke RFC 6455; the text says which rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation(pub &'static str);

/// Joins bytes to frames and frames to messages.
#[derive(Debug, Default)]
pub struct FrameReader {
    header: [u8; 10],
    header_bytes: u8,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// Opcode of the message whose first fragment has been seen.
    message_opcode: Option<u8>,
    message: Vec<u8>,
    control: Vec<u8>,
    /// Whether messages may be compressed, and whether the one that is being read is.
    may_be_deflated: bool,
    is_deflated: bool,
}

#[derive(Debug)]
struct Frame {
    fin: bool,
    is_deflated: bool,
    opcode: u8,
    bytes_left: usize,
}

impl FrameReader {
    /// A reader for a connection on which permessage-deflate was agreed.
    pub fn deflating() -> Self {
        Self { may_be_deflated: true, ..Self::default() }
    }

    /// Whether nothing is unfinished: no part of a frame, no open message.
    pub fn is_at_rest(&self) -> bool {
        self.header_bytes == 0 && self.frame.is_none() && self.message_opcode.is_none()
    }

    /// Takes bytes up to the end of one event. Returns how many were taken, and the event if there is
    /// one; without an event all bytes were taken.
    ///
    /// # Errors
    /// The rule that the server broke. The connection is of no more use.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(usize, Option<Event>), Violation> {
        let mut taken = 0;
        loop {
            if self.frame.is_none() {
                taken += self.take_header(&bytes[taken..])?;
            }
            let Some(frame) = &mut self.frame else { return Ok((taken, None)) };
            let piece = frame.bytes_left.min(bytes.len() - taken);
            let into = if frame.opcode >= CLOSE { &mut self.control } else { &mut self.message };
            into.extend_from_slice(&bytes[taken..taken + piece]);
            frame.bytes_left -= piece;
            taken += piece;
            if frame.bytes_left > 0 {
                return Ok((taken, None));
            }
            if let Some(event) = self.finish_frame()? {
                return Ok((taken, Some(event)));
            }
        }
    }

    /// Takes header bytes until the header is complete; returns how many were taken.
    fn take_header(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        while taken < bytes.len() {
            self.header[usize::from(self.header_bytes)] = bytes[taken];
            self.header_bytes += 1;
            taken += 1;
            if usize::from(self.header_bytes) == header_length(&self.header, self.header_bytes) {
                self.frame = Some(self.check_header()?);
                self.header_bytes = 0;
                break;
            }
        }
        Ok(taken)
    }

    fn check_header(&self) -> Result<Frame, Violation> {
        let (first, second) = (self.header[0], self.header[1]);
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let length = match second & 0x7F {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10].iter().fold(0, |length, &byte| (length << 8) | u64::from(byte)),
            short => u64::from(short),
        };
        let may_be_deflated = self.may_be_deflated && matches!(opcode, TEXT | BINARY);
        if first & 0x70 & !(if may_be_deflated { RSV1 } else { 0 }) != 0 {
            return Err(Violation("a reserved bit is set that no agreed extension sets there (§5.2)"));
        }
        if second & 0x80 != 0 {
            return Err(Violation("a frame from the server is masked (§5.1)"));
        }
        match opcode {
            0 if self.message_opcode.is_none() => {
                return Err(Violation("a continuation without a message (§5.4)"));
            }
            TEXT | BINARY if self.message_opcode.is_some() => {
                return Err(Violation("a new message inside a fragmented one (§5.4)"));
            }
            0..=2 => {}
            CLOSE..=PONG if !fin => return Err(Violation("a fragmented control frame (§5.5)")),
            CLOSE..=PONG if length > 125 => return Err(Violation("a control frame above 125 bytes (§5.5)")),
            CLOSE..=PONG => {}
            _ => return Err(Violation("a reserved opcode (§5.2)")),
        }
        let minimum = match second & 0x7F {
            126 => 126,
            127 => 65_536,
            _ => 0,
        };
        if length < minimum {
            return Err(Violation("a payload length that is not minimal (§5.2)"));
        }
        let bytes_left = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes_left.saturating_add(self.message.len()) > MESSAGE_BYTES_MAX {
            return Err(Violation("a message above 64 MiB, more than this tool takes"));
        }
        Ok(Frame { fin, is_deflated: first & RSV1 != 0, opcode, bytes_left })
    }

    fn finish_frame(&mut self) -> Result<Option<Event>, Violation> {
        let Some(frame) = self.frame.take() else { return Ok(None) };
        match frame.opcode {
            PING => Ok(Some(Event::Ping(std::mem::take(&mut self.control)))),
            PONG => {
                self.control.clear();
                Ok(Some(Event::Pong))
            }
            CLOSE => close_event(&std::mem::take(&mut self.control)).map(Some),
            opcode => {
                let first = self.message_opcode.unwrap_or(opcode);
                self.message_opcode = (!frame.fin).then_some(first);
                if opcode != 0 {
                    self.is_deflated = frame.is_deflated;
                }
                let kind = if self.is_deflated { Event::Deflated } else { Event::Message };
                Ok(frame.fin.then(|| kind(first, std::mem::take(&mut self.message))))
            }
        }
    }
}

fn header_length(header: &[u8; 10], known: u8) -> usize {
    match (known, header[1] & 0x7F) {
        (0 | 1, _) => 2,
        (_, 126) => 4,
        (_, 127) => 10,
        _ => 2,
    }
}

fn close_event(payload: &[u8]) -> Result<Event, Violation> {
    match payload {
        [] => Ok(Event::Close(None, String::new())),
        [_] => Err(Violation("a close frame with one byte of payload (§5.5.1)")),
        [high, low, reason @ ..] => {
            let reason = std::str::from_utf8(reason)
                .map_err(|_| Violation("a close reason that is not UTF-8 (§5.5.1)"))?;
            Ok(Event::Close(Some(u16::from_be_bytes([*high, *low])), reason.to_owned()))
        }
    }
}

/// Appends the header of an unfragmented, unmasked frame: what a server sends.
pub fn push_server_header(out: &mut Vec<u8>, opcode: u8, payload_bytes: usize) {
    out.push(0x80 | opcode);
    push_length(out, payload_bytes, 0);
}

/// One unfragmented frame as a client sends it, masked with `key` (RFC 6455 §5.3).
pub fn client_frame(opcode: u8, payload: &[u8], key: u32) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | opcode);
    push_length(&mut frame, payload.len(), 0x80);
    let key = key.to_be_bytes();
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn push_length(out: &mut Vec<u8>, length: usize, mask_bit: u8) {
    match length {
        0..126 => out.push(mask_bit | length as u8),
        126..65_536 => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise::Noise;
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_server_header(&mut bytes, 0, payload.len());
        bytes[0] = first;
        bytes.extend_from_slice(payload);
        bytes
    }

    fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Event>, Violation> {
        let mut reader = FrameReader::default();
        let mut events = Vec::new();
        for mut chunk in bytes.chunks(piece) {
            while !chunk.is_empty() {
                let (taken, event) = reader.read(chunk)?;
                events.extend(event);
                chunk = &chunk[taken..];
            }
        }
        assert!(reader.is_at_rest());
        Ok(events)
    }

    #[test]
    fn every_split_of_the_stream_reads_the_same() {
        let long = vec![b'x'; 70_000];
        let mut stream = frame(0x82, b"one");
        stream.extend(frame(0x89, b"mid"));
        stream.extend(frame(0x81, &[b'y'; 300]));
        stream.extend(frame(0x82, b""));
        stream.extend(frame(0x82, &long));
        stream.extend(frame(0x88, b"\x03\xe8bye"));
        let expected = vec![
            Event::Message(BINARY, b"one".to_vec()),
            Event::Ping(b"mid".to_vec()),
            Event::Message(TEXT, vec![b'y'; 300]),
            Event::Message(BINARY, Vec::new()),
            Event::Message(BINARY, long),
            Event::Close(Some(1000), "bye".into()),
        ];
        for piece in [1, 2, 3, 7, 64, 1000, stream.len()] {
            assert_eq!(read_in_pieces(&stream, piece).as_ref(), Ok(&expected), "pieces of {piece}");
        }
    }

    #[test]
    fn control_frames_may_stand_between_fragments() {
        let mut stream = frame(0x01, b"he");
        stream.extend(frame(0x89, b"p"));
        stream.extend(frame(0x00, b"l"));
        stream.extend(frame(0x8A, b""));
        stream.extend(frame(0x80, b"lo"));
        let expected = vec![Event::Ping(b"p".to_vec()), Event::Pong, Event::Message(TEXT, b"hello".to_vec())];
        for piece in [1, 3, stream.len()] {
            assert_eq!(read_in_pieces(&stream, piece).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let mut inside = frame(0x01, b"a");
        inside.extend(frame(0x81, b"b"));
        let cases: [(Vec<u8>, &str); 9] = [
            (frame(0xC2, b""), "reserved bit"),
            (vec![0x82, 0x81, 1, 2, 3, 4, 5], "masked"),
            (frame(0x80, b""), "continuation"),
            (inside, "inside"),
            (frame(0x09, b""), "fragmented control"),
            (frame(0x89, &[0; 126]), "above 125"),
            (frame(0x83, b""), "opcode"),
            (vec![0x82, 126, 0, 5], "minimal"),
            (frame(0x88, b"\x03"), "one byte"),
        ];
        for (bytes, rule) in cases {
            let violation = read_in_pieces(&bytes, 1).expect_err(rule);
            assert!(violation.0.contains(rule), "{violation:?}");
        }
        assert!(read_in_pieces(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0], 10).is_err());
    }

    #[test]
    fn a_client_frame_is_masked() {
        assert_eq!(
            client_frame(TEXT, b"Hello", 0x37FA_213D),
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
        );
        assert_eq!(client_frame(BINARY, &[0; 200], 0)[..4], [0x82, 0xFE, 0, 200]);
    }

    #[test]
    fn noise_is_an_error_or_little_memory() {
        let fragment = frame(0x01, b"hello");
        let text = frame(0x81, &[b'x'; 200]);
        let pieces = [
            frame(0x80, b""),
            frame(0x89, b"ping"),
            frame(0x88, b"\x03\xe8bye"),
            vec![0x82, 127, 0, 0, 0, 0, 0x04, 0, 0, 0],
            vec![0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ];
        let mut pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        pieces.extend([fragment.as_slice(), &text]);
        let mut noise = Noise::new(0x5EED);
        for _ in 0..20_000 {
            let stream = noise.stream(&pieces);
            let mut reader = FrameReader::default();
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let piece = 1 + noise.below(rest.len());
                let Ok((taken, event)) = reader.read(&rest[..piece]) else { break };
                assert!(
                    taken <= piece && (taken == piece || event.is_some()),
                    "all is taken or something found"
                );
                rest = &rest[taken..];
                let held = reader.message.capacity() + reader.control.capacity();
                assert!(held <= 2 * stream.len() + 64, "{held} bytes for {}", stream.len());
            }
        }
    }

    #[test]
    fn a_message_has_an_end_however_many_fragments_it_has() {
        let piece = vec![b'x'; 8 * 1024 * 1024];
        let mut reader = FrameReader::default();
        let mut first = 0x02;
        let refused = (0..9).find_map(|_| {
            let fragment = frame(std::mem::take(&mut first), &piece);
            reader.read(&fragment).err()
        });
        assert!(refused.is_some_and(|violation| violation.0.contains("64 MiB")));
        assert!(reader.message.len() <= MESSAGE_BYTES_MAX);
    }
}
