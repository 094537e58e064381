//! Event streams: what leads to one, what its head says and to whom, and where a client that comes back goes on.

use super::*;
use crate::model::{AllowedOrigin, Epoch, Offset, Position};
use RejectReason as R;

const PLAIN_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
    Cache-Control: no-store, no-transform\r\nX-Content-Type-Options: nosniff\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\
    Connection: close\r\n";

fn edge_of(origins: &[&str]) -> Edge {
    let allow_origin = origins.iter().map(|text| AllowedOrigin::parse(text).unwrap()).collect();
    Edge::new(&Config { allow_origin, ..Config::default() })
}

/// A request for the stream of `lobby` with this `Origin`.
fn from_page(origin: &str) -> Vec<u8> {
    get("/sse/lobby", &format!("Origin: {origin}\r\n"))
}

#[test]
fn a_stream_has_one_channel_by_path_or_several_by_query() {
    let many: Vec<String> = (0..128).map(|index| format!("c{index}")).collect();
    let list = format!("/sse?channels={}", many.join(","));
    for (target, names, dialect) in [
        ("/sse/lobby", vec!["lobby"], Dialect::Events),
        ("/sse/a%3Ab?x=y", vec!["a:b"], Dialect::Events),
        ("/sse/a?channels=b", vec!["a"], Dialect::Events),
        ("http://gate.example/sse/lobby", vec!["lobby"], Dialect::Events),
        ("/sse?channels=a", vec!["a"], Dialect::EnvelopedEvents),
        ("/sse?channels=b,a,b&channels=c%2Ca", vec!["b", "a", "c"], Dialect::EnvelopedEvents),
        (&list, many.iter().map(String::as_str).collect(), Dialect::EnvelopedEvents),
    ] {
        let join = joined(&get(target, ""));
        let channels: Vec<_> = join.requests.iter().map(|request| request.channel.as_str()).collect();
        assert_eq!((channels, join.dialect), (names, dialect), "{target}");
        assert_eq!(join.compression, Compression::Declined, "{target}");
    }
    for (target, reason) in [
        ("/sse", R::BadChannel),
        ("/sse?", R::BadChannel),
        ("/sse/", R::BadChannel),
        ("/sse?channel=a", R::BadChannel),
        ("/sse?channels=", R::BadChannel),
        ("/sse?channels=a,", R::BadChannel),
        ("/sse/a..b", R::BadChannel),
        ("/sse/a%25", R::BadChannel),
        ("/sse/a%253Ab", R::BadChannel),
        (&format!("{list},one-more"), R::ChannelLimit),
        ("/SSE/a", R::NoRoute),
        ("/sse/a/b", R::NoRoute),
        ("//sse/a", R::NoRoute),
        ("/ws/sse/a", R::NoRoute),
        ("/%73se/a", R::NoRoute),
        ("/sse%2Fa", R::NoRoute),
    ] {
        assert_eq!(outcome(&get(target, "")), Outcome::Refused(reason), "{target}");
    }
}

#[test]
fn the_head_of_a_stream_is_complete_and_ours() {
    for lines in ["", "Accept: text/event-stream\r\n", "Accept: text/html\r\nConnection: keep-alive\r\n"] {
        let response = joined(&get("/sse/lobby", lines)).response;
        assert_eq!(String::from_utf8(response).unwrap(), format!("{PLAIN_HEAD}\r\n"), "{lines}");
    }
}

#[test]
fn head_gets_the_head_of_the_stream_and_the_connection_ends() {
    for (lines, foreign) in
        [("", false), ("Origin: http://gate.example\r\n", false), ("Origin: null\r\n", true)]
    {
        let request = String::from_utf8(get("/sse/lobby", lines)).unwrap();
        let head = request.replacen("GET", "HEAD", 1);
        let Decision::Respond { bytes, closes, reject } = decide(head.as_bytes()) else { panic!("{lines}") };
        assert!(closes);
        assert_eq!(reject, foreign.then_some(R::Origin));
        assert!(bytes.ends_with(b"\r\n\r\n"), "no body");
        if !foreign {
            assert_eq!(bytes, joined(request.as_bytes()).response, "as GET");
        }
    }
    for (line, reason) in [
        ("POST /sse/lobby", R::Method),
        ("OPTIONS /sse/lobby", R::Method),
        ("HEAD /sse", R::BadChannel),
        ("HEAD /sse/lobby?since=x", R::BadPosition),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: gate.example\r\n\r\n");
        assert_eq!(outcome(request.as_bytes()), Outcome::Refused(reason), "{line}");
    }
    let with_body = get("/sse/lobby", "Content-Length: 5\r\n");
    assert_eq!(outcome(&with_body), Outcome::Refused(R::Framing));
}

#[test]
fn a16_who_wants_a_websocket_gets_no_stream() {
    for target in ["/sse/lobby", "/sse?channels=a,b"] {
        assert_eq!(outcome(&upgrade(target, "")), Outcome::Refused(R::NoRoute), "{target}");
        // What is left of an upgrade behind a proxy that drops Connection.
        for lines in [
            "Upgrade: websocket\r\n",
            "Sec-WebSocket-Version: 13\r\n",
            &format!("Sec-WebSocket-Key: {KEY}\r\n"),
        ] {
            assert_eq!(outcome(&get(target, lines)), Outcome::Refused(R::NoRoute), "{target} {lines}");
        }
        let other = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
        assert!(matches!(outcome(&get(target, other)), Outcome::Joins(_)), "ignored");
        let early = [upgrade(target, "").as_slice(), b"\x81\x80\0\0\0\0"].concat();
        assert_eq!(outcome(&early), Outcome::Refused(R::EarlyData), "{target}");
    }
    let Decision::Respond { bytes, .. } = decide(&upgrade("/sse/lobby", "")) else { panic!() };
    assert!(Answer::of(&bytes).body.contains("/ws/CHANNEL"), "it is told where to go");
}

#[test]
fn a14_a_page_reads_a_stream_if_it_is_let_in() {
    let own = edge_of(&[]);
    let listed = edge_of(&["https://app.example", "https://*.pages.example", "http://[::1]:3000"]);
    let any = edge_of(&["*"]);
    let both = edge_of(&["*", "https://app.example"]);
    // With cookies: None is refused.
    for (edge, origin, credentials) in [
        (&own, "http://gate.example", Some(false)),
        (&own, "https://gate.example", Some(false)),
        (&own, "HTTPS://Gate.Example:443", Some(false)),
        (&own, "https://app.example", None),
        (&own, "http://gate.example:8080", None),
        (&own, "https://gate.example.evil.example", None),
        (&own, "https://gate.example/", None),
        (&own, "https://user@gate.example", None),
        (&own, "null", None),
        (&own, "", None),
        (&listed, "https://app.example", Some(true)),
        (&listed, "HTTPS://APP.example:443", Some(true)),
        (&listed, "https://one.pages.example", Some(true)),
        (&listed, "http://[::1]:3000", Some(true)),
        (&listed, "http://[0:0::1]:3000", Some(true)),
        (&listed, "http://app.example", None),
        (&listed, "https://app.example:444", None),
        (&listed, "https://pages.example", None),
        (&listed, "https://two.one.pages.example", None),
        (&listed, "https://gate.example", None),
        (&listed, "null", None),
        (&listed, "https://app.example https://app.example", None),
        (&listed, "https://\u{e4}pp.example", None),
        (&any, "https://evil.example", Some(false)),
        (&any, "chrome-extension://abc", Some(false)),
        (&any, "null", None),
        (&any, "https://a, https://b", None),
        (&both, "https://app.example", Some(true)),
        (&both, "https://evil.example", Some(false)),
    ] {
        let request = from_page(origin);
        let Some(has_credentials) = credentials else {
            assert_eq!(outcome_by(edge, &request), Outcome::Refused(R::Origin), "{origin}");
            continue;
        };
        let answer = Answer::of(&joined_by(edge, &request).response);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
        assert_eq!(answer.header("vary"), Some("Origin"), "{origin}");
        let allowed = answer.header("access-control-allow-credentials");
        assert_eq!(allowed, has_credentials.then_some("true"), "{origin}");
    }
    for edge in [&own, &listed, &any] {
        let response = joined_by(edge, &get("/sse/lobby", "")).response;
        assert_eq!(String::from_utf8(response).unwrap(), format!("{PLAIN_HEAD}\r\n"), "no page, no CORS");
    }
}

#[test]
fn a18_every_byte_in_an_origin_is_refused_or_answered_as_it_came() {
    let any = edge_of(&["*"]);
    for byte in 0..=u8::MAX {
        for (before, after) in
            [("", "ttp://a"), ("ht", "p://a"), ("http://a", "b"), ("http://a:8", "0"), ("http://a", "")]
        {
            let value = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            let request =
                [b"GET /sse/a HTTP/1.1\r\nHost: a\r\nOrigin: ", value.as_slice(), b"\r\n\r\n"].concat();
            if let Decision::Join { response, .. } = decide_by(&any, &request) {
                let answer = Answer::of(&response);
                let origin = value.trim_ascii();
                assert_eq!(answer.header("access-control-allow-origin").map(str::as_bytes), Some(origin));
                assert_eq!(answer.headers.len(), 8, "no line more");
            }
        }
    }
}

#[test]
fn the_last_event_wins_over_since_and_says_nothing_if_malformed() {
    let at = |offset| Some(Position { epoch: Epoch(0xab), offset: Offset(offset) });
    let begins = |target: &str, last: &str| -> Vec<_> {
        let join = joined(&get(target, &format!("Last-Event-ID: {last}\r\n")));
        join.requests.iter().map(|request| request.since).collect()
    };
    let since = "since=00000000000000ab-4";
    for (last, expected) in [
        ("00000000000000ab-17", at(17)),
        ("\t00000000000000ab-17 ", at(17)),
        ("", None),
        ("x", at(4)),
        ("00000000000000ab-017", at(4)),
        ("00000000000000ab-17,", at(4)),
        ("00000000000000ab%2D17", at(4)),
        ("\u{e4}", at(4)),
    ] {
        assert_eq!(begins(&format!("/sse/a?{since}"), last), [expected], "{last:?}");
    }
    assert_eq!(begins("/sse/a", "00000000000000ab-17"), [at(17)]);
    assert_eq!(begins("/sse/a", "x"), [None]);
    let list = "/sse?channels=b,a,b&since=00000000000000ab-1,00000000000000ab-2";
    assert_eq!(begins(list, ",00000000000000ab-3"), [None, at(3)]);
    for malformed in ["00000000000000ab-3", ",,", "00000000000000ab-3,x"] {
        assert_eq!(begins(list, malformed), [at(1), at(2)], "{malformed}");
    }
    let refused = get("/sse/a?since=x", "Last-Event-ID: 00000000000000ab-17\r\n");
    assert_eq!(outcome(&refused), Outcome::Refused(R::BadPosition), "the target is the client's to mend");
    let socket = joined(&upgrade("/ws/a", "Last-Event-ID: 00000000000000ab-17\r\n"));
    assert_eq!(socket.requests[0].since, None, "a WebSocket has no such header");
}
