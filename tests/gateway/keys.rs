//! Messages with keys and with a time to live: snapshots, deletion, the bound on keys, conflation from end to end, and what is
//! too old to be sent.

use crate::kit::{Standing, offset_of};
use crate::live::{Account, EventStream, Speaker, TINY, large, publish_keyed};
use crate::support::{Gateway, Oracles, PATIENCE, RawOptions, wait_until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A time to live that is over soon, and longer than a publish takes.
const SHORT: Duration = Duration::from_millis(300);

/// Subscribes to `channel` with a snapshot and gives the reply and the messages of the snapshot.
#[track_caller]
fn snapshot(speaker: &mut Speaker, channel: &str) -> (Value, Vec<Value>) {
    let reply = speaker.ask(&json!({"type": "subscribe", "id": 1, "channel": channel, "snapshot": true}));
    assert_eq!(reply["type"], "subscribed", "{reply}");
    let count = reply["snapshot"].as_u64().unwrap_or_else(|| panic!("a snapshot: {reply}"));
    let messages: Vec<Value> = (0..count).map(|_| speaker.hear()).collect();
    let offsets: Vec<u64> = messages.iter().map(|message| offset_of(&message["position"])).collect();
    assert!(offsets.is_sorted_by(|one, other| one < other), "{offsets:?}");
    assert!(offsets.iter().all(|offset| *offset <= offset_of(&reply["position"])), "{reply} {offsets:?}");
    (reply, messages)
}

/// Key and text of each message.
fn states(messages: &[Value]) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    messages.iter().map(|message| (text(&message["key"]), text(&message["text"]))).collect()
}

/// Waits until `since` is longer ago than [`SHORT`].
#[track_caller]
fn wait_out(since: Instant) {
    wait_until("a time to live to be over", PATIENCE, || since.elapsed() > SHORT + Duration::from_millis(5));
}

#[test]
fn a_snapshot_has_the_newest_of_every_key_on_every_shard_and_live_messages_follow() {
    let options = ["--shards", "2", "--retain", "latest-per-key", "--history-age", "1ms"];
    let mut gateway = Gateway::start(&[&options[..], &["--client-rate", "0"]].concat());
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    // With 8 channels and 4 clients, homes and readers are the same shard and different ones.
    let channels: Vec<String> = (0..8).map(|index| format!("prices.{index}")).collect();
    let mut speakers = [(); 4].map(|()| Speaker::join(&gateway, "/ws"));
    for (index, channel) in channels.iter().enumerate() {
        let mut expected = BTreeMap::new();
        for number in 0..40 {
            let (key, text) = (format!("k{}", number * 7 % 10), format!("text {number}"));
            publish_keyed(&mut standing, channel, &key, &text);
            expected.insert(key, text);
        }
        publish_keyed(&mut standing, channel, "k3", "");
        expected.remove("k3");
        let head = standing.publish(channel, "no state");
        for speaker in &mut speakers {
            let (reply, messages) = snapshot(speaker, channel);
            assert_eq!(offset_of(&reply["position"]), head);
            assert_eq!(states(&messages), expected, "{channel}");
        }
        let offset = publish_keyed(&mut standing, channel, "k3", "back");
        for speaker in &mut speakers {
            let heard = speaker.hear();
            assert_eq!((offset_of(&heard["position"]), &heard["text"]), (offset, &json!("back")), "{index}");
        }
    }
    assert_eq!(standing.metric("tidegate_snapshots_total", &[]), 32.0);
    speakers.into_iter().for_each(Speaker::close);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn a_deleted_key_is_told_to_who_reads_and_missing_in_a_snapshot() {
    // With history, the deletions are kept.
    let options = ["--retain", "latest-per-key", "--relay", ">", "--history-messages", "100"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws/prices");
    speaker.hear();
    let mut stream = EventStream::open(&gateway, "/sse/prices");
    stream.next_beginning(1);
    let mut publisher = Speaker::join(&gateway, "/ws");
    publish_keyed(&mut standing, "prices", "a", "1");
    publish_keyed(&mut standing, "prices", "b", "1");
    publish_keyed(&mut standing, "prices", "a", "");
    let delete = json!({"type": "publish", "id": 1, "channel": "prices", "key": "b"});
    assert_eq!(publisher.ask(&delete)["type"], "published");
    publish_keyed(&mut standing, "prices", "c", "1");

    let heard: Vec<Value> = (0..5).map(|_| speaker.hear()).collect();
    for (heard, (key, data)) in heard.iter().zip([("a", 1), ("b", 1), ("a", 0), ("b", 0), ("c", 1)]) {
        let expected = (data > 0).then(|| json!(data));
        assert_eq!((&heard["key"], heard.get("data")), (&json!(key), expected.as_ref()), "{heard}");
        assert_eq!(heard.get("text").or(heard.get("base64")), None, "{heard}");
    }
    let data: Vec<_> = (0..5).map(|_| stream.next_event().data.expect("data")).collect();
    assert_eq!(data, ["1", "1", "", "", "1"], "event streams of one channel have no keys");
    let (_, messages) = snapshot(&mut publisher, "prices");
    assert_eq!(messages.iter().map(|it| it["key"].as_str()).collect::<Vec<_>>(), [Some("c")]);
    speaker.close();
    publisher.close();
    drop((stream, standing));
    oracles.check(&mut gateway);
}

#[test]
fn a_channel_keeps_so_many_keys_and_lets_go_of_the_one_that_is_stale_longest() {
    let mut gateway = Gateway::start(&["--retain", "latest-per-key", "--keys-per-channel", "3"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    for key in ["a", "b", "c", "a", "d", "e"] {
        publish_keyed(&mut standing, "prices", key, &format!("text {key}"));
    }
    let mut speaker = Speaker::join(&gateway, "/ws");
    let (_, messages) = snapshot(&mut speaker, "prices");
    let keys: Vec<_> = messages.iter().map(|it| it["key"].as_str().expect("a key")).collect();
    assert_eq!(keys, ["a", "d", "e"]);
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn a_snapshot_has_what_its_reader_published_itself() {
    let mut gateway = Gateway::start(&["--retain", "latest-per-key", "--relay", ">"]);
    let oracles = Oracles::before(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws");
    for key in ["a", "b"] {
        let publish = json!({"type": "publish", "id": 1, "channel": "prices", "key": key, "text": "mine"});
        assert_eq!(speaker.ask(&publish)["type"], "published");
    }
    let mut standing = Standing::open(&gateway);
    publish_keyed(&mut standing, "prices", "b", "theirs");
    let (_, messages) = snapshot(&mut speaker, "prices");
    let expected = [("a", "mine"), ("b", "theirs")].map(|(key, text)| (key.to_owned(), text.to_owned()));
    assert_eq!(states(&messages), BTreeMap::from(expected));
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn a_stream_that_is_cut_before_its_snapshot_gets_it_when_it_comes_back() {
    let mut gateway = Gateway::start(&["--retain", "latest-per-key", "--history-messages", "100"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    for key in ["a", "b", "c"] {
        publish_keyed(&mut standing, "prices", key, key);
    }
    for target in ["/sse/prices?snapshot=1", "/sse?channels=prices&snapshot=1"] {
        let mut stream = EventStream::open(&gateway, target);
        let (id, subscribed) = stream.next_beginning(1);
        assert_eq!(subscribed[0]["snapshot"], 3, "{subscribed:?}");
        // What an EventSource that read this far hands in.
        let header = format!("Last-Event-ID: {id}");
        let again: &[&str] = if id.is_empty() { &[] } else { &[&header] };
        let mut stream = EventStream::open_with(&gateway, target, RawOptions::default(), again);
        stream.next_beginning(1);
        let texts: Vec<Value> = (0..3).map(|_| stream.next_value()["text"].clone()).collect();
        assert_eq!(texts, ["a", "b", "c"], "{target}");
    }
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn keys_are_found_in_the_payload_where_the_operator_says_so() {
    let options = ["--retain", "latest-per-key", "--key", "json:/symbol", "--relay", ">"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut publisher = Speaker::join(&gateway, "/ws");
    for number in 0..3 {
        let text = format!("{{\"symbol\":\"ACME\",\"number\":{number}}}");
        standing.publish_as("prices", "application/json", text.as_bytes());
        let data = json!({"symbol": 7, "number": number});
        publisher.ask(&json!({"type": "publish", "id": number, "channel": "prices", "data": data}));
    }
    standing.publish("prices", "no JSON");
    let mut speaker = Speaker::join(&gateway, "/ws");
    let (_, messages) = snapshot(&mut speaker, "prices");
    let found: Vec<_> = messages.iter().map(|it| (it["key"].clone(), it["data"]["number"].clone())).collect();
    assert_eq!(found, [(json!("ACME"), json!(2)), (json!("7"), json!(2))]);
    assert!(standing.metric("tidegate_keys_missing_total", &[]) >= 1.0);
    speaker.close();
    publisher.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn what_is_over_its_time_is_not_replayed_and_the_reader_is_told() {
    let mut gateway = Gateway::start(&["--history-messages", "100", "--retain", "latest-per-key"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut early = Speaker::join(&gateway, "/ws/news");
    let start = early.hear()["position"].as_str().expect("a position").to_owned();
    let ttl = SHORT.as_millis();
    for number in 0..6 {
        let path =
            if number % 3 == 0 { "news".to_owned() } else { format!("news?key=k{number}&ttl={ttl}ms") };
        standing.publish_as(&path, "text/plain", format!("text {number}").as_bytes());
    }
    let published = Instant::now();
    let mut account = Account::default();
    // Six, or fewer and the word that some were over their time: the machine may have been busy.
    while account.sum() < 6 {
        account.note(&early.hear());
    }
    let expired_early = account.expired;
    wait_out(published);

    let mut late = Speaker::join(&gateway, &format!("/ws/news?since={start}"));
    let reply = late.hear();
    assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(6)), "{reply}");
    let mut account = Account::default();
    while account.sum() < 6 {
        account.note(&late.hear());
    }
    assert_eq!((account.received, account.expired), (2, 4));
    let mut stream = EventStream::open(&gateway, &format!("/sse/news?since={start}"));
    stream.next_beginning(1);
    let mut account = Account::default();
    while account.sum() < 6 {
        account.note(&stream.next_value());
    }
    assert_eq!((account.received, account.expired), (2, 4));
    let mut speaker = Speaker::join(&gateway, "/ws");
    let (reply, messages) = snapshot(&mut speaker, "news");
    assert!(messages.is_empty(), "{reply} {messages:?}");
    assert_eq!(standing.metric("tidegate_expired_total", &[]), 8.0 + expired_early as f64);
    [early, late, speaker].into_iter().for_each(Speaker::close);
    drop((stream, standing));
    oracles.check(&mut gateway);
}

#[test]
fn what_is_over_its_time_is_not_delivered_late() {
    for channel_wide in [false, true] {
        let ttl = format!("{}ms", SHORT.as_millis());
        let options = ["--shards", "1", "--max-lag-bytes", "16MiB", "--max-lag-age", "1m"];
        let of_channel: &[&str] = if channel_wide { &["--ttl", &ttl] } else { &[] };
        let mut gateway = Gateway::start(&[&options[..], of_channel].concat());
        let oracles = Oracles::before(&gateway);
        let mut standing = Standing::open(&gateway);
        let mut speaker = Speaker::join_with(&gateway, "/ws/feed", TINY, &[]);
        let mut fed = 0;
        while fed < 60 {
            fed = standing.publish("feed", &large(fed as usize));
        }
        standing.wait_metric("tidegate_connections_lagging", &[], |lagging| lagging == 1.0);
        for _ in 0..5 {
            let path = if channel_wide { "feed".to_owned() } else { format!("feed?ttl={ttl}") };
            fed = standing.publish_as(&path, "text/plain", b"soon over");
        }
        wait_out(Instant::now());
        speaker.hear();
        let mut account = Account::default();
        while account.sum() < fed {
            let value = speaker.hear();
            assert_ne!(value["text"], "soon over");
            account.note(&value);
        }
        // All that waited, where it is the channel's; what the kernel held is on its way.
        let expired = account.expired;
        assert!(if channel_wide { expired > 5 } else { expired == 5 }, "{account:?}");
        assert_eq!(standing.metric("tidegate_expired_total", &[]), expired as f64);
        speaker.close();
        drop(standing);
        oracles.check(&mut gateway);
    }
}

#[test]
fn e2_a_reader_that_stopped_and_reads_on_has_the_newest_of_every_key_and_every_count_adds_up() {
    const KEYS: usize = 10;
    let options =
        ["--shards", "2", "--on-lag", "conflate", "--max-lag-bytes", "64MiB", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut healthy = Speaker::join(&gateway, "/ws/feed");
    let mut slow = [(); 3].map(|()| Speaker::join_with(&gateway, "/ws/feed", TINY, &[]));
    healthy.hear();
    let mut everything = Account::default();
    let mut newest: BTreeMap<String, Value> = BTreeMap::new();
    let (mut fed, mut number) = (0, 0);
    while number < 150 || standing.metric("tidegate_conflations_total", &[]) < 3.0 {
        let key = format!("k{}", number % KEYS);
        fed = publish_keyed(&mut standing, "feed", &key, &large(number));
        newest.insert(key, json!(large(number)));
        if number % 50 == 25 {
            fed = standing.publish("feed", &format!("unkeyed {number}"));
        }
        while everything.received < fed {
            everything.note(&healthy.hear());
        }
        number += 1;
    }
    assert_eq!(everything.received, fed, "a healthy one has all of it");
    assert!(everything.newest == newest);

    let mut accounts = Vec::new();
    for speaker in &mut slow {
        assert_eq!(speaker.hear()["type"], "subscribed");
        let mut account = Account::default();
        let mut unkeyed = 0;
        while account.sum() < fed {
            let value = speaker.hear();
            unkeyed += u64::from(value["type"].is_null() && value["key"].is_null());
            account.note(&value);
        }
        assert!(account.newest == newest, "{account:?}");
        assert!(account.conflated > 50, "{account:?}");
        assert_eq!((unkeyed, account.skipped), (fed - number as u64, 0), "what has no key is not superseded");
        accounts.push(account);
    }
    // Once caught up they have everything again.
    for number in 0..20 {
        let offset = publish_keyed(&mut standing, "feed", "k0", &number.to_string());
        for speaker in slow.iter_mut().chain([&mut healthy]) {
            assert_eq!(offset_of(&speaker.hear()["position"]), offset);
        }
    }
    let told = |of: fn(&Account) -> u64| accounts.iter().map(of).sum::<u64>() as f64;
    assert_eq!(standing.metric("tidegate_conflated_total", &[]), told(|it| it.conflated));
    assert_eq!(standing.closed("slow_consumer"), 0.0);
    slow.into_iter().chain([healthy]).for_each(Speaker::close);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn e2_what_was_let_go_under_conflate_is_told_as_skipped() {
    let options =
        ["--shards", "1", "--on-lag", "conflate", "--max-lag-bytes", "256KiB", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join_with(&gateway, "/ws/feed", TINY, &[]);
    let mut fed = 0;
    for number in 0..100 {
        // Every other one has no key: there is more of that than is kept.
        fed = match number % 2 {
            0 => standing.publish("feed", &large(number)),
            _ => publish_keyed(&mut standing, "feed", &format!("k{}", number % 6), &large(number)),
        };
    }
    speaker.hear();
    let mut account = Account::default();
    while account.sum() < fed {
        account.note(&speaker.hear());
    }
    assert_eq!(account.newest.len(), 3, "{account:?}");
    assert!(account.newest["k5"] == json!(large(95)) && account.newest["k3"] == json!(large(99)));
    assert!(account.skipped > 20, "{account:?}");
    assert_eq!(standing.metric("tidegate_skipped_total", &[]), account.skipped as f64);
    assert_eq!(standing.metric("tidegate_conflated_total", &[]), account.conflated as f64);
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

/// Nobody reads it: what has expired goes all the same, and with the last of it the channel.
#[test]
fn a_channel_without_subscribers_lets_go_of_what_has_expired() {
    let mut gateway = Gateway::start(&["--retain", "latest-per-key"]);
    let oracles = Oracles::before(&gateway);
    for key in 0..10 {
        let response =
            gateway.admin().post(&format!("/publish/c?key={key}&ttl=50ms"), "text/plain", b"state");
        assert_eq!(response.status, 200, "{}", response.text());
    }
    wait_until("the channel is gone", PATIENCE, || gateway.admin().get("/api/channels/c").status == 404);
    oracles.check(&mut gateway);
}
