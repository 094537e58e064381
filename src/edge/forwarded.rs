//! Who a request comes from, as trusted proxies tell it in `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that it was called from, and everything to the left of that came from there and may be
//! invented. So the list is read from its right end, as far as trusted proxies vouch for it: the first hop that is not
//! one of them is the client (GUARANTEES A21). Ask only if the peer itself is trusted.

use std::net::{IpAddr, SocketAddr};

use super::field::split_unquoted;
use crate::config::ForwardedHeader;
use crate::model::Network;

/// The right-most hop of `head` that is not in `trusted`; if all are, the left-most. The walk ends at a hop that is not
/// an address: who is behind it is not known, so the hop before it counts. None if no hop is left. Port 0 if it is not
/// told.
///
/// `head` is one that [`HeadScanner`](super::HeadScanner) found complete. Linear in it.
pub(super) fn client(head: &[u8], header: ForwardedHeader, trusted: &[Network]) -> Option<SocketAddr> {
    let name: &[u8] = match header {
        ForwardedHeader::XForwardedFor => b"x-forwarded-for",
        ForwardedHeader::Forwarded => b"forwarded",
    };
    // Several lines are one list, in their order (RFC 9110 §5.3).
    let lines: Vec<&[u8]> =
        head.split(|&byte| byte == b'\n').filter_map(|line| value_of(line, name)).collect();
    let mut client = None;
    for line in lines.into_iter().rev() {
        let mut rest = line;
        while !rest.is_empty() {
            let (before, hop) = split_last_hop(rest, header);
            rest = before;
            if hop.is_empty() {
                continue;
            }
            let address = match header {
                ForwardedHeader::XForwardedFor => address(hop),
                ForwardedHeader::Forwarded => forwarded_for(hop),
            };
            let Some(address) = address else { return client };
            client = Some(address);
            if !trusted.iter().any(|network| network.contains(address.ip())) {
                return client;
            }
        }
    }
    client
}

/// The last hop of `line`, and what stands before its comma. Looked for from the right, since only that end can be
/// trusted to be well-formed: a quotation mark that a client opens must not swallow what proxies append.
fn split_last_hop(line: &[u8], header: ForwardedHeader) -> (&[u8], &[u8]) {
    let has_quotes = header == ForwardedHeader::Forwarded;
    let (mut is_quoted, mut before) = (false, line);
    while let Some((byte, rest)) = before.split_last() {
        let is_escaped = || rest.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
        if has_quotes && *byte == b'"' && !is_escaped() {
            is_quoted = !is_quoted;
        } else if *byte == b',' && !is_quoted {
            return (rest, line.get(before.len()..).unwrap_or_default().trim_ascii());
        }
        before = rest;
    }
    (&[], line.trim_ascii())
}

/// What follows the colon of `line` if its field is `name`.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (field, value) = (line.get(..name.len())?, line.get(name.len()..)?);
    field.eq_ignore_ascii_case(name).then(|| value.strip_prefix(b":")).flatten().map(<[u8]>::trim_ascii)
}

/// The `for` of one element of `Forwarded`; none if there is none, or more than one.
fn forwarded_for(element: &[u8]) -> Option<SocketAddr> {
    let pairs = split_unquoted(element, b';').map(<[u8]>::trim_ascii);
    let mut nodes = pairs.filter_map(|pair| {
        let (name, node) = pair.split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(node)
    });
    let (node, second) = (nodes.next()?, nodes.next());
    let bare = node.strip_prefix(b"\"").map_or(Some(node), |rest| rest.strip_suffix(b"\""))?;
    address(bare).filter(|_| second.is_none())
}

/// An address with or without port; IPv6 with a port is in brackets.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed =
        || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|ip| ip.contains(':'));
    let ip: Option<IpAddr> = text.parse().ok().or_else(|| bracketed()?.parse().ok());
    let address = ip.map(|ip| SocketAddr::new(ip, 0)).or_else(|| text.parse().ok())?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRUSTED: &[&str] = &["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"];

    fn trusted() -> Vec<Network> {
        TRUSTED.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn told(header: ForwardedHeader, lines: &[&str]) -> Option<String> {
        let name = match header {
            ForwardedHeader::XForwardedFor => "X-Forwarded-For",
            ForwardedHeader::Forwarded => "Forwarded",
        };
        let lines: String = lines.iter().map(|line| format!("{name}: {line}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: gateway\r\n{lines}\r\n");
        client(head.as_bytes(), header, &trusted()).map(|address| address.to_string())
    }

    #[test]
    fn a21_the_right_most_hop_that_is_not_trusted_is_the_client() {
        for (lines, expected) in [
            (&["198.51.100.7"][..], Some("198.51.100.7:0")),
            (&["198.51.100.7:4711"], Some("198.51.100.7:4711")),
            (&["6.6.6.6, 198.51.100.7"], Some("198.51.100.7:0")),
            (&["6.6.6.6, 198.51.100.7, 10.1.2.3,192.0.2.1"], Some("198.51.100.7:0")),
            (&["6.6.6.6", "198.51.100.7", "10.1.2.3"], Some("198.51.100.7:0")),
            (&["10.9.9.9, 10.1.2.3"], Some("10.9.9.9:0")),
            (&["198.51.100.7, unknown, 10.1.2.3"], Some("10.1.2.3:0")),
            (&["198.51.100.7, unknown"], None),
            (&["\"6.6.6.6, 198.51.100.7"], Some("198.51.100.7:0")),
            (&["198.51.100.7,,10.1.2.3,"], Some("198.51.100.7:0")),
            (&["2001:db8::1, 2001:db9::5"], Some("[2001:db9::5]:0")),
            (&["[2001:db9::5]:80"], Some("[2001:db9::5]:80")),
            (&["[2001:db9::5], 10.0.0.1"], Some("[2001:db9::5]:0")),
            (&["::ffff:198.51.100.7"], Some("198.51.100.7:0")),
            (&["[1.2.3.4]"], None),
            (&["1.2.3.4.5"], None),
            (&["1.2.3.4:99999"], None),
            (&["010.1.1.1"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(told(ForwardedHeader::XForwardedFor, lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn a21_forwarded_names_its_hops_by_for() {
        for (lines, expected) in [
            (&["for=198.51.100.7"][..], Some("198.51.100.7:0")),
            (&["for=6.6.6.6, FOR=198.51.100.7;proto=https;by=10.0.0.1"], Some("198.51.100.7:0")),
            (&["proto=https;for=\"[2001:db9::5]:4711\""], Some("[2001:db9::5]:4711")),
            (&["for=\"198.51.100.7:4711\", for=10.0.0.1"], Some("198.51.100.7:4711")),
            (&["for=198.51.100.7, host=\"a,for=6.6.6.6\";for=10.0.0.1"], Some("198.51.100.7:0")),
            (&["for=\", for=198.51.100.7"], Some("198.51.100.7:0")),
            (&["for=198.51.100.7, for=_hidden, for=10.0.0.1"], Some("10.0.0.1:0")),
            (&["for=198.51.100.7, proto=https"], None),
            (&["for=1.1.1.1;for=2.2.2.2"], None),
            (&["for=\"1.1.1.1"], None),
            (&["198.51.100.7"], None),
        ] {
            assert_eq!(told(ForwardedHeader::Forwarded, lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn a21_the_other_header_and_names_that_only_begin_alike_are_not_read() {
        let head = b"GET /x-forwarded-for:1.1.1.1 HTTP/1.1\r\nHost: x-forwarded-for:1.1.1.1\r\n\
            Forwarded: for=1.1.1.1\r\nX-Forwarded-For-Real: 2.2.2.2\r\nx-forwarded-for2:3.3.3.3\r\n\r\n";
        assert_eq!(client(head, ForwardedHeader::XForwardedFor, &trusted()), None);
    }

    fn hop() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(|octets| IpAddr::from(octets).to_string()),
            any::<[u8; 2]>().prop_map(|[a, b]| format!("10.0.{a}.{b}")),
            any::<[u16; 8]>().prop_map(|words| IpAddr::from(words).to_string()),
            "[ -+--~]{0,12}",
        ]
    }

    proptest! {
        #[test]
        fn a21_what_a_client_invents_to_the_left_changes_nothing(
            header in prop::sample::select(vec![ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded]),
            invented in prop::collection::vec(hop(), 0..8),
            client in any::<[u8; 4]>().prop_filter("not a proxy", |octets| octets[0] != 10 && octets[0] != 192),
            proxies in prop::collection::vec(any::<[u8; 2]>(), 0..4),
        ) {
            let client = IpAddr::from(client);
            let honest = std::iter::once(client.to_string())
                .chain(proxies.iter().map(|[a, b]| format!("10.7.{a}.{b}")));
            let honest: Vec<String> = match header {
                ForwardedHeader::XForwardedFor => honest.collect(),
                ForwardedHeader::Forwarded => honest.map(|hop| format!("by=\"a,\\\"b\";for=\"{hop}\"")).collect(),
            };
            let line = invented.iter().chain(&honest).cloned().collect::<Vec<_>>().join(", ");
            let told = told(header, &[line.as_str()]);
            prop_assert_eq!(told, Some(SocketAddr::new(client, 0).to_string()));
        }

        #[test]
        fn a21_no_bytes_bring_the_reading_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let head = [b"GET / HTTP/1.1\r\nForwarded:", bytes.as_slice(), b"\r\nX-Forwarded-For:", &bytes].concat();
            for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
                let _ = client(&head, header, &trusted());
            }
        }
    }
}
