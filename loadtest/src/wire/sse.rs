//! Server-Sent Events (HTML Living Standard §9.2) over HTTP/1.1 (RFC 9112), as a subscriber reads them.

use super::handshake::{HEAD_BYTES_MAX, check_version, excerpt, head_length, header, headers};
use super::url::Url;

/// Longest line or event that is put together.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest line between chunks.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

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
    check_version(bytes)?;
    let Some(length) = head_length(bytes) else {
        return if bytes.len() > HEAD_BYTES_MAX {
            Err(format!("the answer has more than {HEAD_BYTES_MAX} bytes of head"))
        } else {
            Ok(None)
        };
    };
    let head = &bytes[..length];
    let status = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    if status.split(|&byte| byte == b' ').nth(1) != Some(b"200") {
        return Err(format!("the server refused the event stream: '{}'", excerpt(status)));
    }
    let kind = header(head, "content-type").unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with(b"text/event-stream") {
        return Err(format!("the answer is no event stream but '{}'", excerpt(kind)));
    }
    refuse_codings("Content-Encoding", &codings(head, "content-encoding"), b"identity")?;
    let transfer = codings(head, "transfer-encoding");
    refuse_codings("Transfer-Encoding", &transfer, b"chunked")?;
    Ok(Some((length, EventReader { is_chunked: !transfer.is_empty(), ..EventReader::default() })))
}

/// Bytes of the chunk at the beginning of `bytes`, its own line and line end included. `None` if not all of it is there.
pub fn chunk_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().take(CHUNK_LINE_BYTES_MAX).position(|&byte| byte == b'\r')?;
    let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
    let length = size.checked_add(line + 4)?;
    (length <= bytes.len()).then_some(length)
}

/// The codings that a header lists, in the order in which they were applied.
fn codings<'a>(head: &'a [u8], name: &str) -> Vec<&'a [u8]> {
    let listed = headers(head, name).flat_map(|value| value.split(|&byte| byte == b','));
    listed.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()).collect()
}

/// Allows no coding, or once the one that this tool reads.
fn refuse_codings(header: &str, codings: &[&[u8]], known: &[u8]) -> Result<(), String> {
    match codings {
        [] => Ok(()),
        [coding] if coding.eq_ignore_ascii_case(known) => Ok(()),
        _ => {
            let codings = excerpt(&codings.join(b", ".as_slice()));
            let cure = "turn compression off";
            Err(format!(
                "the event stream has the {header} '{codings}', which this tool does not read: {cure}"
            ))
        }
    }
}

/// Takes an event stream apart.
#[derive(Debug, Default)]
pub struct EventReader {
    is_chunked: bool,
    /// Bytes of the present chunk that are still to come.
    chunk_left: usize,
    /// Whether the line end behind a chunk is still to come.
    is_behind_chunk: bool,
    /// The line between chunks, as far as it has come.
    chunk_line: Vec<u8>,
    line: Vec<u8>,
    after_cr: bool,
    data: Vec<u8>,
    has_data: bool,
    /// What the server says of itself, in events of its own.
    notice: Option<Notice>,
}

/// Events of tidegate that are no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// The last of a stream.
    Close,
    /// Any other.
    Other,
}

impl EventReader {
    /// Whether nothing is unfinished, and the next byte begins a chunk.
    pub fn is_between_chunks(&self) -> bool {
        let is_at_line = self.line.is_empty() && !self.has_data && self.notice.is_none();
        self.is_chunked
            && is_at_line
            && self.chunk_left == 0
            && !self.is_behind_chunk
            && self.chunk_line.is_empty()
    }

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
                self.is_behind_chunk = self.chunk_left == 0;
                self.read_text(piece, &mut found)?;
                bytes = rest;
                continue;
            }
            self.chunk_line.push(bytes[0]);
            bytes = &bytes[1..];
            if self.chunk_line.ends_with(b"\n") {
                self.end_chunk_line()?;
            } else if self.chunk_line.len() > CHUNK_LINE_BYTES_MAX {
                return Err("a chunk without a size (RFC 9112 §7.1)".into());
            }
        }
        Ok(())
    }

    /// Takes the line that stands between chunks: the end of one, or the size of the next.
    fn end_chunk_line(&mut self) -> Result<(), String> {
        let line = self.chunk_line.strip_suffix(b"\n").unwrap_or(&self.chunk_line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if std::mem::take(&mut self.is_behind_chunk) {
            if !line.is_empty() {
                return Err(format!(
                    "a chunk is followed by '{}', not by a line end (RFC 9112 §7.1)",
                    excerpt(line)
                ));
            }
        } else {
            // White space may stand in front of an extension (§7.1.1).
            let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
            let digits = Some(digits).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            let size = digits
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| usize::from_str_radix(digits, 16).ok());
            self.chunk_left = size.ok_or("a chunk without a size (RFC 9112 §7.1)")?;
            if self.chunk_left == 0 {
                return Err("the server ended the event stream".into());
            }
        }
        self.chunk_line.clear();
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
                let notice = self.notice.take();
                if notice == Some(Notice::Close) {
                    return Err(format!("the server closed the event stream: {}", excerpt(&self.data)));
                }
                if std::mem::take(&mut self.has_data) && notice.is_none() {
                    found(&self.data)?;
                }
                self.data.clear();
            } else if let Some(value) = self.line.strip_prefix(b"data:") {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                self.has_data = true;
            } else if let Some(name) = self.line.strip_prefix(b"event: gw.") {
                self.notice = Some(if name == b"close" { Notice::Close } else { Notice::Other });
            }
            self.line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::noise::Noise;
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
    fn what_the_server_says_of_itself_is_no_message() {
        let stream = b"event: gw.skipped\ndata: {}\n\nevent: x\ndata: one\n\n";
        assert_eq!(events(&mut EventReader::default(), stream, 7), ["one"]);
        let last = b"event: gw.close\nretry: 4000\ndata: draining\n\n";
        let told = EventReader::default().read(last, |_| Ok(())).expect_err("the end");
        assert!(told.contains("draining"), "{told}");
    }

    #[test]
    fn a_chunk_has_its_length_once_all_of_it_is_there() {
        let chunks = b"b\r\ndata: one\n\n\r\n3\r\n:\n\n\r\n";
        let first = b"b\r\ndata: one\n\n\r\n".len();
        assert_eq!(chunk_length(chunks), Some(first));
        assert_eq!(chunk_length(&chunks[first..]), Some(chunks.len() - first));
        assert_eq!(chunk_length(&chunks[..first - 1]), None);
        assert_eq!(chunk_length(b"ffffffffffffffff\r\nx"), None);
        let mut reader = EventReader { is_chunked: true, ..EventReader::default() };
        for (index, &byte) in chunks[..first].iter().enumerate() {
            assert_eq!(reader.is_between_chunks(), index == 0, "byte {index}");
            reader.read(&[byte], |_| Ok(())).expect("a stream");
        }
        assert!(reader.is_between_chunks());
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
    fn whoever_does_not_speak_http_is_told_at_once() {
        for (answer, named) in [
            (b"SSH-2.0-OpenSSH_9\r\n".as_slice(), "does not speak HTTP/1.1: it answered 'SSH-2.0-OpenSSH_9'"),
            (b"{", "does not speak HTTP/1.1"),
            (b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", "answered 'HTTP/1.0 200 OK'"),
            (b"HTTP/2 200\r\n\r\n", "answered 'HTTP/2 200'"),
            (b"HTTP/1.1 2000 OK\r\nContent-Type: text/event-stream\r\n\r\n", "refused"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", "refused the event stream: 'HTTP/1.1 204 No Content'"),
        ] {
            let error = check_response(answer).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn codings_that_are_not_read_are_told() {
        let answer = |headers: &str| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{headers}\r\n");
            let checked = check_response(head.as_bytes());
            checked.map(|opened| opened.expect("a whole head").1.is_chunked)
        };
        assert_eq!(answer("Content-Encoding: identity\r\n"), Ok(false));
        assert_eq!(answer("Transfer-Encoding: Chunked\r\n"), Ok(true));
        for (headers, named) in [
            ("Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding 'gzip, chunked'"),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "'gzip, chunked'"),
            ("Transfer-Encoding: identity\r\n", "'identity'"),
            ("Content-Encoding: br\r\n", "Content-Encoding 'br'"),
        ] {
            let error = answer(headers).expect_err(headers);
            assert!(error.contains(named) && error.contains("turn compression off"), "{error}");
        }
    }

    #[test]
    fn chunks_are_read_as_the_rfc_has_them() {
        let read = |stream: &[u8]| {
            let mut reader = EventReader { is_chunked: true, ..EventReader::default() };
            let mut found = Vec::new();
            reader.read(stream, |data| {
                found.extend_from_slice(data);
                Ok(())
            })?;
            Ok::<_, String>(found)
        };
        assert_eq!(read(b"9 ;ext=1\r\ndata: x\n\n\r\n"), Ok(b"x".to_vec()));
        assert_eq!(read(b"009\t \r\ndata: x\n\n\r\n"), Ok(b"x".to_vec()));
        for (stream, named) in [
            (b"0\r\n\r\n".as_slice(), "ended"),
            (b"+9\r\ndata: x\n\n\r\n", "without a size"),
            (b" 9\r\ndata: x\n\n\r\n", "without a size"),
            (b"\r\n", "without a size"),
            (b"11111111111111111\r\n", "without a size"),
            (b"9\r\ndata: x\n\n9\r\n", "followed by '9'"),
        ] {
            let error = read(stream).expect_err(named);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn noise_is_an_error_or_little_memory() {
        let pieces: [&[u8]; 8] = [
            TEXT,
            b"data: x\n\n",
            b"9\r\ndata: x\n\n\r\n",
            b"c;a=b\r\ndata: one\r\n\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"data\r",
            b"\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        let mut noise = Noise::new(0x5EED);
        for round in 0..20_000 {
            let stream = noise.stream(&pieces);
            let _ = check_response(&stream);
            let mut reader = EventReader { is_chunked: round % 2 == 0, ..EventReader::default() };
            let mut rest = stream.as_slice();
            let mut found = 0;
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(1 + noise.below(rest.len()));
                rest = later;
                let keep = |data: &[u8]| {
                    found += data.len();
                    Ok(())
                };
                if reader.read(piece, keep).is_err() {
                    break;
                }
                let held = reader.line.capacity() + reader.data.capacity() + reader.chunk_line.capacity();
                assert!(held <= 2 * stream.len() + 64, "{held} bytes for {}", stream.len());
            }
            assert!(found <= stream.len(), "nothing is found twice");
        }
    }

    #[test]
    fn a_head_a_chunk_line_and_an_event_have_an_end() {
        let head = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; HEAD_BYTES_MAX]].concat();
        assert!(check_response(&head).is_err());
        let mut reader = EventReader { is_chunked: true, ..EventReader::default() };
        assert!(reader.read(&[b'1'; CHUNK_LINE_BYTES_MAX + 1], |_| Ok(())).is_err());
        let line = [b"data: ".as_slice(), &[b'x'; 1 << 20], b"\n"].concat();
        let mut reader = EventReader::default();
        let refused = (0..=64).find_map(|_| reader.read(&line, |_| Ok(())).err());
        assert!(refused.is_some_and(|error| error.contains("64 MiB")));
        assert!(reader.line.len() + reader.data.len() <= EVENT_BYTES_MAX + 1);
    }
}
