//! Subprotocols in the opening handshake (RFC 6455 §4.2.2): what a client offers, and which of it is agreed to.
//!
//! One pass over each line, at most 16 names, nothing allocated (GUARANTEES A19). What is agreed to is written as the
//! configuration has it: no byte of a client is echoed.

use crate::config::limits::SUBPROTOCOLS_OFFERED_MAX;
use crate::model::subprotocol::is_token_byte;
use crate::model::{RejectReason, Subprotocol};

/// The one that is always agreed to: `Dialect::V1`.
pub(super) const V1: &str = "tidegate.v1";

/// What a client offers, in its order, which is the order of its preference. Borrows from the head.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Subprotocols<'a> {
    names: [&'a [u8]; SUBPROTOCOLS_OFFERED_MAX],
    count: usize,
}

impl<'a> Subprotocols<'a> {
    /// Adds the names of one line of Sec-WebSocket-Protocol: tokens split by commas, blanks around them.
    ///
    /// # Errors
    /// `Subprotocol` when a name is empty or no token, or one more than 16.
    pub(super) fn take(&mut self, line: &'a [u8]) -> Result<(), RejectReason> {
        self.take_bytes(line, line.iter().copied())
    }

    /// As [`Self::take`]; `bytes` are those of `line`, each asked for once.
    fn take_bytes(&mut self, line: &'a [u8], bytes: impl Iterator<Item = u8>) -> Result<(), RejectReason> {
        let (mut start, mut end) = (0, 0);
        for (at, byte) in bytes.enumerate() {
            match byte {
                b',' => {
                    self.push(line.get(start..end).unwrap_or_default())?;
                    (start, end) = (at + 1, at + 1);
                }
                // Before the name it begins later, after it nothing may follow.
                b' ' | b'\t' if start == end => (start, end) = (at + 1, at + 1),
                b' ' | b'\t' => {}
                _ if is_token_byte(byte) && end == at => end = at + 1,
                _ => return Err(RejectReason::Subprotocol),
            }
        }
        self.push(line.get(start..end).unwrap_or_default())
    }

    fn push(&mut self, name: &'a [u8]) -> Result<(), RejectReason> {
        let place = self.names.get_mut(self.count).filter(|_| !name.is_empty());
        *place.ok_or(RejectReason::Subprotocol)? = name;
        self.count += 1;
        Ok(())
    }

    /// The first that is [`V1`] or among `ours`, as it stands there.
    pub(super) fn first_known<'o>(&self, ours: &'o [Subprotocol]) -> Option<&'o str> {
        let known = || std::iter::once(V1).chain(ours.iter().map(Subprotocol::as_str));
        let offered = self.names.iter().take(self.count);
        offered.into_iter().find_map(|name| known().find(|known| known.as_bytes() == *name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(lines: &[&'a [u8]]) -> Result<Subprotocols<'a>, RejectReason> {
        let mut read = Subprotocols::default();
        lines.iter().try_for_each(|line| read.take(line))?;
        Ok(read)
    }

    #[test]
    fn a19_names_are_tokens_and_at_most_sixteen() {
        let sixteen = ["a"; 16].join(", ");
        let seventeen = ["a"; 17].join(",");
        for good in ["chat", " \t chat , v2\t", "a,b", "GraphQL-ws", "v10.stomp,v11.stomp", &sixteen] {
            let names: Vec<&[u8]> = good.split(',').map(|name| name.trim().as_bytes()).collect();
            let read = read(&[good.as_bytes()]).unwrap();
            assert_eq!(&read.names[..read.count], names, "{good:?}");
        }
        for bad in [
            "", " ", ",", "a,", ",a", "a,,b", "a, ,b", "a b", "a\tb", "a b,c", "a;b", "\"a\"", "\"a, b\"",
            "a/b", "a=b", "a@b", "(a)", "{a}", "\u{e4}", &seventeen,
        ] {
            assert_eq!(read(&[bad.as_bytes()]), Err(RejectReason::Subprotocol), "{bad:?}");
        }
        let (eight, nine) = (["a"; 8].join(","), ["a"; 9].join(","));
        assert!(read(&[eight.as_bytes(), eight.as_bytes()]).is_ok(), "over several lines");
        assert_eq!(read(&[eight.as_bytes(), nine.as_bytes()]), Err(RejectReason::Subprotocol));
    }

    #[test]
    fn a19_each_byte_of_a_line_is_asked_for_once_whatever_it_holds() {
        let noise = |pattern: &str| pattern.repeat(8192 / pattern.len()).into_bytes();
        for line in [" ", ",", " ,", "a ", "a , ", "\t,\t", "a", "a,", ", a"].map(noise) {
            let mut asked = 0_usize;
            let bytes = line.iter().copied().inspect(|_| asked += 1);
            let _ = Subprotocols::default().take_bytes(&line, bytes);
            assert!(asked <= line.len(), "{asked} of {}", line.len());
        }
        let padded = [&b" ".repeat(8000)[..], b"chat", &b"\t".repeat(180)].concat();
        let chat = [Subprotocol::parse("chat").unwrap()];
        assert_eq!(read(&[&padded]).unwrap().first_known(&chat), Some("chat"));
    }

    #[test]
    fn a19_the_first_offered_that_is_ours_is_chosen_and_case_matters() {
        let ours = ["v1", "v2", "Chat"].map(|name| Subprotocol::parse(name).unwrap());
        for (line, chosen) in [
            ("v2, v1", Some("v2")),
            ("v1, v2", Some("v1")),
            ("x, y, v2", Some("v2")),
            ("Chat", Some("Chat")),
            ("chat", None),
            ("v", None),
            ("v11", None),
            ("tidegate.v1, v1", Some(V1)),
            ("v1, tidegate.v1", Some("v1")),
            ("Tidegate.v1, tidegate.v10", None),
        ] {
            let read = read(&[line.as_bytes()]).unwrap();
            assert_eq!(read.first_known(&ours), chosen, "{line}");
        }
        assert_eq!(read(&[b"v1"]).unwrap().first_known(&[]), None);
        assert_eq!(read(&[b"v1, tidegate.v1"]).unwrap().first_known(&[]), Some(V1));
        assert_eq!(read(&[]).unwrap().first_known(&ours), None);
    }
}
