//! What holds for a channel: history, lag policy, relay, compression; set for all and per pattern, the last match wins
//! per key.

use std::time::Duration;

use crate::model::{ChannelName, JsonPointer, Pattern, PayloadKind};

/// What happens to a subscriber that is further behind than its channel allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LagPolicy {
    /// Close it with 4101 `slow_consumer`.
    Disconnect,
    /// Move its cursor to the newest message and count what it missed.
    Skip,
    /// Give it only what no later message of the same key supersedes, until it has caught up.
    Conflate,
}

/// What a channel keeps for those who come later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retain {
    /// The newest messages, as the history limits say.
    Window,
    /// Besides, the newest message of every key, whatever its age.
    LatestPerKey,
}

/// Where a message's key comes from when its publisher gives none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum KeySource {
    /// From nowhere.
    #[default]
    None,
    /// From a text payload that is JSON.
    Json(JsonPointer),
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
    /// Encoded bytes behind at which [`LagPolicy::Conflate`] begins for a subscriber.
    pub conflate_enter: u64,
    /// Encoded bytes behind at which it ends again; below `conflate_enter`.
    pub conflate_leave: u64,
    /// What is kept for those who come later.
    pub retain: Retain,
    /// Most keys whose newest message is kept.
    pub keys_per_channel: u64,
    /// Age at which messages whose publisher says nothing else expire; zero: never.
    pub ttl: Duration,
    /// Whether `$occupancy.NAME` tells how many subscribe.
    pub occupancy: bool,
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
            conflate_enter: 64 * 1024,
            conflate_leave: 4 * 1024,
            retain: Retain::Window,
            keys_per_channel: 10_000,
            ttl: Duration::ZERO,
            occupancy: false,
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
    /// See [`ChannelSettings::conflate_enter`].
    pub conflate_enter: Option<u64>,
    /// See [`ChannelSettings::conflate_leave`].
    pub conflate_leave: Option<u64>,
    /// See [`ChannelSettings::retain`].
    pub retain: Option<Retain>,
    /// See [`ChannelSettings::keys_per_channel`].
    pub keys_per_channel: Option<u64>,
    /// See [`ChannelSettings::ttl`].
    pub ttl: Option<Duration>,
    /// See [`ChannelSettings::occupancy`].
    pub occupancy: Option<bool>,
    /// See [`ChannelRules::base_key`].
    pub key: Option<KeySource>,
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
            conflate_enter: None,
            conflate_leave: None,
            retain: None,
            keys_per_channel: None,
            ttl: None,
            occupancy: None,
            key: None,
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
            conflate_enter,
            conflate_leave,
            retain,
            keys_per_channel,
            ttl,
            occupancy,
            key: _,
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
        settings.conflate_enter = conflate_enter.unwrap_or(settings.conflate_enter);
        settings.conflate_leave = conflate_leave.unwrap_or(settings.conflate_leave);
        settings.retain = retain.unwrap_or(settings.retain);
        settings.keys_per_channel = keys_per_channel.unwrap_or(settings.keys_per_channel);
        settings.ttl = ttl.unwrap_or(settings.ttl);
        settings.occupancy = occupancy.unwrap_or(settings.occupancy);
    }
}

/// The settings of every channel: a base, then rules in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChannelRules {
    /// What holds where no rule says otherwise.
    pub base: ChannelSettings,
    /// Where keys come from where no rule says otherwise.
    pub base_key: KeySource,
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
        if channel.is_reserved() {
            // The gateway's own: everybody finds the newest state there, and nobody publishes.
            settings.retain = Retain::LatestPerKey;
            (settings.relay, settings.occupancy) = (false, false);
        }
        settings
    }

    /// Whether some channel has its subscribers counted for those who watch.
    pub fn watches_occupancy(&self) -> bool {
        self.base.occupancy || self.rules.iter().any(|rule| rule.occupancy == Some(true))
    }

    /// Where in a payload the keys of `channel` stand, if they stand there. Compares only rules that speak of keys.
    pub fn key_source_for(&self, channel: &ChannelName) -> Option<&JsonPointer> {
        let rules = self.rules.iter().rev().filter_map(|rule| Some((&rule.pattern, rule.key.as_ref()?)));
        let mut matching = rules.filter(|(pattern, _)| pattern.matches(channel));
        match matching.next().map_or(&self.base_key, |(_, source)| source) {
            KeySource::None => None,
            KeySource::Json(pointer) => Some(pointer),
        }
    }

    /// See [`ChannelSettings::ttl`]. Compares only rules that speak of it.
    pub fn ttl_for(&self, channel: &ChannelName) -> Duration {
        let rules = self.rules.iter().rev().filter_map(|rule| Some((&rule.pattern, rule.ttl?)));
        let mut matching = rules.filter(|(pattern, _)| pattern.matches(channel));
        matching.next().map_or(self.base.ttl, |(_, ttl)| ttl)
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
        let rules = ChannelRules { rules: vec![all, news], ..ChannelRules::default() };
        let eu = rules.settings_for(&ChannelName::parse("news.eu").unwrap());
        assert_eq!((eu.history_messages, eu.relay, eu.on_lag), (500, true, LagPolicy::Disconnect));
        assert_eq!(rules.settings_for(&ChannelName::parse("chat").unwrap()).history_messages, 10);
    }

    #[test]
    fn the_last_matching_rule_that_speaks_of_keys_says_where_they_come_from() {
        let json = |pointer| KeySource::Json(JsonPointer::parse(pointer).unwrap());
        let rule = |pattern, key| ChannelRule { key, ..ChannelRule::new(Pattern::parse(pattern).unwrap()) };
        let rules = ChannelRules {
            base_key: json("/id"),
            rules: vec![
                rule("a.*", Some(json("/symbol"))),
                rule("a.none", Some(KeySource::None)),
                rule(">", None),
            ],
            ..ChannelRules::default()
        };
        let source = |name| rules.key_source_for(&ChannelName::parse(name).unwrap()).map(JsonPointer::as_str);
        assert_eq!([source("a.b"), source("a.none"), source("b")], [Some("/symbol"), None, Some("/id")]);
        let mut short = ChannelRules::default();
        short.rules.push(ChannelRule { ttl: Some(Duration::from_secs(5)), ..rule("a.*", None) });
        for name in ["a.b", "b"] {
            let name = ChannelName::parse(name).unwrap();
            assert_eq!(short.ttl_for(&name), short.settings_for(&name).ttl);
        }
        let nowhere = ChannelRules::default();
        assert_eq!(nowhere.key_source_for(&ChannelName::parse("a").unwrap()), None);
    }
}
