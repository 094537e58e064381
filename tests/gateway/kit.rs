//! What several families of cases share beyond `support`: an admin connection that stays open, many clients read by
//! one thread, and descriptor limits set from outside.

use crate::support::http::{SAMPLE_ACCEPT, upgrade_request};
use crate::support::{
    Frame, Gateway, Opcode, PATIENCE, RawClient, RawOptions, Response, masked_frame, pause, wait_for,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at sockets that had nothing.
const LOOK_GAP: Duration = Duration::from_millis(2);

/// Sets its flag however the scope is left, so that its threads end.
pub struct EndOnDrop<'a>(pub &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An admin connection that is kept: it needs no new descriptor, and its publishes follow each other.
pub struct Standing {
    raw: RawClient,
    host: String,
}

impl Standing {
    /// Connects to the admin listener of `gateway`.
    #[track_caller]
    pub fn open(gateway: &Gateway) -> Standing {
        Standing::connect(gateway.admin)
    }

    /// Connects to the admin listener at `address`.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Standing {
        let mut standing =
            Standing { raw: RawClient::connect(address, RawOptions::default()), host: address.to_string() };
        // The gateway has it once it has answered.
        assert_eq!(standing.get("/livez").status, 200);
        standing
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.raw.send(request.as_bytes());
        self.raw.response()
    }

    /// Sends `POST path` with a body and does not wait for the answer.
    #[track_caller]
    pub fn send_post(&mut self, path: &str, content_type: &str, body: &[u8]) {
        self.raw.send(&self.post_request(path, content_type, body));
    }

    fn post_request(&self, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    /// The next answer.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.raw.response()
    }

    /// Publishes `text` on `channel` and gives the answer; none if the gateway ends the connection instead.
    #[track_caller]
    pub fn publish_unless_ended(&mut self, channel: &str, text: &str) -> Option<Response> {
        let request = self.post_request(&format!("/publish/{channel}"), "text/plain", text.as_bytes());
        self.raw.try_send(&request).ok()?;
        self.raw.response_unless_ended()
    }

    /// Publishes `text` on `channel` and gives the offset it was accepted at.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, text: &str) -> u64 {
        self.publish_as(channel, "text/plain", text.as_bytes())
    }

    /// Publishes `body` on `channel` and gives the offset it was accepted at.
    #[track_caller]
    pub fn publish_as(&mut self, channel: &str, content_type: &str, body: &[u8]) -> u64 {
        self.send_post(&format!("/publish/{channel}"), content_type, body);
        let reply = self.response();
        assert_eq!(reply.status, 200, "{reply:?}");
        offset_of(&reply.json()["position"])
    }

    /// Publishes on `channel` and gives the number of subscribers that the reply states.
    #[track_caller]
    pub fn publish_subscribers(&mut self, channel: &str) -> u64 {
        self.send_post(&format!("/publish/{channel}"), "text/plain", b"counted");
        self.response().json()["subscribers"].as_u64().expect("a number of subscribers")
    }

    /// The sum of a metric over the samples whose line holds every one of `labels`, as in `reason="eof"`.
    #[track_caller]
    pub fn metric(&mut self, name: &str, labels: &[&str]) -> f64 {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200, "{reply:?}");
        let text = reply.text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        let values: Vec<f64> = samples
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse().ok()))
            .map_while(|v| v)
            .collect();
        assert!(!values.is_empty(), "no metric `{name}` with {labels:?} among\n{text}");
        values.iter().sum()
    }

    /// Connections that ended for `reason`, whoever ended them.
    #[track_caller]
    pub fn closed(&mut self, reason: &str) -> f64 {
        self.metric("tidegate_closed_total", &[&format!("reason=\"{reason}\"")])
    }

    /// Turns of all shards.
    #[track_caller]
    pub fn turns(&mut self) -> f64 {
        self.metric("tidegate_turns_total", &[])
    }

    /// Waits until a metric satisfies `is_it`.
    #[track_caller]
    pub fn wait_metric(&mut self, name: &str, labels: &[&str], is_it: impl Fn(f64) -> bool) -> f64 {
        let mut last = f64::NAN;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            last = self.metric(name, labels);
            if is_it(last) {
                return last;
            }
            pause(Duration::from_millis(5));
        }
        panic!("`{name}` {labels:?} is still {last} after {PATIENCE:?}");
    }

    /// Turns of all shards during one second in which the test does nothing else, its two looks included.
    #[track_caller]
    pub fn turns_in_a_quiet_second(&mut self) -> f64 {
        let before = self.turns();
        pause(Duration::from_secs(1));
        self.turns() - before
    }
}

/// The offset of an `epoch-offset`.
#[track_caller]
pub fn offset_of(position: &serde_json::Value) -> u64 {
    let text = position.as_str().unwrap_or_else(|| panic!("a position as text, not {position}"));
    let offset = text.rsplit_once('-').and_then(|(_, offset)| offset.parse().ok());
    offset.unwrap_or_else(|| panic!("`{text}` is no epoch-offset"))
}

/// Sets the soft limit of descriptors of a running gateway, from outside.
#[track_caller]
pub fn limit_descriptors(gateway: &Gateway, soft: usize) {
    let arguments = [format!("--pid={}", gateway.id()), format!("--nofile={soft}:")];
    let set = Command::new("prlimit").args(&arguments).output();
    let set = set.unwrap_or_else(|error| panic!("prlimit (of util-linux) is needed: {error}"));
    assert!(set.status.success(), "prlimit {arguments:?}: {}", String::from_utf8_lossy(&set.stderr));
}

/// Many upgraded clients that one thread reads, by turns and without blocking.
pub struct Flock {
    members: Vec<Member>,
}

/// One client of a [`Flock`].
struct Member {
    stream: TcpStream,
    received: Vec<u8>,
    has_ended: bool,
}

impl Flock {
    /// `count` clients that have joined at `target`.
    #[track_caller]
    pub fn join(gateway: &Gateway, target: &str, count: usize) -> Flock {
        let targets: Vec<&str> = std::iter::repeat_n(target, count).collect();
        Flock::join_each(gateway, &targets)
    }

    /// One client for each of `targets`, in their order.
    #[track_caller]
    pub fn join_each(gateway: &Gateway, targets: &[&str]) -> Flock {
        let members = targets.iter().map(|target| Member::join(gateway.clients, target)).collect();
        Flock { members }
    }

    /// Clients that have not ended.
    pub fn connected(&self) -> usize {
        self.members.iter().filter(|member| !member.has_ended).count()
    }

    /// Reads what is there and gives every whole frame to `on_frame`, with the number of its client. Pings are
    /// answered, and a close is. Says whether anything was read.
    #[track_caller]
    pub fn read(&mut self, mut on_frame: impl FnMut(usize, Frame)) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let mut has_read = false;
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.has_ended {
                continue;
            }
            has_read |= member.read(&mut buffer);
            while let Some((frame, taken)) = Frame::parse(&member.received) {
                member.received.drain(..taken);
                member.answer(&frame);
                on_frame(index, frame);
            }
        }
        has_read
    }

    /// Reads on until `is_done`, which is asked after every round.
    ///
    /// # Panics
    /// With `what` if that is not so within [`PATIENCE`].
    #[track_caller]
    pub fn read_until(
        &mut self,
        what: &str,
        mut on_frame: impl FnMut(usize, Frame),
        mut is_done: impl FnMut() -> bool,
    ) {
        let end = Instant::now() + PATIENCE;
        while !is_done() {
            assert!(Instant::now() < end, "still waiting after {PATIENCE:?}: {what}");
            if !self.read(&mut on_frame) {
                pause(LOOK_GAP);
            }
        }
    }
}

impl Member {
    #[track_caller]
    fn join(address: SocketAddr, target: &str) -> Member {
        let mut stream = connect(address);
        stream.write_all(&upgrade_request(target, &address.to_string(), &[])).expect("a new connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time above zero");
        let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
        let taken = loop {
            if let Some((response, taken)) = Response::parse(&received, false) {
                assert_eq!(response.status, 101, "{target}: {response:?}");
                assert_eq!(response.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
                break taken;
            }
            let count = stream.read(&mut buffer).expect("an answer to the upgrade");
            assert!(count > 0, "the gateway ended the connection before its answer");
            received.extend_from_slice(&buffer[..count]);
        };
        received.drain(..taken);
        stream.set_nonblocking(true).expect("a connected socket");
        Member { stream, received, has_ended: false }
    }

    fn read(&mut self, buffer: &mut [u8]) -> bool {
        match self.stream.read(buffer) {
            Ok(0) => self.has_ended = true,
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.has_ended = true,
        }
        false
    }

    /// Small frames on a socket that is read: they always find room.
    fn answer(&mut self, frame: &Frame) {
        let opcode = match frame.opcode {
            Opcode::Ping => Opcode::Pong,
            Opcode::Close => Opcode::Close,
            _ => return,
        };
        let payload = if opcode == Opcode::Close {
            &frame.payload[..2.min(frame.payload.len())]
        } else {
            &frame.payload
        };
        let _ = self.stream.write_all(&masked_frame(opcode, payload));
    }
}

/// A plain connection whose bytes the test pushes itself.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = wait_for("a connection", PATIENCE, || TcpStream::connect(address).ok());
    stream.set_nodelay(true).expect("a connected socket");
    stream
}

/// Sends `bytes` and the end of the stream so that the last segment carries both, as far as they fit one.
#[track_caller]
pub fn send_with_end(stream: &mut TcpStream, bytes: &[u8]) {
    socket2::SockRef::from(&*stream).set_tcp_cork(true).expect("a connected socket");
    stream.write_all(bytes).expect("an open connection");
    stream.shutdown(Shutdown::Write).expect("an open connection");
}

/// The text of a frame that must be a whole text message.
#[track_caller]
pub fn text_of(frame: Frame) -> String {
    assert!(frame.fin && frame.rsv == 0 && frame.opcode == Opcode::Text, "{frame:?}");
    String::from_utf8(frame.payload).expect("text in UTF-8")
}
