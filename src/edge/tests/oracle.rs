//! tungstenite's own handshake as the oracle: what we accept it must accept, with the same accept key.

use proptest::prelude::*;
use tungstenite::handshake::server::create_response;
use tungstenite::http;

use super::*;

/// A request as the oracle takes it. It reads one line of each list, split at commas and spaces, so that lines of
/// the same name are joined and tabs become spaces first; of the protocols offered it knows only its own.
fn for_oracle(request: &[u8]) -> http::Request<()> {
    let text = std::str::from_utf8(request).unwrap();
    let mut lines = text.trim_end().split("\r\n");
    let mut words = lines.next().unwrap().split(' ');
    let mut built = http::Request::builder().method(words.next().unwrap()).uri(words.next().unwrap());
    let (mut connection, mut upgrade) = (Vec::new(), Vec::new());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        match name.to_lowercase().as_str() {
            "connection" => connection.push(value.replace('\t', " ")),
            "upgrade" => upgrade.extend(value.split(',').map(|element| element.trim().to_lowercase())),
            _ => built = built.header(name, value.trim()),
        }
    }
    if let Some(protocol) = upgrade.into_iter().find(|protocol| protocol == "websocket") {
        built = built.header("Upgrade", protocol);
    }
    built.header("Connection", connection.join(",").trim()).body(()).unwrap()
}

/// Asserts that the oracle agrees when we accept; whether we did.
fn agrees(request: &[u8]) -> bool {
    let Decision::Join { response, .. } = decide(request) else { return false };
    let ours = Answer::of(&response);
    let theirs = create_response(&for_oracle(request)).expect("the oracle accepts what we accept");
    assert_eq!(ours.status, theirs.status().as_u16());
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        let their_value = theirs.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(ours.header(name), their_value, "{name}");
    }
    // It leaves subprotocols to its caller.
    let has_subprotocol = ours.header("sec-websocket-protocol").is_some();
    assert_eq!(ours.headers.len() - usize::from(has_subprotocol), theirs.headers().len());
    true
}

/// One of `choices`, the first one half of the time, so that whole requests often succeed.
fn mostly_first(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(choices[0]), proptest::sample::select(choices)]
}

#[test]
fn the_oracle_agrees_on_the_example_of_the_rfc() {
    assert!(agrees(&upgrade("/", "")));
    assert!(agrees(&upgrade("/ws?channels=a,b", "Sec-WebSocket-Protocol: chat\r\n")));
    assert!(agrees(&upgrade("/ws?channels=a&since=&max_rate=1/s", "")));
    assert!(agrees(&upgrade("/ws", "Sec-WebSocket-Protocol: tidegate.v1\r\n")));
    assert!(!agrees(&upgrade("/sse/a", "")));
}

proptest! {
    #[test]
    fn the_oracle_accepts_what_we_accept(
        method in mostly_first(&["GET", "POST", "HEAD"]),
        target in mostly_first(&["/", "/ws/a", "/ws?channels=a,b", "/nowhere"]),
        connection in mostly_first(&["Upgrade", "keep-alive,\tupgrade", "x\r\nConnection: UPGRADE", "close", "upgraded"]),
        protocol in mostly_first(&["websocket", "WebSocket", "h2c, websocket", "h2c\r\nUpgrade: websocket", "websocket/13"]),
        version in mostly_first(&["13", "8", "13, 8", "013", ""]),
        key_bytes in any::<[u8; 22]>(),
        key_end in mostly_first(&["==", "=", "", "A="]),
        last_digit in mostly_first(&["A", "Q", "g", "w", "B", "/"]),
    ) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits: String = key_bytes[..21].iter().map(|&byte| char::from(DIGITS[usize::from(byte & 63)])).collect();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\nUpgrade: {protocol}\r\n\
             Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {digits}{last_digit}{key_end}\r\n\r\n"
        );
        agrees(request.as_bytes());
    }
}
