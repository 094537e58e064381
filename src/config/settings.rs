//! Every option's value with its source, and the `Config` they make.
//!
//! Between the merge of `load.rs`, which fills it, and `relations.rs` and `report.rs`, which read it. A value
//! here has the kind of its row in `options.rs`; anything else is a fault of ours and asserted.

use std::net::SocketAddr;
use std::time::Duration;

use super::channel::{ChannelRule, ChannelRules, ChannelSettings, KeySource, LagPolicy, MessageType, Retain};
use super::options::{Key, OPTIONS};
use super::source::Source;
use super::value::Value;
use super::{Config, ForwardedHeader, LogFormat, MemoryOrigin};
use crate::model::{AllowedOrigin, ChannelName, Network, Pattern, ServedHost, Subprotocol};

/// A value and who gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// What holds.
    pub value: Value,
    /// Because of whom.
    pub source: Source,
}

/// A `[[channel]]` table of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChannelTable {
    /// Which channels.
    pub pattern: Pattern,
    /// Where the table's pattern stands.
    pub source: Source,
    /// What it sets, each key once.
    pub settings: Vec<(Key, Setting)>,
}

/// What a `[[channel]]` table said in vain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beaten {
    /// For which key.
    pub key: Key,
    /// For which channels.
    pub pattern: Pattern,
    /// Where.
    pub source: Source,
    /// The flag or variable that holds instead.
    pub by: Source,
}

/// The merged configuration before it becomes a [`Config`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// One for every row of [`OPTIONS`].
    base: Vec<Setting>,
    /// In the order of the file.
    pub tables: Vec<ChannelTable>,
}

impl Settings {
    /// Every option at its default.
    pub fn defaults() -> Self {
        let default = |value| Setting { value, source: Source::Default };
        Self {
            base: OPTIONS.iter().map(|option| default(option.default_value())).collect(),
            tables: Vec::new(),
        }
    }

    /// What holds where no `[[channel]]` table says otherwise.
    pub fn get(&self, key: Key) -> &Setting {
        &self.base[key as usize]
    }

    /// Replaces what holds for `key`.
    pub fn set(&mut self, key: Key, setting: Setting) {
        self.base[key as usize] = setting;
    }

    /// Takes out of the tables what a flag or variable says for all channels, and tells what it was, in the order of the
    /// file.
    pub fn drop_beaten(&mut self) -> Vec<Beaten> {
        let base = &self.base;
        let mut beaten = Vec::new();
        for table in &mut self.tables {
            let pattern = &table.pattern;
            table.settings.retain(|(key, setting)| {
                let by = &base[*key as usize].source;
                if by.is_of_the_file_or_default() {
                    return true;
                }
                beaten.push(Beaten {
                    key: *key,
                    pattern: pattern.clone(),
                    source: setting.source.clone(),
                    by: by.clone(),
                });
                false
            });
        }
        beaten
    }

    /// What a channel gets for a per-channel `key`, and because of whom: the last table that matches and names the
    /// key, else the base. Relay patterns count as part of the base. Linear in the tables.
    pub fn for_channel(&self, channel: &ChannelName, key: Key) -> Setting {
        let matching = self.tables.iter().rev().filter(|table| table.pattern.matches(channel));
        for table in matching {
            if let Some((_, setting)) = table.settings.iter().find(|(name, _)| *name == key) {
                return setting.clone();
            }
        }
        let base = self.get(key);
        match &base.value {
            Value::Patterns(patterns) => {
                let relays = patterns.iter().any(|pattern| pattern.matches(channel));
                let is_said = relays || !base.source.is_of_the_file_or_default();
                let source = if is_said { base.source.clone() } else { Source::Default };
                Setting { value: Value::Switch(relays), source }
            }
            _ => base.clone(),
        }
    }

    /// The configuration that every other module reads.
    pub fn to_config(&self) -> Config {
        let get = |key| &self.get(key).value;
        Config {
            listen: addresses(get(Key::Listen)),
            admin_listen: addresses(get(Key::AdminListen))[0],
            shards: count(get(Key::Shards)),
            pin_shards: switch(get(Key::PinShards)),
            private_fds: switch(get(Key::PrivateFds)),
            default_channel: channel(get(Key::DefaultChannel)),
            max_connections: count(get(Key::MaxConnections)),
            max_pending: count(get(Key::MaxPending)),
            backlog: u32::try_from(number(get(Key::Backlog))).expect("BACKLOG_MAX fits"),
            accepts_per_turn: count(get(Key::AcceptsPerTurn)),
            connect_rate: count(get(Key::ConnectRate)),
            handshake_timeout: duration(get(Key::HandshakeTimeout)),
            trusted_proxies: networks(get(Key::TrustedProxy)),
            forwarded_header: forwarded_header(get(Key::ForwardedHeader)),
            proxy_protocol: switch(get(Key::ProxyProtocol)),
            max_per_address: count(get(Key::MaxPerAddress)),
            connect_rate_per_address: count(get(Key::ConnectRatePerAddress)),
            limit_loopback: switch(get(Key::LimitLoopback)),
            ping_interval: duration(get(Key::PingInterval)),
            pong_timeout: duration(get(Key::PongTimeout)),
            idle_timeout: duration(get(Key::IdleTimeout)),
            max_message: count(get(Key::MaxMessage)),
            memory: number(get(Key::Memory)),
            memory_origin: MemoryOrigin::Given,
            allow_origin: origins(get(Key::AllowOrigin)),
            allow_host: hosts(get(Key::AllowHost)),
            subprotocols: subprotocols(get(Key::Subprotocol)),
            client_rate: number(get(Key::ClientRate)),
            max_patterns: count(get(Key::MaxPatterns)),
            send_buffer: count(get(Key::SendBuffer)),
            receive_buffer: count(get(Key::ReceiveBuffer)),
            notsent_lowat: count(get(Key::NotsentLowat)),
            user_timeout: duration(get(Key::UserTimeout)),
            write_budget: count(get(Key::WriteBudget)),
            batch_window: duration(get(Key::BatchWindow)),
            drain_grace: duration(get(Key::DrainGrace)),
            drain_spread: duration(get(Key::DrainSpread)),
            log_level: text(get(Key::LogLevel)),
            log_format: log_format(get(Key::LogFormat)),
            channels: self.channel_rules(),
            echo: false,
        }
    }

    fn channel_rules(&self) -> ChannelRules {
        let get = |key| &self.get(key).value;
        let base = ChannelSettings {
            history_messages: number(get(Key::HistoryMessages)),
            history_bytes: number(get(Key::HistoryBytes)),
            history_age: duration(get(Key::HistoryAge)),
            on_lag: lag_policy(get(Key::OnLag)),
            max_lag_bytes: number(get(Key::MaxLagBytes)),
            max_lag_age: duration(get(Key::MaxLagAge)),
            relay: false,
            compression: is_on(get(Key::Compression)),
            compression_level: number(get(Key::CompressionLevel)),
            compression_min_size: number(get(Key::CompressionMinSize)),
            compression_epoch: number(get(Key::CompressionEpoch)),
            message_type: message_type(get(Key::MessageType)),
            conflate_enter: number(get(Key::ConflateEnter)),
            conflate_leave: number(get(Key::ConflateLeave)),
            retain: retain(get(Key::Retain)),
            keys_per_channel: number(get(Key::KeysPerChannel)),
            ttl: duration(get(Key::Ttl)),
            occupancy: is_on(get(Key::Occupancy)),
        };
        let base_key = key_source(get(Key::KeySource));
        // Relay patterns are part of the base: the tables come after them and win.
        let Value::Patterns(relayed) = get(Key::Relay) else { unreachable!("relay is a list of patterns") };
        let relayed = relayed.iter().map(|pattern| {
            let mut rule = ChannelRule::new(pattern.clone());
            rule.relay = Some(true);
            rule
        });
        let rules = relayed.chain(self.tables.iter().map(ChannelTable::to_rule)).collect();
        ChannelRules { base, base_key, rules }
    }
}

impl ChannelTable {
    fn to_rule(&self) -> ChannelRule {
        let mut rule = ChannelRule::new(self.pattern.clone());
        for (key, Setting { value, .. }) in &self.settings {
            match key {
                Key::Relay => rule.relay = Some(switch(value)),
                Key::HistoryMessages => rule.history_messages = Some(number(value)),
                Key::HistoryBytes => rule.history_bytes = Some(number(value)),
                Key::HistoryAge => rule.history_age = Some(duration(value)),
                Key::OnLag => rule.on_lag = Some(lag_policy(value)),
                Key::MaxLagBytes => rule.max_lag_bytes = Some(number(value)),
                Key::MaxLagAge => rule.max_lag_age = Some(duration(value)),
                Key::Compression => rule.compression = Some(is_on(value)),
                Key::CompressionLevel => rule.compression_level = Some(number(value)),
                Key::CompressionMinSize => rule.compression_min_size = Some(number(value)),
                Key::CompressionEpoch => rule.compression_epoch = Some(number(value)),
                Key::MessageType => rule.message_type = Some(message_type(value)),
                Key::ConflateEnter => rule.conflate_enter = Some(number(value)),
                Key::ConflateLeave => rule.conflate_leave = Some(number(value)),
                Key::Retain => rule.retain = Some(retain(value)),
                Key::KeysPerChannel => rule.keys_per_channel = Some(number(value)),
                Key::KeySource => rule.key = Some(key_source(value)),
                Key::Ttl => rule.ttl = Some(duration(value)),
                Key::Occupancy => rule.occupancy = Some(is_on(value)),
                other => unreachable!("{other:?} is not set per channel"),
            }
        }
        rule
    }
}

fn duration(value: &Value) -> Duration {
    let Value::Duration(duration) = value else { unreachable!("{value:?} is not a duration") };
    *duration
}

fn number(value: &Value) -> u64 {
    let (Value::Size(number) | Value::Count(number)) = value else {
        unreachable!("{value:?} is not a number")
    };
    *number
}

fn count(value: &Value) -> usize {
    usize::try_from(number(value)).expect("the ranges of options fit a 64-bit machine")
}

/// Of an option that is `off` or `on`.
fn is_on(value: &Value) -> bool {
    let Value::Choice(word) = value else { unreachable!("{value:?} is not a word") };
    *word == "on"
}

fn switch(value: &Value) -> bool {
    let Value::Switch(on) = value else { unreachable!("{value:?} is not a switch") };
    *on
}

fn addresses(value: &Value) -> Vec<SocketAddr> {
    match value {
        Value::Address(address) => vec![*address],
        Value::Addresses(addresses) => addresses.clone(),
        _ => unreachable!("{value:?} is not an address"),
    }
}

fn channel(value: &Value) -> ChannelName {
    let Value::Channel(name) = value else { unreachable!("{value:?} is not a channel") };
    name.clone()
}

fn origins(value: &Value) -> Vec<AllowedOrigin> {
    let Value::Origins(entries) = value else { unreachable!("{value:?} is not a list of origins") };
    entries.clone()
}

fn hosts(value: &Value) -> Vec<ServedHost> {
    let Value::Hosts(entries) = value else { unreachable!("{value:?} is not a list of hosts") };
    entries.clone()
}

fn subprotocols(value: &Value) -> Vec<Subprotocol> {
    let Value::Subprotocols(entries) = value else { unreachable!("{value:?} is not a list of subprotocols") };
    entries.clone()
}

fn networks(value: &Value) -> Vec<Network> {
    let Value::Networks(networks) = value else { unreachable!("{value:?} is not a list of networks") };
    networks.clone()
}

fn text(value: &Value) -> String {
    let Value::Text(text) = value else { unreachable!("{value:?} is not a text") };
    text.clone()
}

fn lag_policy(value: &Value) -> LagPolicy {
    match value {
        Value::Choice("disconnect") => LagPolicy::Disconnect,
        Value::Choice("skip") => LagPolicy::Skip,
        Value::Choice("conflate") => LagPolicy::Conflate,
        _ => unreachable!("{value:?} is not a lag policy"),
    }
}

fn retain(value: &Value) -> Retain {
    match value {
        Value::Choice("window") => Retain::Window,
        Value::Choice("latest-per-key") => Retain::LatestPerKey,
        _ => unreachable!("{value:?} is not what is retained"),
    }
}

fn key_source(value: &Value) -> KeySource {
    let Value::KeySource(source) = value else { unreachable!("{value:?} is not a source of keys") };
    source.clone()
}

fn forwarded_header(value: &Value) -> ForwardedHeader {
    match value {
        Value::Choice("x-forwarded-for") => ForwardedHeader::XForwardedFor,
        Value::Choice("forwarded") => ForwardedHeader::Forwarded,
        _ => unreachable!("{value:?} is not a header that tells the client"),
    }
}

fn message_type(value: &Value) -> MessageType {
    match value {
        Value::Choice("any") => MessageType::Any,
        Value::Choice("text") => MessageType::Text,
        Value::Choice("binary") => MessageType::Binary,
        _ => unreachable!("{value:?} is not a type of messages"),
    }
}

fn log_format(value: &Value) -> LogFormat {
    match value {
        Value::Choice("text") => LogFormat::Text,
        Value::Choice("json") => LogFormat::Json,
        _ => unreachable!("{value:?} is not a log format"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Kind;
    use super::*;

    #[test]
    fn the_table_of_options_says_what_the_config_defaults_to() {
        let expected = Config { shards: 0, ..Config::default() };
        assert_eq!(Settings::defaults().to_config(), expected);
    }

    #[test]
    fn every_word_and_every_per_channel_key_has_a_meaning() {
        for option in OPTIONS {
            if let Some(kind) = option.per_channel {
                let text = if kind == Kind::Switch { "true" } else { option.default };
                let setting = Setting { value: kind.parse(text).unwrap(), source: Source::Default };
                let table = ChannelTable {
                    pattern: Pattern::parse(">").unwrap(),
                    source: Source::Default,
                    settings: vec![(option.key, setting)],
                };
                assert_ne!(table.to_rule(), ChannelRule::new(table.pattern.clone()));
            }
            if let Kind::Choice(words) = option.kind {
                for word in words {
                    let mut settings = Settings::defaults();
                    let value = option.kind.parse(word).unwrap();
                    settings.set(option.key, Setting { value, source: Source::Default });
                    settings.to_config();
                }
            }
        }
    }
}
