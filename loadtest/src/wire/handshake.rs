//! The opening handshake of RFC 6455 §4: the client's request and its checks of the answer (§4.1),
//! and the least that a server must answer (§4.2.2), for the built-in bare server.

use super::sha1::{base64, sha1};
use super::url::Url;

/// Appended to the key before hashing (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes of answer head after which we give up on a server.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The value a server must send back for this key.
pub fn accept_key(key: &[u8]) -> String {
    let mut input = [0u8; 128];
    let length = key.len().min(input.len() - GUID.len());
    input[..length].copy_from_slice(&key[..length]);
    input[length..length + GUID.len()].copy_from_slice(GUID);
    base64(&sha1(&input[..length + GUID.len()]))
}

/// A key of 16 bytes made from a number: distinct per connection, not secret (§4.1 asks for a nonce
/// only to tell a WebSocket server from one that is not).
pub fn key_from(number: u64) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17).to_be_bytes());
    base64(&bytes)
}

/// The upgrade request, with a subprotocol and extensions if such are to be asked for.
pub fn request(url: &Url, key: &str, subprotocol: Option<&str>, extensions: Option<&str>) -> String {
    let line = |name: &str, value| format!("{name}: {value}\r\n");
    let offer = [("Sec-WebSocket-Protocol", subprotocol), ("Sec-WebSocket-Extensions", extensions)]
        .into_iter()
        .filter_map(|(name, value)| Some(line(name, value?)))
        .collect::<String>();
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n",
        url.path, url.host
    )
}

/// The answer of a server that checks nothing.
pub fn response(key: &[u8]) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    )
}

/// Length of the head in front of `\r\n\r\n`, that included; `None` while it is incomplete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Checks that an answer begins as one of HTTP/1.1 does, as far as it has come.
///
/// # Errors
/// One line with what came instead.
pub fn check_version(bytes: &[u8]) -> Result<(), String> {
    let begins = b"HTTP/1.1 ".starts_with(&bytes[..bytes.len().min(9)]);
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let told = || format!("the server does not speak HTTP/1.1: it answered '{}'", excerpt(line));
    begins.then_some(()).ok_or_else(told)
}

/// The value of a header, trimmed, by its name in any case; the first if there are several.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    headers(head, name).next()
}

/// Checks the answer to our upgrade. `Ok(None)` asks for more bytes; `Ok(Some(n))` means upgraded,
/// with frames beginning at byte `n`. `subprotocol` is the one that was asked for. Extensions are refused unless
/// some were offered: then it is the caller who looks at them.
///
/// # Errors
/// One line that says what was wrong with the answer, for the user.
pub fn check_response(
    bytes: &[u8],
    key: &str,
    subprotocol: Option<&str>,
    offers_extensions: bool,
) -> Result<Option<usize>, String> {
    let Some(length) = head_length(bytes) else {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(format!("the answer to the upgrade has more than {HEAD_BYTES_MAX} bytes of head"));
        }
        check_version(bytes)?;
        return Ok(None);
    };
    let head = &bytes[..length];
    let status_line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    if !status_line.starts_with(b"HTTP/1.1 101") {
        return Err(format!("the server refused the upgrade: '{}'", excerpt(status_line)));
    }
    if !header(head, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err("the 101 answer lacks 'Upgrade: websocket' (RFC 6455 §4.1)".into());
    }
    let upgrades = |value: &[u8]| {
        value.split(|&b| b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    };
    if !headers(head, "connection").any(upgrades) {
        return Err("the 101 answer lacks 'Connection: Upgrade' (RFC 6455 §4.1)".into());
    }
    if header(head, "sec-websocket-accept") != Some(accept_key(key.as_bytes()).as_bytes()) {
        return Err("the 101 answer has a wrong Sec-WebSocket-Accept (RFC 6455 §4.1)".into());
    }
    for (name, offered) in [("sec-websocket-extensions", None), ("sec-websocket-protocol", subprotocol)] {
        let chosen = header(head, name).filter(|_| !(offers_extensions && name.ends_with("extensions")));
        if chosen.is_some() && chosen != offered.map(str::as_bytes) {
            let chosen = excerpt(chosen.unwrap_or_default());
            return Err(format!("the server chose a {name} that was not offered: '{chosen}'"));
        }
    }
    Ok(Some(length))
}

/// The values of a header, trimmed, by its name in any case; one for each line.
pub fn headers<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).filter_map(move |line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// The first bytes of what a peer said, made printable.
pub fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    #[test]
    fn the_accept_key_of_the_rfc() {
        assert_eq!(accept_key(KEY.as_bytes()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn an_answer_is_accepted_at_its_last_byte_and_not_before() {
        let answer = response(KEY.as_bytes());
        for end in 0..answer.len() {
            assert_eq!(check_response(&answer.as_bytes()[..end], KEY, None, false), Ok(None), "{end}");
        }
        assert_eq!(
            check_response(format!("{answer}\u{1}").as_bytes(), KEY, None, false),
            Ok(Some(answer.len()))
        );
    }

    #[test]
    fn each_wrong_answer_is_refused_with_its_cause() {
        let good = response(KEY.as_bytes());
        let cases = [
            ("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n\r\n".to_owned(), "503"),
            ("SSH-2.0-OpenSSH_9\r\n".to_owned(), "HTTP/1.1"),
            (good.replace("Upgrade: websocket\r\n", ""), "Upgrade: websocket"),
            (good.replace("Connection: Upgrade", "Connection: close"), "Connection"),
            (good.replace("s3pP", "AAAA"), "Accept"),
            (
                good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
                "extensions",
            ),
        ];
        for (answer, cause) in cases {
            let error = check_response(answer.as_bytes(), KEY, None, false).expect_err(&answer);
            assert!(error.contains(cause), "{error}");
        }
        let chosen = good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n");
        assert!(check_response(chosen.as_bytes(), KEY, Some("mqtt"), false).is_ok());
        assert!(check_response(chosen.as_bytes(), KEY, None, false).is_err());
    }

    #[test]
    fn our_own_request_is_what_our_own_server_answers() {
        let url = "ws://127.0.0.1:1/x".parse().unwrap();
        let key = key_from(7);
        let request = request(&url, &key, None, None);
        assert_eq!(header(request.as_bytes(), "Sec-WebSocket-Key"), Some(key.as_bytes()));
        assert_eq!(head_length(request.as_bytes()), Some(request.len()));
        assert_eq!(key.len(), 24);
    }
}
