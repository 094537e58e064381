//! Whether text is UTF-8 while it arrives (RFC 3629), so that a message is refused at its first impossible byte and
//! not once it is complete (RFC 6455 §8.1, GUARANTEES B10).
//!
//! The codec checks what arrives whole; this looks only at messages that come in pieces, be it fragments or segments.
//! Three bytes of state: the character that the last piece broke off.

/// Payload bytes that are unmasked at a time, on the stack.
const CHUNK_BYTES: usize = 256;
/// Longest beginning of a character that is not yet one.
const PENDING_BYTES_MAX: usize = 3;

/// A text under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Utf8 {
    /// The bytes of an unfinished character, the rest zero: no such byte is.
    pending: [u8; PENDING_BYTES_MAX],
}

impl Utf8 {
    /// Takes the next bytes of the text, still masked: `mask` is that of the first of them. Linear, without allocation.
    ///
    /// # Errors
    /// The index in `masked` of the first byte with which no text can go on. The state is then meaningless.
    pub fn feed(&mut self, masked: &[u8], mask: [u8; 4]) -> Result<(), usize> {
        let mut buffer = [0; PENDING_BYTES_MAX + CHUNK_BYTES];
        // A chunk is a whole number of masks, so that each begins with the mask's first byte.
        for (index, chunk) in masked.chunks(CHUNK_BYTES).enumerate() {
            let begun = self.pending.iter().take_while(|byte| **byte != 0).count();
            for (place, byte) in buffer.iter_mut().zip(self.pending) {
                *place = byte;
            }
            let free = buffer.get_mut(begun..).unwrap_or_default();
            for ((plain, byte), mask) in free.iter_mut().zip(chunk).zip(mask.iter().cycle()) {
                *plain = byte ^ mask;
            }
            let text = buffer.get(..begun + chunk.len()).unwrap_or_default();
            self.pending = check(text).map_err(|at| index * CHUNK_BYTES + at.saturating_sub(begun))?;
        }
        Ok(())
    }
}

/// The unfinished character at the end of `text`, or the index of the byte with which no text can go on.
fn check(text: &[u8]) -> Result<[u8; PENDING_BYTES_MAX], usize> {
    let mut pending = [0; PENDING_BYTES_MAX];
    let Err(error) = std::str::from_utf8(text) else { return Ok(pending) };
    let good = error.valid_up_to();
    if let Some(length) = error.error_len() {
        // The impossible byte follows a possible beginning of `length` bytes; where there is none it is the first.
        let is_beginning = |end: usize| {
            let beginning = text.get(good..end).unwrap_or_default();
            std::str::from_utf8(beginning).is_err_and(|error| error.error_len().is_none())
        };
        let after = good + length;
        return Err(if after < text.len() && is_beginning(after) { after } else { good });
    }
    for (place, byte) in pending.iter_mut().zip(text.get(good..).unwrap_or_default()) {
        *place = *byte;
    }
    Ok(pending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn masked(text: &[u8]) -> Vec<u8> {
        text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }

    /// Feeds `text` cut at each of `cuts`; the index of the first impossible byte.
    fn first_fault(text: &[u8], cuts: &[usize]) -> Option<usize> {
        let bytes = masked(text);
        let mut utf8 = Utf8::default();
        let mut from = 0;
        for to in cuts.iter().copied().chain([bytes.len()]) {
            let mut mask = MASK;
            mask.rotate_left(from % 4);
            if let Err(at) = utf8.feed(&bytes[from..to], mask) {
                return Some(from + at);
            }
            from = to;
        }
        None
    }

    /// The naive twin: the first byte after which nothing that could follow makes a text. All that can follow the
    /// beginning of a character are continuation bytes, of which the first may have to be high or low.
    fn first_impossible(text: &[u8]) -> Option<usize> {
        let can_go_on = |beginning: &[u8]| {
            [
                &b""[..],
                b"\x80",
                b"\xbf",
                b"\x80\x80",
                b"\xbf\xbf",
                b"\x80\x80\x80",
                b"\xbf\xbf\xbf",
                b"\x90\x80\x80",
            ]
            .iter()
            .any(|rest| std::str::from_utf8(&[beginning, *rest].concat()).is_ok())
        };
        (0..text.len()).find(|at| !can_go_on(&text[..=*at]))
    }

    #[test]
    fn b10_every_sequence_of_up_to_four_bytes_split_at_every_byte() {
        // A byte of every class that the grammar of RFC 3629 tells apart, at the edges of each.
        const BYTES: &[u8] = &[
            0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0,
            0xf3, 0xf4, 0xf5, 0xff,
        ];
        let count = BYTES.len();
        let mut has_faults = 0_u32;
        for number in 0..count.pow(4) {
            let text: Vec<u8> = (0..4).map(|place| BYTES[number / count.pow(place) % count]).collect();
            let expected = first_impossible(&text);
            has_faults += u32::from(expected.is_some());
            for cut in 0..=4 {
                assert_eq!(first_fault(&text, &[cut]), expected, "{text:x?} cut at {cut}");
            }
            assert_eq!(first_fault(&text, &[1, 2, 3]), expected, "{text:x?} byte by byte");
        }
        assert!(has_faults > 50_000 && (has_faults as usize) < count.pow(4), "{has_faults}");
    }

    proptest! {
        /// Texts of several chunks, and the same with one byte changed, whatever the cuts.
        #[test]
        fn b10_cuts_change_nothing(
            text in "\\PC{0,400}",
            damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            cuts in vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let mut text = text.into_bytes();
            if let (Some((index, value)), false) = (damage, text.is_empty()) {
                let index = index.index(text.len());
                text[index] = value;
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            cuts.sort_unstable();
            let valid = std::str::from_utf8(&text).err().filter(|error| error.error_len().is_some());
            let found = first_fault(&text, &cuts);
            prop_assert_eq!(found.is_some(), valid.is_some());
            if let (Some(at), Some(error)) = (found, valid) {
                prop_assert!((error.valid_up_to()..error.valid_up_to() + 4).contains(&at));
            }
        }
    }
}
