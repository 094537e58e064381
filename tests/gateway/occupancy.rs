//! Counts of subscribers, for those who watch.

use crate::support::{Gateway, Oracles, WebSocketClient};
use serde_json::Value;

/// The next counts that `watcher` gets, up to the one that says `subscribers`.
fn until(watcher: &mut WebSocketClient, subscribers: u64) -> Value {
    loop {
        let count: Value = serde_json::from_str(&watcher.next_text()).expect("JSON");
        assert_eq!(count["channel"], "room.a");
        if count["subscribers"] == subscribers {
            return count;
        }
    }
}

#[test]
fn whoever_watches_learns_how_many_subscribe_on_every_shard() {
    for shards in ["1", "3"] {
        let mut gateway = Gateway::start(&["--occupancy", "on", "--shards", shards]);
        let oracles = Oracles::before(&gateway);
        let mut watcher = gateway.join("/ws/$occupancy.room.a");
        let first = gateway.join("/ws/room.a");
        assert_eq!(until(&mut watcher, 1)["edge"], "occupied");
        let others: Vec<_> = (0..9).map(|_| gateway.join("/ws/room.a")).collect();
        assert!(until(&mut watcher, 10)["edge"].is_null());
        // Who comes later finds the newest count.
        let mut late = gateway.join("/ws/%24occupancy.room.a?snapshot=1");
        until(&mut late, 10);
        others.into_iter().chain([first]).for_each(|client| client.close());
        assert_eq!(until(&mut watcher, 0)["edge"], "vacated");
        assert_eq!(until(&mut late, 0)["edge"], "vacated");
        [watcher, late].into_iter().for_each(|client| client.close());
        oracles.check(&mut gateway);
    }
}

#[test]
fn nobody_else_publishes_counts_and_without_the_option_there_are_none() {
    let mut gateway = Gateway::start(&["--relay", ">"]);
    let oracles = Oracles::before(&gateway);
    let mut watcher = gateway.join("/ws/$occupancy.a");
    let subscriber = gateway.join("/ws/a");
    for (path, body) in [
        ("/publish/$occupancy.a", "1"),
        ("/publish/%24occupancy.a", "1"),
        ("/api/publish", r#"{"channel":"$occupancy.a","data":1}"#),
        ("/api/batch", r#"[{"channel":"$occupancy.a","data":1}]"#),
    ] {
        let response = gateway.admin().post(path, "application/json", body.as_bytes());
        assert_eq!(response.status, 400, "{path}: {}", response.text());
        assert!(response.text().contains("bad_channel"), "{}", response.text());
    }
    watcher.send_text("1");
    let (code, reason) = watcher.wait_close(crate::support::PATIENCE);
    assert_eq!((code, reason.as_str()), (1008, "policy; publishing is off for this channel"));
    assert_eq!(gateway.metric("tidegate_occupancies_total"), 0.0);
    subscriber.close();
    oracles.check(&mut gateway);
}
