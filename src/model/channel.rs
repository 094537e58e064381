//! Channel names: what a publisher and a subscriber agree on.
//!
//! 1 to 255 bytes of `A-Z a-z 0-9 _ - . :`, segments split by `.`, no segment empty. ASCII only, so that no two names
//! look alike and differ. `$occupancy.` in front of a name is a channel of the gateway's own, which clients only read.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Longest channel name in bytes, as Centrifugo has it.
pub const CHANNEL_NAME_BYTES_MAX: usize = 255;

/// What the names of channels begin with that tell how many subscribe to another.
const OCCUPANCY_PREFIX: &str = "$occupancy.";

/// A valid channel name. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(Arc<str>);

/// Why a text is not a channel name; its display says what to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChannelError {
    /// Nothing there.
    #[error("a channel name needs at least one character")]
    Empty,
    /// More than [`CHANNEL_NAME_BYTES_MAX`] bytes.
    #[error("a channel name has at most 255 bytes")]
    TooLong,
    /// A byte outside the alphabet.
    #[error("a channel name consists of A-Z a-z 0-9 _ - . : only")]
    Character,
    /// Two dots in a row, or one at an end.
    #[error("a channel name has no empty segment: no dot at either end, no two dots in a row")]
    EmptySegment,
}

impl ChannelName {
    /// Checks and keeps `name`.
    ///
    /// # Errors
    /// [`ChannelError`] when the name breaks the rules of this file's header; tell whoever sent it.
    pub fn parse(name: &str) -> Result<Self, ChannelError> {
        check(name)?;
        Ok(Self(Arc::from(name)))
    }

    /// As [`ChannelName::parse`], for whoever wants to publish there.
    ///
    /// # Errors
    /// As there; [`ChannelError::Character`] for a channel of the gateway's own.
    pub fn parse_for_publishing(name: &str) -> Result<Self, ChannelError> {
        Self::parse(name)
            .and_then(|name| if name.is_reserved() { Err(ChannelError::Character) } else { Ok(name) })
    }

    /// The channel that tells how many subscribe to this one; none if its name would be too long, or if this is such a
    /// channel.
    pub fn occupancy(&self) -> Option<Self> {
        (!self.is_reserved()).then(|| Self::parse(&format!("{OCCUPANCY_PREFIX}{self}")).ok()).flatten()
    }

    /// Whether only the gateway itself publishes there.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(name: &str) -> Result<(), ChannelError> {
    if name.is_empty() {
        return Err(ChannelError::Empty);
    }
    if name.len() > CHANNEL_NAME_BYTES_MAX {
        return Err(ChannelError::TooLong);
    }
    let name = name.strip_prefix(OCCUPANCY_PREFIX).unwrap_or(name);
    if !name.bytes().all(is_name_byte) {
        return Err(ChannelError::Character);
    }
    if name.split('.').any(str::is_empty) {
        return Err(ChannelError::EmptySegment);
    }
    Ok(())
}

/// Whether `byte` may stand in a channel name.
pub(super) const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':')
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_has_one_that_tells_how_many_subscribe_to_it() {
        let name = |text: &str| ChannelName::parse(text).unwrap();
        assert_eq!(name("a.b").occupancy(), Some(name("$occupancy.a.b")));
        assert_eq!(name("$occupancy.a").occupancy(), None);
        assert_eq!(ChannelName::parse_for_publishing("$occupancy.a"), Err(ChannelError::Character));
        assert_eq!(name(&"a".repeat(245)).occupancy(), None, "256 bytes");
        assert!(name("$occupancy.a").is_reserved() && !name("a").is_reserved());
    }

    #[test]
    fn names_are_checked_at_every_edge() {
        let longest = "a".repeat(255);
        for good in ["a", "news.eu:live", "A-b_9", "x.y.z", "$occupancy.a.b", longest.as_str()] {
            assert_eq!(ChannelName::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let too_long = "a".repeat(256);
        for (bad, error) in [
            ("", ChannelError::Empty),
            (too_long.as_str(), ChannelError::TooLong),
            ("a b", ChannelError::Character),
            ("a*", ChannelError::Character),
            ("n\u{e4}me", ChannelError::Character),
            ("a\0", ChannelError::Character),
            (".a", ChannelError::EmptySegment),
            ("a.", ChannelError::EmptySegment),
            ("a..b", ChannelError::EmptySegment),
            ("$occupancy", ChannelError::Character),
            ("$occupancy.", ChannelError::EmptySegment),
            ("$occupancy..a", ChannelError::EmptySegment),
            ("$occupancy.$occupancy.a", ChannelError::Character),
            ("$other.a", ChannelError::Character),
            ("a.$occupancy.a", ChannelError::Character),
        ] {
            assert_eq!(ChannelName::parse(bad), Err(error), "{bad:?}");
        }
    }
}
