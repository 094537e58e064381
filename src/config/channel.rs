//! What holds for a channel: history, lag policy, relay, compression; set for all and per pattern, the last match wins
//! per key.

use std::time::Duration;

use crate::model::{ChannelName, Pattern, PayloadKind};

/// What happens to a subscriber that is further behind than its channel allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LagPolicy {
    /// Close it with 4101 `slow_consumer`.
    Disconnect,
    /// Move its cursor to the newest message and count what it missed.
    Skip,
}

/// Which messages a channel takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageType {
    /// Text and binary.
    Any,
    /// Text alone.
    Text,
    /// Binary alone.
    Binary,
}

impl MessageType {
    /// Whether a message of this `kind` is taken.
    pub const fn takes(self, kind: PayloadKind) -> bool {
        match self {
            Self::Any => true,
            Self::Text => matches!(kind, PayloadKind::Text),
            Self::Binary => matches!(kind, PayloadKind::Binary),
        }
    }
}

/// The effective settings of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelSettings {
    /// Most messages kept for those who come later; 0: none.
    pub history_messages: u64,
    /// Most encoded bytes kept for those who come later.
    pub history_bytes: u64,
    /// Oldest message kept for those who come later.
    pub history_age: Duration,
    /// What happens to a subscriber beyond the lag limits.
    pub on_lag: LagPolicy,
    /// Most encoded bytes a subscriber may be behind; the journal holds no more than this for slow readers.
    pub max_lag_bytes: u64,
    /// Longest time a subscriber's oldest waiting message, or its unmoving socket, may be behind.
    pub max_lag_age: Duration,
    /// Whether what a subscriber sends goes to the other subscribers.
    pub relay: bool,
    /// Whether clients that offer permessage-deflate get messages deflated (RFC 7692).
    pub compression: bool,
    /// How hard the compressor tries, 1 to 9 as zlib counts.
    pub compression_level: u64,
    /// Smallest message that is deflated, in bytes of its payload.
    pub compression_min_size: u64,
    /// Most deflated messages of one epoch: then the compressor starts afresh, and who waits gets on.
    pub compression_epoch: u64,
    /// Which messages are taken, from subscribers and publishers alike.
    pub message_type: MessageType,
}

impl Default for ChannelSettings {
    fn default() -> Self {
        Self {
            history_messages: 0,
            history_bytes: 1024 * 1024,
            history_age: Duration::from_secs(60),
            on_lag: LagPolicy::Disconnect,
            max_lag_bytes: 1024 * 1024,
            max_lag_age: Duration::from_secs(10),
            relay: false,
            compression: false,
            compression_level: 1,
            compression_min_size: 32,
            compression_epoch: 64,
            message_type: MessageType::Any,
        }
    }
}

/// Overrides for the channels that a pattern covers; `None` leaves a key as it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelRule {
    /// Which channels.
    pub pattern: Pattern,
    /// See [`ChannelSettings::history_messages`].
    pub history_messages: Option<u64>,
    /// See [`ChannelSettings::history_bytes`].
    pub history_bytes: Option<u64>,
    /// See [`ChannelSettings::history_age`].
    pub history_age: Option<Duration>,
    /// See [`ChannelSettings::on_lag`].
    pub on_lag: Option<LagPolicy>,
    /// See [`ChannelSettings::max_lag_bytes`].
    pub max_lag_bytes: Option<u64>,
    /// See [`ChannelSettings::max_lag_age`].
    pub max_lag_age: Option<Duration>,
    /// See [`ChannelSettings::relay`].
    pub relay: Option<bool>,
    /// See [`ChannelSettings::compression`].
    pub compression: Option<bool>,
    /// See [`ChannelSettings::compression_level`].
    pub compression_level: Option<u64>,
    /// See [`ChannelSettings::compression_min_size`].
    pub compression_min_size: Option<u64>,
    /// See [`ChannelSettings::compression_epoch`].
    pub compression_epoch: Option<u64>,
    /// See [`ChannelSettings::message_type`].
    pub message_type: Option<MessageType>,
}

impl ChannelRule {
    /// A rule for `pattern` that overrides nothing yet.
    pub const fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            history_messages: None,
            history_bytes: None,
            history_age: None,
            on_lag: None,
            max_lag_bytes: None,
            max_lag_age: None,
            relay: None,
            compression: None,
            compression_level: None,
            compression_min_size: None,
            compression_epoch: None,
            message_type: None,
        }
    }

    fn apply(&self, settings: &mut ChannelSettings) {
        let Self {
            pattern: _,
            history_messages,
            history_bytes,
            history_age,
            on_lag,
            max_lag_bytes,
            max_lag_age,
            relay,
            compression,
            compression_level,
            compression_min_size,
            compression_epoch,
            message_type,
        } = self;
        settings.history_messages = history_messages.unwrap_or(settings.history_messages);
        settings.history_bytes = history_bytes.unwrap_or(settings.history_bytes);
        settings.history_age = history_age.unwrap_or(settings.history_age);
        settings.on_lag = on_lag.unwrap_or(settings.on_lag);
        settings.max_lag_bytes = max_lag_bytes.unwrap_or(settings.max_lag_bytes);
        settings.max_lag_age = max_lag_age.unwrap_or(settings.max_lag_age);
        settings.relay = relay.unwrap_or(settings.relay);
        settings.compression = compression.unwrap_or(settings.compression);
        settings.compression_level = compression_level.unwrap_or(settings.compression_level);
        settings.compression_min_size = compression_min_size.unwrap_or(settings.compression_min_size);
        settings.compression_epoch = compression_epoch.unwrap_or(settings.compression_epoch);
        settings.message_type = message_type.unwrap_or(settings.message_type);
    }
}

/// The settings of every channel: a base, then rules in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChannelRules {
    /// What holds where no rule says otherwise.
    pub base: ChannelSettings,
    /// In the order of the configuration; a later one wins key by key.
    pub rules: Vec<ChannelRule>,
}

impl ChannelRules {
    /// What holds for `channel`. Linear in the rules: ask once per channel, not per message.
    pub fn settings_for(&self, channel: &ChannelName) -> ChannelSettings {
        let mut settings = self.base;
        for rule in self.rules.iter().filter(|rule| rule.pattern.matches(channel)) {
            rule.apply(&mut settings);
        }
        settings
    }

    /// Whether some channel takes messages of one type alone.
    pub fn restricts_types(&self) -> bool {
        let is_of_one = |kind: &MessageType| *kind != MessageType::Any;
        is_of_one(&self.base.message_type)
            || self.rules.iter().any(|rule| rule.message_type.as_ref().is_some_and(is_of_one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_rule_wins_key_by_key() {
        let mut all = ChannelRule::new(Pattern::parse(">").unwrap());
        all.history_messages = Some(10);
        all.relay = Some(true);
        let mut news = ChannelRule::new(Pattern::parse("news.*").unwrap());
        news.history_messages = Some(500);
        let rules = ChannelRules { base: ChannelSettings::default(), rules: vec![all, news] };
        let eu = rules.settings_for(&ChannelName::parse("news.eu").unwrap());
        assert_eq!((eu.history_messages, eu.relay, eu.on_lag), (500, true, LagPolicy::Disconnect));
        assert_eq!(rules.settings_for(&ChannelName::parse("chat").unwrap()).history_messages, 10);
    }
}
