//! Responses, byte by byte ours: the builder, the fixed refusals, and documents made once.
//!
//! A refusal's body is its token and its cure, nothing else (GUARANTEES J8). No `Server` header. Header values are
//! visible ASCII by assertion: a response cannot be split (GUARANTEES A18).

use std::borrow::Cow;
use std::io::Write as _;

use crate::model::RejectReason;

/// The methods that any route knows.
const ALLOWED_METHODS: &str = "GET, HEAD";

/// A response head under construction.
pub(super) struct Response {
    bytes: Vec<u8>,
}

impl Response {
    /// Begins with the status line.
    pub(super) fn new(status: u16) -> Self {
        let mut bytes = Vec::with_capacity(512);
        // Writing to memory does not fail.
        let _ = write!(bytes, "HTTP/1.1 {status} {}\r\n", phrase(status));
        Self { bytes }
    }

    /// Begins what agrees to an upgrade to WebSocket.
    pub(super) fn upgrade() -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        );
        Self { bytes }
    }

    /// Adds a header line.
    ///
    /// # Panics
    /// When `value` holds anything but visible ASCII and spaces. No value comes from the network unchecked.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        assert!(value.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{name} with control bytes");
        for part in [name, ": ", value, "\r\n"] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self
    }

    /// Adds a header line with a number.
    fn number(mut self, name: &'static str, value: usize) -> Self {
        // Writing to memory does not fail.
        let _ = write!(self.bytes, "{name}: {value}\r\n");
        self
    }

    /// The complete head.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"\r\n");
        self.bytes
    }
}

/// What is said around the content of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Manner {
    /// The connection ends with this response.
    pub closes: bool,
    /// The request was HEAD: the body is described but not sent.
    pub without_body: bool,
}

/// Whether a connection ends with this refusal even if the client wants more: the rest of its bytes cannot be
/// trusted to be a request, or the gateway wants to be rid of it.
pub(super) const fn ends_connection(reason: RejectReason) -> bool {
    !matches!(reason.status(), 404 | 405 | 417 | 426)
}

/// The complete response for a refusal. One allocation: whoever is refused costs little (GUARANTEES A25).
pub(super) fn refusal(reason: RejectReason, retry_after_s: Option<u32>, manner: Manner) -> Vec<u8> {
    let body = [reason.token(), ": ", reason.cure(), "\n"];
    let body_bytes = body.iter().map(|part| part.len()).sum();
    let mut response = Response::new(reason.status())
        .header("Content-Type", "text/plain; charset=utf-8")
        .number("Content-Length", body_bytes)
        .header("Cache-Control", "no-store")
        .header("X-Content-Type-Options", "nosniff");
    if let Some(seconds) = retry_after_s {
        response = response.number("Retry-After", seconds as usize);
    }
    response = match reason.status() {
        405 => response.header("Allow", ALLOWED_METHODS),
        426 => response.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13"),
        _ => response,
    };
    // Whoever sends Upgrade names it in Connection (RFC 9110 §7.8).
    response = match (reason.status() == 426, manner.closes) {
        (true, true) => response.header("Connection", "Upgrade, close"),
        (true, false) => response.header("Connection", "Upgrade"),
        (false, true) => response.header("Connection", "close"),
        (false, false) => response,
    };
    with_body(response, body, manner)
}

/// Something served as it is: headers and body, made once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Document {
    /// Media type.
    pub content_type: &'static str,
    /// Headers beyond the usual ones.
    pub headers: &'static [(&'static str, &'static str)],
    /// The content.
    pub body: Cow<'static, str>,
}

impl Document {
    /// The complete response.
    pub(super) fn respond(&self, manner: Manner) -> Vec<u8> {
        let mut response = Response::new(200)
            .header("Content-Type", self.content_type)
            .number("Content-Length", self.body.len())
            .header("Cache-Control", "no-cache")
            .header("X-Content-Type-Options", "nosniff")
            .header("Referrer-Policy", "no-referrer");
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        if manner.closes {
            response = response.header("Connection", "close");
        }
        with_body(response, [&*self.body], manner)
    }
}

fn with_body<const PARTS: usize>(response: Response, body: [&str; PARTS], manner: Manner) -> Vec<u8> {
    let mut bytes = response.finish();
    if !manner.without_body {
        body.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
    }
    bytes
}

/// The words after a status code (RFC 9110 §15).
const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}
