//! Coming back: what a position gives to clients of plain messages and of `tidegate.v1`, with nothing twice and nothing
//! missing where history and live messages meet (E4, E6, E7).

use crate::kit::{Standing, offset_of};
use crate::live::{Account, Speaker, TINY, publish_keyed};
use crate::support::http::upgrade_request;
use crate::support::{Gateway, Message, Oracles, RawClient, Response, WebSocketClient};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A plain client that has joined at `target`, and the 101 that it got.
#[track_caller]
fn join_plain(gateway: &Gateway, target: &str) -> (WebSocketClient, Response) {
    let mut raw: RawClient = gateway.raw();
    raw.send(&upgrade_request(target, &gateway.clients.to_string(), &[]));
    let answer = raw.response();
    assert_eq!(answer.status, 101, "{target}: {answer:?}");
    (WebSocketClient { raw }, answer)
}

/// The epoch of `channel`, which must have one.
#[track_caller]
fn epoch_of(gateway: &Gateway, channel: &str) -> String {
    let listing = gateway.admin().get(&format!("/api/channels/{channel}")).json();
    listing["epoch"].as_str().unwrap_or_else(|| panic!("an epoch: {listing}")).to_owned()
}

#[test]
fn e6_a_plain_client_is_told_in_the_101_and_its_messages_are_byte_exact() {
    let mut gateway = Gateway::start(&["--history-messages", "3"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let payloads: [&[u8]; 6] = [b"gone", b"two", b"\xff\0\xfe", b"{\"a\":\t1}\r\n", b"", b"\xf0\x9f\x98\x80"];
    let types = [
        "text/plain",
        "text/plain",
        "application/octet-stream",
        "application/json",
        "text/plain",
        "text/plain",
    ];
    for (payload, content_type) in payloads.iter().zip(types) {
        standing.publish_as("news", content_type, payload);
    }
    let epoch = epoch_of(&gateway, "news");
    let message = |number: usize| match types[number - 1] {
        "application/octet-stream" => Message::Binary(payloads[number - 1].to_vec()),
        _ => Message::Text(String::from_utf8(payloads[number - 1].to_vec()).expect("text")),
    };

    for (since, recovered, after) in [
        (format!("{epoch}-3"), "3", 3),
        (format!("{epoch}-5"), "1", 5),
        (format!("{epoch}-6"), "0", 6),
        (format!("{epoch}-2"), "gap", 6),
        (format!("{epoch}-7"), "gap", 6),
        (format!("{epoch}-{}", u64::MAX), "gap", 6),
        ("0000000000000001-6".to_owned(), "gap", 6),
    ] {
        let (mut client, answer) = join_plain(&gateway, &format!("/ws/news?since={since}"));
        assert_eq!(answer.header("tidegate-recovered"), Some(recovered), "{since}");
        assert_eq!(answer.header("tidegate-position"), Some(&*format!("{epoch}-{after}")), "{since}");
        for number in after + 1..=6 {
            assert_eq!(client.next_message(), message(number), "{since}");
        }
        assert!(client.raw.received().is_empty(), "{since}: nothing else");
        client.close();
    }
    let (client, answer) = join_plain(&gateway, "/ws/news");
    assert_eq!(answer.header("tidegate-recovered").or(answer.header("tidegate-position")), None);
    client.close();

    standing.publish("weather", "1");
    let weather = epoch_of(&gateway, "weather");
    let (client, answer) = join_plain(&gateway, &format!("/ws?channels=news,weather&since=,{weather}-0"));
    assert_eq!(answer.header("tidegate-recovered"), Some("-, 1"));
    assert_eq!(answer.header("tidegate-position"), Some(&*format!("{epoch}-6, {weather}-0")));
    client.close();
    let counters = ["recovered", "replayed", "unrecovered"];
    let counted = counters.map(|it| standing.metric(&format!("tidegate_{it}_total"), &[]));
    assert_eq!(counted, [4.0, 5.0, 4.0]);
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn e6_a_speaker_is_told_everything_what_was_missed_or_that_it_cannot() {
    let mut gateway = Gateway::start(&["--history-messages", "4"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    (0..9).for_each(|number| _ = standing.publish("news", &number.to_string()));
    let epoch = epoch_of(&gateway, "news");
    let mut speaker = Speaker::join(&gateway, "/ws");
    for (since, recovered, replayed, after) in [
        (format!("{epoch}-9"), true, json!(0), 9),
        (format!("{epoch}-5"), true, json!(4), 5),
        (format!("{epoch}-4"), false, Value::Null, 9),
        (format!("{epoch}-10"), false, Value::Null, 9),
        ("0000000000000001-9".to_owned(), false, Value::Null, 9),
    ] {
        let reply = speaker.ask(&json!({"type": "subscribe", "id": 1, "channel": "news", "since": since}));
        let said = (&reply["recovered"], reply["replayed"].clone(), offset_of(&reply["position"]));
        assert_eq!(said, (&json!(recovered), replayed, after), "{reply}");
        let mut account = Account::after(after);
        (after..9).for_each(|_| account.note(&speaker.hear()));
        let end = speaker.ask(&json!({"type": "unsubscribe", "id": 2, "channel": "news"}));
        assert_eq!(end["type"], "unsubscribed", "no message more: {end}");
    }
    speaker.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn e4_history_and_live_messages_join_without_a_hole_and_without_one_twice() {
    const ROUNDS: u64 = 80;
    let options = ["--history-messages", "100000", "--history-bytes", "64MiB", "--client-rate", "0"];
    let mut gateway = Gateway::start(&[&["--shards", "2"], &options[..]].concat());
    let oracles = Oracles::before(&gateway);
    let is_over = AtomicBool::new(false);
    let mut standing = Standing::open(&gateway);
    let channels = ["one", "two", "three", "four"];
    channels.iter().for_each(|channel| _ = standing.publish(channel, "x"));
    let published = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut published = 0;
            while !is_over.load(Ordering::Relaxed) {
                channels.iter().for_each(|channel| published = standing.publish(channel, "x"));
            }
            published
        });
        let outcome = std::panic::catch_unwind(|| {
            // Each comes back where the one before it left, while messages come.
            let mut positions = channels.map(|channel| format!("{}-0", epoch_of(&gateway, channel)));
            for round in 0..ROUNDS {
                let index = round as usize % channels.len();
                let mut speaker = Speaker::join(&gateway, "/ws");
                let request = json!({"type": "subscribe", "id": 1, "channel": channels[index],
                    "since": positions[index]});
                let reply = speaker.ask(&request);
                assert_eq!(
                    (&reply["recovered"], &reply["position"]),
                    (&json!(true), &json!(positions[index]))
                );
                let replayed = reply["replayed"].as_u64().expect("a number");
                let mut account = Account::after(offset_of(&json!(positions[index])));
                while account.received < replayed + round % 4 {
                    let message = speaker.hear();
                    account.note(&message);
                    message["position"].as_str().expect("a position").clone_into(&mut positions[index]);
                }
                speaker.close();
            }
        });
        is_over.store(true, Ordering::Relaxed);
        let published = publisher.join().expect("the publisher");
        outcome.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        published
    });
    assert!(published > 20, "{published} messages in {ROUNDS} rounds");
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn e7_a_position_of_an_earlier_numbering_is_never_taken_for_one_of_this() {
    let mut gateway = Gateway::start(&["--history-messages", "10"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    (0..3).for_each(|_| _ = standing.publish("news", "of this numbering"));
    let epoch = epoch_of(&gateway, "news");
    let digit = if epoch.ends_with('0') { '1' } else { '0' };
    let other = format!("{}{digit}-1", &epoch[..15]);
    let (client, answer) = join_plain(&gateway, &format!("/ws/news?since={other}"));
    assert_eq!(answer.header("tidegate-recovered"), Some("gap"));
    client.close();

    // Nobody reads a channel without history: its numbering ends with its last reader, and begins anew with the next.
    let mut gateway_without = Gateway::start(&[]);
    let mut speaker = Speaker::join(&gateway_without, "/ws/news");
    let first = speaker.hear()["position"].clone();
    gateway_without.admin().publish("news", "1");
    let position = speaker.hear()["position"].clone();
    assert_eq!(offset_of(&position), offset_of(&first) + 1);
    speaker.close();
    let mut idle = Standing::open(&gateway_without);
    idle.wait_metric("tidegate_channels", &[], |channels| channels == 0.0);
    let mut speaker = Speaker::join(&gateway_without, "/ws");
    let request = json!({"type": "subscribe", "id": 1, "channel": "news", "since": position});
    let reply = speaker.ask(&request);
    assert_eq!((&reply["recovered"], offset_of(&reply["position"])), (&json!(false), 0), "{reply}");
    speaker.close();
    assert!(gateway_without.is_alive());
    drop((standing, idle));
    oracles.check(&mut gateway);
}

#[test]
fn a_plain_client_may_begin_with_a_snapshot() {
    let mut gateway = Gateway::start(&["--retain", "latest-per-key"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    for (key, text) in [("a", "a1"), ("b", "b1"), ("a", "a2"), ("c", "c1")] {
        publish_keyed(&mut standing, "prices", key, text);
    }
    publish_keyed(&mut standing, "prices", "b", "");
    standing.publish("prices", "without a key");
    let (mut client, _) = join_plain(&gateway, "/ws/prices?snapshot=1");
    publish_keyed(&mut standing, "prices", "b", "b2");
    let texts = [(); 3].map(|()| client.next_text());
    assert_eq!(texts, ["a2", "c1", "b2"], "the state, in order, then what is new");
    client.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn c12_a_storm_of_resumes_shares_what_is_replayed() {
    const STORM: usize = 300;
    const MESSAGES: usize = 300;
    let options = ["--shards", "1", "--history-messages", "1000", "--max-lag-age", "1m"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let text = |number: usize| format!("{number:>1000}");
    (0..MESSAGES).for_each(|number| _ = standing.publish("feed", &text(number)));
    let target = format!("/ws/feed?since={}-0", epoch_of(&gateway, "feed"));
    let resident = gateway.resident_bytes();

    // Each asks for 300 KB in a request of 200 bytes, and takes what fits its window.
    let mut storm: Vec<_> =
        (0..STORM).map(|_| WebSocketClient::join_with(gateway.clients, &target, TINY, &[])).collect();
    standing.wait_metric("tidegate_connections_lagging", &[], |lagging| lagging == STORM as f64);
    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes for {STORM} clients; a copy for each is 90 MB");
    assert_eq!(standing.metric("tidegate_replayed_total", &[]), (STORM * MESSAGES) as f64);

    // Who waits longest is not closed for what it missed, and all of it comes.
    for client in storm.iter_mut().step_by(30) {
        (0..MESSAGES).for_each(|number| assert_eq!(client.next_text(), text(number)));
    }
    assert_eq!(standing.closed("slow_consumer"), 0.0);
    drop((storm, standing));
    oracles.check(&mut gateway);
}
