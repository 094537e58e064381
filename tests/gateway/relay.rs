//! What clients send to each other, and the client port as HTTP has it: several channels on one connection, requests
//! one after the other on one connection.

use crate::kit::{Flock, Standing, text_of};
use crate::support::frame::masked_fragment;
use crate::support::http::upgrade_request;
use crate::support::{
    Gateway, Message, Opcode, Oracles, PATIENCE, RawClient, Response, WebSocketClient, masked_frame,
};
use std::cell::Cell;
use std::time::Duration;

#[test]
fn what_a_client_sends_reaches_every_other_subscriber_on_every_shard_and_not_itself() {
    const OTHERS: usize = 20;
    let mut gateway = Gateway::start(&["--relay", "chat.*", "--shards", "4"]);
    let oracles = Oracles::before(&gateway);
    let mut sender = gateway.join("/ws/chat.one");
    let mut others: Vec<_> = (0..OTHERS).map(|_| gateway.join("/ws/chat.one")).collect();
    let mut elsewhere = gateway.join("/ws/chat.two");

    sender.send_text("as text");
    sender.send_binary(&[0, 0xff]);
    sender.raw.send(&masked_fragment(false, Opcode::Text, b"in "));
    sender.raw.send(&masked_frame(Opcode::Ping, b"between"));
    sender.raw.send(&masked_fragment(true, Opcode::Continuation, b"pieces"));
    sender.send_text("");

    for other in &mut others {
        assert_eq!(other.next_text(), "as text");
        assert_eq!(other.next_message(), Message::Binary(vec![0, 0xff]));
        assert_eq!(other.next_text(), "in pieces");
        assert_eq!(other.next_text(), "");
    }
    // Own messages do not come back, nor do they keep others from coming.
    others[0].send_text("an answer");
    let pong = sender.next_frame();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (Opcode::Pong, &b"between"[..]));
    assert_eq!(sender.next_text(), "an answer");
    gateway.admin().publish("chat.one", "from outside");
    assert_eq!(sender.next_text(), "from outside");
    gateway.admin().publish("chat.two", "elsewhere");
    assert_eq!(elsewhere.next_text(), "elsewhere");
    let mut standing = Standing::open(&gateway);
    assert_eq!(standing.metric("tidegate_relayed_total", &[]), 5.0);
    assert_eq!(standing.metric("tidegate_stepped_over_total", &[]), 5.0);
    [sender, elsewhere].into_iter().chain(others).for_each(|client| client.close());
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn many_who_talk_at_once_all_hear_the_others_in_order() {
    const CLIENTS: usize = 16;
    const EACH: usize = 30;
    let gateway = Gateway::start(&["--relay", ">", "--shards", "4"]);
    let mut listener = Flock::join(&gateway, "/ws/chat", 1);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.join("/ws/chat")).collect();

    for number in 0..EACH {
        for (client, socket) in clients.iter_mut().enumerate() {
            socket.send_text(&format!("{client}-{number}"));
        }
    }

    let mut order = Vec::new();
    let count = Cell::new(0);
    listener.read_until(
        "all of it",
        |_, frame| {
            order.push(text_of(frame));
            count.set(count.get() + 1);
        },
        || count.get() == CLIENTS * EACH,
    );
    for (client, socket) in clients.iter_mut().enumerate() {
        let own = format!("{client}-");
        let of_own = order.iter().filter(|text| text.starts_with(&own)).cloned().collect::<Vec<_>>();
        let expected: Vec<String> = (0..EACH).map(|number| format!("{client}-{number}")).collect();
        assert_eq!(of_own, expected, "a sender's messages keep their order");
        for text in order.iter().filter(|text| !text.starts_with(&own)) {
            assert_eq!(socket.next_text(), *text, "client {client} sees the order that all see");
        }
    }
}

#[test]
fn where_relay_is_off_the_client_is_told() {
    let gateway = Gateway::start(&["--relay", "chat"]);
    let mut standing = Standing::open(&gateway);
    let mut witness = gateway.join("/ws/news");
    for target in ["/ws/news", "/ws?channels=chat,news"] {
        let mut client = gateway.join(target);
        client.send_text("hello");
        let (code, reason) = client.wait_close(PATIENCE);
        assert_eq!(code, 1008, "{reason}");
        assert!(reason.starts_with("policy;"), "{reason}");
        client.raw.send(&masked_frame(Opcode::Close, &code.to_be_bytes()));
        client.raw.wait_end(PATIENCE);
    }
    standing
        .wait_metric("tidegate_closed_total", &["reason=\"policy\"", "by=\"us\""], |closed| closed == 2.0);
    assert_eq!(standing.metric("tidegate_relayed_total", &[]), 0.0);
    standing.publish("news", "only this");
    assert_eq!(witness.next_text(), "only this");
}

#[test]
fn one_connection_joins_several_channels() {
    let mut gateway = Gateway::start(&["--shards", "4"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut clients: Vec<_> = (0..8).map(|_| gateway.join("/ws?channels=a,b,c.d,a")).collect();
    let mut single = gateway.join("/ws/b");

    for round in 0..10 {
        for channel in ["a", "b", "c.d", "other"] {
            standing.publish(channel, &format!("{channel} {round}"));
        }
    }

    for client in &mut clients {
        // Order holds within a channel.
        let mut next = [("a", 0), ("b", 0), ("c.d", 0)];
        for _ in 0..30 {
            let text = client.next_text();
            let (channel, round) = text.split_once(' ').expect("channel and round");
            let next =
                next.iter_mut().find(|(name, _)| *name == channel).expect("a channel that was asked for");
            assert_eq!(round, next.1.to_string(), "on {channel}");
            next.1 += 1;
        }
    }
    for round in 0..10 {
        assert_eq!(single.next_text(), format!("b {round}"));
    }
    assert_eq!(standing.publish_subscribers("a"), 8);
    clients.into_iter().chain([single]).for_each(|client| client.close());
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn bad_channel_lists_are_refused() {
    let gateway = Gateway::start(&[]);
    let many = (0..129).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    for (target, status, token) in [
        ("/ws?channels=".to_owned(), 400, "bad_channel"),
        ("/ws?channels=a,,b".to_owned(), 400, "bad_channel"),
        ("/ws".to_owned(), 400, "bad_channel"),
        (format!("/ws?channels={many}"), 400, "channel_limit"),
        (format!("/ws/{}", "x".repeat(256)), 400, "bad_channel"),
        ("/nowhere".to_owned(), 404, "no_route"),
    ] {
        let mut client = gateway.raw();
        client.send(&upgrade_request(&target, &gateway.clients.to_string(), &[]));
        let reply = client.response();
        assert_eq!(reply.status, status, "{target}: {reply:?}");
        assert!(reply.text().contains(token), "{target}: {}", reply.text());
    }
    let most = (0..128).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",");
    let mut client = gateway.join(&format!("/ws?channels={most}"));
    gateway.admin().publish("c127", "the last");
    assert_eq!(client.next_text(), "the last");
}

#[test]
fn requests_follow_each_other_on_one_connection_and_an_upgrade_ends_it() {
    let gateway = Gateway::start(&[]);
    let mut standing = Standing::open(&gateway);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.clients);
    let mut client = gateway.raw();

    for (path, status) in
        [("/", 200), ("/page.js", 200), ("/nowhere", 404), ("/page.css", 200), ("/ws/a", 426)]
    {
        client.send(get(path).as_bytes());
        let reply: Response = client.response();
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert_ne!(reply.header("connection"), Some("close"), "{path}");
    }
    // Several in one segment, and one that comes byte by byte.
    client.send([get("/"), get("/nowhere"), get("/page.js")].concat().as_bytes());
    let statuses = [client.response().status, client.response().status, client.response().status];
    assert_eq!(statuses, [200, 404, 200]);
    client.dribble(get("/").as_bytes(), 1, Duration::ZERO);
    assert_eq!(client.response().status, 200);

    client.send(&upgrade_request("/ws/a", &gateway.clients.to_string(), &[]));
    assert_eq!(client.response().status, 101);
    standing.publish("a", "after nine requests");
    let mut upgraded = WebSocketClient { raw: client };
    assert_eq!(upgraded.next_text(), "after nine requests");
    assert_eq!(standing.metric("tidegate_accepted_total", &[]), 1.0);

    // `Connection: close` is taken at its word.
    let mut last = gateway.raw();
    last.send(format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.clients).as_bytes());
    let reply = last.response();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    last.wait_end(PATIENCE);
}

/// The answers that wait leave no room for the 101: the connection ends, and was never counted as open.
#[test]
fn an_upgrade_behind_too_many_answers_is_ended_and_never_counted_as_open() {
    const OWN_FRAMES_BYTES_MAX: usize = 64 * 1024;
    let gateway = Gateway::start(&["--shards", "1"]);
    let mut standing = Standing::open(&gateway);
    let request = format!("GET /nowhere HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.clients);
    let (mut client, mut upgraded) = (gateway.raw(), 0.0);
    client.send(request.as_bytes());
    let answer_bytes = client.read_until("an answer", PATIENCE, |bytes, ended| {
        let (_, length) = Response::parse(bytes, ended)?;
        Some((length, length))
    });
    let count = OWN_FRAMES_BYTES_MAX / answer_bytes;
    let left = OWN_FRAMES_BYTES_MAX % answer_bytes;
    assert!(
        left < 129,
        "a 101 fits in the {left} bytes behind {count} answers of {answer_bytes}: change the request"
    );

    let mut bytes = request.repeat(count).into_bytes();
    bytes.extend(upgrade_request("/ws/a", &gateway.clients.to_string(), &[]));
    let is_ended = |client: &mut RawClient| {
        client.send(&bytes);
        client.read_until("the end or an upgrade", PATIENCE, |received, has_ended| {
            let is_upgraded = received.windows(12).any(|words| words == b"HTTP/1.1 101");
            (has_ended || is_upgraded).then_some((!is_upgraded, received.len()))
        })
    };
    // A busy machine may deliver them in two pieces, between which there is room again.
    while !is_ended(&mut client) {
        upgraded += 1.0;
        assert!(upgraded < 5.0, "it is upgraded");
        client = gateway.raw();
    }
    standing.wait_metric("tidegate_connections", &[], |connections| connections == 0.0);
    assert_eq!(standing.metric("tidegate_connections_open", &[]), 0.0);
    assert_eq!(standing.metric("tidegate_upgraded_total", &[]), upgraded);
}
