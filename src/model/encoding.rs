//! How a message looks on a wire. One encoding serves every subscriber that speaks it.
//!
//! Server frames carry no mask (RFC 6455 §5.1), so a frame made once can go to everybody.

use super::publication::PayloadKind;

/// Longest header of an unmasked frame: two bytes and a 64-bit length (RFC 6455 §5.2).
pub const FRAME_HEADER_BYTES_MAX: usize = 10;

/// Appends one unmasked, unfragmented data frame that carries `payload` to `out`.
///
/// Uses the shortest length form, as RFC 6455 §5.2 demands. Linear in the payload.
pub fn append_data_frame(kind: PayloadKind, payload: &[u8], out: &mut Vec<u8>) {
    let opcode = match kind {
        PayloadKind::Text => 0x1,
        PayloadKind::Binary => 0x2,
    };
    append_frame(0x80 | opcode, payload, out);
}

/// Appends one unmasked control frame: `opcode` 0x8 close, 0x9 ping, 0xA pong (RFC 6455 §5.5).
///
/// `payload` is cut at 125 bytes, the most a control frame holds.
pub fn append_control_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    append_frame(0x80 | (opcode & 0x0f), payload.get(..125).unwrap_or(payload), out);
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

fn append_frame(first: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
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
    out.extend_from_slice(payload);
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
    fn a_control_frame_never_exceeds_its_limit() {
        let mut frame = Vec::new();
        append_control_frame(0x9, &[1; 300], &mut frame);
        assert_eq!((frame[0], frame[1], frame.len()), (0x89, 125, 127));
    }
}
