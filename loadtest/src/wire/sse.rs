//! Server-Sent Events (HTML Living Standard §9.2) over HTTP/1.1 (RFC 9112), as a subscriber reads them.

use super::handshake::{HEAD_BYTES_MAX, excerpt, head_length, header};
use super::url::Url;

/// Longest line or event that is put together.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The request of a subscriber.
pub fn request(url: &Url) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nCache-Control: no-store\r\n\r\n",
        url.path, url.host
    )
}

/// Checks the head of the answer: its length, and the reader for what follows. `None` asks for more bytes.
///
/// # Errors
/// One line that says what was wrong with the answer.
pub fn check_response(bytes: &[u8]) -> Result<Option<(usize, EventReader)>, String> {
    let Some(length) = head_length(bytes) else {
        return if bytes.len() > HEAD_BYTES_MAX {
            Err(format!("the answer has more than {HEAD_BYTES_MAX} bytes of head"))
        } else {
            Ok(None)
        };
    };
    let head = &bytes[..length];
    let status = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    if !status.starts_with(b"HTTP/1.1 200") {
        return Err(format!("the server refused the event stream: '{}'", excerpt(status)));
    }
    let kind = header(head, "content-type").unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with(b"text/event-stream") {
        return Err(format!("the answer is no event stream but '{}'", excerpt(kind)));
    }
    let coding = header(head, "transfer-encoding").unwrap_or_default();
    let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
    Ok(Some((length, EventReader { is_chunked, ..EventReader::default() })))
}

/// Takes an event stream apart.
#[derive(Debug, Default)]
pub struct EventReader {
    is_chunked: bool,
    /// Bytes of the present chunk that are still to come.
    chunk_left: usize,
    /// The line between chunks, as far as it has come.
    chunk_line: Vec<u8>,
    line: Vec<u8>,
    after_cr: bool,
    data: Vec<u8>,
    has_data: bool,
}

impl EventReader {
    /// Takes bytes and hands the data of each complete event to `found`.
    ///
    /// # Errors
    /// What is wrong with the stream, or what `found` returns.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        if !self.is_chunked {
            return self.read_text(bytes, &mut found);
        }
        while !bytes.is_empty() {
            if self.chunk_left > 0 {
                let (piece, rest) = bytes.split_at(self.chunk_left.min(bytes.len()));
                self.chunk_left -= piece.len();
                self.read_text(piece, &mut found)?;
                bytes = rest;
                continue;
            }
            self.chunk_line.push(bytes[0]);
            bytes = &bytes[1..];
            if self.chunk_line.ends_with(b"\n") {
                let line = self.chunk_line.trim_ascii();
                if !line.is_empty() {
                    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
                    let size = std::str::from_utf8(digits)
                        .ok()
                        .and_then(|text| usize::from_str_radix(text, 16).ok());
                    self.chunk_left = size.ok_or("a chunk without a size (RFC 9112 §7.1)")?;
                    if self.chunk_left == 0 {
                        return Err("the server ended the event stream".into());
                    }
                }
                self.chunk_line.clear();
            } else if self.chunk_line.len() > 1024 {
                return Err("a chunk without a size (RFC 9112 §7.1)".into());
            }
        }
        Ok(())
    }

    fn read_text(
        &mut self,
        bytes: &[u8],
        found: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        for &byte in bytes {
            let is_second_of_pair = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            if is_second_of_pair {
                continue;
            }
            if byte != b'\n' && byte != b'\r' {
                if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                    return Err("an event above 64 MiB, more than this tool takes".into());
                }
                self.line.push(byte);
                continue;
            }
            if self.line.is_empty() {
                if std::mem::take(&mut self.has_data) {
                    found(&self.data)?;
                }
                self.data.clear();
            } else if let Some(value) = self.line.strip_prefix(b"data:") {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                self.has_data = true;
            }
            self.line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b": hi\n\nid: 1\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata: lines\n\nretry: 1\n\n";

    fn events(reader: &mut EventReader, stream: &[u8], piece: usize) -> Vec<String> {
        let mut events = Vec::new();
        for chunk in stream.chunks(piece) {
            let keep = |data: &[u8]| {
                events.push(String::from_utf8_lossy(data).into_owned());
                Ok(())
            };
            reader.read(chunk, keep).unwrap();
        }
        events
    }

    #[test]
    fn events_come_apart_in_pieces_of_every_size_with_and_without_chunks() {
        let middle = TEXT.len() / 2;
        let chunk = |part: &[u8]| [format!("{:x};x=y\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        let chunked = [chunk(&TEXT[..middle]), chunk(&TEXT[middle..])].concat();
        for piece in 1..TEXT.len() {
            assert_eq!(events(&mut EventReader::default(), TEXT, piece), ["one", "two\nlines"]);
            let mut reader = EventReader { is_chunked: true, ..EventReader::default() };
            assert_eq!(events(&mut reader, &chunked, piece), ["one", "two\nlines"], "pieces of {piece}");
        }
    }

    #[test]
    fn answers_that_are_no_event_stream_are_told() {
        assert!(check_response(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
        assert!(check_response(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n").is_err());
        assert!(check_response(b"HTTP/1.1 200 OK\r\n").unwrap().is_none());
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n";
        assert_eq!(check_response(head).unwrap().map(|(length, _)| length), Some(head.len()));
    }

    #[test]
    fn the_end_of_a_chunked_stream_is_told() {
        let mut reader = EventReader { is_chunked: true, ..EventReader::default() };
        assert!(reader.read(b"0\r\n\r\n", |_| Ok(())).is_err());
    }
}
