//! Listings of channels and connections: complete, bounded, and safe at the extremes.

use super::*;

#[tokio::test]
async fn j7_a_walk_over_the_pages_sees_every_connection_once() {
    let world = awake(Shape::default()).await;
    let mut seen = Vec::new();
    let mut path = "/api/connections?limit=3".to_owned();
    loop {
        let page = world.get(&path).await.json();
        let rows = page["connections"].as_array().unwrap();
        assert!(rows.len() <= 3);
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/connections?limit=3&after={next}");
    }
    let expected = (0..2).flat_map(|shard| (0..5).map(move |slot| format!("{shard}-{slot:x}")));
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn j7_cursors_at_the_extremes_do_not_overflow() {
    let world = awake(Shape::default()).await;
    let last = world.get("/api/connections?after=0001ffffffff&limit=18446744073709551615").await.json();
    assert_eq!(last["connections"].as_array().unwrap().len(), 0);
    assert!(last["next"].is_null());
    let first = world.get("/api/connections?after=0000ffffffff").await.json();
    assert_eq!(first["connections"].as_array().unwrap().len(), 5, "goes on with the next shard");
    for bad in ["after=000200000000", "after=ffffffffffff", "after=x", "limit=0", "limit=-1"] {
        expect(&world.get(&format!("/api/connections?{bad}")).await, Refusal::BadQuery);
    }
}

#[tokio::test]
async fn a_walk_over_the_pages_sees_every_channel_once() {
    let world = awake(Shape::default()).await;
    let names = ["d", "a", "c", "b", "e", "f", "g"];
    for name in names {
        world
            .publisher
            .publish(ChannelName::parse(name).unwrap(), crate::model::PayloadKind::Text, b"x")
            .await
            .unwrap();
    }
    world.counters[0].channels_homed.set(7);
    let (mut seen, mut path) = (Vec::new(), "/api/channels?limit=3".to_owned());
    loop {
        let page = world.get(&path).await.json();
        assert_eq!(page["total"], 7);
        let rows = page["channels"].as_array().unwrap();
        let names: Vec<_> = rows.iter().map(|row| row["channel"].as_str().unwrap().to_owned()).collect();
        assert!(names.is_sorted() && names.len() <= 3, "{names:?}");
        assert_eq!(rows[0]["position"], "00000000000000ab-1");
        seen.extend(names);
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/channels?limit=3&after={next}");
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "c", "d", "e", "f", "g"]);
}

#[tokio::test]
async fn the_last_ends_of_all_shards_are_listed_newest_first() {
    let world = awake(Shape::default()).await;
    let page = world.get("/api/closed?limit=5").await.json();
    let rows = page["closed"].as_array().unwrap();
    let shards: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(shards, ["0-100000007", "1-100000007", "0-100000007", "1-100000007", "0-100000007"]);
    let first = &rows[0];
    assert_eq!((&first["event"], &first["reason"]), (&"close".into(), &"slow_consumer".into()));
    assert_eq!((&first["code"], &first["by"]), (&4101.into(), &"us".into()));
    assert_eq!(
        (&first["bytes_in"], &first["bytes_out"], &first["age_ms"]),
        (&1.into(), &2.into(), &90.into())
    );
    assert_eq!(first["peer"], "127.0.0.1:40000");
    expect(&world.get("/api/closed?after=000000000000").await, Refusal::BadQuery);
}

#[tokio::test]
async fn the_index_names_every_route() {
    let world = awake(Shape::default()).await;
    let index = world.get("/").await.text();
    for path in [
        "/publish/{channel}",
        "/api/publish",
        "/api/batch",
        "/api/channels",
        "/api/connections",
        "/api/closed",
        "/livez",
        "/readyz",
        "/metrics",
    ] {
        assert!(index.contains(path), "{path}");
    }
}

#[tokio::test]
async fn one_channel_is_shown_with_its_counts_or_is_not_there() {
    let world = awake(Shape::default()).await;
    expect(&world.get("/api/channels/news.eu").await, Refusal::NoChannel);
    assert_eq!(world.post("/publish/news.eu", "", b"x").await.status, 200);
    for path in ["/api/channels/news.eu", "/api/channels/news%2Eeu"] {
        let reply = world.get(path).await.json();
        let expected = serde_json::json!({
            "channel": "news.eu",
            "position": "00000000000000ab-1",
            "subscribers": 2,
            "retained_messages": 7,
            "retained_bytes": 80,
            "epoch": "00000000000000ab",
        });
        assert_eq!(reply, expected, "{path}");
    }
    expect(&world.get("/api/channels/").await, Refusal::BadChannel);
    expect(&world.get("/api/channels/a/b").await, Refusal::BadChannel);
    expect(&world.post("/api/channels/news.eu", "", b"").await, Refusal::Method);
}
