//! What clients may send once they are in: which type of messages (B25), how many (B13).

use crate::kit::Standing;
use crate::support::frame::masked_fragment;
use crate::support::{Gateway, Message, Opcode, Oracles, PATIENCE, masked_frame};
use std::thread;

/// A gateway with a channel that takes text and one that takes binary.
fn typed() -> (tempfile::TempDir, Gateway) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tidegate.toml");
    let tables = "[[channel]]\npattern = \"text.>\"\nmessage_type = \"text\"\n\
                  [[channel]]\npattern = \"binary.>\"\nmessage_type = \"binary\"\n";
    std::fs::write(&path, format!("relay = [\">\"]\n{tables}")).expect("a file");
    let gateway = Gateway::start(&["--config", path.to_str().expect("a plain path")]);
    (folder, gateway)
}

#[test]
fn b25_a_message_of_the_wrong_type_is_closed_with_1003_also_in_fragments() {
    let (_folder, mut gateway) = typed();
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    for (target, right, wrong) in
        [("/ws/text.a", Opcode::Text, Opcode::Binary), ("/ws/binary.a", Opcode::Binary, Opcode::Text)]
    {
        let mut witness = gateway.join(target);
        let whole = masked_frame(wrong, b"wrong");
        let fragment = masked_fragment(false, wrong, b"wrong");
        for bytes in [whole, fragment] {
            let mut client = gateway.join(target);
            client.raw.send(&masked_frame(right, b"right"));
            client.raw.send(&bytes);
            assert_eq!(client.wait_close(PATIENCE), (1003, "type_unsupported".to_owned()), "{target}");
            let expected = match right {
                Opcode::Text => Message::Text("right".to_owned()),
                _ => Message::Binary(b"right".to_vec()),
            };
            assert_eq!(witness.next_message(), expected, "what came before it is sent, and nothing of it");
        }
        witness.close();
    }
    let labels = ["reason=\"type_unsupported\"", "code=\"1003\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == 4.0);
    let mut any = gateway.join("/ws/any");
    any.send_text("one");
    any.send_binary(b"two");
    any.close();
    drop(standing);
    oracles.check(&mut gateway);
}

#[test]
fn b25_a_publish_of_the_wrong_type_is_refused_with_415() {
    let (_folder, mut gateway) = typed();
    let oracles = Oracles::before(&gateway);
    let admin = gateway.admin();
    let mut subscriber = gateway.join("/ws?channels=text.a,binary.a");
    let json = "application/json";
    for (path, content_type, body, status, index) in [
        ("/publish/text.a", "text/plain", &b"x"[..], 200, None),
        ("/publish/text.a", "application/octet-stream", b"x", 415, None),
        ("/publish/text.a", "", b"\xff", 415, None),
        ("/publish/binary.a", "application/octet-stream", b"x", 200, None),
        ("/publish/binary.a", "text/plain", b"x", 415, None),
        ("/publish/any", "text/plain", b"x", 200, None),
        ("/publish/any", "application/octet-stream", b"x", 200, None),
        ("/api/publish", json, br#"{"channel":"binary.a","data":"x"}"#, 415, None),
        ("/api/publish", json, br#"{"channels":["text.a","binary.a"],"data":"x"}"#, 415, Some(1)),
        (
            "/api/batch",
            json,
            br#"[{"channel":"text.a","data":1},{"channel":"binary.a","data":1}]"#,
            415,
            Some(1),
        ),
    ] {
        let reply = admin.post(path, content_type, body);
        assert_eq!(reply.status, status, "{path} {content_type}: {}", reply.text());
        if status == 415 {
            let said = reply.json();
            assert_eq!(
                (&said["error"], said["index"].as_u64()),
                (&"type_unsupported".into(), index),
                "{path}"
            );
        }
    }
    assert_eq!(subscriber.next_message(), Message::Text("x".to_owned()));
    assert_eq!(subscriber.next_message(), Message::Binary(b"x".to_vec()));
    admin.publish("text.a", "last");
    assert_eq!(subscriber.next_text(), "last", "nothing of a refused request is sent");
    subscriber.close();
    oracles.check(&mut gateway);
}

#[test]
fn b13_ten_clients_that_flood_are_held_back_then_closed_and_harm_nobody() {
    const FLOODERS: usize = 10;
    /// The burst, and what five rests give back; once more for what a slow machine lets pass.
    const MESSAGES_MAX: f64 = (100 + 6 * 63 + 63) as f64;
    let mut gateway = Gateway::start(&["--relay", "flood"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let before = standing.metric("tidegate_messages_received_total", &[]);
    let frames = masked_frame(Opcode::Text, b"again").repeat(2000);
    thread::scope(|scope| {
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                let mut client = gateway.join("/ws/flood");
                // As fast as the gateway reads; while it does not, the kernel makes us wait.
                while client.raw.try_send(&frames).is_ok() {}
                assert_eq!(client.wait_close(PATIENCE), (4102, "rate_limited".to_owned()));
            });
        }
    });
    let labels = ["reason=\"rate_limited\"", "code=\"4102\"", "by=\"us\""];
    standing.wait_metric("tidegate_closed_total", &labels, |closed| closed == FLOODERS as f64);
    let taken = standing.metric("tidegate_messages_received_total", &[]) - before;
    assert!(taken <= FLOODERS as f64 * MESSAGES_MAX, "{taken} messages were taken");
    let rests = standing.metric("tidegate_client_rests_total", &[]);
    assert!(rests >= 4.0 * FLOODERS as f64, "{rests} rests");
    drop(standing);
    oracles.check(&mut gateway);
}
