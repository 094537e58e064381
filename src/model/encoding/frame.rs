//! A message as a WebSocket frame.
//!
//! Server frames carry no mask (RFC 6455 §5.1), so a frame made once can go to everybody. A deflated message is a frame
//! of the same kind with the bit RSV1 set (RFC 7692 §6).

use crate::model::PayloadKind;

/// Longest header of an unmasked frame: two bytes and a 64-bit length (RFC 6455 §5.2).
pub const FRAME_HEADER_BYTES_MAX: usize = 10;

const FIN: u8 = 0x80;
/// "Per-Message Compressed" (RFC 7692 §6).
const RSV1: u8 = 0x40;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;

/// Appends one unmasked, unfragmented data frame that carries `payload` to `out`.
///
/// Uses the shortest length form, as RFC 6455 §5.2 demands. Linear in the payload.
pub fn append_data_frame(kind: PayloadKind, payload: &[u8], out: &mut Vec<u8>) {
    append_frame(FIN | opcode_of(kind), payload, out);
}

/// Appends the same frame for a payload that is deflated as RFC 7692 §7.2.1 has it.
pub fn append_deflated_frame(kind: PayloadKind, deflated: &[u8], out: &mut Vec<u8>) {
    append_frame(FIN | RSV1 | opcode_of(kind), deflated, out);
}

/// Kind and payload of a frame that [`append_data_frame`] made; `None` for any other bytes. Constant time.
pub fn data_of(frame: &[u8]) -> Option<(PayloadKind, &[u8])> {
    let (&first, &length) = (frame.first()?, frame.get(1)?);
    let kind = match first {
        first if first == FIN | OPCODE_TEXT => PayloadKind::Text,
        first if first == FIN | OPCODE_BINARY => PayloadKind::Binary,
        _ => return None,
    };
    let header_bytes = match length {
        0..=125 => 2,
        126 => 4,
        127 => FRAME_HEADER_BYTES_MAX,
        _ => return None,
    };
    Some((kind, frame.get(header_bytes..)?))
}

/// The first of `frames`, which are whole frames as the functions here make them, and those behind it; `None` if there is
/// none. Constant time.
pub fn split_frame(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let extended_bytes = match frames.get(1)? {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let length = match frames.get(2..2 + extended_bytes)? {
        [] => usize::from(*frames.get(1)?),
        bytes => bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    frames.split_at_checked(length.checked_add(2 + extended_bytes)?)
}

const fn opcode_of(kind: PayloadKind) -> u8 {
    match kind {
        PayloadKind::Text => OPCODE_TEXT,
        PayloadKind::Binary => OPCODE_BINARY,
    }
}

/// Appends one unmasked control frame: `opcode` 0x8 close, 0x9 ping, 0xA pong (RFC 6455 §5.5).
///
/// `payload` is cut at 125 bytes, the most a control frame holds.
pub fn append_control_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    append_frame(FIN | (opcode & 0x0f), payload.get(..125).unwrap_or(payload), out);
}

/// The last of `frames`, which are whole control frames as [`append_control_frame`] makes them; empty if there is none.
/// Linear in their number.
pub fn last_control_frame(mut frames: &[u8]) -> &[u8] {
    while let [_, length, ..] = frames
        && let Some(behind) = frames.get(2 + usize::from(*length)..)
        && !behind.is_empty()
    {
        frames = behind;
    }
    frames
}

/// Appends the header of an unmasked text frame of `length` bytes.
pub(super) fn append_text_header(length: usize, out: &mut Vec<u8>) {
    append_header(FIN | OPCODE_TEXT, length, out);
}

fn append_frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    append_header(first, payload.len(), out);
    out.extend_from_slice(payload);
}

fn append_header(first: u8, length: usize, out: &mut Vec<u8>) {
    out.push(first);
    match length {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_shortest_form() {
        for (length, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (65_535, vec![0x82, 126, 0xff, 0xff]),
            (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut frame = Vec::new();
            append_data_frame(PayloadKind::Binary, &vec![7; length], &mut frame);
            assert_eq!(&frame[..header.len()], header);
            assert_eq!(frame.len(), header.len() + length);
        }
    }

    #[test]
    fn the_last_of_several_control_frames_is_found() {
        let mut frames = Vec::new();
        assert_eq!(last_control_frame(&frames), b"");
        for payload in [&b""[..], b"a", &[0x89; 125], b""] {
            let before = frames.len();
            append_control_frame(0xA, payload, &mut frames);
            assert_eq!(last_control_frame(&frames), &frames[before..]);
        }
    }

    #[test]
    fn frames_are_taken_apart_where_they_were_put_together() {
        let mut frames = Vec::new();
        let lengths = [0, 125, 126, 65_535, 65_536];
        for length in lengths {
            append_data_frame(PayloadKind::Binary, &vec![7; length], &mut frames);
            append_control_frame(0x9, b"between", &mut frames);
        }
        let mut rest = &frames[..];
        for length in lengths {
            let (data, behind) = split_frame(rest).unwrap();
            assert_eq!(data_of(data).unwrap().1.len(), length);
            let (ping, behind) = split_frame(behind).unwrap();
            assert_eq!(ping, b"\x89\x07between");
            rest = behind;
        }
        assert_eq!(split_frame(rest), None);
        assert_eq!(split_frame(&frames[..1]), None);
    }

    #[test]
    fn a_frame_gives_back_what_it_was_made_of() {
        for kind in [PayloadKind::Text, PayloadKind::Binary] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let payload = vec![b'x'; length];
                let mut frame = Vec::new();
                append_data_frame(kind, &payload, &mut frame);
                assert_eq!(data_of(&frame), Some((kind, &payload[..])), "{length}");
            }
        }
        let mut ping = Vec::new();
        append_control_frame(0x9, b"x", &mut ping);
        let mut deflated = Vec::new();
        append_deflated_frame(PayloadKind::Text, b"x", &mut deflated);
        assert_eq!(deflated, [0xc1, 1, b'x']);
        for other in [&ping[..], &deflated, &[0x81], &[0x81, 0x80, 0, 0, 0, 0], &[0x81, 126, 0]] {
            assert_eq!(data_of(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_control_frame_never_exceeds_its_limit() {
        let mut frame = Vec::new();
        append_control_frame(0x9, &[1; 300], &mut frame);
        assert_eq!((frame[0], frame[1], frame.len()), (0x89, 125, 127));
    }
}
