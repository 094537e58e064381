//! The publish API as publishers know it: what is text, what a reply says, which requests are refused and how (C19).

use crate::kit::{Standing, offset_of};
use crate::support::{Gateway, Message, Oracles, PATIENCE, RawClient, RawOptions, Response, wait_until};

#[track_caller]
fn assert_refused(reply: &Response, status: u16, token: &str) {
    assert_eq!(reply.status, status, "{token}: {reply:?} {}", reply.text());
    assert_eq!(reply.json()["error"], token, "{}", reply.text());
    assert!(reply.json()["message"].as_str().is_some_and(|text| text.len() > 10), "cause and cure");
}

#[test]
fn the_content_type_decides_between_text_and_binary() {
    let gateway = Gateway::start(&[]);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws/a.b");
    let text = |text: &str| Message::Text(text.to_owned());
    for (content_type, body, expected) in [
        ("", &b"plain"[..], text("plain")),
        ("", b"\xff\x00", Message::Binary(vec![0xff, 0])),
        ("text/plain", "h\u{e9}".as_bytes(), text("h\u{e9}")),
        ("text/plain; charset=utf-8", b"t", text("t")),
        ("application/json", b"{\"a\": 1}", text("{\"a\": 1}")),
        ("application/vnd.api+json", b"{}", text("{}")),
        ("application/x-www-form-urlencoded", b"curl -d", text("curl -d")),
        ("application/octet-stream", b"text?", Message::Binary(b"text?".to_vec())),
        ("image/png", b"\x89PNG", Message::Binary(b"\x89PNG".to_vec())),
        ("", b"", text("")),
    ] {
        let reply = admin.post("/publish/a.b", content_type, body);
        assert_eq!(reply.status, 200, "{content_type}: {reply:?}");
        assert_eq!(subscriber.next_message(), expected, "{content_type}");
    }
    for content_type in ["text/plain", "application/json"] {
        assert_refused(&admin.post("/publish/a.b", content_type, b"\xff"), 400, "utf8");
    }
}

#[test]
fn a_reply_states_channel_position_and_subscribers_of_all_shards() {
    const SUBSCRIBERS: usize = 40;
    let gateway = Gateway::start(&["--shards", "4"]);
    let mut standing = Standing::open(&gateway);
    let mut clients: Vec<_> = (0..SUBSCRIBERS).map(|_| gateway.join("/ws/news")).collect();

    let reply = gateway.admin().publish("news", "1").json();
    assert_eq!(reply["channel"], "news");
    assert_eq!(reply["subscribers"], SUBSCRIBERS, "who has read its 101 counts");
    let epoch = |reply: &serde_json::Value| {
        reply["position"].as_str().and_then(|text| text.rsplit_once('-')).map(|(epoch, _)| epoch.to_owned())
    };
    let second = gateway.admin().publish("news", "2").json();
    assert_eq!(offset_of(&second["position"]), offset_of(&reply["position"]) + 1);
    assert_eq!(epoch(&second), epoch(&reply));

    clients.drain(10..).for_each(|client| client.close());
    standing.wait_metric("tidegate_subscriptions", &[], |subscriptions| subscriptions == 10.0);
    // Shards tell the home within a turn of theirs; the count may be that much behind.
    wait_until("the count to be 10", PATIENCE, || standing.publish_subscribers("news") == 10);
}

#[test]
fn one_request_publishes_on_several_channels() {
    let gateway = Gateway::start(&[]);
    let (mut one, mut two) = (gateway.join("/ws/one"), gateway.join("/ws/two"));

    let single = gateway.admin().post("/api/publish", "application/json", br#"{"channel":"one","data":"x"}"#);
    let several = gateway.admin().post(
        "/api/publish",
        "application/json",
        br#"{"channels":["one","two"],"data":{ "a" : [1.10] }}"#,
    );

    assert_eq!((single.status, several.status), (200, 200), "{single:?} {several:?}");
    assert_eq!(single.json()["channel"], "one");
    let results = several.json()["results"].clone();
    assert_eq!(results[0]["channel"], "one");
    assert_eq!(results[1]["channel"], "two");
    assert_eq!(offset_of(&results[0]["position"]), offset_of(&single.json()["position"]) + 1);
    assert_eq!(one.next_text(), "x");
    assert_eq!(one.next_text(), r#"{"a":[1.10]}"#);
    assert_eq!(two.next_text(), r#"{"a":[1.10]}"#);
}

#[test]
fn a_batch_keeps_its_order_per_channel_and_answers_in_its_own() {
    const CHANNELS: usize = 5;
    let mut gateway = Gateway::start(&["--shards", "4"]);
    let oracles = Oracles::before(&gateway);
    let mut clients: Vec<_> = (0..CHANNELS).map(|channel| gateway.join(&format!("/ws/c{channel}"))).collect();
    let items: Vec<String> = (0..1000)
        .map(|number| format!(r#"{{"channel":"c{}","data":"{number}"}}"#, number % CHANNELS))
        .collect();

    let reply =
        gateway.admin().post("/api/batch", "application/json", format!("[{}]", items.join(",")).as_bytes());

    assert_eq!(reply.status, 200, "{}", reply.text());
    let results = reply.json()["results"].as_array().cloned().expect("results");
    assert_eq!(results.len(), 1000);
    let mut offsets = [None; CHANNELS];
    for (number, result) in results.iter().enumerate() {
        let channel = number % CHANNELS;
        assert_eq!(result["channel"], format!("c{channel}"));
        let offset = offset_of(&result["position"]);
        assert!(offsets[channel].is_none_or(|before| offset == before + 1), "{result}");
        offsets[channel] = Some(offset);
    }
    for (channel, client) in clients.iter_mut().enumerate() {
        for number in (channel..1000).step_by(CHANNELS) {
            assert_eq!(client.next_text(), number.to_string());
        }
    }
    clients.into_iter().for_each(|client| client.close());
    oracles.check(&mut gateway);
}

#[test]
fn wrong_requests_are_refused_with_cause_and_cure_and_nothing_is_sent() {
    let gateway = Gateway::start(&[]);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws/a");
    let json = |body: &str| admin.post("/api/publish", "application/json", body.as_bytes());
    let batch = |body: &str| admin.post("/api/batch", "application/json", body.as_bytes());

    assert_refused(&admin.post("/publish/a%20b", "", b"x"), 400, "bad_channel");
    assert_refused(&admin.post("/publish/", "", b"x"), 400, "bad_channel");
    assert_refused(&admin.post(&format!("/publish/{}", "x".repeat(256)), "", b"x"), 400, "bad_channel");
    assert_refused(&json("{"), 400, "bad_json");
    assert_refused(&json(r#"{"channel":"a b","data":1}"#), 400, "bad_channel");
    assert_refused(&json(r#"{"data":1}"#), 422, "invalid");
    assert_refused(&json(r#"{"channel":"a","data":1,"extra":1}"#), 422, "invalid");
    assert_refused(&admin.post("/api/publish", "text/plain", b"{}"), 415, "media_type");
    let encoded = admin.request("POST", "/publish/a", &["Content-Encoding: gzip"], b"x");
    assert_refused(&encoded, 415, "media_type");
    // A batch is taken whole or not at all, and says which message was wrong.
    let wrong = batch(r#"[{"channel":"a","data":1},{"channel":"","data":2}]"#);
    assert_refused(&wrong, 400, "bad_channel");
    assert_eq!(wrong.json()["index"], 1);
    for path in ["/nowhere", "/api", "/publish", "/api/publish/x"] {
        assert_refused(&admin.get(path), 404, "no_route");
    }
    for path in ["/publish/a", "/api/publish", "/api/batch"] {
        let reply = admin.get(path);
        assert_refused(&reply, 405, "method");
        assert_eq!(reply.header("allow"), Some("POST"), "{path}");
    }
    let reply = admin.post("/metrics", "", b"");
    assert_refused(&reply, 405, "method");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));

    admin.publish("a", "the first");
    assert_eq!(subscriber.next_text(), "the first");
}

#[test]
fn b24_json_that_could_be_read_in_two_ways_is_refused_by_its_key_and_depth_brings_nothing_down() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws/a");
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for (path, body, status, token, detail) in [
        ("/api/publish", r#"{"channel":"a","channel":"b","data":1}"#, 422, "invalid", "channel: twice"),
        ("/api/publish", r#"{"channel":"a","data":1,"data":2}"#, 422, "invalid", "data: twice"),
        ("/api/publish", r#"{"Channel":"a","data":1}"#, 422, "invalid", "case matters"),
        ("/api/publish", r#"{"channel":1e999,"data":1}"#, 422, "invalid", "channel: not a string"),
        ("/api/batch", r#"[{"channel":"a","Data":1}]"#, 422, "invalid", "case matters"),
        ("/api/publish", deep.as_str(), 422, "invalid", "not an object"),
        ("/api/batch", deep.as_str(), 422, "invalid", "not an object"),
        ("/api/publish", &deep[..100_000], 400, "bad_json", ""),
        ("/api/batch", &deep[..100_000], 400, "bad_json", ""),
    ] {
        let reply = admin.post(path, "application/json", body.as_bytes());
        assert_refused(&reply, status, token);
        let said = reply.json();
        assert!(said["detail"].as_str().unwrap_or_default().contains(detail), "{said}");
    }
    let body = format!(r#"{{"channel":"a","data":{deep}}}"#);
    assert_eq!(admin.post("/api/publish", "application/json", body.as_bytes()).status, 200);
    assert_eq!(admin.post("/api/publish", "", br#"{"data":-1e999,"channel":"a"}"#).status, 200);
    assert_eq!(subscriber.next_text(), deep, "what is published is not judged");
    assert_eq!(subscriber.next_text(), "-1e999");
    subscriber.close();
    oracles.check(&mut gateway);
}

#[test]
fn c19_a_body_of_a_mebibyte_is_taken_and_the_byte_after_it_is_not() {
    const MEBIBYTE: usize = 1024 * 1024;
    let gateway = Gateway::start(&[]);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws/big");
    let whole = vec![b'x'; MEBIBYTE + 1];

    assert_eq!(admin.post("/publish/big", "", &whole[1..]).status, 200);
    assert_refused(&admin.post("/publish/big", "", &whole), 413, "body_too_big");
    let mut chunked = RawClient::connect(gateway.admin, RawOptions::default());
    let head = format!(
        "POST /publish/big HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        gateway.admin
    );
    chunked.send(head.as_bytes());
    for chunk in whole.chunks(64 * 1024) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        if chunked.try_send(&framed).is_err() {
            break;
        }
    }
    let _ = chunked.try_send(b"0\r\n\r\n");
    assert_refused(&chunked.read_until("an answer", PATIENCE, Response::parse), 413, "body_too_big");
    let items = vec![r#"{"channel":"big","data":"y"}"#; 1001].join(",");
    assert_refused(&admin.post("/api/batch", "", format!("[{items}]").as_bytes()), 413, "body_too_big");

    assert_eq!(subscriber.next_text().len(), MEBIBYTE);
    admin.publish("big", "next");
    assert_eq!(subscriber.next_text(), "next", "nothing of the refused ones was sent");
}

#[test]
fn a_key_comes_from_the_publisher_or_from_the_payload_and_what_is_no_key_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.toml");
    let table = "[[channel]]\npattern = \"a\"\nkey = \"json:/symbol\"\nrelay = true\nttl = \"1m\"\n";
    std::fs::write(&path, table).expect("written");
    let mut gateway = Gateway::start(&["--config", path.to_str().expect("a plain path")]);
    let oracles = Oracles::before(&gateway);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws/a");
    let json = |body: &str| admin.post("/api/publish", "application/json", body.as_bytes());
    let missing = || admin.metric("tidegate_keys_missing_total");

    for (reply, token) in [
        (admin.post("/publish/a?key=", "", b"x"), "bad_key"),
        (admin.post("/publish/a?key=%00", "", b"x"), "bad_key"),
        (admin.post(&format!("/publish/a?key={}", "k".repeat(129)), "", b"x"), "bad_key"),
        (admin.post("/publish/a?ttl=5", "", b"x"), "bad_ttl"),
        (admin.post("/publish/a?ttl=0s", "", b"x"), "bad_ttl"),
        (admin.post("/publish/a?age=5s", "", b"x"), "bad_query"),
        (json(r#"{"channel":"a","data":1,"key":""}"#), "bad_key"),
        (json(r#"{"channel":"a","data":1,"ttl_ms":0}"#), "bad_ttl"),
    ] {
        assert_refused(&reply, 400, token);
    }
    assert_eq!(admin.post("/publish/a?key=zwei+W%C3%B6rter&ttl=5s", "", b"by query").status, 200);
    assert_eq!(json(r#"{"channel":"a","data":"by member","key":"k","ttl_ms":5000}"#).status, 200);
    assert_eq!(json(r#"{"channel":"a","key":"k"}"#).status, 200);
    for text in ["by query", "by member", ""] {
        assert_eq!(subscriber.next_text(), text);
    }
    assert_eq!(missing(), 0.0, "who gives a key is not asked for another");

    admin.publish("a", r#"{"symbol":"BTC"}"#);
    admin.publish("a", r#"{"symbol":["BTC"]}"#);
    let mut sender = gateway.join("/ws/a");
    sender.send_text(r#"{"symbol":7}"#);
    sender.send_text("no JSON");
    for text in [r#"{"symbol":"BTC"}"#, r#"{"symbol":["BTC"]}"#, r#"{"symbol":7}"#, "no JSON"] {
        assert_eq!(subscriber.next_text(), text);
    }
    assert_eq!(missing(), 2.0, "of each way one");
    sender.close();
    subscriber.close();
    oracles.check(&mut gateway);
}

#[test]
fn e8_a_publish_that_is_retried_is_one_message_with_one_position() {
    let mut gateway = Gateway::start(&["--shards", "2"]);
    let oracles = Oracles::before(&gateway);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws/a");
    let header = ["Idempotency-Key: 8e03978e-40d5-43dd-bc93-6894a57f9324"];
    let post = |body: &[u8]| admin.request("POST", "/publish/a", &header, body);

    // Many at once, of which some hang up: all that answer name one position.
    let mut replies: Vec<RawClient> = (0..8)
        .map(|number| {
            let mut client = RawClient::connect(gateway.admin, RawOptions::default());
            let host = gateway.admin;
            let head = format!("POST /publish/a HTTP/1.1\r\nHost: {host}\r\n{}\r\n", header[0]);
            client.send(format!("{head}Content-Length: 3\r\n\r\none").as_bytes());
            (number, client)
        })
        .filter_map(|(number, client)| {
            if number % 3 == 0 {
                client.reset();
                None
            } else {
                Some(client)
            }
        })
        .collect();
    let retry = post(b"one").json();
    let mut firsts = 0;
    for client in &mut replies {
        let reply = client.response().json();
        assert_eq!(reply["position"], retry["position"]);
        firsts += usize::from(reply["duplicate"].is_null());
    }
    drop(replies);
    assert!(firsts + usize::from(retry["duplicate"].is_null()) <= 1, "of all one was the first");
    let again = post(b"one").json();
    assert_eq!((&again["position"], &again["duplicate"]), (&retry["position"], &true.into()));
    assert_refused(&post(b"two"), 409, "idempotency_conflict");
    assert_refused(
        &admin.request("POST", "/publish/a", &["Idempotency-Key: "], b"x"),
        400,
        "bad_idempotency_key",
    );
    let other = br#"{"channel":"a","data":"one","idempotency_key":"other"}"#;
    let other = admin.post("/api/publish", "application/json", other).json();
    assert_eq!(offset_of(&other["position"]), offset_of(&retry["position"]) + 1);

    admin.publish("a", "last");
    for text in ["one", "one", "last"] {
        assert_eq!(subscriber.next_text(), text);
    }
    assert!(admin.metric("tidegate_idempotency_duplicates_total") >= 1.0);
    assert_eq!(admin.metric("tidegate_idempotency_keys"), 2.0);
    subscriber.close();
    oracles.check(&mut gateway);
}

#[test]
fn one_channel_is_shown_with_its_counts() {
    let mut gateway = Gateway::start(&["--shards", "4", "--history-messages", "2"]);
    let oracles = Oracles::before(&gateway);
    let admin = gateway.admin();
    assert_refused(&admin.get("/api/channels/counted"), 404, "no_channel");
    let clients: Vec<_> = (0..10).map(|_| gateway.join("/ws/counted")).collect();
    let last = ["0", "1", "2"].map(|text| admin.publish("counted", text))[2].json();
    let shown = admin.get("/api/channels/counted").json();
    assert_eq!(shown["position"], last["position"]);
    assert_eq!(shown["position"], format!("{}-3", shown["epoch"].as_str().expect("an epoch")));
    assert_eq!(shown["subscribers"], 10);
    clients.into_iter().for_each(|client| client.close());
    wait_until("the history alone", PATIENCE, || {
        let shown = admin.get("/api/channels/counted").json();
        (shown["subscribers"].as_u64(), shown["retained_messages"].as_u64()) == (Some(0), Some(2))
    });
    let bytes = 2 * b"\x81\x012".len();
    assert_eq!(admin.get("/api/channels/counted").json()["retained_bytes"], bytes);
    oracles.check(&mut gateway);
}
