//! What must hold through any proxy. Each case starts a gateway and the proxy that it is handed.

use super::Proxy;
use super::requests::{Probe, ambiguous_publishes, ambiguous_requests};
use crate::script::{expect_success, node};
use crate::support::frame::{close_payload, masked_fragment};
use crate::support::http::upgrade_request;
use crate::support::{
    ConnectionEnd, Gateway, Message, Opcode, Oracles, PATIENCE, RawClient, RawOptions, Response,
    WebSocketClient, masked_frame, wait_until,
};
use std::net::SocketAddr;

/// The Node client's whole list, compressed, through the proxy; publishing at `publish`.
pub fn npm_ws_sees_a_correct_server(
    start: impl FnOnce(&Gateway) -> Proxy,
    publish: impl FnOnce(&Proxy, &Gateway) -> SocketAddr,
) {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--compression", "on"]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let mut command = node("npm_ws.mjs");
    command.args([format!("ws://{}", proxy.clients), format!("http://{}", publish(&proxy, &gateway))]);

    expect_success(command);

    drop(proxy);
    oracles.check(&mut gateway);
}

/// Text and binary, up to 64 KiB, whole and in fragments, from a sender to a subscriber and back.
pub fn messages_pass_in_both_directions(start: impl FnOnce(&Gateway) -> Proxy) {
    let mut gateway = Gateway::start(&["--relay", "lobby"]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let mut one = WebSocketClient::join(proxy.clients, "/");
    let mut other = WebSocketClient::join(proxy.clients, "/");
    for size in [0, 1, 125, 126, 4_096, 65_535, 65_536] {
        let text: String = ('a'..='z').cycle().take(size).collect();
        let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
        one.send_text(&text);
        one.send_binary(&bytes);
        assert_eq!(other.next_message(), Message::Text(text.clone()));
        assert_eq!(other.next_message(), Message::Binary(bytes.clone()));
        other.send_binary(&bytes);
        assert_eq!(one.next_message(), Message::Binary(bytes));
        gateway.admin().publish("lobby", &text);
        assert_eq!(one.next_text(), text);
        assert_eq!(other.next_text(), text);
    }
    for (fin, opcode, part) in [
        (false, Opcode::Text, "one "),
        (false, Opcode::Continuation, "two "),
        (true, Opcode::Continuation, "three"),
    ] {
        one.raw.send(&masked_fragment(fin, opcode, part.as_bytes()));
    }
    assert_eq!(other.next_text(), "one two three");
    one.close();
    other.close();
    drop(proxy);
    oracles.check(&mut gateway);
}

/// The proxy gives up after 5 s without traffic; with a ping every 400 ms, give or take a fifth, thirty pings are
/// more than two such time-outs.
pub fn pings_keep_a_connection_alive(start: impl FnOnce(&Gateway) -> Proxy) {
    let mut gateway = Gateway::start(&["--ping-interval", "400ms", "--pong-timeout", "10s"]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let mut client = WebSocketClient::join(proxy.clients, "/ws/quiet");
    for _ in 0..30 {
        let frame = client.next_frame();
        assert_eq!(frame.opcode, Opcode::Ping, "{frame:?} {:?}", frame.close_code());
        client.raw.send(&masked_frame(Opcode::Pong, &frame.payload));
    }
    assert!(gateway.metric("tidegate_pings_total") >= 30.0);
    gateway.admin().publish("quiet", "still here");
    assert_eq!(client.next_text(), "still here");
    client.close();
    drop(proxy);
    oracles.check(&mut gateway);
}

/// The default ping comes too late for a proxy that gives up after a second.
pub fn without_pings_the_proxy_ends_it(start: impl FnOnce(&Gateway) -> Proxy) {
    let mut gateway = Gateway::start(&[]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let mut client = WebSocketClient::join(proxy.clients, "/ws/quiet");
    client.raw.wait_end(PATIENCE);
    wait_until("the end to be counted as the peer's", PATIENCE, || {
        let page = gateway.admin().get("/metrics").text();
        let ended = ["eof", "reset"].iter().filter_map(|reason| {
            let start = format!("tidegate_closed_total{{reason=\"{reason}\",code=\"none\",by=\"peer\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&start)?.parse::<f64>().ok())
        });
        ended.sum::<f64>() >= 1.0
    });
    drop(proxy);
    oracles.check(&mut gateway);
}

/// What the gateway refuses, and how it closes, arrives as it was said.
pub fn refusals_and_close_codes_pass(start: impl FnOnce(&Gateway) -> Proxy) {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--max-message", "1KiB"]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let refused = |address: SocketAddr, request: &str| -> Response {
        let mut raw = RawClient::connect(address, RawOptions::default());
        raw.send(request.as_bytes());
        raw.response()
    };
    let plain = format!("GET /ws/lobby HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.clients);
    let upgrade = |target: &str| {
        String::from_utf8(upgrade_request(target, &proxy.clients.to_string(), &[])).expect("ASCII")
    };
    let old = upgrade("/ws/lobby").replace("Version: 13", "Version: 8");
    let bad_name = upgrade("/ws?channels=a,,b");
    let no_route = upgrade("/no/such/path");
    for (request, status) in [(&plain, 426), (&old, 426), (&bad_name, 400), (&no_route, 404)] {
        let direct = refused(gateway.clients, request);
        let through = refused(proxy.clients, request);
        assert_eq!(direct.status, status, "{request}\n{direct:?}");
        assert_eq!((through.status, through.text()), (direct.status, direct.text()), "{request}");
        assert_eq!(
            through.header("sec-websocket-version"),
            direct.header("sec-websocket-version"),
            "{request}\n{through:?}"
        );
    }

    let join = |target| WebSocketClient::join(proxy.clients, target);
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut client = join("/");
        client.raw.send(&masked_frame(Opcode::Close, &close_payload(code, "bye")));
        assert_eq!(client.wait_close(PATIENCE).0, code);
        assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
    let mut silent = join("/ws/news");
    silent.send_text("may I?");
    let (code, reason) = silent.wait_close(PATIENCE);
    assert!(code == 1008 && reason.starts_with("policy"), "{code} {reason}");
    let mut large = join("/");
    large.send_text(&"x".repeat(1025));
    let (code, reason) = large.wait_close(PATIENCE);
    assert!(code == 1009 && reason.starts_with("msg_too_big"), "{code} {reason}");
    drop((silent, large, proxy));
    oracles.check(&mut gateway);
}

/// The offer reaches the gateway, its answer reaches the client, and frames keep their bits.
pub fn compression_is_negotiated(start: impl FnOnce(&Gateway) -> Proxy) {
    let mut gateway = Gateway::start(&["--compression", "on"]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let mut raw = RawClient::connect(proxy.clients, RawOptions::default());
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
    raw.send(&upgrade_request("/ws/ticks", &proxy.clients.to_string(), &[offer]));
    let response = raw.response();
    assert_eq!(response.status, 101, "{response:?}");
    let agreed = response.header("sec-websocket-extensions").unwrap_or_default();
    assert!(agreed.starts_with("permessage-deflate"), "{response:?}");
    let mut client = WebSocketClient { raw };
    let text = "again and again ".repeat(200);
    gateway.admin().publish("ticks", &text);
    let frame = client.next_frame();
    assert_eq!((frame.opcode, frame.rsv), (Opcode::Text, 4), "{frame:?}");
    assert!(frame.payload.len() < text.len() / 4, "{} bytes", frame.payload.len());
    client.close();
    drop(proxy);
    oracles.check(&mut gateway);
}

/// Of each ambiguous request the client sees at most as many answers as the proxy counted requests, and what the
/// next request on the same connections gets is its own answer.
pub fn both_agree_on_the_number_of_requests(start: impl FnOnce(&Gateway) -> Proxy) {
    let mut gateway = Gateway::start(&["--relay", "lobby", "--handshake-timeout", "2s"]);
    let proxy = start(&gateway);
    let oracles = Oracles::before(&gateway);
    let probes = ambiguous_requests(&proxy.clients.to_string());
    send_all(&proxy, proxy.clients, &probes);
    for _ in 0..20 {
        let mut raw = RawClient::connect(proxy.clients, RawOptions::default());
        raw.send(b"GET /favicon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let response = raw.response();
        let media_type = response.header("content-type");
        assert_eq!((response.status, media_type), (200, Some("image/svg+xml")), "another's answer");
    }
    drop(proxy);
    oracles.check(&mut gateway);
}

/// The same for publishing: neither side takes a hidden request for one, so that nothing hidden is published.
pub fn publishes_are_counted_alike(gateway: &mut Gateway, proxy: &Proxy, publish: SocketAddr) {
    let oracles = Oracles::before(gateway);
    let mut hidden = gateway.join("/ws/hidden");
    let probes = ambiguous_publishes(&publish.to_string());
    send_all(proxy, publish, &probes);
    gateway.admin().publish("hidden", "seen");
    assert_eq!(hidden.next_text(), "seen", "a request in the body of another was carried out");
    hidden.close();
    let reply = crate::support::Admin::new(publish).post("/publish/open", "text/plain", b"through nginx");
    assert_eq!(reply.status, 200, "{reply:?}");
    oracles.check(gateway);
}

/// All at once: the end of each is the proxy's own keep-alive or tunnel time-out.
fn send_all(proxy: &Proxy, address: SocketAddr, probes: &[Probe]) {
    std::thread::scope(|scope| {
        for probe in probes {
            scope.spawn(|| {
                let mut raw = RawClient::connect(address, RawOptions::default());
                let local = raw.local_address();
                let _ = raw.try_send(&probe.bytes);
                let answers = raw.count_responses(PATIENCE);
                wait_until(&format!("the proxy to have logged {}", probe.what), PATIENCE, || {
                    proxy.requests_of(local) >= answers
                });
                assert!(answers <= probe.answers_max, "{}: {answers} answers", probe.what);
            });
        }
    });
}
