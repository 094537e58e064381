//! `tidegate.v1` over the wire: commands and their replies, what is refused and what ends a connection, on one shard and
//! across shards (E11, B22, B24).

use crate::kit::{EndOnDrop, Standing, offset_of};
use crate::live::{Account, Speaker, TINY, expect_close, large};
use crate::support::frame::client_frame;
use crate::support::{Gateway, Opcode, Oracles, PATIENCE, RawOptions, Signal, masked_frame};
use flate2::{Compress, Compression, FlushCompress};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Channels enough that with two shards each is the home of some.
const CHANNELS: usize = 16;

fn name(index: usize) -> String {
    format!("spread.{index}")
}

/// The token of an error reply to the command with `id`.
#[track_caller]
fn error_of(reply: &Value, id: u64) -> String {
    assert_eq!((&reply["type"], &reply["id"]), (&json!("error"), &json!(id)), "{reply}");
    assert!(reply["message"].as_str().is_some_and(|text| text.len() > 10), "cause and cure: {reply}");
    reply["error"].as_str().expect("a token").to_owned()
}

#[test]
fn commands_are_answered_with_their_id_whichever_shard_is_the_channels_home() {
    let mut gateway = Gateway::start(&["--shards", "2", "--relay", ">", "--history-messages", "7"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws");
    let channels = (0..CHANNELS).map(name).collect::<Vec<_>>();
    let mut witness = Speaker::join(&gateway, &format!("/ws?channels={}", channels.join(",")));
    for channel in &channels {
        let unasked = witness.hear();
        assert_eq!((&unasked["type"], &unasked["channel"]), (&json!("subscribed"), &json!(channel)));
        assert_eq!(unasked.get("id"), None, "{unasked}");
    }
    assert_eq!(speaker.ask(&json!({"type": "ping"})), json!({"type": "pong"}));
    for (index, channel) in channels.iter().enumerate() {
        let id = 100 + index as u64;
        let reply = speaker.ask(&json!({"type": "subscribe", "id": id, "channel": channel}));
        assert_eq!(
            (&reply["type"], &reply["id"], &reply["channel"]),
            (&json!("subscribed"), &json!(id), &json!(channel))
        );
        assert_eq!(reply["window"], json!({"messages": 7, "age_ms": 60_000}));
        assert_eq!(reply.get("recovered").or(reply.get("snapshot")), None, "nobody asked: {reply}");
        let before = reply["position"].as_str().expect("a position").to_owned();

        // Its own message has a number and does not come back to it.
        let reply = speaker.ask(&json!({"type": "publish", "id": id, "channel": channel, "data": [index]}));
        assert_eq!((&reply["type"], &reply["id"]), (&json!("published"), &json!(id)), "{reply}");
        let position = &reply["position"];
        assert_eq!(offset_of(position), offset_of(&json!(before)) + 1);
        let expected = json!({"channel": channel, "position": position, "data": [index]});
        assert_eq!(witness.hear(), expected);

        // That of another does.
        let offset = standing.publish_as(&format!("{channel}?key=k"), "text/plain", b"\"text\" \\");
        let heard = speaker.hear();
        assert_eq!((&heard["key"], &heard["text"]), (&json!("k"), &json!("\"text\" \\")), "{heard}");
        assert_eq!(offset_of(&heard["position"]), offset);
        assert_eq!(witness.hear(), heard);
        let reply = speaker.ask(&json!({"type": "unsubscribe", "id": id, "channel": channel}));
        assert_eq!(reply, json!({"type": "unsubscribed", "id": id, "channel": channel}));
    }
    assert_eq!(speaker.ask(&json!({"type": "ping", "id": 9})), json!({"type": "pong", "id": 9}));
    assert_eq!(standing.metric("tidegate_relayed_total", &[]), CHANNELS as f64);
    assert_eq!(standing.metric("tidegate_commands_refused_total", &[]), 0.0);
    speaker.close();
    witness.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn a_command_that_cannot_be_carried_out_is_answered_and_the_connection_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tidegate.toml");
    let tables = "client_rate = 0\n[[channel]]\npattern = \"open.>\"\nrelay = true\n\
                  [[channel]]\npattern = \"binary.>\"\nrelay = true\nmessage_type = \"binary\"\n";
    std::fs::write(&path, tables).expect("a file");
    let mut gateway = Gateway::start(&["--config", path.to_str().expect("a plain path")]);
    let oracles = Oracles::before(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws/lobby");
    assert_eq!(speaker.hear()["channel"], "lobby");

    let subscribe = |channel: &str| json!({"type": "subscribe", "id": 5, "channel": channel});
    let publish = |channel: &str| json!({"type": "publish", "id": 5, "channel": channel, "data": 1});
    let with = |mut command: Value, member: &str, value: Value| {
        command[member] = value;
        command
    };
    for (command, token) in [
        (subscribe("lobby"), "already_subscribed"),
        (json!({"type": "unsubscribe", "id": 5, "channel": "elsewhere"}), "not_subscribed"),
        (json!({"type": "unsubscribe", "id": 5, "channel": "no name"}), "bad_channel"),
        (subscribe("a..b"), "bad_channel"),
        (publish(""), "bad_channel"),
        (with(subscribe("x"), "since", json!("yesterday")), "bad_position"),
        (publish("closed"), "not_allowed"),
        (publish("lobby"), "not_allowed"),
        (publish("binary.a"), "type_unsupported"),
        (with(publish("open.a"), "key", json!("")), "bad_key"),
        (with(publish("open.a"), "key", json!("\n")), "bad_key"),
        (with(publish("open.a"), "ttl_ms", json!(0)), "bad_ttl"),
        (with(publish("open.a"), "ttl_ms", json!(2_592_000_001_u64)), "bad_ttl"),
        (with(publish("open.a"), "idempotency_key", json!("")), "bad_idempotency_key"),
        (with(publish("open.a"), "idempotency_key", json!("k".repeat(129))), "bad_idempotency_key"),
    ] {
        let reply = speaker.ask(&command);
        assert_eq!(error_of(&reply, 5), token, "{command}");
    }
    let refused = gateway.metric("tidegate_commands_refused_total");
    assert_eq!(refused, 15.0);
    assert_eq!(speaker.ask(&publish("open.a"))["type"], "published", "also to one that it does not read");
    let reply = speaker.ask(&json!({"type": "unsubscribe", "id": 6, "channel": "lobby"}));
    assert_eq!(reply, json!({"type": "unsubscribed", "id": 6, "channel": "lobby"}));
    assert_eq!(speaker.ask(&subscribe("lobby"))["type"], "subscribed", "it may come back");
    speaker.close();
    oracles.check(&mut gateway);
}

#[test]
fn e8_a_publish_is_known_by_its_key_to_every_shard_and_over_http() {
    let mut gateway = Gateway::start(&["--shards", "2", "--relay", ">"]);
    let oracles = Oracles::before(&gateway);
    let mut witness = Speaker::join(&gateway, "/ws/lobby");
    assert_eq!(witness.hear()["channel"], "lobby");
    let publish = |id: u64, data: &str| json!({"type": "publish", "id": id, "channel": "lobby", "data": data, "idempotency_key": "k-1"});

    // Its answer is never read: the connection is cut.
    let mut lost = Speaker::join(&gateway, "/ws");
    lost.say(&publish(1, "one"));
    lost.socket.raw.reset();
    // Enough connections that either shard has some.
    let replies: Vec<Value> = (2..10)
        .map(|id| {
            let mut speaker = Speaker::join(&gateway, "/ws");
            let reply = speaker.ask(&publish(id, "one"));
            assert_eq!((&reply["type"], &reply["id"]), (&json!("published"), &json!(id)), "{reply}");
            let reply_to_other = speaker.ask(&publish(1000 + id, "two"));
            assert_eq!(error_of(&reply_to_other, 1000 + id), "idempotency_conflict");
            speaker.close();
            reply
        })
        .collect();
    let position = &replies[0]["position"];
    assert!(replies.iter().all(|reply| reply["position"] == *position), "{replies:?}");
    assert!(replies[1..].iter().all(|reply| reply["duplicate"] == true), "{replies:?}");

    // Over HTTP the same text under the same key is the same publish, with the quotes of its JSON.
    let post =
        |body: &[u8]| gateway.admin().request("POST", "/publish/lobby", &["Idempotency-Key: k-1"], body);
    let reply = post(b"\"one\"").json();
    assert_eq!((&reply["position"], &reply["duplicate"]), (position, &json!(true)));
    let refused = post(b"one");
    assert_eq!((refused.status, &refused.json()["error"]), (409, &json!("idempotency_conflict")));
    assert_eq!(gateway.admin().publish("lobby", "last").status, 200);
    assert_eq!(witness.hear(), json!({"channel": "lobby", "position": position, "data": "one"}));
    assert_eq!(witness.hear()["text"], "last");
    assert_eq!(gateway.metric("tidegate_idempotency_keys"), 1.0);
    assert!(gateway.metric("tidegate_idempotency_duplicates_total") >= 8.0);
    assert_eq!(gateway.metric("tidegate_idempotency_evicted_total"), 0.0);
    witness.close();
    oracles.check(&mut gateway);
}

#[test]
fn c10_a_connection_subscribes_to_128_channels_and_not_one_more() {
    let mut gateway = Gateway::start(&["--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws");
    for index in 0..128 {
        speaker.subscribe(&name(index));
    }
    let more = json!({"type": "subscribe", "id": 7, "channel": "one.more"});
    let reply = speaker.ask(&more);
    assert_eq!(error_of(&reply, 7), "channel_limit");
    speaker.ask(&json!({"type": "unsubscribe", "id": 8, "channel": name(64)}));
    assert_eq!(speaker.ask(&more)["type"], "subscribed", "one left, one comes");
    assert_eq!(gateway.metric("tidegate_subscriptions"), 129.0, "and the canary");
    for (index, channel) in [(127, name(127)), (0, "one.more".to_owned())] {
        gateway.admin().publish(&channel, &index.to_string());
        let heard = speaker.hear();
        assert_eq!((&heard["channel"], &heard["data"]), (&json!(channel), &json!(index)));
    }
    speaker.close();
    oracles.check(&mut gateway);
}

#[test]
fn b24_what_is_no_command_is_closed_with_4007_behind_what_came_before() {
    let mut gateway = Gateway::start(&["--relay", ">"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let bad: [(&str, &str); 8] = [
        (r#"{"type":"ping","ID":6}"#, "a key that this command does not have; case matters"),
        (r#"{"type":"ping","id":1,"id":1}"#, "id: twice"),
        (r#"{"type":"ping","id":1.0}"#, "id: not a whole number of 0 to 9007199254740991"),
        (r#"{"type":"subscribe","channel":"a"}"#, "id: missing"),
        (r#"{"type":"shout","id":1}"#, "type: not subscribe, unsubscribe, publish or ping"),
        (r#"{"type":"publish","id":1,"channel":"a","data":1,"text":""}"#, "data and text: one of the two"),
        ("[]", "not an object"),
        ("hello", "not JSON"),
    ];
    for (text, detail) in bad {
        let mut speaker = Speaker::join(&gateway, "/ws/lobby");
        speaker.hear();
        let offset = standing.publish("lobby", "accepted");
        // A close takes the place of messages that wait: not of those that were sent.
        let accepted = speaker.hear();
        assert_eq!((&accepted["text"], offset_of(&accepted["position"])), (&json!("accepted"), offset));
        let frames = [
            masked_frame(Opcode::Text, br#"{"type":"ping","id":1}"#),
            masked_frame(Opcode::Text, br#"{"type":"publish","id":2,"channel":"other","data":1}"#),
            masked_frame(Opcode::Text, text.as_bytes()),
            masked_frame(Opcode::Text, br#"{"type":"ping","id":3}"#),
        ];
        speaker.socket.raw.send(&frames.concat());
        let mut heard = Vec::new();
        let (code, reason) = loop {
            let frame = speaker.socket.next_frame();
            match frame.opcode {
                Opcode::Text => heard.push(serde_json::from_slice::<Value>(&frame.payload).expect("JSON")),
                _ => break frame.close_code().expect("a code"),
            }
        };
        assert_eq!((code, reason), (4007, format!("bad_message; {detail}")), "{text}");
        let is_there = |wanted: &dyn Fn(&Value) -> bool| heard.iter().any(wanted);
        assert!(is_there(&|it| *it == json!({"type": "pong", "id": 1})), "{heard:?}");
        assert!(!is_there(&|it| it["id"] == 3), "nothing behind it is looked at: {heard:?}");
    }
    let mut speaker = Speaker::join(&gateway, "/ws");
    speaker.socket.send_binary(br#"{"type":"ping"}"#);
    let binary = expect_close(&mut speaker.socket);
    assert_eq!(binary, (4007, "bad_message; commands are texts".to_owned()));
    drop(speaker);
    let labels = ["reason=\"bad_message\"", "code=\"4007\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == 9.0);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn e11_nothing_of_a_channel_comes_behind_the_reply_to_unsubscribe() {
    const ROUNDS: u64 = 60;
    let mut gateway = Gateway::start(&["--shards", "2", "--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let is_over = AtomicBool::new(false);
    let channels = ["one", "two", "three", "four"];
    let mut got = 0;
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
        let mut speaker = Speaker::join(&gateway, "/ws");
        for round in 0..ROUNDS {
            let channel = channels[round as usize % channels.len()];
            let reply = speaker.ask(&json!({"type": "subscribe", "id": round, "channel": channel}));
            assert_eq!((&reply["type"], &reply["id"]), (&json!("subscribed"), &json!(round)), "{reply}");
            let mut account = Account::after(offset_of(&reply["position"]));
            while account.received < round % 5 {
                account.note(&speaker.hear());
            }
            speaker.say(&json!({"type": "unsubscribe", "id": round, "channel": channel}));
            let reply = speaker.hear_reply(|message| account.note(&message));
            assert_eq!(reply, json!({"type": "unsubscribed", "id": round, "channel": channel}));
            let next = speaker.ask(&json!({"type": "ping", "id": round}));
            assert_eq!(next, json!({"type": "pong", "id": round}), "behind the reply");
            got += account.received;
        }
        speaker.close();
    });
    assert!(got >= ROUNDS, "{got} messages in {ROUNDS} rounds");
    oracles.check(&mut gateway);
}

#[test]
fn b22_replies_and_notices_pass_data_that_waits() {
    const MESSAGES: usize = 60;
    let options = ["--shards", "1", "--max-lag-bytes", "16MiB", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join_with(&gateway, "/ws/feed", TINY, &[]);
    for number in 0..MESSAGES {
        standing.publish("feed", &large(number));
    }
    standing.wait_metric("tidegate_connections_lagging", &[], |lagging| lagging == 1.0);
    speaker.say(&json!({"type": "ping", "id": 1}));
    speaker.say(&json!({"type": "subscribe", "id": 2, "channel": "quiet"}));
    standing.wait_metric("tidegate_commands_total", &[], |commands| commands == 2.0);

    assert_eq!(speaker.hear()["channel"], "feed", "the subscription that the URL asked for");
    let mut account = Account::default();
    let pong = speaker.hear_reply(|message| account.note(&message));
    assert_eq!(pong, json!({"type": "pong", "id": 1}));
    let reply = speaker.hear();
    assert_eq!((&reply["id"], &reply["type"]), (&json!(2), &json!("subscribed")));
    assert!(account.received < MESSAGES as u64 / 2, "{} messages before the replies", account.received);
    while account.received < MESSAGES as u64 {
        account.note(&speaker.hear());
    }
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn b22_what_a_slow_speaker_skips_is_told_before_what_follows() {
    let options = ["--shards", "1", "--on-lag", "skip", "--max-lag-bytes", "128KiB", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join_with(&gateway, "/ws/feed", TINY, &[]);
    while standing.metric("tidegate_skipped_total", &[]) < 20.0 {
        (0..8).for_each(|number| _ = standing.publish("feed", &large(number)));
    }
    let fed = standing.publish("feed", "last");
    assert_eq!(speaker.hear()["type"], "subscribed");
    let mut account = Account::default();
    let mut position = 0;
    while account.received == 0 || account.sum() < fed {
        let value = speaker.hear();
        if value["type"] == "skipped" {
            position = offset_of(&value["position"]);
        } else if position > 0 {
            assert_eq!(offset_of(&value["position"]), position + 1, "it goes on after that");
            position = 0;
        }
        account.note(&value);
    }
    assert_eq!(account.skipped as f64, standing.metric("tidegate_skipped_total", &[]));
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c9_replies_that_nobody_reads_end_the_connection_at_64_kib() {
    let mut gateway = Gateway::start(&["--shards", "1", "--client-rate", "0", "--max-lag-age", "1m"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut speaker = Speaker::join_with(&gateway, "/ws", TINY, &[]);
    let command = masked_frame(Opcode::Text, br#"{"type":"unsubscribe","id":1,"channel":"nowhere"}"#);
    let many = command.repeat(200);
    // 119 bytes each: the kernel takes some of them, then 64 KiB wait.
    for _ in 0..200 {
        if speaker.socket.raw.try_send(&many).is_err() {
            break;
        }
    }
    let labels = ["reason=\"ctl_flood\"", "code=\"1008\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == 1.0);
    let refused = standing.metric("tidegate_commands_refused_total", &[]);
    assert!((550.0..20_000.0).contains(&refused), "{refused}");
    drop((speaker, standing));
    oracles.check(&mut gateway);
}

#[test]
fn c17_many_commands_in_one_packet_are_each_answered_in_order() {
    let mut gateway = Gateway::start(&["--client-rate", "0"]);
    let oracles = Oracles::before(&gateway);
    let mut speaker = Speaker::join(&gateway, "/ws");
    let frames: Vec<u8> = (0..1000)
        .flat_map(|id| masked_frame(Opcode::Text, format!("{{\"type\":\"ping\",\"id\":{id}}}").as_bytes()))
        .collect();
    speaker.socket.raw.send(&frames);
    for id in 0..1000 {
        assert_eq!(speaker.hear(), json!({"type": "pong", "id": id}));
    }
    speaker.close();
    oracles.check(&mut gateway);
}

#[test]
fn commands_may_be_compressed_where_that_was_agreed() {
    let mut gateway = Gateway::start(&["--compression", "on", "--relay", ">"]);
    let oracles = Oracles::before(&gateway);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate";
    let mut speaker = Speaker::join_with(&gateway, "/ws/lobby", RawOptions::default(), &[offer]);
    assert_eq!(speaker.hear()["channel"], "lobby");
    let mut compressed = |command: &Value| {
        let text = command.to_string();
        let mut deflated = Vec::with_capacity(text.len() + 64);
        let mut compress = Compress::new(Compression::new(6), false);
        compress
            .compress_vec(text.as_bytes(), &mut deflated, FlushCompress::Sync)
            .expect("a buffer with room");
        let deflated = deflated.strip_suffix(&[0, 0, 0xff, 0xff]).expect("the end of a sync flush");
        let first = 0xc0 | Opcode::Text.bits();
        speaker.socket.raw.send(&client_frame(first, Some([7, 5, 3, 1]), deflated));
        speaker.hear()
    };
    assert_eq!(compressed(&json!({"type": "ping", "id": 1})), json!({"type": "pong", "id": 1}));
    let reply = compressed(&json!({"type": "subscribe", "id": 2, "channel": "news"}));
    assert_eq!((&reply["type"], &reply["id"]), (&json!("subscribed"), &json!(2)));
    let reply =
        compressed(&json!({"type": "publish", "id": 3, "channel": "other", "text": "z".repeat(2000)}));
    assert_eq!((&reply["type"], &reply["id"]), (&json!("published"), &json!(3)));
    let offset = gateway.admin().publish("news", "{\"a\":1}");
    let heard = speaker.hear();
    assert_eq!((&heard["data"], &heard["position"]), (&json!({"a": 1}), &offset.json()["position"]));
    speaker.close();
    oracles.check(&mut gateway);
}

#[test]
fn g1_a_drain_tells_speakers_when_to_come_back_before_it_closes_them() {
    let mut gateway = Gateway::start(&["--drain-grace", "100ms", "--drain-spread", "0s"]);
    let mut speaker = Speaker::join(&gateway, "/ws/lobby");
    speaker.hear();
    gateway.admin().publish("lobby", "last");
    gateway.signal(Signal::Term);
    assert_eq!(speaker.hear()["text"], "last");
    let notice = speaker.hear();
    assert_eq!(notice["type"], "draining", "{notice}");
    let in_ms = notice["in_ms"].as_u64().expect("milliseconds");
    let (code, reason) = expect_close(&mut speaker.socket);
    assert_eq!((code, reason), (1012, format!("draining;in={in_ms}")));
    drop(speaker);
    assert_eq!(gateway.wait_exit(PATIENCE).expect("it ends").code, Some(0));
}
