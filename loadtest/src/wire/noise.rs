//! Bytes as no peer should send them, for the tests of whoever takes bytes apart: random ones, and well-formed
//! streams that are cut, changed and put together wrongly. The same seed makes the same bytes.

/// A generator of them (xorshift64*).
pub struct Noise(u64);

impl Noise {
    /// The bytes of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }

    /// A stream of a few hundred bytes at most, made of these pieces and of what they should not contain.
    pub fn stream(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..1 + self.below(8) {
            let start = stream.len();
            if self.below(4) == 0 {
                stream.extend((0..self.below(40)).map(|_| self.below(256) as u8).collect::<Vec<_>>());
            } else {
                stream.extend_from_slice(pieces[self.below(pieces.len())]);
            }
            let added = stream.len() - start;
            if added > 0 && self.below(3) == 0 {
                let at = start + self.below(added);
                match self.below(3) {
                    0 => stream.truncate(at),
                    1 => stream[at] ^= 1 << self.below(8),
                    _ => stream.insert(at, self.below(256) as u8),
                }
            }
        }
        stream
    }
}
