//! The PROXY protocol, versions 1 and 2: the header with which a trusted proxy says who it speaks for
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! [`read`] looks at the first bytes of a connection, as far as they have come, and refuses at the first that cannot
//! belong to a header. It is called again with all of them when there are more: what it looks at is bounded by
//! [`TEXT_BYTES_MAX`] and [`BINARY_BYTES_MAX`]. TLVs behind the addresses are skipped, a checksum among them too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::limits::PROXY_HEADER_BODY_BYTES_MAX;

/// Bytes of a header of version 1, its line end included (§2.1).
const TEXT_BYTES_MAX: usize = 107;
/// What a header of version 1 begins with.
const TEXT_START: &[u8] = b"PROXY ";
/// What a header of version 2 begins with (§2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const BINARY_START_BYTES: usize = 16;
/// Bytes of a header of version 2.
const BINARY_BYTES_MAX: usize = BINARY_START_BYTES + PROXY_HEADER_BODY_BYTES_MAX;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// A header may come of them.
    NeedMore,
    /// A whole header.
    Complete {
        /// Its bytes; what follows belongs to the request.
        length: usize,
        /// Who the proxy speaks for; none if for itself, or for somebody without an IP address.
        client: Option<SocketAddr>,
    },
}

/// Not a PROXY header, or one that says what it may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedProxyHeader;

/// Reads the header that `bytes`, all that came on the connection so far, begin with.
///
/// # Errors
/// They do not begin with one, whatever else comes: reset the connection.
pub fn read(bytes: &[u8]) -> Result<ProxyHeader, MalformedProxyHeader> {
    if may_begin(bytes, SIGNATURE) {
        return read_binary(bytes);
    }
    if may_begin(bytes, TEXT_START) {
        return read_text(bytes);
    }
    Err(MalformedProxyHeader)
}

/// Whether `bytes` and `start` are the same as far as both go.
fn may_begin(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted)
}

fn read_text(bytes: &[u8]) -> Result<ProxyHeader, MalformedProxyHeader> {
    let seen = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
    let Some(line_end) = seen.iter().position(|&byte| byte == b'\n') else {
        let is_text = seen.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r'));
        return if is_text && bytes.len() < TEXT_BYTES_MAX {
            Ok(ProxyHeader::NeedMore)
        } else {
            Err(MalformedProxyHeader)
        };
    };
    let line = seen.get(..line_end).and_then(|line| std::str::from_utf8(line).ok()?.strip_suffix('\r'));
    let words = line.and_then(|line| line.strip_prefix("PROXY ")).ok_or(MalformedProxyHeader)?;
    let client = if words == "UNKNOWN" || words.starts_with("UNKNOWN ") {
        None
    } else {
        Some(text_client(words).ok_or(MalformedProxyHeader)?)
    };
    Ok(ProxyHeader::Complete { length: line_end + 1, client })
}

/// `TCP4 client proxy client-port proxy-port`, with one space between.
fn text_client(words: &str) -> Option<SocketAddr> {
    let mut words = words.split(' ');
    let family = words.next()?;
    let [client, proxy] = [words.next()?, words.next()?].map(|word| word.parse::<IpAddr>().ok());
    let [client_port, proxy_port] = [words.next()?, words.next()?].map(port);
    let (client, proxy) = (client?, proxy?);
    let is_of_family = match family {
        "TCP4" => client.is_ipv4() && proxy.is_ipv4(),
        "TCP6" => client.is_ipv6() && proxy.is_ipv6(),
        _ => false,
    };
    (is_of_family && words.next().is_none() && proxy_port.is_some())
        .then_some(SocketAddr::new(client.to_canonical(), client_port?))
}

/// Digits without a sign or leading zeros.
fn port(word: &str) -> Option<u16> {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| is_plain)
}

fn read_binary(bytes: &[u8]) -> Result<ProxyHeader, MalformedProxyHeader> {
    let body_bytes = |body: usize| match body {
        body if body > PROXY_HEADER_BODY_BYTES_MAX => Err(MalformedProxyHeader),
        body => Ok(body),
    };
    let command = match bytes.get(12) {
        None => return Ok(ProxyHeader::NeedMore),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(MalformedProxyHeader),
    };
    let family = match bytes.get(13) {
        None => return Ok(ProxyHeader::NeedMore),
        Some(0x11) => Family::Tcp4,
        Some(0x21) => Family::Tcp6,
        // Unspecified, datagrams, UNIX sockets: whoever it is has no address to be known by.
        Some(0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Family::Other,
        Some(_) => return Err(MalformedProxyHeader),
    };
    let Some(&[high, low]) = bytes.get(14..BINARY_START_BYTES) else { return Ok(ProxyHeader::NeedMore) };
    let length = BINARY_START_BYTES + body_bytes(u16::from_be_bytes([high, low]).into())?;
    debug_assert!(length <= BINARY_BYTES_MAX);
    let least = match (command, family) {
        (Command::Proxy, Family::Tcp4) => 12,
        (Command::Proxy, Family::Tcp6) => 36,
        _ => 0,
    };
    if length - BINARY_START_BYTES < least {
        return Err(MalformedProxyHeader);
    }
    let Some(body) = bytes.get(BINARY_START_BYTES..length) else { return Ok(ProxyHeader::NeedMore) };
    let client = match (command, family) {
        (Command::Proxy, Family::Tcp4) => {
            binary_client::<4>(body).map(|(ip, port)| (Ipv4Addr::from(ip).into(), port))
        }
        (Command::Proxy, Family::Tcp6) => {
            binary_client::<16>(body).map(|(ip, port)| (Ipv6Addr::from(ip).into(), port))
        }
        _ => None,
    };
    let client = client.map(|(ip, port): (IpAddr, u16)| SocketAddr::new(ip.to_canonical(), port));
    Ok(ProxyHeader::Complete { length, client })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    /// The proxy speaks for itself: a health check.
    Local,
    Proxy,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Tcp4,
    Tcp6,
    Other,
}

/// Address and port of the client: both addresses stand before both ports.
fn binary_client<const BYTES: usize>(body: &[u8]) -> Option<([u8; BYTES], u16)> {
    let ip = body.first_chunk::<BYTES>()?;
    let port = body.get(2 * BYTES..)?.first_chunk::<2>()?;
    Some((*ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests;
