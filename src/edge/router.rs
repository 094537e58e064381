//! Where a target leads: the one routing function, for plain and upgrade requests alike (GUARANTEES A16).
//!
//! | Target | Route |
//! |---|---|
//! | `/`, `/?channel=NAME` | the demo page, or a WebSocket on the default (or that) channel |
//! | `/ws/NAME`, `/ws?channels=NAME,NAME` | a WebSocket on the named channels |
//! | `/page.js`, `/page.css`, `/favicon.svg` | what the page is made of |
//!
//! Names are decoded once, everything else is compared as it came; nothing here is a path of a file (GUARANTEES A17).

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::page::Asset;
use crate::config::limits::CHANNELS_PER_CONNECTION_MAX;
use crate::model::{ChannelName, RejectReason};

/// A place that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// The page or its WebSocket; `None` is the default channel.
    Home(Option<ChannelName>),
    /// A part of the page.
    Asset(Asset),
    /// A WebSocket on these channels: 1 to 128, no duplicates, in the order named.
    Channels(Vec<ChannelName>),
}

/// Where `target` (path and query) leads. Allocates the channel names only.
///
/// # Errors
/// `NoRoute`, `BadChannel` or `ChannelLimit`, to be answered.
pub(super) fn route(target: &str) -> Result<Route, RejectReason> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        // An absolute target may come without a path.
        "/" | "" => home(query),
        "/ws" => channels_of(query),
        _ => match path.strip_prefix("/ws/") {
            Some(name) => Ok(Route::Channels(vec![channel_segment(name)?])),
            None => Asset::at(path).map(Route::Asset).ok_or(RejectReason::NoRoute),
        },
    }
}

fn home(query: &str) -> Result<Route, RejectReason> {
    let Some(raw) = parameters(query, "channel").next() else { return Ok(Route::Home(None)) };
    Ok(Route::Home(Some(channel_name(&percent_decoded(raw)?)?)))
}

fn channels_of(query: &str) -> Result<Route, RejectReason> {
    let mut seen = BTreeSet::new();
    let mut channels = Vec::new();
    for raw in parameters(query, "channels") {
        for name in percent_decoded(raw)?.split(',') {
            let channel = channel_name(name)?;
            if seen.contains(&channel) {
                continue;
            }
            if channels.len() == CHANNELS_PER_CONNECTION_MAX {
                return Err(RejectReason::ChannelLimit);
            }
            seen.insert(channel.clone());
            channels.push(channel);
        }
    }
    if channels.is_empty() { Err(RejectReason::BadChannel) } else { Ok(Route::Channels(channels)) }
}

/// The values of every parameter called `name`, still encoded.
fn parameters<'a>(query: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| pair.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
}

/// The last segment of `/ws/NAME`. What looks like a path is no channel but a place that does not exist.
fn channel_segment(segment: &str) -> Result<ChannelName, RejectReason> {
    let name = percent_decoded(segment)?;
    if matches!(&*name, "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(RejectReason::NoRoute);
    }
    channel_name(&name)
}

fn channel_name(name: &str) -> Result<ChannelName, RejectReason> {
    ChannelName::parse(name).map_err(|_| RejectReason::BadChannel)
}

/// One pass of percent-decoding; names are ASCII, so that anything else than an encoded ASCII byte is refused.
fn percent_decoded(text: &str) -> Result<Cow<'_, str>, RejectReason> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            decoded.push(character);
            continue;
        }
        let byte = hex_digit(characters.next())? * 16 + hex_digit(characters.next())?;
        if !byte.is_ascii() {
            return Err(RejectReason::BadChannel);
        }
        decoded.push(char::from(byte));
    }
    Ok(Cow::Owned(decoded))
}

fn hex_digit(character: Option<char>) -> Result<u8, RejectReason> {
    character
        .and_then(|character| character.to_digit(16))
        .and_then(|digit| u8::try_from(digit).ok())
        .ok_or(RejectReason::BadChannel)
}
