//! Publishing over HTTP/1.1: tidegate's admin API, by raw requests on one keep-alive connection.
//!
//! Routes used: `POST /publish/{channel}` with the message as body, up to 64 of them pipelined in one
//! write; `POST /api/batch` with `[{"channel":…,"data":…},…]`, so that all messages arrive together.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::ValueEnum;

use super::{Publisher, describe};
use crate::failure::Failure;
use crate::feed::Batch;
use crate::wire::handshake::{head_length, header};
use crate::wire::url::{Url, percent_encoded};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer that we read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most requests that are written before their answers are read: a server that waits for us to read may stop reading.
const PIPELINED_MAX: usize = 64;
/// Most bytes of them; a larger request goes alone.
const PIPELINED_BYTES_MAX: usize = 256 * 1024;

/// How several messages are put into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HttpMode {
    /// One message: a POST of its own; several: one batch.
    Auto,
    /// A POST for each message, up to 64 in one write.
    Pipeline,
    /// Always one batch.
    Batch,
}

/// A keep-alive connection to the admin listener.
#[derive(Debug)]
pub struct HttpPublisher {
    admin: Url,
    /// The channel as a JSON string, quotes included.
    channel: String,
    mode: HttpMode,
    /// Where each message goes as it is.
    path: String,
    /// Whether there is a route for several messages.
    takes_batches: bool,
    /// Of a message that goes as it is.
    content_type: &'static str,
    /// Position of the newest message, where the server says so.
    position: Option<String>,
    stream: TcpStream,
    answers: Vec<u8>,
}

impl HttpPublisher {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable` if nothing listens there.
    pub fn connect(
        admin: Url,
        channel: String,
        mode: HttpMode,
        path: Option<String>,
        is_text: bool,
    ) -> Result<Self, Failure> {
        if admin.is_tls {
            let cure = "give an http:// address to publish to";
            return Err(Failure::Usage(format!(
                "https://{}: publishing over TLS is not built: {cure}",
                admin.host
            )));
        }
        let stream = connect(&admin).map_err(|error| {
            let cure = "give --admin http://host:port, or --publish ws or none";
            Failure::Unavailable(format!("cannot publish to http://{}: {error}; {cure}", admin.host))
        })?;
        let takes_batches = path.is_none();
        let path = path.unwrap_or_else(|| format!("/publish/{}", percent_encoded(&channel)));
        let channel = serde_json::Value::from(channel).to_string();
        let content_type = if is_text { "text/plain" } else { "application/octet-stream" };
        let (answers, position) = (Vec::new(), None);
        Ok(Self { admin, channel, mode, path, takes_batches, content_type, position, stream, answers })
    }

    /// The body of one request for a whole batch.
    fn batch_body(&self, batch: &Batch) -> Vec<u8> {
        let mut body = Vec::with_capacity(batch.bytes.len() + batch.count * (self.channel.len() + 30));
        let mut keys = batch.keys();
        for (index, payload) in batch.payloads().enumerate() {
            body.extend_from_slice(if index == 0 { b"[" } else { b"," });
            let key = keys.next().map_or_else(String::new, |key| format!("\"key\":\"{key}\","));
            body.extend_from_slice(format!("{{\"channel\":{},{key}\"data\":\"", self.channel).as_bytes());
            for &byte in payload {
                if matches!(byte, b'"' | b'\\') {
                    body.push(b'\\');
                }
                body.push(byte);
            }
            body.extend_from_slice(b"\"}");
        }
        body.push(b']');
        body
    }

    /// Writes requests and reads the answer to each.
    fn exchange(&mut self, requests: &[u8], count: usize) -> Result<(), Failure> {
        let failed =
            |error: io::Error| Failure::Unavailable(format!("cannot publish: {}", describe(&error, TIMEOUT)));
        if self.is_closed() {
            self.stream = connect(&self.admin).map_err(failed)?;
            self.answers.clear();
        }
        self.stream.write_all(requests).map_err(failed)?;
        (0..count).try_for_each(|_| self.read_answer())
    }

    fn push_request(&self, out: &mut Vec<u8>, path: &str, content_type: &str, body: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.admin.host,
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }

    /// Whether the server has closed the connection while it was idle.
    fn is_closed(&self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut byte));
        let restored = self.stream.set_nonblocking(false);
        restored.is_err() || !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    fn read_answer(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(length) = check_answer(&self.answers).map_err(Failure::Unavailable)? {
                if let Some(position) = position_in(&self.answers[..length]) {
                    self.position = Some(position);
                }
                self.answers.drain(..length);
                return Ok(());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(Failure::Unavailable("the server closed the publishing connection".into()));
                }
                Ok(length) => self.answers.extend_from_slice(&buffer[..length]),
                // Ctrl-C, for one: whoever waits for the answer is asked afterwards whether to go on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let cause = describe(&error, TIMEOUT);
                    return Err(Failure::Unavailable(format!("no answer to a publish request: {cause}")));
                }
            }
        }
    }
}

impl Publisher for HttpPublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let wants_batch = self.mode == HttpMode::Batch || (self.mode == HttpMode::Auto && batch.count > 1);
        let mut requests =
            Vec::with_capacity((batch.bytes.len() + batch.count * 200).min(PIPELINED_BYTES_MAX));
        if wants_batch && self.takes_batches {
            self.push_request(&mut requests, "/api/batch", "application/json", &self.batch_body(batch));
            return self.exchange(&requests, 1);
        }
        let (mut count, mut keys) = (0, batch.keys());
        for payload in batch.payloads() {
            let whole = requests.len();
            let path = keys.next().map(|key| format!("{}?key={key}", self.path));
            self.push_request(&mut requests, path.as_ref().unwrap_or(&self.path), self.content_type, payload);
            if count == PIPELINED_MAX || (count > 0 && requests.len() > PIPELINED_BYTES_MAX) {
                self.exchange(&requests[..whole], count)?;
                requests.drain(..whole);
                count = 0;
            }
            count += 1;
        }
        self.exchange(&requests, count)
    }

    fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }
}

fn connect(admin: &Url) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&admin.address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// The last position that an answer of tidegate names.
fn position_in(answer: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\"position\":\"";
    let at = answer.windows(NAME.len()).rposition(|window| window == NAME)? + NAME.len();
    let end = answer[at..].iter().position(|&byte| byte == b'"')?;
    String::from_utf8(answer[at..at + end].to_vec()).ok()
}

/// Length of the first complete answer, head and body, if its status is a success.
fn check_answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err("the answer to a publish request has no end".into());
    }
    let Some(head_bytes) = head_length(bytes) else { return Ok(None) };
    let head = &bytes[..head_bytes];
    let text =
        |part: &[u8]| String::from_utf8_lossy(&part[..part.len().min(300)]).trim().escape_debug().to_string();
    let status = head.get(9..12).unwrap_or_default();
    let length = match header(head, "content-length").map(std::str::from_utf8) {
        Some(Ok(length)) => {
            length.parse::<usize>().map_err(|_| "a publish answer has a wrong Content-Length".to_owned())?
        }
        _ if status == b"204" => 0,
        _ => return Err(format!("a publish answer has no Content-Length: '{}'", text(head))),
    };
    let Some(body) = bytes[head_bytes..].get(..length) else { return Ok(None) };
    if !status.starts_with(b"2") {
        let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        return Err(format!("the server refused a message: '{}' {}", text(line), text(body)));
    }
    Ok(Some(head_bytes + length))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;
    use crate::feed::Feed;
    use crate::protocol::Protocol;

    #[test]
    fn an_answer_ends_with_its_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(check_answer(&answer[..answer.len() - 1]), Ok(None));
        assert_eq!(check_answer(&[answer.as_slice(), b"HTTP"].concat()), Ok(Some(answer.len())));
    }

    #[test]
    fn a_refusal_is_told_with_status_and_body() {
        let refused = check_answer(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nfull").unwrap_err();
        assert!(refused.contains("503 Busy") && refused.contains("full"), "{refused}");
        assert!(check_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    /// A publisher, and the other end of its connection.
    fn publisher(channel: &str, mode: HttpMode) -> (HttpPublisher, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let admin = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
        let publisher =
            HttpPublisher::connect(admin, channel.to_owned(), mode, None, true).expect("connected");
        (publisher, listener.accept().expect("connected").0)
    }

    /// Answers requests one after the other, and returns them when the publisher has gone.
    fn answer(stream: TcpStream, answer: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let (mut writer, mut requests) = (stream, Vec::new());
        loop {
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).expect("UTF-8") == 0 {
                    return requests;
                }
            }
            for line in head.lines() {
                length = line
                    .strip_prefix("Content-Length: ")
                    .map_or(length, |value| value.parse().expect("a number"));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            requests.push((head.lines().next().unwrap_or_default().to_owned(), body));
            if writer.write_all(answer).is_err() {
                return requests;
            }
        }
    }

    #[test]
    fn a_channel_of_any_characters_is_written_as_path_and_as_json() {
        let channel = "a\"b c/\\d%\u{fc}\r\n";
        let batch = Feed::new(1, Protocol::plain()).append(2, 100, 0);
        let requests = |mode| {
            let (mut publisher, stream) = publisher(channel, mode);
            std::thread::scope(|scope| {
                let server = scope.spawn(|| answer(stream, b"HTTP/1.1 204 No Content\r\n\r\n"));
                publisher.publish(&batch).expect("answered");
                drop(publisher);
                server.join().expect("no fault")
            })
        };
        for (line, _) in requests(HttpMode::Pipeline) {
            assert_eq!(line, "POST /publish/a%22b%20c%2F%5Cd%25%C3%BC%0D%0A HTTP/1.1");
        }
        let (_, body) = &requests(HttpMode::Auto)[0];
        let sent: serde_json::Value = serde_json::from_slice(body).expect("valid JSON");
        assert_eq!((&sent[0]["channel"], &sent[1]["channel"]), (&channel.into(), &channel.into()));
    }

    #[test]
    fn a_server_that_stops_reading_until_its_answers_are_read_is_published_to() {
        let (mut publisher, stream) = publisher("x", HttpMode::Pipeline);
        // Requests and answers are each more than all buffers hold.
        for end in [&stream, &publisher.stream] {
            socket2::SockRef::from(end).set_send_buffer_size(4096).expect("a smaller buffer");
        }
        let answered = format!("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{:300}", "");
        let batch = Feed::new(1, Protocol::plain()).append(1024, 4096, 0);
        let requests = std::thread::scope(|scope| {
            let server = scope.spawn(|| answer(stream, answered.as_bytes()));
            publisher.publish(&batch).expect("published");
            drop(publisher);
            server.join().expect("no fault")
        });
        assert!(requests.iter().map(|(_, body)| body.as_slice()).eq(batch.payloads()), "in their order");
    }

    #[test]
    fn an_answer_that_does_not_come_is_told_in_words() {
        let (mut publisher, _stream) = publisher("x", HttpMode::Auto);
        publisher.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a limit");
        let error =
            publisher.publish(&Feed::new(1, Protocol::plain()).append(1, 100, 0)).expect_err("no answer");
        assert_eq!(error.to_string(), "no answer to a publish request: nothing moved for 20 s");
    }
}
