//! More callers than the admin port has places for.

use super::*;
use crate::admin::places::PLACES;

/// More than there are places.
const CROWD: usize = 60;
const POST: &str = "POST /publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n";

#[tokio::test]
async fn c1_keep_alive_publishers_beyond_the_places_shut_nobody_out() {
    let world = awake(Shape::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut publisher = world.client().await;
        assert_eq!(publisher.post("/publish/a", "", b"1st").await.status, 200);
        crowd.push(publisher);
        assert_eq!(world.get("/livez").await.status, 200);
    }
    for (index, publisher) in crowd.iter_mut().enumerate() {
        if publisher.has_ended() {
            *publisher = world.client().await;
        }
        assert_eq!(publisher.post("/publish/a", "", b"2nd").await.status, 200, "publisher {index}");
        assert_eq!(world.get("/livez").await.status, 200);
        assert_eq!(world.get("/readyz").await.status, 200);
    }
    assert_eq!(world.taken().len(), 2 * CROWD);
}

#[tokio::test]
async fn c1_the_connection_that_was_idle_longest_gives_way() {
    let world = awake(Shape::default()).await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES {
        let mut caller = world.client().await;
        assert_eq!(caller.get("/readyz").await.status, 200);
        crowd.push(caller);
    }
    // The first is not the one that was idle longest any more.
    assert_eq!(crowd[0].get("/readyz").await.status, 200);
    let mut newcomer = world.client().await;
    assert_eq!(newcomer.get("/readyz").await.status, 200);
    let ended: Vec<usize> = (0..crowd.len()).filter(|index| crowd[*index].has_ended()).collect();
    assert_eq!(ended, [1]);
}

#[tokio::test]
async fn c1_a_connection_in_the_middle_of_a_request_keeps_its_place() {
    let mut world = asleep(Shape { shards: 1, ..Shape::default() }).await;
    // Answered once the shard wakes: some wait for their receipt, others have sent half a body, or half a head.
    let mut waiting = Vec::new();
    for index in 0..PLACES {
        let mut caller = world.client().await;
        match index % 3 {
            0 => caller.send(format!("{POST}abcd").as_bytes()).await,
            1 => caller.send(format!("{POST}ab").as_bytes()).await,
            _ => caller.send(&POST.as_bytes()[..30]).await,
        }
        waiting.push(caller);
    }
    world.shards[0].wait_for_publishes(waiting.len() / 3).await;
    let mut newcomer = world.client().await;
    newcomer.send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let patience = tokio::time::timeout(SHORT, newcomer.reply()).await;
    assert!(patience.is_err(), "there is no place while all are busy");
    world.shards[0].start();
    // One is answered and rests: its place is free to take.
    assert_eq!(waiting[0].reply().await.status, 200);
    assert_eq!(newcomer.reply().await.status, 200);
    for (index, caller) in waiting.iter_mut().enumerate().skip(1) {
        match index % 3 {
            0 => {}
            1 => caller.send(b"cd").await,
            _ => caller.send(format!("{}abcd", &POST[30..]).as_bytes()).await,
        }
        assert_eq!(caller.reply().await.status, 200, "caller {index}");
    }
}

#[tokio::test]
async fn c1_callers_that_never_say_anything_give_way_to_one_that_does() {
    let world = awake(Shape::default()).await;
    let mut silent = Vec::new();
    for _ in 0..CROWD {
        silent.push(world.client().await);
    }
    assert_eq!(world.get("/livez").await.status, 200);
}
