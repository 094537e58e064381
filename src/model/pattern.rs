//! Channel patterns, as NATS has them: `*` stands for one segment, a final `>` for one or more.

use std::fmt;
use std::sync::Arc;

use super::channel::{CHANNEL_NAME_BYTES_MAX, ChannelName, is_name_byte};

/// A valid pattern: `news.*`, `prices.>`, `>`, or a plain channel name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

/// Why a text is not a pattern; its display says what to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    /// Nothing there.
    #[error("a pattern needs at least one character; `>` matches every channel")]
    Empty,
    /// More bytes than a channel name may have.
    #[error("a pattern has at most 255 bytes")]
    TooLong,
    /// A byte that neither names nor patterns have.
    #[error("a pattern consists of A-Z a-z 0-9 _ - : segments split by dots, `*` and `>`")]
    Character,
    /// Two dots in a row, or one at an end.
    #[error("a pattern has no empty segment: no dot at either end, no two dots in a row")]
    EmptySegment,
    /// A wildcard that shares its segment with other characters.
    #[error("`*` and `>` stand alone in their segment: `news.*`, not `news*`")]
    PartialWildcard,
    /// Something after `>`.
    #[error("`>` is the last segment of a pattern")]
    AfterRest,
}

impl Pattern {
    /// Checks and keeps `pattern`.
    ///
    /// # Errors
    /// [`PatternError`] when it breaks the rules of this file's header.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        if pattern.is_empty() {
            return Err(PatternError::Empty);
        }
        if pattern.len() > CHANNEL_NAME_BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        let mut rest_seen = false;
        for segment in pattern.split('.') {
            if rest_seen {
                return Err(PatternError::AfterRest);
            }
            match segment {
                "" => return Err(PatternError::EmptySegment),
                "*" => {}
                ">" => rest_seen = true,
                _ if segment.bytes().all(is_name_byte) => {}
                _ if segment.contains(['*', '>']) => return Err(PatternError::PartialWildcard),
                _ => return Err(PatternError::Character),
            }
        }
        Ok(Self(Arc::from(pattern)))
    }

    /// Whether `text`, where a channel or a pattern may stand, is meant to be a pattern: it has a wildcard, which no channel has.
    pub fn is_meant_by(text: &str) -> bool {
        text.contains(['*', '>'])
    }

    /// Whether the pattern covers `channel`; none covers the gateway's own. Linear in the name's length.
    pub fn matches(&self, channel: &ChannelName) -> bool {
        if channel.is_reserved() {
            return false;
        }
        let mut names = channel.as_str().split('.');
        for segment in self.0.split('.') {
            match (segment, names.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(name)) if wanted == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, channel: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(&ChannelName::parse(channel).unwrap())
    }

    #[test]
    fn wildcards_match_as_nats_has_them() {
        for (pattern, channel, expected) in [
            ("lobby", "lobby", true),
            ("lobby", "lobby.two", false),
            ("news.*", "news.eu", true),
            ("news.*", "news", false),
            ("news.*", "news.eu.live", false),
            ("news.>", "news.eu.live", true),
            ("news.>", "news", false),
            (">", "anything.at.all", true),
            ("*.eu", "news.eu", true),
            ("*.eu", "news.us", false),
            (">", "$occupancy.a", false),
            ("*.a", "$occupancy.a", false),
        ] {
            assert_eq!(matches(pattern, channel), expected, "{pattern} against {channel}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for (bad, error) in [
            ("", PatternError::Empty),
            ("a..b", PatternError::EmptySegment),
            ("news*", PatternError::PartialWildcard),
            (">.a", PatternError::AfterRest),
            ("a b", PatternError::Character),
        ] {
            assert_eq!(Pattern::parse(bad), Err(error), "{bad:?}");
        }
        assert_eq!(Pattern::parse(&"a".repeat(256)), Err(PatternError::TooLong));
    }
}
