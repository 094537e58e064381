//! Publishing over HTTP/1.1: tidegate's admin API, by raw requests on one keep-alive connection.
//!
//! Routes used: `POST /publish/{channel}` with the message as body, several of them pipelined in one
//! write; `POST /api/batch` with `[{"channel":…,"data":…},…]`, so that all messages arrive together.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use clap::ValueEnum;

use super::Publisher;
use crate::failure::Failure;
use crate::feed::Batch;
use crate::wire::handshake::{head_length, header};
use crate::wire::url::Url;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer that we read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How several messages are put into requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HttpMode {
    /// One message: a POST of its own; several: one batch.
    Auto,
    /// A POST for each message, all in one write.
    Pipeline,
    /// Always one batch.
    Batch,
}

/// A keep-alive connection to the admin listener.
#[derive(Debug)]
pub struct HttpPublisher {
    admin: Url,
    channel: String,
    mode: HttpMode,
    /// Where each message goes as it is, if not to tidegate's routes.
    path: Option<String>,
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
        Ok(Self { admin, channel, mode, path, stream, answers: Vec::new() })
    }

    /// The requests for a batch, and how many they are.
    fn requests(&self, batch: &Batch) -> (Vec<u8>, usize) {
        let mut out = Vec::with_capacity(batch.bytes.len() + batch.count * 200);
        let wants_batch = self.mode == HttpMode::Batch || (self.mode == HttpMode::Auto && batch.count > 1);
        if wants_batch && self.path.is_none() {
            let mut body = Vec::with_capacity(batch.bytes.len() + batch.count * 40);
            for (index, payload) in batch.payloads().enumerate() {
                body.extend_from_slice(if index == 0 { b"[" } else { b"," });
                body.extend_from_slice(format!("{{\"channel\":\"{}\",\"data\":\"", self.channel).as_bytes());
                body.extend_from_slice(payload);
                body.extend_from_slice(b"\"}");
            }
            body.push(b']');
            self.push_request(&mut out, "/api/batch", "application/json", &body);
            return (out, 1);
        }
        let path = self.path.clone().unwrap_or_else(|| format!("/publish/{}", self.channel));
        for payload in batch.payloads() {
            self.push_request(&mut out, &path, "application/octet-stream", payload);
        }
        (out, batch.count)
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
                self.answers.drain(..length);
                return Ok(());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(Failure::Unavailable("the server closed the publishing connection".into()));
                }
                Ok(length) => self.answers.extend_from_slice(&buffer[..length]),
                Err(error) => {
                    return Err(Failure::Unavailable(format!("no answer to a publish request: {error}")));
                }
            }
        }
    }
}

impl Publisher for HttpPublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let (requests, count) = self.requests(batch);
        let failed = |error: io::Error| Failure::Unavailable(format!("cannot publish: {error}"));
        if self.is_closed() {
            self.stream = connect(&self.admin).map_err(failed)?;
            self.answers.clear();
        }
        self.stream.write_all(&requests).map_err(failed)?;
        (0..count).try_for_each(|_| self.read_answer())
    }
}

fn connect(admin: &Url) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&admin.address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
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
    use super::*;

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
}
