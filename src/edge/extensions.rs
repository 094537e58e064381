//! permessage-deflate in the opening handshake (RFC 7692 §5, §7.1): which offer is accepted, and on which terms.
//!
//! An offer is accepted if every word of it is one that the gateway does exactly; any other is declined by silence, never
//! answered with an error (GUARANTEES A20). The first that can be accepted is. The answer always has
//! `client_no_context_takeover`: what a client sends is inflated by itself, and nothing is kept of it.

/// Offers looked at; those beyond are declined.
const OFFERS_MAX: usize = 8;
/// Bytes of one header line looked at; a longer one is declined as a whole.
const LINE_BYTES_MAX: usize = 1024;
/// Lines of Sec-WebSocket-Extensions looked at.
pub(super) const LINES_MAX: usize = 4;
/// log2 of the window that the gateway deflates with, and inflates with.
const WINDOW_BITS: u8 = 15;

/// What was agreed about messages on one connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Compression {
    /// Nothing: neither side compresses.
    #[default]
    Declined,
    /// The client may compress. It gets plain messages, which RFC 7692 §6 allows at any time: it asked for no context
    /// takeover or a smaller window, and the compressor that all subscribers share has neither.
    Unshared,
    /// The client may compress, and reads what the shared compressor gives.
    Shared,
}

/// An offer that can be accepted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Offered {
    server_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
}

impl Offered {
    /// Whether its terms leave room for the shared compressor.
    pub(super) fn compression(self) -> Compression {
        let has_full_window = self.server_max_window_bits.is_none_or(|bits| bits == WINDOW_BITS);
        if has_full_window && !self.server_no_context_takeover {
            Compression::Shared
        } else {
            Compression::Unshared
        }
    }

    /// The value of Sec-WebSocket-Extensions that accepts it. The client's window is left to it: ours is the largest.
    pub(super) fn answer(self) -> String {
        let mut answer = "permessage-deflate; client_no_context_takeover".to_owned();
        if self.server_no_context_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if let Some(bits) = self.server_max_window_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        answer
    }
}

/// The first offer in `lines`, the values of Sec-WebSocket-Extensions, that can be accepted. Linear in the lines.
pub(super) fn first_acceptable<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Offered> {
    let lines = lines.filter(|line| line.len() <= LINE_BYTES_MAX);
    lines.flat_map(|line| split(line, b',')).take(OFFERS_MAX).find_map(acceptable)
}

/// One offer: `extension-token *( ";" extension-param )` (RFC 6455 §9.1).
fn acceptable(offer: &[u8]) -> Option<Offered> {
    let mut words = split(offer, b';');
    if words.next()? != b"permessage-deflate" {
        return None;
    }
    let mut offered = Offered::default();
    let (mut names_client_takeover, mut names_client_bits) = (false, false);
    for word in words {
        let mut halves = word.splitn(2, |&byte| byte == b'=').map(<[u8]>::trim_ascii);
        let (name, value) = (halves.next()?, halves.next());
        let is_new = match (name, value) {
            (b"server_no_context_takeover", None) => {
                !std::mem::replace(&mut offered.server_no_context_takeover, true)
            }
            (b"client_no_context_takeover", None) => !std::mem::replace(&mut names_client_takeover, true),
            (b"server_max_window_bits", Some(value)) => {
                offered.server_max_window_bits.replace(window_bits(value)?).is_none()
            }
            (b"client_max_window_bits", value) => {
                value.is_none_or(|value| window_bits(value).is_some())
                    && !std::mem::replace(&mut names_client_bits, true)
            }
            _ => false,
        };
        if !is_new {
            return None;
        }
    }
    Some(offered)
}

/// 8 to 15 without leading zeros, as a token or quoted (RFC 7692 §7.1.2). With 8 the gateway deflates as little as with
/// any other window below its own: nothing, so that it keeps the promise although zlib has no such window.
fn window_bits(value: &[u8]) -> Option<u8> {
    let value = value.strip_prefix(b"\"").map_or(Some(value), |rest| rest.strip_suffix(b"\""))?;
    match value {
        [digit @ (b'8' | b'9')] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The parts of `list` between `separator`s outside of quoted strings, without surrounding blanks.
fn split(list: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    list.split(move |&byte| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        match byte {
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        byte == separator && !is_quoted
    })
    .map(<[u8]>::trim_ascii)
}
