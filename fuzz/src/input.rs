//! Reads a target's choices off the front of the fuzzer's bytes. What is missing reads as zero, so that every input
//! means something, and a shorter one means less.

/// The bytes not read yet.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (&byte, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        byte
    }

    /// The next two bytes, the high one first.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of `choices`, by the next byte.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Lengths at which to cut what follows, over and over: a count of up to 7, then a byte each.
    pub fn cuts(&mut self) -> Vec<usize> {
        let count = self.byte() % 8;
        (0..count).map(|_| usize::from(self.byte())).collect()
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.bytes
    }
}

/// `bytes` cut after every length of `cuts`, over and over; all in one piece without a cut. A cut of zero is an empty
/// piece.
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() && cuts.iter().any(|cut| *cut > 0) {
        for cut in cuts {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(rest);
    }
    pieces
}
