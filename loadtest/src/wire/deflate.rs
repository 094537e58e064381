//! permessage-deflate (RFC 7692): what a subscriber offers, the check of the answer, and inflating a message.
//!
//! Between two messages an inflater is nothing but the last 32 KiB that came out of it: whatever it is to know, it
//! can be told. So one inflater serves any number of connections, and what it makes of some bytes depends on
//! nothing but them and that `window`.

use flate2::{Decompress, FlushDecompress, Status};

use super::frame::MESSAGE_BYTES_MAX;
use super::handshake::{excerpt, headers};

/// The value of Sec-WebSocket-Extensions that is offered.
pub const OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
/// The bit of a frame's first byte that says that its message is deflated (RFC 7692 §6).
pub const RSV1: u8 = 0x40;
/// Bytes of the largest window (RFC 7692 §7.1.2.1).
const WINDOW_BYTES_MAX: usize = 32 * 1024;
/// What a sender leaves out at the end of each message (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Bytes by which the room for a message grows.
const ROOM_BYTES: usize = 16 * 1024;

/// What the server has promised about its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bytes of earlier messages that a message may refer to; 0: each stands by itself.
    pub window_bytes: usize,
}

/// Checks the head of a 101 that answers `OFFER` (RFC 7692 §5.1, §7.1).
///
/// # Errors
/// One line that says what was wrong with the answer.
pub fn check_answer(head: &[u8]) -> Result<Terms, String> {
    let answer = headers(head, "sec-websocket-extensions").collect::<Vec<_>>().join(&b", "[..]);
    let wrong = |what: &str| format!("the server's permessage-deflate {what}: '{}'", excerpt(&answer));
    let mut words = answer.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    if answer.is_empty() {
        return Err("the server did not agree to compress: is it switched on there?".into());
    }
    if answer.contains(&b',') || words.next() != Some(b"permessage-deflate") {
        return Err(format!("the server chose extensions that were not offered: '{}'", excerpt(&answer)));
    }
    let (mut seen, mut takes_context, mut window_bytes) = (Vec::new(), true, WINDOW_BYTES_MAX);
    for word in words {
        let (name, value) = match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (word[..at].trim_ascii(), Some(word[at + 1..].trim_ascii())),
            None => (word, None),
        };
        if seen.contains(&name) {
            return Err(wrong("names a parameter twice (§7.1)"));
        }
        seen.push(name);
        match (name, value) {
            (b"server_no_context_takeover", None) => takes_context = false,
            (b"client_no_context_takeover", None) => {}
            (b"server_max_window_bits", Some(value)) => {
                window_bytes =
                    1 << window_bits(value).ok_or_else(|| wrong("has no window of 8 to 15 bits"))?;
            }
            (b"client_max_window_bits", Some(value)) if window_bits(value).is_some() => {}
            _ => return Err(wrong("has a parameter that RFC 7692 §7.1 does not know or not so")),
        }
    }
    Ok(Terms { window_bytes: if takes_context { window_bytes } else { 0 } })
}

/// 8 to 15, without leading zeros, as a token or quoted.
fn window_bits(value: &[u8]) -> Option<u8> {
    let bare = value.strip_prefix(b"\"").map_or(Some(value), |rest| rest.strip_suffix(b"\""))?;
    let bits: u8 = std::str::from_utf8(bare).ok()?.parse().ok()?;
    ((8..=15).contains(&bits) && bare == bits.to_string().as_bytes()).then_some(bits)
}

/// Inflates the data of one message, of which `window` is what came before: the last of it, as much as the terms allow.
///
/// A reference beyond the window is found out, a reference further back than its size inside of one message is not.
/// Costs a copy of the window besides.
///
/// # Errors
/// The rule that the server broke.
pub fn inflate(inflater: &mut Decompress, window: &[u8], data: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    begin(inflater, window)?;
    for input in [data, &TAIL] {
        let mut used = 0;
        while used < input.len() {
            let (before, room) = (inflater.total_in(), ROOM_BYTES.max(out.len()));
            out.reserve(room);
            let length = out.len();
            let status = inflater
                .decompress_vec(&input[used..], &mut out, FlushDecompress::Sync)
                .map_err(|_| "a compressed message is not deflated data, or refers to what was never sent (RFC 7692 §7.2.2)")?;
            let taken = (inflater.total_in() - before) as usize;
            used += taken;
            if out.len() > MESSAGE_BYTES_MAX {
                return Err("a message above 64 MiB inflated, more than this tool takes");
            }
            if status == Status::StreamEnd {
                // A last block inside of a message: another may follow, on the same window (RFC 7692 §7.2.3.4).
                let known = [window, &out].concat();
                begin(inflater, &known[known.len().saturating_sub(WINDOW_BYTES_MAX)..])?;
            } else if taken == 0 && out.len() == length {
                return Err("a compressed message does not end where its frame does (RFC 7692 §7.2.1)");
            }
        }
        // What is still inside comes out without further input.
        while out.len() == out.capacity() && !out.is_empty() {
            let length = out.len();
            out.reserve(ROOM_BYTES);
            let more = inflater.decompress_vec(&[], &mut out, FlushDecompress::Sync);
            if more.is_err() || out.len() == length {
                break;
            }
        }
    }
    Ok(out)
}

fn begin(inflater: &mut Decompress, window: &[u8]) -> Result<(), &'static str> {
    inflater.reset(false);
    if window.is_empty() {
        return Ok(());
    }
    inflater
        .set_dictionary(window)
        .map(drop)
        .map_err(|_| "this tool's inflater does not take its window back")
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::super::noise::Noise;
    use super::*;

    fn answer(extensions: &str) -> Result<Terms, String> {
        check_answer(format!("HTTP/1.1 101 x\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n").as_bytes())
    }

    #[test]
    fn an_answer_says_what_a_message_may_refer_to() {
        for (extensions, window_bytes) in [
            ("permessage-deflate", 32 * 1024),
            ("permessage-deflate; client_no_context_takeover", 32 * 1024),
            ("permessage-deflate ;server_max_window_bits=\"9\"; client_max_window_bits=15", 512),
            ("permessage-deflate; server_max_window_bits=9; server_no_context_takeover", 0),
        ] {
            assert_eq!(answer(extensions), Ok(Terms { window_bytes }), "{extensions}");
        }
    }

    #[test]
    fn each_wrong_answer_is_refused() {
        for extensions in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate, permessage-deflate",
            "permessage-deflate\r\nSec-WebSocket-Extensions: permessage-deflate",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; mode=fast",
            "permessage-deflate;",
        ] {
            assert!(answer(extensions).is_err(), "{extensions}");
        }
        assert!(check_answer(b"HTTP/1.1 101 x\r\n\r\n").unwrap_err().contains("did not agree"));
    }

    /// As a server makes it: without the tail.
    fn deflated(context: &mut Compress, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 1024);
        context.compress_vec(message, &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
        out
    }

    fn inflater() -> Decompress {
        Decompress::new(false)
    }

    #[test]
    fn a_message_is_read_by_what_came_before_it_and_not_without() {
        let mut context = Compress::new(Compression::new(1), false);
        let message = b"{\"s\":\"EURUSD\",\"b\":1.07123,\"a\":1.07125}";
        let (first, second) = (deflated(&mut context, message), deflated(&mut context, message));
        assert!(second.len() < first.len());
        let mut one = inflater();
        assert_eq!(inflate(&mut one, b"", &first).as_deref(), Ok(&message[..]));
        assert_eq!(inflate(&mut one, message, &second).as_deref(), Ok(&message[..]));
        assert!(inflate(&mut one, b"", &second).is_err());
        assert!(inflate(&mut one, &message[1..], &second).is_err());
        // And the error is forgotten.
        assert_eq!(inflate(&mut one, b"", &first).as_deref(), Ok(&message[..]));
    }

    #[test]
    fn messages_of_any_size_come_out_whole() {
        let (mut context, mut one) = (Compress::new(Compression::new(6), false), inflater());
        for bytes in [0, 1, ROOM_BYTES - 1, ROOM_BYTES, ROOM_BYTES + 1, 3 * ROOM_BYTES, 300_000] {
            context.reset();
            for message in [vec![b'x'; bytes], (0..bytes).map(|at| ((at * at) >> 3) as u8).collect()] {
                context.reset();
                let mut data = deflated(&mut context, &message);
                if bytes == 0 {
                    // RFC 7692 §7.2.3.6.
                    data = vec![0];
                }
                assert_eq!(inflate(&mut one, b"", &data).as_ref(), Ok(&message), "{bytes}");
            }
        }
    }

    #[test]
    fn a_last_block_does_not_end_a_message() {
        // RFC 7692 §7.2.3.4: "Hello" in a block with BFINAL set, and an empty one behind it.
        let data = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(inflate(&mut inflater(), b"", &data).as_deref(), Ok(&b"Hello"[..]));
        // §7.2.3.2: the second message refers to the first.
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
        assert_eq!(inflate(&mut inflater(), b"Hello", &again).as_deref(), Ok(&b"Hello"[..]));
        // §7.2.3.5: two blocks in one message.
        let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflate(&mut inflater(), b"", &two).as_deref(), Ok(&b"Hello"[..]));
    }

    #[test]
    fn no_data_breaks_the_reader() {
        let mut context = Compress::new(Compression::new(6), false);
        let good = deflated(&mut context, b"one message after another after another");
        let mut one = inflater();
        for seed in 0..3000 {
            let data = Noise::new(seed).stream(&[&good, b"\x00", b"\x03\x00"]);
            let _ = inflate(&mut one, b"what came before", &data);
        }
    }
}
