//! Subprotocols, as both sides of a handshake name them (RFC 6455 §1.9).

use std::fmt;

/// Bytes of a name that an operator may give; RFC 6455 §11.5 registers short ones.
const NAME_BYTES_MAX: usize = 100;

/// The name of a subprotocol: a token of HTTP, whose case matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subprotocol(String);

/// Why a text is not a [`Subprotocol`]; its display says what to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write 1 to 100 of A-Z a-z 0-9 ! # $ % & ' * + - . ^ _ ` | ~")]
pub struct SubprotocolError;

impl Subprotocol {
    /// Checks and keeps `name`.
    ///
    /// # Errors
    /// [`SubprotocolError`] when it is no token or too long.
    pub fn parse(name: &str) -> Result<Self, SubprotocolError> {
        let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_token_byte);
        if is_name { Ok(Self(name.to_owned())) } else { Err(SubprotocolError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `byte` may stand in a token (RFC 9110 §5.6.2).
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_of_at_most_a_hundred_bytes() {
        let long = "a".repeat(100);
        for good in ["a", "chat.v1", "graphql-transport-ws", "v10.stomp", "!#$%&'*+-.^_`|~", &long] {
            assert_eq!(Subprotocol::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a,b", "a;b", "a/b", "\"a\"", "a\u{e4}", &"a".repeat(101)] {
            assert_eq!(Subprotocol::parse(bad), Err(SubprotocolError), "{bad}");
        }
    }
}
