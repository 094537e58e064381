//! Compressed messages of clients: what they say, and what they may not.

use super::super::boundary::tests::{frame, header, pieces};
use super::super::inflater::{STEP_BYTES, TAIL};
use super::*;
use crate::config::MessageType;
use crate::config::limits::INFLATE_WORK_PER_BYTE;
use crate::model::PayloadKind;
use crate::session::inbound::Inbound;
use crate::session::websocket::{Event, SessionLimits};
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMITS: SessionLimits = SessionLimits {
    max_message: 100_000,
    message_type: MessageType::Any,
    own_frames_bytes_max: 64 * 1024,
    echoes: false,
};

/// What became of some input.
#[derive(PartialEq, Debug, Default)]
struct Heard {
    own: Vec<u8>,
    events: Vec<Event>,
    fault: Option<CloseReason>,
}

/// Feeds piece after piece until a fault; as the shard does, keeps the context only where it must.
fn hear(limits: SessionLimits, may_compress: bool, pieces: &[&[u8]]) -> Heard {
    let (mut heard, mut inflater) = (Heard::default(), Inflater::default());
    let mut context: Option<Inbound> = None;
    for piece in pieces {
        let mut inbound = context.take().unwrap_or_else(|| Inbound::new(limits, may_compress));
        let outcome = inbound.handle_bytes(piece, &mut inflater, &mut heard.own, &mut heard.events);
        if let Err(reason) = outcome {
            heard.fault = Some(reason);
            break;
        }
        context = Some(inbound).filter(|inbound| !inbound.is_at_rest());
    }
    heard
}

fn fault(bytes: &[u8]) -> Option<CloseReason> {
    hear(LIMITS, true, &[bytes]).fault
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut context = Compress::new(Compression::default(), false);
    let mut out = Vec::with_capacity(payload.len() * 2 + 100);
    context.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

fn binary(payload: &[u8]) -> Event {
    Event::Message { kind: PayloadKind::Binary, payload: Bytes::copy_from_slice(payload) }
}

/// RFC 7692 §7.2.3.1, .2 (sliding window aside), .3, .4 and .5.
#[test]
fn the_examples_of_the_rfc_say_hello() {
    for bytes in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
    ] {
        let hello = Event::Message { kind: PayloadKind::Text, payload: Bytes::from_static(b"Hello") };
        let parts = [frame(0x41, &bytes[..3]), frame(0x80, &bytes[3..])].concat();
        for stream in [frame(0xc1, bytes), parts] {
            let heard = hear(LIMITS, true, &[&stream]);
            assert_eq!((heard.events, heard.fault), (vec![hello.clone()], None), "{bytes:x?}");
        }
    }
    let empty = hear(LIMITS, true, &[&frame(0xc2, &[0])]);
    assert_eq!((empty.events, empty.fault), (vec![binary(b"")], None));
}

#[test]
fn messages_do_not_refer_to_each_other_and_plain_ones_may_come_between() {
    let payload = b"the same text again and again, the same text again and again";
    let stream =
        [frame(0xc2, &deflate(payload)), frame(0x82, b"plain"), frame(0xc2, &deflate(payload))].concat();
    let heard = hear(LIMITS, true, &[&stream]);
    assert_eq!((heard.events, heard.fault), (vec![binary(payload), binary(b"plain"), binary(payload)], None));
}

#[test]
fn pings_between_fragments_are_answered_before_the_message_is_complete() {
    let bytes = deflate(b"a message in two parts");
    let mut inbound = Inbound::new(LIMITS, true);
    let (mut own, mut events, mut inflater) = (Vec::new(), Vec::new(), Inflater::default());
    let begun = [frame(0x42, &bytes[..5]), frame(0x89, b"there?")].concat();
    inbound.handle_bytes(&begun, &mut inflater, &mut own, &mut events).unwrap();
    assert_eq!((&own[..], &events[..]), (&b"\x8a\x06there?"[..], &[Event::Ping][..]));
    assert!(inbound.is_mid_message() && !inbound.is_at_rest());
    inbound.handle_bytes(&frame(0x80, &bytes[5..]), &mut inflater, &mut own, &mut events).unwrap();
    assert_eq!(events[1..], [binary(b"a message in two parts")]);
    assert!(!inbound.is_mid_message() && inbound.is_at_rest(), "nothing is kept of it");
}

#[test]
fn text_that_is_not_utf8_is_refused_after_inflating() {
    assert_eq!(fault(&frame(0xc1, &deflate(b"\xff\xfe"))), Some(CloseReason::Utf8));
    assert_eq!(fault(&frame(0xc2, &deflate(b"\xff\xfe"))), None);
}

#[test]
fn b14_a_message_is_inflated_to_the_limit_and_not_a_byte_beyond() {
    // Eight values, so that it shrinks, but not to a two hundredth.
    let noise = |length: usize| -> Vec<u8> {
        (0..length as u32)
            .map(|index| (index.wrapping_mul(index / 97 + 2_654_435_761) >> 11) as u8 & 7)
            .collect()
    };
    for (length, expected) in [
        (LIMITS.max_message, None),
        (LIMITS.max_message + 1, Some(CloseReason::MessageTooBig)),
        (16 << 20, Some(CloseReason::MessageTooBig)),
    ] {
        let stream = frame(0xc2, &deflate(&noise(length)));
        assert_eq!(fault(&stream), expected, "{length}");
    }
}

#[test]
fn b14_what_shrinks_a_thousandfold_is_taken_up_to_the_limit_of_any_message() {
    for (length, expected) in [(100_000, None), (100_001, Some(CloseReason::MessageTooBig))] {
        let deflated = deflate(&vec![b'a'; length]);
        assert!(deflated.len() * 500 < length, "{}", deflated.len());
        assert_eq!(fault(&frame(0xc1, &deflated)), expected, "{length}");
    }
}

#[test]
fn b14_a_bomb_is_found_within_a_step_beyond_the_limit() {
    let bomb = deflate(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000, "{}", bomb.len());
    for piece_bytes in [1000, INFLATE_AT_ONCE_BYTES_MAX, bomb.len()] {
        let (mut unpacker, mut inflater) = (begun_message(), Inflater::default());
        let outcome = bomb.chunks(piece_bytes).try_for_each(|piece| {
            unpacker.bytes.extend_from_slice(piece);
            unpacker.advance(1 << 20, &mut inflater)
        });
        assert_eq!(outcome, Err(CloseReason::MessageTooBig));
        let inflated = unpacker.begun.expect("it is long").frame.len() - HEADER_BYTES_MAX;
        assert!(((1 << 20) + 1..=(1 << 20) + STEP_BYTES).contains(&inflated), "{inflated}");
    }
}

fn begun_message() -> Compressed {
    Compressed { opcode: BINARY, ..Compressed::default() }
}

/// What a turn is charged is in step with what it costs: for bytes that inflate to much, and for those that take long and
/// say nothing.
#[test]
fn b14_work_is_counted_by_what_comes_and_by_what_it_becomes() {
    for (compressed, inflated) in [
        (deflate(&[7; 60_000]), 60_000),
        (deflate(b"short"), 5),
        ([3, 0].repeat(1000), 0),
        ([&[0, 0, 0, 0xff, 0xff].repeat(1000)[..], &[0]].concat(), 0),
    ] {
        let mut inflater = Inflater::default();
        let message = Compressed { bytes: compressed.clone(), ..begun_message() };
        let (frame, start) = message.finish(60_000, &mut inflater).expect("a message");
        assert_eq!(frame.len() - HEADER_BYTES_MAX, inflated);
        assert!(start < HEADER_BYTES_MAX);
        let expected = compressed.len() * INFLATE_WORK_PER_BYTE + inflated;
        let work = inflater.take_work();
        assert!((expected..=expected + 9 * INFLATE_WORK_PER_BYTE).contains(&work), "{work} of {expected}");
        assert_eq!(inflater.take_work(), 0);
    }
}

/// No input has the inflater at work for longer than a short while at a time: what came of a long message is inflated
/// already when the rest comes.
#[test]
fn b14_a_long_message_is_inflated_while_it_comes() {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..90_000).map(|_| byte()).collect();
    let stream = frame(0xc2, &deflate(&noise));
    assert!(stream.len() > 4 * INFLATE_AT_ONCE_BYTES_MAX, "{}", stream.len());
    let (mut inbound, mut inflater) = (Inbound::new(LIMITS, true), Inflater::default());
    let (mut own, mut events) = (Vec::new(), Vec::new());
    let (mut most, mut total) = (0, 0);
    for piece in stream.chunks(4096) {
        inbound.handle_bytes(piece, &mut inflater, &mut own, &mut events).unwrap();
        let work = inflater.take_work();
        (most, total) = (most.max(work), total + work);
    }
    assert_eq!(events, [binary(&noise)]);
    assert!(inbound.is_at_rest());
    assert!(total > stream.len() * INFLATE_WORK_PER_BYTE, "{total}");
    assert!(most < (INFLATE_AT_ONCE_BYTES_MAX + 4096) * (INFLATE_WORK_PER_BYTE + 2), "{most} of {total}");
}

#[test]
fn b8_fragments_of_compressed_messages_are_charged_like_any() {
    let empty = [frame(0x42, b""), frame(0x00, b"").repeat(usize::from(EMPTY_FRAGMENTS_MAX) - 1)].concat();
    let end = frame(0x80, &deflate(b"x"));
    let heard = hear(LIMITS, true, &[&empty, &end]);
    assert_eq!((heard.events, heard.fault), (vec![binary(b"x")], None));
    let one_more = [&empty[..], &frame(0x00, b"")].concat();
    assert_eq!(fault(&one_more), Some(CloseReason::FragmentOverhead));
    // A stored block, a byte a frame: each costs 65 of what a message may be.
    let compressed_max = LIMITS.max_message + LIMITS.max_message / 64 + 64;
    let most = compressed_max / 65;
    let stored = [&[0, 0xff, 0xff, 0, 0][..], &[7; 0xffff]].concat();
    let begun: Vec<u8> = (0..most)
        .flat_map(|index| frame(if index == 0 { 0x42 } else { 0x00 }, &stored[index..=index]))
        .collect();
    assert_eq!(fault(&begun), None);
    let one_more = [&begun[..], &frame(0x00, b"\x07")].concat();
    assert_eq!(fault(&one_more), Some(CloseReason::MessageTooBig));
}

#[test]
fn a_message_that_ends_within_a_block_is_not_taken_for_whole() {
    let payload = b"a message that is long enough to be cut somewhere, somewhere, and somewhere else";
    let deflated = deflate(payload);
    for end in 1..deflated.len() {
        assert_eq!(fault(&frame(0xc2, &deflated[..end])), Some(CloseReason::Inflate), "{end}");
    }
    let stored = [&[0, 100, 0, 0xff - 100, 0xff][..], &[7; 99]].concat();
    assert_eq!(fault(&frame(0xc2, &stored)), Some(CloseReason::Inflate));
}

/// What senders do that have no byte for an empty message, or end with a last block and nothing behind it.
#[test]
fn a_message_may_end_with_a_last_block_or_have_none() {
    for (deflated, payload) in [
        (&[][..], &b""[..]),
        (&[3, 0], b""),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello"),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x03, 0x00, 0x00], b"Hello"),
        (&[1, 1, 0, 0xfe, 0xff, b'x', 0, 1, 0, 0xfe, 0xff, b'y', 0], b"xy"),
    ] {
        let heard = hear(LIMITS, true, &[&frame(0xc2, deflated)]);
        assert_eq!((heard.events, heard.fault), (vec![binary(payload)], None), "{deflated:x?}");
    }
    // Behind a last block there is another stream, or a fault.
    assert_eq!(fault(&frame(0xc2, &[3, 0, 0xff, 0xff])), Some(CloseReason::Inflate));
}

#[test]
fn b15_rsv1_stands_on_the_first_frame_of_a_message_and_nowhere_else() {
    let deflated = deflate(b"x");
    let begun = |first: u8| frame(first, &deflated);
    for may_compress in [false, true] {
        let reserved = |before: &[u8], first: u8| {
            let stream = [before, &frame(first, &deflated)].concat();
            let heard = hear(LIMITS, may_compress, &[&stream]);
            assert_eq!(heard.fault, Some(CloseReason::ReservedBits), "{first:#x} {may_compress}");
        };
        for opcode in 0..=0xf {
            for reserved_bits in [0x40, 0x20, 0x10, 0x60, 0x50, 0x70] {
                let is_allowed = may_compress && reserved_bits == 0x40 && matches!(opcode, TEXT | BINARY);
                if !is_allowed {
                    reserved(&[], 0x80 | reserved_bits | opcode);
                    reserved(&begun(0x02), 0x80 | reserved_bits | opcode);
                }
            }
        }
        reserved(&frame(0x01, b"begun"), 0xc0);
        reserved(&frame(0x01, b"begun"), 0xc1);
        if may_compress {
            for opcode in 0..=0xf {
                reserved(&begun(0x42), 0xc0 | opcode);
            }
        } else {
            reserved(&[], 0xc1);
        }
    }
}

#[test]
fn headers_of_compressed_frames_are_held_to_the_same_rules() {
    let stored = [&[0, 0xff, 0xff, 0, 0][..], &[7; 59_995]].concat();
    for (bytes, reason) in [
        (vec![0xc1, 0x05], CloseReason::Unmasked),
        (header(0xc1, 126, 125)[..4].to_vec(), CloseReason::LengthForm),
        (header(0xc1, 127, 0xffff)[..10].to_vec(), CloseReason::LengthForm),
        (header(0xc1, 127, 1 << 63)[..10].to_vec(), CloseReason::LengthForm),
        (header(0xc1, 127, 200_000)[..10].to_vec(), CloseReason::MessageTooBig),
        ([frame(0x42, &stored), header(0x00, 126, 60_000)].concat(), CloseReason::MessageTooBig),
        ([frame(0x42, b"a"), frame(0x82, b"b")].concat(), CloseReason::ContinuationState),
        ([frame(0x42, b"a"), frame(0x09, b"b")].concat(), CloseReason::ControlFragmented),
        (frame(0xc2, b"\xff\xff\xff\xff"), CloseReason::Inflate),
    ] {
        assert_eq!(fault(&bytes), Some(reason), "{:x?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn a_close_ends_everything_behind_it() {
    let stream =
        [frame(0x42, b"begun"), frame(0x88, b"\x03\xe8"), frame(0x80, b"\xff"), frame(0xc9, b"")].concat();
    let heard = hear(LIMITS, true, &[&stream]);
    assert_eq!((heard.events, heard.fault), (vec![Event::Closed { code: Some(1000) }], None));
}

/// A message of a client: its payload, whether it compresses it, and in how many fragments with a ping between each.
fn messages() -> impl Strategy<Value = Vec<(Vec<u8>, bool, usize)>> {
    let text = vec(0_u8..4, 0..3000);
    let noise = vec(any::<u8>(), 0..200);
    vec((prop_oneof![text, noise], any::<bool>(), 1_usize..4), 0..12)
}

fn fragments(payload: &[u8], is_compressed: bool, count: usize) -> Vec<u8> {
    let size = payload.len().div_ceil(count).max(1);
    let parts: Vec<&[u8]> = if payload.is_empty() { vec![payload] } else { payload.chunks(size).collect() };
    let mut stream = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let opcode = if index == 0 { BINARY | if is_compressed { RSV1 } else { 0 } } else { CONTINUATION };
        stream.extend(frame(opcode | if is_last { FIN } else { 0 }, part));
        if !is_last {
            stream.extend(frame(0x89, &[index as u8]));
        }
    }
    stream
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn compressed_or_not_the_same_is_heard_however_reads_cut_it(
        messages in messages(), cuts in vec(1_usize..400, 1..8),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (payload, is_compressed, count) in &messages {
            let sent = if *is_compressed { deflate(payload) } else { payload.clone() };
            let part = fragments(&sent, *is_compressed, *count);
            stream.extend(part);
            expected.push(binary(payload));
        }
        let heard = hear(LIMITS, true, &pieces(&stream, &cuts));
        prop_assert_eq!(heard.fault, None);
        let said: Vec<Event> = heard.events.into_iter().filter(|event| *event != Event::Ping).collect();
        prop_assert_eq!(said, expected);
        prop_assert_eq!(heard.own, hear(LIMITS, true, &[&stream]).own, "pongs are the same");
    }

    #[test]
    fn no_bytes_make_it_panic_or_give_more_than_the_limit(
        bytes in vec(any::<u8>(), 0..500), payload in vec(any::<u8>(), 0..300), cuts in vec(1_usize..40, 1..5),
    ) {
        let stream = [frame(0xc2, &payload), bytes].concat();
        let heard = hear(LIMITS, true, &pieces(&stream, &cuts));
        for event in heard.events {
            if let Event::Message { payload, .. } = event {
                prop_assert!(payload.len() <= LIMITS.max_message);
            }
        }
    }
}

#[test]
fn b25_a_compressed_message_of_the_wrong_type_is_refused_at_its_end() {
    for (message_type, wrong, right) in [(MessageType::Text, 0xc2, 0xc1), (MessageType::Binary, 0xc1, 0xc2)] {
        let limits = SessionLimits { message_type, ..LIMITS };
        let heard = |first: u8| hear(limits, true, &[&frame(first, &deflate(b"hello"))]);
        assert_eq!((heard(right).events.len(), heard(right).fault), (1, None), "{message_type:?}");
        let refused = (heard(wrong).events.len(), heard(wrong).fault);
        assert_eq!(refused, (0, Some(CloseReason::TypeUnsupported)), "{message_type:?}");
    }
}
