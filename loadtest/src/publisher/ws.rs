//! Publishing through a WebSocket connection: for servers that relay what a client sends, as chat
//! servers do. A thread reads what comes back on it, answers pings and forgets the rest.
//!
//! The thread never waits for anything but bytes to read: a server may read no more of us until we have read of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Publisher, describe};
use crate::failure::Failure;
use crate::feed::Batch;
use crate::protocol::{Item, Kind, Protocol};
use crate::wire::frame::{self, Event, FrameReader};
use crate::wire::handshake;
use crate::wire::url::Url;

const TIMEOUT: Duration = Duration::from_secs(20);
/// How often the reading thread looks up: whether it should end, and whether there is room for an answer.
const LOOK_UP_EVERY: Duration = Duration::from_millis(100);
/// Time in which the reading thread finds out what is wrong with a connection that broke while it was written to.
const FAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes of answers that wait for room.
const OWED_BYTES_MAX: usize = 64 * 1024;

/// The publishing connection.
#[derive(Debug)]
pub struct WsPublisher {
    shared: Arc<Shared>,
    reading: Option<JoinHandle<()>>,
    protocol: Protocol,
    opcode: u8,
    next_key: u32,
    has_failed: bool,
}

/// What the publisher and its reading thread have in common.
#[derive(Debug)]
struct Shared {
    /// Held while something is written, so that frames stay whole. Never waited for by the reading thread.
    stream: Mutex<TcpStream>,
    /// Answers to be written before anything else: the first may be under way. Locked after the stream.
    owed: Mutex<Vec<u8>>,
    /// Why the reading thread has ended.
    fault: Mutex<Option<String>>,
    /// Whether it is to end.
    is_over: AtomicBool,
}

/// What the reading thread has of its own.
struct Reading {
    stream: TcpStream,
    shared: Arc<Shared>,
    protocol: Protocol,
    reader: FrameReader,
    /// Bytes of a broker's protocol that are not complete.
    pending: Vec<u8>,
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
        let failed = |error: io::Error| {
            let cause = describe(&error, TIMEOUT);
            Failure::Unavailable(format!("cannot publish to ws://{url}: {cause}"))
        };
        let stream = TcpStream::connect_timeout(&url.address, TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(TIMEOUT))).map_err(failed)?;
        let early = upgrade(&stream, url, protocol.subprotocol()).map_err(failed)?;
        let greeting = protocol.introduce(u64::from(std::process::id()) << 32);
        if !greeting.is_empty() {
            let hello = frame::client_frame(frame::BINARY, &greeting, 0x5EED_0001);
            (&stream).write_all(&hello).map_err(failed)?;
        }
        stream.set_read_timeout(Some(LOOK_UP_EVERY)).map_err(failed)?;
        let own = stream.try_clone().map_err(failed)?;
        let (stream, owed, fault) = (Mutex::new(stream), Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { stream, owed, fault, is_over: AtomicBool::new(false) });
        let reading = Reading {
            stream: own,
            shared: Arc::clone(&shared),
            protocol: protocol.clone(),
            reader: FrameReader::default(),
            pending: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("ws-publisher".into());
        let reading = Some(thread.spawn(move || reading.run(&early)).map_err(failed)?);
        Ok(Self { shared, reading, protocol, opcode, next_key: 0x5EED_1234, has_failed: false })
    }

    /// Waits for what the reading thread has to say of a connection that is broken.
    fn fault(&self) -> Option<String> {
        let deadline = Instant::now() + FAULT_TIMEOUT;
        while self.reading.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        lock(&self.shared.fault).take()
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = lock(&self.shared.stream);
        let owed = std::mem::take(&mut *lock(&self.shared.owed));
        stream.write_all(&owed).and_then(|()| stream.write_all(bytes))
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
        let ended = lock(&self.shared.fault).is_some();
        let written = if ended { Err(ErrorKind::NotConnected.into()) } else { self.write(&bytes) };
        written.map_err(|error| {
            self.has_failed = true;
            let has_broken = !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            // Who closed a connection may have said why.
            let said = if has_broken { self.fault() } else { None };
            let cause = said.unwrap_or_else(|| describe(&error, TIMEOUT));
            Failure::Unavailable(format!(
                "the publishing connection broke: {cause}; does the server relay here?"
            ))
        })
    }
}

impl Drop for WsPublisher {
    fn drop(&mut self) {
        let fault = lock(&self.shared.fault).take();
        if let Some(cause) = fault.filter(|_| !self.has_failed) {
            eprintln!("tidegate-loadtest: the publishing connection broke: {cause}");
        }
        // Copies of the descriptor may be left in the tables of the workers.
        let _ = lock(&self.shared.stream).shutdown(Shutdown::Both);
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.reading.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Writes what is owed as far as there is room for it, unless the publisher is writing. A broken connection is
    /// told when it is read.
    fn pay(&self) {
        let Ok(stream) = self.stream.try_lock() else { return };
        let mut owed = lock(&self.owed);
        if !owed.is_empty()
            && let Ok(sent) = SockRef::from(&*stream).send_with_flags(&owed, libc::MSG_DONTWAIT)
        {
            owed.drain(..sent);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the bytes that came after the answer.
fn upgrade(mut stream: &TcpStream, url: &Url, subprotocol: Option<&str>) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + TIMEOUT;
    let key = handshake::key_from(crate::sys::monotonic_ns());
    stream.write_all(handshake::request(url, &key, subprotocol, None).as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other("the answer to the upgrade has no end"));
        }
        stream.set_read_timeout(Some(left))?;
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::Error::other("the server closed the connection instead of upgrading it"));
        }
        answer.extend_from_slice(&buffer[..length]);
        let checked = handshake::check_response(&answer, &key, subprotocol, false);
        if let Some(head_bytes) = checked.map_err(io::Error::other)? {
            return Ok(answer.split_off(head_bytes));
        }
    }
}

impl Reading {
    /// Reads until the connection ends, and leaves word why.
    fn run(mut self, early: &[u8]) {
        let cause = self.read(early).err();
        *lock(&self.shared.fault) = cause;
        // A publisher who is writing need not wait for its time limit.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn read(&mut self, early: &[u8]) -> Result<(), String> {
        let mut buffer = vec![0; 256 * 1024];
        self.take(early)?;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the server closed it without a close frame".into()),
                Ok(length) => self.take(&buffer[..length])?,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error.to_string()),
            }
            self.shared.pay();
        }
        Ok(())
    }

    /// Takes what came apart, and owes the answers.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let read = self.reader.read(bytes);
            let (taken, event) =
                read.map_err(|violation| format!("the server broke RFC 6455: {}", violation.0))?;
            bytes = &bytes[taken..];
            match event {
                Some(Event::Ping(payload)) => self.owe(frame::PONG, &payload)?,
                Some(Event::Message(_, message)) if self.protocol.is_broker() => {
                    self.pending.extend_from_slice(&message);
                    self.take_items()?;
                }
                Some(Event::Close(code, reason)) => {
                    let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                    return Err(format!("the server closed it: {code} {}", reason.escape_debug()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes apart what a broker said.
    fn take_items(&mut self) -> Result<(), String> {
        let mut used = 0;
        while let Some((taken, item)) = self.protocol.take(&self.pending[used..])? {
            match item {
                Item::Reply(reply) => self.owe(frame::BINARY, reply)?,
                Item::Refused(cause) => return Err(cause),
                Item::Message(_) | Item::Joined | Item::Other => {}
            }
            used += taken;
        }
        self.pending.drain(..used);
        Ok(())
    }

    fn owe(&self, opcode: u8, payload: &[u8]) -> Result<(), String> {
        let owe = |answer: &[u8]| {
            let mut owed = lock(&self.shared.owed);
            owed.extend_from_slice(answer);
            owed.len() > OWED_BYTES_MAX
        };
        if owe(&frame::client_frame(opcode, payload, 0x5EED_4321)) {
            self.shared.pay();
            if owe(&[]) {
                return Err("the server does not read the answers to its pings".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tungstenite::protocol::CloseFrame;
    use tungstenite::{Message, WebSocket};

    use super::*;
    use crate::feed::Feed;

    /// A publisher, and the server's end of its connection.
    fn pair(kind: Kind) -> (WsPublisher, WebSocket<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url: Url = format!("ws://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
        let accepting = std::thread::spawn(move || {
            let stream = listener.accept().expect("connected").0;
            stream.set_read_timeout(Some(TIMEOUT)).expect("a limit");
            tungstenite::accept(stream).expect("an upgrade")
        });
        let protocol = Protocol::new(kind, "x".to_owned()).expect("a channel");
        let publisher = WsPublisher::connect(&url, protocol, frame::BINARY).expect("connected");
        (publisher, accepting.join().expect("no fault"))
    }

    fn batch(count: usize, size: usize) -> Arc<Batch> {
        Feed::new(1, Protocol::plain()).append(count, size, 0)
    }

    fn pings(count: usize) -> Vec<u8> {
        let mut ping = Vec::new();
        frame::push_server_header(&mut ping, frame::PING, 125);
        ping.extend_from_slice(&[b'x'; 125]);
        ping.repeat(count)
    }

    /// Sends messages until there is no room for more, and owes the rest of the last one. Returns how many.
    fn fill(shared: &Shared) -> usize {
        let stream = lock(&shared.stream);
        let message = frame::client_frame(frame::BINARY, &[0; 32 * 1024], 1);
        let mut count = 0;
        loop {
            count += 1;
            let sent = SockRef::from(&*stream).send_with_flags(&message, libc::MSG_DONTWAIT).unwrap_or(0);
            if sent < message.len() {
                lock(&shared.owed).extend_from_slice(&message[sent..]);
                return count;
            }
        }
    }

    /// Publishes until it is told that this has no use.
    fn fault_of(mut publisher: WsPublisher) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(Instant::now() < deadline, "nobody tells what is wrong");
            if let Err(failure) = publisher.publish(&batch(1, 100)) {
                return failure.to_string();
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_server_that_reads_nothing_until_it_is_read_from_is_published_to() {
        let (mut publisher, mut server) = pair(Kind::Plain);
        let batch = batch(64, 256 * 1024);
        let published = Arc::clone(&batch);
        let publishing = std::thread::spawn(move || publisher.publish(&published).map(|()| publisher));
        // It writes now, and cannot end before we read.
        server.get_ref().peek(&mut [0]).expect("something is published");
        let mut echo = Vec::new();
        frame::push_server_header(&mut echo, frame::PING, 2);
        echo.extend_from_slice(b"hi");
        echo.extend_from_slice(&batch.bytes);
        server.get_mut().write_all(&echo).expect("the publisher reads");
        let (mut messages, mut pongs) = (0, 0);
        while messages < batch.count || pongs == 0 {
            match server.read().expect("well-formed frames") {
                Message::Binary(message) => {
                    assert!(batch.payloads().nth(messages) == Some(&message[..]), "message {messages}");
                    messages += 1;
                }
                Message::Pong(payload) => pongs += usize::from(&payload[..] == b"hi"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((messages, pongs), (batch.count, 1));
        publishing.join().expect("no fault").expect("published");
    }

    #[test]
    fn why_a_server_ended_the_connection_is_told() {
        let (publisher, mut server) = pair(Kind::Plain);
        let frame = CloseFrame { code: 1008.into(), reason: "no relay".into() };
        server.close(Some(frame)).and_then(|()| server.flush()).expect("sent");
        let told = fault_of(publisher);
        assert!(told.contains("the server closed it: 1008 no relay"), "{told}");

        let (publisher, mut server) = pair(Kind::Plain);
        server.get_mut().write_all(&[0xC2, 0]).expect("sent");
        let told = fault_of(publisher);
        assert!(told.contains("RFC 6455: a reserved bit"), "{told}");
    }

    #[test]
    fn what_a_broker_has_against_the_publisher_is_told() {
        for (said, cause) in [
            ("-ERR 'Authorization Violation'\r\n", "Authorization Violation"),
            ("HELLO\r\n", "no NATS server"),
        ] {
            let (publisher, mut server) = pair(Kind::Nats);
            server.send(Message::binary(said.as_bytes().to_vec())).expect("sent");
            let told = fault_of(publisher);
            assert!(told.contains(cause), "{told}");
        }
    }

    #[test]
    fn a_server_that_pings_and_does_not_read_is_told() {
        let (publisher, mut server) = pair(Kind::Plain);
        let pings = pings(500);
        let server_end = server.get_ref().try_clone().expect("a copy");
        let pinging = std::thread::spawn(move || while server.get_mut().write_all(&pings).is_ok() {});
        let told = fault_of(publisher);
        let _ = server_end.shutdown(Shutdown::Both);
        pinging.join().expect("ends with its connection");
        assert!(told.contains("does not read the answers to its pings"), "{told}");
    }

    #[test]
    fn answers_that_do_not_fit_are_no_reason_not_to_read() {
        let (publisher, mut server) = pair(Kind::Plain);
        let filling = fill(&publisher.shared);
        server.get_ref().set_write_timeout(Some(TIMEOUT / 2)).expect("a limit");
        let mut said = pings(200);
        said.extend_from_slice(&batch(64, 256 * 1024).bytes);
        server.get_mut().write_all(&said).expect("the publisher reads");
        for _ in 0..filling {
            assert!(matches!(server.read(), Ok(Message::Binary(_))));
        }
        for _ in 0..200 {
            assert!(matches!(server.read(), Ok(Message::Pong(payload)) if payload[..] == [b'x'; 125]));
        }
    }

    #[test]
    fn the_reading_thread_ends_with_the_publisher() {
        for _ in 0..30 {
            let (publisher, _server) = pair(Kind::Plain);
            let shared = Arc::downgrade(&publisher.shared);
            drop(publisher);
            assert!(shared.upgrade().is_none());
        }
    }
}
