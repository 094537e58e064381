//! Request heads: where they end, however reads cut them, and what is decided on them.
//!
//! Input: cuts, then the bytes of a connection. The scanner must give the same verdicts at the same places in one piece and in
//! many, within its limits; a decision must be a well-formed answer, a WebSocket that tungstenite's handshake takes too, or the
//! head of an event stream.

use tidegate::config::limits::{
    CHANNELS_PER_CONNECTION_MAX, HEAD_BYTES_MAX, PATTERNS_PER_CONNECTION_MAX, SUBSCRIBER_RATE_MAX,
};
use tidegate::config::{ChannelRule, Config};
use tidegate::edge::{Compression, Decision, Edge, HeadScanner, Scan};
use tidegate::model::{Dialect, Pattern, RejectReason};
use tungstenite::handshake::server::create_response;
use tungstenite::http;

use super::input::{Input, pieces};

/// Requests looked at on one connection.
const REQUESTS_MAX: usize = 8;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.cuts();
    let bytes = input.rest();
    let whole = scan(&[bytes]);
    assert_eq!(scan(&pieces(bytes, &cuts)), whole, "cuts change the verdict");
    let edge = edge();
    let mut start = 0;
    for end in whole.ends {
        assert!(end - start <= HEAD_BYTES_MAX, "a head of {} bytes", end - start);
        check(&edge, &bytes[start..end], end < bytes.len());
        start = end;
    }
    if let Some(reason) = whole.refusal {
        check_answer(&edge.refusal(reason, None), true, false);
    } else {
        assert!(
            bytes.len() - start <= HEAD_BYTES_MAX || whole.is_full,
            "{} bytes without a verdict",
            bytes.len()
        );
    }
}

/// What the scanner says of a connection.
#[derive(PartialEq, Eq, Debug, Default)]
struct Verdicts {
    /// Where heads end, counted from the beginning of the connection.
    ends: Vec<usize>,
    refusal: Option<RejectReason>,
    /// [`REQUESTS_MAX`] was reached.
    is_full: bool,
    has_begun: bool,
}

fn scan(pieces: &[&[u8]]) -> Verdicts {
    let mut scanner = HeadScanner::new();
    let mut verdicts = Verdicts::default();
    let mut before = 0;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match scanner.scan(rest) {
                Ok(Scan::NeedMore) => break,
                Ok(Scan::Complete(bytes)) => {
                    assert!((1..=rest.len()).contains(&bytes), "{bytes} of {}", rest.len());
                    rest = &rest[bytes..];
                    verdicts.ends.push(before + piece.len() - rest.len());
                    assert!(!scanner.has_begun(), "as new");
                    if verdicts.ends.len() == REQUESTS_MAX {
                        verdicts.is_full = true;
                        return verdicts;
                    }
                }
                Err(reason) => {
                    verdicts.refusal = Some(reason);
                    return verdicts;
                }
            }
        }
        before += piece.len();
    }
    verdicts.has_begun = scanner.has_begun();
    verdicts
}

fn edge() -> Edge {
    let mut config = Config::default();
    let mut rule = ChannelRule::new(Pattern::parse("news.*").expect("a literal"));
    rule.compression = Some(true);
    config.channels.rules.push(rule);
    Edge::new(&config)
}

fn check(edge: &Edge, head: &[u8], has_early_bytes: bool) {
    match edge.decide(head, has_early_bytes, false) {
        Decision::Respond { bytes, closes, reject } => {
            let without_body = head.trim_ascii_start().starts_with(b"HEAD ");
            let status = check_answer(&bytes, closes, without_body).status;
            assert_eq!(reject.is_some(), status >= 400, "status {status}");
        }
        Decision::Join { response, requests, patterns, dialect, compression } => {
            assert!(
                patterns.len() <= PATTERNS_PER_CONNECTION_MAX
                    && (patterns.is_empty() || dialect == Dialect::V1)
            );
            let fewest = usize::from(dialect != Dialect::V1);
            assert!((fewest..=CHANNELS_PER_CONNECTION_MAX).contains(&requests.len()));
            let mut channels: Vec<_> = requests.iter().map(|request| &request.channel).collect();
            channels.sort();
            channels.dedup();
            assert_eq!(channels.len(), requests.len(), "a channel twice");
            assert!(requests.iter().all(|request| request.rate_max <= SUBSCRIBER_RATE_MAX));
            if dialect.is_event_stream() {
                let answer = check_answer(&response, true, true);
                assert_eq!((answer.status, answer.is_chunked), (200, true), "a stream");
                assert_eq!(compression, Compression::Declined);
                return;
            }
            assert!(!has_early_bytes, "joined with early bytes");
            let agreed = b"\r\nSec-WebSocket-Protocol: tidegate.v1\r\n";
            let is_agreed = response.windows(agreed.len()).any(|window| window == agreed);
            assert_eq!(is_agreed, dialect == Dialect::V1);
            check_against_tungstenite(head, &response);
        }
    }
}

/// What a response says of itself.
struct Answer {
    status: u16,
    is_chunked: bool,
}

/// Checks that a response is one and no more: a status line, header lines, as many bytes of body as it says.
fn check_answer(bytes: &[u8], closes: bool, without_body: bool) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("an end of the head") + 4;
    let text = std::str::from_utf8(&bytes[..end]).expect("text");
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
    let headers: Vec<_> = lines.map(|line| line.split_once(": ").expect("a header line")).collect();
    let value = |name: &str| {
        let mut values = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| *value);
        assert_eq!(values.next(), None, "{name} twice");
        value
    };
    let length: usize = value("content-length").map_or(0, |length| length.parse().expect("a length"));
    assert_eq!(bytes.len() - end, if without_body { 0 } else { length }, "the body's length");
    let connection = value("connection").unwrap_or_default();
    assert_eq!(connection.split(", ").any(|element| element == "close"), closes, "{text}");
    let is_chunked = value("transfer-encoding") == Some("chunked");
    assert!(!is_chunked || value("content-length").is_none(), "two lengths");
    Answer { status: status[..3].parse().expect("a status"), is_chunked }
}

/// tungstenite must take what we take, and answer with the same accept key. Of the lists it knows neither several lines nor
/// quoted strings: what they say is `offers.rs`' business, here they say what it wants.
fn check_against_tungstenite(head: &[u8], ours: &[u8]) {
    let head = head.trim_ascii();
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request_line = lines.next().unwrap_or_default();
    assert!(request_line.starts_with(b"GET ") && request_line.ends_with(b" HTTP/1.1"));
    let mut request = http::Request::builder().method("GET").uri("/");
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').expect("a header line");
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !name.eq_ignore_ascii_case(b"connection") && !name.eq_ignore_ascii_case(b"upgrade") {
            request = request.header(name, value);
        }
    }
    let lists = request.header("Upgrade", "websocket").header("Connection", "Upgrade");
    let request = lists.body(()).expect("a request for it");
    let theirs = create_response(&request).expect("it takes what we take");
    let key = theirs.headers()["sec-websocket-accept"].as_bytes();
    let line = [b"Sec-WebSocket-Accept: ", key, b"\r\n"].concat();
    assert!(ours.windows(line.len()).any(|window| window == line), "the accept key");
    assert!(ours.starts_with(b"HTTP/1.1 101 ") && ours.ends_with(b"\r\n\r\n"));
}
