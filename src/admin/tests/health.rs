//! Health and metrics, and what is refused when the gateway is not well.

use super::*;

#[tokio::test]
async fn readiness_goes_first_when_draining_and_messages_are_still_taken() {
    let world = awake(Shape::default()).await;
    assert_eq!(world.get("/readyz").await.text(), "ready\n");
    world.admin.set_draining();
    expect(&world.get("/readyz").await, Refusal::Draining);
    assert_eq!(world.get("/livez").await.status, 200);
    assert_eq!(world.post("/publish/a", "", b"x").await.status, 200);
    assert!(world.get("/metrics").await.text().contains("tidegate_draining 1\n"));
}

#[tokio::test]
async fn c1_lasting_exhaustion_of_descriptors_takes_readiness_away() {
    let world = awake(Shape::default()).await;
    world.counters[1].descriptors_exhausted_seconds.set(5);
    assert_eq!(world.get("/readyz").await.status, 200, "not yet longer than five seconds");
    world.counters[1].descriptors_exhausted_seconds.set(6);
    expect(&world.get("/readyz").await, Refusal::DescriptorsExhausted);
    assert!(world.get("/metrics").await.text().contains("tidegate_descriptors_exhausted_seconds 6\n"));
    world.counters[1].descriptors_exhausted_seconds.set(0);
    assert_eq!(world.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_shard_that_neither_answers_nor_turns_is_not_alive() {
    let mut world = asleep(Shape { answer_timeout: SHORT, ..Shape::default() }).await;
    world.shards[0].start();
    expect(&world.get("/livez").await, Refusal::ShardStuck);
    expect(&world.get("/api/channels").await, Refusal::ShardStuck);
    expect(&world.get("/api/connections").await, Refusal::ShardStuck);
    assert_eq!(world.get("/metrics").await.status, 200, "counters are read, not asked for");
    world.shards[1].start();
    // A busy machine may keep one of them from answering in so short a time once more.
    let live = async {
        loop {
            let reply = world.get("/livez").await;
            if reply.status == 200 {
                break reply;
            }
        }
    };
    let reply = tokio::time::timeout(Duration::from_secs(60), live).await.expect("it is alive again");
    assert_eq!(reply.text(), "live\n");
}

#[tokio::test]
async fn metrics_merge_what_all_shards_recorded() {
    let world = awake(Shape::default()).await;
    world.counters[0].connections.set(3);
    world.counters[1].connections.set(4);
    let reply = world.get("/metrics").await;
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("tidegate_connections 7\n"));
    assert!(text.contains("tidegate_turn_seconds_count 2\n"), "each fake shard records one turn");
    assert!(text.contains("tidegate_connections_max 100\n"));
}

#[tokio::test]
async fn c7_short_of_memory_it_is_not_ready_and_then_takes_no_messages() {
    let world = awake(Shape::default()).await;
    let share = |percent: u64| (MEMORY_BYTES * percent / 100) as usize;
    let below = world.memory.hold(share(79));
    assert_eq!(world.get("/readyz").await.status, 200);
    let closed = world.memory.hold(share(2));
    expect(&world.get("/readyz").await, Refusal::Memory);
    assert_eq!(world.post("/publish/a", "", b"x").await.status, 200);
    let refusing = world.memory.hold(share(15));
    expect(&world.post("/publish/a", "", b"x").await, Refusal::Memory);
    let batch = br#"[{"channel":"a","data":1},{"channel":"a","data":2}]"#;
    let reply = world.post("/api/batch", "", batch).await;
    assert_eq!(reply.status, 503);
    for result in reply.json()["results"].as_array().unwrap() {
        assert_eq!(result["error"], "memory");
    }
    assert_eq!(world.get("/livez").await.status, 200);
    drop((refusing, closed));
    assert_eq!(world.post("/publish/a", "", b"x").await.status, 200);
    expect(&world.get("/readyz").await, Refusal::Memory);
    drop(below);
    assert_eq!(world.get("/readyz").await.status, 200);
    let text = world.get("/metrics").await;
    let text = std::str::from_utf8(&text.body).unwrap();
    assert!(text.contains("tidegate_memory_grades_entered_total{grade=\"refusing\"} 1"), "{text}");
    assert_eq!(world.taken().len(), 2);
}
