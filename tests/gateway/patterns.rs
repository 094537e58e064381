//! Patterns of `tidegate.v1` over the wire: channels that are there and channels that come later, on one shard and across
//! shards; overlaps, bounds, leaving, and channels that go quiet (E10, E11, C10).

use crate::kit::{EndOnDrop, Standing, offset_of};
use crate::live::{Account, EventStream, Speaker, TINY, V1, large, stream_head, stream_request};
use crate::support::{Gateway, Oracles, PATIENCE, Response, wait_until};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Channels enough that with two shards each is the home of some.
const CHANNELS: usize = 16;

/// Subscribes to `pattern`.
#[track_caller]
fn follow(speaker: &mut Speaker, pattern: &str) {
    let reply = speaker.ask(&json!({"type": "subscribe", "id": 1, "channel": pattern}));
    assert_eq!(reply, json!({"type": "subscribed", "id": 1, "channel": pattern}));
}

/// Gives `pattern` or a channel up; what came before the reply is given back.
#[track_caller]
fn leave(speaker: &mut Speaker, channel: &str) -> Vec<Value> {
    let mut before = Vec::new();
    speaker.say(&json!({"type": "unsubscribe", "id": 2, "channel": channel}));
    let reply = speaker.hear_reply(|message| before.push(message));
    assert_eq!(reply, json!({"type": "unsubscribed", "id": 2, "channel": channel}));
    before
}

/// Nothing is under way.
#[track_caller]
fn expect_quiet(speaker: &mut Speaker) {
    assert_eq!(speaker.ask(&json!({"type": "ping", "id": 3})), json!({"type": "pong", "id": 3}));
}

/// Publishes to `channel`; the next thing `speaker` hears is that message.
#[track_caller]
fn expect_published(standing: &mut Standing, speaker: &mut Speaker, channel: &str) -> u64 {
    let offset = standing.publish(channel, "1");
    let heard = speaker.hear();
    assert_eq!((&heard["channel"], offset_of(&heard["position"])), (&json!(channel), offset), "{heard}");
    offset
}

#[test]
fn e10_a_pattern_gives_channels_that_are_there_and_channels_that_come_later_on_every_shard() {
    for shards in ["1", "2", "3"] {
        let mut gateway = Gateway::start(&["--shards", shards, "--occupancy", "on"]);
        let oracles = Oracles::before(&gateway);
        let mut standing = Standing::open(&gateway);
        let mut reader = Speaker::join(&gateway, "/ws");
        for index in 0..CHANNELS {
            reader.subscribe(&format!("old.{index}"));
            standing.publish(&format!("old.{index}"), "before");
            assert_eq!(reader.hear()["text"], "before");
        }
        // So that some are on each shard.
        let mut speakers: Vec<Speaker> = (0..4).map(|_| Speaker::join(&gateway, "/ws")).collect();
        for speaker in &mut speakers {
            follow(speaker, "old.*");
            follow(speaker, "new.>");
        }
        for round in 1..=3 {
            for index in 0..CHANNELS {
                for channel in [format!("old.{index}"), format!("new.{index}"), format!("new.deep.{index}")] {
                    let offset = standing.publish(&channel, "1");
                    for speaker in &mut speakers {
                        let heard = speaker.hear();
                        assert_eq!(
                            (&heard["channel"], offset_of(&heard["position"])),
                            (&json!(channel), offset)
                        );
                    }
                    let base = u64::from(channel.starts_with("old"));
                    assert_eq!(offset, base + round, "its numbering goes on: {channel}");
                }
            }
        }
        for channel in ["new", "old", "old.deep.er", "other"] {
            standing.publish(channel, "not for them");
        }
        speakers.iter_mut().for_each(expect_quiet);
        let metric = |name: &str| gateway.metric(name);
        let patterns = metric("tidegate_patterns");
        assert!((2.0..=2.0 * shards.parse::<f64>().expect("a number")).contains(&patterns), "{patterns}");
        assert_eq!(metric("tidegate_pattern_subscriptions"), 8.0);
        speakers.into_iter().chain([reader]).for_each(Speaker::close);
        wait_until("no patterns", PATIENCE, || metric("tidegate_pattern_subscriptions") == 0.0);
        assert_eq!(metric("tidegate_patterns"), 0.0);
        drop(standing);
        oracles.check(&mut gateway);
    }
}

#[test]
fn the_gateways_own_channels_match_no_pattern() {
    let mut gateway = Gateway::start(&["--shards", "2", "--occupancy", "on"]);
    let mut speaker = Speaker::join(&gateway, "/ws");
    for pattern in [">", "*", "*.*"] {
        follow(&mut speaker, pattern);
    }
    let mut watcher = Speaker::join(&gateway, "/ws/$occupancy.room");
    watcher.hear();
    let member = gateway.join("/ws/room");
    assert_eq!(watcher.hear()["data"]["subscribers"], 1, "who follows by pattern is not counted");
    let mut standing = Standing::open(&gateway);
    expect_published(&mut standing, &mut speaker, "room");
    expect_quiet(&mut speaker);
    member.close();
    assert_eq!(watcher.hear()["data"]["edge"], "vacated");
    expect_quiet(&mut speaker);
    assert!(gateway.is_alive());
}

#[test]
fn p4_what_is_matched_twice_or_named_as_well_comes_once_and_goes_with_the_last() {
    let mut gateway = Gateway::start(&["--shards", "2", "--history-messages", "100"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    for index in 0..CHANNELS {
        let channel = format!("a.{index}");
        let mut speaker = Speaker::join(&gateway, "/ws");
        let publish = |standing: &mut Standing, speaker: &mut Speaker| {
            expect_published(standing, speaker, &channel);
            expect_published(standing, speaker, &channel)
        };
        if index % 2 == 0 {
            speaker.subscribe(&channel);
        }
        follow(&mut speaker, "a.*");
        publish(&mut standing, &mut speaker);
        follow(&mut speaker, &format!("*.{index}"));
        let last = publish(&mut standing, &mut speaker);
        if index % 2 == 1 {
            // It reads the channel already: it goes on where it is.
            let reply = speaker.subscribe(&channel);
            assert_eq!(offset_of(&reply["position"]), last, "{reply}");
        }
        publish(&mut standing, &mut speaker);
        assert_eq!(leave(&mut speaker, "a.*"), Vec::<Value>::new());
        publish(&mut standing, &mut speaker);
        assert_eq!(leave(&mut speaker, &channel), Vec::<Value>::new());
        let again = json!({"type": "unsubscribe", "id": 9, "channel": channel});
        assert_eq!(speaker.ask(&again)["error"], "not_subscribed", "a pattern has it, nobody names it");
        let last = publish(&mut standing, &mut speaker);
        // What it has had is given again only if it asks for that.
        let since = json!({"type": "subscribe", "id": 5, "channel": channel, "since":
            standing_position(&gateway, &channel, last - 1)});
        let reply = speaker.ask(&since);
        assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(1)), "{reply}");
        assert_eq!(offset_of(&speaker.hear()["position"]), last);
        publish(&mut standing, &mut speaker);
        leave(&mut speaker, &channel);
        publish(&mut standing, &mut speaker);
        assert_eq!(leave(&mut speaker, &format!("*.{index}")), Vec::<Value>::new());
        standing.publish(&channel, "behind");
        expect_quiet(&mut speaker);
        speaker.close();
    }
    drop(standing);
    oracles.check(&mut gateway);
}

/// The position of message `offset` of `channel`.
#[track_caller]
fn standing_position(gateway: &Gateway, channel: &str, offset: u64) -> String {
    let row = gateway.admin().get(&format!("/api/channels/{channel}")).json();
    format!("{}-{offset}", row["epoch"].as_str().expect("an epoch"))
}

#[test]
fn e10_while_a_channel_is_named_and_left_under_a_pattern_nothing_of_it_is_missing() {
    const ROUNDS: u64 = 40;
    let mut gateway = Gateway::start(&["--shards", "2", "--client-rate", "0", "--history-messages", "5"]);
    let oracles = Oracles::before(&gateway);
    let is_over = AtomicBool::new(false);
    let channels = ["x.one", "x.two", "x.three", "x.four"];
    thread::scope(|scope| {
        for channel in channels {
            let (gateway, is_over) = (&gateway, &is_over);
            scope.spawn(move || {
                let mut standing = Standing::open(gateway);
                while !is_over.load(Ordering::Relaxed) {
                    standing.publish(channel, "x");
                }
            });
        }
        let _end = EndOnDrop(&is_over);
        let mut speakers: Vec<Speaker> = (0..2).map(|_| Speaker::join(&gateway, "/ws")).collect();
        for speaker in &mut speakers {
            let (received, mut round) = (Cell::new(0), 0);
            let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
            let mut note = |value: Value| {
                received.set(received.get() + 1);
                let channel = value["channel"].as_str().expect("a channel").to_owned();
                let before = offset_of(&value["position"]) - 1;
                accounts.entry(channel).or_insert_with(|| Account::after(before)).note(&value);
            };
            speaker.say(&json!({"type": "subscribe", "id": 0, "channel": "x.>"}));
            // Publishers may be slower than subscribers: there are as many rounds as it takes.
            while round < ROUNDS || received.get() <= ROUNDS {
                let channel = channels[round as usize % channels.len()];
                for kind in ["subscribe", "unsubscribe"] {
                    speaker.say(&json!({"type": kind, "id": round, "channel": channel}));
                }
                let mut replies = 0;
                while replies < 2 + u64::from(round == 0) {
                    let reply = speaker.hear_reply(&mut note);
                    replies += u64::from(reply["type"] != "overmatched");
                }
                round += 1;
            }
        }
        speakers.into_iter().for_each(Speaker::close);
    });
    oracles.check(&mut gateway);
}

#[test]
fn c10_a_connection_has_16_patterns_and_of_what_matches_as_much_as_it_has_room_for() {
    let mut gateway = Gateway::start(&["--shards", "2", "--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws");
    speaker.subscribe("named");
    follow(&mut speaker, "many.*");
    (1..16).for_each(|index| follow(&mut speaker, &format!("p{index}.>")));
    let more = json!({"type": "subscribe", "id": 7, "channel": "one.more.*"});
    assert_eq!(speaker.ask(&more)["error"], "pattern_limit");
    let twice = json!({"type": "subscribe", "id": 7, "channel": "many.*"});
    assert_eq!(speaker.ask(&twice)["error"], "already_subscribed");
    for index in 0..127 {
        expect_published(&mut standing, &mut speaker, &format!("many.{index}"));
    }
    standing.publish("many.beyond", "1");
    let notice = speaker.hear();
    assert_eq!(notice, json!({"type": "overmatched", "channel": "many.beyond", "pattern": "many.*"}));
    standing.publish("many.further", "1");
    expect_quiet(&mut speaker);
    assert_eq!(standing.metric("tidegate_overmatched_total", &[]), 2.0, "told of once");
    assert_eq!(speaker.ask(&json!({"type": "subscribe", "id": 7, "channel": "x"}))["error"], "channel_limit");
    assert_eq!(gateway.metric("tidegate_subscriptions"), 129.0, "and the canary");
    // One leaves, one comes, and the next is told of again.
    leave(&mut speaker, "named");
    expect_published(&mut standing, &mut speaker, "many.beyond");
    standing.publish("many.further", "1");
    assert_eq!(speaker.hear()["channel"], "many.further");
    leave(&mut speaker, "many.*");
    assert_eq!(gateway.metric("tidegate_subscriptions"), 1.0, "all of them went with it");
    assert_eq!(speaker.ask(&more)["type"], "subscribed");
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn patterns_may_be_named_at_connect_where_messages_say_of_which_channel_they_are() {
    let mut gateway = Gateway::start(&["--shards", "2"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws?channels=lobby,prices.*&channels=prices.*,news.%3E");
    assert_eq!(speaker.hear()["channel"], "lobby");
    let mut patterns: Vec<Value> = (0..2).map(|_| speaker.hear()).collect();
    patterns.sort_by_key(Value::to_string);
    let expected = ["news.>", "prices.*"].map(|pattern| json!({"type": "subscribed", "channel": pattern}));
    assert_eq!(patterns, expected);
    for channel in ["prices.eu", "news.a.b", "lobby"] {
        expect_published(&mut standing, &mut speaker, channel);
    }
    speaker.close();
    let seventeen: Vec<String> = (0..17).map(|index| format!("p{index}.*")).collect();
    let seventeen = format!("/ws?channels={}", seventeen.join(","));
    for (target, is_v1) in [
        ("/ws?channels=prices.*", false),
        ("/sse?channels=a,prices.*", false),
        ("/sse/prices.*", false),
        ("/ws/prices.*", true),
        ("/ws?channels=prices*", true),
        ("/ws?channels=a,prices.*&snapshot=1", true),
        ("/ws?channels=prices.*&since=", true),
        (seventeen.as_str(), true),
    ] {
        let response = refused(&gateway, target, is_v1);
        assert_eq!(response.status, 400, "{target}: {response:?}");
        assert!(response.text().starts_with("bad_pattern: name patterns"), "{}", response.text());
    }
    let mut stream = EventStream::open(&gateway, "/sse?channels=a,b");
    stream.next_beginning(2);
    drop((stream, standing));
    oracles.check(&mut gateway);
}

/// The answer to an upgrade, or to a request for an event stream.
#[track_caller]
fn refused(gateway: &Gateway, target: &str, is_v1: bool) -> Response {
    let upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        V1,
    ];
    let lines = match (target.starts_with("/sse"), is_v1) {
        (true, _) => &[][..],
        (false, true) => &upgrade[..],
        (false, false) => &upgrade[..4],
    };
    let mut raw = gateway.raw();
    raw.send(&stream_request("GET", target, gateway, lines));
    raw.read_until("an answer", PATIENCE, stream_head)
}

#[test]
fn a_pattern_has_no_place_to_begin_and_no_rate_and_a_malformed_one_is_told_so() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws");
    let ask = |channel: &str| json!({"type": "subscribe", "id": 5, "channel": channel});
    for (channel, member, value, token) in [
        ("a.*", "since", json!("00000000000000ab-42"), "pattern_is_live"),
        ("a.*", "snapshot", json!(true), "pattern_is_live"),
        (">", "max_rate", json!(4), "pattern_is_live"),
        ("a*", "snapshot", json!(false), "bad_pattern"),
        (">.a", "snapshot", json!(false), "bad_pattern"),
        ("a..*", "snapshot", json!(false), "bad_pattern"),
        ("$occupancy.*", "snapshot", json!(false), "bad_pattern"),
    ] {
        let mut command = ask(channel);
        command[member] = value;
        let reply = speaker.ask(&command);
        assert_eq!((&reply["error"], &reply["id"]), (&json!(token), &json!(5)), "{command}");
    }
    let mut other = Gateway::start(&["--max-patterns", "0"]);
    let mut elsewhere = Speaker::join(&other, "/ws");
    assert_eq!(elsewhere.ask(&ask("a.*"))["error"], "pattern_limit", "where there are none");
    assert_eq!(refused(&other, "/ws?channels=a.*", true).status, 400);
    assert!(other.is_alive());
    let leaves = json!({"type": "unsubscribe", "id": 5, "channel": "a.*"});
    assert_eq!(speaker.ask(&leaves)["error"], "not_subscribed");
    speaker.close();
    oracles.check(&mut gateway);
}

#[test]
fn channels_that_only_patterns_match_are_let_go_when_they_are_quiet() {
    // Few enough that all are published before the first has been quiet for long.
    const MANY: usize = 300;
    let mut gateway = Gateway::start(&["--shards", "2", "--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speakers: Vec<Speaker> = (0..3).map(|_| Speaker::join(&gateway, "/ws")).collect();
    speakers.iter_mut().for_each(|speaker| follow(speaker, "q.>"));
    for index in 0..MANY {
        standing.publish(&format!("q.{index}"), "1");
    }
    for speaker in &mut speakers {
        // The notice passes messages that wait.
        let heard: Vec<Value> = (0..129).map(|_| speaker.hear()).collect();
        assert_eq!(heard.iter().filter(|one| one["data"] == 1).count(), 128, "{heard:?}");
        assert_eq!(heard.iter().filter(|one| one["type"] == "overmatched").count(), 1, "{heard:?}");
    }
    wait_until("all of them are let go", PATIENCE, || standing.metric("tidegate_journals", &[]) <= 2.0);
    assert_eq!(standing.metric("tidegate_subscriptions", &[]), 1.0, "of the canary");
    let listed = standing.get("/api/channels").json();
    assert_eq!(listed["total"], 1, "the canary's: {listed}");
    // They come back, whichever they are.
    for index in [7, MANY - 1] {
        let channel = format!("q.{index}");
        let offset = standing.publish(&channel, "1");
        for speaker in &mut speakers {
            let heard = speaker.hear();
            assert_eq!((&heard["channel"], offset_of(&heard["position"])), (&json!(channel), offset));
        }
    }
    speakers.into_iter().for_each(Speaker::close);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn what_a_slow_follower_skips_is_told_before_what_follows() {
    let options = ["--shards", "2", "--on-lag", "skip", "--max-lag-bytes", "128KiB", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    for channel in ["s.a", "s.b", "s.c"] {
        let mut speaker = Speaker::join_with(&gateway, "/ws", TINY, &[]);
        follow(&mut speaker, "s.*");
        let before = standing.metric("tidegate_skipped_total", &[]);
        while standing.metric("tidegate_skipped_total", &[]) < before + 20.0 {
            (0..8).for_each(|number| _ = standing.publish(channel, &large(number)));
        }
        let last = standing.publish(channel, "last");
        let first = speaker.hear();
        let mut account = Account::after(offset_of(&first["position"]) - 1);
        account.note(&first);
        let base = offset_of(&first["position"]) - 1;
        while base + account.sum() < last {
            account.note(&speaker.hear());
        }
        assert!(account.skipped >= 20, "{account:?}");
        speaker.close();
    }
    drop(standing);
    oracles.check(&mut gateway);
}
