//! Subscribers with compression against a server of our own that deflates as RFC 7692 has it, or not quite.

mod gateway;
mod hall;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Mutex;

use flate2::{Compress, Compression, FlushCompress};
use serde_json::Value;
use tungstenite::handshake::derive_accept_key;

use hall::{frame, read_head};

/// The publication at which something is planted, counted from 0.
const PLANTED_AT: usize = 4;

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As it should; every third message is plain.
    Right,
    /// It promises that each message stands by itself.
    WithoutTakeover,
    /// It promises so, and does not.
    BreaksThatPromise,
    /// The first subscriber does not get one message.
    Drops,
    /// The first subscriber gets another message of the same length.
    Changes,
    /// One message comes twice to the first subscriber.
    Repeats,
    /// Two messages come in the wrong order to the first subscriber.
    Swaps,
    /// A compressed ping.
    CompressesPing,
    /// It does not compress.
    Declines,
    /// It answers with a parameter that nobody knows.
    Invents,
}

struct Hall {
    manner: Manner,
    subscribers: Vec<TcpStream>,
    context: Compress,
    published: usize,
    last: Vec<u8>,
}

impl Hall {
    fn data(&mut self, message: &[u8]) -> Vec<u8> {
        if self.manner == Manner::WithoutTakeover {
            self.context.reset();
        }
        deflated(&mut self.context, message)
    }

    fn publish(&mut self, message: &[u8]) {
        let number = self.published;
        self.published += 1;
        let usual = if self.manner == Manner::Right && number % 3 == 2 {
            frame(0x81, message)
        } else {
            frame(0xC1, &self.data(message))
        };
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            let is_planted = index == 0 && number == PLANTED_AT;
            let bytes = match self.manner {
                Manner::Drops if is_planted => Vec::new(),
                // Once more, in a way that refers to nothing.
                Manner::Repeats if is_planted => [usual.clone(), alone(message)].concat(),
                Manner::Swaps if is_planted => Vec::new(),
                Manner::Swaps if index == 0 && number == PLANTED_AT + 1 => {
                    [alone(message), alone(&self.last)].concat()
                }
                Manner::Changes if is_planted => {
                    let mut changed = message.to_vec();
                    changed[30] ^= 1;
                    alone(&changed)
                }
                Manner::CompressesPing if is_planted => [usual.clone(), frame(0xC9, b"x")].concat(),
                _ => usual.clone(),
            };
            let _ = subscriber.write_all(&bytes);
        }
        self.last = message.to_vec();
    }
}

/// A message that refers to nothing.
fn alone(message: &[u8]) -> Vec<u8> {
    frame(0xC1, &deflated(&mut Compress::new(Compression::new(1), false), message))
}

fn deflated(context: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 1024);
    context.compress_vec(message, &mut out, FlushCompress::Sync).expect("there is room");
    out.truncate(out.len() - 4);
    out
}

/// Starts it; subscribers and publishers use the same port.
fn serve(manner: Manner) -> u16 {
    let context = Compress::new(Compression::new(1), false);
    let hall = Hall { manner, subscribers: Vec::new(), context, published: 0, last: Vec::new() };
    hall::serve(hall, talk)
}

/// A subscriber's upgrade, or one publication after another.
fn talk(mut stream: TcpStream, hall: &Mutex<Hall>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    while let Some(head) = read_head(&mut reader) {
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let Some(key) = value("Sec-WebSocket-Key:") {
            let offer = value("Sec-WebSocket-Extensions:").expect("an offer");
            assert_eq!(offer, "permessage-deflate; client_no_context_takeover; client_max_window_bits");
            let mut hall = hall.lock().expect("not poisoned");
            let agreed = match hall.manner {
                Manner::Declines => "",
                Manner::Invents => "Sec-WebSocket-Extensions: permessage-deflate; server_mood=good\r\n",
                Manner::WithoutTakeover | Manner::BreaksThatPromise => {
                    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
                }
                _ => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15\r\n",
            };
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{agreed}Sec-WebSocket-Accept: {}\r\n\r\n",
                derive_accept_key(key.as_bytes())
            );
            stream.write_all(answer.as_bytes()).expect("answered");
            hall.subscribers.push(stream);
            return;
        }
        let mut body = vec![0; value("Content-Length:").expect("a length").parse().expect("a number")];
        reader.read_exact(&mut body).expect("the body");
        hall.lock().expect("not poisoned").publish(&body);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("answered");
    }
}

fn loadtest(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_tidegate-loadtest");
    Command::new(program).args(arguments).args(["--timeout", "100s"]).output().expect("the binary runs")
}

/// A run against such a server: its exit code, its report, and what it said.
fn run(name: &str, manner: Manner, arguments: &[&str]) -> (i32, Value, String) {
    let port = serve(manner);
    let file = std::env::temp_dir().join(format!("tidegate-loadtest-{name}-{}.json", std::process::id()));
    let (url, publish) = (format!("ws://127.0.0.1:{port}/x"), format!("http://127.0.0.1:{port}/pub"));
    let usual = [
        "latency",
        "-n",
        "20",
        "--rate",
        "100",
        "--rounds",
        "1",
        "--round-seconds",
        "300ms",
        "--compression",
    ];
    let to =
        ["--payload", "json", "--size", "200", "--url", &url, "--publish-url", &publish, "--quiet", "--json"];
    let output = loadtest(&[&usual[..], arguments, &to, &[file.to_str().expect("a path in UTF-8")]].concat());
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "null".to_owned());
    let _ = std::fs::remove_file(&file);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code().expect("not killed"), serde_json::from_str(&text).expect("valid JSON"), said)
}

#[test]
fn compressed_and_plain_messages_are_verified_and_each_is_inflated_once() {
    let (code, report, said) = run("right", Manner::Right, &["--assert", "compressed>60%"]);
    assert_eq!(code, 0, "{said}");
    let counts = &report["verification"]["server"];
    let number = |name: &str| counts[name].as_u64().expect("a number");
    // The warm-up of three, one in front of the round, and thirty.
    assert_eq!((number("delivered"), number("lost")), (34 * 20, 0), "{counts}");
    assert_eq!((number("compressed"), number("inflated")), (23 * 20, 23), "{counts}");
    let series = &report["series"][0];
    assert!(series["wire_bytes_per_delivery"].as_f64() < Some(170.0), "{series}");
    assert!((0.6..0.7).contains(&series["compressed_share"].as_f64().expect("a number")), "{series}");
}

#[test]
fn messages_that_stand_by_themselves_are_read_where_that_was_agreed() {
    let (code, report, said) = run("alone", Manner::WithoutTakeover, &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(report["verification"]["server"]["inflated"], 34);
    let (code, _, said) = run("promise", Manner::BreaksThatPromise, &[]);
    assert!(code != 0 && said.contains("refers to what was never sent"), "{code}: {said}");
}

#[test]
fn what_is_wrong_inside_of_compressed_messages_is_caught() {
    let (code, report, said) = run("changed", Manner::Changes, &[]);
    assert!(code == 1 && report["verification"]["server"]["corrupted"].as_u64() >= Some(1), "{said}");
    let (code, report, said) = run("repeated", Manner::Repeats, &[]);
    assert_eq!((code, &report["verification"]["server"]["duplicated"]), (1, &Value::from(1)), "{said}");
    let (code, report, said) = run("swapped", Manner::Swaps, &[]);
    assert_eq!((code, &report["verification"]["server"]["reordered"]), (1, &Value::from(1)), "{said}");
    let (code, report, said) = run("dropped", Manner::Drops, &[]);
    let counts = &report["verification"]["server"];
    let wrong = ["lost", "corrupted", "closed"].map(|name| counts[name].as_u64().unwrap_or_default());
    assert!(code == 1 && wrong.iter().sum::<u64>() >= 1, "{said}");
    let (code, _, said) = run("ping", Manner::CompressesPing, &[]);
    assert!(code == 1 && said.contains("a reserved bit is set"), "{said}");
}

#[test]
fn a_server_that_does_not_agree_is_refused() {
    for (name, manner, cause) in
        [("declines", Manner::Declines, "did not agree"), ("invents", Manner::Invents, "does not know")]
    {
        let (code, _, said) = run(name, manner, &[]);
        assert!(code == 69 && said.contains(cause), "{code}: {said}");
    }
    let output = loadtest(&["fanout", "--limit", "--sse", "--compression", "--url", "http://127.0.0.1:1/x"]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let output = loadtest(&["fanout", "--limit", "--payload", "json", "--size", "84"]);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
}

#[test]
fn ticks_of_the_gateway_take_less_than_half_of_the_wire() {
    let Some(gateway) = gateway::program() else { return };
    let [port, admin, port_plain, admin_plain] = gateway::free_ports();
    let serve = |port: u16, admin: u16, more: &str| {
        let program = gateway.display();
        format!(
            "{program} serve --log-level warn --shards 1 --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin} {more}"
        )
    };
    let output = loadtest(&[
        "fanout",
        "-n",
        "50",
        "--payload",
        "json",
        "--size",
        "85",
        "--window",
        "4",
        "--rounds",
        "2",
        "--round-seconds",
        "300ms",
        "--url",
        &format!("ws://127.0.0.1:{port}/ws/x"),
        "--spawn",
        &serve(port, admin, "--compression on"),
        "--admin",
        &format!("http://127.0.0.1:{admin}"),
        "--compression",
        "--versus-url",
        &format!("ws://127.0.0.1:{port_plain}/ws/x"),
        "--versus-spawn",
        &serve(port_plain, admin_plain, ""),
        "--versus-admin",
        &format!("http://127.0.0.1:{admin_plain}"),
        "--assert",
        "wire_per_delivery<0.5*versus",
        "--assert",
        "compressed>90%",
        "--assert",
        "rss_per_connection<versus+64KiB",
        "--quiet",
    ]);
    assert!(output.status.success(), "{output:?}");
}
