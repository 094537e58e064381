//! Publishes under idempotency keys, as retries meet them (GUARANTEES E8).

use super::*;

const KEY: &str = "Idempotency-Key: k1\r\n";

#[tokio::test]
async fn e8_a_retry_gets_the_first_position_and_another_message_a_conflict() {
    let world = awake(Shape::default()).await;
    let first = world.post("/publish/a", KEY, b"one").await;
    assert_eq!((first.status, first.json()["duplicate"].is_null()), (200, true));
    for _ in 0..2 {
        let again = world.post("/publish/a", KEY, b"one").await.json();
        assert_eq!((&again["position"], &again["duplicate"]), (&first.json()["position"], &true.into()));
    }
    expect(&world.post("/publish/a", KEY, b"two").await, Refusal::IdempotencyConflict);
    expect(&world.post("/publish/a?key=x", KEY, b"one").await, Refusal::IdempotencyConflict);
    let by_member = br#"{"channel":"a","data":"one","idempotency_key":"k1"}"#;
    assert_eq!(world.post("/api/publish", "", by_member).await.json()["duplicate"], true);
    let by_header = br#"{"channel":"a","data":"one"}"#;
    assert_eq!(world.post("/api/publish", KEY, by_header).await.json()["duplicate"], true);
    assert!(
        world.post("/publish/b", KEY, b"two").await.json()["duplicate"].is_null(),
        "keys are of a channel"
    );
    assert_eq!(world.taken().len(), 2);
}

#[tokio::test]
async fn e8_a_caller_that_hung_up_and_retries_waits_for_the_number_of_its_first_message() {
    let mut world = asleep(Shape { shards: 1, ..Shape::default() }).await;
    let mut first = world.client().await;
    first.send_post("/publish/a", KEY, b"one").await;
    world.shards[0].wait_for_publishes(1).await;
    drop(first);
    let (mut second, mut third, mut other) =
        (world.client().await, world.client().await, world.client().await);
    second.send_post("/publish/a", KEY, b"one").await;
    third.send_post("/publish/a", KEY, b"one").await;
    world.shards[0].wait_for_publishes(3).await;
    other.send_post("/publish/a", KEY, b"two").await;
    world.shards[0].start();
    for client in [&mut second, &mut third] {
        let reply = client.reply().await.json();
        assert_eq!((&reply["position"], &reply["duplicate"]), (&"00000000000000ab-1".into(), &true.into()));
    }
    expect(&other.reply().await, Refusal::IdempotencyConflict);
    assert_eq!(world.taken().len(), 1);
}

#[tokio::test]
async fn e8_a_message_that_was_not_taken_may_be_sent_again_under_its_key() {
    let mut world = asleep(Shape { shards: 1, lane_capacity: 1, ..Shape::default() }).await;
    let mut in_the_way = world.client().await;
    in_the_way.send_post("/publish/a", "", b"in the way").await;
    world.shards[0].wait_for_publishes(1).await;
    expect(&world.post("/publish/a", KEY, b"one").await, Refusal::Overloaded);
    world.shards[0].start();
    in_the_way.reply().await;
    let again = world.post("/publish/a", KEY, b"one").await;
    assert_eq!((again.status, again.json()["duplicate"].is_null()), (200, true), "{again:?}");
    assert_eq!(world.taken().len(), 2);
}

#[tokio::test]
async fn e8_each_message_of_a_batch_has_a_key_of_its_own() {
    let world = awake(Shape::default()).await;
    let item =
        |number: u8, key: u8| format!(r#"{{"channel":"a","data":{number},"idempotency_key":"k{key}"}}"#);
    let batch = |items: &[String]| format!("[{}]", items.join(","));
    let first = world.post("/api/batch", "", batch(&[item(1, 1), item(1, 1), item(2, 2)]).as_bytes()).await;
    let results = first.json()["results"].clone();
    let position = |offset: u8| serde_json::Value::from(format!("00000000000000ab-{offset}"));
    assert_eq!([&results[0]["position"], &results[1]["position"]], [&position(1); 2]);
    assert_eq!((&results[1]["duplicate"], &results[2]["position"]), (&true.into(), &position(2)));

    let second = world.post("/api/batch", "", batch(&[item(2, 2), item(9, 1), item(3, 3)]).as_bytes()).await;
    expect(&second, Refusal::IdempotencyConflict);
    let results = second.json()["results"].clone();
    assert_eq!((&results[0]["position"], &results[0]["duplicate"]), (&position(2), &true.into()));
    assert_eq!(results[1]["error"], "idempotency_conflict");
    assert_eq!(results[2]["position"], position(3), "the others are published");

    let channels = br#"{"channels":["a","b"],"data":3,"idempotency_key":"k3"}"#;
    let results = world.post("/api/publish", "", channels).await.json()["results"].clone();
    assert_eq!((&results[0]["duplicate"], &results[1]["duplicate"]), (&true.into(), &().into()));
    assert_eq!(world.taken().len(), 4);
}

#[tokio::test]
async fn e8_what_is_no_key_is_refused() {
    let world = awake(Shape::default()).await;
    let long = format!("Idempotency-Key: {}\r\n", "k".repeat(129));
    for headers in ["Idempotency-Key: \r\n", "Idempotency-Key: \u{e4}\r\n", &long, &KEY.repeat(2)] {
        expect(&world.post("/publish/a", headers, b"x").await, Refusal::BadIdempotencyKey);
    }
    let twice = br#"{"channel":"a","data":1,"idempotency_key":"k1"}"#;
    expect(&world.post("/api/publish", KEY, twice).await, Refusal::BadIdempotencyKey);
    let batch = br#"[{"channel":"a","data":1}]"#;
    expect(&world.post("/api/batch", KEY, batch).await, Refusal::BadIdempotencyKey);
    assert_eq!(world.taken(), []);
}
