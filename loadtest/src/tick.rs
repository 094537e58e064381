//! Messages that look like those of a market feed: JSON, a quote of 85 bytes, or a longer one with its order book.
//!
//! They carry what every test message does (`payload.rs`), in the fields where a feed has its time and its identifier,
//! with little more noise than a feed has: whoever compresses them gains about what it gains with real ones.
//! `{"s":"EURUSD","b":1.07123,"a":1.07125,"t":DUE_US(16),"i":"RUN(6)SEQUENCE(6)CHECKSUM(7)"}`, the identifier in
//! digits of six bits each.

use std::ops::Range;

use crate::payload::{Payload, checksum};

/// Bytes of a quote, and of the smallest message.
pub const SIZE_MIN: usize = 85;

const BEGIN: &[u8] = b"{\"s\":\"EURUSD\",\"b\":";
const TIME: Range<usize> = 42..58;
const RUN: Range<usize> = 64..70;
const SEQUENCE: Range<usize> = 70..76;
const CHECKSUM: Range<usize> = 76..83;
/// What is added to the clock, so that times have as many digits as those of a calendar in microseconds.
const EPOCH_US: u64 = 1_700_000_000_000_000;
/// Bits of the checksum that find room.
const CHECKSUM_BITS: u32 = 42;
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz-";
/// `,"book":[` and `]` without the comma that the first level lacks, and each level with its comma.
const BOOK_BYTES: usize = 9;
const LEVEL_BYTES: usize = 18;

/// Appends a message of `size` bytes, `SIZE_MIN` or more. Same fields, same bytes; the time is kept in microseconds, of
/// the sequence 36 bits.
pub fn push(payload: &Payload, size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut noise = payload.sequence.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // Two digits wander with each quote, one more with every hundred.
    let bid = 107_000 + (payload.sequence / 100 % 10) * 100 + (noise >> 32) % 90;
    let time = EPOCH_US + payload.due_ns / 1000;
    out.extend_from_slice(BEGIN);
    out.extend_from_slice(
        format!("{},\"a\":{},\"t\":{time:016},\"i\":\"", price(bid), price(bid + 2)).as_bytes(),
    );
    push_digits(u64::from(payload.run), RUN.len(), out);
    push_digits(payload.sequence, SEQUENCE.len(), out);
    out.extend_from_slice(&[b'0'; CHECKSUM.end - CHECKSUM.start]);
    out.push(b'"');
    let room = size.saturating_sub(SIZE_MIN);
    let levels = room.saturating_sub(BOOK_BYTES) / LEVEL_BYTES;
    if levels > 0 {
        out.extend_from_slice(b",\"book\":[");
        for level in 0..levels as u64 {
            noise = noise.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(21);
            let comma = if level == 0 { "" } else { "," };
            let (at, volume) = (price(bid - level % 100), (noise % 90 + 10) * 100_000);
            out.extend_from_slice(format!("{comma}[{at},{volume}]").as_bytes());
        }
        out.push(b']');
    }
    out.resize(start + size.max(SIZE_MIN) - 1, b' ');
    out.push(b'}');
    let sum = checksum(&out[start..], CHECKSUM) >> (64 - CHECKSUM_BITS);
    let mut digits = Vec::with_capacity(CHECKSUM.len());
    push_digits(sum, CHECKSUM.len(), &mut digits);
    out[start + CHECKSUM.start..start + CHECKSUM.end].copy_from_slice(&digits);
}

/// Whether a message began as one of these.
pub fn is_ours(message: &[u8]) -> bool {
    message.starts_with(BEGIN)
}

/// Reads a message back; the time in whole microseconds. `None` if it is none of these or any byte has changed.
pub fn parse(message: &[u8]) -> Option<Payload> {
    if message.len() < SIZE_MIN || !is_ours(message) {
        return None;
    }
    let time: u64 = std::str::from_utf8(&message[TIME]).ok()?.parse().ok()?;
    let payload = Payload {
        sequence: number(&message[SEQUENCE])?,
        due_ns: time.checked_sub(EPOCH_US)? * 1000,
        run: u32::try_from(number(&message[RUN])?).ok()?,
    };
    let sum = checksum(message, CHECKSUM) >> (64 - CHECKSUM_BITS);
    (number(&message[CHECKSUM])? == sum).then_some(payload)
}

/// A price in hundred thousandths.
fn price(pips: u64) -> String {
    format!("{}.{:05}", pips / 100_000, pips % 100_000)
}

fn push_digits(number: u64, count: usize, out: &mut Vec<u8>) {
    out.extend((0..count).rev().map(|place| DIGITS[(number >> (6 * place)) as usize & 63]));
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = DIGITS.iter().position(|other| other == digit)?;
        Some((value << 6) | digit as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        push(&Payload { sequence, due_ns: 77_000, run: 0xFEDC_BA98 }, size, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_is_json_and_reads_back_at_every_size() {
        for size in (SIZE_MIN..SIZE_MIN + 60).chain([1024, 16 * 1024]) {
            let bytes = message(3, size);
            assert_eq!(bytes.len(), size);
            assert_eq!(bytes.last(), Some(&b'}'));
            let expected = Payload { sequence: 3, due_ns: 77_000, run: 0xFEDC_BA98 };
            assert_eq!(Payload::parse(&bytes), Some(expected), "{size}");
            let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(value["s"], "EURUSD");
            assert!(value["b"].as_f64() < value["a"].as_f64(), "{value}");
        }
        assert!(message(3, 1024).windows(9).any(|part| part == b",\"book\":["));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let good = message(3, 200);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(parse(&bad), None, "byte {at}");
        }
        assert_eq!(parse(&good[..199]), None);
        assert_eq!(parse(&good[..40]), None);
    }

    #[test]
    fn one_quote_differs_from_the_next_as_in_a_feed() {
        let (one, next) = (message(1000, SIZE_MIN), message(1001, SIZE_MIN));
        let changed = one.iter().zip(&next).filter(|(one, next)| one != next).count();
        assert!((4..=14).contains(&changed), "{changed} bytes");
    }
}
