//! Clients of live feeds: readers of event streams, speakers of `tidegate.v1`, and an account of what one subscriber was given
//! of one channel.

use crate::kit::{Standing, offset_of};
use crate::support::{Gateway, Opcode, PATIENCE, RawClient, RawOptions, Response, WebSocketClient};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A receive window of a few kilobytes: whoever has it and does not read is blocked soon.
pub const TINY: RawOptions = RawOptions { receive_buffer: Some(4096), source: None };
/// The header line that asks for `tidegate.v1`.
pub const V1: &str = "Sec-WebSocket-Protocol: tidegate.v1";

/// One event as a reader of the HTML standard (§9.2.6) has it, or a field that came alone.
#[derive(Clone, Default, Debug, Eq, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: Option<String>,
    pub data: Option<String>,
    pub retry_ms: Option<u64>,
    pub is_comment: bool,
}

impl Event {
    /// Reads `chunk`, which must be one whole event.
    #[track_caller]
    fn parse(chunk: &[u8]) -> Event {
        let text = std::str::from_utf8(chunk).expect("events in UTF-8");
        let lines = text.strip_suffix("\n\n").unwrap_or_else(|| panic!("a chunk is a whole event: {text:?}"));
        let mut event = Event::default();
        for line in lines.split('\n') {
            assert!(!line.is_empty() && !line.contains('\r'), "one event a chunk: {text:?}");
            let (field, value) = line.split_once(':').expect("a colon in every line");
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" => event.is_comment = true,
                "id" => event.id = Some(value),
                "event" => event.kind = Some(value),
                "retry" => event.retry_ms = Some(value.parse().expect("milliseconds")),
                "data" => {
                    event.data = Some(event.data.map_or(value.clone(), |before| before + "\n" + &value));
                }
                other => panic!("no field `{other}`: {text:?}"),
            }
        }
        event
    }

    /// The JSON of an event `gw.NAME`, or of an envelope.
    #[track_caller]
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_else(|| panic!("data in {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("not JSON ({error}): {data}"))
    }
}

/// A reader of an event stream.
pub struct EventStream {
    pub raw: RawClient,
    pub head: Response,
}

impl EventStream {
    /// Asks for `target` and reads the head of the stream.
    #[track_caller]
    pub fn open(gateway: &Gateway, target: &str) -> EventStream {
        EventStream::open_with(gateway, target, RawOptions::default(), &[])
    }

    /// As [`EventStream::open`], with socket options and extra header lines.
    #[track_caller]
    pub fn open_with(gateway: &Gateway, target: &str, options: RawOptions, extra: &[&str]) -> EventStream {
        let mut raw = RawClient::connect(gateway.clients, options);
        raw.send(&stream_request("GET", target, gateway, extra));
        let head = raw.read_until("head of a stream", PATIENCE, stream_head);
        assert_eq!(head.status, 200, "{target}: {head:?}");
        EventStream { raw, head }
    }

    /// The next event; `None` when the body has ended.
    #[track_caller]
    pub fn next_or_end(&mut self) -> Option<Event> {
        let chunk = self.raw.read_until("chunk", PATIENCE, |bytes, _| {
            let line = crate::support::http::find(bytes, b"\r\n")?;
            let digits = std::str::from_utf8(&bytes[..line]).expect("a chunk size in ASCII");
            let start = line + 2;
            let end = start + usize::from_str_radix(digits, 16).expect("a chunk size");
            let chunk = bytes.get(start..end + 2)?;
            assert!(chunk.ends_with(b"\r\n"), "a chunk of another length than it says");
            Some((chunk[..end - start].to_vec(), end + 2))
        });
        (!chunk.is_empty()).then(|| Event::parse(&chunk))
    }

    /// The next event.
    #[track_caller]
    pub fn next_event(&mut self) -> Event {
        self.next_or_end().expect("an event before the end of the body")
    }

    /// Reads what a stream begins with: when to come back, the id, and a `gw.subscribed` for each of `channels`, whose JSON is
    /// given back behind the id.
    #[track_caller]
    pub fn next_beginning(&mut self, channels: usize) -> (String, Vec<Value>) {
        let retry_ms = self.next_event().retry_ms.expect("when to come back comes first");
        assert!((1000..5000).contains(&retry_ms), "{retry_ms}");
        let id = self.next_event().id.expect("the id comes second");
        let subscribed = (0..channels).map(|_| {
            let event = self.next_event();
            assert_eq!(event.kind.as_deref(), Some("gw.subscribed"), "{event:?}");
            event.json()
        });
        (id, subscribed.collect())
    }

    /// The next message or notice, as `tidegate.v1` would have it: `gw.` events as their JSON, messages of a stream of one
    /// channel as `position` and `text`. Ids and comments are passed over.
    #[track_caller]
    pub fn next_value(&mut self) -> Value {
        loop {
            let event = self.next_event();
            match (&event.kind, &event.id, &event.data) {
                (None, Some(id), Some(data)) => return json!({"position": id, "text": data}),
                (_, _, Some(_)) => return event.json(),
                _ => {}
            }
        }
    }
}

/// A request for an event stream.
pub fn stream_request(method: &str, target: &str, gateway: &Gateway, extra: &[&str]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", gateway.clients);
    for line in extra {
        request.push_str(line);
        request.push_str("\r\n");
    }
    (request + "\r\n").into_bytes()
}

/// The head of a response whose body is still to come, or a whole response that is no stream.
pub fn stream_head(bytes: &[u8], has_ended: bool) -> Option<(Response, usize)> {
    let length = crate::support::http::find(bytes, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..length]).expect("an ASCII head");
    let Some(at) = head.find("Transfer-Encoding: chunked\r\n") else {
        return Response::parse(bytes, has_ended);
    };
    let line = "Transfer-Encoding: chunked\r\n".len();
    let bodiless = [&head[..at], "X-Chunked: true\r\nContent-Length: 0\r\n", &head[at + line..]].concat();
    Response::parse(bodiless.as_bytes(), false).map(|(head, _)| (head, length))
}

/// A client of `tidegate.v1`.
pub struct Speaker {
    pub socket: WebSocketClient,
}

impl Speaker {
    /// Connects to `target`.
    #[track_caller]
    pub fn join(gateway: &Gateway, target: &str) -> Speaker {
        Speaker::join_with(gateway, target, RawOptions::default(), &[])
    }

    /// As [`Speaker::join`], with socket options and further header lines.
    #[track_caller]
    pub fn join_with(gateway: &Gateway, target: &str, options: RawOptions, extra: &[&str]) -> Speaker {
        let lines = [&[V1], extra].concat();
        Speaker { socket: WebSocketClient::join_with(gateway.clients, target, options, &lines) }
    }

    /// Sends a command.
    #[track_caller]
    pub fn say(&mut self, command: &Value) {
        self.socket.send_text(&command.to_string());
    }

    /// What comes next.
    #[track_caller]
    pub fn hear(&mut self) -> Value {
        let text = self.socket.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }

    /// Sends a command and gives what comes next, which is its reply if nothing else is under way.
    #[track_caller]
    pub fn ask(&mut self, command: &Value) -> Value {
        self.say(command);
        self.hear()
    }

    /// Subscribes to `channel` and gives the reply.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) -> Value {
        let reply = self.ask(&json!({"type": "subscribe", "id": 1, "channel": channel}));
        assert_eq!(
            (&reply["type"], &reply["id"], &reply["channel"]),
            (&json!("subscribed"), &json!(1), &json!(channel)),
            "{reply}"
        );
        reply
    }

    /// The next thing that is not of the type of messages: replies, notices. What came before it is given to `on_message`.
    #[track_caller]
    pub fn hear_reply(&mut self, mut on_message: impl FnMut(Value)) -> Value {
        loop {
            let value = self.hear();
            if value.get("type").is_some() {
                return value;
            }
            on_message(value);
        }
    }

    /// Leaves in order.
    #[track_caller]
    pub fn close(self) {
        self.socket.close();
    }
}

/// What one subscriber was given of one channel: each message follows the one before, or what is missing was told before. A
/// notice may be about several gaps behind it.
#[derive(Default)]
pub struct Account {
    last: u64,
    /// Messages that it was told of and has not come past.
    told: u64,
    pub received: u64,
    pub skipped: u64,
    pub conflated: u64,
    pub expired: u64,
    /// The text or the data of the newest message of each key.
    pub newest: BTreeMap<String, Value>,
}

impl std::fmt::Debug for Account {
    /// Without texts, which are long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Account { last, told, received, skipped, conflated, expired, newest } = self;
        let keys = newest.len();
        write!(
            f,
            "up to {last}: {received} received, {skipped} skipped, {conflated} conflated, {expired} expired, \
             {told} of them to come; {keys} keys"
        )
    }
}

impl Account {
    /// Of a subscriber whose next message follows offset `after`.
    pub fn after(after: u64) -> Account {
        Account { last: after, ..Account::default() }
    }

    /// Takes in a message or a notice.
    ///
    /// # Panics
    /// If a message is missing that the subscriber was not told of, comes twice or out of order.
    #[track_caller]
    pub fn note(&mut self, value: &Value) {
        if let Some(kind) = value["type"].as_str() {
            let count = value["count"].as_u64().unwrap_or_else(|| panic!("a notice, not {value}"));
            assert!(count > 0, "{value}");
            self.told += count;
            match kind {
                "skipped" => self.skipped += count,
                "conflated" => self.conflated += count,
                "expired" => self.expired += count,
                _ => panic!("{value}"),
            }
            return;
        }
        let offset = offset_of(&value["position"]);
        assert!(offset > self.last, "{offset} behind {}", self.last);
        let missing = offset - self.last - 1;
        assert!(missing <= self.told, "{offset} behind {} with {} told of", self.last, self.told);
        (self.last, self.told) = (offset, self.told - missing);
        self.received += 1;
        if let Some(key) = value["key"].as_str() {
            let what = if value.get("data").is_some() { &value["data"] } else { &value["text"] };
            self.newest.insert(key.to_owned(), what.clone());
        }
    }

    /// Every message that was given or told of.
    pub fn sum(&self) -> u64 {
        self.received + self.skipped + self.conflated + self.expired
    }
}

/// Publishes `text` under `key` and gives its offset.
#[track_caller]
pub fn publish_keyed(standing: &mut Standing, channel: &str, key: &str, text: &str) -> u64 {
    standing.publish_as(&format!("{channel}?key={key}"), "text/plain", text.as_bytes())
}

/// The text of message `number`, which fills a [`TINY`] window several times over, and whether all of it came can be seen.
pub fn large(number: usize) -> String {
    let mut text = format!("{number}:");
    while text.len() < 16 * 1024 {
        text.push_str(&format!("{number},"));
    }
    text
}

/// The frame of a close in a log of frames, as code and reason.
#[track_caller]
pub fn expect_close(socket: &mut WebSocketClient) -> (u16, String) {
    let frame = socket.next_frame();
    assert_eq!(frame.opcode, Opcode::Close, "{:?} {}", frame.opcode, frame.payload.escape_ascii());
    frame.close_code().expect("a code")
}
