//! What options must not say together, and what is allowed but likely not meant.
//!
//! A contradiction is blamed on whoever of the two spoke with more weight (flag, variable, file), never on a default.
//! Per-channel relations are checked for what holds for all and, for every `[[channel]]` pattern, on a channel that
//! it matches, so that tables which only together contradict each other are found.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::limits;
use super::options::Key;
use super::settings::{Setting, Settings};
use super::source::{ConfigError, Refusal, Source};
use super::units::{print_duration, print_size};
use super::value::Value;
use crate::model::{ChannelName, Pattern};

/// Checks every relation; gives back the warnings, one line each.
///
/// # Errors
/// The first contradiction.
pub fn check(settings: &Settings) -> Result<Vec<String>, ConfigError> {
    check_addresses(settings)?;
    let pair = |low, high| Pair::of(low, settings.get(low), high, settings.get(high));
    check_proxies(settings)?;
    let buffer = pair(Key::NotsentLowat, Key::SendBuffer);
    if buffer.exceeds() && buffer.high.value != Value::Size(0) {
        return Err(buffer.refuse("exceeds", "lower notsent_lowat or raise send_buffer"));
    }
    check_memory(settings)?;
    let mut warnings = Vec::new();
    warn_of_liveness(settings, &mut warnings);
    warn_of_open_admin(settings, &mut warnings);
    check_channel(settings, |key| settings.get(key).clone(), &mut warnings)?;
    for table in &settings.tables {
        let channel = matching_channel(&table.pattern);
        check_channel(settings, |key| settings.for_channel(&channel, key), &mut warnings)?;
    }
    let mut seen = std::collections::HashSet::new();
    warnings.retain(|warning| seen.insert(warning.clone()));
    Ok(warnings)
}

fn check_memory(settings: &Settings) -> Result<(), ConfigError> {
    let memory = settings.get(Key::Memory);
    match memory.value {
        Value::Size(bytes) if bytes > 0 && bytes < limits::MEMORY_BYTES_MIN => {
            let problem = format!("{} is less than it can do with", plain(&memory.value));
            let fix = format!("write {} or more", print_size(limits::MEMORY_BYTES_MIN));
            Err(Refusal::new(problem, fix).at(&memory.source, "memory"))
        }
        _ => Ok(()),
    }
}

/// A PROXY header is believed: without networks anybody could say who they are.
fn check_proxies(settings: &Settings) -> Result<(), ConfigError> {
    let proxy_protocol = settings.get(Key::ProxyProtocol);
    let trusts_nobody = settings.get(Key::TrustedProxy).value == Value::Networks(Vec::new());
    if proxy_protocol.value == Value::Switch(true) && trusts_nobody {
        let fix = "name the proxies' networks with trusted_proxy, as in 10.0.0.0/8";
        return Err(Refusal::new("there is no trusted proxy that could send a PROXY header", fix)
            .at(&proxy_protocol.source, "proxy_protocol"));
    }
    Ok(())
}

fn check_addresses(settings: &Settings) -> Result<(), ConfigError> {
    let listen = settings.get(Key::Listen);
    let admin = settings.get(Key::AdminListen);
    let (Value::Addresses(addresses), Value::Address(admin_address)) = (&listen.value, &admin.value) else {
        unreachable!("listen and admin_listen are addresses")
    };
    for (index, address) in addresses.iter().enumerate() {
        if address.port() != 0 && addresses[..index].contains(address) {
            return Err(Refusal::new(format!("{address} is given twice"), "leave one of the two out")
                .at(&listen.source, "listen"));
        }
        if collides(*address, *admin_address) {
            let pair = Pair::of(Key::AdminListen, admin, Key::Listen, listen);
            return Err(pair.refuse("collides with", "give admin_listen a port of its own"));
        }
    }
    Ok(())
}

/// Whether a client listener and the admin listener cannot both be bound: same port, and the same or an all-embracing
/// address. Of the two only the admin listener may embrace both families: client listeners of IPv6 are of it alone.
fn collides(client: SocketAddr, admin: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && wide.is_ipv4() == narrow.is_ipv4();
    let (client_ip, admin_ip) = (client.ip(), admin.ip());
    client.port() != 0
        && client.port() == admin.port()
        && (client_ip == admin_ip
            || covers(client_ip, admin_ip)
            || covers(admin_ip, client_ip)
            || admin_ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
}

fn warn_of_liveness(settings: &Settings, warnings: &mut Vec<String>) {
    let ping = settings.get(Key::PingInterval);
    let cut = limits::PING_INTERVAL_WARN;
    if matches!(ping.value, Value::Duration(interval) if interval >= cut) {
        let problem = format!(
            "{} is {} or more, and many proxies cut a silent connection at 60s",
            plain(&ping.value),
            print_duration(cut)
        );
        warnings.push(Refusal::new(problem, "write 25s").at(&ping.source, "ping_interval").to_string());
    }
    let pong = Pair::of(Key::PongTimeout, settings.get(Key::PongTimeout), Key::PingInterval, ping);
    if pong.exceeds() || pong.low.value == pong.high.value {
        let fix = "lower pong_timeout, or a dead client is held for more than two intervals";
        warnings.push(pong.refuse("is not below", fix).to_string());
    }
}

fn warn_of_open_admin(settings: &Settings, warnings: &mut Vec<String>) {
    let admin = settings.get(Key::AdminListen);
    if matches!(admin.value, Value::Address(address) if !address.ip().is_loopback()) {
        let problem = format!("whoever reaches {} can publish", plain(&admin.value));
        let fix = "write a loopback address or keep the port behind a firewall";
        warnings.push(Refusal::new(problem, fix).at(&admin.source, "admin_listen").to_string());
    }
}

/// The relations between what one channel gets and the rest.
fn check_channel(
    settings: &Settings,
    get: impl Fn(Key) -> Setting,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let (messages, bytes) = (get(Key::HistoryMessages), get(Key::HistoryBytes));
    if messages.value != Value::Count(0) && bytes.value == Value::Size(0) {
        let pair = Pair::of(Key::HistoryMessages, &messages, Key::HistoryBytes, &bytes);
        return Err(
            pair.refuse("cannot be kept in", "raise history_bytes to 1MiB or set history_messages to 0")
        );
    }
    let lag = get(Key::MaxLagBytes);
    let message = settings.get(Key::MaxMessage);
    let pair = Pair::of(Key::MaxMessage, message, Key::MaxLagBytes, &lag);
    if pair.exceeds() {
        let fix = format!("raise max_lag_bytes to at least {} or lower max_message", plain(&message.value));
        return Err(pair.refuse("exceeds", &fix));
    }
    if matches!(lag.value, Value::Size(bytes) if bytes < limits::PUBLISH_BYTES_MAX as u64) {
        let most = print_size(limits::PUBLISH_BYTES_MAX as u64);
        let problem = format!(
            "a published message may have {most}, and one of more than {} makes every client lag",
            plain(&lag.value)
        );
        let fix = format!("write {most} or publish only smaller ones");
        warnings.push(Refusal::new(problem, fix).at(&lag.source, "max_lag_bytes").to_string());
    }
    check_conflation(&get, &lag)?;
    let age = get(Key::MaxLagAge);
    let pair = Pair::of(Key::BatchWindow, settings.get(Key::BatchWindow), Key::MaxLagAge, &age);
    if pair.exceeds() || pair.low.value == pair.high.value {
        return Err(pair.refuse("is not below", "lower batch_window or raise max_lag_age"));
    }
    Ok(())
}

/// Where clients that are behind get the newest of each key: they do so before they are too far behind, and get everything
/// again later than they begin.
fn check_conflation(get: &impl Fn(Key) -> Setting, lag: &Setting) -> Result<(), ConfigError> {
    if get(Key::OnLag).value != Value::Choice("conflate") {
        return Ok(());
    }
    let (enter, leave) = (get(Key::ConflateEnter), get(Key::ConflateLeave));
    let pair = Pair::of(Key::ConflateLeave, &leave, Key::ConflateEnter, &enter);
    if pair.exceeds() || leave.value == enter.value {
        return Err(pair.refuse("is not below", "lower conflate_leave or raise conflate_enter"));
    }
    let pair = Pair::of(Key::ConflateEnter, &enter, Key::MaxLagBytes, lag);
    if pair.exceeds() {
        return Err(pair.refuse("exceeds", "lower conflate_enter or raise max_lag_bytes"));
    }
    Ok(())
}

/// A channel that `pattern` matches: every wildcard replaced by one letter.
fn matching_channel(pattern: &Pattern) -> ChannelName {
    let name = pattern.as_str().replace(['*', '>'], "x");
    ChannelName::parse(&name).expect("a pattern with letters for wildcards is a name")
}

/// Two settings of which the first should not exceed the second.
struct Pair<'s> {
    low_key: Key,
    low: &'s Setting,
    high_key: Key,
    high: &'s Setting,
}

impl<'s> Pair<'s> {
    const fn of(low_key: Key, low: &'s Setting, high_key: Key, high: &'s Setting) -> Self {
        Self { low_key, low, high_key, high }
    }

    fn exceeds(&self) -> bool {
        match (&self.low.value, &self.high.value) {
            (Value::Size(low), Value::Size(high)) => low > high,
            (Value::Duration(low), Value::Duration(high)) => low > high,
            (low, high) => unreachable!("{low:?} and {high:?} have no order"),
        }
    }

    /// The line that says how the two stand to each other, blamed on the weightier source.
    fn refuse(&self, relation: &str, fix: &str) -> ConfigError {
        let describe = |key: Key, setting: &Setting| {
            let Setting { value, source } = setting;
            format!("{} = {} ({source})", key.definition().toml_key(), plain(value))
        };
        let low = describe(self.low_key, self.low);
        let high = describe(self.high_key, self.high);
        let is_high = weight(&self.high.source) > weight(&self.low.source);
        let (key, blamed) = if is_high { (self.high_key, self.high) } else { (self.low_key, self.low) };
        Refusal::new(format!("{low} {relation} {high}"), fix).at(&blamed.source, &key.definition().toml_key())
    }
}

const fn weight(source: &Source) -> u8 {
    match source {
        Source::Default => 0,
        Source::File { .. } => 1,
        Source::Environment(_) => 2,
        Source::Flag(_) => 3,
    }
}

/// A value as a sentence has it: without the quotes of TOML.
fn plain(value: &Value) -> String {
    value.to_toml().replace('"', "")
}

#[cfg(test)]
mod tests;
