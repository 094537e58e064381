//! What a client deflates: the same payload as miniz_oxide finds, and never more than the limit.
//!
//! Input: the limit, whether the rest is deflated data or a payload to be deflated, the fragments, then the rest.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use tidegate::config::MessageType;
use tidegate::config::limits::FRAGMENT_OVERHEAD_BYTES;
use tidegate::model::CloseReason;
use tidegate::session::{Event, Inbound, Inflater, SessionLimits};

use super::input::{Input, pieces};

/// What a compressed message leaves out at its end (RFC 7692 §7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// A last block with nothing in it, to see that a block ends in front of it.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];
/// Bytes that the reference inflates at most.
const REFERENCE_BYTES_MAX: usize = 1 << 22;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = input.one_of(&[0, 100, 4095, 4096, 4097, 16_384, 65_536, 1 << 20]);
    let level = input.byte() % 16;
    let cuts = input.cuts();
    let (deflated, payload) = match level {
        0..=9 => {
            let payload = input.rest();
            (deflate(payload, level), Some(payload))
        }
        _ => (input.rest().to_vec(), None),
    };
    let reference = reference(&deflated);
    if let Some(payload) = payload {
        assert_eq!((reference.bytes.as_slice(), reference.is_valid), (payload, true), "the reference");
    }
    let charged = deflated.len() + pieces(&deflated, &cuts).len() * FRAGMENT_OVERHEAD_BYTES as usize;
    let bytes = reference.bytes.len();
    match hear(&deflated, &cuts, limit) {
        Ok(got) => {
            assert!(got.len() <= limit, "{} bytes", got.len());
            // Of a broken block header that is cut off, one says so earlier than the other: nothing was read from it yet.
            assert!(got == reference.bytes, "{} bytes, the reference {bytes}", got.len());
            assert!(reference.is_valid, "the reference does not take it");
        }
        // A message that is too big as it comes is not inflated.
        Err(CloseReason::MessageTooBig) => {
            assert!(bytes > limit || charged > limit, "{bytes} of {limit}")
        }
        Err(CloseReason::FragmentOverhead) => {
            let pieces = pieces(&deflated, &cuts);
            let empty =
                pieces.split_last().map_or(&[][..], |(_, before)| before).iter().filter(|it| it.is_empty());
            assert!(empty.count() > 8, "fragments that carry nothing");
        }
        Err(CloseReason::Inflate) => assert!(!reference.is_valid, "the reference takes it: {bytes} bytes"),
        Err(other) => panic!("{other:?}"),
    }
}

/// `payload` as a message is deflated (RFC 7692 §7.2.1).
fn deflate(payload: &[u8], level: u8) -> Vec<u8> {
    let mut deflated = miniz_oxide::deflate::compress_to_vec(payload, level);
    // It ends with a last block, after which another stream begins (RFC 7692 §7.2.3.4): an empty one.
    deflated.push(0);
    deflated
}

/// What the gateway makes of `deflated` in fragments as long as `cuts` say, or why it refuses it.
fn hear(deflated: &[u8], cuts: &[usize], limit: usize) -> Result<Vec<u8>, CloseReason> {
    let limits = SessionLimits {
        max_message: limit,
        own_frames_bytes_max: 4096,
        echoes: false,
        message_type: MessageType::Any,
    };
    let (mut inbound, mut inflater) = (Inbound::new(limits, true), Inflater::default());
    let (mut own, mut events) = (Vec::new(), Vec::new());
    let fragments = pieces(deflated, cuts);
    for (index, fragment) in fragments.iter().enumerate() {
        let opcode = if index == 0 { 0x42 } else { 0 };
        let fin = if index + 1 == fragments.len() { 0x80 } else { 0 };
        // A mask of zeros.
        let mut frame = vec![opcode | fin];
        match fragment.len() {
            length @ 0..=125 => frame.push(0x80 | length as u8),
            length @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(fragment);
        inbound.handle_bytes(&frame, &mut inflater, &mut own, &mut events)?;
    }
    assert!(inbound.is_at_rest() && own.is_empty());
    match &events[..] {
        [Event::Message { payload, .. }] => Ok(payload.to_vec()),
        _ => panic!("{} events", events.len()),
    }
}

#[derive(Debug)]
struct Reference {
    bytes: Vec<u8>,
    is_valid: bool,
}

/// All that `deflated` holds, with its tail unless it ends with a last block.
fn reference(deflated: &[u8]) -> Reference {
    let whole = streams(deflated);
    if whole.is_valid { whole } else { streams(&[deflated, &TAIL, &LAST_BLOCK].concat()) }
}

/// Stream after stream up to the first fault; valid if the last of them ends with the bytes.
fn streams(mut rest: &[u8]) -> Reference {
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let (taken, stream, status) = reference_stream(rest);
        rest = &rest[taken..];
        bytes.extend(stream);
        // More than anybody asks for is as good as valid.
        if status == TINFLStatus::HasMoreOutput || bytes.len() >= REFERENCE_BYTES_MAX {
            break;
        }
        if status != TINFLStatus::Done {
            return Reference { bytes, is_valid: false };
        }
    }
    Reference { bytes, is_valid: true }
}

/// The first stream in `deflated`: the bytes it takes, what it holds, how it ends.
fn reference_stream(deflated: &[u8]) -> (usize, Vec<u8>, TINFLStatus) {
    let mut state = Box::new(DecompressorOxide::new());
    let (mut taken, mut given, mut out) = (0, 0, vec![0; 4096]);
    loop {
        // In a window that does not come round, what lies before its beginning is found out.
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
        let (status, more_taken, more_given) =
            decompress(&mut state, &deflated[taken..], &mut out, given, flags);
        (taken, given) = (taken + more_taken, given + more_given);
        if status != TINFLStatus::HasMoreOutput || out.len() >= REFERENCE_BYTES_MAX {
            out.truncate(given);
            return (taken, out, status);
        }
        out.resize(out.len() * 2, 0);
    }
}
