//! Hosts as requests name them, with or without a port (RFC 3986 §3.2.2, RFC 9110 §7.2), and which of them are served.
//!
//! A host is an IPv6 address in brackets or a name; an IPv4 address is compared as a name. Names are compared without
//! regard to case, addresses by value.

use std::fmt;
use std::net::Ipv6Addr;

/// Longest host name in bytes (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// A host without its port. Borrows from the request.
#[derive(Clone, Copy, Debug)]
pub enum Host<'a> {
    /// A name or an IPv4 address: labels of `A-Z a-z 0-9 - _ ~` split by dots, perhaps with a dot at the end.
    Name(&'a str),
    /// An IPv6 address, which stands in brackets.
    V6(Ipv6Addr),
}

impl PartialEq for Host<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            (Self::V6(one), Self::V6(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Host<'_> {}

/// `HOST` or `HOST:PORT`, as a `Host` header has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Authority<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The port, if one is written: `a:` has none.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `text`; `None` if it is anything else, such as user information, a blank, or a port beyond 65,535.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, after) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']')?;
                (Host::V6(address.parse().ok()?), after)
            }
            None => {
                let length = text.bytes().position(|byte| byte == b':').unwrap_or(text.len());
                let (name, after) = text.split_at(length);
                (Host::Name(name).checked()?, after)
            }
        };
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            Some("") => None,
            Some(port) if port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self { host, port })
    }
}

impl Host<'_> {
    fn checked(self) -> Option<Self> {
        let Self::Name(name) = self else { return Some(self) };
        // No label is empty.
        let mut after_dot = true;
        let is_name = name.bytes().all(|byte| match byte {
            b'.' => !std::mem::replace(&mut after_dot, true),
            b'-' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                after_dot = false;
                true
            }
            _ => false,
        });
        (is_name && !name.is_empty() && name.len() <= HOST_BYTES_MAX).then_some(self)
    }
}

/// A host that an operator names, of which the whole left label may vary: `example.com`, `*.example.com`, `[::1]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HostPattern {
    /// This host, in lower case.
    Name(String),
    /// Any one label, then a dot and this, in lower case.
    Under(String),
    /// This address.
    V6(Ipv6Addr),
}

impl HostPattern {
    /// Reads `host`, which `Authority::parse` accepts but for its first label; `None` if it is no such pattern.
    pub(super) fn of(host: Host<'_>, has_wildcard: bool) -> Option<Self> {
        match host {
            Host::V6(address) => (!has_wildcard).then_some(Self::V6(address)),
            Host::Name(name) if has_wildcard => Some(Self::Under(name.to_ascii_lowercase())),
            Host::Name(name) => Some(Self::Name(name.to_ascii_lowercase())),
        }
    }

    /// Whether `host` is one of these.
    pub(super) fn matches(&self, host: Host<'_>) -> bool {
        match (self, host) {
            (Self::Name(wanted), Host::Name(name)) => wanted.eq_ignore_ascii_case(name),
            (Self::Under(parent), Host::Name(name)) => {
                name.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
            }
            (Self::V6(wanted), Host::V6(address)) => *wanted == address,
            _ => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Under(parent) => write!(f, "*.{parent}"),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// A host that is served, on any port or on one: `live.example.com`, `*.example.com`, `localhost:8080`, `[::1]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedHost {
    host: HostPattern,
    port: Option<u16>,
}

/// Why a text is not a [`ServedHost`]; its display says what to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServedHostError {
    /// A scheme or a path stands there.
    #[error("write the host alone, as in live.example.com, without scheme and path")]
    NotAlone,
    /// Every host.
    #[error("leave the option out to serve every host")]
    Everything,
    /// A wildcard that is not the whole left label of a name.
    #[error("`*` is the whole left label of a name: *.example.com")]
    Wildcard,
    /// Bytes that no request has, such as an umlaut.
    #[error("write the name as requests have it: ASCII, other letters in punycode (xn--...)")]
    NotAscii,
    /// No host.
    #[error("write a name or an address, as in live.example.com, localhost:8080 or [::1]")]
    NoHost,
}

impl ServedHost {
    /// Checks and keeps `text`; case and a dot at the end make no difference.
    ///
    /// # Errors
    /// [`ServedHostError`].
    pub fn parse(text: &str) -> Result<Self, ServedHostError> {
        if text == "*" {
            return Err(ServedHostError::Everything);
        }
        if text.contains('/') {
            return Err(ServedHostError::NotAlone);
        }
        if !text.is_ascii() {
            return Err(ServedHostError::NotAscii);
        }
        let rest = text.strip_prefix("*.");
        if rest.unwrap_or(text).contains('*') {
            return Err(ServedHostError::Wildcard);
        }
        let authority = Authority::parse(rest.unwrap_or(text).as_bytes()).ok_or(ServedHostError::NoHost)?;
        let host = HostPattern::of(without_end_dot(authority.host), rest.is_some())
            .ok_or(ServedHostError::Wildcard)?;
        Ok(Self { host, port: authority.port })
    }

    /// Whether a request for `authority` is for this host: a port that is not named here may be any, and a dot at the
    /// end makes no difference, as it names the same host.
    pub fn serves(&self, authority: Authority<'_>) -> bool {
        self.port.is_none_or(|port| authority.port == Some(port))
            && self.host.matches(without_end_dot(authority.host))
    }
}

impl fmt::Display for ServedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.host.fmt(f),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

fn without_end_dot(host: Host<'_>) -> Host<'_> {
    match host {
        Host::Name(name) => Host::Name(name.strip_suffix('.').unwrap_or(name)),
        Host::V6(_) => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_served_host_reads_back_as_it_is_printed() {
        for (text, printed) in [
            ("Live.Example.com", "live.example.com"),
            ("live.example.com.", "live.example.com"),
            ("*.Example.com:8443", "*.example.com:8443"),
            ("[::0:1]", "[::1]"),
            ("[::1]:80", "[::1]:80"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            let host = ServedHost::parse(text).unwrap();
            assert_eq!(host.to_string(), printed);
            assert_eq!(ServedHost::parse(printed), Ok(host));
        }
    }

    #[test]
    fn what_no_request_can_name_is_no_served_host() {
        use ServedHostError as E;
        for (text, error) in [
            ("", E::NoHost),
            ("*", E::Everything),
            ("*.", E::NoHost),
            ("a.*", E::Wildcard),
            ("a*.example.com", E::Wildcard),
            ("*.*.example.com", E::Wildcard),
            ("*.[::1]", E::Wildcard),
            ("https://a.example", E::NotAlone),
            ("a.example/", E::NotAlone),
            ("user@a.example", E::NoHost),
            ("a.example:99999", E::NoHost),
            ("b\u{fc}cher.example", E::NotAscii),
            ("a..example", E::NoHost),
            ("::1", E::NoHost),
        ] {
            assert_eq!(ServedHost::parse(text), Err(error), "{text}");
        }
    }
}
