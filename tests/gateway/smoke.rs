//! The main job, end to end: what is published reaches every subscriber on every shard.

use crate::support::{Gateway, Message, Oracles, Response};

/// With this many subscribers both of two shards have some, but for one run in 2^31.
const SUBSCRIBERS: usize = 32;

#[test]
fn a_publish_reaches_subscribers_on_both_shards() {
    let mut gateway = Gateway::start(&["--shards", "2"]);
    let oracles = Oracles::before(&gateway);
    let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| gateway.join("/ws/lobby")).collect();
    for shard in ["0", "1"] {
        let held = gateway.admin().metric_with("tidegate_shard_connections", &[("shard", shard)]);
        assert!(held > 0.0, "shard {shard} has no connection");
    }

    let reply = gateway.admin().publish("lobby", "hello");

    assert_eq!(reply.json()["channel"], "lobby", "{reply:?}");
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next_text(), "hello");
    }
    subscribers.into_iter().for_each(|subscriber| subscriber.close());
    oracles.check(&mut gateway);
}

#[test]
fn messages_arrive_in_the_order_of_their_publication() {
    let gateway = Gateway::start(&[]);
    let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| gateway.join("/ws/lobby")).collect();

    for number in 0..100 {
        gateway.admin().publish("lobby", &number.to_string());
    }

    for subscriber in &mut subscribers {
        for number in 0..100 {
            assert_eq!(subscriber.next_text(), number.to_string());
        }
    }
}

#[test]
fn bytes_that_are_no_text_arrive_as_binary() {
    let gateway = Gateway::start(&[]);
    let mut subscriber = gateway.join("/");

    let reply = gateway.admin().post("/publish/lobby", "application/octet-stream", &[0, 0xff, 0x80]);

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(subscriber.next_message(), Message::Binary(vec![0, 0xff, 0x80]));
}

#[test]
fn a_page_and_its_health_are_served() {
    let gateway = Gateway::start(&[]);

    let page: Response = {
        let mut client = gateway.raw();
        client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.clients).as_bytes());
        client.response()
    };

    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").is_some(), "{:?}", page.headers);
    assert!(page.text().contains("id=\"messages\""), "{}", page.text());
    assert_eq!(gateway.admin().get("/livez").status, 200);
    assert_eq!(gateway.admin().get("/readyz").status, 200);
}
