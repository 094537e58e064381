//! Event streams over the wire: what they begin with, what carries messages, how readers come back, are told what they miss,
//! and how streams end (C20, E2, E13).

use crate::kit::{Standing, offset_of};
use crate::live::{Account, Event, EventStream, TINY, large, publish_keyed, stream_head, stream_request};
use crate::support::{ConnectionEnd, Gateway, Oracles, PATIENCE, RawOptions, Signal};
use serde_json::json;

/// A gateway of one shard, where readers that lag have a minute before their sockets count as stuck.
#[track_caller]
fn patient(arguments: &[&str]) -> Gateway {
    Gateway::start(&[&["--shards", "1", "--max-lag-age", "1m"], arguments].concat())
}

#[test]
fn a_stream_of_one_channel_has_ids_types_and_a_line_for_each_line() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut stream = EventStream::open(&gateway, "/sse/news");
    for (name, value) in [
        ("content-type", "text/event-stream; charset=utf-8"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-chunked", "true"),
        ("connection", "close"),
    ] {
        assert_eq!(stream.head.header(name), Some(value), "{:?}", stream.head);
    }
    let (id, subscribed) = stream.next_beginning(1);
    assert_eq!(subscribed[0]["position"], json!(id), "{subscribed:?}");
    assert_eq!((&subscribed[0]["channel"], offset_of(&json!(id))), (&json!("news"), 0));
    let epoch = id.rsplit_once('-').expect("a position").0;

    for (index, (content_type, body, kind, data)) in [
        ("text/plain", &b"hello"[..], None, "hello"),
        ("application/json", b"{\"a\": 1}", None, "{\"a\": 1}"),
        ("text/plain", b"a\r\nb\rc\nd\n\n e", None, "a\nb\nc\nd\n\n e"),
        ("application/octet-stream", b"\xff\0\r\n", Some("binary"), "/wANCg=="),
        ("text/plain", b"", None, ""),
        ("text/plain", b": no comment", None, ": no comment"),
    ]
    .into_iter()
    .enumerate()
    {
        standing.publish_as("news", content_type, body);
        let expected = Event {
            id: Some(format!("{epoch}-{}", index + 1)),
            kind: kind.map(str::to_owned),
            data: Some(data.to_owned()),
            ..Event::default()
        };
        assert_eq!(stream.next_event(), expected);
    }
    drop((stream, standing));
    oracles.check(&mut gateway);
}

#[test]
fn a_stream_of_several_channels_has_envelopes_and_an_id_with_all_positions() {
    let mut gateway = Gateway::start(&["--history-messages", "10"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    standing.publish("b", "before");
    let mut stream = EventStream::open(&gateway, "/sse?channels=a,b,a,c");
    let (id, subscribed) = stream.next_beginning(3);
    let names: Vec<_> = subscribed.iter().map(|it| it["channel"].as_str().expect("a name")).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let mut positions: Vec<String> = id.split(',').map(str::to_owned).collect();
    let offsets = |positions: &[String]| -> Vec<u64> {
        positions.iter().map(|position| offset_of(&json!(position))).collect()
    };
    assert_eq!(offsets(&positions), [0, 1, 0]);

    for (index, channel, path, content_type, body, what) in [
        (0, "a", "a", "text/plain", &b"one"[..], json!({"text": "one"})),
        (1, "b", "b?key=K", "application/json", b"[1,\n2]", json!({"key": "K", "data": [1, 2]})),
        (2, "c", "c", "application/octet-stream", b"\xff", json!({"base64": "/w=="})),
        (0, "a", "a?key=K", "text/plain", b"", json!({"key": "K"})),
    ] {
        let offset = standing.publish_as(path, content_type, body);
        let envelope = stream.next_event();
        assert_eq!((&envelope.kind, &envelope.id), (&None, &None));
        let mut expected = what;
        let epoch = positions[index].rsplit_once('-').expect("a position").0.to_owned();
        positions[index] = format!("{epoch}-{offset}");
        expected["channel"] = json!(channel);
        expected["position"] = json!(positions[index]);
        assert_eq!(envelope.json(), expected);
        let id = Event { id: Some(positions.join(",")), ..Event::default() };
        assert_eq!(stream.next_event(), id, "an id behind what was written");
    }
    drop((stream, standing));
    oracles.check(&mut gateway);
}

#[test]
fn c20_a_reader_comes_back_with_everything_with_what_it_missed_or_with_the_gap_told() {
    let mut gateway = Gateway::start(&["--history-messages", "3"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    standing.publish("news", "1");
    let position = gateway.admin().get("/api/channels/news").json();
    let epoch = position["epoch"].as_str().expect("an epoch").to_owned();
    let at = |offset: u64| format!("{epoch}-{offset}");
    for number in 2..=6 {
        standing.publish("news", &number.to_string());
    }
    let come_back = |target: &str, extra: &[&str]| {
        let mut stream = EventStream::open_with(&gateway, target, RawOptions::default(), extra);
        let (id, mut subscribed) = stream.next_beginning(1);
        (stream, id, subscribed.remove(0))
    };

    // By header, by query, and the header wins.
    let header = |position: &str| format!("Last-Event-ID: {position}");
    for (target, extra, from) in [
        ("/sse/news".to_owned(), vec![header(&at(4))], 4),
        (format!("/sse/news?since={}", at(3)), vec![], 3),
        (format!("/sse/news?since={}", at(6)), vec![header(&at(5))], 5),
        (format!("/sse/news?since={}", at(6)), vec![header("of somebody else")], 6),
    ] {
        let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
        let (mut stream, id, subscribed) = come_back(&target, &extra);
        assert_eq!(id, at(from), "{target} {extra:?}");
        assert_eq!(
            (&subscribed["position"], &subscribed["recovered"], &subscribed["replayed"]),
            (&json!(id), &json!(true), &json!(6 - from)),
            "{subscribed}"
        );
        for number in from + 1..=6 {
            let event = stream.next_event();
            assert_eq!(
                (event.id.as_deref(), event.data.as_deref()),
                (Some(&*at(number)), Some(&*number.to_string()))
            );
        }
        assert!(stream.raw.received().is_empty(), "and nothing else");
    }

    // What the window let go, a number that was not given yet, another epoch.
    for since in [at(2), at(7), format!("{:016x}-6", 1)] {
        let (stream, id, subscribed) = come_back(&format!("/sse/news?since={since}"), &[]);
        assert_eq!((&*id, &subscribed["position"]), (&*at(6), &json!(at(6))), "{since}");
        assert_eq!((&subscribed["recovered"], subscribed.get("replayed")), (&json!(false), None));
        assert!(stream.raw.received().is_empty());
    }
    let mut refused = gateway.raw();
    refused.send(&stream_request("GET", "/sse/news?since=5", &gateway, &[]));
    let refused = refused.response();
    assert_eq!((refused.status, refused.text().starts_with("bad_position:")), (400, true), "{refused:?}");
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c20_a_stream_ends_with_its_token_when_to_come_back_and_the_last_chunk() {
    let mut gateway = Gateway::start(&["--drain-grace", "100ms", "--drain-spread", "0s"]);
    let mut standing = Standing::open(&gateway);
    let mut streams = ["/sse/news", "/sse?channels=news,weather"].map(|target| {
        let mut stream = EventStream::open(&gateway, target);
        stream.next_beginning(target.matches("news").count() + target.matches("weather").count());
        stream
    });
    standing.publish("news", "last");
    gateway.signal(Signal::Term);
    for stream in &mut streams {
        assert!(stream.next_value()["text"] == "last");
        let mut close = stream.next_event();
        while close.kind.is_none() {
            close = stream.next_event();
        }
        assert_eq!(close.kind.as_deref(), Some("gw.close"), "{close:?}");
        let retry_ms = close.retry_ms.expect("when to come back");
        assert_eq!(close.data, Some(format!("draining;in={retry_ms}")));
        assert!(retry_ms < 5000, "{retry_ms}");
        assert_eq!(stream.next_or_end(), None, "the body ends");
        assert_eq!(stream.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
    drop((streams, standing));
    assert_eq!(gateway.wait_exit(PATIENCE).expect("it ends").code, Some(0));
}

#[test]
fn c20_a_silent_stream_has_signs_of_life() {
    let mut gateway = Gateway::start(&["--ping-interval", "100ms"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut stream = EventStream::open(&gateway, "/sse/news");
    stream.next_beginning(1);
    for _ in 0..5 {
        let event = stream.next_event();
        assert_eq!(event, Event { is_comment: true, ..Event::default() });
    }
    standing.publish("news", "still there");
    while stream.next_event().data.as_deref() != Some("still there") {}
    assert_eq!(standing.closed("ping_timeout"), 0.0, "who cannot answer is not asked to");
    drop((stream, standing));
    oracles.check(&mut gateway);
}

#[test]
fn c20_whatever_a_reader_sends_is_no_request_and_its_end_ends_the_stream() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    // In one packet with the request, and later.
    let request = stream_request("GET", "/sse/news", &gateway, &[]);
    let garbage: Vec<u8> = (0..=255).cycle().take(3000).collect();
    for behind in [&request, &garbage] {
        let mut raw = gateway.raw();
        raw.send(&[&request[..], behind].concat());
        let head = raw.read_until("head", PATIENCE, stream_head);
        assert_eq!(head.status, 200);
        let mut stream = EventStream { raw, head };
        stream.next_beginning(1);
        stream.raw.send(behind);
        standing.publish("news", "through");
        assert_eq!(stream.next_event().data.as_deref(), Some("through"), "and no other answer");
        stream.raw.half_close();
        assert_eq!(stream.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    }
    standing.wait_metric("tidegate_closed_total", &["reason=\"eof\""], |closed| closed == 2.0);
    assert_eq!(standing.metric("tidegate_rejected_total", &[]), 0.0);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c20_head_gets_the_head_and_pages_that_are_let_in_may_read() {
    let mut gateway = Gateway::start(&["--allow-origin", "https://app.example"]);
    let oracles = Oracles::before(&gateway);
    let ask = |method: &str, origin: &str| {
        let mut raw = gateway.raw();
        let line = format!("Origin: {origin}");
        let lines = if origin.is_empty() { vec![] } else { vec![&*line] };
        raw.send(&stream_request(method, "/sse/news", &gateway, &lines));
        let head = raw.read_until("head", PATIENCE, stream_head);
        (raw, head)
    };

    let (mut raw, head) = ask("HEAD", "");
    assert_eq!((head.status, head.header("x-accel-buffering")), (200, Some("no")), "{head:?}");
    raw.read_until("the end", PATIENCE, |bytes, has_ended| {
        assert!(bytes.is_empty(), "a body: {}", bytes.escape_ascii());
        has_ended.then_some(((), 0))
    });

    drop(raw);
    let (raw, head) = ask("GET", "https://app.example");
    assert_eq!(head.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(head.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(head.header("vary"), Some("Origin"));
    drop(raw);
    let (raw, head) = ask("GET", "https://evil.example");
    assert_eq!((head.status, head.text().starts_with("origin:")), (403, true), "{head:?}");
    assert_eq!(head.header("access-control-allow-origin"), None);
    drop(raw);
    let (raw, head) = ask("GET", "");
    assert_eq!((head.status, head.header("access-control-allow-origin")), (200, None));
    drop(raw);
    oracles.check(&mut gateway);
}

#[test]
fn e13_what_was_published_forges_no_event_over_the_wire() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut plain = EventStream::open(&gateway, "/sse/news");
    let mut enveloped = EventStream::open(&gateway, "/sse?channels=news");
    plain.next_beginning(1);
    enveloped.next_beginning(1);
    for forged in [
        "x\n\nevent: gw.close\nretry: 1\ndata: forged\n\n",
        "x\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\rid: 1\r\revent: gw.skipped\rdata: {}",
        "\u{2028}id: 2\u{85}\u{b}data: y\0\n: comment",
        "\n",
        "\u{feff}data: bom",
    ] {
        let offset = standing.publish_as("news", "text/plain", forged.as_bytes());
        let event = plain.next_event();
        let (id, data) = (event.id.expect("an id"), event.data.expect("data"));
        assert_eq!((offset_of(&json!(id)), event.kind, event.retry_ms), (offset, None, None));
        assert_eq!(data, forged.replace("\r\n", "\n").replace('\r', "\n"));
        let envelope = enveloped.next_value();
        assert_eq!((&envelope["text"], offset_of(&envelope["position"])), (&json!(forged), offset));
    }
    drop((plain, enveloped, standing));
    oracles.check(&mut gateway);
}

#[test]
fn e2_a_slow_stream_under_disconnect_reads_whole_events_and_then_why() {
    let mut gateway = patient(&["--max-lag-bytes", "256KiB"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut stream = EventStream::open_with(&gateway, "/sse/feed", TINY, &[]);
    let mut fed = 0;
    while standing.metric("tidegate_connections_open", &[]) > 1.0 {
        for _ in 0..8 {
            standing.publish("feed", &large(fed));
            fed += 1;
        }
    }
    stream.next_beginning(1);
    let mut read = 0;
    let close = loop {
        let event = stream.next_event();
        match event.kind {
            Some(_) => break event,
            None => read += 1,
        }
        assert_eq!(event.id.map(|id| offset_of(&json!(id))), Some(read), "one after the other");
    };
    assert_eq!((close.kind.as_deref(), close.data.as_deref()), (Some("gw.close"), Some("slow_consumer")));
    assert!(close.retry_ms.is_some_and(|retry_ms| retry_ms >= 1000), "{close:?}");
    assert_eq!(stream.next_or_end(), None);
    assert!(read < fed as u64, "waiting data is replaced by the end");
    drop((stream, standing));
    oracles.check(&mut gateway);
}

#[test]
fn e2_a_slow_stream_under_skip_is_told_how_many_where_they_are_missing() {
    for target in ["/sse/feed", "/sse?channels=feed,other"] {
        let mut gateway = patient(&["--on-lag", "skip", "--max-lag-bytes", "128KiB"]);
        let oracles = Oracles::before(&gateway);
        let mut standing = Standing::open(&gateway);
        let mut stream = EventStream::open_with(&gateway, target, TINY, &[]);
        let mut fed = 0;
        while standing.metric("tidegate_skipped_total", &[]) < 20.0 {
            (0..8).for_each(|_| fed = standing.publish("feed", &large(7)));
        }
        fed = standing.publish("feed", "last").max(fed);
        stream.next_beginning(target.matches("feed").count() + target.matches("other").count());
        let mut account = Account::default();
        while account.received == 0 || account.sum() < fed {
            account.note(&stream.next_value());
        }
        let skipped = standing.metric("tidegate_skipped_total", &[]);
        assert_eq!((account.skipped as f64, account.sum()), (skipped, fed), "{target}");
        drop((stream, standing));
        oracles.check(&mut gateway);
    }
}

#[test]
fn e2_a_slow_stream_under_conflate_has_the_newest_of_each_key() {
    const KEYS: usize = 5;
    for target in ["/sse/feed", "/sse?channels=feed,other"] {
        let mut gateway = patient(&["--on-lag", "conflate"]);
        let oracles = Oracles::before(&gateway);
        let mut standing = Standing::open(&gateway);
        let mut stream = EventStream::open_with(&gateway, target, TINY, &[]);
        let (mut number, mut fed) = (0, 0);
        while standing.metric("tidegate_conflations_total", &[]) < 1.0 || number < 100 {
            for _ in 0..KEYS {
                fed = publish_keyed(&mut standing, "feed", &format!("k{}", number % KEYS), &large(number));
                number += 1;
            }
        }
        stream.next_beginning(target.matches("feed").count() + target.matches("other").count());
        let mut account = Account::default();
        let mut last = String::new();
        while account.sum() < fed {
            let value = stream.next_value();
            last = value["text"].as_str().map_or(last, str::to_owned);
            account.note(&value);
        }
        let conflated = standing.metric("tidegate_conflated_total", &[]);
        assert_eq!((account.conflated as f64, account.sum()), (conflated, fed), "{target}");
        assert!(account.conflated > 20, "{account:?}");
        assert_eq!(last, large(number - 1), "it ends with the newest");
        assert_eq!((account.skipped, standing.closed("slow_consumer")), (0, 0.0));
        drop((stream, standing));
        oracles.check(&mut gateway);
    }
}
