//! Where a target leads: the one routing function, for plain and upgrade requests alike (GUARANTEES A16).
//!
//! | Target | Route |
//! |---|---|
//! | `/`, `/?channel=NAME` | the demo page, or a WebSocket on the default (or that) channel |
//! | `/ws/NAME`, `/ws?channels=NAME,NAME`, `/ws` | a WebSocket on the named channels, and on what patterns match |
//! | `/sse/NAME`, `/sse?channels=NAME,NAME` | an event stream of the named channels |
//! | `/page.js`, `/tidegate.js`, `/page.css`, `/favicon.svg` | what the page is made of |
//!
//! Names are decoded once, everything else is compared as it came; nothing here is a path of a file (GUARANTEES A17).
//! What a query says is `parameters.rs`' business.

use super::page::Asset;
use super::parameters::{Parameters, channel_name, percent_decoded};
use crate::model::{ChannelName, Dialect, Pattern, RejectReason, SubscribeRequest};

/// A place that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// The page of a channel, or its WebSocket.
    Home(ChannelName, Vec<SubscribeRequest>),
    /// A part of the page.
    Asset(Asset),
    /// A WebSocket on these channels: at most 128, no duplicates, in the order named; none if none is named. And on what
    /// these patterns match.
    Channels(Vec<SubscribeRequest>, Vec<Pattern>),
    /// An event stream of these channels: 1 to 128, no duplicates, in the order named.
    EventStream(Vec<SubscribeRequest>, Dialect),
}

/// Where `target` (path and query) leads; `default_channel` is the one of `/`. Allocates the channel names and requests only.
///
/// # Errors
/// `NoRoute`, `BadChannel`, `ChannelLimit`, `BadPattern`, `BadPosition` or `BadParameter`, to be answered.
pub(super) fn route(target: &str, default_channel: &ChannelName) -> Result<Route, RejectReason> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        // An absolute target may come without a path.
        "/" | "" => home(query, default_channel),
        "/ws" => listed(query).map(|(requests, patterns)| Route::Channels(requests, patterns)),
        // Its id names each of its channels: they are the same from its beginning to its end.
        "/sse" => match listed(query)? {
            (_, patterns) if !patterns.is_empty() => Err(RejectReason::BadPattern),
            (none, _) if none.is_empty() => Err(RejectReason::BadChannel),
            (requests, _) => Ok(Route::EventStream(requests, Dialect::EnvelopedEvents)),
        },
        _ => {
            if let Some(segment) = path.strip_prefix("/ws/") {
                Ok(Route::Channels(named(segment, query)?, Vec::new()))
            } else if let Some(segment) = path.strip_prefix("/sse/") {
                Ok(Route::EventStream(named(segment, query)?, Dialect::Events))
            } else {
                Asset::at(path).map(Route::Asset).ok_or(RejectReason::NoRoute)
            }
        }
    }
}

fn home(query: &str, default_channel: &ChannelName) -> Result<Route, RejectReason> {
    let parameters = Parameters::find(query)?;
    let channel = parameters.channel()?.unwrap_or_else(|| default_channel.clone());
    let requests = parameters.requests_for([channel.clone()])?;
    Ok(Route::Home(channel, requests))
}

/// The channels and patterns that `query` lists.
fn listed(query: &str) -> Result<(Vec<SubscribeRequest>, Vec<Pattern>), RejectReason> {
    let parameters = Parameters::find(query)?;
    let (channels, patterns) = parameters.channels()?;
    if !patterns.is_empty() && parameters.has_terms() {
        return Err(RejectReason::BadPattern);
    }
    Ok((parameters.requests_for(channels)?, patterns))
}

/// The one channel that the last segment of a path names.
fn named(segment: &str, query: &str) -> Result<Vec<SubscribeRequest>, RejectReason> {
    let channel = channel_segment(segment)?;
    Parameters::find(query)?.requests_for([channel])
}

/// The last segment of `/ws/NAME`. What looks like a path is no channel but a place that does not exist.
fn channel_segment(segment: &str) -> Result<ChannelName, RejectReason> {
    let name = percent_decoded(segment).ok_or(RejectReason::BadChannel)?;
    if matches!(&*name, "." | "..") || name.bytes().any(|byte| matches!(byte, b'/' | b'\\' | b'\0')) {
        return Err(RejectReason::NoRoute);
    }
    channel_name(&name)
}
