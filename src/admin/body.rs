//! Reads a request body within its bounds: bytes and time (GUARANTEES C19).
//!
//! A body that is too big is refused by its declared length before a byte of it is kept. What the caller is still
//! sending is then read and thrown away, up to a bound, because a caller that is cut off while it sends sees a reset
//! instead of the answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, EXPECT};

use super::refusal::Refusal;
use crate::config::limits::PUBLISH_BYTES_MAX;

/// Bytes of an oversized body that are read and thrown away; beyond, the caller is cut off.
const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The whole body, at most [`PUBLISH_BYTES_MAX`] bytes. A body that comes in one piece is not copied.
///
/// # Errors
/// [`Refusal::BodyTooBig`], or [`Refusal::BodyTimeout`] when it is not complete within `timeout` or breaks off.
pub async fn read(headers: &HeaderMap, body: Body, timeout: Duration) -> Result<Bytes, Refusal> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_too_big = declared.is_some_and(|length| length > PUBLISH_BYTES_MAX as u64);
    if is_too_big && headers.contains_key(EXPECT) {
        // The caller waits for leave to send: it gets the answer instead.
        return Err(Refusal::BodyTooBig);
    }
    let whole = async {
        if is_too_big {
            return discard(body).await;
        }
        collect(body).await
    };
    tokio::time::timeout(timeout, whole).await.unwrap_or(Err(Refusal::BodyTimeout))
}

async fn collect(mut body: Body) -> Result<Bytes, Refusal> {
    let Some(first) = next_piece(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() <= PUBLISH_BYTES_MAX && body.is_end_stream() {
        return Ok(first);
    }
    let mut whole = Vec::from(first);
    loop {
        if whole.len() > PUBLISH_BYTES_MAX {
            drop(whole);
            return discard(body).await;
        }
        match next_piece(&mut body).await? {
            Some(piece) => whole.extend_from_slice(&piece),
            None => return Ok(Bytes::from(whole)),
        }
    }
}

async fn discard(mut body: Body) -> Result<Bytes, Refusal> {
    let mut discarded = 0;
    while discarded < DISCARDED_BYTES_MAX {
        match next_piece(&mut body).await {
            Ok(Some(piece)) => discarded += piece.len(),
            Ok(None) | Err(_) => break,
        }
    }
    Err(Refusal::BodyTooBig)
}

/// The next bytes, `None` at the end. A caller that hangs up ends its request; nobody reads the answer.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Refusal::BodyTimeout),
            Some(Ok(frame)) => {
                // Trailers carry nothing for us.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
