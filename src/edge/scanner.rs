//! Finds where a request head ends, as its bytes arrive, and refuses at the byte that crosses a limit.
//!
//! Every byte is looked at once, however the head is split (GUARANTEES A2-A4). The scanner also settles how lines end:
//! CR LF and nothing else, no folding, no control bytes (GUARANTEES A18, A22), so that nobody behind it can see
//! another end than it saw. What the lines say is `request.rs`' business.

use crate::config::limits::{HEAD_BYTES_MAX, HEAD_LINE_BYTES_MAX, HEADERS_MAX};
use crate::model::RejectReason;

/// What [`HeadScanner::scan`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// All bytes belong to the head, and it goes on.
    NeedMore,
    /// The head ends after so many bytes of the slice just scanned; at least 1.
    Complete(usize),
}

/// A head that is still arriving: six bytes of state, made anew (or reused after [`Scan::Complete`]) per request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeadScanner {
    /// Bytes of the head so far, its line ends included.
    head_bytes: u16,
    /// Bytes of the current line so far, its line end excluded.
    line_bytes: u16,
    /// Header lines begun so far.
    headers: u8,
    place: Place,
    /// Bytes looked at since the scanner was made.
    #[cfg(test)]
    steps: u64,
}

/// ```text
/// Start ─┬─────────────────────────► RequestLine ─CR─► LineEnd ─LF─► LineStart ─┬─► Header ─CR─► LineEnd
///        └CR► BlankEnd ─LF► Started ─┘                                          └CR► HeadEnd ─LF─► done
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Nothing seen yet; one empty line may precede the request (RFC 9112 §2.2).
    Start,
    /// After the CR of that empty line.
    BlankEnd,
    /// After that empty line.
    Started,
    /// Inside the request line.
    RequestLine,
    /// Inside a header line.
    Header,
    /// After the CR of a line.
    LineEnd,
    /// After a line.
    LineStart,
    /// After the CR of the last, empty line.
    HeadEnd,
}

const _: () = assert!(HEAD_BYTES_MAX < u16::MAX as usize, "head_bytes counts to the limit plus one");
const _: () = assert!(HEAD_LINE_BYTES_MAX < u16::MAX as usize && HEADERS_MAX < u8::MAX as usize);
const HEAD_MAX: u16 = HEAD_BYTES_MAX as u16;
const LINE_MAX: u16 = HEAD_LINE_BYTES_MAX as u16;
const LINES_MAX: u8 = HEADERS_MAX as u8;

impl Default for HeadScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadScanner {
    /// A scanner before the first byte of a request.
    pub const fn new() -> Self {
        Self {
            head_bytes: 0,
            line_bytes: 0,
            headers: 0,
            place: Place::Start,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Whether any byte of a request has been seen: a client that falls silent now owes the rest of it (408), one
    /// that falls silent before is merely done.
    pub const fn has_begun(&self) -> bool {
        self.head_bytes > 0
    }

    /// Looks at the next bytes of the connection. On [`Scan::Complete`] the rest of the slice is untouched and the
    /// scanner is as new. Linear in the bytes taken.
    ///
    /// # Errors
    /// A head that is too big or cannot become a request: answer with the reason, then close; the scanner is spent.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scan, RejectReason> {
        let mut rest = bytes.iter();
        while let Some(byte) = self.skip_text(&mut rest) {
            if self.step(byte)? {
                *self = Self::new();
                return Ok(Scan::Complete(bytes.len() - rest.len()));
            }
        }
        Ok(Scan::NeedMore)
    }

    /// Takes the bytes that merely continue the current line, as far as the limits go, and gives back the first one
    /// that needs a [`step`](Self::step). Where the time of a scan goes.
    #[inline]
    fn skip_text(&mut self, rest: &mut std::slice::Iter<'_, u8>) -> Option<u8> {
        let room = usize::from((HEAD_MAX - self.head_bytes).min(LINE_MAX - self.line_bytes));
        let bytes = rest.as_slice();
        let text = bytes.get(..room).unwrap_or(bytes);
        let taken = match self.place {
            Place::Header => leading(text, is_header_text),
            Place::RequestLine => leading(text, is_request_text),
            _ => return rest.next().copied(),
        };
        *rest = bytes.get(taken..).unwrap_or_default().iter();
        // At most the room of two small limits.
        let taken = u16::try_from(taken).unwrap_or(u16::MAX);
        self.head_bytes += taken;
        self.line_bytes += taken;
        #[cfg(test)]
        {
            self.steps += u64::from(taken);
        }
        rest.next().copied()
    }

    /// Bytes looked at since the scanner was made.
    #[cfg(test)]
    pub(super) const fn steps(&self) -> u64 {
        self.steps
    }

    /// Takes one byte; true when it was the last of the head.
    #[inline]
    fn step(&mut self, byte: u8) -> Result<bool, RejectReason> {
        #[cfg(test)]
        {
            self.steps += 1;
        }
        if self.head_bytes == HEAD_MAX {
            return Err(RejectReason::HeadTooBig);
        }
        self.head_bytes += 1;
        match self.place {
            Place::Header => self.inside_header(byte)?,
            Place::RequestLine => self.inside_request_line(byte)?,
            Place::Start if byte == b'\r' => self.place = Place::BlankEnd,
            Place::Start | Place::Started => {
                self.place = Place::RequestLine;
                self.inside_request_line(byte)?;
                if self.place == Place::LineEnd {
                    return Err(RejectReason::RequestLine);
                }
            }
            Place::LineStart => self.begin_line(byte)?,
            Place::BlankEnd if byte == b'\n' => self.place = Place::Started,
            Place::BlankEnd => return Err(RejectReason::RequestLine),
            Place::LineEnd if byte == b'\n' => self.place = Place::LineStart,
            Place::LineEnd if self.headers == 0 => return Err(RejectReason::RequestLine),
            Place::HeadEnd if byte == b'\n' => return Ok(true),
            Place::LineEnd | Place::HeadEnd => return Err(RejectReason::HeaderSyntax),
        }
        Ok(false)
    }

    fn inside_header(&mut self, byte: u8) -> Result<(), RejectReason> {
        self.inside_line(byte, is_header_text(byte), RejectReason::HeadTooBig, RejectReason::HeaderSyntax)
    }

    fn inside_request_line(&mut self, byte: u8) -> Result<(), RejectReason> {
        self.inside_line(byte, is_request_text(byte), RejectReason::TargetTooLong, RejectReason::RequestLine)
    }

    fn inside_line(
        &mut self,
        byte: u8,
        is_text: bool,
        too_long: RejectReason,
        malformed: RejectReason,
    ) -> Result<(), RejectReason> {
        match byte {
            b'\r' => self.place = Place::LineEnd,
            _ if !is_text => return Err(malformed),
            _ if self.line_bytes == LINE_MAX => return Err(too_long),
            _ => self.line_bytes += 1,
        }
        Ok(())
    }

    fn begin_line(&mut self, byte: u8) -> Result<(), RejectReason> {
        match byte {
            b'\r' => {
                self.place = Place::HeadEnd;
                return Ok(());
            }
            // Folding: a line that continues the one before it (RFC 9112 §5.2).
            b' ' | b'\t' => return Err(RejectReason::HeaderSyntax),
            _ if self.headers == LINES_MAX => return Err(RejectReason::TooManyHeaders),
            _ => {}
        }
        self.headers += 1;
        self.line_bytes = 0;
        self.place = Place::Header;
        self.inside_header(byte)
    }
}

/// How many bytes at the beginning are text. Eight at a time: most lines are found to end in a handful of steps.
#[inline]
fn leading(bytes: &[u8], is_text: impl Fn(u8) -> bool) -> usize {
    let mut length = 0;
    while let Some(word) = bytes.get(length..).and_then(|rest| rest.first_chunk()) {
        let doubtful = doubtful(u64::from_le_bytes(*word));
        let sure = doubtful.trailing_zeros() as usize / 8;
        length += sure;
        if doubtful != 0 {
            if !word.get(sure).is_some_and(|byte| is_text(*byte)) {
                return length;
            }
            length += 1;
        }
    }
    let rest = bytes.get(length..).unwrap_or_default();
    length + rest.iter().position(|&byte| !is_text(byte)).unwrap_or(rest.len())
}

/// Marks the first byte of `word` that is not printable ASCII by its highest bit; bytes behind it may be marked or not.
/// ("Bit Twiddling Hacks", `hasless` and `haszero`: a borrow reaches higher bytes only.)
#[inline]
const fn doubtful(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let below_space = word.wrapping_sub(ONES * b' ' as u64);
    let deleted = (word ^ (ONES * 0x7f)).wrapping_sub(ONES);
    (below_space | deleted | word) & HIGHS
}

/// Whether `byte` may stand in a header line: visible, blank or beyond ASCII (RFC 9110 §5.5).
const fn is_header_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether `byte` may stand in a request line: printable ASCII.
const fn is_request_text(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}
