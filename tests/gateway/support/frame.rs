//! WebSocket frames for tests (RFC 6455 §5.2): a writer that can be told to break any rule, and a strict reader.

/// The opcodes of RFC 6455, and any other number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opcode {
    /// A further fragment.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The start or the answer of the closing handshake.
    Close,
    /// To be answered by a pong with the same payload.
    Ping,
    /// The answer.
    Pong,
    /// Reserved.
    Other(u8),
}

impl Opcode {
    /// The four bits on the wire.
    pub fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
            Opcode::Other(bits) => bits,
        }
    }

    fn from_bits(bits: u8) -> Opcode {
        match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => Opcode::Other(other),
        }
    }
}

/// A frame as the gateway sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Last fragment of its message.
    pub fin: bool,
    /// The three reserved bits, as a number from 0 to 7.
    pub rsv: u8,
    /// What it is.
    pub opcode: Opcode,
    /// Payload bytes.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads one frame from the start of `bytes`, and says how many bytes it took. None while it is incomplete.
    ///
    /// # Panics
    /// If the frame is masked or its length is not in the shortest form: a server may send neither (§5.1, §5.2).
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        assert_eq!(second & 0x80, 0, "the gateway sent a masked frame");
        let (length, start) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        assert_eq!(start, header_bytes(length), "the gateway sent a length of {length} in a longer form");
        let end = start + usize::try_from(length).expect("a length that fits memory");
        let payload = bytes.get(start..end)?.to_vec();
        let opcode = Opcode::from_bits(first & 0x0f);
        Some((Frame { fin: first & 0x80 != 0, rsv: first >> 4 & 7, opcode, payload }, end))
    }

    /// Code and reason of a close frame; none for an empty one.
    pub fn close_code(&self) -> Option<(u16, String)> {
        let (code, reason) = self.payload.split_first_chunk::<2>()?;
        Some((u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("a reason in UTF-8")))
    }
}

/// Bytes of an unmasked header in front of a payload of `length` bytes.
fn header_bytes(length: u64) -> usize {
    match length {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// The bytes of one masked client frame that is whole: FIN set, no reserved bits, the shortest length.
pub fn masked_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(0x80 | opcode.bits(), Some([0x37, 0xfa, 0x21, 0x3d]), payload)
}

/// A masked fragment: like [`masked_frame`], with FIN as told.
pub fn masked_fragment(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    client_frame(u8::from(fin) << 7 | opcode.bits(), Some([0x01, 0x80, 0xfe, 0x55]), payload)
}

/// The bytes of a client frame with its first byte and its mask as told: no rule is checked.
pub fn client_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    let length = payload.len();
    match length {
        0..=125 => bytes.push(mask_bit | u8::try_from(length).expect("at most 125")),
        126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend(u16::try_from(length).expect("at most 65535").to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| bytes.extend(mask)).unwrap_or_default();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The payload of a close frame.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}
