//! The admin port over a real loopback socket, against shards that are threads of the test.

mod fake_shard;
mod health;
mod http;
mod listing;
mod places;
mod retries;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::refusal::Refusal;
use super::{Admin, AdminSetup, Patience, Shards};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::ChannelRules;
use crate::config::limits::PUBLISH_BYTES_MAX;
use crate::feeds::Publisher;
use crate::metrics::{MemoryBudget, ShardCounters};
use crate::model::ChannelName;
use fake_shard::{FakeShard, Waker};
use http::{Client, Reply};

/// Short enough for a test that waits for it, long enough for a busy machine not to meet it by accident.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);
/// More than any test publishes.
const MEMORY_BYTES: u64 = 1 << 30;

struct World {
    admin: Arc<Admin>,
    shards: Vec<FakeShard>,
    counters: Vec<Arc<ShardCounters>>,
    memory: MemoryBudget,
    publisher: Publisher,
    address: std::net::SocketAddr,
}

struct Shape {
    shards: usize,
    lane_capacity: usize,
    answer_timeout: Duration,
    patience: Patience,
    connections: u32,
}

impl Default for Shape {
    fn default() -> Self {
        let patience = Patience { body: LONG, receipt: LONG };
        Self { shards: 2, lane_capacity: 2048, answer_timeout: LONG, patience, connections: 5 }
    }
}

/// The admin server with shards that are not started yet: they take nothing and answer nothing.
async fn asleep(shape: Shape) -> World {
    let (wakers, sleepers): (Vec<_>, Vec<_>) = (0..shape.shards).map(|_| Waker::pair()).unzip();
    let bus = Bus::new(wakers, shape.lane_capacity);
    let counters: Vec<Arc<ShardCounters>> = (0..shape.shards).map(|_| Arc::default()).collect();
    let shards = sleepers.into_iter().enumerate();
    let shards = shards.map(|(index, sleeper)| FakeShard::new(&bus, index, sleeper, shape.connections));
    let clock = Clock::start();
    let memory = MemoryBudget::new(MEMORY_BYTES);
    let publisher = Publisher::new(bus.clone(), clock, memory.clone());
    let admin = Arc::new(Admin::new(AdminSetup {
        publisher: publisher.clone(),
        shards: Shards::new(bus.clone(), counters.clone()).with_answer_timeout(shape.answer_timeout),
        clock,
        connections_max: 100,
        descriptors_max: 164,
        memory: memory.clone(),
        log_dropped: Arc::default(),
        patience: shape.patience,
        channels: ChannelRules::default(),
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(super::serve(listener, Arc::clone(&admin)));
    World { admin, shards: shards.collect(), counters, memory, publisher, address }
}

async fn awake(shape: Shape) -> World {
    let mut world = asleep(shape).await;
    world.shards.iter_mut().for_each(FakeShard::start);
    world
}

impl World {
    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.client().await.get(path).await
    }

    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.client().await.post(path, headers, body).await
    }

    /// All messages that the shards took, as (channel, payload with its opcode), in order of each shard.
    fn taken(&self) -> Vec<(String, Vec<u8>)> {
        self.shards.iter().flat_map(FakeShard::taken).collect()
    }
}

fn expect(reply: &Reply, refusal: Refusal) {
    assert_eq!(reply.status, refusal.status(), "{reply:?}");
    let body = reply.json();
    assert_eq!(body["error"], refusal.token(), "{reply:?}");
    assert_eq!(body["message"], refusal.message());
    assert_eq!(reply.header("retry-after").is_some(), refusal.status() == 503, "{reply:?}");
}

#[tokio::test]
async fn the_body_is_the_message_and_the_reply_says_where_it_stands() {
    let world = awake(Shape::default()).await;
    let mut client = world.client().await;
    for offset in 1..=2 {
        let reply = client.post("/publish/lobby", "", b"hello").await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.body,
            format!(
                "{{\"channel\":\"lobby\",\"position\":\"00000000000000ab-{offset}\",\"subscribers\":2}}\n"
            )
            .as_bytes()
        );
    }
    assert_eq!(world.taken(), vec![("lobby".to_owned(), b"\x81\x05hello".to_vec()); 2]);
}

#[tokio::test]
async fn text_is_what_is_declared_or_looks_like_it() {
    let world = awake(Shape::default()).await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let binary = "Content-Type: application/octet-stream\r\n";
    for (headers, body, opcode) in [
        ("", &b"a"[..], 0x81),
        (form, b"a", 0x81),
        ("Content-Type: text/plain\r\n", b"a", 0x81),
        ("Content-Type: application/json\r\n", b"{}", 0x81),
        (binary, b"a", 0x82),
        ("", b"\xff", 0x82),
        (form, b"\xff", 0x82),
        ("", b"", 0x81),
    ] {
        assert_eq!(world.post("/publish/a", headers, body).await.status, 200);
        assert_eq!(world.taken().pop().unwrap().1[0], opcode, "{headers:?} {body:?}");
    }
    for declared in ["text/plain", "application/json"] {
        let headers = format!("Content-Type: {declared}\r\n");
        expect(&world.post("/publish/a", &headers, b"\xff").await, Refusal::BadUtf8);
    }
    let gzip = "Content-Encoding: gzip\r\n";
    expect(&world.post("/publish/a", gzip, b"x").await, Refusal::MediaType);
    assert_eq!(world.taken().len(), 8);
}

#[tokio::test]
async fn one_message_goes_to_one_channel_or_to_a_list_of_them() {
    let world = awake(Shape::default()).await;
    let one = world.post("/api/publish", "", br#"{"channel":"a","data":{"x": 1}}"#).await;
    assert_eq!((one.status, one.json()["position"].as_str()), (200, Some("00000000000000ab-1")));
    let many = world.post("/api/publish", "", br#"{"channels":["a","b"],"data":"hi"}"#).await;
    let results = many.json()["results"].clone();
    assert_eq!((results[0]["channel"].as_str(), results[1]["channel"].as_str()), (Some("a"), Some("b")));
    assert_eq!(results[0]["position"], "00000000000000ab-2");
    let mut taken = world.taken();
    taken.sort();
    let frame = |text: &[u8]| [&[0x81, text.len() as u8], text].concat();
    let expected = [("a", &b"hi"[..]), ("a", b"{\"x\":1}"), ("b", b"hi")];
    assert_eq!(taken, expected.map(|(channel, text)| (channel.to_owned(), frame(text))));
}

#[tokio::test]
async fn e9_a_batch_keeps_its_order_and_arrives_in_one_piece() {
    let mut world = asleep(Shape { shards: 1, ..Shape::default() }).await;
    let item = |index: usize| format!("{{\"channel\":\"c{}\",\"data\":{index}}}", index % 3);
    let body = format!("[{}]", (0..1000).map(item).collect::<Vec<_>>().join(","));
    let mut client = world.client().await;
    client.send_post("/api/batch", "", body.as_bytes()).await;
    world.shards[0].wait_for_publishes(1000).await;
    world.shards[0].start();
    let reply = client.reply().await;
    assert_eq!(reply.status, 200);
    let results = reply.json()["results"].as_array().unwrap().clone();
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["channel"], format!("c{}", index % 3));
        assert_eq!(result["position"], format!("00000000000000ab-{}", index / 3 + 1));
    }
    let payloads =
        world.taken().into_iter().map(|(_, frame)| String::from_utf8(frame[2..].to_vec()).unwrap());
    assert!(payloads.eq((0..1000).map(|index| index.to_string())));
}

#[tokio::test]
async fn a_full_lane_is_answered_503_and_nothing_is_half_silent() {
    let mut world = asleep(Shape { shards: 2, lane_capacity: 1, ..Shape::default() }).await;
    let homed = |home| {
        let mut names = (0..).map(|index| format!("c{index}"));
        let is_there = |name: &String| {
            world.publisher.home_of(&ChannelName::parse(name).unwrap()) == crate::model::ShardId(home)
        };
        names.find(is_there).unwrap()
    };
    let (full, free) = (homed(0), homed(1));
    let mut first = world.client().await;
    first.send_post(&format!("/publish/{full}"), "", b"in the way").await;
    world.shards[0].wait_for_publishes(1).await;
    let mut batch = world.client().await;
    let item = |channel: &str, data: u8| format!("{{\"channel\":\"{channel}\",\"data\":{data}}}");
    let items = [item(&free, 1), item(&full, 2), item(&free, 3), item(&full, 4)].join(",");
    batch.send_post("/api/batch", "", format!("{{\"messages\":[{items}]}}").as_bytes()).await;
    world.shards[1].wait_for_publishes(2).await;
    for (path, body) in
        [(format!("/publish/{full}"), "x".to_owned()), ("/api/publish".into(), item(&full, 5))]
    {
        expect(&world.post(&path, "", body.as_bytes()).await, Refusal::Overloaded);
    }
    world.shards.iter_mut().for_each(FakeShard::start);
    let reply = batch.reply().await;
    expect(&reply, Refusal::Overloaded);
    let results = reply.json()["results"].clone();
    assert_eq!(results[0]["position"], "00000000000000ab-1");
    assert_eq!(results[2]["position"], "00000000000000ab-2");
    for refused in [&results[1], &results[3]] {
        assert_eq!((refused["error"].as_str(), &refused["position"]), (Some("overloaded"), &().into()));
    }
    assert_eq!(first.reply().await.status, 200);
    assert_eq!(world.taken().len(), 3);
    let metrics = world.get("/metrics").await.text();
    assert!(metrics.contains("tidegate_admin_refused_total{reason=\"overloaded\",status=\"503\"} 4\n"));
    assert!(metrics.contains("tidegate_admin_requests_total{route=\"publish\"} 2\n"));
}

#[tokio::test]
async fn a_message_without_receipt_is_said_to_be_unconfirmed() {
    let patience = Patience { receipt: SHORT, body: LONG };
    let world = asleep(Shape { patience, ..Shape::default() }).await;
    expect(&world.post("/publish/a", "", b"x").await, Refusal::Unconfirmed);
    world.publisher.close();
    expect(&world.post("/publish/a", "", b"x").await, Refusal::Draining);
}

#[tokio::test]
async fn c19_bodies_beyond_the_limits_are_refused() {
    let patience = Patience { body: SHORT, receipt: LONG };
    let world = awake(Shape { patience, ..Shape::default() }).await;
    let whole = vec![b'x'; PUBLISH_BYTES_MAX + 1];
    // Bodies of a megabyte need more patience than the stalled one below is given.
    let patient = awake(Shape::default()).await;
    assert_eq!(patient.post("/publish/a", "", &whole[1..]).await.status, 200);
    let by_length = patient.post("/publish/a", "", &whole).await;
    expect(&by_length, Refusal::BodyTooBig);
    assert_eq!(by_length.header("connection"), Some("close"));
    let mut client = patient.client().await;
    client.send(b"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send(format!("{:x}\r\n", whole.len()).as_bytes()).await;
    client.send(&whole).await;
    client.send(b"\r\n0\r\n\r\n").await;
    expect(&client.reply().await, Refusal::BodyTooBig);
    let mut waits = patient.client().await;
    waits
        .send(b"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
        .await;
    expect(&waits.reply().await, Refusal::BodyTooBig);
    let mut stalled = world.client().await;
    stalled.send(b"POST /publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf").await;
    let reply = stalled.reply().await;
    expect(&reply, Refusal::BodyTimeout);
    assert_eq!(reply.header("connection"), Some("close"));
    let batch = format!("[{}]", vec![r#"{"channel":"a","data":1}"#; 1001].join(","));
    expect(&patient.post("/api/batch", "", batch.as_bytes()).await, Refusal::BodyTooBig);
    assert_eq!(patient.taken().len(), 1);
}

#[tokio::test]
async fn every_wrong_request_has_its_status_and_fixed_text() {
    let world = awake(Shape::default()).await;
    for (path, body, refusal) in [
        ("/publish/a%20b", "x", Refusal::BadChannel),
        ("/publish/", "x", Refusal::BadChannel),
        ("/api/publish", "{", Refusal::BadJson),
        ("/api/publish", r#"{"channel":"a","data":1,"more":2}"#, Refusal::Invalid),
        ("/api/publish", r#"{"channel":"","data":1}"#, Refusal::BadChannel),
        ("/api/batch", r#"{"channel":"a","data":1}"#, Refusal::Invalid),
        ("/nowhere", "", Refusal::NoRoute),
    ] {
        expect(&world.post(path, "", body.as_bytes()).await, refusal);
    }
    let blamed =
        world.post("/api/batch", "", br#"[{"channel":"a","data":1},{"channel":" ","data":1}]"#).await;
    assert_eq!((blamed.status, &blamed.json()["index"]), (400, &1.into()));
    let typed = world.post("/api/publish", "Content-Type: image/png\r\n", b"{}").await;
    expect(&typed, Refusal::MediaType);
    let method = world.get("/publish/a").await;
    expect(&method, Refusal::Method);
    assert_eq!(method.header("allow"), Some("POST"));
    let method = world.post("/metrics", "", b"").await;
    expect(&method, Refusal::Method);
    assert_eq!(method.header("allow"), Some("GET, HEAD"));
    expect(&world.get("/api/channels?offset=1").await, Refusal::BadQuery);
    assert_eq!(world.taken(), []);
}

#[tokio::test]
async fn j2_browser_requests_from_elsewhere_change_nothing() {
    let world = awake(Shape::default()).await;
    let cross = world.post("/publish/a", "Origin: http://evil.example\r\n", b"x").await;
    expect(&cross, Refusal::Origin);
    let form = "Origin: null\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    expect(&world.post("/publish/a", form, b"x").await, Refusal::Origin);
    let mut rebound = world.client().await;
    rebound.send(b"GET /api/connections HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    expect(&rebound.reply().await, Refusal::Host);
    assert_eq!(world.taken(), []);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let world = awake(Shape::default()).await;
    let mut client = world.client().await;
    let one = "POST /publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    client.send(one.repeat(50).as_bytes()).await;
    for offset in 1..=50 {
        assert_eq!(client.reply().await.json()["position"], format!("00000000000000ab-{offset}"));
    }
}
