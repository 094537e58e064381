//! The edge: bytes in, decision out. Bounded HTTP/1.1 heads, one router, upgrade checks, fixed responses.
//!
//! Pure: no sockets, clocks, threads or randomness. The shard feeds a connection's first bytes to [`HeadScanner`],
//! hands the complete head to [`Edge::decide`] and does what the [`Decision`] says; whatever is refused has a status
//! and a token of `model/close.rs`. Order of reading: `scanner.rs`, `request.rs`, `router.rs`, `upgrade.rs`,
//! `extensions.rs`, `subprotocols.rs`, `event_stream.rs`, `response.rs`; `parameters.rs` reads queries, `page.rs` is the demo page. `proxy_header.rs` and `forwarded.rs` say who a proxy speaks for.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod event_stream;
mod extensions;
mod field;
mod forwarded;
mod page;
mod parameters;
mod proxy_header;
mod request;
mod response;
mod router;
mod scanner;
mod subprotocols;
mod upgrade;

#[cfg(test)]
mod tests;

pub use extensions::Compression;
pub use proxy_header::{MalformedProxyHeader, ProxyHeader, read as read_proxy_header};
pub use scanner::{HeadScanner, Scan};

use std::net::SocketAddr;

use crate::config::{ChannelRules, Config, ForwardedHeader};
use crate::model::{
    AllowedOrigin, ChannelName, Dialect, Network, Pattern, RejectReason, ServedHost, Subprotocol,
    SubscribeRequest, WebOrigin,
};
use event_stream::Reader;
use page::Page;
use parameters::begin_after;
use request::{Method, Request};
use response::{Manner, ends_connection, refusal};
use router::{Route, route};
use upgrade::Accepted;

/// What becomes of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Send `bytes`; then close if `closes`, else wait for the next request.
    Respond {
        /// The complete response.
        bytes: Vec<u8>,
        /// Whether the connection ends with it; bytes that still arrive are then not read as requests.
        closes: bool,
        /// Set when it is a refusal, to be counted.
        reject: Option<RejectReason>,
    },
    /// A WebSocket, or the reader of an event stream, joins channels.
    Join {
        /// The complete 101 response, or the complete head of the 200 that the stream is the chunked body of.
        response: Vec<u8>,
        /// What it asks for: at most 128 channels, no duplicates, in the order named. Only [`Dialect::V1`] may name none.
        requests: Vec<SubscribeRequest>,
        /// Patterns that it asks for: at most `--max-patterns`, no duplicates, in the order named; none but for [`Dialect::V1`].
        patterns: Vec<Pattern>,
        /// What is spoken once it has joined.
        dialect: Dialect,
        /// What the response agrees to; [`Compression::Declined`] for event streams.
        compression: Compression,
    },
}

/// Decides on requests. Made once per shard.
#[derive(Debug)]
pub struct Edge {
    default_channel: ChannelName,
    /// Unless no channel has compression on.
    compressing: Option<ChannelRules>,
    allow_origin: Vec<AllowedOrigin>,
    allow_host: Vec<ServedHost>,
    subprotocols: Vec<Subprotocol>,
    page: Page,
    max_patterns: usize,
    forwarded_header: ForwardedHeader,
    trusted_proxies: Vec<Network>,
}

/// A request that is not refused.
enum Answer {
    Page(ChannelName),
    Asset(page::Asset),
    /// The head of an event stream, which ends with it.
    StreamHead(Vec<u8>),
    Join(Accepted, Vec<SubscribeRequest>, Vec<Pattern>, Dialect),
}

impl Edge {
    /// An edge for the default channel and the channel rules of `config`.
    pub fn new(config: &Config) -> Self {
        let rules = &config.channels;
        let is_on = rules.base.compression || rules.rules.iter().any(|rule| rule.compression == Some(true));
        Self {
            default_channel: config.default_channel.clone(),
            compressing: is_on.then(|| rules.clone()),
            allow_origin: config.allow_origin.clone(),
            allow_host: config.allow_host.clone(),
            subprotocols: config.subprotocols.clone(),
            page: Page::new(config),
            max_patterns: config.max_patterns,
            forwarded_header: config.forwarded_header,
            trusted_proxies: config.trusted_proxies.clone(),
        }
    }

    /// Decides on a request from its `head`, which [`HeadScanner`] found complete. `has_early_bytes`: bytes follow it
    /// already, which an upgrade may not have (GUARANTEES A13). `is_last`: the connection may make no further request.
    ///
    /// Linear in the head; allocates the response and the channel names.
    pub fn decide(&self, head: &[u8], has_early_bytes: bool, is_last: bool) -> Decision {
        let without_body = head.trim_ascii_start().starts_with(b"HEAD ");
        let request = Request::parse(head);
        let (answer, wants_close) = match &request {
            Ok(request) => (self.answer(request, has_early_bytes), request.wants_close || request.has_body),
            Err(reason) => (Err(*reason), true),
        };
        let mut manner = Manner { closes: wants_close || is_last, without_body };
        let (bytes, reject) = match answer {
            Ok(Answer::Join(Accepted { response, compression }, requests, patterns, dialect)) => {
                return Decision::Join { response, requests, patterns, dialect, compression };
            }
            Ok(Answer::StreamHead(head)) => {
                manner.closes = true;
                (head, None)
            }
            Ok(Answer::Page(channel)) => {
                let named = Some(&channel).filter(|channel| **channel != self.default_channel);
                (self.page.respond(named, manner), None)
            }
            Ok(Answer::Asset(asset)) => (asset.respond(manner), None),
            Err(reason) => {
                manner.closes |= ends_connection(reason);
                (refusal(reason, None, manner), Some(reason))
            }
        };
        Decision::Respond { bytes, closes: manner.closes, reject }
    }

    /// Who the request with this complete `head`, from a trusted proxy, comes from: the right-most hop that is not trusted.
    /// None if the proxy does not say; port 0 if it does not say that (GUARANTEES A21).
    pub fn forwarded_client(&self, head: &[u8]) -> Option<SocketAddr> {
        forwarded::client(head, self.forwarded_header, &self.trusted_proxies)
    }

    /// The answer for a refusal decided elsewhere (timeouts, limits, draining), after which the connection is closed.
    /// `retry_after_s` becomes a `Retry-After` header.
    pub fn refusal(&self, reason: RejectReason, retry_after_s: Option<u32>) -> Vec<u8> {
        refusal(reason, retry_after_s, Manner { closes: true, without_body: false })
    }

    fn answer(&self, request: &Request<'_>, has_early_bytes: bool) -> Result<Answer, RejectReason> {
        if !self.allow_host.is_empty() && !self.allow_host.iter().any(|host| host.serves(request.host)) {
            return Err(RejectReason::Misdirected);
        }
        if has_early_bytes && request.offer.is_complete() {
            return Err(RejectReason::EarlyData);
        }
        if request.has_expectation {
            return Err(RejectReason::Expectation);
        }
        let route = route(request.target, &self.default_channel)?;
        if request.method == Method::Other {
            return Err(RejectReason::Method);
        }
        if request.has_body {
            return Err(RejectReason::Framing);
        }
        match route {
            Route::Asset(asset) => Ok(Answer::Asset(asset)),
            Route::Home(channel, _) if !request.offer.is_hinted() => Ok(Answer::Page(channel)),
            Route::Home(_, requests) => self.accept(request, requests, Vec::new()),
            Route::Channels(requests, patterns) => self.accept(request, requests, patterns),
            Route::EventStream(requests, dialect) => self.stream(request, requests, dialect),
        }
    }

    /// Whether a page may connect that states `origin` (GUARANTEES A14): one that `--allow-origin` names or, if it names
    /// none, one of the host that is asked. Whoever states no origin is no browser or, where a stream is asked for, a page
    /// of the host itself or one that its browser lets read nothing.
    fn welcomes(&self, request: &Request<'_>) -> bool {
        let Some(origin) = request.origin else { return true };
        WebOrigin::parse(origin).is_some_and(|origin| match self.allow_origin.as_slice() {
            [] => origin.is_of(request.host),
            allowed => allowed.iter().any(|allowed| allowed.lets_in(&origin)),
        })
    }

    /// A WebSocket.
    fn accept(
        &self,
        request: &Request<'_>,
        requests: Vec<SubscribeRequest>,
        patterns: Vec<Pattern>,
    ) -> Result<Answer, RejectReason> {
        let dialect = request.offer.dialect(&self.subprotocols);
        // Plain messages do not say of which channel they are.
        if !patterns.is_empty() && dialect != Dialect::V1 || patterns.len() > self.max_patterns {
            return Err(RejectReason::BadPattern);
        }
        // Whoever speaks it subscribes later.
        if requests.is_empty() && dialect != Dialect::V1 {
            return Err(RejectReason::BadChannel);
        }
        // RFC 6455 §4.2.1: the method of an opening handshake is GET.
        if request.method != Method::Get {
            return Err(RejectReason::NotWebSocket);
        }
        if request.offer.is_complete() && !self.welcomes(request) {
            return Err(RejectReason::Origin);
        }
        let compresses = || {
            let compresses = |rules: &ChannelRules, name| rules.settings_for(name).compression;
            let names = || requests.iter().map(|request| &request.channel);
            self.compressing.as_ref().is_some_and(|rules| names().any(|name| compresses(rules, name)))
        };
        let accepted = request.offer.accept(&self.subprotocols, compresses)?;
        Ok(Answer::Join(accepted, requests, patterns, dialect))
    }

    /// An event stream.
    fn stream(
        &self,
        request: &Request<'_>,
        mut requests: Vec<SubscribeRequest>,
        dialect: Dialect,
    ) -> Result<Answer, RejectReason> {
        // Who wants a WebSocket could not read it.
        if request.offer.is_hinted() {
            return Err(RejectReason::NoRoute);
        }
        if !self.welcomes(request) {
            return Err(RejectReason::Origin);
        }
        let response = event_stream::head(Reader::of(request, &self.allow_origin));
        if request.method == Method::Head {
            return Ok(Answer::StreamHead(response));
        }
        if let Some(last) = request.last_event_id.and_then(|id| std::str::from_utf8(id).ok()) {
            // What an EventSource sends it cannot correct: one that is malformed says nothing.
            let _ = begin_after(&mut requests, last);
        }
        let accepted = Accepted { response, compression: Compression::Declined };
        Ok(Answer::Join(accepted, requests, Vec::new(), dialect))
    }
}
