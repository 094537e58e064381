//! curl: the publish API as the README shows it, the refusals, and an upgrade by hand.

use crate::script::run;
use crate::support::{Gateway, Message, Oracles, PATIENCE, Response, wait_for};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// An HTTP request by curl, its response with the head.
#[track_caller]
fn curl(arguments: &[&str]) -> Response {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--raw", "--http1.1", "--max-time", "20"]);
    command.args(["--noproxy", "*"]).args(arguments);
    let ran = run(command, Duration::from_secs(30));
    assert!(ran.success, "curl {arguments:?}: {}", ran.stderr);
    Response::parse(&ran.stdout, true)
        .unwrap_or_else(|| panic!("no whole response: {}", ran.stdout.escape_ascii()))
        .0
}

fn client_url(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.clients)
}

fn admin_url(gateway: &Gateway, path: &str) -> String {
    format!("http://{}{path}", gateway.admin)
}

#[test]
fn the_readme_command_reaches_a_subscriber() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);
    let mut subscriber = gateway.join("/");

    let reply = curl(&["-d", "hello", &admin_url(&gateway, "/publish/lobby")]);

    assert_eq!(reply.status, 200, "{reply:?}");
    let stated = reply.json();
    assert_eq!(stated["channel"], "lobby");
    assert_eq!(stated["subscribers"], 1);
    let position = stated["position"].as_str().expect("a position").to_owned();
    let (epoch, offset) = position.rsplit_once('-').expect("epoch-offset");
    assert!(!epoch.is_empty() && offset.parse::<u64>().is_ok(), "{position}");
    assert_eq!(subscriber.next_text(), "hello");
    subscriber.close();
    oracles.check(&mut gateway);
}

#[test]
fn the_media_type_decides_between_text_and_binary() {
    let gateway = Gateway::start(&[]);
    let mut subscriber = gateway.join("/");
    let url = admin_url(&gateway, "/publish/lobby");
    let publish = |media_type: &str, data: &str| {
        let header = format!("Content-Type: {media_type}");
        assert_eq!(curl(&["-H", &header, "--data-binary", data, &url]).status, 200, "{media_type}");
    };

    publish("text/plain", "as text");
    publish("application/json", "{\"as\":\"text\"}");
    publish("application/octet-stream", "as bytes");
    // curl leaves the header out when told its name and nothing else.
    assert_eq!(curl(&["-H", "Content-Type:", "--data-binary", "still text", &url]).status, 200);

    assert_eq!(subscriber.next_message(), Message::Text("as text".to_owned()));
    assert_eq!(subscriber.next_message(), Message::Text("{\"as\":\"text\"}".to_owned()));
    assert_eq!(subscriber.next_message(), Message::Binary(b"as bytes".to_vec()));
    assert_eq!(subscriber.next_message(), Message::Text("still text".to_owned()));
}

#[test]
fn the_json_api_publishes_to_one_channel_to_several_and_in_batches() {
    let gateway = Gateway::start(&[]);
    let mut subscriber = gateway.join("/ws?channels=red,green");
    let publish = |path: &str, body: &str| {
        let url = admin_url(&gateway, path);
        let reply = curl(&["-H", "Content-Type: application/json", "-d", body, &url]);
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
    };

    publish("/api/publish", r#"{"channel":"red","data":"one"}"#);
    assert_eq!(subscriber.next_text(), "one");
    publish("/api/publish", r#"{"channels":["red","green","blue"],"data":"two"}"#);
    assert_eq!((subscriber.next_text(), subscriber.next_text()), ("two".to_owned(), "two".to_owned()));
    publish("/api/batch", r#"[{"channel":"red","data":"three"},{"channel":"red","data":"four"}]"#);
    assert_eq!((subscriber.next_text(), subscriber.next_text()), ("three".to_owned(), "four".to_owned()));
}

#[test]
fn the_json_api_refuses_what_it_cannot_publish() {
    let gateway = Gateway::start(&[]);
    let refuse = |path: &str, body: &str| {
        let reply = curl(&["-H", "Content-Type: application/json", "-d", body, &admin_url(&gateway, path)]);
        let token = reply.json()["error"].as_str().unwrap_or_default().to_owned();
        (reply.status, token)
    };
    let refusal = |status: u16, token: &str| (status, token.to_owned());

    assert_eq!(refuse("/api/publish", "{"), refusal(400, "bad_json"));
    assert_eq!(refuse("/api/publish", r#"{"data":"to nobody"}"#), refusal(422, "invalid"));
    assert_eq!(refuse("/api/publish", r#"{"channel":"a b","data":"x"}"#), refusal(400, "bad_channel"));
    assert_eq!(refuse("/publish/a%20b", "x"), refusal(400, "bad_channel"));
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_sent() {
    let gateway = Gateway::start(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("large");
    std::fs::write(&file, vec![b'x'; 1024 * 1024 + 1]).expect("a file in it");
    let data = format!("@{}", file.display());

    // curl asks first (`Expect: 100-continue`) when a body is that long.
    let reply = curl(&["--data-binary", &data, &admin_url(&gateway, "/publish/lobby")]);

    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(reply.json()["error"], "body_too_big");
}

#[test]
fn refusals_name_the_status_and_the_way_out() {
    let mut gateway = Gateway::start(&[]);
    let oracles = Oracles::before(&gateway);

    assert_eq!(curl(&[&client_url(&gateway, "/no/such/page")]).status, 404);
    let method = curl(&["-X", "DELETE", &client_url(&gateway, "/")]);
    assert_eq!((method.status, method.header("allow").is_some()), (405, true), "{method:?}");
    let plain = curl(&[&client_url(&gateway, "/ws/lobby")]);
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")), "{plain:?}");
    assert_eq!(plain.header("sec-websocket-version"), Some("13"), "{plain:?}");
    assert_eq!(curl(&[&admin_url(&gateway, "/no/such/page")]).status, 404);
    let get = curl(&[&admin_url(&gateway, "/publish/lobby")]);
    assert_eq!((get.status, get.header("allow").is_some()), (405, true), "{get:?}");
    let head = format!("X-Long: {}", "x".repeat(20 * 1024));
    assert_eq!(curl(&["-H", &head, &client_url(&gateway, "/")]).status, 431);

    oracles.check(&mut gateway);
}

#[test]
fn an_upgrade_by_hand_is_answered_to_the_letter() {
    let gateway = Gateway::start(&[]);
    let upgrade = |version: &str, key: &str| {
        let mut command = Command::new("curl");
        // curl cannot know that the connection goes on as something else: it waits, and is told to stop.
        command.args([
            "--silent",
            "--include",
            "--no-buffer",
            "--http1.1",
            "--max-time",
            "2",
            "--noproxy",
            "*",
        ]);
        command.args(["-H", "Connection: keep-alive, Upgrade", "-H", "Upgrade: WebSocket"]);
        command.args(["-H", version, "-H", key, &client_url(&gateway, "/ws/lobby")]);
        let ran = run(command, Duration::from_secs(10));
        Response::parse(&ran.stdout, true).unwrap_or_else(|| panic!("no response: {}", ran.stderr)).0
    };
    let (version, key) = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==");

    let accepted = upgrade(version, key);
    assert_eq!(accepted.status, 101, "{accepted:?}");
    assert_eq!(accepted.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(accepted.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));

    let old = upgrade("Sec-WebSocket-Version: 8", key);
    assert_eq!((old.status, old.header("sec-websocket-version")), (426, Some("13")), "{old:?}");
    assert_eq!(upgrade(version, "Sec-WebSocket-Key: short").status, 400);
    assert_eq!(upgrade(version, "X-No-Key: 1").status, 400);
}

#[test]
fn health_and_metrics_are_served_on_the_admin_listener_alone() {
    let gateway = Gateway::start(&[]);

    assert_eq!(curl(&[&admin_url(&gateway, "/livez")]).status, 200);
    assert_eq!(curl(&[&admin_url(&gateway, "/readyz")]).status, 200);
    let metrics = curl(&[&admin_url(&gateway, "/metrics")]);
    assert!(
        metrics.header("content-type").is_some_and(|value| value.contains("text")),
        "{:?}",
        metrics.headers
    );
    assert!(metrics.text().contains("tidegate_"), "{}", metrics.text());
    for path in ["/livez", "/metrics", "/publish/lobby", "/api/channels"] {
        assert_eq!(curl(&[&client_url(&gateway, path)]).status, 404, "{path} on the client listener");
    }
}

/// `curl -N` on an event stream; ended when dropped.
struct Stream {
    child: Child,
    lines: Receiver<String>,
}

impl Stream {
    fn open(address: SocketAddr, target: &str, last_event_id: Option<&str>) -> Stream {
        let mut command = Command::new("curl");
        command.args(["--no-buffer", "--silent", "--noproxy", "*"]).arg(format!("http://{address}{target}"));
        if let Some(id) = last_event_id {
            command.args(["-H", &format!("Last-Event-ID: {id}")]);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("curl is installed");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Stream { child, lines }
    }

    /// The next line that begins with `field` and a colon, without those.
    #[track_caller]
    fn next(&self, field: &str) -> String {
        wait_for(&format!("a line of {field}"), PATIENCE, || {
            let line = self.lines.recv_timeout(Duration::from_millis(100)).ok()?;
            Some(line.strip_prefix(field)?.strip_prefix(": ")?.to_owned())
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Events come one by one as they are published, and a second curl goes on where the first was ended.
pub fn reads_a_stream_as_it_comes(gateway: &Gateway, address: SocketAddr) {
    let stream = Stream::open(address, "/sse/lobby", None);
    assert_eq!(stream.next("event"), "gw.subscribed");
    let mut position = String::new();
    for text in ["one", "two", "three"] {
        gateway.admin().publish("lobby", text);
        position = stream.next("id");
        assert_eq!(stream.next("data"), text);
    }
    drop(stream);
    gateway.admin().publish("lobby", "four");
    gateway.admin().publish("lobby", "five");
    let stream = Stream::open(address, "/sse/lobby", Some(&position));
    assert_eq!(stream.next("event"), "gw.subscribed");
    assert!(stream.next("data").contains(r#""recovered":true,"replayed":2"#));
    assert_eq!((stream.next("data"), stream.next("data")), ("four".to_owned(), "five".to_owned()));
}

#[test]
fn curl_reads_an_event_stream_as_it_comes() {
    let mut gateway = Gateway::start(&["--history-messages", "10"]);
    let oracles = Oracles::before(&gateway);

    reads_a_stream_as_it_comes(&gateway, gateway.clients);

    oracles.check(&mut gateway);
}

#[test]
fn a_stream_has_no_id_to_come_back_with_before_its_snapshot_has_begun() {
    let mut gateway = Gateway::start(&["--history-messages", "10", "--retain", "latest-per-key"]);
    let oracles = Oracles::before(&gateway);
    let reply = curl(&["-d", "1", &admin_url(&gateway, "/publish/state?key=a")]);
    assert_eq!(reply.status, 200, "{reply:?}");

    for (target, first) in
        [("/sse/state?snapshot=1", ""), ("/sse?channels=state,other&snapshot=1", ","), ("/sse/state", "…")]
    {
        let stream = Stream::open(gateway.clients, target, None);
        let id = stream.next("id");
        let is_as_due = match first {
            "…" => id.ends_with("-1"),
            first => id == first,
        };
        assert!(is_as_due, "{target}: {id}");
        assert_eq!(stream.next("event"), "gw.subscribed");
    }

    oracles.check(&mut gateway);
}
