//! The chunked body of an event stream (RFC 9112 §7.1), one event a chunk.

/// What came of a body.
#[derive(Debug, Default)]
pub struct Chunks {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Chunks {
    /// Whether a part of a chunk has come.
    pub fn has_part(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Adds `bytes` and gives the events that they complete, each without the empty line at its end.
    ///
    /// # Errors
    /// What is wrong with the body, in words.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        self.bytes.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(line) = self.bytes.windows(2).position(|pair| pair == b"\r\n") {
            if self.is_over {
                return Err("bytes after the last chunk".to_owned());
            }
            let digits = std::str::from_utf8(&self.bytes[..line]).map_err(|error| error.to_string())?;
            let length = usize::from_str_radix(digits, 16).map_err(|_| format!("a chunk of {digits:?}"))?;
            let end = line + 2 + length;
            let Some(tail) = self.bytes.get(end..end + 2) else { break };
            if tail != b"\r\n" {
                return Err("a chunk without its end".to_owned());
            }
            let event = std::str::from_utf8(&self.bytes[line + 2..end]).map_err(|error| error.to_string())?;
            match event.strip_suffix("\n\n") {
                Some(event) => events.push(event.to_owned()),
                None if length == 0 => self.is_over = true,
                None => return Err(format!("an event without its end: {event:?}")),
            }
            self.bytes.drain(..end + 2);
        }
        Ok(events)
    }
}
