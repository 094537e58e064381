//! What requests may ask: where a page comes from (A14), which host is meant (A15), which subprotocol is spoken (A19),
//! how many channels are joined (C10). The tables stand beside the edge; here are samples of each on real sockets.

use crate::support::http::upgrade_request;
use crate::support::{Gateway, Oracles, PATIENCE, RawClient, RawOptions, Response};
use std::net::SocketAddr;

/// What the port at `address` answers a request for an upgrade of `target` for `host`, with further header `lines`.
#[track_caller]
fn ask(address: SocketAddr, target: &str, host: &str, lines: &[&str]) -> Response {
    let mut client = RawClient::connect(address, RawOptions::default());
    client.send(&upgrade_request(target, host, lines));
    let response = client.response();
    if response.status == 101 {
        return response;
    }
    // A refusal says a token of the vocabulary and ends the connection.
    client.wait_end(PATIENCE);
    response
}

/// Status and token of a refusal.
fn refused(response: &Response) -> (u16, String) {
    (response.status, response.text().split(':').next().unwrap_or_default().to_owned())
}

#[test]
fn a14_pages_from_elsewhere_get_no_websocket() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let host = gateway.clients.to_string();
    let origin = |origin: &str| format!("Origin: {origin}");
    let from_page = |line: &str| ask(gateway.clients, "/", &host, &[line]);
    assert_eq!(from_page(&origin(&format!("http://{host}"))).status, 101, "the demo page's own");
    assert_eq!(from_page("X-Origin: http://evil.example").status, 101, "no browser");
    for foreign in
        ["http://evil.example", "null", "http://localhost", &format!("http://{host}.evil.example"), ""]
    {
        let response = from_page(&origin(foreign));
        assert_eq!(refused(&response), (403, "origin".to_owned()), "{foreign}");
        assert!(response.text().contains("--allow-origin"), "{}", response.text());
    }
    let labels = "tidegate_rejected_total{reason=\"origin\",status=\"403\"} 5";
    let metrics = gateway.admin().get("/metrics").text();
    assert!(metrics.contains(labels), "{metrics}");
    oracles.check(&mut gateway);

    let listed =
        Gateway::start(&["--allow-origin", "https://app.example", "--allow-origin", "https://*.b.example"]);
    for (page, status) in [
        ("https://app.example", 101),
        ("https://a.b.example", 101),
        ("https://b.example", 403),
        ("null", 403),
    ] {
        assert_eq!(ask(listed.clients, "/", &host, &[&origin(page)]).status, status, "{page}");
    }
    let own = origin(&format!("http://{}", listed.clients));
    assert_eq!(ask(listed.clients, "/", &listed.clients.to_string(), &[&own]).status, 403, "the list is all");
}

#[test]
fn a14_an_entry_that_no_browser_can_send_is_refused_at_start() {
    for (option, entry, fix) in [
        ("--allow-origin", "app.example", "with its scheme"),
        ("--allow-origin", "https://app.example/", "leave out the path"),
        ("--allow-origin", "null", "`null` is never let in"),
        ("--allow-origin", "https://a*.example", "the whole left label"),
        ("--allow-host", "https://app.example", "the host alone"),
        ("--allow-host", "*", "leave the option out"),
        ("--subprotocol", "chat v1", "write 1 to 100 of"),
    ] {
        let ended = Gateway::run(&["check", option, entry]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        for part in [option, entry, fix] {
            assert!(ended.log.contains(part), "{part} in {}", ended.log);
        }
    }
    let ended = Gateway::run(&["check", "--allow-origin", "https://B.example:443,*"]);
    assert!(ended.printed.contains("allow_origin = [\"https://b.example\", \"*\"]"), "{}", ended.printed);
}

#[test]
fn a15_a_host_that_is_not_served_is_told_so() {
    let mut gateway = Gateway::start(&["--allow-host", "live.example,*.edge.example,127.0.0.1"]);
    let oracles = Oracles::before(&gateway);
    for (host, status, token) in [
        ("live.example", 101, ""),
        ("LIVE.example.:8443", 101, ""),
        ("one.edge.example", 101, ""),
        ("edge.example", 421, "misdirected"),
        ("evil.example", 421, "misdirected"),
        ("localhost", 421, "misdirected"),
        ("live.example@evil.example", 400, "host"),
    ] {
        let response = ask(gateway.clients, "/", host, &[]);
        assert_eq!(response.status, status, "{host}");
        assert!(status == 101 || refused(&response).1 == token, "{}", response.text());
    }
    oracles.check(&mut gateway);
}

#[test]
fn a15_the_admin_port_answers_no_name_that_others_can_point_here() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    // As a browser would whose user opened a page of a name that resolves to loopback: DNS rebinding.
    for (request_line, host, status) in [
        ("GET /api/connections", "rebound.evil.example", 403),
        ("GET /livez", "localhost.evil.example:8090", 403),
        ("GET /livez", "127.0.0.1.evil.example", 403),
        ("POST /publish/lobby", "rebound.evil.example", 403),
        ("GET /livez", "localhost", 200),
        ("GET /livez", "LOCALHOST:8090", 200),
        ("GET /livez", "[::1]:8090", 200),
        ("GET /livez", "user@localhost", 403),
        ("GET /livez", "", 403),
    ] {
        let mut client = RawClient::connect(gateway.admin, RawOptions::default());
        let request = format!(
            "{request_line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        client.send(request.as_bytes());
        let response = client.response();
        assert_eq!(response.status, status, "{request_line} {host}: {}", response.text());
        assert!(status == 200 || response.json()["error"] == "host", "{}", response.text());
    }
    oracles.check(&mut gateway);
}

#[test]
fn a19_of_the_subprotocols_offered_the_first_of_ours_is_spoken_and_none_echoed() {
    let mut gateway = Gateway::start(&["--subprotocol", "v2", "--subprotocol", "v1"]);
    let oracles = Oracles::before(&gateway);
    let host = gateway.clients.to_string();
    for (offered, agreed) in
        [("v1", Some("v1")), ("bearer.secret, v1, v2", Some("v1")), ("bearer.secret", None), ("V1", None)]
    {
        let line = format!("Sec-WebSocket-Protocol: {offered}");
        let response = ask(gateway.clients, "/", &host, &[&line]);
        assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, agreed), "{offered}");
    }
    for offered in ["v1,,v2", "", "v1;v2", &" ,".repeat(4000), &"v1,".repeat(17)] {
        let line = format!("Sec-WebSocket-Protocol: {offered}");
        let response = ask(gateway.clients, "/", &host, &[&line]);
        assert_eq!(refused(&response), (400, "subprotocol".to_owned()), "{offered}");
    }
    oracles.check(&mut gateway);
}

#[test]
fn c10_a_connection_joins_128_channels_and_not_one_more() {
    let mut gateway = Gateway::start(&["--shards", "2"]);
    let oracles = Oracles::before(&gateway);
    let host = gateway.clients.to_string();
    let names = |count: usize| (0..count).map(|number| format!("c.{number}")).collect::<Vec<_>>().join(",");
    let joined = |names: &str| ask(gateway.clients, &format!("/ws?channels={names}"), &host, &[]);
    for (names, expected) in [
        (names(129), (400, "channel_limit")),
        (names(128) + "&channels=c.128", (400, "channel_limit")),
        ("a".repeat(256), (400, "bad_channel")),
        (format!("a,{}", "b".repeat(256)), (400, "bad_channel")),
        ("a,,b".to_owned(), (400, "bad_channel")),
    ] {
        let (status, token) = refused(&joined(&names));
        assert_eq!((status, token.as_str()), expected, "{names}");
    }
    assert_eq!(gateway.metric("tidegate_channels"), 1.0, "no channel of a refused request lives");

    let mut client = gateway.join(&format!("/ws?channels={},c.0,c.127&channels=c.1", names(128)));
    let mut longest = gateway.join(&format!("/ws/{}", "a".repeat(255)));
    gateway.admin().publish("c.127", "once");
    gateway.admin().publish("c.0", "and once");
    gateway.admin().publish(&"a".repeat(255), "far");
    // Channels of two homes: which comes first is not said.
    let mut both = [client.next_text(), client.next_text()];
    both.sort();
    assert_eq!(both, ["and once", "once"]);
    assert_eq!(longest.next_text(), "far");
    client.close();
    longest.close();
    oracles.check(&mut gateway);
}
