//! A client of a few lines that says exactly what a test wants said.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// Only a failing test waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A keep-alive connection.
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), input: Vec::new() }
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await
    }

    pub async fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Reply {
        self.send_post(path, headers, body).await;
        self.reply().await
    }

    pub async fn send_post(&mut self, path: &str, headers: &str, body: &[u8]) {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n");
        self.send(head.as_bytes()).await;
        self.send(body).await;
    }

    pub async fn exchange(&mut self, request: &[u8]) -> Reply {
        self.send(request).await;
        self.reply().await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.writable().await.unwrap();
            match self.stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    pub async fn reply(&mut self) -> Reply {
        let head_length = loop {
            if let Some(end) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await;
        };
        let head = String::from_utf8(self.input.drain(..head_length).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length: usize =
            reply.header("content-length").expect("every answer states its length").parse().unwrap();
        while self.input.len() < length {
            self.read_more().await;
        }
        reply.body = self.input.drain(..length).collect();
        reply
    }

    /// Whether the server has hung up, with nothing left to be read.
    pub fn has_ended(&self) -> bool {
        let socket = socket2::SockRef::from(&self.stream);
        matches!(socket.peek(&mut [std::mem::MaybeUninit::uninit()]), Ok(0))
    }

    async fn read_more(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let readable = tokio::time::timeout(PATIENCE, self.stream.readable()).await;
        readable.expect("an answer comes").unwrap();
        match self.stream.try_read(&mut buffer) {
            Ok(0) => panic!("the server hung up after {:?}", String::from_utf8_lossy(&self.input)),
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }
}
