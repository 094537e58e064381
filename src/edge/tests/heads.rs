//! Request lines, header syntax, singletons, bodies, keep-alive.

use super::*;
use RejectReason as R;

#[test]
fn a5_method_and_target_oddities() {
    let method_of_16 = "M".repeat(16);
    let method_of_17 = "M".repeat(17);
    for (line, reason) in [
        ("GET  / HTTP/1.1", R::RequestLine),
        (" GET / HTTP/1.1", R::RequestLine),
        ("GET / HTTP/1.1 ", R::RequestLine),
        ("GET / x HTTP/1.1", R::RequestLine),
        ("GET\t/ HTTP/1.1", R::RequestLine),
        ("GET /a b HTTP/1.1", R::RequestLine),
        ("GET /#top HTTP/1.1", R::RequestLine),
        ("GET /\u{e4} HTTP/1.1", R::RequestLine),
        ("GET /\u{7f} HTTP/1.1", R::RequestLine),
        ("GET /\0 HTTP/1.1", R::RequestLine),
        ("GET / http/1.1", R::RequestLine),
        ("GET / HTTP1.1", R::RequestLine),
        ("GET / HTTP/x", R::RequestLine),
        ("G(T / HTTP/1.1", R::RequestLine),
        ("G\u{e9}T / HTTP/1.1", R::RequestLine),
        ("nonsense", R::RequestLine),
        (&format!("{method_of_16} / HTTP/1.1"), R::Method),
        (&format!("{method_of_17} / HTTP/1.1"), R::RequestLine),
        ("get / HTTP/1.1", R::Method),
        ("GET /\\ HTTP/1.1", R::NoRoute),
        ("GET /{}|^`\"<> HTTP/1.1", R::NoRoute),
    ] {
        let request = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(outcome(request.as_bytes()), Outcome::Refused(reason), "{line:?}");
    }
}

#[test]
fn a9_duplicate_singletons_are_refused_equal_values_too() {
    for (name, value, other) in [
        ("Host", "gate.example", "other.example"),
        ("Content-Length", "0", "1"),
        ("Transfer-Encoding", "chunked", "gzip"),
        ("Origin", "http://a", "http://b"),
        ("Authorization", "Bearer a", "Bearer b"),
        ("Last-Event-ID", "00000000000000ab-1", ""),
        ("Content-Type", "text/plain", "text/html"),
        ("Sec-WebSocket-Key", KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Sec-WebSocket-Version", "13", "8"),
    ] {
        for second in [value, other] {
            for between in ["", "x: y\r\nAccept: */*\r\n"] {
                for second_name in [name.to_owned(), name.to_uppercase()] {
                    let request = format!(
                        "GET / HTTP/1.1\r\n{name}: {value}\r\n{between}{second_name}: {second}\r\nx: y\r\n\r\n"
                    );
                    assert_eq!(
                        outcome(request.as_bytes()),
                        Outcome::Refused(R::DuplicateHeader),
                        "{request}"
                    );
                }
            }
        }
    }
}

#[test]
fn a10_only_http_1_1_is_spoken() {
    for (request, reason) in [
        ("GET / HTTP/1.0\r\n\r\n", R::HttpVersion),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", R::HttpVersion),
        ("GET /\r\n\r\n", R::HttpVersion),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", R::HttpVersion),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", R::HttpVersion),
        ("GET / HTTP/11.1\r\nHost: a\r\n\r\n", R::HttpVersion),
    ] {
        assert_eq!(outcome(request.as_bytes()), Outcome::Refused(reason), "{request:?}");
    }
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n";
    assert_eq!(outcome(&get("/", h2c)), Outcome::Served, "an upgrade not known is ignored");
}

#[test]
fn a11_ambiguous_framing_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 00000000000000000005\r\n",
        // Well-formed, and yet a GET here has none.
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(outcome(&get("/", lines)), Outcome::Refused(R::Framing), "{lines}");
    }
    // Most often it is a GET with a body: to be told how to frame it would not help.
    let Decision::Respond { bytes, .. } = decide(&get("/", "Content-Length: 5\r\n")) else { panic!() };
    let body = Answer::of(&bytes).body;
    assert!(body.starts_with("framing: send no body") && body.contains("one Content-Length"), "{body}");
    for lines in ["Content-Length: 0\r\n", "Content-Length: 0000000000000000000\r\n"] {
        assert_eq!(outcome(&get("/", lines)), Outcome::Served, "{lines}");
    }
}

#[test]
fn a11_a_body_that_is_not_read_ends_the_connection() {
    for (line, reason) in [("POST / HTTP/1.1", R::Method), ("GET /nowhere HTTP/1.1", R::NoRoute)] {
        for (body, ends) in [("Content-Length: 5\r\n\r\nhello", true), ("Content-Length: 0\r\n\r\n", false)] {
            let request = format!("{line}\r\nHost: a\r\n{body}");
            let Decision::Respond { closes, reject, .. } = decide(request.as_bytes()) else {
                panic!("{request}")
            };
            assert_eq!((closes, reject), (ends, Some(reason)), "{request}");
        }
    }
}

#[test]
fn a12_an_upgrade_has_no_body() {
    let frame_like = "\u{1}\u{5}hello";
    for (lines, refused) in [
        ("Content-Length: 5\r\n", true),
        ("Content-Length: 0\r\n", false),
        ("Transfer-Encoding: chunked\r\n", true),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", true),
    ] {
        let mut request = upgrade("/", lines);
        let expected = if refused { Outcome::Refused(R::BodyOnUpgrade) } else { joins_lobby() };
        assert_eq!(outcome(&request), expected, "{lines}");
        if refused {
            request.extend(frame_like.bytes());
            assert_eq!(outcome(&request), expected, "{lines} with the body");
        }
    }
    assert_eq!(outcome(&upgrade("/", "Content-Length: five\r\n")), Outcome::Refused(R::Framing));
}

#[test]
fn a18_header_syntax_is_strict() {
    for (line, reason) in [
        ("NoColon", R::HeaderSyntax),
        (": no name", R::HeaderSyntax),
        ("Name : value", R::HeaderSyntax),
        ("Na me: value", R::HeaderSyntax),
        ("Na\u{e4}me: value", R::HeaderSyntax),
        ("Name: a\r\n folded", R::HeaderSyntax),
        ("Name: a\r\n\tfolded", R::HeaderSyntax),
        (" Name: first line folded", R::HeaderSyntax),
        ("Name: a\nInjected: b", R::HeaderSyntax),
        ("Name: a\rInjected: b", R::HeaderSyntax),
        ("Name: a\0b", R::HeaderSyntax),
        ("Name: a\u{1b}[31m", R::HeaderSyntax),
        ("Name: a\u{7f}", R::HeaderSyntax),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n");
        assert_eq!(outcome(request.as_bytes()), Outcome::Refused(reason), "{line:?}");
    }
    for good in ["Name:", "Name:value", "Name: \t value \t ", "Name: caf\u{e9}", "!#$%&'*+-.^_`|~: tokens"] {
        assert_eq!(outcome(&get("/", &format!("{good}\r\n"))), Outcome::Served, "{good:?}");
    }
}

#[test]
fn a18_every_byte_in_every_position_of_a_header_line() {
    for byte in 0..=u8::MAX {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_text = byte == b'\t' || (b' '..=b'~').contains(&byte) || byte >= 0x80;
        for (before, after, is_good) in [
            ("", "ame: value", is_token),
            ("Na", "e: value", is_token || byte == b':'),
            ("Name", "value", byte == b':'),
            ("Name:", "value", is_text),
            ("Name: val", "e", is_text),
            ("Name: value", "", is_text),
        ] {
            let request =
                [b"GET / HTTP/1.1\r\nHost: a\r\n", before.as_bytes(), &[byte], after.as_bytes(), b"\r\n\r\n"];
            let expected = if is_good { Outcome::Served } else { Outcome::Refused(R::HeaderSyntax) };
            assert_eq!(outcome(&request.concat()), expected, "{byte:#x} between {before:?} and {after:?}");
        }
    }
}

#[test]
fn hosts_are_one_and_valid() {
    let long = "h".repeat(256);
    for good in [
        "a",
        "gate.example",
        "GATE.example.",
        "gate_way:8080",
        "10.0.0.1:80",
        "[::1]",
        "[2001:db8::1]:443",
        "a:",
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n");
        assert_eq!(outcome(request.as_bytes()), Outcome::Served, "{good}");
    }
    for bad in [
        "", ":80", "a b", "a/b", "user@a", "a:b", "a:1:2", "a:123456", "a,b", "a%2e", "[::1", "::1", "[]",
        "[::1]x", "[gg::]", "a\\b", "\u{e4}", "a?b", "a#b", "<a>", &long,
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n");
        assert_eq!(outcome(request.as_bytes()), Outcome::Refused(R::Host), "{bad}");
    }
    assert_eq!(outcome(b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"), Outcome::Refused(R::Host));
}

#[test]
fn a24_connections_are_kept_until_either_side_has_enough() {
    let edge = edge();
    let closes = |request: &[u8], is_last| match edge.decide(request, false, is_last) {
        Decision::Respond { closes, .. } => closes,
        Decision::Join { .. } => panic!("no upgrade asked for"),
    };
    for (lines, wants_close) in [
        ("", false),
        ("Connection: keep-alive\r\n", false),
        ("Connection: close\r\n", true),
        ("Connection: keep-alive\r\nConnection: x, CLOSE\r\n", true),
        ("Connection: \"x, close, y\"\r\n", false),
    ] {
        assert_eq!(closes(&get("/", lines), false), wants_close, "{lines}");
        assert!(closes(&get("/", lines), true), "{lines}");
    }
    // Refusals that leave no doubt where the next request begins keep the connection.
    for (target, lines, ends) in [
        ("/nowhere", "", false),
        ("/ws/lobby", "", false),
        ("/ws/a..b", "", true),
        ("/", "Expect: 100-continue\r\n", false),
    ] {
        assert_eq!(closes(&get(target, lines), false), ends, "{target} {lines}");
    }
}

#[test]
fn a24_expectations_are_refused() {
    for value in ["100-continue", "100-Continue", "x", ""] {
        let request = get("/", &format!("Expect: {value}\r\n"));
        assert_eq!(outcome(&request), Outcome::Refused(R::Expectation), "{value}");
    }
}
