//! The three ways to publish over HTTP.
//!
//! All messages of a request are checked first and then pushed to the bus, those for one home together: nothing of others
//! comes between those of one channel, and if the home's lane is full none of them is taken, so that a channel never gets
//! the second message without the first. The reply waits until every message that was taken has its number, and says of
//! each whether it was.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::Response;
use tokio::time::timeout;

use super::message::{self, Message};
use super::refusal::{self, Refusal, Refused};
use super::{Admin, body, routes, terms};
use crate::feeds::{PendingReceipt, Terms};
use crate::model::{ChannelName, PayloadKind, Publication, Receipt};

/// `POST /publish/{channel}?key=&ttl=`.
pub async fn raw(
    admin: &Admin,
    name: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let channel = channel_in_path(name)?;
    if channel.is_reserved() {
        return Err(Refusal::BadChannel.into());
    }
    let terms = Terms { idempotency_key: terms::idempotency_key(headers)?, ..terms::of_query(query)? };
    check_encoding(headers)?;
    let payload = body::read(headers, body, admin.patience.body).await?;
    let _held = admin.memory.hold(payload.len());
    let kind = match (declared(headers), std::str::from_utf8(&payload).is_ok()) {
        (Declared::Text | Declared::Json | Declared::Nothing, true) => PayloadKind::Text,
        (Declared::Binary, _) | (Declared::Nothing, false) => PayloadKind::Binary,
        (Declared::Text | Declared::Json, false) => return Err(Refusal::BadUtf8.into()),
    };
    if !admin.takes(&channel, kind) {
        return Err(Refusal::TypeUnsupported.into());
    }
    let publication = admin.publisher.encode(channel, kind, &payload, &terms).map_err(Refusal::from)?;
    only(publish_all(admin, vec![publication]).await)
}

/// `POST /api/publish`.
pub async fn json(admin: &Admin, headers: &HeaderMap, body: Body) -> Result<Response, Refused> {
    let body = json_body(admin, headers, body).await?;
    let _held = admin.memory.hold(body.len());
    let mut request = message::parse_publish(&body)?;
    if let Some(key) = terms::idempotency_key(headers)?
        && request.message.terms.idempotency_key.replace(key).is_some()
    {
        return Err(Refusal::BadIdempotencyKey.into());
    }
    let messages = vec![request.message];
    let blame = |refused: Refused| if request.wants_list { refused } else { refused.refusal.into() };
    check_types(admin, &messages).map_err(blame)?;
    let outcomes = publish_all(admin, encode_all(admin, messages)?).await;
    if request.wants_list { Ok(list(admin, &outcomes)) } else { only(outcomes) }
}

/// `POST /api/batch`.
pub async fn batch(admin: &Admin, headers: &HeaderMap, body: Body) -> Result<Response, Refused> {
    let body = json_body(admin, headers, body).await?;
    let _held = admin.memory.hold(body.len());
    if terms::idempotency_key(headers)?.is_some() {
        // It cannot name each of them.
        return Err(Refusal::BadIdempotencyKey.into());
    }
    let messages = message::parse_batch(&body)?;
    check_types(admin, &messages)?;
    Ok(list(admin, &publish_all(admin, encode_all(admin, messages)?).await))
}

/// Refuses texts for channels that take none, and says which: counted over the messages, or the channels of one.
fn check_types(admin: &Admin, messages: &[Message<'_>]) -> Result<(), Refused> {
    let mut channels = messages.iter().flat_map(|message| &message.channels);
    match channels.position(|channel| !admin.takes(channel, PayloadKind::Text)) {
        Some(index) => Err(Refused::from(Refusal::TypeUnsupported).of(index)),
        None => Ok(()),
    }
}

type Outcomes = Vec<(ChannelName, Result<Receipt, Refusal>)>;

fn encode_all(admin: &Admin, messages: Vec<Message<'_>>) -> Result<Vec<Publication>, Refusal> {
    let mut publications = Vec::with_capacity(messages.len());
    for Message { channels, text, terms } in messages {
        let encoded = admin.publisher.encode_for(channels, PayloadKind::Text, text.as_bytes(), &terms)?;
        publications.extend(encoded);
    }
    Ok(publications)
}

/// Pushes everything, waits for every number.
async fn publish_all(admin: &Admin, publications: Vec<Publication>) -> Outcomes {
    let channels: Vec<_> = publications.iter().map(|publication| publication.channel.clone()).collect();
    let offers = admin.publisher.offer_together(publications);
    let mut outcomes = Vec::with_capacity(channels.len());
    for (channel, offer) in channels.into_iter().zip(offers) {
        let outcome = match offer {
            Ok(pending) => confirm(admin, pending).await,
            Err(error) => Err(error.into()),
        };
        outcomes.push((channel, outcome));
    }
    outcomes
}

async fn confirm(admin: &Admin, pending: PendingReceipt) -> Result<Receipt, Refusal> {
    let outcome = timeout(admin.patience.receipt, pending.wait()).await;
    Ok(outcome.map_err(|_| Refusal::Unconfirmed)??)
}

/// The answer to a request for one channel.
fn only(mut outcomes: Outcomes) -> Result<Response, Refused> {
    let (channel, outcome) = outcomes.pop().ok_or(Refusal::Invalid)?;
    Ok(routes::json(result(&channel, Ok(outcome?))))
}

/// All results: 200 if every message was taken and numbered, else the status of the first that was not.
fn list(admin: &Admin, outcomes: &Outcomes) -> Response {
    let rows: Vec<_> = outcomes.iter().map(|(channel, outcome)| result(channel, *outcome)).collect();
    let rows = rows.join(",");
    let mut refusals = outcomes.iter().filter_map(|(_, outcome)| outcome.err()).peekable();
    let first = refusals.peek().copied();
    refusals.for_each(|refusal| admin.counters.count_refusal(refusal));
    match first {
        None => routes::json(format!("{{\"results\":[{rows}]}}")),
        Some(refused) => {
            let fields = refusal::fields(refused);
            refusal::respond(refused, format!("{{{fields},\"results\":[{rows}]}}\n"))
        }
    }
}

/// One result as JSON. Channel names, positions and tokens hold no character to escape.
fn result(channel: &ChannelName, outcome: Result<Receipt, Refusal>) -> String {
    let mut row = String::with_capacity(128);
    let written = match outcome {
        Ok(Receipt { position, subscribers, is_duplicate }) => write!(
            row,
            "{{\"channel\":\"{channel}\",\"position\":\"{position}\",\"subscribers\":{subscribers}{}}}",
            if is_duplicate { ",\"duplicate\":true" } else { "" }
        ),
        Err(refusal) => write!(row, "{{\"channel\":\"{channel}\",{}}}", refusal::fields(refusal)),
    };
    debug_assert!(written.is_ok(), "writing to a string does not fail");
    row
}

async fn json_body(admin: &Admin, headers: &HeaderMap, body: Body) -> Result<axum::body::Bytes, Refusal> {
    check_encoding(headers)?;
    match declared(headers) {
        Declared::Json | Declared::Nothing => body::read(headers, body, admin.patience.body).await,
        Declared::Text | Declared::Binary => Err(Refusal::MediaType),
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Refusal::MediaType),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Declared {
    Nothing,
    Text,
    Json,
    Binary,
}

/// What the content type says. `curl -d` says a form where nothing was meant.
fn declared(headers: &HeaderMap) -> Declared {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Declared::Nothing };
    let value = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = value.split(';').next().unwrap_or_default().trim();
    match essence {
        "" | "application/x-www-form-urlencoded" => Declared::Nothing,
        "application/json" => Declared::Json,
        essence if essence.starts_with("application/") && essence.ends_with("+json") => Declared::Json,
        essence if essence.starts_with("text/") => Declared::Text,
        _ => Declared::Binary,
    }
}

/// The channel as the path names it, percent-encoded or not.
pub fn channel_in_path(name: &str) -> Result<ChannelName, Refusal> {
    let decoded = percent_decoded(name).ok_or(Refusal::BadChannel)?;
    ChannelName::parse(&decoded).map_err(|_| Refusal::BadChannel)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)?;
        decoded.push(char::from(byte));
        decoded.push_str(part.get(2..)?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_in_the_path_may_be_percent_encoded() {
        assert_eq!(percent_decoded("news%3Aeu%2e1").as_deref(), Some("news:eu.1"));
        for bad in ["%", "%3", "%zz", "%ff", "%+1", "%\u{e4}1"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
        assert_eq!(channel_in_path("a%2fb"), Err(Refusal::BadChannel));
        assert_eq!(channel_in_path(""), Err(Refusal::BadChannel));
    }

    #[test]
    fn the_content_type_says_what_is_meant() {
        for (value, meant) in [
            ("text/plain; charset=utf-8", Declared::Text),
            ("Application/JSON", Declared::Json),
            ("application/vnd.api+json", Declared::Json),
            ("application/x-www-form-urlencoded", Declared::Nothing),
            ("application/octet-stream", Declared::Binary),
            ("image/png", Declared::Binary),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(declared(&headers), meant, "{value}");
        }
        assert_eq!(declared(&HeaderMap::new()), Declared::Nothing);
    }
}
