//! Publishes that may be sent again: what one is called, what was published, what became of it (GUARANTEES E8).
//!
//! Whoever takes a message in gives it its [`Idempotency`]; the home of its channel compares. `src/hub/retries.rs` has the table.

use std::hash::{BuildHasher, RandomState};

use super::encoding;
use super::position::Position;
use super::publication::{PayloadKind, Publication};

/// Longest key in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;

/// What a publisher calls one publish: 1 to 128 bytes of printable ASCII. Keys are of a channel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Checks and keeps `text`; `None` if it is no key.
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        is_key.then(|| Self(text.into()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What was published, for comparison: its length, and 128 bits that nobody can aim at, as they are keyed at random.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint(usize, [u64; 2]);

/// Takes fingerprints. Those of one and of its clones are alike, those of two are not.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints([RandomState; 2]);

impl Fingerprints {
    /// Of the kind, the message key and the payload; not of the time to live, which a retry may state shorter. Linear in
    /// the payload.
    pub fn of(&self, publication: &Publication) -> Fingerprint {
        let (kind, payload) = encoding::data_of(&publication.frame).unwrap_or((PayloadKind::Binary, &[]));
        let whole = (kind, publication.key.as_ref(), payload);
        Fingerprint(payload.len(), self.0.each_ref().map(|hasher| hasher.hash_one(whole)))
    }
}

/// What makes a message known again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Idempotency {
    /// What its publisher calls it.
    pub key: IdempotencyKey,
    /// What it was.
    pub fingerprint: Fingerprint,
}

/// What the publisher learns once the home shard has numbered its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The message's place in its stream.
    pub position: Position,
    /// Subscribers of the channel in the whole process at that moment.
    pub subscribers: u64,
    /// It had its place already, under its idempotency key.
    pub is_duplicate: bool,
}

/// Another message was published under the idempotency key: this one was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, MessageKey, Time};

    #[test]
    fn a_key_is_1_to_128_bytes_of_printable_ascii() {
        let longest = "~".repeat(128);
        for good in ["a", " ", "\"8e03978e-40d5\"", &longest] {
            assert_eq!(IdempotencyKey::parse(good).as_ref().map(IdempotencyKey::as_str), Some(good));
        }
        for bad in ["", "a\n", "\u{7f}", "\u{e4}", &"~".repeat(129)] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn e8_a_fingerprint_is_of_kind_key_and_payload_and_of_nothing_else() {
        let prints = Fingerprints::default();
        let channel = |name| ChannelName::parse(name).unwrap();
        let message = |kind, text: &[u8]| Publication::encode(channel("a"), kind, text, Time::ZERO, None);
        let one = message(PayloadKind::Text, b"1");
        let keyed = Publication { key: MessageKey::parse("x").ok(), ..one.clone() };
        let others = [
            message(PayloadKind::Text, b"2"),
            message(PayloadKind::Text, b"1 "),
            message(PayloadKind::Binary, b"1"),
            keyed,
        ];
        for other in others {
            assert_ne!(prints.of(&other), prints.of(&one), "{other:?}");
        }
        let later = Time::from_millis(9);
        let lasting =
            Publication { expires_at: later, accepted_at: later, channel: channel("b"), ..one.clone() };
        assert_eq!(prints.clone().of(&lasting), prints.of(&one));
        assert_ne!(Fingerprints::default().of(&one), prints.of(&one), "keyed at random");
    }
}
