//! What is an opening handshake and what is not.

use super::*;
use RejectReason as R;

#[test]
fn a6_forty_ways_to_ask_for_an_upgrade() {
    let joins = joins_lobby;
    let not_websocket = || Outcome::Refused(R::NotWebSocket);
    let websocket = "Upgrade: websocket\r\n";
    let table = [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", joins()),
        ("connection: upgrade\r\nupgrade: websocket\r\n", joins()),
        ("CONNECTION: UPGRADE\r\nUPGRADE: WEBSOCKET\r\n", joins()),
        ("Connection: Upgrade\r\nUpgrade: WebSocket\r\n", joins()),
        ("Upgrade: websocket\r\nConnection: Upgrade\r\n", joins()),
        ("Connection:Upgrade\r\nUpgrade:websocket\r\n", joins()),
        ("Connection: \t Upgrade \t \r\nUpgrade: \twebsocket\t\r\n", joins()),
        ("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: keep-alive,Upgrade\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: keep-alive ,\tUpgrade\t,x\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: ,, Upgrade ,,\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: Upgrade\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: Upgrade\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: Upgrade, close\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n", joins()),
        ("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", joins()),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: \"a, b\", Upgrade\r\nUpgrade: websocket\r\n", joins()),
        ("Connection: \"a\\\", b\", Upgrade\r\nUpgrade: websocket\r\n", joins()),
        (websocket, not_websocket()),
        ("Connection: keep-alive\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: close\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection:\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: Upgraded\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: not-upgrade\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: keep-alive Upgrade\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: keep-alive; Upgrade\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: \"Upgrade\"\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: \"a, Upgrade, b\"\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: \"a, Upgrade\r\nUpgrade: websocket\r\n", not_websocket()),
        ("Connection: Upgrade\r\n", not_websocket()),
        ("Connection: Upgrade\r\nUpgrade:\r\n", not_websocket()),
        ("Connection: Upgrade\r\nUpgrade: websockets\r\n", not_websocket()),
        ("Connection: Upgrade\r\nUpgrade: websocket/13\r\n", not_websocket()),
        ("Connection: Upgrade\r\nUpgrade: web socket\r\n", not_websocket()),
        ("Connection: Upgrade\r\nUpgrade: \"websocket\"\r\n", not_websocket()),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", not_websocket()),
        ("Connection: websocket\r\nUpgrade: Upgrade\r\n", not_websocket()),
    ];
    assert_eq!(table.len(), 40);
    for (lines, expected) in table {
        let rest = format!("Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n");
        for target in ["/", "/ws/lobby"] {
            assert_eq!(outcome(&get(target, &format!("{lines}{rest}"))), expected, "{target} {lines:?}");
        }
        for method in ["POST", "PUT", "OPTIONS", "get"] {
            let request = String::from_utf8(get("/ws/lobby", &format!("{lines}{rest}"))).unwrap();
            let request = request.replacen("GET", method, 1);
            assert_eq!(outcome(request.as_bytes()), Outcome::Refused(R::Method), "{method} {lines:?}");
        }
    }
}

#[test]
fn a6_what_is_no_upgrade_is_told_how_to_make_one() {
    let Decision::Respond { bytes, closes, .. } = decide(&get("/ws/lobby", "")) else { panic!() };
    let answer = Answer::of(&bytes);
    assert!(!closes);
    assert_eq!(answer.status, 426);
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection"), Some("Upgrade"));
    assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let Decision::Respond { bytes, .. } = decide(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n") else { panic!() };
    let answer = Answer::of(&bytes);
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn a6_the_method_of_an_upgrade_is_get() {
    let head = String::from_utf8(upgrade("/ws/lobby", "")).unwrap().replacen("GET", "HEAD", 1);
    let Decision::Respond { bytes, reject, .. } = decide(head.as_bytes()) else { panic!() };
    assert_eq!(reject, Some(R::NotWebSocket));
    assert_eq!(Answer::of(&bytes).body, "");
}

#[test]
fn the_101_is_complete_and_ours() {
    let offers = "Sec-WebSocket-Protocol: chat, v2\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let Decision::Join { response, .. } = decide(&upgrade("/", offers)) else { panic!() };
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    assert_eq!(String::from_utf8(response).unwrap(), expected);
}

/// An otherwise valid upgrade with these lines of `Sec-WebSocket-Extensions`.
fn offering(lines: &[String]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("Sec-WebSocket-Extensions: {line}\r\n")).collect();
    upgrade("/", &lines)
}

#[test]
fn a20_whatever_is_offered_is_declined_and_the_handshake_succeeds() {
    let Decision::Join { response: plain, .. } = decide(&offering(&[])) else { panic!() };
    let bits = (0..=20).flat_map(|bits| {
        ["server_max_window_bits", "client_max_window_bits"]
            .map(|name| format!("permessage-deflate; {name}={bits}"))
    });
    let odd = [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"10\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=-1",
        "permessage-deflate; server_max_window_bits=99999999999999999999",
        "permessage-deflate; unknown=\"a, b; c\"",
        "permessage-deflate;",
        "permessage-deflate, permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
        "; ; ;",
        ", , ,",
        "",
        "\"",
        "=",
        "permessage-deflate; =",
        "__proto__; constructor=1",
    ];
    for line in bits.chain(odd.map(str::to_owned)) {
        let Decision::Join { response, .. } = decide(&offering(std::slice::from_ref(&line))) else {
            panic!("{line}")
        };
        assert_eq!(response, plain, "{line}");
    }
}

#[test]
fn a20_more_than_eight_offers_or_a_kibibyte_are_refused() {
    let offers = |count: usize| vec!["a; b=\"1, 2, \\\", 3\""; count].join(" ,, ");
    let refused = Outcome::Refused(R::TooManyExtensions);
    for (lines, expected) in [
        (vec![offers(8)], joins_lobby()),
        (vec![offers(9)], refused.clone()),
        (vec![offers(3), offers(5)], joins_lobby()),
        (vec![offers(4), offers(5)], refused.clone()),
        (vec![",".repeat(500)], joins_lobby()),
        (vec!["a".repeat(1024)], joins_lobby()),
        (vec!["a".repeat(1025)], refused.clone()),
        (vec!["a".repeat(512), "b".repeat(513)], refused),
    ] {
        assert_eq!(outcome(&offering(&lines)), expected, "{lines:?}");
    }
}

#[test]
fn a7_any_version_but_one_13_is_told_the_right_one() {
    for version in [
        Some("12"),
        Some("14"),
        Some("8"),
        Some("13, 8"),
        Some("13,13"),
        Some("013"),
        Some("+13"),
        Some(""),
        None,
    ] {
        let line = version.map_or(String::new(), |version| format!("Sec-WebSocket-Version: {version}\r\n"));
        let lines =
            format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {KEY}\r\n{line}");
        let Decision::Respond { bytes, closes, reject } = decide(&get("/", &lines)) else {
            panic!("{version:?}")
        };
        assert_eq!((reject, closes), (Some(R::WebSocketVersion), false), "{version:?}");
        let answer = Answer::of(&bytes);
        assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")), "{version:?}");
    }
}

/// The outcome of an otherwise valid upgrade with `key`.
fn with_key(key: &str) -> Outcome {
    let offer = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    outcome(&get("/", &format!("{offer}Sec-WebSocket-Key: {key}\r\n")))
}

#[test]
fn a8_a_key_is_the_canonical_base64_of_16_bytes() {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bad = Outcome::Refused(R::WebSocketKey);
    // The naive twin: encode byte strings of every length; only those of 16 bytes pass.
    for length in 0..=64usize {
        let bytes: Vec<u8> = (0..length).map(|index| (index * 37 + 11) as u8).collect();
        let mut key = String::new();
        for chunk in bytes.chunks(3) {
            let word =
                chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
            for digit in 0..4 {
                let value = (word >> (18 - 6 * digit)) as usize & 63;
                key.push(if digit <= chunk.len() { char::from(DIGITS[value]) } else { '=' });
            }
        }
        assert_eq!(with_key(&key), if length == 16 { joins_lobby() } else { bad.clone() }, "{key}");
        let unpadded = key.trim_end_matches('=');
        if unpadded != key {
            assert_eq!(with_key(unpadded), bad, "{unpadded}");
        }
        assert_eq!(with_key(&"A".repeat(length)), bad);
    }
    // The last digit carries two bits: four of 64 are canonical.
    for &digit in DIGITS {
        let key = format!("AAAAAAAAAAAAAAAAAAAAA{}==", char::from(digit));
        let is_canonical = b"AQgw".contains(&digit);
        assert_eq!(with_key(&key), if is_canonical { joins_lobby() } else { bad.clone() }, "{key}");
    }
    for key in [
        "dGhlIHNhbXBsZSBub25jZQ=A",
        "dGhlIHNhbXBsZSBub25-ZQ==",
        "dGhlIHNhbXBsZSBub2 jZQ==",
        "========================",
    ] {
        assert_eq!(with_key(key), bad, "{key}");
    }
    let without = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    assert_eq!(outcome(&get("/", without)), bad);
}

#[test]
fn a13_bytes_before_the_101_are_refused() {
    let frame = [0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    for target in ["/", "/ws/lobby", "/nowhere", "/page.js"] {
        let request = [upgrade(target, "").as_slice(), &frame].concat();
        let Decision::Respond { closes, reject, .. } = decide(&request) else { panic!("{target}") };
        assert_eq!((closes, reject), (true, Some(R::EarlyData)), "{target}");
    }
    let pipelined = [get("/", ""), get("/", "")].concat();
    assert_eq!(outcome(&pipelined), Outcome::Served, "a request may follow a plain one");
}
