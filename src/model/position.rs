//! Where in a stream a message stands: `epoch-offset`, opaque to clients.

use std::fmt;
use std::str::FromStr;

/// Names one numbering of a channel. A new one is drawn at random whenever numbering starts anew (docs/PROTOCOL.md).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Epoch(pub u64);

/// The number of a message in its stream: consecutive, the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The first message of every stream.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A message's place: printed as `epoch-offset`, the epoch in 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Position {
    /// Which numbering.
    pub epoch: Epoch,
    /// Which message in it.
    pub offset: Offset,
}

/// The text is not `epoch-offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a position reads epoch-offset, as a publish reply or a message gave it")]
pub struct PositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch.0, self.offset.0)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (epoch, offset) = text.split_once('-').ok_or(PositionError)?;
        let is_canonical = epoch.len() == 16
            && epoch.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
            && offset.bytes().all(|byte| byte.is_ascii_digit())
            && (offset == "0" || !offset.starts_with('0'));
        if !is_canonical {
            return Err(PositionError);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| PositionError)?;
        let offset = offset.parse().map_err(|_| PositionError)?;
        Ok(Self { epoch: Epoch(epoch), offset: Offset(offset) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_position_reads_back() {
        let position = Position { epoch: Epoch(0xab), offset: Offset(42) };
        assert_eq!(position.to_string(), "00000000000000ab-42");
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in [
            "",
            "-",
            "ab-42",
            "00000000000000AB-42",
            "00000000000000ab-",
            "00000000000000ab-x",
            "00000000000000ab-042",
            "00000000000000ab-99999999999999999999",
        ] {
            assert_eq!(bad.parse::<Position>(), Err(PositionError), "{bad:?}");
        }
    }
}
