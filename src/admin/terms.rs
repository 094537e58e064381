//! What a request says of a message beside its payload: its key, how long it lasts, and what the publish is called.
//!
//! `POST /publish/{channel}` has both in its query, `?key=BTC&ttl=5s`, the JSON routes as members, `"key":"BTC","ttl_ms":5000`.

use std::time::Duration;

use axum::http::HeaderMap;

use super::refusal::Refusal;
use crate::config::{limits, units};
use crate::feeds::Terms;
use crate::model::{IdempotencyKey, MessageKey};

/// The header in which a publish is called something.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Reads the query of `/publish/{channel}`: percent-encoded UTF-8, each parameter once.
///
/// # Errors
/// [`Refusal::BadQuery`] for anything but `key` and `ttl`, else as [`key`] and [`ttl`].
pub fn of_query(query: Option<&str>) -> Result<Terms, Refusal> {
    let mut terms = Terms::default();
    for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "key" if terms.key.is_none() => {
                terms.key = Some(key(&decoded(value).ok_or(Refusal::BadKey)?)?);
            }
            "ttl" if terms.ttl.is_none() => {
                let text = decoded(value).ok_or(Refusal::BadTtl)?;
                terms.ttl = Some(ttl(units::parse_duration(&text).map_err(|_| Refusal::BadTtl)?)?);
            }
            _ => return Err(Refusal::BadQuery),
        }
    }
    Ok(terms)
}

/// The idempotency key that a request's headers have, if any.
///
/// # Errors
/// [`Refusal::BadIdempotencyKey`] when it is none, or there are several.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let key = value.to_str().ok().and_then(IdempotencyKey::parse);
            key.map(Some).ok_or(Refusal::BadIdempotencyKey)
        }
        _ => Err(Refusal::BadIdempotencyKey),
    }
}

/// The key that `text` is.
///
/// # Errors
/// [`Refusal::BadKey`].
pub fn key(text: &str) -> Result<MessageKey, Refusal> {
    MessageKey::parse(text).map_err(|_| Refusal::BadKey)
}

/// `ttl`, if a message may last as long.
///
/// # Errors
/// [`Refusal::BadTtl`].
pub fn ttl(ttl: Duration) -> Result<Duration, Refusal> {
    let fits = (limits::DURATION_MIN..=limits::DURATION_MAX).contains(&ttl);
    if fits { Ok(ttl) } else { Err(Refusal::BadTtl) }
}

/// What a query's value stands for; `None` where it is not percent-encoded UTF-8.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<(Option<String>, Option<Duration>), Refusal> {
        let terms = of_query(Some(query))?;
        Ok((terms.key.map(|key| key.as_str().to_owned()), terms.ttl))
    }

    #[test]
    fn a_query_names_key_and_time_to_live_each_once() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (query, key, ttl) in [
            ("", None, None),
            ("key=BTC&ttl=5s", Some("BTC"), seconds(5)),
            ("ttl=30d&key=a%2Bb+%26%c3%a4", Some("a+b &\u{e4}"), seconds(30 * 24 * 3600)),
            ("&key==&", Some("="), None),
            ("ttl=1ms", None, Some(Duration::from_millis(1))),
        ] {
            assert_eq!(read(query), Ok((key.map(str::to_owned), ttl)), "{query}");
        }
        assert_eq!(of_query(None), Ok(Terms::default()));
        let long = format!("key={}", "k".repeat(129));
        for (query, refusal) in [
            ("key=", Refusal::BadKey),
            ("key", Refusal::BadKey),
            ("key=%0a", Refusal::BadKey),
            ("key=%ff", Refusal::BadKey),
            ("key=%4", Refusal::BadKey),
            ("key=%+1", Refusal::BadKey),
            (long.as_str(), Refusal::BadKey),
            ("key=a&key=b", Refusal::BadQuery),
            ("ttl=1s&ttl=1s", Refusal::BadQuery),
            ("Key=a", Refusal::BadQuery),
            ("limit=1", Refusal::BadQuery),
            ("ttl=", Refusal::BadTtl),
            ("ttl=0", Refusal::BadTtl),
            ("ttl=5", Refusal::BadTtl),
            ("ttl=-5s", Refusal::BadTtl),
            ("ttl=30d1ms", Refusal::BadTtl),
            ("ttl=99999999999999999999d", Refusal::BadTtl),
            ("ttl=%zz", Refusal::BadTtl),
        ] {
            assert_eq!(read(query), Err(refusal), "{query}");
        }
    }
}
