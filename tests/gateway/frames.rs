//! What a client may not say, where the Autobahn testsuite is silent: A7, A8, A13, A20 in the handshake, B5, B8, B11, B12
//! after it. The units beside the stations try every form; here are samples of each on real sockets.

use crate::kit::Standing;
use crate::support::frame::masked_fragment;
use crate::support::http::upgrade_request;
use crate::support::{Gateway, Opcode, Oracles, PATIENCE, RawClient, Response, masked_frame};

/// What resident memory may grow by under an attack.
const RESIDENT_SLACK_BYTES: u64 = 2 * 1024 * 1024;

/// A valid upgrade request on `/`, with `from` replaced by `to`.
fn upgrade_with(gateway: &Gateway, from: &str, to: &str) -> Vec<u8> {
    let request = String::from_utf8(upgrade_request("/", &gateway.clients.to_string(), &[])).expect("ASCII");
    assert!(request.contains(from), "{request}");
    request.replace(from, to).into_bytes()
}

#[track_caller]
fn answer(client: &mut RawClient, request: &[u8]) -> Response {
    client.send(request);
    client.response()
}

#[track_caller]
fn expect_refusal(response: &Response, status: u16, token: &str) {
    assert_eq!(response.status, status, "{response:?}");
    assert!(response.text().starts_with(&format!("{token}:")), "{response:?}");
}

#[test]
fn a7_a_wrong_version_is_told_the_right_one_and_may_try_again() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut client = gateway.raw();
    let line = "Sec-WebSocket-Version: 13\r\n";
    for (other, status, token) in [
        ("Sec-WebSocket-Version: 12\r\n", 426, "ws_version"),
        ("Sec-WebSocket-Version: 14\r\n", 426, "ws_version"),
        ("Sec-WebSocket-Version: 13, 8\r\n", 426, "ws_version"),
        ("Sec-WebSocket-Version: 013\r\n", 426, "ws_version"),
        ("", 426, "ws_version"),
    ] {
        let response = answer(&mut client, &upgrade_with(&gateway, line, other));
        expect_refusal(&response, status, token);
        assert_eq!(response.header("sec-websocket-version"), Some("13"), "{response:?}");
    }
    assert_eq!(answer(&mut client, &upgrade_with(&gateway, "", "")).status, 101);
    let repeated = upgrade_with(&gateway, line, &line.repeat(2));
    expect_refusal(&answer(&mut gateway.raw(), &repeated), 400, "dup_header");
    drop(client);
    oracles.check(&mut gateway);
}

#[test]
fn a8_a_key_that_is_not_sixteen_bytes_is_refused() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    for (other, token) in [
        ("", "ws_key"),
        ("dGhlIHNhbXBsZSBub25jZQ", "ws_key"),
        ("dGhlIHNhbXBsZSBub25jZR==", "ws_key"),
        ("dGhlIHNhbXBsZSBub25j", "ws_key"),
        ("dGhlIHNhbXBsZSBub25jZWU=", "ws_key"),
        ("dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "dup_header"),
    ] {
        let mut client = gateway.raw();
        expect_refusal(&answer(&mut client, &upgrade_with(&gateway, key, other)), 400, token);
        client.wait_end(PATIENCE);
    }
    oracles.check(&mut gateway);
}

#[test]
fn a13_a_frame_in_the_segment_of_the_head_is_refused_and_one_after_the_101_is_answered() {
    let mut gateway = Gateway::start(&["--shards", "2"]);
    let oracles = Oracles::before(&gateway);
    let ping = masked_frame(Opcode::Ping, b"early");
    let mut client = gateway.raw();
    let request = [upgrade_with(&gateway, "", ""), ping.clone()].concat();
    expect_refusal(&answer(&mut client, &request), 400, "early_data");
    client.wait_end(PATIENCE);

    // A moment later it may come before the 101 or after it: refused, or answered. Never lost, never read as a request.
    for _ in 0..20 {
        let mut client = gateway.raw();
        client.send(&upgrade_with(&gateway, "", ""));
        client.send(&ping);
        let response = client.response();
        if response.status == 101 {
            let pong = b"\x8a\x05early";
            client.read_until("the pong", PATIENCE, |bytes, _| {
                bytes.starts_with(pong).then_some(((), pong.len()))
            });
        } else {
            expect_refusal(&response, 400, "early_data");
        }
    }
    oracles.check(&mut gateway);
}

#[test]
fn a20_extensions_are_declined_and_too_many_are_refused() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let request = |offers: &str| {
        let line = format!("Sec-WebSocket-Extensions: {offers}\r\nUpgrade:");
        upgrade_with(&gateway, "Upgrade:", &line)
    };
    for offers in [
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=8, permessage-deflate",
        "permessage-deflate; server_max_window_bits=\"",
        "a, b, c, d, e, f, g, h",
    ] {
        let response = answer(&mut gateway.raw(), &request(offers));
        assert_eq!((response.status, response.header("sec-websocket-extensions")), (101, None), "{offers}");
    }
    let many = answer(&mut gateway.raw(), &request("a, b, c, d, e, f, g, h, i"));
    expect_refusal(&many, 431, "too_many_extensions");
    oracles.check(&mut gateway);
}

#[test]
fn b5_lengths_in_a_longer_form_than_needed_are_closed_with_1002() {
    let mut gateway = Gateway::start(&["--relay", "lobby"]);
    let oracles = Oracles::before(&gateway);
    for header in [
        &[0x82, 0x80 | 126, 0, 125][..],
        &[0x82, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        &[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x82, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 1],
    ] {
        let mut client = gateway.join("/");
        client.raw.send(header);
        assert_eq!(client.wait_close(PATIENCE), (1002, "len_form".to_owned()), "{header:x?}");
    }
    oracles.check(&mut gateway);
}

#[test]
fn b8_tiny_and_empty_fragments_are_charged_and_hold_little() {
    let mut gateway = Gateway::start(&["--relay", "lobby"]);
    let oracles = Oracles::before(&gateway);
    let mut witness = gateway.join("/");
    let message = |count: usize, payload: &[u8]| {
        let first = masked_fragment(false, Opcode::Binary, payload);
        [first, masked_fragment(false, Opcode::Continuation, payload).repeat(count - 1)].concat()
    };
    let end = masked_fragment(true, Opcode::Continuation, b"");

    // Eight empty ones, and as many of a byte as 64 KiB hold at 65 each, are a message.
    let mut client = gateway.join("/");
    client.raw.send(&[message(8, b""), end.clone(), message(1007, b"x"), end].concat());
    assert_eq!(witness.next_frame().payload, b"");
    assert_eq!(witness.next_frame().payload, [b'x'; 1007]);
    client.close();

    let resident = gateway.resident_bytes();
    let mut clients: Vec<_> = (0..50).map(|_| gateway.join("/")).collect();
    for client in &mut clients {
        client.raw.send(&message(1000, b"x"));
    }
    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < RESIDENT_SLACK_BYTES, "{grown} bytes for 50,000 fragments");
    for (index, client) in clients.iter_mut().enumerate() {
        // What follows may find the connection reset.
        let (more, expected) = match index % 2 {
            0 => (message(1000, b"x").split_off(1 + 1 + 4 + 1), (1009, "msg_too_big")),
            _ => (masked_fragment(false, Opcode::Continuation, b"").repeat(9), (1008, "frag_overhead")),
        };
        let _ = client.raw.try_send(&more);
        let (code, reason) = client.wait_close(PATIENCE);
        assert_eq!((code, reason.as_str()), expected);
    }
    drop((clients, witness));
    oracles.check(&mut gateway);
}

#[test]
fn b11_a_flood_of_pings_ends_the_connection_and_harms_nobody() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let resident = gateway.resident_bytes();
    let pings = masked_frame(Opcode::Ping, &[7; 125]).repeat(1000);
    for _ in 0..20 {
        let mut client = gateway.join("/");
        client.raw.send(&pings);
        assert_eq!(client.wait_close(PATIENCE), (1008, "ctl_flood".to_owned()));
    }
    let labels = ["reason=\"ctl_flood\"", "code=\"1008\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == 20.0);
    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < RESIDENT_SLACK_BYTES, "{grown} bytes");

    let mut client = gateway.join("/");
    client.raw.send(&masked_frame(Opcode::Ping, b"once too often").repeat(21));
    assert_eq!(client.wait_close(PATIENCE), (1008, "ctl_flood".to_owned()));
    let mut client = gateway.join("/");
    client.raw.send(&masked_frame(Opcode::Ping, b"in good order").repeat(20));
    for _ in 0..20 {
        let frame = client.next_frame();
        assert_eq!((frame.opcode, frame.payload.as_slice()), (Opcode::Pong, &b"in good order"[..]));
    }
    client.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn b12_pongs_out_of_nowhere_keep_nobody_alive() {
    let mut gateway = Gateway::start(&["--ping-interval", "400ms", "--pong-timeout", "5s"]);
    let oracles = Oracles::before(&gateway);
    let mut client = gateway.join("/");
    let mut pings = 0;
    let close = loop {
        let frame = client.next_frame();
        if frame.opcode != Opcode::Ping {
            break frame.close_code();
        }
        pings += 1;
        assert!(pings < 20, "it is still alive");
        // In time, but with another payload: whoever only writes can do that.
        client.raw.send(&masked_frame(Opcode::Pong, b"12345678"));
    };
    assert_eq!(close, Some((4105, "ping_timeout".to_owned())));
    drop(client);
    oracles.check(&mut gateway);
}

#[test]
fn what_was_said_before_a_fault_is_answered_before_the_close() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.join("/");
    client.raw.send(&[masked_frame(Opcode::Ping, b"last"), vec![0xf1]].concat());
    let frame = client.next_frame();
    assert_eq!((frame.opcode, frame.payload.as_slice()), (Opcode::Pong, &b"last"[..]));
    assert_eq!(client.wait_close(PATIENCE), (1002, "rsv".to_owned()));
}
