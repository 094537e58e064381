//! What a test message says: its sequence, when it was due, whose run it is, and a checksum over all.
//!
//! Pure ASCII without quotes or backslashes, so that the same bytes travel as a text frame, a binary
//! frame, an HTTP body or a JSON string. Layout, fixed width, hexadecimal:
//! `tide SEQUENCE(16) DUE_NS(16) RUN(8) CHECKSUM(16) filler…`
//! The other form, JSON as a market feed has it, is that of `tick.rs`; which of them came shows by how it begins.

use std::ops::Range;

use clap::ValueEnum;

use crate::tick;

/// Smallest message that has room for the fields.
pub const SIZE_MIN: usize = FILLER;
/// Largest message that the tool sends.
pub const SIZE_MAX: usize = 16 * 1024 * 1024;

/// Sequences are below this: the bit is free for those who keep one.
pub const SEQUENCE_END: u64 = 1 << 63;

const SEQUENCE: usize = 5;
const DUE: usize = 22;
const RUN: usize = 39;
const CHECKSUM: usize = 48;
const FILLER: usize = 65;

/// What messages look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Letters and digits that hardly compress
    #[default]
    Letters,
    /// JSON as a market feed has it: a quote with --size 85, with more a quote and its order book
    Json,
}

impl Form {
    /// Smallest message of this form.
    pub fn size_min(self) -> usize {
        match self {
            Self::Letters => SIZE_MIN,
            Self::Json => tick::SIZE_MIN,
        }
    }
}

/// What messages are about: each has one of so many keys, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// How many there are; 0: messages have none.
    pub count: u32,
    /// How they follow each other.
    pub order: KeyOrder,
}

/// How keys follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KeyOrder {
    /// One after the other, all of them, and again
    #[default]
    Turns,
    /// At random, each as likely as the others
    Random,
}

impl Keys {
    /// The number of the key that a message has. `None` if messages have none.
    pub fn number(self, sequence: u64) -> Option<usize> {
        let mixed = match self.order {
            KeyOrder::Turns => sequence,
            // The finish of splitmix64: neighbours have nothing in common.
            KeyOrder::Random => {
                let state = (sequence ^ (sequence >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                state ^ (state >> 31)
            }
        };
        mixed.checked_rem(u64::from(self.count)).map(|number| number as usize)
    }

    /// That key.
    pub fn name(self, sequence: u64) -> Option<String> {
        self.number(sequence).map(|number| format!("k{number}"))
    }
}

/// The fields of a message that passed its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Position in the feed, counted from 0.
    pub sequence: u64,
    /// When it was due to be published, in nanoseconds of `CLOCK_MONOTONIC`.
    pub due_ns: u64,
    /// The run that published it: other load on the same channel has another number.
    pub run: u32,
}

impl Payload {
    /// Appends the message in a form, of `size` bytes: `size_min` of the form or more. Same fields, same bytes.
    pub fn push_as(&self, form: Form, size: usize, out: &mut Vec<u8>) {
        match form {
            Form::Letters => self.push(size, out),
            Form::Json => tick::push(self, size, out),
        }
    }

    /// Appends the message of `size` bytes, `SIZE_MIN` or more. Same fields, same bytes.
    pub fn push(&self, size: usize, out: &mut Vec<u8>) {
        let start = out.len();
        let fields = format!("tide {:016x} {:016x} {:08x} {:016x} ", self.sequence, self.due_ns, self.run, 0);
        out.extend_from_slice(fields.as_bytes());
        push_filler(self.sequence, size.saturating_sub(FILLER), out);
        let checksum = checksum(&out[start..], CHECKSUM..CHECKSUM + 16);
        out[start + CHECKSUM..start + CHECKSUM + 16].copy_from_slice(format!("{checksum:016x}").as_bytes());
    }

    /// Whether a message began as one of ours, whatever has become of it since.
    pub fn is_ours(message: &[u8]) -> bool {
        message.starts_with(b"tide ") || tick::is_ours(message)
    }

    /// Reads a message back. `None` if it is not one of ours or any byte has changed.
    pub fn parse(message: &[u8]) -> Option<Self> {
        if tick::is_ours(message) {
            return tick::parse(message);
        }
        if message.len() < SIZE_MIN || !Self::is_ours(message) {
            return None;
        }
        let payload = Self {
            sequence: hex(&message[SEQUENCE..SEQUENCE + 16])?,
            due_ns: hex(&message[DUE..DUE + 16])?,
            run: hex(&message[RUN..RUN + 8])? as u32,
        };
        let is_right = hex(&message[CHECKSUM..CHECKSUM + 16])? == checksum(message, CHECKSUM..CHECKSUM + 16);
        (is_right && payload.sequence < SEQUENCE_END).then_some(payload)
    }
}

/// Letters that differ from message to message, so that a repeated or shifted piece shows.
fn push_filler(seed: u64, bytes: usize, out: &mut Vec<u8>) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut left = bytes;
    while left > 0 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for place in 0..left.min(8) {
            out.push(LETTERS[(state >> (6 * place)) as usize & 63]);
        }
        left -= left.min(8);
    }
}

/// Mixes all bytes but the checksum's own, which are at `place`. Each step is a bijection of the state, so that a change in
/// any single word always changes the result.
pub fn checksum(message: &[u8], place: Range<usize>) -> u64 {
    let mut state = message.len() as u64;
    for part in [&message[..place.start], &message[place.end..]] {
        for chunk in part.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = (state ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        }
    }
    state
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| Some((value << 4) | u64::from(char::from(digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        Payload { sequence, due_ns: 77, run: 9 }.push(size, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_reads_back_at_every_size() {
        for size in SIZE_MIN..SIZE_MIN + 40 {
            let bytes = message(3, size);
            assert_eq!(bytes.len(), size);
            assert_eq!(Payload::parse(&bytes), Some(Payload { sequence: 3, due_ns: 77, run: 9 }));
        }
    }

    #[test]
    fn every_key_has_its_turn_or_its_share() {
        assert_eq!(Keys::default().name(7), None);
        let turns = Keys { count: 3, order: KeyOrder::Turns };
        assert_eq!([2, 3, 4].map(|sequence| turns.name(sequence).unwrap()), ["k2", "k0", "k1"]);
        let random = Keys { count: 50, order: KeyOrder::Random };
        let mut times = [0; 50];
        (0..5000).for_each(|sequence| times[random.number(sequence).unwrap()] += 1);
        assert!(times.iter().all(|times| (60..150).contains(times)), "{times:?}");
        assert!((0..50).any(|sequence| random.number(sequence) != turns.number(sequence)));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let good = message(3, 100);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(Payload::parse(&bad), None, "byte {at}");
        }
        assert_eq!(Payload::parse(&good[..99]), None);
    }

    #[test]
    fn a_message_is_safe_in_json_and_in_text_frames() {
        let bytes = message(u64::MAX, 2000);
        assert!(bytes.iter().all(|&byte| (b' '..0x7F).contains(&byte) && byte != b'"' && byte != b'\\'));
    }
}
