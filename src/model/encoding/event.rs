//! Events of an event stream (SSE), each a chunk of an HTTP/1.1 body (docs/PROTOCOL.md).

use super::Labelled;
use super::envelope::append_envelope;

/// Appends the chunk of an event that carries the payload of `message`; its id is the position. Linear in the payload.
pub fn append_event(message: &Labelled<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(message.payload);
}

/// Appends the chunk of an event whose data is the envelope of `message`. Linear in the payload.
pub fn append_enveloped_event(message: &Labelled<'_>, out: &mut Vec<u8>) {
    append_envelope(message, out);
}
