//! Keeps web pages out: the host list against DNS rebinding, the origin against cross-site requests (GUARANTEES J2).
//!
//! A page of another site can make a browser on the operator's machine send requests here, either openly (the
//! browser then states its `Origin`) or after pointing a name of its own at our address (the `Host` then is that
//! name). No legitimate caller does either: the listener is called by address or as `localhost`.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, Version};

use super::refusal::Refusal;

/// Looks at who asks.
///
/// # Errors
/// [`Refusal::HostMissing`], [`Refusal::Host`] or [`Refusal::Origin`].
pub fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| Refusal::HostMissing)?,
        // Health checkers of old balancers; no browser sends a request without a host.
        (None, None) if version < Version::HTTP_11 && !headers.contains_key(ORIGIN) => return Ok(()),
        _ => return Err(Refusal::HostMissing),
    };
    if !is_served(host) {
        return Err(Refusal::Host);
    }
    let changes_state = *method != Method::GET && *method != Method::HEAD;
    if changes_state && headers.get_all(ORIGIN).iter().any(|origin| !is_same_host(origin.as_bytes(), host)) {
        return Err(Refusal::Origin);
    }
    Ok(())
}

/// Whether `host` (with or without port) is an IP address or `localhost`: a name nobody else can point here.
fn is_served(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
        });
    }
    let (name, port) = host.find(':').and_then(|colon| host.split_at_checked(colon)).unwrap_or((host, ""));
    let port_is_valid = port.is_empty() || is_port(port);
    port_is_valid && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

fn is_same_host(origin: &[u8], host: &str) -> bool {
    let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(&method, Version::HTTP_11, &map)
    }

    #[test]
    fn j2_a_name_that_others_can_point_here_is_refused() {
        for good in ["localhost", "LocalHost:8090", "127.0.0.1:8090", "10.1.2.3", "[::1]:8090", "[::1]"] {
            assert_eq!(ask(Method::GET, &[("host", good)]), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example:8090",
            "127.0.0.1.evil.example",
            "[::1",
            "localhost:x",
            "",
        ] {
            assert_eq!(ask(Method::GET, &[("host", bad)]), Err(Refusal::Host), "{bad}");
        }
        assert_eq!(ask(Method::GET, &[]), Err(Refusal::HostMissing));
        let twice = [("host", "localhost"), ("host", "127.0.0.1")];
        assert_eq!(ask(Method::GET, &twice), Err(Refusal::HostMissing));
    }

    #[test]
    fn j2_a_page_from_elsewhere_cannot_change_anything() {
        let from = |origin| ask(Method::POST, &[("host", "localhost:8090"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8090"), Ok(()));
        for foreign in
            ["http://evil.example", "null", "http://localhost:3000", "file://", "http://127.0.0.1:8090"]
        {
            assert_eq!(from(foreign), Err(Refusal::Origin), "{foreign}");
        }
        let reading = [("host", "localhost:8090"), ("origin", "http://evil.example")];
        assert_eq!(ask(Method::GET, &reading), Ok(()), "the browser withholds the answer from the page");
        assert_eq!(ask(Method::DELETE, &reading), Err(Refusal::Origin));
    }

    #[test]
    fn a_health_checker_that_speaks_http_1_0_needs_no_host() {
        assert_eq!(check(&Method::GET, Version::HTTP_10, &HeaderMap::new()), Ok(()));
    }
}
