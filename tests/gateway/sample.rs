//! Subscribers that want so many updates a second at most.

use crate::support::{Gateway, Oracles};

fn batch(messages: &[(&str, &str)]) -> String {
    let message = |(key, data): &(&str, &str)| format!(r#"{{"channel":"c","key":"{key}","data":"{data}"}}"#);
    format!("[{}]", messages.iter().map(message).collect::<Vec<_>>().join(","))
}

fn publish(gateway: &Gateway, messages: &[(&str, &str)]) {
    let response = gateway.admin().post("/api/batch", "application/json", batch(messages).as_bytes());
    assert_eq!(response.status, 200, "{}", response.text());
}

#[test]
fn a_sampled_subscriber_gets_the_first_at_once_and_then_the_newest_of_each_key() {
    for shards in ["1", "2"] {
        let mut gateway = Gateway::start(&["--shards", shards]);
        let oracles = Oracles::before(&gateway);
        let mut sampled: Vec<_> = (0..4).map(|_| gateway.join("/ws/c?max_rate=1/s")).collect();
        let mut every = gateway.join("/ws/c");
        publish(&gateway, &[("k", "k1")]);
        for client in &mut sampled {
            assert_eq!(client.next_text(), "k1");
        }
        // Sent in one piece: all of them come before the second is over.
        publish(&gateway, &[("k", "k2"), ("l", "l1"), ("k", "k3"), ("m", "m1"), ("k", "k4"), ("l", "l2")]);
        for client in &mut sampled {
            assert_eq!(["m1", "k4", "l2"].map(|_| client.next_text()), ["m1", "k4", "l2"]);
        }
        let all = ["k1", "k2", "l1", "k3", "m1", "k4", "l2"];
        assert_eq!(all.map(|_| every.next_text()), all);
        assert_eq!(gateway.metric("tidegate_conflated_total"), 4.0 * 3.0);
        sampled.into_iter().chain([every]).for_each(|client| client.close());
        oracles.check(&mut gateway);
    }
}

#[test]
fn a_sampled_subscriber_that_resumes_gets_what_it_missed_first() {
    let mut gateway = Gateway::start(&["--history-messages", "100"]);
    let oracles = Oracles::before(&gateway);
    publish(&gateway, &[("k", "k1"), ("k", "k2"), ("k", "k3")]);
    let listing = gateway.admin().get("/api/channels/c").json();
    let epoch =
        listing["position"].as_str().and_then(|position| position.split('-').next().map(str::to_owned));
    let target = format!("/ws/c?max_rate=1/s&since={}-1", epoch.expect("a position"));
    let mut client = gateway.join(&target);
    assert_eq!(["k2", "k3"].map(|_| client.next_text()), ["k2", "k3"]);
    publish(&gateway, &[("k", "k4"), ("k", "k5"), ("l", "l1")]);
    assert_eq!(["k5", "l1"].map(|_| client.next_text()), ["k5", "l1"]);
    client.close();
    oracles.check(&mut gateway);
}
