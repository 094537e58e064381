//! The URLs that the tool takes: `ws://host:port/path`, `http://host:port/path`, and both over TLS.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A parsed URL. The name is resolved once, when it is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Where to connect.
    pub address: SocketAddr,
    /// `host:port` as it was written: the `Host` header.
    pub host: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Whether the scheme was `wss` or `https`.
    pub is_tls: bool,
}

impl Url {
    /// The name or address without the port: what a certificate is checked against.
    pub fn host_name(&self) -> &str {
        let name = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        };
        name.trim_start_matches('[').trim_end_matches(']')
    }

    /// The same with `name=value` in its query.
    pub fn asking(&self, query: &str) -> Self {
        let mark = if self.path.contains('?') { '&' } else { '?' };
        Self { path: format!("{}{mark}{query}", self.path), ..self.clone() }
    }

    /// The last segment of the path without its query, percent-decoded; on tidegate that is the channel.
    pub fn last_segment(&self) -> Option<String> {
        let path = self.path.split('?').next().unwrap_or_default();
        let segment = path.rsplit('/').next().filter(|segment| !segment.is_empty())?;
        Some(percent_decoded(segment).unwrap_or_else(|| segment.to_owned()))
    }
}

/// A name as a segment of a path (RFC 3986 §2.1): all but the unreserved characters are encoded.
pub fn percent_encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// `None` if it is not well encoded, or not UTF-8 afterwards.
fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("'{text}' has no scheme: write ws://host:port/path"))?;
        let (default_port, is_tls) = match scheme {
            "ws" | "http" => (80, false),
            "wss" | "https" => (443, true),
            _ => return Err(format!("'{text}': the scheme must be ws, wss, http or https")),
        };
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) if rest.as_bytes()[at] == b'/' => (&rest[..at], rest[at..].to_owned()),
            Some(at) => (&rest[..at], format!("/{}", &rest[at..])),
            None => (rest, "/".to_owned()),
        };
        if host.is_empty() || rest.contains(char::is_whitespace) {
            return Err(format!("'{text}' has no host: write {scheme}://host:port/path"));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
        let full = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
        let address = full
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve '{full}': {error}"))?
            .min_by_key(|address| !address.is_ipv4())
            .ok_or_else(|| format!("'{full}' resolves to no address"))?;
        Ok(Self { address, host: host.to_owned(), path, is_tls })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url: Url = "ws://127.0.0.1:8080/ws/bench?x=1".parse().unwrap();
        assert_eq!(url.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((url.host.as_str(), url.path.as_str()), ("127.0.0.1:8080", "/ws/bench?x=1"));
        assert_eq!(url.last_segment().as_deref(), Some("bench"));
        let bare: Url = "ws://127.0.0.1".parse().unwrap();
        assert_eq!((bare.address.port(), bare.path.as_str(), bare.last_segment()), (80, "/", None));
        assert!(!bare.is_tls);
        let secure: Url = "wss://127.0.0.1/x".parse().unwrap();
        assert_eq!((secure.address.port(), secure.is_tls, secure.host_name()), (443, true, "127.0.0.1"));
        assert_eq!("ws://[::1]:9/".parse::<Url>().unwrap().host_name(), "::1");
    }

    #[test]
    fn a_name_is_the_same_after_the_way_through_a_path() {
        for name in ["news:eu", "a b", "\u{fc}/%2F", "%"] {
            let url: Url = format!("ws://127.0.0.1/ws/{}?x=y", percent_encoded(name)).parse().unwrap();
            assert_eq!(url.last_segment().as_deref(), Some(name));
        }
        for raw in ["100%", "%zz", "%+1", "%ff", "%\u{e4}1"] {
            let url: Url = format!("ws://127.0.0.1/{raw}").parse().unwrap();
            assert_eq!(url.last_segment().as_deref(), Some(raw), "as it was written");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_the_cure() {
        for text in ["127.0.0.1:80", "ftp://127.0.0.1", "ws://", "ws://a b"] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
