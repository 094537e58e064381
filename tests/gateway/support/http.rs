//! The little HTTP that the tests speak: one request as bytes, one response read back.

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names as sent, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking taken off.
    pub body: Vec<u8>,
}

impl Response {
    /// Reads a response from the start of `bytes`, and says how many bytes it took. None while it is incomplete.
    ///
    /// A body without a length lasts until `ended`: the peer has closed. A 1xx has no body.
    #[track_caller]
    pub fn parse(bytes: &[u8], ended: bool) -> Option<(Response, usize)> {
        let head_end = find(bytes, b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_end - 4]).expect("an ASCII response head");
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new() };
        let rest = &bytes[head_end..];
        let (body, taken) = if (100..200).contains(&status) || status == 204 || status == 304 {
            (Vec::new(), 0)
        } else if response.header("transfer-encoding").is_some() {
            unchunk(rest)?
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().expect("a decimal Content-Length");
            (rest.get(..length)?.to_vec(), length)
        } else if ended {
            (rest.to_vec(), rest.len())
        } else {
            return None;
        };
        response.body = body;
        Some((response, head_end + taken))
    }

    /// The value of a header, looked up without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// With the body if it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// Takes the chunks off a body; none while the last one is missing.
fn unchunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line_end = at + find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..line_end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).expect("a chunk size in hexadecimal digits");
        let start = line_end + 2;
        body.extend_from_slice(bytes.get(start..start + size)?);
        bytes.get(start + size..start + size + 2)?;
        at = start + size + 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}

/// Where `needle` begins in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// A request for an upgrade to WebSocket at `target`, as a browser would send it, with `extra` header lines.
pub fn upgrade_request(target: &str, host: &str, extra: &[&str]) -> Vec<u8> {
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {SAMPLE_KEY}\r\n"
    );
    for line in extra {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// The key of RFC 6455 §1.3, and the answer that it gives there.
pub const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What `Sec-WebSocket-Accept` must be for [`SAMPLE_KEY`].
pub const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
