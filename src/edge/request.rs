//! A complete request head, reduced to what a decision needs: method, target, upgrade offer, body, persistence.
//!
//! Reads the head once with httparse and refuses what is malformed or ambiguous (GUARANTEES A5, A9-A12, A16, A18):
//! whoever stands in front of the gateway must not be able to read the same bytes differently. Relies on
//! `scanner.rs` for the line ends. Where the target leads is `router.rs`' business, what the offer is worth `upgrade.rs`'.

use std::mem::MaybeUninit;

use super::field::Fields;
use super::upgrade::Offer;
use crate::config::limits::{HEADERS_MAX, METHOD_BYTES_MAX};
use crate::model::{Authority, RejectReason};

/// The methods that make a difference here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    /// GET.
    Get,
    /// HEAD: answered like GET, without the body.
    Head,
    /// Any other token.
    Other,
}

/// A well-formed request. Borrows from the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// Path and query in origin form: printable ASCII that begins with `/` or, without a path, `?` (or is empty).
    pub target: &'a str,
    /// Whom it is for.
    pub host: Authority<'a>,
    /// The page that makes it, as its browser says; none if nobody does.
    pub origin: Option<&'a [u8]>,
    /// The last event that the client of a stream has got, as it says.
    pub last_event_id: Option<&'a [u8]>,
    /// What the head says about a WebSocket.
    pub offer: Offer<'a>,
    /// Whether a body follows; it is never read, so that the connection ends with the answer.
    pub has_body: bool,
    /// Whether an Expect header asks for something.
    pub has_expectation: bool,
    /// Whether the client wants the connection closed after the answer.
    pub wants_close: bool,
}

impl<'a> Request<'a> {
    /// Reads a head that [`HeadScanner`](super::HeadScanner) found complete.
    ///
    /// # Errors
    /// The refusal to answer with; the connection ends with it.
    pub(super) fn parse(head: &'a [u8]) -> Result<Self, RejectReason> {
        let head = head.strip_prefix(b"\r\n").unwrap_or(head);
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut headers) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(RejectReason::HeaderSyntax),
            Err(error) => return Err(reason_for(error, head)),
        }
        let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
            return Err(RejectReason::RequestLine);
        };
        if method.len() > METHOD_BYTES_MAX || !target.bytes().all(is_target_byte) {
            return Err(RejectReason::RequestLine);
        }
        if parsed.version != Some(1) {
            return Err(RejectReason::HttpVersion);
        }
        let fields = Fields::collect(parsed.headers)?;
        let host_value = fields.host.unwrap_or_default();
        let host = Authority::parse(host_value).ok_or(RejectReason::Host)?;
        let target = origin_form(method, target, host_value)?;
        let offer = Offer {
            names_connection: fields.connection_upgrade,
            names_websocket: fields.upgrade_websocket,
            key: fields.key,
            version: fields.version,
            extensions: fields.extensions,
            subprotocols: fields.subprotocols,
        };
        Ok(Self {
            method: match method {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                _ => Method::Other,
            },
            target,
            host,
            origin: fields.origin,
            last_event_id: fields.last_event_id,
            offer,
            has_body: fields.has_body(offer.is_complete())?,
            has_expectation: fields.has_expectation,
            wants_close: fields.connection_close,
        })
    }
}

/// What a head that httparse refuses is answered with. Tokens and line ends fail in the request line only: the
/// scanner has seen to the others.
fn reason_for(error: httparse::Error, head: &[u8]) -> RejectReason {
    let names_other_version = match error {
        httparse::Error::TooManyHeaders => return RejectReason::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => return RejectReason::HeaderSyntax,
        httparse::Error::Version => is_versioned(head),
        httparse::Error::Token | httparse::Error::NewLine | httparse::Error::Status => is_http_0_9(head),
    };
    if names_other_version { RejectReason::HttpVersion } else { RejectReason::RequestLine }
}

/// The words of the request line.
fn request_line(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    line.split(|&byte| byte == b' ')
}

/// Whether the request line ends in some version: `PRI * HTTP/2.0`.
fn is_versioned(head: &[u8]) -> bool {
    let version = request_line(head).nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    version.is_some_and(|version| {
        !version.is_empty() && version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
    })
}

/// Whether the request line is that of HTTP/0.9: `GET /`.
fn is_http_0_9(head: &[u8]) -> bool {
    let mut words = request_line(head);
    matches!((words.next(), words.next(), words.next()), (Some(b"GET"), Some([b'/', ..]), None))
}

const fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Reduces the target to path and query (RFC 9112 §3.2). An absolute target must speak of this host.
fn origin_form<'a>(method: &str, target: &'a str, host: &[u8]) -> Result<&'a str, RejectReason> {
    if method == "CONNECT" {
        return Err(RejectReason::TargetForm);
    }
    if target.starts_with('/') {
        return Ok(target);
    }
    let (scheme, rest) = target.split_once("://").ok_or(RejectReason::TargetForm)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(RejectReason::TargetForm);
    }
    let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(authority_bytes);
    if !authority.as_bytes().eq_ignore_ascii_case(host) {
        return Err(RejectReason::TargetForm);
    }
    Ok(path_and_query)
}
