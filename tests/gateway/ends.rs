//! Every end is told four times (P17 of docs/GUARANTEES.md): counted, logged, given back, and kept for the admin side.

use crate::kit::Standing;
use crate::support::http::upgrade_request;
use crate::support::{ConnectionEnd, Gateway, Oracles, PATIENCE, wait_until};
use serde_json::Value;

const JSON: [&str; 2] = ["--log-format", "json"];

/// The log records of `event` with `reason`, as JSON.
fn records(gateway: &Gateway, event: &str, reason: &str) -> Vec<Value> {
    let log = gateway.log();
    let complete = log.lines().take(log.matches('\n').count());
    let records = complete.map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    records.filter(|record| record["event"] == event && record["reason"] == reason).collect()
}

#[test]
fn a_close_is_counted_logged_and_listed_with_what_the_connection_moved() {
    let mut gateway = Gateway::start(&JSON);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut client = gateway.join("/ws/news");
    standing.publish("news", "hello");
    assert_eq!(client.next_text(), "hello");
    // Relay is off: to say something is against the policy.
    client.send_text("let me in");
    assert_eq!(client.wait_close(PATIENCE).0, 1008);
    drop(client);

    standing.wait_metric("tidegate_closed_total", &["reason=\"policy\"", "by=\"us\""], |count| count == 1.0);
    let listed = standing.get("/api/closed?limit=1").json()["closed"][0].clone();
    assert_eq!((&listed["event"], &listed["reason"]), (&"close".into(), &"policy".into()));
    assert_eq!((&listed["code"], &listed["by"]), (&1008.into(), &"us".into()));
    // A masked frame of nine bytes and whatever else the client said: its request, and its close.
    assert!(listed["bytes_in"].as_u64() > Some(15 + 100), "{listed}");
    // The answer to the upgrade, a frame of five bytes, the close frame.
    assert!(listed["bytes_out"].as_u64() > Some(7 + 100 + 6), "{listed}");
    assert!(listed["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{listed}");
    wait_until("the record", PATIENCE, || records(&gateway, "close", "policy").len() == 1);
    let record = &records(&gateway, "close", "policy")[0];
    for field in ["code", "by", "bytes_in", "bytes_out", "age_ms", "peer"] {
        assert_eq!(record[field], listed[field], "{field}");
    }
    assert_eq!(record["conn"], listed["id"]);
    assert!(record.get("suppressed").is_none(), "{record}");
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn a_refusal_is_counted_logged_and_listed() {
    let gateway = Gateway::start(&JSON);
    let mut standing = Standing::open(&gateway);
    let mut client = gateway.raw();
    client.send(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status, 404);
    client.wait_end(PATIENCE);

    wait_until("both ends", PATIENCE, || {
        standing.get("/api/closed").json()["closed"].as_array().is_some_and(|ends| ends.len() == 2)
    });
    let page = standing.get("/api/closed").json();
    let (close, reject) = (&page["closed"][0], &page["closed"][1]);
    assert_eq!(
        (&close["event"], &close["reason"], &close["code"]),
        (&"close".into(), &"http_done".into(), &Value::Null)
    );
    assert_eq!(
        (&reject["event"], &reject["reason"], &reject["status"]),
        (&"reject".into(), &"no_route".into(), &404.into())
    );
    assert_eq!(reject["id"], close["id"]);
    // The head and its answer, no more and no less than the connection had moved when it ended.
    assert!(reject["bytes_out"].as_u64() > Some(answer.body.len() as u64), "{reject}");
    assert_eq!((&reject["bytes_in"], &reject["bytes_out"]), (&close["bytes_in"], &close["bytes_out"]));
    wait_until("the record", PATIENCE, || records(&gateway, "reject", "no_route").len() == 1);
    let record = &records(&gateway, "reject", "no_route")[0];
    assert_eq!((&record["status"], &record["bytes_out"]), (&404.into(), &reject["bytes_out"]));
    // What happens all day is not logged unless asked for.
    assert_eq!(records(&gateway, "close", "http_done").len(), 0);
}

#[test]
fn a_client_is_named_by_its_address_although_both_sides_have_ended() {
    let gateway = Gateway::start(&["--max-message", "1KiB"]);
    let mut standing = Standing::open(&gateway);
    let mut client = gateway.join("/");
    let address = client.raw.local_address().to_string();
    client.send_text(&"x".repeat(1025));
    assert_eq!(client.wait_close(PATIENCE).0, 1009);
    // The gateway has ended its side by now; the client's end comes second, and the kernel forgets who it was.
    assert_eq!(client.raw.wait_end(PATIENCE), ConnectionEnd::Fin);
    drop(client);

    standing.wait_metric("tidegate_closed_total", &["reason=\"msg_too_big\""], |count| count == 1.0);
    let listed = standing.get("/api/closed?limit=1").json()["closed"][0].clone();
    assert_eq!((&listed["reason"], &listed["peer"]), (&"msg_too_big".into(), &address.into()));
}

#[test]
fn a_storm_of_refusals_costs_a_few_records_and_one_that_counts_the_rest() {
    const REFUSED: usize = 200;
    let gateway = Gateway::start(&["--log-format", "json", "--shards", "1"]);
    let mut standing = Standing::open(&gateway);
    let mut client = gateway.raw();
    for _ in 0..REFUSED {
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.response().status, 404);
    }
    let rejected = standing.metric("tidegate_rejected_total", &["reason=\"no_route\""]);
    assert_eq!(rejected, REFUSED as f64);
    let told = || -> (usize, u64) {
        let records = records(&gateway, "reject", "no_route");
        let suppressed = records.iter().filter_map(|record| record["suppressed"].as_u64()).sum();
        (records.iter().filter(|record| record.get("conn").is_some()).count(), suppressed)
    };
    wait_until("all refusals to be told of", PATIENCE, || {
        let (logged, suppressed) = told();
        logged as u64 + suppressed == REFUSED as u64
    });
    let (logged, suppressed) = told();
    assert!(suppressed > 0 && logged < REFUSED / 2, "{logged} logged, {suppressed} suppressed");
}

#[test]
fn a_client_that_is_turned_away_at_the_limit_is_listed_too() {
    let gateway = Gateway::start(&["--max-connections", "1", "--shards", "1"]);
    let mut standing = Standing::open(&gateway);
    let _member = gateway.join("/");
    let mut client = gateway.raw();
    client.send(&upgrade_request("/", "localhost", &[]));
    assert_eq!(client.response().status, 503);
    wait_until("the refusal", PATIENCE, || {
        let page = standing.get("/api/closed").json();
        page["closed"].as_array().is_some_and(|ends| {
            ends.iter()
                .any(|end| end["reason"] == "conn_limit" && end["status"] == 503 && end["bytes_out"] != 0)
        })
    });
}
