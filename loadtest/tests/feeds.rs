//! Subscribers that read event streams, speak tidegate.v1, join for a snapshot or come back for what they missed: against a
//! server of our own that does as it should, or not quite, and against the gateway where it has been built.

mod gateway;
mod hall;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;
use tungstenite::handshake::derive_accept_key;

use hall::{frame, read_head};

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// As it should.
    Right,
    /// The first subscriber does not get one message.
    Drops,
    /// The first subscriber gets one message twice.
    Repeats,
    /// The first subscriber gets one message with a letter changed.
    Changes,
    /// One message comes with the key of another, to all.
    MixesUp,
    /// Who comes for what was kept does not get the last of it.
    KeepsBack,
    /// Who comes for what was kept gets one message more, from before it.
    GivesMore,
}

/// The message at which something is planted, counted from 1.
const PLANTED_AT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Plain,
    V1,
    Events,
}

struct Hall {
    manner: Manner,
    subscribers: Vec<(Dialect, TcpStream)>,
    messages: Vec<(Option<String>, String)>,
}

impl Hall {
    /// A message as a subscriber gets it; `offset` counts from 1.
    fn encoded(&self, dialect: Dialect, offset: usize) -> Vec<u8> {
        let (key, payload) = &self.messages[offset - 1];
        let key = key
            .as_ref()
            .map(|key| if self.manner == Manner::MixesUp && offset == PLANTED_AT { "kx" } else { key });
        let key = key.map_or_else(String::new, |key| format!(",\"key\":\"{key}\""));
        match dialect {
            Dialect::Plain => text_frame(payload),
            Dialect::V1 => text_frame(&format!(
                "{{\"channel\":\"x\",\"position\":\"e-{offset}\"{key},\"text\":\"{payload}\"}}"
            )),
            Dialect::Events => chunk(&format!("id: e-{offset}\ndata: {payload}\n\n")),
        }
    }

    fn publish(&mut self, key: Option<String>, payload: String) -> usize {
        self.messages.push((key, payload));
        let offset = self.messages.len();
        let mut subscribers = std::mem::take(&mut self.subscribers);
        for (index, (dialect, stream)) in subscribers.iter_mut().enumerate() {
            let usual = self.encoded(*dialect, offset);
            let bytes = match self.manner {
                _ if index > 0 || offset != PLANTED_AT => usual,
                Manner::Drops => Vec::new(),
                Manner::Repeats => [usual.clone(), usual].concat(),
                Manner::Changes => {
                    let mut changed = usual;
                    let letter = changed.len() - 10;
                    changed[letter] = if changed[letter] == b'A' { b'B' } else { b'A' };
                    changed
                }
                _ => usual,
            };
            let _ = stream.write_all(&bytes);
        }
        self.subscribers = subscribers;
        offset
    }

    /// Offsets of what a subscriber gets first.
    fn kept(&self, query: &str) -> Vec<usize> {
        let all = 1..=self.messages.len();
        let mut kept: Vec<usize> = if query.contains("snapshot=1") {
            let key = |offset: usize| &self.messages[offset - 1].0;
            all.filter(|&offset| (offset + 1..=self.messages.len()).all(|later| key(later) != key(offset)))
                .collect()
        } else if let Some((_, since)) = query.split_once("since=e-") {
            let since: usize = since.parse().expect("a position");
            all.filter(|&offset| offset > since).collect()
        } else {
            return Vec::new();
        };
        match self.manner {
            Manner::KeepsBack => drop(kept.pop()),
            Manner::GivesMore => kept.insert(0, kept[0] - 1),
            _ => {}
        }
        kept
    }
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn text_frame(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

/// Starts it; subscribers and publishers use the same port.
fn serve(manner: Manner) -> u16 {
    hall::serve(Hall { manner, subscribers: Vec::new(), messages: Vec::new() }, talk)
}

/// A subscriber's request, or one publication after another.
fn talk(mut stream: TcpStream, hall: &Mutex<Hall>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    while let Some(head) = read_head(&mut reader) {
        let value = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        let target = head.split(' ').nth(1).expect("a target");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if head.starts_with("POST") {
            let length = value("Content-Length:").expect("a length").parse().expect("a number");
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            assert_eq!(value("Content-Type:").as_deref(), Some("text/plain"));
            let key = query.strip_prefix("key=").map(str::to_owned);
            let offset = hall.lock().unwrap().publish(key, String::from_utf8(body).expect("text"));
            let answer = format!("{{\"position\":\"e-{offset}\"}}");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(answer.as_bytes()).expect("answered");
            continue;
        }
        let mut hall = hall.lock().unwrap();
        let dialect = if path.starts_with("/sse/") {
            Dialect::Events
        } else if value("Sec-WebSocket-Protocol:").is_some() {
            Dialect::V1
        } else {
            Dialect::Plain
        };
        let answer = match value("Sec-WebSocket-Key:") {
            Some(key) => format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{}\r\n",
                derive_accept_key(key.as_bytes()),
                if dialect == Dialect::V1 { "Sec-WebSocket-Protocol: tidegate.v1\r\n" } else { "" }
            ),
            None => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .into()
            }
        };
        let mut bytes = answer.into_bytes();
        if dialect == Dialect::V1 {
            bytes.extend(text_frame("{\"type\":\"subscribed\",\"channel\":\"x\",\"position\":\"e-0\"}"));
        }
        hall.kept(query).into_iter().for_each(|offset| bytes.extend(hall.encoded(dialect, offset)));
        let _ = stream.write_all(&bytes);
        hall.subscribers.push((dialect, stream.try_clone().expect("a clone")));
    }
}

/// Runs the tool: exit code, report, and what was said.
fn load(name: &str, arguments: &[&str]) -> (i32, Value, String) {
    let file =
        std::env::temp_dir().join(format!("tidegate-loadtest-feeds-{name}-{}.json", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate-loadtest"))
        .args(arguments)
        .args(["-n", "20", "--timeout", "100s", "--quiet", "--json"])
        .arg(&file)
        .output()
        .expect("the binary runs");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "null".to_owned());
    let _ = std::fs::remove_file(&file);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().expect("not killed"), serde_json::from_str(&text).expect("valid JSON"), said)
}

const KINDS: [(&str, &str); 3] = [("plain", "ws"), ("v1", "ws"), ("sse", "sse")];

fn load_hall(manner: Manner, kind: (&str, &str), arguments: &[&str]) -> (i32, Value, String) {
    let port = serve(manner);
    let (url, admin) = (format!("ws://127.0.0.1:{port}/{}/x", kind.1), format!("http://127.0.0.1:{port}"));
    let to = ["--url", &url, "--admin", &admin, "--protocol", kind.0, "--http-mode", "pipeline", "--text"];
    load(&format!("{manner:?}-{}-{}", arguments[0], kind.0), &[arguments, &to[..]].concat())
}

const FANOUT: [&str; 7] = ["fanout", "--rounds", "1", "--round-seconds", "200ms", "--window", "3"];
const SNAPSHOT: [&str; 3] = ["snapshot", "--keys", "7"];
const RESUME: [&str; 3] = ["resume", "--messages", "30"];
const ONCE: [&str; 2] = ["--rounds", "1"];
const TWICE: [&str; 2] = ["--rounds", "2"];

#[test]
fn whoever_is_served_as_it_should_be_is_verified_in_every_dialect() {
    for kind in KINDS {
        let (code, report, said) = load_hall(Manner::Right, kind, &[&FANOUT[..], &["--keys", "5"]].concat());
        let counts = &report["verification"]["server"];
        assert_eq!((code, &counts["foreign"]), (0, &Value::from(0)), "{said}");
        assert!(counts["delivered"].as_u64() >= Some(20 * 9), "{said}");

        // Two rounds of seven keys and the message after them.
        let (code, report, said) = load_hall(Manner::Right, kind, &[&SNAPSHOT[..], &TWICE].concat());
        let counts = &report["verification"]["server"];
        assert_eq!((code, &counts["delivered"]), (0, &Value::from(2 * 20 * (7 + 1))), "{said}");

        let (code, report, said) = load_hall(Manner::Right, kind, &[&RESUME[..], &TWICE].concat());
        let counts = &report["verification"]["server"];
        let warm_up = 3;
        assert_eq!((code, &counts["delivered"]), (0, &Value::from(20 * (warm_up + 2 * (30 + 1)))), "{said}");
    }
}

#[test]
fn what_happens_to_one_subscriber_fails_the_run_in_every_dialect() {
    for kind in KINDS {
        for (manner, count) in
            [(Manner::Drops, "lost"), (Manner::Repeats, "duplicated"), (Manner::Changes, "corrupted")]
        {
            let (code, report, said) = load_hall(manner, kind, &FANOUT);
            let counts = &report["verification"]["server"];
            assert_eq!((code, &counts[count]), (1, &Value::from(1)), "{manner:?} {kind:?}: {said}");
        }
    }
}

#[test]
fn a_wrong_key_fails_the_run_where_subscribers_are_told_keys() {
    for (kind, expected) in [(KINDS[0], 0), (KINDS[1], 1)] {
        let (code, _, said) = load_hall(Manner::MixesUp, kind, &[&FANOUT[..], &["--keys", "5"]].concat());
        assert_eq!((code, said.contains("the key Some")), (expected, expected == 1), "{said}");
    }
}

#[test]
fn who_gets_less_or_more_than_what_was_kept_fails_the_run() {
    for kind in KINDS {
        for scenario in [&SNAPSHOT, &RESUME] {
            let (code, _, said) = load_hall(Manner::GivesMore, kind, &[&scenario[..], &ONCE].concat());
            assert!(code == 1 && said.contains("20 duplicated"), "{kind:?}: {said}");
        }
    }
    // The next message tells that one is missing, at the latest.
    let (code, _, said) = load_hall(Manner::KeepsBack, KINDS[0], &[&SNAPSHOT[..], &ONCE].concat());
    assert!(code == 1 && said.contains("20 deliveries did not come in time"), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let url = ["--url", "ws://127.0.0.1:1/x"];
    for arguments in [
        &["snapshot"][..],
        &["snapshot", "--keys", "5", "--key-order", "random"],
        &["resume", "--messages", "0"],
        &["fanout", "--keys", "5", "--publish", "ws"],
        &["fanout", "--keys", "5", "--publish-url", "http://127.0.0.1:1/"],
        &["fanout", "--versus-keys", "5"],
        &["fanout", "--compression", "--protocol", "v1"],
    ] {
        let (code, _, said) = load("refused", &[arguments, &url[..]].concat());
        assert_eq!(code, 64, "{arguments:?}: {said}");
    }
}

/// Arguments that reach the gateway with these options; `None` if it has not been built beside this tool.
fn arguments_for(path: &str, options: &str) -> Option<Vec<String>> {
    let gateway = gateway::program()?;
    let [port, admin] = gateway::free_ports();
    let (url, api) = (format!("ws://127.0.0.1:{port}/{path}/x"), format!("http://127.0.0.1:{admin}"));
    let spawn = format!(
        "{} serve --log-level error --shards 1 --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin} {options}",
        gateway.display()
    );
    Some(["--url", &url, "--admin", &api, "--spawn", &spawn].map(str::to_owned).to_vec())
}

fn load_gateway(name: &str, (kind, path): (&str, &str), options: &str, arguments: &[&str]) {
    let Some(to) = arguments_for(path, options) else { return };
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let (code, _, said) =
        load(&format!("{name}-{kind}"), &[arguments, &to[..], &["--protocol", kind]].concat());
    assert_eq!(code, 0, "{kind}: {said}");
}

#[test]
fn the_gateway_encodes_a_snapshot_once_for_all_who_join() {
    for (kind, encoded) in [(KINDS[0], "0"), (KINDS[1], "50"), (KINDS[2], "50")] {
        let assertion = format!("server_tidegate_encoded_total=={encoded}");
        let arguments = ["snapshot", "--keys", "50", "--rounds", "1", "--counter", "tidegate_encoded_total"];
        let arguments = [&arguments[..], &["--assert", &assertion]].concat();
        load_gateway("snapshot", kind, "--retain latest-per-key", &arguments);
    }
}

#[test]
fn the_gateway_gives_who_comes_back_exactly_what_was_missed() {
    for kind in KINDS {
        let arguments = ["resume", "--rounds", "2", "--counter", "tidegate_replayed_total"];
        let arguments = [&arguments[..], &["--assert", "server_tidegate_replayed_total==12000"]].concat();
        load_gateway("resume", kind, "--history-messages 1000", &arguments);
    }
}

#[test]
fn the_gateway_gives_slow_readers_the_newest_of_each_key_in_order() {
    let arguments =
        ["slow", "--keys", "10", "--stalled-share", "0.25", "--read-rate", "4KiB", "--rate", "2000"];
    let rounds = ["--window", "20", "--prefill", "0", "--rounds", "1", "--round-seconds", "2s"];
    let asserts = ["--assert", "server_held_messages>20", "--assert", "server_given_up==0"];
    let options = "--retain latest-per-key --on-lag conflate --conflate-enter 8KiB";
    for kind in &KINDS[..2] {
        load_gateway("slow", *kind, options, &[&arguments[..], &rounds, &asserts].concat());
    }
}
