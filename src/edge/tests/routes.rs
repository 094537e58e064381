//! Targets: their forms, where they lead, and that upgrades go no other way.

use super::*;
use RejectReason as R;

#[test]
fn a16_targets_are_reduced_once() {
    for (line, expected) in [
        ("GET / HTTP/1.1", Outcome::Served),
        ("GET http://gate.example/ HTTP/1.1", Outcome::Served),
        ("GET HTTP://GATE.example HTTP/1.1", Outcome::Served),
        ("GET https://gate.example?channel=news HTTP/1.1", Outcome::Served),
        ("GET http://gate.example/nowhere HTTP/1.1", Outcome::Refused(R::NoRoute)),
        ("GET http://other.example/ HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET http://gate.example:80/ HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET http://user@gate.example/ HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET http:/// HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET ftp://gate.example/ HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET gate.example/ HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET * HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("OPTIONS * HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("CONNECT gate.example:443 HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("CONNECT / HTTP/1.1", Outcome::Refused(R::TargetForm)),
        ("GET gate.example:443 HTTP/1.1", Outcome::Refused(R::TargetForm)),
    ] {
        let request = format!("{line}\r\nHost: gate.example\r\n\r\n");
        assert_eq!(outcome(request.as_bytes()), expected, "{line}");
    }
}

/// Every kind of target, good and bad.
fn targets() -> Vec<String> {
    let many = |count: usize| (0..count).map(|index| format!("c{index}")).collect::<Vec<_>>().join(",");
    let mut targets: Vec<String> = [
        "/",
        "/?",
        "/?x=y",
        "/?channel=news",
        "/?channel=a%3Ab",
        "/?channel=",
        "/?channel=a..b",
        "/?channels=a",
        "/ws",
        "/ws?",
        "/ws/",
        "/ws/lobby",
        "/ws/news.eu",
        "/ws/a%3Ab",
        "/ws/a%3ab",
        "/ws/a%",
        "/ws/a%3",
        "/ws/a%zz",
        "/ws/a%253A",
        "/ws/%e4",
        "/ws/a+b",
        "/ws/a/b",
        "/ws/lobby/",
        "/ws/lobby?x=y",
        "/ws?channels=",
        "/ws?channels",
        "/ws?channels=a,b",
        "/ws?channels=a&channels=b",
        "/ws?channels=a%2Cb",
        "/ws?channels=b,a,b",
        "/ws?channels=a,",
        "/ws?channels=a,,b",
        "/ws?x=y&channels=a",
        "/ws?channel=a",
        "/ws?channelsx=a",
        "/ws?since=x",
        "/ws?since=",
        "/ws/a?since=x",
        "/ws/a?since=,",
        "/ws/a?snapshot=2",
        "/?max_rate=0/s",
        "/?since=&since=",
        "/?channel=a&channel=a",
        "/sse",
        "/sse/",
        "/sse/lobby",
        "/sse/a%3Ab",
        "/sse/a%253A",
        "/sse/a/b",
        "/sse/..",
        "/sse?channels=a,b",
        "/sse?channels=a,",
        "/sse/a?since=x",
        "/sse/a?snapshot=",
        "/page.js",
        "/page.css",
        "/favicon.svg",
        "/page.js?v=1",
        "/favicon.ico",
        "/PAGE.JS",
        "//",
        "/ws//lobby",
        "/./",
        "/../",
        "/ws/..",
        "/ws/.",
        "/ws/%2e%2e",
        "/ws/a%2fb",
        "/ws/a%00",
        "/ws/a%5Cb",
        "/ws/a\\b",
        "/page.js%00",
        "/%2e%2e/etc/passwd",
        "/etc/passwd",
        "/metrics",
        "/healthz",
        "/publish/lobby",
    ]
    .map(str::to_owned)
    .to_vec();
    for count in [128, 129] {
        targets.push(format!("/ws?channels={}", many(count)));
    }
    targets
}

#[test]
fn a16_upgrade_and_plain_requests_take_the_same_route() {
    for target in targets() {
        let plain = outcome(&get(&target, ""));
        let upgraded = outcome(&upgrade(&target, ""));
        match (&plain, &upgraded) {
            (Outcome::Refused(R::NotWebSocket) | Outcome::Served, Outcome::Joins(_)) => {}
            (Outcome::Joins(_), Outcome::Refused(R::NoRoute)) if target.starts_with("/sse") => {}
            _ => assert_eq!(plain, upgraded, "{target}"),
        }
    }
}

#[test]
fn a16_channels_are_named_by_path_or_query() {
    let many = (0..128).map(|index| format!("c{index}")).collect::<Vec<_>>();
    let joined = many.join(",");
    let with_repeats = format!("{joined},{joined}");
    let longest = "n".repeat(255);
    for (target, names) in [
        ("/", vec!["lobby"]),
        ("/?x=y", vec!["lobby"]),
        ("/?channel=news", vec!["news"]),
        ("/ws/news.eu", vec!["news.eu"]),
        ("/ws/a%3Ab", vec!["a:b"]),
        ("/ws/a:b?x=y", vec!["a:b"]),
        (&format!("/ws/{longest}"), vec![longest.as_str()]),
        ("/ws?channels=a", vec!["a"]),
        ("/ws?channels=a,b", vec!["a", "b"]),
        ("/ws?channels=a%2Cb", vec!["a", "b"]),
        ("/ws?x=y&channels=b&z&channels=a,b", vec!["b", "a"]),
        (&format!("/ws?channels={joined}"), many.iter().map(String::as_str).collect()),
        (&format!("/ws?channels={with_repeats}"), many.iter().map(String::as_str).collect()),
    ] {
        let names = names.into_iter().map(str::to_owned).collect();
        assert_eq!(outcome(&upgrade(target, "")), Outcome::Joins(names), "{target}");
    }
    let too_long = format!("/ws/{}", "n".repeat(256));
    let too_many = format!("/ws?channels={joined},one-more");
    for (target, reason) in [
        (too_long.as_str(), R::BadChannel),
        (too_many.as_str(), R::ChannelLimit),
        ("/ws", R::BadChannel),
        ("/ws/", R::BadChannel),
        ("/ws?channels=", R::BadChannel),
        ("/ws?channels=a,", R::BadChannel),
        ("/ws?channels=a,,b", R::BadChannel),
        ("/ws/a..b", R::BadChannel),
        ("/ws/a*", R::BadPattern),
        ("/ws/a%zz", R::BadChannel),
        ("/ws/a%c3%a4", R::BadChannel),
        ("/ws/a%253Ab", R::BadChannel),
        ("/?channel=", R::BadChannel),
        ("/?channel=<script>", R::BadPattern),
    ] {
        assert_eq!(outcome(&upgrade(target, "")), Outcome::Refused(reason), "{target}");
    }
}

#[test]
fn a17_nothing_leads_to_a_file() {
    for target in [
        "/..",
        "/../etc/passwd",
        "/./page.js",
        "//page.js",
        "/page.js/",
        "/page.js/..",
        "/page.js%00",
        "/page%2ejs",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2fetc/passwd",
        "/ws/..",
        "/ws/.",
        "/ws/%2e%2e",
        "/ws/%2E.",
        "/ws/../page.js",
        "/ws/a%2fb",
        "/ws/a%2Fb",
        "/ws/a/b",
        "/ws/..%2fpage.js",
        "/ws/a%5cb",
        "/ws/a\\b",
        "/ws/a%00",
        "/ws/%00",
        "/\\..\\page.js",
        "/page.JS",
        "/index.html",
        "/page/page.js",
        "/.git/config",
        "/sse/..",
        "/sse/.",
        "/sse/%2e%2e",
        "/sse/../page.js",
        "/sse/a%2fb",
        "/sse/a/b",
        "/sse/a%5cb",
        "/sse/a\\b",
        "/sse/%00",
        "/sse/lobby/../../etc/passwd",
    ] {
        assert_eq!(outcome(&get(target, "")), Outcome::Refused(R::NoRoute), "{target}");
        assert_eq!(outcome(&upgrade(target, "")), Outcome::Refused(R::NoRoute), "{target}");
    }
}
