//! Which pages may connect, which hosts are served, which subprotocols are agreed to.

use super::*;
use crate::model::{AllowedOrigin, ServedHost, Subprotocol};
use RejectReason as R;

/// An edge that lets these pages in and serves these hosts.
fn edge_of(origins: &[&str], hosts: &[&str]) -> Edge {
    let config = Config {
        allow_origin: origins.iter().map(|text| AllowedOrigin::parse(text).unwrap()).collect(),
        allow_host: hosts.iter().map(|text| ServedHost::parse(text).unwrap()).collect(),
        ..Config::default()
    };
    Edge::new(&config)
}

/// An upgrade for `host` that a page of `origin` asks for.
fn from_page(origin: &str, host: &str) -> Vec<u8> {
    for_host(upgrade("/", &format!("Origin: {origin}\r\n")), host)
}

/// The event stream of `lobby` that a page of `origin` asks `host` for.
fn stream_from_page(origin: &str, host: &str) -> Vec<u8> {
    for_host(get("/sse/lobby", &format!("Origin: {origin}\r\n")), host)
}

fn for_host(request: Vec<u8>, host: &str) -> Vec<u8> {
    let request = String::from_utf8(request).unwrap();
    request.replace("Host: gate.example", &format!("Host: {host}")).into_bytes()
}

#[test]
fn a14_sixty_pages_that_ask_for_a_websocket_or_a_stream() {
    let own = edge_of(&[], &[]);
    let own_hosts = [
        // The page's origin, the host that it asks, whether it is let in.
        ("http://gate.example", "gate.example", true),
        ("https://gate.example", "gate.example", true),
        ("HTTPS://Gate.Example", "gATE.eXAMPLE", true),
        ("http://gate.example:8080", "gate.example:8080", true),
        ("https://gate.example:8443", "gate.example:8443", true),
        ("http://gate.example", "gate.example:80", true),
        ("https://gate.example", "gate.example:443", true),
        ("http://gate.example:80", "gate.example", true),
        ("https://gate.example:443", "gate.example", true),
        ("http://gate.example", "gate.example:", true),
        ("http://localhost:8080", "localhost:8080", true),
        ("http://10.0.0.1:8080", "10.0.0.1:8080", true),
        ("http://[::1]:8080", "[::1]:8080", true),
        ("http://[::1]", "[0:0:0:0:0:0:0:1]", true),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example", true),
        ("https://gate.example.", "gate.example.", true),
        ("null", "gate.example", false),
        ("NULL", "null", false),
        ("", "gate.example", false),
        ("gate.example", "gate.example", false),
        ("//gate.example", "gate.example", false),
        ("://gate.example", "gate.example", false),
        ("http:gate.example", "gate.example", false),
        ("https://gate.example", "gate.example:80", false),
        ("http://gate.example", "gate.example:443", false),
        ("http://gate.example", "gate.example:8080", false),
        ("http://gate.example:8080", "gate.example", false),
        ("http://gate.example:3000", "gate.example:8080", false),
        ("https://gate.example.", "gate.example", false),
        ("https://gate.example", "gate.example.", false),
        ("https://gate.example.evil.example", "gate.example", false),
        ("https://evilgate.example", "gate.example", false),
        ("https://evil.gate.example", "gate.example", false),
        ("https://gate.example@evil.example", "gate.example", false),
        ("https://evil.example@gate.example", "gate.example", false),
        ("https://gate.example:443@evil.example", "gate.example", false),
        ("https://gate.example/", "gate.example", false),
        ("https://gate.example/page", "gate.example", false),
        ("https://gate.example?x", "gate.example", false),
        ("https://gate.example#x", "gate.example", false),
        ("https://gate.example:", "gate.example", false),
        ("https://gate.example:0443", "gate.example", false),
        ("https://gate.example:443x", "gate.example", false),
        ("https://gate.example:65979", "gate.example", false),
        ("https://gate.example https://evil.example", "gate.example", false),
        ("https://gate.example, https://gate.example", "gate.example", false),
        ("https://g\u{e4}te.example", "gate.example", false),
        ("https://gate%2eexample", "gate.example", false),
        ("https://gate\\.example", "gate.example", false),
        ("chrome-extension://gate.example", "gate.example", false),
        ("file://", "gate.example", false),
        ("http://127.0.0.1:8080", "localhost:8080", false),
        ("http://0x7f.1:8080", "127.0.0.1:8080", false),
        ("http://[::ffff:127.0.0.1]", "127.0.0.1", false),
        ("http://::1", "[::1]", false),
        ("http://[::1]x", "[::1]", false),
    ];
    let listed = edge_of(
        &["https://app.example", "http://localhost:3000", "https://*.pages.example", "capacitor://localhost"],
        &[],
    );
    let lists = [
        ("https://app.example", true),
        ("HTTPS://APP.example:443", true),
        ("http://localhost:3000", true),
        ("https://one.pages.example", true),
        ("https://ONE.pages.EXAMPLE:443", true),
        ("capacitor://localhost", true),
        ("http://app.example", false),
        ("https://app.example:444", false),
        ("https://gate.example", false),
        ("https://pages.example", false),
        ("https://two.one.pages.example", false),
        ("https://.pages.example", false),
        ("https://onepages.example", false),
        ("https://one.pages.example.evil.example", false),
        ("https://one.pages.example.", false),
        ("https://*.pages.example", false),
        ("http://localhost", false),
        ("capacitor://localhost:80", false),
        ("null", false),
        ("https://app.example https://app.example", false),
    ];
    assert!(own_hosts.len() + lists.len() >= 60);
    let expected = |lets_in: bool| if lets_in { joins_lobby() } else { Outcome::Refused(R::Origin) };
    for (origin, host, lets_in) in own_hosts {
        for request in [from_page(origin, host), stream_from_page(origin, host)] {
            assert_eq!(outcome_by(&own, &request), expected(lets_in), "{origin} asks {host}");
        }
    }
    for (origin, lets_in) in lists {
        for request in [from_page(origin, "gate.example"), stream_from_page(origin, "gate.example")] {
            assert_eq!(outcome_by(&listed, &request), expected(lets_in), "{origin}");
        }
    }
    let any = edge_of(&["*"], &[]);
    for (origin, lets_in) in [
        ("https://evil.example", true),
        ("chrome-extension://abc", true),
        ("null", false),
        ("", false),
        ("https://a https://b", false),
    ] {
        for request in [from_page(origin, "gate.example"), stream_from_page(origin, "gate.example")] {
            assert_eq!(outcome_by(&any, &request), expected(lets_in), "{origin}");
        }
    }
}

#[test]
fn a14_two_origins_are_refused_and_none_is_no_browser() {
    for edge in [edge_of(&[], &[]), edge_of(&["https://app.example"], &[])] {
        assert_eq!(outcome_by(&edge, &upgrade("/", "")), joins_lobby());
        assert_eq!(outcome_by(&edge, &get("/sse/lobby", "")), joins_lobby());
        let twice = "Origin: https://app.example\r\nOrigin: https://app.example\r\n";
        for request in [upgrade("/", twice), get("/sse/lobby", twice)] {
            assert_eq!(outcome_by(&edge, &request), Outcome::Refused(R::DuplicateHeader));
        }
    }
}

#[test]
fn a14_only_upgrades_and_streams_are_asked_where_they_come_from() {
    let foreign = "Origin: https://evil.example\r\n";
    assert_eq!(outcome(&get("/", foreign)), Outcome::Served);
    assert_eq!(outcome(&get("/page.js", foreign)), Outcome::Served);
    assert_eq!(outcome(&get("/ws/lobby", foreign)), Outcome::Refused(R::NotWebSocket));
    assert_eq!(outcome(&upgrade("/ws/lobby", foreign)), Outcome::Refused(R::Origin));
    assert_eq!(outcome(&get("/sse/lobby", foreign)), Outcome::Refused(R::Origin));
    assert_eq!(outcome(&get("/sse?channels=a", foreign)), Outcome::Refused(R::Origin));
    let Decision::Respond { bytes, closes, .. } = decide(&upgrade("/", foreign)) else { panic!() };
    let answer = Answer::of(&bytes);
    assert!(closes && answer.body.contains("--allow-origin"), "{}", answer.body);
}

#[test]
fn a15_sixty_hosts() {
    let long = |length: usize| {
        let label = "h".repeat(63);
        let name = [label.as_str(); 4].join(".");
        name[..length.min(name.len())].to_owned() + &"h".repeat(length.saturating_sub(name.len()))
    };
    let (longest, too_long) = (long(255), long(256));
    let served = Outcome::Served;
    let misdirected = || Outcome::Refused(R::Misdirected);
    let invalid = || Outcome::Refused(R::Host);
    let table = [
        ("live.example", served.clone()),
        ("LIVE.Example", served.clone()),
        ("live.example.", served.clone()),
        ("live.example:80", served.clone()),
        ("live.example:8443", served.clone()),
        ("live.example.:8443", served.clone()),
        ("live.example:", served.clone()),
        (" live.example \t", served.clone()),
        ("one.edge.example", served.clone()),
        ("ONE.edge.example:443", served.clone()),
        ("_x.edge.example", served.clone()),
        ("localhost:8080", served.clone()),
        ("10.0.0.1", served.clone()),
        ("10.0.0.1:1", served.clone()),
        ("[::1]", served.clone()),
        ("[::1]:8080", served.clone()),
        ("[0:0::1]", served.clone()),
        ("[2001:DB8::1]:443", served),
        ("localhost", misdirected()),
        ("localhost:80", misdirected()),
        ("localhost:", misdirected()),
        ("edge.example", misdirected()),
        ("two.one.edge.example", misdirected()),
        ("oneedge.example", misdirected()),
        ("evil.example", misdirected()),
        ("live.example.evil.example", misdirected()),
        ("evil-live.example", misdirected()),
        ("a.live.example", misdirected()),
        ("live", misdirected()),
        ("10.0.0.2", misdirected()),
        ("010.0.0.1", misdirected()),
        ("10.1", misdirected()),
        ("0x0a000001", misdirected()),
        ("[::2]", misdirected()),
        ("[2001:db8::1]:80", misdirected()),
        ("[2001:db8::1]", misdirected()),
        ("[::ffff:10.0.0.1]", misdirected()),
        ("xn--bcher-kva.example", misdirected()),
        (&longest, misdirected()),
        (&too_long, invalid()),
        ("", invalid()),
        (":80", invalid()),
        (".", invalid()),
        ("..", invalid()),
        (".live.example", invalid()),
        ("live..example", invalid()),
        ("live.example..", invalid()),
        ("live.example:x", invalid()),
        ("live.example:-1", invalid()),
        ("live.example:+80", invalid()),
        ("live.example:8 0", invalid()),
        ("live.example:65536", invalid()),
        ("live.example:000080", invalid()),
        ("live.example:80:80", invalid()),
        ("user@live.example", invalid()),
        ("user:secret@live.example", invalid()),
        ("live.example@evil.example", invalid()),
        ("live .example", invalid()),
        ("live.example evil.example", invalid()),
        ("live.example,evil.example", invalid()),
        ("live.example/", invalid()),
        ("http://live.example", invalid()),
        ("live%2eexample", invalid()),
        ("live\\example", invalid()),
        ("*.edge.example", invalid()),
        ("l\u{ef}ve.example", invalid()),
        ("::1", invalid()),
        ("[::1", invalid()),
        ("::1]", invalid()),
        ("[]", invalid()),
        ("[::1]x", invalid()),
        ("[::1]]", invalid()),
        ("[::1%25lo]", invalid()),
        ("[10.0.0.1]", invalid()),
        ("[:::1]", invalid()),
        ("[1:2]", invalid()),
    ];
    assert!(table.len() >= 60);
    let hosts =
        ["live.example", "*.edge.example", "localhost:8080", "10.0.0.1", "[::1]", "[2001:db8::1]:443"];
    let (listed, any) = (edge_of(&[], &hosts), edge_of(&[], &[]));
    for (host, expected) in table {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(outcome_by(&listed, request.as_bytes()), expected, "{host:?}");
        let anywhere = if expected == invalid() { expected } else { Outcome::Served };
        assert_eq!(outcome_by(&any, request.as_bytes()), anywhere, "{host:?} where every host is served");
    }
}

#[test]
fn a15_every_route_and_the_upgrade_are_of_the_host() {
    let edge = edge_of(&[], &["live.example"]);
    for target in ["/", "/page.js", "/ws/lobby", "/sse/lobby", "/nowhere", "/ws/a..b"] {
        for request in [get(target, ""), upgrade(target, "")] {
            assert_eq!(outcome_by(&edge, &request), Outcome::Refused(R::Misdirected), "{target}");
        }
    }
    let request = String::from_utf8(upgrade("/", "")).unwrap().replace("gate.example", "live.example");
    assert_eq!(outcome_by(&edge, request.as_bytes()), joins_lobby());
}

#[test]
fn a19_only_what_is_configured_is_answered() {
    let config = Config {
        subprotocols: ["v1", "v2"].map(|name| Subprotocol::parse(name).unwrap()).to_vec(),
        ..Config::default()
    };
    let (ours, none) = (Edge::new(&config), edge_of(&[], &[]));
    for (lines, agreed) in [
        (&["v2, v1"][..], Some("v2")),
        (&["secret-token, v1"], Some("v1")),
        (&["secret-token", "v1"], Some("v1")),
        (&["secret-token"], None),
        (&["V1"], None),
        (&[], None),
    ] {
        let lines: String = lines.iter().map(|line| format!("Sec-WebSocket-Protocol: {line}\r\n")).collect();
        for (edge, agreed) in [(&ours, agreed), (&none, None)] {
            let Decision::Join { response, .. } = decide_by(edge, &upgrade("/", &lines)) else {
                panic!("{lines}")
            };
            assert_eq!(Answer::of(&response).header("sec-websocket-protocol"), agreed, "{lines}");
        }
    }
    let seventeen = ["v1"; 17].join(", ");
    for bad in ["", "v1,", "v1, , v2", "v1 v2", "\"v1\"", &seventeen] {
        let request = upgrade("/", &format!("Sec-WebSocket-Protocol: {bad}\r\n"));
        assert_eq!(outcome_by(&ours, &request), Outcome::Refused(R::Subprotocol), "{bad}");
    }
}

#[test]
fn a19_tidegate_v1_is_known_without_being_configured() {
    let config = Config {
        subprotocols: ["chat", "v2"].map(|name| Subprotocol::parse(name).unwrap()).to_vec(),
        ..Config::default()
    };
    let (chatting, none) = (Edge::new(&config), edge_of(&[], &[]));
    for (edge, offered, agreed, dialect) in [
        (&none, "tidegate.v1", Some("tidegate.v1"), Dialect::V1),
        (&none, "chat, tidegate.v1", Some("tidegate.v1"), Dialect::V1),
        (&none, "secret-token,tidegate.v1,x", Some("tidegate.v1"), Dialect::V1),
        (&none, "chat", None, Dialect::Plain),
        (&none, "tidegate.v2", None, Dialect::Plain),
        (&none, "TIDEGATE.V1", None, Dialect::Plain),
        (&chatting, "tidegate.v1, chat", Some("tidegate.v1"), Dialect::V1),
        (&chatting, "chat, tidegate.v1", Some("chat"), Dialect::Plain),
        (&chatting, "x, v2, tidegate.v1, chat", Some("v2"), Dialect::Plain),
        (&chatting, "tidegate.v1\r\nSec-WebSocket-Protocol: chat", Some("tidegate.v1"), Dialect::V1),
        (&chatting, "chat\r\nSec-WebSocket-Protocol: tidegate.v1", Some("chat"), Dialect::Plain),
    ] {
        for target in ["/", "/?channel=a", "/ws/a", "/ws?channels=a,b"] {
            let join = joined_by(edge, &upgrade(target, &format!("Sec-WebSocket-Protocol: {offered}\r\n")));
            assert_eq!(Answer::of(&join.response).header("sec-websocket-protocol"), agreed, "{offered}");
            assert_eq!(join.dialect, dialect, "{offered}");
            assert!(!join.requests.is_empty(), "{target}");
        }
        // Only who can subscribe later may name nothing.
        let request = upgrade("/ws", &format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        let expected =
            if dialect == Dialect::V1 { Outcome::Joins(Vec::new()) } else { Outcome::Refused(R::BadChannel) };
        assert_eq!(outcome_by(edge, &request), expected, "{offered}");
    }
    let offer = "Sec-WebSocket-Protocol: tidegate.v1\r\n";
    for (target, reason) in [
        ("/ws?channels=", R::BadChannel),
        ("/ws/", R::BadChannel),
        ("/ws?since=", R::BadPosition),
        ("/ws?max_rate=0/s", R::BadParameter),
    ] {
        assert_eq!(outcome(&upgrade(target, offer)), Outcome::Refused(reason), "{target}");
    }
    assert_eq!(outcome(&get("/ws", offer)), Outcome::Refused(R::NotWebSocket), "an upgrade that got lost");
    let config =
        Config { subprotocols: vec![Subprotocol::parse("tidegate.v1").unwrap()], ..Config::default() };
    assert_eq!(
        joined_by(&Edge::new(&config), &upgrade("/", offer)).dialect,
        Dialect::V1,
        "configured as well"
    );
}
