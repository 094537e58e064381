//! What an option can be: the kinds of values, how each is read from text, and how it is written in TOML.
//!
//! Flags, variables and the file all come through `Kind::parse`, so that one spelling holds everywhere. Ranges are
//! part of the kind; relations between options are in `relations.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::channel::KeySource;
use super::limits;
use super::source::Refusal;
use super::units;
use crate::model::{AllowedOrigin, ChannelName, JsonPointer, Network, Pattern, ServedHost, Subprotocol};

/// What zero means for a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Zero {
    /// Nothing: it is refused.
    Refused,
    /// This, such as "off".
    Means(&'static str),
    /// The gateway chooses, this way; `auto` is another word for it.
    Auto(&'static str),
}

/// The kind of an option's value, with its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A span of time from [`limits::DURATION_MIN`] to `max`.
    Duration {
        /// What zero means.
        zero: Zero,
        /// Longest.
        max: Duration,
    },
    /// Bytes, from 1 to `max`.
    Size {
        /// What zero means.
        zero: Zero,
        /// Largest.
        max: u64,
    },
    /// A number, from 1 to `max`.
    Count {
        /// What zero means.
        zero: Zero,
        /// Largest.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One IP address with port.
    Address,
    /// One or more IP addresses with ports.
    Addresses,
    /// Any number of channel patterns.
    Patterns,
    /// Any number of origins of web pages.
    Origins,
    /// Any number of hosts.
    Hosts,
    /// Any number of subprotocols.
    Subprotocols,
    /// Any number of networks.
    Networks,
    /// A channel name.
    Channel,
    /// Nothing, or `json:` and a JSON pointer.
    KeySource,
    /// A filter for log records.
    Filter,
    /// A path.
    File,
}

/// A value that its kind accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Size`], in bytes; an automatic one is 0 until it is resolved.
    Size(u64),
    /// Of [`Kind::Count`]; an automatic one is 0 until it is resolved.
    Count(u64),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
    /// Of [`Kind::Address`].
    Address(SocketAddr),
    /// Of [`Kind::Addresses`]; at least one.
    Addresses(Vec<SocketAddr>),
    /// Of [`Kind::Patterns`]; may be empty.
    Patterns(Vec<Pattern>),
    /// Of [`Kind::Origins`]; may be empty.
    Origins(Vec<AllowedOrigin>),
    /// Of [`Kind::Hosts`]; may be empty.
    Hosts(Vec<ServedHost>),
    /// Of [`Kind::Subprotocols`]; may be empty.
    Subprotocols(Vec<Subprotocol>),
    /// Of [`Kind::Networks`]; may be empty.
    Networks(Vec<Network>),
    /// Of [`Kind::Channel`].
    Channel(ChannelName),
    /// Of [`Kind::KeySource`].
    KeySource(KeySource),
    /// Of [`Kind::Filter`] and [`Kind::File`].
    Text(String),
}

impl Kind {
    /// Reads `text`; lists are split at commas.
    ///
    /// # Errors
    /// A [`Refusal`] that says what to write instead.
    pub fn parse(&self, text: &str) -> Result<Value, Refusal> {
        match *self {
            Self::Duration { zero, max } => {
                let duration = units::parse_duration(text)?;
                let fits = (limits::DURATION_MIN..=max).contains(&duration);
                self.ranged(text, Value::Duration(duration), fits, duration.is_zero(), zero)
            }
            Self::Size { zero: Zero::Auto(_), .. } if text == "auto" => Ok(Value::Size(0)),
            Self::Size { zero, max } => {
                let bytes = units::parse_size(text)?;
                self.ranged(text, Value::Size(bytes), (1..=max).contains(&bytes), bytes == 0, zero)
            }
            Self::Count { zero: Zero::Auto(_), .. } if text == "auto" => Ok(Value::Count(0)),
            Self::Count { zero, max } => {
                let count = units::parse_count(text)?;
                self.ranged(text, Value::Count(count), (1..=max).contains(&count), count == 0, zero)
            }
            Self::Switch => match text {
                "true" | "1" => Ok(Value::Switch(true)),
                "false" | "0" => Ok(Value::Switch(false)),
                _ => {
                    Err(Refusal::new(format!("\"{text}\" is neither true nor false"), "write true or false"))
                }
            },
            Self::Choice(words) => match words.iter().find(|word| **word == text) {
                Some(word) => Ok(Value::Choice(word)),
                None => Err(Refusal::new(
                    format!("\"{text}\" is not known here"),
                    format!("write {}", words.join(" or ")),
                )),
            },
            Self::Address => parse_address(text).map(Value::Address),
            Self::Addresses => {
                let addresses = parse_list(text, limits::LISTEN_ADDRESSES_MAX, parse_address)?;
                if addresses.is_empty() {
                    return Err(Refusal::new(
                        "no address is given",
                        "write at least one, as in 0.0.0.0:8080",
                    ));
                }
                Ok(Value::Addresses(addresses))
            }
            Self::Patterns => parse_list(text, limits::CHANNEL_RULES_MAX, parse_pattern).map(Value::Patterns),
            Self::Origins => {
                let parse = |text: &str| AllowedOrigin::parse(text).map_err(not_a("an origin", text));
                parse_list(text, limits::ALLOWED_ORIGINS_MAX, parse).map(Value::Origins)
            }
            Self::Hosts => {
                let parse = |text: &str| ServedHost::parse(text).map_err(not_a("a host", text));
                parse_list(text, limits::SERVED_HOSTS_MAX, parse).map(Value::Hosts)
            }
            Self::Subprotocols => {
                let parse = |text: &str| Subprotocol::parse(text).map_err(not_a("a subprotocol", text));
                parse_list(text, limits::SUBPROTOCOLS_MAX, parse).map(Value::Subprotocols)
            }
            Self::Networks => {
                parse_list(text, limits::TRUSTED_PROXIES_MAX, parse_network).map(Value::Networks)
            }
            Self::Channel => match ChannelName::parse(text) {
                Ok(name) => Ok(Value::Channel(name)),
                Err(error) => {
                    Err(Refusal::new(format!("\"{text}\" is not a channel name"), error.to_string()))
                }
            },
            Self::KeySource => parse_key_source(text).map(Value::KeySource),
            Self::Filter => parse_filter(text).map(Value::Text),
            Self::File => Ok(Value::Text(text.to_owned())),
        }
    }

    fn ranged(
        &self,
        text: &str,
        value: Value,
        fits: bool,
        is_zero: bool,
        zero: Zero,
    ) -> Result<Value, Refusal> {
        if fits || (is_zero && zero != Zero::Refused) {
            return Ok(value);
        }
        Err(Refusal::new(format!("\"{text}\" is out of range"), format!("write {}", self.range())))
    }

    /// What may be written, in words: `1ms to 30d, or 0 for off`.
    pub fn range(&self) -> String {
        let (bounds, zero) = match *self {
            Self::Duration { zero, max } => {
                let least = units::print_duration(limits::DURATION_MIN);
                (format!("{least} to {}", units::print_duration(max)), zero)
            }
            Self::Size { zero, max } => (format!("1B to {}", units::print_size(max)), zero),
            Self::Count { zero, max } => (format!("1 to {max}"), zero),
            Self::Switch => return "true or false".to_owned(),
            Self::Choice(words) => return words.join(" or "),
            Self::Address => return "an IP address with port".to_owned(),
            Self::Addresses => return "IP addresses with ports".to_owned(),
            Self::Patterns => return "channel patterns".to_owned(),
            Self::Origins => return "origins".to_owned(),
            Self::Hosts => return "hosts with or without ports".to_owned(),
            Self::Subprotocols => return "subprotocols".to_owned(),
            Self::Networks => return "IP addresses or networks".to_owned(),
            Self::Channel => return "a channel name".to_owned(),
            Self::KeySource => return "`json:` and a JSON pointer".to_owned(),
            Self::Filter => return "a level, or `target=level` pairs".to_owned(),
            Self::File => return "a path".to_owned(),
        };
        match zero {
            Zero::Refused => bounds,
            Zero::Means(meaning) => format!("{bounds}, or 0 for {meaning}"),
            Zero::Auto(meaning) => format!("{bounds}, or auto for {meaning}"),
        }
    }

    /// What stands for the value in the help: `<TIME>`.
    pub fn placeholder(&self) -> String {
        match self {
            Self::Duration { .. } => "TIME",
            Self::Size { .. } => "SIZE",
            Self::Count { .. } => "N",
            Self::Switch => "BOOL",
            Self::Choice(words) => return words.join("|"),
            Self::Address | Self::Addresses => "ADDRESS",
            Self::Patterns => "PATTERN",
            Self::Origins => "ORIGIN",
            Self::Hosts => "HOST",
            Self::Subprotocols => "NAME",
            Self::Networks => "CIDR",
            Self::Channel => "CHANNEL",
            Self::KeySource => "json:POINTER",
            Self::Filter => "FILTER",
            Self::File => "FILE",
        }
        .to_owned()
    }

    /// Whether an option of this kind may be given several times.
    pub const fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Addresses
                | Self::Patterns
                | Self::Origins
                | Self::Hosts
                | Self::Subprotocols
                | Self::Networks
        )
    }
}

impl Value {
    /// The value as TOML has it; reads back as the same value.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Duration(duration) => quote(&units::print_duration(*duration)),
            Self::Size(bytes) => quote(&units::print_size(*bytes)),
            Self::Count(count) => count.to_string(),
            Self::Switch(on) => on.to_string(),
            Self::Choice(word) => quote(word),
            Self::Address(address) => quote(&address.to_string()),
            Self::Addresses(addresses) => list(addresses),
            Self::Patterns(patterns) => list(patterns),
            Self::Origins(origins) => list(origins),
            Self::Hosts(hosts) => list(hosts),
            Self::Subprotocols(names) => list(names),
            Self::Networks(networks) => list(networks),
            Self::Channel(name) => quote(name.as_str()),
            Self::KeySource(KeySource::None) => quote(""),
            Self::KeySource(KeySource::Json(pointer)) => quote(&format!("{KEY_SOURCE_JSON}{pointer}")),
            Self::Text(text) => quote(text),
        }
    }
}

/// What a source of keys begins with.
const KEY_SOURCE_JSON: &str = "json:";

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn parse_list<T>(
    text: &str,
    items_max: usize,
    parse: impl Fn(&str) -> Result<T, Refusal>,
) -> Result<Vec<T>, Refusal> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<&str> = text.split(',').map(str::trim).collect();
    if items.len() > items_max {
        return Err(Refusal::new(
            format!("{} entries are too many", items.len()),
            format!("write at most {items_max}"),
        ));
    }
    items.into_iter().map(parse).collect()
}

fn parse_address(text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| {
        let port = text.strip_prefix(':').unwrap_or(text);
        let fix = match (port.parse::<u16>(), text.strip_prefix("localhost:")) {
            (Ok(port), _) => format!("write 0.0.0.0:{port} or 127.0.0.1:{port}"),
            (_, Some(port)) => format!("write 127.0.0.1:{port}"),
            _ => "write an IP address and a port, as in 0.0.0.0:8080 or [::]:8080".to_owned(),
        };
        Refusal::new(format!("\"{text}\" is not an IP address with port"), fix)
    })
}

fn parse_pattern(text: &str) -> Result<Pattern, Refusal> {
    Pattern::parse(text)
        .map_err(|error| Refusal::new(format!("\"{text}\" is not a channel pattern"), error.to_string()))
}

fn parse_key_source(text: &str) -> Result<KeySource, Refusal> {
    if text.is_empty() {
        return Ok(KeySource::None);
    }
    let Some(pointer) = text.strip_prefix(KEY_SOURCE_JSON) else {
        let problem = format!("\"{text}\" does not say where keys come from");
        return Err(Refusal::new(problem, "write json: and a JSON pointer, as in json:/symbol"));
    };
    JsonPointer::parse(pointer).map(KeySource::Json).map_err(not_a("a JSON pointer", pointer))
}

/// What refuses `text` where something else is wanted: the error says what to write.
fn not_a<E: std::fmt::Display>(wanted: &str, text: &str) -> impl FnOnce(E) -> Refusal {
    move |error| Refusal::new(format!("\"{text}\" is not {wanted}"), error.to_string())
}

fn parse_network(text: &str) -> Result<Network, Refusal> {
    Network::parse(text).map_err(|fix| Refusal::new(format!("\"{text}\" is not a network"), fix))
}

/// Stricter than the filter's own reading, which takes any unknown word for a target and then logs nothing.
fn parse_filter(text: &str) -> Result<String, Refusal> {
    let is_level = |word: &str| !word.trim().is_empty() && word.trim().parse::<LevelFilter>().is_ok();
    let is_target = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte))
    };
    let is_plain = |part: &str| match part.rsplit_once('=') {
        Some((target, level)) => is_target(target.trim()) && is_level(level),
        None => is_level(part),
    };
    // Fields of spans may hold commas and equal signs of their own: only the filter itself can tell.
    let is_filter = match text.contains('[') {
        true => EnvFilter::builder().parse(text).is_ok(),
        false => text.split(',').all(is_plain),
    };
    if is_filter {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        format!("\"{text}\" is not a log filter"),
        "write off, error, warn, info, debug or trace, or pairs as in info,tidegate::shard=debug",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Kind = Kind::Duration { zero: Zero::Refused, max: limits::DURATION_MAX };

    fn refused(kind: Kind, text: &str) -> String {
        let Refusal { problem, fix } = kind.parse(text).unwrap_err();
        format!("{problem}; {fix}")
    }

    #[test]
    fn the_ends_of_a_range_fit_and_the_next_value_does_not() {
        for good in ["1ms", "30d"] {
            assert!(SPAN.parse(good).is_ok(), "{good}");
        }
        for bad in ["0s", "30d1ms"] {
            assert_eq!(refused(SPAN, bad), format!("\"{bad}\" is out of range; write 1ms to 30d"));
        }
        let count = Kind::Count { zero: Zero::Auto("one per core"), max: 4 };
        for good in ["1", "4", "0", "auto"] {
            assert!(count.parse(good).is_ok(), "{good}");
        }
        assert_eq!(refused(count, "5"), "\"5\" is out of range; write 1 to 4, or auto for one per core");
        let size = Kind::Size { zero: Zero::Means("off"), max: 1024 };
        assert_eq!(refused(size, "1025B"), "\"1025B\" is out of range; write 1B to 1KiB, or 0 for off");
    }

    #[test]
    fn every_kind_refuses_with_what_to_write() {
        for (kind, text, line) in [
            (Kind::Switch, "yes", "\"yes\" is neither true nor false; write true or false"),
            (Kind::Choice(&["text", "json"]), "xml", "\"xml\" is not known here; write text or json"),
            (
                Kind::Address,
                "8090",
                "\"8090\" is not an IP address with port; write 0.0.0.0:8090 or 127.0.0.1:8090",
            ),
            (
                Kind::Address,
                "localhost:8090",
                "\"localhost:8090\" is not an IP address with port; write 127.0.0.1:8090",
            ),
            (
                Kind::Addresses,
                "0.0.0.0:8080,::",
                "\"::\" is not an IP address with port; write an IP address and a port, as in 0.0.0.0:8080 or [::]:8080",
            ),
            (Kind::Addresses, "", "no address is given; write at least one, as in 0.0.0.0:8080"),
            (
                Kind::Networks,
                "::1,10.1.0.0/8",
                "\"10.1.0.0/8\" is not a network; write 10.0.0.0/8: the address has bits beyond its prefix",
            ),
            (
                Kind::Patterns,
                "a,news*",
                "\"news*\" is not a channel pattern; `*` and `>` stand alone in their segment: `news.*`, not `news*`",
            ),
            (
                Kind::Channel,
                "a b",
                "\"a b\" is not a channel name; a channel name consists of A-Z a-z 0-9 _ - . : only",
            ),
            (
                Kind::KeySource,
                "/symbol",
                "\"/symbol\" does not say where keys come from; write json: and a JSON pointer, as in json:/symbol",
            ),
            (
                Kind::KeySource,
                "json:symbol",
                "\"symbol\" is not a JSON pointer; begin it with `/`, as in /symbol",
            ),
            (
                Kind::Filter,
                "loud",
                "\"loud\" is not a log filter; write off, error, warn, info, debug or trace, or pairs as in info,tidegate::shard=debug",
            ),
        ] {
            assert_eq!(refused(kind, text), line);
        }
    }

    #[test]
    fn log_filters_are_levels_or_pairs() {
        for good in ["info", "off", "info,tidegate::shard=debug", "WARN", "tidegate[turn{shard=1}]=trace"] {
            assert!(Kind::Filter.parse(good).is_ok(), "{good}");
        }
        for bad in ["", "tidegate", "tidegate=loud", "=info", "info,,", "a b=info", "tidegate[=info"] {
            assert!(Kind::Filter.parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_split_at_commas_and_bounded() {
        let patterns = Kind::Patterns.parse("chat.*, lobby").unwrap();
        assert_eq!(patterns.to_toml(), r#"["chat.*", "lobby"]"#);
        assert_eq!(Kind::Patterns.parse("").unwrap().to_toml(), "[]");
        let many = vec!["a"; limits::CHANNEL_RULES_MAX + 1].join(",");
        assert_eq!(refused(Kind::Patterns, &many), "1001 entries are too many; write at most 1000");
    }
}
