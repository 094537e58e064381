//! How connections end: B18 (a peer that never answers our close), B19 (half-close), B20 (a reset anywhere), and that
//! what was said last is still heard.

use crate::kit::{Standing, connect, send_with_end};
use crate::support::frame::close_payload;
use crate::support::http::upgrade_request;
use crate::support::{
    ConnectionEnd, Frame, Gateway, Opcode, Oracles, PATIENCE, RawClient, RawOptions, Response, masked_frame,
};
use std::io::Read;
use std::time::{Duration, Instant};

/// Turns of all shards in a quiet second: the looks at the metrics and a timer now and then.
const QUIET_TURNS_MAX: f64 = 50.0;

#[test]
fn b18_a_peer_that_never_answers_our_close_is_reset_after_three_seconds() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut client = gateway.join("/ws/news");
    // Before the close, so that a test which is held up does not find it early.
    let began = Instant::now();
    // Relay is off: to say something is against the policy.
    client.send_text("let me in");
    let (code, reason) = client.wait_close(PATIENCE);
    assert_eq!(code, 1008);
    assert!(reason.starts_with("policy"), "{reason}");

    // It goes on as if nothing had been said: nothing of that is answered.
    for number in 0..10_u8 {
        let _ = client.raw.try_send(&masked_frame(Opcode::Ping, &[number]));
        let _ = client.raw.try_send(&masked_frame(Opcode::Text, b"hello?"));
    }
    standing.publish("news", "not for you");

    let more = client.raw.read_until("the end", PATIENCE, |received, has_ended| {
        has_ended.then_some((received.len(), received.len()))
    });
    let patience = began.elapsed();
    assert_eq!(more, 0, "nothing comes after our close");
    let end = client.raw.wait_end(PATIENCE);
    assert_eq!(end, ConnectionEnd::Reset);
    assert!(patience >= Duration::from_millis(2500), "cut after {patience:?}");
    let labels = ["reason=\"policy\"", "code=\"1008\"", "by=\"us\""];
    assert_eq!(standing.metric("tidegate_closed_total", &labels), 1.0);
    assert_eq!(standing.closed("reset") + standing.closed("eof"), 0.0);
    drop((client, standing));
    oracles.check(&mut gateway);
}

#[test]
fn b18_a_peer_that_answers_our_close_is_let_go_at_once() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.join("/");
    client.send_text("let me in");
    let (code, _) = client.wait_close(PATIENCE);

    client.raw.send(&masked_frame(Opcode::Close, &close_payload(code, "")));

    // Not the reset of the deadline.
    assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
}

#[test]
fn b19_who_ends_its_side_without_a_close_is_gone_and_nothing_spins() {
    // Stands for 5,000: what one of them does to the loop, each does.
    const CLIENTS: usize = 200;
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.join("/")).collect();

    clients.iter_mut().for_each(|client| client.raw.half_close());

    for client in &mut clients {
        assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
    let mut standing = Standing::open(&gateway);
    let labels = ["reason=\"eof\"", "code=\"none\"", "by=\"peer\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == CLIENTS as f64);
    drop((clients, standing));
    oracles.check(&mut gateway);
}

#[test]
fn b19_half_closed_connections_cost_no_turns() {
    let gateway = Gateway::start(&[]);
    let mut standing = Standing::open(&gateway);
    // One each of: said nothing, half a request, half a frame, and one that our close frame is on its way to.
    let mut silent = gateway.raw();
    let mut half_way = gateway.raw();
    half_way.send(b"GET / HTTP/1.1\r\nHo");
    let mut mid_frame = gateway.join("/");
    mid_frame.raw.send(&masked_frame(Opcode::Text, b"hello")[..4]);
    let mut closing = gateway.join("/");
    closing.send_text("let me in");

    for client in [&mut silent, &mut half_way, &mut mid_frame.raw, &mut closing.raw] {
        client.half_close();
        client.wait_end(PATIENCE);
    }

    let turns = standing.turns_in_a_quiet_second();
    assert!(turns < QUIET_TURNS_MAX, "{turns} turns in a second");
    assert_eq!(standing.metric("tidegate_connections", &[]), 0.0);
}

#[test]
fn b19_a_request_that_comes_with_the_end_of_the_stream_is_answered() {
    let gateway = Gateway::start(&[]);
    let host = gateway.clients;
    let good = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let missing = format!("GET /nowhere HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let last = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let bad = "BAD\r\n\r\n".to_owned();
    for (request, statuses) in [
        (good.clone(), &[200][..]),
        (missing.clone(), &[404]),
        (last, &[200]),
        (bad, &[400]),
        (format!("{good}{missing}{good}"), &[200, 404, 200]),
    ] {
        for _ in 0..20 {
            let mut stream = connect(gateway.clients);
            stream.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
            send_with_end(&mut stream, request.as_bytes());
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("answers and the end");
            let mut answered = Vec::new();
            while let Some((response, taken)) = Response::parse(&received, true) {
                received.drain(..taken);
                answered.push(response.status);
            }
            assert_eq!(answered, statuses, "{request:?}");
        }
    }
}

#[test]
fn b19_a_close_that_comes_with_the_end_of_the_stream_is_answered() {
    let gateway = Gateway::start(&[]);
    for _ in 0..20 {
        let mut client = gateway.join("/");
        client.raw.send(&masked_frame(Opcode::Close, &close_payload(1000, "bye")));
        client.raw.half_close();
        assert_eq!(client.wait_close(PATIENCE), (1000, String::new()));
        assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
}

/// What a whole life looks like: a request, an upgrade, a ping, a message, a close.
fn script(gateway: &Gateway) -> Vec<u8> {
    [
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.clients).into_bytes(),
        upgrade_request("/ws/chat", &gateway.clients.to_string(), &[]),
        masked_frame(Opcode::Ping, b"are you there"),
        masked_frame(Opcode::Text, b"hello"),
        masked_frame(Opcode::Close, &close_payload(1000, "")),
    ]
    .concat()
}

/// Sends the first `offset` bytes of `script`, the upgrade and what follows as apart as the protocol has it.
fn play(gateway: &Gateway, script: &[u8], upgrade_end: usize, offset: usize) -> RawClient {
    let mut client = RawClient::connect(gateway.clients, RawOptions::default());
    client.send(&script[..offset.min(upgrade_end)]);
    if offset >= upgrade_end {
        assert_eq!(client.response().status, 200);
        assert_eq!(client.response().status, 101);
        client.send(&script[upgrade_end..offset]);
    }
    client
}

#[test]
fn b20_a_reset_at_every_byte_of_a_life_is_survived_and_counted() {
    let mut gateway = Gateway::start(&["--relay", "chat", "--log-level", "info"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut listener = gateway.join("/ws/chat");
    let script = script(&gateway);
    let upgrade_end = script.windows(4).enumerate().filter(|(_, end)| *end == b"\r\n\r\n").nth(1);
    let upgrade_end = upgrade_end.expect("two request heads").0 + 4;
    let accepted = standing.metric("tidegate_accepted_total", &[]);
    let closed = standing.metric("tidegate_closed_total", &[]);

    for offset in 0..=script.len() {
        play(&gateway, &script, upgrade_end, offset).reset();
    }

    let lives = (script.len() + 1) as f64;
    standing.wait_metric("tidegate_accepted_total", &[], |total| total == accepted + lives);
    standing.wait_metric("tidegate_closed_total", &[], |total| total == closed + lives);
    assert_eq!(standing.closed("internal"), 0.0);
    // Those who got to say all of it were heard once each, unless the reset overtook them.
    standing.publish("chat", "the end");
    let mut heard = 0;
    while listener.next_text() != "the end" {
        heard += 1;
    }
    assert!(heard <= script.len() - upgrade_end, "{heard}");
    assert!(!gateway.log().contains("reset"), "a reset is nothing to log by default:\n{}", gateway.log());
    listener.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn b20_a_reset_while_it_is_written_to_is_survived() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut witness = gateway.join("/ws/feed");

    for round in 0..40 {
        let subscribers: Vec<_> = (0..5).map(|_| gateway.join("/ws/feed")).collect();
        // Pipelined, so that writes to the five are under way when they go.
        for number in 0..10 {
            let text = format!("{}", round * 10 + number);
            standing.send_post("/publish/feed", "text/plain", text.as_bytes());
        }
        subscribers.into_iter().for_each(|client| client.raw.reset());
        (0..10).for_each(|_| assert_eq!(standing.response().status, 200));
    }

    for number in 0..400 {
        assert_eq!(witness.next_text(), number.to_string());
    }
    standing.wait_metric("tidegate_closed_total", &["reason=\"reset\""], |resets| resets >= 200.0);
    witness.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn the_close_of_a_client_is_echoed_with_its_code_alone() {
    let gateway = Gateway::start(&[]);
    for (code, reason) in [(1000, ""), (1001, "tab closed"), (3000, "x"), (4999, "y")] {
        let mut client = gateway.join("/");
        client.raw.send(&masked_frame(Opcode::Close, &close_payload(code, reason)));
        let Frame { opcode, payload, .. } = client.next_frame();
        assert_eq!((opcode, payload), (Opcode::Close, code.to_be_bytes().to_vec()));
        assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
}
