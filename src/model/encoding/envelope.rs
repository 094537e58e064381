//! The JSON of `tidegate.v1` around a message, in a text frame (docs/PROTOCOL.md).

use super::Labelled;

/// Appends one unmasked text frame that carries `message` in its envelope to `out`. Linear in the payload.
pub fn append_envelope_frame(message: &Labelled<'_>, out: &mut Vec<u8>) {
    let mut envelope = Vec::new();
    append_envelope(message, &mut envelope);
    super::append_data_frame(super::PayloadKind::Text, &envelope, out);
}

pub(super) fn append_envelope(message: &Labelled<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(message.payload);
}
