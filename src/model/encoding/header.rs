//! Headers whose own length depends on the length of what follows, which is known once that is written.

/// More than a frame's header, or a chunk's together with its end, may have.
const AROUND_BYTES_MAX: usize = 20;

/// Appends to `out` what `write` appends to it, behind what `header` appends for the length of that.
///
/// One pass, with one allocation at most if about `expected` bytes are written; but where the header of so many is longer
/// or shorter than the true one, what was written is moved once.
pub(super) fn append_behind_header(
    expected: usize,
    header: fn(usize, &mut Vec<u8>),
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.reserve(expected.saturating_add(2 * AROUND_BYTES_MAX));
    header(expected, out);
    let body = out.len();
    write(out);
    let end = out.len();
    // The true header, behind everything: it takes the place of the expected one.
    header(end - body, out);
    let header_bytes = out.len() - end;
    if header_bytes == body - start {
        out.copy_within(end.., start);
        out.truncate(end);
    } else if let Some(all) = out.get_mut(start..) {
        all.rotate_right(header_bytes);
        out.drain(start + header_bytes..body + header_bytes);
    }
}
