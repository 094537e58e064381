//! The head of an event stream (SSE), and what it lets the scripts of a page do with it (Fetch §3.3, CORS).
//!
//! The stream is the chunked body of a response that nothing on its way may keep, change or hold back, and the connection
//! ends with it. A page that is let in may read it; with the cookies of the person in front of it only if
//! `--allow-origin` names where the page comes from.

use super::request::Request;
use super::response::Response;
use crate::model::{AllowedOrigin, WebOrigin};

/// A page that is let in and reads the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reader<'a> {
    /// As its browser states it, and compares what is answered.
    origin: &'a str,
    /// Whether an entry of `--allow-origin` names it, alone or with others of its domain.
    is_named: bool,
}

impl<'a> Reader<'a> {
    /// The page that makes `request` and is let in; none if it states no origin.
    pub(super) fn of(request: &Request<'a>, allowed: &[AllowedOrigin]) -> Option<Self> {
        let origin = WebOrigin::parse(request.origin?)?;
        let names = |entry: &AllowedOrigin| *entry != AllowedOrigin::Any && entry.lets_in(&origin);
        let is_named = allowed.iter().any(names);
        // An origin that could be read is of ASCII without blanks and control bytes.
        Some(Self { origin: std::str::from_utf8(request.origin?).ok()?, is_named })
    }
}

/// The complete head of the response; the first chunk follows it.
pub(super) fn head(reader: Option<Reader<'_>>) -> Vec<u8> {
    let mut response = Response::new(200)
        .header("Content-Type", "text/event-stream; charset=utf-8")
        .header("Cache-Control", "no-store, no-transform")
        // No page runs it as a script, which would get around the origin.
        .header("X-Content-Type-Options", "nosniff")
        // What nginx and those who follow it read: each event is passed on as it comes.
        .header("X-Accel-Buffering", "no")
        .header("Transfer-Encoding", "chunked")
        .header("Connection", "close");
    if let Some(Reader { origin, is_named }) = reader {
        response = response.header("Access-Control-Allow-Origin", origin).header("Vary", "Origin");
        if is_named {
            response = response.header("Access-Control-Allow-Credentials", "true");
        }
    }
    response.finish()
}
