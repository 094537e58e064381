//! What the shared compressor gives, against an inflater of other make.

use super::*;
use crate::model::encoding::FRAME_HEADER_BYTES_MAX;
use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../../../tests/simulation/inflater.rs"]
mod inflater;
use inflater::Inflater;

fn deflater(level: u64, min_size: u64, epoch: u64) -> Deflater {
    let settings = ChannelSettings {
        compression_level: level,
        compression_min_size: min_size,
        compression_epoch: epoch,
        ..ChannelSettings::default()
    };
    Deflater::new(&settings)
}

/// The payload of an unmasked frame with RSV1 set.
fn payload(frame: &[u8]) -> &[u8] {
    assert!(frame[0] == 0xc1 || frame[0] == 0xc2, "{:#x}", frame[0]);
    let header_bytes = match frame[1] {
        127 => FRAME_HEADER_BYTES_MAX,
        126 => 4,
        _ => 2,
    };
    &frame[header_bytes..]
}

/// A price in JSON of 85 bytes; no two sequences give the same.
fn tick(sequence: u64) -> Vec<u8> {
    let mixed = (sequence + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (symbol, cents, size) = (mixed >> 60, (mixed >> 20) % 9000 + 1000, (mixed >> 40) % 900 + 100);
    let (whole, part) = (100 + cents / 100, cents % 100);
    let text = format!(
        "{{\"s\":\"SYM{symbol:02}\",\"n\":{:010},\"bid\":{whole}.{part:02},\"ask\":{whole}.{:02},\"volume\":{size},\"t\":{}}}",
        1_000_000 + sequence,
        (part + 2) % 100,
        1_790_000_000_000_u64 + sequence * 37,
    );
    text.into_bytes()
}

#[test]
fn one_sequence_is_read_by_whoever_gets_on_at_an_epoch() {
    let mut deflater = deflater(6, 0, 16);
    let frames: Vec<Deflated> =
        (0..64).map(|sequence| deflater.deflate(PayloadKind::Text, &tick(sequence)).unwrap()).collect();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.begins_epoch, index % 16 == 0, "{index}");
    }
    for start in [0, 16, 48] {
        let mut client = Inflater::new();
        for (sequence, frame) in frames.iter().enumerate().skip(start) {
            assert_eq!(client.inflate(payload(&frame.frame)).unwrap(), tick(sequence as u64));
        }
    }
    let mut late = Inflater::new();
    let seen = late.inflate(payload(&frames[3].frame));
    assert_ne!(seen, Ok(tick(3)), "the sequence is needed from its beginning");
}

#[test]
fn ticks_of_85_bytes_shrink_to_half_at_level_1_and_to_two_fifths_at_level_6() {
    for (level, percent_max) in [(1, 50), (6, 40)] {
        let mut deflater = deflater(level, 32, 64);
        let (mut plain, mut sent) = (0, 0);
        for sequence in 0..6400 {
            let tick = tick(sequence);
            assert_eq!(tick.len(), 85);
            plain += tick.len() + 2;
            sent += deflater.deflate(PayloadKind::Text, &tick).map_or(tick.len() + 2, |one| one.frame.len());
        }
        println!("level {level}: {:.1} % of the bytes", sent as f64 * 100.0 / plain as f64);
        assert!(sent * 100 <= plain * percent_max, "level {level}: {sent} of {plain} bytes");
    }
}

#[test]
fn what_is_small_or_does_not_shrink_is_sent_plain_and_is_no_part_of_the_sequence() {
    let mut deflater = deflater(1, 32, 64);
    let mut client = Inflater::new();
    let mut noise = 0x1234_5678_9abc_def1_u64;
    let mut random = |length: usize| -> Vec<u8> {
        let byte = |_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            noise as u8
        };
        (0..length).map(byte).collect()
    };
    assert_eq!(deflater.deflate(PayloadKind::Binary, &random(500)), None, "noise begins no epoch");
    for sequence in 0..60 {
        assert_eq!(deflater.deflate(PayloadKind::Text, &[b'a'; 31]), None);
        assert_eq!(deflater.deflate(PayloadKind::Binary, &random(60 + 97 * sequence as usize)), None);
        let frame = deflater.deflate(PayloadKind::Text, &tick(sequence)).unwrap();
        assert_eq!(frame.begins_epoch, sequence == 0, "what was sent plain ends no epoch");
        assert_eq!(client.inflate(payload(&frame.frame)).unwrap(), tick(sequence));
        assert!(sequence < 3 || frame.frame.len() < 60, "{} bytes: the context is kept", frame.frame.len());
    }
}

#[test]
fn an_epoch_of_large_messages_ends_by_its_bytes() {
    let mut deflater = deflater(1, 0, 1000);
    let message = [b'x'; 64 * 1024];
    let begins: Vec<bool> =
        (0..9).map(|_| deflater.deflate(PayloadKind::Binary, &message).unwrap().begins_epoch).collect();
    assert_eq!(begins, [true, false, false, false, true, false, false, false, true]);
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = (0..u64::MAX / 2, 1_usize..200).prop_map(|(seed, times)| {
        let mut text = tick(seed % 1000);
        text.truncate(85 * times / 20 + 1);
        text.repeat(times / 20 + 1)
    });
    let noise = vec(any::<u8>(), 0..3000);
    let long = (any::<u8>(), 1_usize..150_000)
        .prop_map(|(byte, length)| (0..length).map(|index| byte ^ (index * index / 7) as u8).collect());
    vec(prop_oneof![6 => text, 2 => noise, 1 => long], 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_come_out_as_they_went_in(
        messages in messages(), level in 1_u64..=9, min_size in 0_u64..100, epoch in 1_u64..40,
    ) {
        let mut deflater = deflater(level, min_size, epoch);
        let mut client = Inflater::new();
        let mut has_begun = false;
        for message in &messages {
            let Some(frame) = deflater.deflate(PayloadKind::Binary, message) else { continue };
            prop_assert!(has_begun || frame.begins_epoch);
            has_begun = true;
            prop_assert!(message.len() as u64 >= min_size);
            prop_assert!(payload(&frame.frame).len() <= message.len() + FIRST_GROWTH_BYTES_MAX);
            if frame.begins_epoch && message.len() % 2 == 0 {
                client = Inflater::new();
            }
            prop_assert_eq!(&client.inflate(payload(&frame.frame)).unwrap(), message);
        }
    }
}

/// Level 1 writes noise in nine bits a byte. Output that found no room once made the compressor panic, some messages on.
#[test]
fn k5_noise_of_any_size_is_sent_plain_for_ever() {
    let mut noise = 1_u32;
    let mut random = |length: usize| -> Vec<u8> {
        let mut byte = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Values above 143 take nine bits.
            (noise >> 24) as u8 | 0x90
        };
        (0..length).map(|_| byte()).collect()
    };
    for level in [1, 2, 6, 9] {
        let mut deflater = deflater(level, 0, 64);
        let mut client = Inflater::new();
        for round in 0..400_u64 {
            let payload = random(4096 + 37 * round as usize % 9000);
            match deflater.deflate(PayloadKind::Binary, &payload) {
                Some(frame) => assert_eq!(client.inflate(self::payload(&frame.frame)).unwrap(), payload),
                None => assert!(!deflater.buffer.is_empty(), "level {level}: it was tried"),
            }
            let tick = tick(round);
            let frame = deflater.deflate(PayloadKind::Text, &tick).unwrap();
            assert_eq!(client.inflate(self::payload(&frame.frame)).unwrap(), tick, "level {level}, {round}");
        }
    }
}
