//! The cases A of docs/GUARANTEES.md, by their ids; every request takes the way that the shard takes.

mod extensions;
mod heads;
mod oracle;
mod origins;
mod pages;
mod parameters;
mod routes;
mod scans;
mod streams;
mod upgrades;

use crate::config::{ChannelRule, Config};
use crate::edge::{Compression, Decision, Edge, HeadScanner, Scan};
use crate::model::{Dialect, Pattern, RejectReason, SubscribeRequest};

/// The key of RFC 6455 §1.3, whose accept key is printed there.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An edge with default channel `lobby`, which relays.
fn edge() -> Edge {
    let mut config = Config::default();
    let mut rule = ChannelRule::new(Pattern::parse("lobby").unwrap());
    rule.relay = Some(true);
    config.channels.rules.push(rule);
    Edge::new(&config)
}

/// What becomes of the first request in `bytes`: scanned, then decided with whatever follows as early bytes.
fn decide(bytes: &[u8]) -> Decision {
    decide_by(&edge(), bytes)
}

/// The same of another edge.
fn decide_by(edge: &Edge, bytes: &[u8]) -> Decision {
    match HeadScanner::new().scan(bytes) {
        Ok(Scan::Complete(head_bytes)) => edge.decide(&bytes[..head_bytes], bytes.len() > head_bytes, false),
        Ok(Scan::NeedMore) => panic!("no complete head in {:?}", String::from_utf8_lossy(bytes)),
        Err(reason) => {
            Decision::Respond { bytes: edge.refusal(reason, None), closes: true, reject: Some(reason) }
        }
    }
}

/// The outcome of a request in short, and a check that the answer on the wire says the same.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Joins(Vec<String>),
    Served,
    Refused(RejectReason),
}

fn outcome(bytes: &[u8]) -> Outcome {
    outcome_by(&edge(), bytes)
}

/// The same of another edge.
fn outcome_by(edge: &Edge, bytes: &[u8]) -> Outcome {
    let said = String::from_utf8_lossy(bytes);
    match decide_by(edge, bytes) {
        Decision::Join { response, requests, dialect, .. } => {
            let first = if dialect.is_event_stream() { "200 OK" } else { "101 Switching Protocols" };
            assert!(response.starts_with(format!("HTTP/1.1 {first}\r\n").as_bytes()), "{said:?}");
            Outcome::Joins(requests.iter().map(|request| request.channel.to_string()).collect())
        }
        Decision::Respond { bytes, closes, reject } => {
            let answer = Answer::of(&bytes);
            assert_eq!(
                answer.header("connection").is_some_and(|value| value.contains("close")),
                closes,
                "{said:?}"
            );
            assert_eq!(answer.status, reject.map_or(200, RejectReason::status), "{said:?}");
            if let (Some(reason), false) = (reject, said.trim_start().starts_with("HEAD ")) {
                assert_eq!(answer.body, format!("{}: {}\n", reason.token(), reason.cure()), "{said:?}");
            }
            reject.map_or(Outcome::Served, Outcome::Refused)
        }
    }
}

/// What joins.
struct Join {
    response: Vec<u8>,
    requests: Vec<SubscribeRequest>,
    patterns: Vec<Pattern>,
    dialect: Dialect,
    compression: Compression,
}

fn joined(bytes: &[u8]) -> Join {
    joined_by(&edge(), bytes)
}

/// The same of another edge.
fn joined_by(edge: &Edge, bytes: &[u8]) -> Join {
    match decide_by(edge, bytes) {
        Decision::Join { response, requests, patterns, dialect, compression } => {
            Join { response, requests, patterns, dialect, compression }
        }
        Decision::Respond { reject, .. } => panic!("{reject:?}: {}", String::from_utf8_lossy(bytes)),
    }
}

/// A response, taken apart.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self { status, headers: lines.map(|line| header(line).unwrap()).collect(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "{name} twice");
        first
    }
}

/// A plain GET of `target` with further header `lines`, each ended by CR LF.
fn get(target: &str, lines: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: gate.example\r\n{lines}\r\n").into_bytes()
}

/// A valid upgrade request of `target` with further header `lines`, each ended by CR LF.
fn upgrade(target: &str, lines: &str) -> Vec<u8> {
    let offer = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    get(target, &format!("{offer}Sec-WebSocket-Key: {KEY}\r\n{lines}"))
}

/// What a valid upgrade of `/` leads to.
fn joins_lobby() -> Outcome {
    Outcome::Joins(vec!["lobby".to_owned()])
}
