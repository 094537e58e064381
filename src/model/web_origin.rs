//! Where a web page comes from, as its browser states it in `Origin` (RFC 6454 §6.2), and which pages are let in.
//!
//! A page cannot forge its origin, and a browser sends a WebSocket's cookies from any page: whoever lets a foreign page
//! connect lets it speak as the person in front of it.

use std::fmt;

use super::authority::{Authority, Host, HostPattern};

/// `scheme://host` or `scheme://host:port`, and nothing else. Borrows from the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WebOrigin<'a> {
    scheme: &'a str,
    host: Host<'a>,
    /// As written, or the scheme's own; none for a scheme without one.
    port: Option<u16>,
}

impl<'a> WebOrigin<'a> {
    /// Reads an `Origin`. `None` for `null`, for several, and for whatever no browser sends: a path, user
    /// information, a port with leading zeros.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (scheme, authority) = std::str::from_utf8(text).ok()?.split_once("://")?;
        let Authority { host, port } = Authority::parse(authority.as_bytes())?;
        let is_plain = match port {
            None => !authority.ends_with(':'),
            Some(_) => authority.rsplit_once(':').is_some_and(|(_, port)| !port.starts_with('0')),
        };
        (is_scheme(scheme) && is_plain).then_some(Self { scheme, host, port: port.or(default_port(scheme)) })
    }

    /// Whether the page comes from the host that it asks, as `requested` names it. The scheme may be either of the web's,
    /// as TLS may end in front of the gateway; a port that `requested` leaves out is the one of the page's scheme.
    pub fn is_of(&self, requested: Authority<'_>) -> bool {
        let Some(default) = default_port(self.scheme) else { return false };
        self.host == requested.host && self.port == Some(requested.port.unwrap_or(default))
    }
}

/// An entry of `--allow-origin`: `https://app.example.com`, `https://*.example.com`, `http://localhost:3000`, `*`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AllowedOrigin {
    /// Every page that has an origin.
    Any,
    /// Those of one host, or of every host one label below it.
    From(OriginPattern),
}

/// An origin of which the left label may vary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginPattern {
    scheme: String,
    host: HostPattern,
    port: Option<u16>,
}

/// Why a text is not an [`AllowedOrigin`]; its display says what to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllowedOriginError {
    /// `null`: what sandboxed frames, files and data URLs say, whoever made them.
    #[error("`null` is never let in, as any page can say it: serve the page from a host")]
    Null,
    /// No scheme.
    #[error("write it with its scheme, as in https://app.example.com")]
    Scheme,
    /// More than an origin has.
    #[error("an origin ends with its host or port: leave out the path and the slash")]
    Path,
    /// A wildcard that is not the whole left label of a name.
    #[error("`*` is the whole left label of a name, as in https://*.example.com, or the whole entry")]
    Wildcard,
    /// Bytes that no browser sends, such as an umlaut.
    #[error("write the host as browsers send it: ASCII, other letters in punycode (xn--...)")]
    NotAscii,
    /// No host, or a port that no browser sends.
    #[error("write scheme, host and perhaps port, as in https://app.example.com or http://localhost:3000")]
    Host,
}

impl AllowedOrigin {
    /// Checks and keeps `text`; case makes no difference.
    ///
    /// # Errors
    /// [`AllowedOriginError`] when no browser could ever send what is asked for.
    pub fn parse(text: &str) -> Result<Self, AllowedOriginError> {
        use AllowedOriginError as E;
        match text {
            "*" => return Ok(Self::Any),
            text if text.eq_ignore_ascii_case("null") => return Err(E::Null),
            _ => {}
        }
        if !text.is_ascii() {
            return Err(E::NotAscii);
        }
        let (scheme, authority) = text.split_once("://").ok_or(E::Scheme)?;
        if !is_scheme(scheme) {
            return Err(E::Scheme);
        }
        if authority.contains(['/', '?', '#']) {
            return Err(E::Path);
        }
        let rest = authority.strip_prefix("*.");
        if rest.unwrap_or(authority).contains('*') {
            return Err(E::Wildcard);
        }
        let plain = format!("{scheme}://{}", rest.unwrap_or(authority));
        let origin = WebOrigin::parse(plain.as_bytes()).ok_or(E::Host)?;
        let host = HostPattern::of(origin.host, rest.is_some()).ok_or(E::Wildcard)?;
        Ok(Self::From(OriginPattern { scheme: scheme.to_ascii_lowercase(), host, port: origin.port }))
    }

    /// Whether pages of `origin` are let in: scheme, host and port equal the entry's, ports that are not written being
    /// the scheme's own.
    pub fn lets_in(&self, origin: &WebOrigin<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::From(OriginPattern { scheme, host, port }) => {
                scheme.eq_ignore_ascii_case(origin.scheme)
                    && *port == origin.port
                    && host.matches(origin.host)
            }
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::From(OriginPattern { scheme, host, port }) = self else { return f.write_str("*") };
        write!(f, "{scheme}://{host}")?;
        match port {
            Some(port) if Some(*port) != default_port(scheme) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") => Some(443),
        _ if scheme.eq_ignore_ascii_case("http") => Some(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_origin_reads_back_as_it_is_printed() {
        for (text, printed) in [
            ("*", "*"),
            ("HTTPS://App.Example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com:443", "http://app.example.com:443"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("http://[::0:1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ] {
            let origin = AllowedOrigin::parse(text).unwrap();
            assert_eq!(origin.to_string(), printed);
            assert_eq!(AllowedOrigin::parse(printed), Ok(origin));
        }
    }

    #[test]
    fn what_no_browser_can_send_is_no_allowed_origin() {
        use AllowedOriginError as E;
        for (text, error) in [
            ("", E::Scheme),
            ("null", E::Null),
            ("Null", E::Null),
            ("app.example.com", E::Scheme),
            ("://app.example.com", E::Scheme),
            ("1://app.example.com", E::Scheme),
            ("https://", E::Host),
            ("https://app.example.com/", E::Path),
            ("https://app.example.com/chat", E::Path),
            ("https://app.example.com?x", E::Path),
            ("https://*", E::Wildcard),
            ("https://app.*", E::Wildcard),
            ("https://app*.example.com", E::Wildcard),
            ("https://*.*.example.com", E::Wildcard),
            ("https://*.", E::Host),
            ("https://*.[::1]", E::Wildcard),
            ("*://app.example.com", E::Scheme),
            ("https://user@app.example.com", E::Host),
            ("https://app.example.com:", E::Host),
            ("https://app.example.com:0443", E::Host),
            ("https://app.example.com:65536", E::Host),
            ("https://b\u{fc}cher.example", E::NotAscii),
        ] {
            assert_eq!(AllowedOrigin::parse(text), Err(error), "{text}");
        }
    }
}
