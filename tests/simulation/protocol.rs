//! The client's side of HTTP upgrade and WebSocket, written from the RFCs and from nothing of the crate's.
//!
//! `Stream` takes bytes in any pieces and gives the 101 (or another status), then frames; it refuses whatever a
//! server may not send. The writers give an upgrade request and masked frames.

use super::inflater::Inflater;

/// RFC 6455 §1.3 works this key out.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Of a compressed message (RFC 7692 §6).
pub const RSV1: u8 = 0x40;

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// An upgrade request that joins `channels`, with an offer of extensions perhaps.
pub fn upgrade_request(channels: &[&str], offer: Option<&str>) -> Vec<u8> {
    let target = match channels {
        [one] => format!("/ws/{one}"),
        many => format!("/ws?channels={}", many.join(",")),
    };
    let offer = offer.map_or(String::new(), |offer| format!("Sec-WebSocket-Extensions: {offer}\r\n"));
    upgrade_to(&target, &offer)
}

/// An upgrade request for `target` with `headers`, each line with its end.
pub fn upgrade_to(target: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: feed.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A masked frame.
pub fn frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// The payload of a close frame.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// Something the gateway sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// The head of a response; anything but 101 is followed by [`Item::Body`].
    Head { status: u16, retry_after: Option<u32>, text: String },
    /// Bytes of a body.
    Body(Vec<u8>),
    /// A complete data message.
    Data { opcode: u8, payload: Vec<u8> },
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The close frame.
    Close { code: u16, reason: String },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Head,
    Body,
    Frames,
    Over,
}

/// What the gateway sends over one connection.
#[derive(Debug)]
pub struct Stream {
    bytes: Vec<u8>,
    stage: Stage,
    offers: bool,
    /// There once permessage-deflate is agreed.
    inflater: Option<Inflater>,
    /// Messages that came deflated.
    pub deflated: usize,
}

impl Stream {
    /// Before the first response; whether the client `offers` permessage-deflate.
    pub fn new(offers: bool) -> Self {
        Self { bytes: Vec::new(), stage: Stage::Head, offers, inflater: None, deflated: 0 }
    }

    /// Whether a part of something has come.
    pub fn has_part(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Adds `bytes` and gives what they complete.
    ///
    /// # Errors
    /// What a server may not send, in words.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Item>, String> {
        self.bytes.extend_from_slice(bytes);
        let mut items = Vec::new();
        let mut at = 0;
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let step = match self.stage {
                Stage::Head => {
                    let answer = head(rest)?;
                    if answer.is_some() {
                        self.inflater = extension(rest, self.offers)?.then(Inflater::new);
                    }
                    answer
                }
                Stage::Body => Some((Item::Body(rest.to_vec()), rest.len())),
                Stage::Frames => {
                    let item = server_frame(rest, self.inflater.as_mut())?;
                    self.deflated += usize::from(item.is_some() && rest[0] & RSV1 != 0);
                    item
                }
                Stage::Over => return Err(format!("{} bytes after the close frame", rest.len())),
            };
            let Some((item, length)) = step else { break };
            at += length;
            match item {
                Item::Head { status: 101, .. } => self.stage = Stage::Frames,
                Item::Head { .. } => self.stage = Stage::Body,
                Item::Close { .. } => self.stage = Stage::Over,
                _ => {}
            }
            items.push(item);
        }
        self.bytes.drain(..at);
        Ok(items)
    }
}

fn head(bytes: &[u8]) -> Result<Option<(Item, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|error| error.to_string())?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status: u16 = status.ok_or_else(|| format!("a bad status line {status_line:?}"))?;
    let header = |wanted: &str| {
        text.split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    };
    if status == 101 && header("Sec-WebSocket-Accept") != Some(ACCEPT) {
        return Err("a wrong accept key".to_owned());
    }
    let retry_after = header("Retry-After").and_then(|value| value.parse().ok());
    let text = text.to_owned();
    Ok(Some((Item::Head { status, retry_after, text }, end + 4)))
}

/// Whether a response agrees to permessage-deflate; anything else that it agrees to, or that was not offered, is a fault.
fn extension(bytes: &[u8], offers: bool) -> Result<bool, String> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let Some((_, rest)) = head.split_once("Sec-WebSocket-Extensions: ") else { return Ok(false) };
    let answer = rest.split("\r\n").next().unwrap_or_default();
    if !offers || !answer.starts_with("permessage-deflate; client_no_context_takeover") {
        return Err(format!("agrees to {answer:?}"));
    }
    Ok(true)
}

fn server_frame(bytes: &[u8], inflater: Option<&mut Inflater>) -> Result<Option<(Item, usize)>, String> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let is_deflated = first & RSV1 != 0;
    if is_deflated && (inflater.is_none() || !matches!(first & 0x0f, TEXT | BINARY)) {
        return Err(format!("RSV1 on a frame that begins with {first:02x}"));
    }
    if first & 0x30 != 0 || first & 0x80 == 0 || second & 0x80 != 0 {
        return Err(format!("a frame that begins with {first:02x} {second:02x}"));
    }
    let (length, header) = match second {
        126 => match *bytes {
            [_, _, a, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 4),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(eight) => (u64::from_be_bytes(eight.try_into().map_err(|_| "length")?) as usize, 10),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    let shortest = match length {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    if header != shortest || length > 1 << 24 {
        return Err(format!("a length of {length} in a header of {header} bytes"));
    }
    let Some(payload) = bytes.get(header..header + length) else { return Ok(None) };
    let opcode = first & 0x0f;
    if opcode >= CLOSE && length > 125 {
        return Err(format!("a control frame of {length} bytes"));
    }
    let payload = match inflater {
        Some(inflater) if is_deflated => inflater.inflate(payload)?,
        _ => payload.to_vec(),
    };
    let item = match opcode {
        TEXT if std::str::from_utf8(&payload).is_err() => return Err("text that is not UTF-8".to_owned()),
        TEXT | BINARY => Item::Data { opcode, payload },
        PING => Item::Ping(payload),
        PONG => Item::Pong(payload),
        CLOSE => match payload.split_at_checked(2) {
            Some((code, reason)) => Item::Close {
                code: u16::from_be_bytes([code[0], code[1]]),
                reason: String::from_utf8(reason.to_vec()).map_err(|error| error.to_string())?,
            },
            None if payload.is_empty() => Item::Close { code: 1005, reason: String::new() },
            None => return Err("a close frame of one byte".to_owned()),
        },
        other => return Err(format!("opcode {other}")),
    };
    Ok(Some((item, header + length)))
}
