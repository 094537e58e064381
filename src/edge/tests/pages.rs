//! The demo page and the fixed answers.

use super::*;

fn served(request: &[u8]) -> Answer {
    let Decision::Respond { bytes, reject: None, .. } = decide(request) else { panic!("refused") };
    Answer::of(&bytes)
}

#[test]
fn the_page_knows_its_channel_and_whether_it_may_send() {
    for (target, channel, relay) in
        [("/", "lobby", "on"), ("/?channel=lobby", "lobby", "on"), ("/?channel=a%3Ab", "a:b", "off")]
    {
        let page = served(&get(target, ""));
        assert!(
            page.body.contains(&format!("data-channel=\"{channel}\" data-relay=\"{relay}\"")),
            "{target}"
        );
        assert!(page.body.contains(&format!("curl -d hello localhost:8090/publish/{channel}<")), "{target}");
        assert!(page.body.contains("data-max-message=\"65536\""), "{target}");
        assert!(!page.body.contains("{{"), "{target}: a placeholder is left");
    }
}

#[test]
fn the_page_shows_no_address_of_the_operators_network() {
    let config = Config { admin_listen: "10.1.2.3:9000".parse().unwrap(), ..Config::default() };
    let Decision::Respond { bytes, .. } = Edge::new(&config).decide(&get("/", ""), false, false) else {
        panic!()
    };
    let page = Answer::of(&bytes);
    assert!(
        page.body.contains("curl -d hello ADMIN-HOST:9000/publish/lobby") && !page.body.contains("10.1.2.3")
    );
}

#[test]
fn the_page_allows_nothing_but_its_own() {
    let page = served(&get("/", ""));
    let policy = page.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|directive| directive == part), "{part} in {policy}");
    }
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("server"), None);
    for target in ["/", "/page.js", "/tidegate.js", "/page.css"] {
        let body = served(&get(target, "")).body;
        for foreign in ["http://", "https://", "style=", "onclick", "innerHTML", "eval("] {
            assert!(!body.contains(foreign), "{foreign} in {target}");
        }
    }
}

#[test]
fn everything_that_the_page_fetches_is_there() {
    let page = served(&get("/", "")).body;
    for (target, content_type) in [
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/tidegate.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        assert!(page.contains(&format!("\"{target}\"")), "{target}");
        let asset = served(&get(target, ""));
        assert_eq!(asset.header("content-type"), Some(content_type));
        assert_eq!(asset.header("content-length"), Some(asset.body.len().to_string().as_str()));
        assert!(!asset.body.is_empty());
    }
}

#[test]
fn head_is_get_without_the_body() {
    for target in ["/", "/page.js", "/?channel=news", "/nowhere", "/ws/lobby", "/ws/a..b"] {
        let answers =
            [get(target, ""), [b"HEAD".as_slice(), &get(target, "")[3..]].concat()].map(|request| {
                let Decision::Respond { bytes, .. } = decide(&request) else { panic!("{target}") };
                Answer::of(&bytes)
            });
        let [with_body, without] = answers;
        assert_eq!((with_body.status, &with_body.headers), (without.status, &without.headers), "{target}");
        assert!(!with_body.body.is_empty() && without.body.is_empty(), "{target}");
    }
}

#[test]
fn refusals_are_fixed_text_of_the_vocabulary() {
    let edge = edge();
    for &reason in RejectReason::ALL {
        let answer = Answer::of(&edge.refusal(reason, Some(7)));
        assert_eq!(answer.status, reason.status());
        assert_eq!(answer.body, format!("{}: {}\n", reason.token(), reason.cure()));
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.header("connection").is_some_and(|value| value.contains("close")), "{reason}");
        assert_eq!(answer.header("server"), None);
        for library in ["httparse", "tungstenite", "src/", ".rs"] {
            assert!(!answer.body.contains(library), "{reason}");
        }
    }
    assert_eq!(Answer::of(&edge.refusal(RejectReason::Draining, None)).header("retry-after"), None);
}

#[test]
#[should_panic(expected = "with control bytes")]
fn a18_a_header_value_with_a_line_end_is_never_built() {
    let _ = crate::edge::response::Response::new(200).header("X", "a\r\nInjected: b");
}
