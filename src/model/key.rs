//! Message keys: what a message is the newest state of.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest key in bytes.
pub const MESSAGE_KEY_BYTES_MAX: usize = 128;

/// A valid message key: 1 to 128 bytes of UTF-8 without control characters. Cheap to clone. Of two messages of a channel
/// with the same key the later one supersedes the earlier.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageKey(Arc<str>);

/// Why a text is not a message key; its display says what to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing there.
    #[error("a key needs at least one character")]
    Empty,
    /// More than [`MESSAGE_KEY_BYTES_MAX`] bytes.
    #[error("a key has at most 128 bytes")]
    TooLong,
    /// A control character.
    #[error("a key has no control characters")]
    Control,
}

impl MessageKey {
    /// Checks and keeps `key`.
    ///
    /// # Errors
    /// [`KeyError`] when it breaks the rules of the type; tell whoever sent it.
    pub fn parse(key: &str) -> Result<Self, KeyError> {
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > MESSAGE_KEY_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        if key.chars().any(char::is_control) {
            return Err(KeyError::Control);
        }
        Ok(Self(Arc::from(key)))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for MessageKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_texts_without_control_characters() {
        let longest = "k".repeat(128);
        for good in ["a", "BTC/USD", "zwei W\u{f6}rter", longest.as_str()] {
            assert_eq!(MessageKey::parse(good).map(|key| key.as_str().to_owned()), Ok(good.to_owned()));
        }
        let too_long = "k".repeat(129);
        for (bad, error) in [
            ("", KeyError::Empty),
            (too_long.as_str(), KeyError::TooLong),
            ("a\n", KeyError::Control),
            ("\0", KeyError::Control),
            ("\u{85}", KeyError::Control),
        ] {
            assert_eq!(MessageKey::parse(bad), Err(error), "{bad:?}");
        }
    }
}
