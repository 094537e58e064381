//! Header lines, sorted in one pass into the few that matter; list elements and body framing.
//!
//! A field that may stand once is refused when it stands twice, equal values too (GUARANTEES A9). Lists are read
//! over all their lines, element by element, quoted strings kept whole (GUARANTEES A6).

use super::extensions;
use super::subprotocols::Subprotocols;
use crate::config::limits::{EXTENSIONS_BYTES_MAX, EXTENSIONS_MAX};
use crate::model::RejectReason;

/// Longest Content-Length in digits (GUARANTEES A11).
const CONTENT_LENGTH_DIGITS_MAX: usize = 19;

/// What the header lines say. Values without surrounding blanks, as they came.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Fields<'a> {
    /// `Host`.
    pub host: Option<&'a [u8]>,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Last-Event-ID`.
    pub last_event_id: Option<&'a [u8]>,
    /// `Sec-WebSocket-Key`.
    pub key: Option<&'a [u8]>,
    /// `Sec-WebSocket-Version`.
    pub version: Option<&'a [u8]>,
    /// The first lines of `Sec-WebSocket-Extensions`; empty where there are fewer.
    pub extensions: [&'a [u8]; extensions::LINES_MAX],
    /// What the lines of `Sec-WebSocket-Protocol` name.
    pub subprotocols: Subprotocols<'a>,
    /// A `Connection` line names `upgrade`.
    pub connection_upgrade: bool,
    /// A `Connection` line names `close`.
    pub connection_close: bool,
    /// An `Upgrade` line names `websocket`.
    pub upgrade_websocket: bool,
    /// There is an `Expect` line.
    pub has_expectation: bool,
    extension_count: usize,
    extension_bytes: usize,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    /// Sorts the header lines of one request.
    ///
    /// # Errors
    /// `DuplicateHeader` when a field that may stand once stands twice, `TooManyExtensions` when more are offered than a
    /// handshake looks at, `Subprotocol` when what is offered is malformed or too much.
    pub(super) fn collect(headers: &[httparse::Header<'a>]) -> Result<Self, RejectReason> {
        let mut fields = Self::default();
        for header in headers {
            fields.take(header.name, header.value)?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), RejectReason> {
        if let Some(singleton) = self.singleton(name) {
            return match singleton.replace(value) {
                None => Ok(()),
                Some(_) => Err(RejectReason::DuplicateHeader),
            };
        }
        if name.eq_ignore_ascii_case("connection") {
            self.connection_upgrade |= list_names(value, "upgrade");
            self.connection_close |= list_names(value, "close");
        } else if name.eq_ignore_ascii_case("upgrade") {
            self.upgrade_websocket |= list_names(value, "websocket");
        } else if name.eq_ignore_ascii_case("expect") {
            self.has_expectation = true;
        } else if name.eq_ignore_ascii_case("sec-websocket-extensions") {
            if let Some(line) = self.extensions.iter_mut().find(|line| line.is_empty()) {
                *line = value;
            }
            self.extension_count += elements(value).filter(|element| !element.is_empty()).count();
            self.extension_bytes += value.len();
            if self.extension_count > EXTENSIONS_MAX || self.extension_bytes > EXTENSIONS_BYTES_MAX {
                return Err(RejectReason::TooManyExtensions);
            }
        } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
            self.subprotocols.take(value)?;
        }
        Ok(())
    }

    fn singleton(&mut self, name: &str) -> Option<&mut Option<&'a [u8]>> {
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        match name.len() {
            4 if is("host") => Some(&mut self.host),
            6 if is("origin") => Some(&mut self.origin),
            12 if is("content-type") => Some(&mut self.content_type),
            13 if is("authorization") => Some(&mut self.authorization),
            13 if is("last-event-id") => Some(&mut self.last_event_id),
            14 if is("content-length") => Some(&mut self.content_length),
            17 if is("transfer-encoding") => Some(&mut self.transfer_encoding),
            17 if is("sec-websocket-key") => Some(&mut self.key),
            21 if is("sec-websocket-version") => Some(&mut self.version),
            _ => None,
        }
    }

    /// Whether a body follows the head.
    ///
    /// # Errors
    /// `BodyOnUpgrade` for any body when the request is an upgrade (GUARANTEES A12), `Framing` when two readers could
    /// disagree on where it ends (GUARANTEES A11).
    pub(super) fn has_body(&self, is_upgrade: bool) -> Result<bool, RejectReason> {
        if is_upgrade && self.transfer_encoding.is_some() {
            return Err(RejectReason::BodyOnUpgrade);
        }
        let has_body = match (self.content_length, self.transfer_encoding) {
            (None, None) => false,
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => true,
            (Some(length), None) if is_content_length(length) => length.iter().any(|&digit| digit != b'0'),
            _ => return Err(RejectReason::Framing),
        };
        if is_upgrade && has_body {
            return Err(RejectReason::BodyOnUpgrade);
        }
        Ok(has_body)
    }
}

fn is_content_length(value: &[u8]) -> bool {
    (1..=CONTENT_LENGTH_DIGITS_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

/// Whether an element of the comma separated `list` is `token`, in any case.
fn list_names(list: &[u8], token: &str) -> bool {
    elements(list).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma separated `list` without the blanks around them; commas in quoted strings separate nothing.
fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    split_unquoted(list, b',').map(<[u8]>::trim_ascii)
}

/// The pieces of `text` between the separators that stand outside of quoted strings.
pub(super) fn split_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |&byte| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match byte {
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => {}
        }
        byte == separator && !is_quoted
    })
}
