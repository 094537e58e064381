//! Why the admin listener refuses: the closed vocabulary, with its statuses and fixed texts.
//!
//! The body is always `{"error":"token","message":"cause and cure"}`; nothing of a library, an address or a request
//! appears in it (GUARANTEES J8). A batch says with `index` which of its messages was wrong, and a publish as JSON with
//! `detail` which key.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use crate::feeds::PublishError;

/// Longest stated delay in seconds before a client tries again; the delay is drawn evenly from 1 up.
const RETRY_AFTER_SECONDS_MAX: u32 = 5;

macro_rules! vocabulary {
    ($($(#[$doc:meta])* $variant:ident = $status:literal, $token:literal, $message:literal;)*) => {
        /// One way to be refused.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Refusal { $($(#[$doc])* $variant),* }

        impl Refusal {
            /// Every member, in the order of declaration; its index is the place of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// The token: the same in answers, metrics and logs.
            pub const fn token(self) -> &'static str {
                match self { $(Self::$variant => $token),* }
            }

            /// Cause and cure, for the caller.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }
        }
    };
}

vocabulary! {
    /// Not a channel name.
    BadChannel = 400, "bad_channel",
        "not a channel name: use 1 to 255 characters A-Z a-z 0-9 _ - . : without empty segments";
    /// Declared as text, but not UTF-8.
    BadUtf8 = 400, "utf8",
        "the body is declared as text and is not UTF-8: send UTF-8, or declare application/octet-stream";
    /// Not JSON.
    BadJson = 400, "bad_json", "the body is not valid JSON: send one complete JSON value";
    /// A request's parameters are wrong.
    BadQuery = 400, "bad_query",
        "not parameters of this route: a page has limit=1..1000 and after= with the `next` of the page before, a publish key= and ttl=";
    /// Not a message key.
    BadKey = 400, "bad_key", "not a key: use 1 to 128 bytes of UTF-8 without control characters";
    /// Not a time to live.
    BadTtl = 400, "bad_ttl", "not a time to live: use 1ms to 30d with its unit, or in JSON the milliseconds";
    /// Not an idempotency key, or in the wrong place.
    BadIdempotencyKey = 400, "bad_idempotency_key",
        "not an idempotency key: send 1 to 128 printable ASCII characters once, and in a batch one with each message";
    /// No host header.
    HostMissing = 400, "host_missing", "the Host header is missing, repeated or malformed: send one";
    /// A host name that a foreign page could have pointed here (GUARANTEES J2).
    Host = 403, "host", "this host name is not served here: call the admin listener by IP address or as localhost";
    /// A browser page of another origin (GUARANTEES J2).
    Origin = 403, "origin", "requests of browser pages from elsewhere are refused: publish through your own server";
    /// No such route.
    NoRoute = 404, "no_route", "no such route: GET / lists them";
    /// The route exists, the method does not.
    Method = 405, "method", "not a method of this route: use one that the Allow header names";
    /// The channel has neither subscribers nor retained messages.
    NoChannel = 404, "no_channel", "no such channel: it begins with its first subscriber or message, and ends with the last";
    /// The key has been used for another message (GUARANTEES E8).
    IdempotencyConflict = 409, "idempotency_conflict",
        "another message was published under this idempotency key within 5 min: send a new key with a new message";
    /// The body did not arrive in time (GUARANTEES C19).
    BodyTimeout = 408, "body_timeout", "the body did not arrive within 10 s: send it without pauses";
    /// More than a publish may carry (GUARANTEES C19).
    BodyTooBig = 413, "body_too_big", "too much in one request: send at most 1 MiB and at most 1000 messages";
    /// The body is encoded or typed in a way that is not understood.
    MediaType = 415, "media_type",
        "not a media type of this route: send the body without Content-Encoding, JSON as application/json";
    /// Text where the channel takes binary alone, or the reverse.
    TypeUnsupported = 415, "type_unsupported",
        "the channel takes only text, or only binary: declare text/plain or JSON, or application/octet-stream";
    /// JSON, but not what the route takes.
    Invalid = 422, "invalid",
        "valid JSON, but not this request: /api/publish takes {\"channel\" or \"channels\",\"data\"}, /api/batch a list of {\"channel\",\"data\"}";
    /// The home shard's lane is full.
    Overloaded = 503, "overloaded", "the channel's shard is overloaded and did not take the message: publish it again after the stated delay";
    /// The process is short of memory (GUARANTEES C7).
    Memory = 503, "memory", "the gateway is short of memory: try again after the stated delay; the operator can raise --memory";
    /// The bus took the message, but its number did not come.
    Unconfirmed = 503, "unconfirmed",
        "the message was taken but not confirmed in time: it may still be delivered";
    /// The process ends.
    Draining = 503, "draining", "the gateway is being stopped: use another one";
    /// No descriptor is left for connections.
    DescriptorsExhausted = 503, "fd_exhausted",
        "no descriptor is left for new connections: raise the descriptor limit or lower --max-connections";
    /// A shard does not answer.
    ShardStuck = 503, "shard_stuck", "a shard does not answer: try again after the stated delay; restart if it lasts";
}

impl Refusal {
    /// Index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether what is left of the body must not be taken for the next request.
    const fn closes(self) -> bool {
        matches!(self, Self::BodyTimeout | Self::BodyTooBig)
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Overloaded => Self::Overloaded,
            PublishError::Memory => Self::Memory,
            PublishError::TooBig => Self::BodyTooBig,
            PublishError::Conflict => Self::IdempotencyConflict,
            PublishError::Closed => Self::Draining,
        }
    }
}

/// A refused request: why, and which message of a batch was to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// Place in the batch, from 0.
    pub index: Option<usize>,
    /// What exactly is wrong, with the key to blame: fixed text without a character to escape.
    pub detail: Option<&'static str>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, index: None, detail: None }
    }
}

impl Refused {
    /// The same, of the message at `index` of a batch.
    pub fn of(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// The whole answer.
    pub fn into_response(self) -> Response {
        let index = self.index.map(|index| format!(",\"index\":{index}")).unwrap_or_default();
        let detail = self.detail.map(|detail| format!(",\"detail\":\"{detail}\"")).unwrap_or_default();
        respond(self.refusal, format!("{{{}{detail}{index}}}\n", fields(self.refusal)))
    }
}

/// The `error` and `message` members, without braces.
pub fn fields(refusal: Refusal) -> String {
    // The messages are fixed and hold no character to escape but the quotes that serde_json takes care of.
    let message = serde_json::Value::from(refusal.message());
    format!("\"error\":\"{}\",\"message\":{message}", refusal.token())
}

/// An answer with the status and headers of `refusal` and the JSON `body`.
pub fn respond(refusal: Refusal, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if refusal.status() == 503 {
        let seconds = rand::random_range(1..=RETRY_AFTER_SECONDS_MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j8_every_text_is_fixed_short_and_free_of_addresses_paths_and_crate_names() {
        for (index, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.index(), index);
            assert!((400..600).contains(&refusal.status()));
            let text = format!("{} {}", refusal.token(), refusal.message());
            assert!(text.is_ascii() && text.len() < 200, "{text}");
            for leak in ["serde", "hyper", "axum", "tokio", "line ", "column", "src/", "/proc", "127.", "::"]
            {
                assert!(!text.contains(leak), "{text} names {leak}");
            }
            let body = format!("{{{}}}", fields(*refusal));
            let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(parsed["message"], refusal.message());
        }
    }
}
