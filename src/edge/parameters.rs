//! Query parameters of the routes that are joined: which channels, from where on, and how. The one place that reads them.
//!
//! | Parameter | Value |
//! |---|---|
//! | `channel` | a name |
//! | `channels` | names and patterns, split by commas; may repeat, duplicates are merged |
//! | `since` | a position for each channel, in their order, split by commas; an empty one begins with the next message |
//! | `snapshot` | `1` or `true`, `0` or `false` |
//! | `max_rate` | `1/s` to `1000/s` |
//!
//! Values are percent-decoded once, then split; names of parameters are compared as they came. Each but `channels` stands
//! at most once. Unknown ones are ignored.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::config::limits::{CHANNELS_PER_CONNECTION_MAX, PATTERNS_PER_CONNECTION_MAX, SUBSCRIBER_RATE_MAX};
use crate::model::{ChannelName, Pattern, Position, RejectReason, SubscribeRequest};

/// The parameters of one query, still encoded. Borrows from the head.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Parameters<'a> {
    query: &'a str,
    channel: Option<&'a str>,
    since: Option<&'a str>,
    snapshot: Option<&'a str>,
    max_rate: Option<&'a str>,
}

impl<'a> Parameters<'a> {
    /// Finds the parameters in `query`. Linear in it, nothing allocated.
    ///
    /// # Errors
    /// `BadParameter` when one that may stand once stands twice, equal values too.
    pub(super) fn find(query: &'a str) -> Result<Self, RejectReason> {
        let mut found = Self { query, ..Self::default() };
        if query.is_empty() {
            return Ok(found);
        }
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let place = match name {
                "channel" => &mut found.channel,
                "since" => &mut found.since,
                "snapshot" => &mut found.snapshot,
                "max_rate" => &mut found.max_rate,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(RejectReason::BadParameter);
            }
        }
        Ok(found)
    }

    /// The one channel that is named, if one is.
    ///
    /// # Errors
    /// `BadChannel`.
    pub(super) fn channel(&self) -> Result<Option<ChannelName>, RejectReason> {
        let decoded = |raw| percent_decoded(raw).ok_or(RejectReason::BadChannel);
        self.channel.map(|raw| channel_name(&decoded(raw)?)).transpose()
    }

    /// The channels that are listed, and the patterns, at most 128 each: no duplicates, in the order named; none if
    /// there is no list.
    ///
    /// # Errors
    /// `BadChannel`, for an empty list and an empty item too, `ChannelLimit` or `BadPattern`.
    pub(super) fn channels(&self) -> Result<(Vec<ChannelName>, Vec<Pattern>), RejectReason> {
        let mut seen = BTreeSet::new();
        let mut channels = Vec::new();
        let mut patterns = Vec::new();
        for raw in self.query.split('&').filter_map(|pair| pair.strip_prefix("channels=")) {
            for name in percent_decoded(raw).ok_or(RejectReason::BadChannel)?.split(',') {
                if Pattern::is_meant_by(name) {
                    let pattern = Pattern::parse(name).map_err(|_| RejectReason::BadPattern)?;
                    if patterns.contains(&pattern) {
                        continue;
                    }
                    if patterns.len() == PATTERNS_PER_CONNECTION_MAX {
                        return Err(RejectReason::BadPattern);
                    }
                    patterns.push(pattern);
                    continue;
                }
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
        Ok((channels, patterns))
    }

    /// Whether it is said where channels begin or how they are read, which patterns do not have.
    pub(super) const fn has_terms(&self) -> bool {
        self.since.is_some() || self.snapshot.is_some() || self.max_rate.is_some()
    }

    /// What is asked of `channels`: the other parameters hold for each of them.
    ///
    /// # Errors
    /// `BadPosition` or `BadParameter`.
    pub(super) fn requests_for(
        &self,
        channels: impl IntoIterator<Item = ChannelName>,
    ) -> Result<Vec<SubscribeRequest>, RejectReason> {
        let wants_snapshot = self.wants_snapshot()?;
        let rate_max = self.rate_max()?;
        let request =
            |channel| SubscribeRequest { wants_snapshot, rate_max, ..SubscribeRequest::live(channel) };
        let mut requests: Vec<_> = channels.into_iter().map(request).collect();
        if let Some(raw) = self.since {
            let since = percent_decoded(raw).ok_or(RejectReason::BadPosition)?;
            begin_after(&mut requests, &since)?;
        }
        Ok(requests)
    }

    fn wants_snapshot(&self) -> Result<bool, RejectReason> {
        let Some(raw) = self.snapshot else { return Ok(false) };
        match percent_decoded(raw).as_deref() {
            Some("1" | "true") => Ok(true),
            Some("0" | "false") => Ok(false),
            _ => Err(RejectReason::BadParameter),
        }
    }

    fn rate_max(&self) -> Result<u16, RejectReason> {
        let Some(raw) = self.max_rate else { return Ok(0) };
        let decoded = percent_decoded(raw).ok_or(RejectReason::BadParameter)?;
        let digits = decoded
            .strip_suffix("/s")
            .filter(|digits| digits.starts_with(|first| matches!(first, '1'..='9')));
        let rate = digits.and_then(|digits| digits.parse().ok());
        rate.filter(|rate| (1..=SUBSCRIBER_RATE_MAX).contains(rate)).ok_or(RejectReason::BadParameter)
    }
}

/// Sets after which messages `requests` begin: `text` has a position for each, in their order, split by commas; one that is
/// left empty begins with the next message.
///
/// # Errors
/// `BadPosition` when `text` is anything else; then nothing is set.
pub(super) fn begin_after(requests: &mut [SubscribeRequest], text: &str) -> Result<(), RejectReason> {
    let items = text.split(',').take(requests.len() + 1);
    let position = |item: &str| if item.is_empty() { Ok(None) } else { item.parse().map(Some) };
    let positions: Result<Vec<Option<Position>>, _> = items.map(position).collect();
    let positions = positions.map_err(|_| RejectReason::BadPosition)?;
    if positions.len() != requests.len() {
        return Err(RejectReason::BadPosition);
    }
    for (request, since) in requests.iter_mut().zip(positions) {
        request.since = since;
    }
    Ok(())
}

/// The channel that is called `name`.
///
/// # Errors
/// `BadChannel` when none can be; `BadPattern` when it is one.
pub(super) fn channel_name(name: &str) -> Result<ChannelName, RejectReason> {
    let is_pattern = Pattern::is_meant_by(name);
    let reason = if is_pattern { RejectReason::BadPattern } else { RejectReason::BadChannel };
    ChannelName::parse(name).map_err(|_| reason)
}

/// One pass of percent-decoding. Whatever is written here is ASCII: anything else than an encoded ASCII byte is `None`.
pub(super) fn percent_decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
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
            return None;
        }
        decoded.push(char::from(byte));
    }
    Some(Cow::Owned(decoded))
}

fn hex_digit(character: Option<char>) -> Option<u8> {
    character?.to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
