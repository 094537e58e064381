//! Publishing through a WebSocket connection: for servers that relay what a client sends, as chat
//! servers do. A thread reads what comes back on it, answers pings and forgets the rest.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Publisher;
use crate::failure::Failure;
use crate::feed::Batch;
use crate::protocol::{Item, Kind, Protocol};
use crate::wire::frame::{self, Event, FrameReader};
use crate::wire::handshake;
use crate::wire::url::Url;

const TIMEOUT: Duration = Duration::from_secs(20);

/// The publishing connection.
#[derive(Debug)]
pub struct WsPublisher {
    stream: Arc<Mutex<TcpStream>>,
    protocol: Protocol,
    opcode: u8,
    next_key: u32,
}

impl WsPublisher {
    /// Connects, upgrades and starts the reading thread. Messages are sent as text or binary.
    ///
    /// # Errors
    /// `Unavailable` with the cause.
    pub fn connect(url: &Url, protocol: Protocol, opcode: u8) -> Result<Self, Failure> {
        if url.is_tls || protocol.kind == Kind::Sse {
            let cure = "give --publish http, with --publish-url if the server is not tidegate";
            return Err(Failure::Usage(format!("--publish ws needs a ws:// URL and no --sse: {cure}")));
        }
        let failed =
            |error: io::Error| Failure::Unavailable(format!("cannot publish to ws://{url}: {error}"));
        let stream = TcpStream::connect_timeout(&url.address, TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(TIMEOUT))).map_err(failed)?;
        let early = upgrade(&stream, url, protocol.subprotocol()).map_err(failed)?;
        let greeting = protocol.introduce(u64::from(std::process::id()) << 32);
        if !greeting.is_empty() {
            let hello = frame::client_frame(frame::BINARY, &greeting, 0x5EED_0001);
            (&stream).write_all(&hello).map_err(failed)?;
        }
        stream.set_read_timeout(None).map_err(failed)?;
        let reading = stream.try_clone().map_err(failed)?;
        let stream = Arc::new(Mutex::new(stream));
        let answering = Arc::clone(&stream);
        let thread = std::thread::Builder::new().name("ws-publisher".into());
        let spoken = protocol.clone();
        thread.spawn(move || drain(reading, early, &answering, &spoken)).map_err(failed)?;
        Ok(Self { stream, protocol, opcode, next_key: 0x5EED_1234 })
    }
}

impl Publisher for WsPublisher {
    fn publish(&mut self, batch: &Batch) -> Result<(), Failure> {
        let mut bytes = Vec::with_capacity(batch.bytes.len() + batch.count * 14);
        for payload in batch.payloads() {
            self.next_key = self.next_key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let message = self.protocol.publish(payload);
            bytes.extend_from_slice(&frame::client_frame(self.opcode, &message, self.next_key));
        }
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&bytes).map_err(|error| {
            Failure::Unavailable(format!(
                "the publishing connection broke: {error}; does the server relay here?"
            ))
        })
    }
}

impl Drop for WsPublisher {
    fn drop(&mut self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Returns the bytes that came after the answer.
fn upgrade(mut stream: &TcpStream, url: &Url, subprotocol: Option<&str>) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let key = handshake::key_from(crate::sys::monotonic_ns());
    stream.write_all(handshake::request(url, &key, subprotocol).as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("the server closed the connection instead of upgrading it"));
        }
        answer.extend_from_slice(&buffer[..length]);
        let checked = handshake::check_response(&answer, &key, subprotocol);
        if let Some(head_bytes) = checked.map_err(io::Error::other)? {
            return Ok(answer.split_off(head_bytes));
        }
    }
}

fn drain(mut stream: TcpStream, early: Vec<u8>, answering: &Mutex<TcpStream>, protocol: &Protocol) {
    let mut reader = FrameReader::default();
    let mut buffer = vec![0; 256 * 1024];
    let (mut bytes, mut pending) = (early, Vec::new());
    loop {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let Ok((taken, event)) = reader.read(rest) else { return };
            rest = &rest[taken..];
            let answer = match event {
                Some(Event::Ping(payload)) => frame::client_frame(frame::PONG, &payload, 0x5EED_4321),
                Some(Event::Message(_, message)) if protocol.is_broker() => {
                    pending.extend_from_slice(&message);
                    let Some(reply) = answer_broker(&mut pending, protocol) else { return };
                    reply
                }
                _ => continue,
            };
            let mut stream = answering.lock().unwrap_or_else(PoisonError::into_inner);
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => bytes = buffer[..length].to_vec(),
        }
    }
}

/// What a broker wants back for what it said; `None` if it refuses.
fn answer_broker(pending: &mut Vec<u8>, protocol: &Protocol) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    while let Some((taken, item)) = protocol.take(pending).ok()? {
        match item {
            Item::Reply(reply) => {
                answer.extend_from_slice(&frame::client_frame(frame::BINARY, reply, 0x5EED_4322));
            }
            Item::Refused(cause) => {
                eprintln!("tidegate-loadtest: the publisher is refused: {cause}");
                return None;
            }
            _ => {}
        }
        pending.drain(..taken);
    }
    Some(answer)
}
