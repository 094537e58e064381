//! One hostile connection: what it sends and when, and how it ends.

use std::io::{ErrorKind, Read, Write};

use mio::net::TcpStream;

use crate::wire::frame::{Event, FrameReader};
use crate::wire::handshake::{HEAD_BYTES_MAX, head_length};

/// A fragment of one byte: header, mask and byte.
const FRAGMENT_BYTES: usize = 7;
/// The first of a text message, and one that goes on with it; neither is the last.
const FIRST_FRAGMENT: [u8; FRAGMENT_BYTES] = [0x01, 0x81, 1, 2, 3, 4, b'x' ^ 1];
const NEXT_FRAGMENT: [u8; FRAGMENT_BYTES] = [0x00, 0x81, 1, 2, 3, 4, b'x' ^ 1];
/// Fragments that are handed over in one write.
const FRAGMENTS_AT_ONCE: usize = 4096;
/// A binary frame that announces 2^63 + 1 bytes: the length whose first bit must be 0 (RFC 6455 §5.2).
const IMPOSSIBLE_LENGTH: [u8; 14] = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4];

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Says nothing.
    Silent,
    /// Sends a request head that never ends, a byte a second.
    Dribble,
    /// Upgrades, and announces an impossible length.
    Length,
    /// Upgrades, and sends a message in so many fragments of one byte that does not end.
    Fragments(u32),
    /// Upgrades, and stays.
    Upgrade,
    /// Asks for an upgrade from a page of another host.
    Foreign,
}

impl Script {
    fn upgrades(self) -> bool {
        !matches!(self, Self::Silent | Self::Dribble)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Attacker {
    stream: TcpStream,
    script: Script,
    phase: Phase,
    /// Bytes that were sent in this phase.
    sent: usize,
    answer: Vec<u8>,
    reader: FrameReader,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The request is on its way.
    Asking,
    /// The answer is.
    Waiting,
    /// Upgraded.
    Acting,
}

impl Attacker {
    /// A connection that is being opened.
    pub fn new(stream: TcpStream, script: Script) -> Self {
        let (answer, reader) = (Vec::new(), FrameReader::default());
        Self { stream, script, phase: Phase::Asking, sent: 0, answer, reader }
    }

    /// Its socket.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether it has had a 101.
    pub fn is_upgraded(&self) -> bool {
        self.phase == Phase::Acting
    }

    /// What it does.
    pub fn script(&self) -> Script {
        self.script
    }

    /// Sends what it may. What goes wrong shows when it reads.
    pub fn send(&mut self, request: &[u8], fragments: &[u8]) {
        loop {
            let piece = match (self.phase, self.script) {
                (Phase::Asking, script) if script.upgrades() => &request[self.sent..],
                (Phase::Acting, Script::Length) => &IMPOSSIBLE_LENGTH[self.sent..],
                (Phase::Acting, Script::Fragments(count)) => {
                    let left = count as usize * FRAGMENT_BYTES - self.sent;
                    match self.sent {
                        0..FRAGMENT_BYTES => &FIRST_FRAGMENT[self.sent..],
                        sent => {
                            &fragments[sent % FRAGMENT_BYTES..][..left.min(fragments.len() - FRAGMENT_BYTES)]
                        }
                    }
                }
                _ => return,
            };
            if piece.is_empty() {
                if self.phase == Phase::Asking {
                    (self.phase, self.sent) = (Phase::Waiting, 0);
                }
                return;
            }
            match self.stream.write(piece) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Sends the next byte of a head that never ends.
    pub fn dribble(&mut self, request: &[u8]) {
        let byte = request.get(self.sent).copied().filter(|_| self.sent + 2 < request.len()).unwrap_or(b'x');
        self.sent += self.stream.write(&[byte]).unwrap_or(0);
    }

    /// Reads what is there; how it ended, if it has.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<String> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Some("eof".into()),
                Ok(length) => {
                    let outcome = self.take(&buffer[..length]);
                    if outcome.is_some() {
                        return outcome;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return None,
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionRefused | ErrorKind::TimedOut => return Some("unconnected".into()),
                    _ => return Some("reset".into()),
                },
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Option<String> {
        if self.phase != Phase::Acting {
            let earlier = self.answer.len();
            self.answer.extend_from_slice(bytes);
            let Some(length) = head_length(&self.answer) else {
                return (self.answer.len() > HEAD_BYTES_MAX).then(|| "unreadable".to_owned());
            };
            let status = std::str::from_utf8(self.answer.get(9..12)?).unwrap_or("unreadable").to_owned();
            if status != "101" {
                return Some(status);
            }
            bytes = &bytes[length - earlier..];
            (self.phase, self.sent, self.answer) = (Phase::Acting, 0, Vec::new());
        }
        while !bytes.is_empty() {
            let Ok((taken, event)) = self.reader.read(bytes) else { return Some("unreadable".into()) };
            if let Some(Event::Close(code, _)) = event {
                // 1005 stands for none (RFC 6455 §7.1.5).
                return Some(code.unwrap_or(1005).to_string());
            }
            bytes = &bytes[taken..];
        }
        None
    }
}

/// Fragments behind the first, to be sent from any byte of one.
pub fn fragments() -> Vec<u8> {
    NEXT_FRAGMENT.repeat(FRAGMENTS_AT_ONCE + 1)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Std};
    use std::time::Duration;

    use super::*;

    fn pair(script: Script) -> (Attacker, Std) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Std::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (Attacker::new(TcpStream::from_std(client), script), server)
    }

    /// Upgrades it.
    fn acting(script: Script) -> (Attacker, Std) {
        let (mut attacker, mut server) = pair(script);
        attacker.send(b"GET", &fragments());
        attacker.send(b"GET", &fragments());
        server.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(attacker.take(b"HTTP/1.1 101 Switching\r\n"), None);
        assert!(!attacker.is_upgraded());
        assert_eq!(attacker.take(b"\r\n\x81\x01x"), None);
        assert!(attacker.is_upgraded());
        (attacker, server)
    }

    #[test]
    fn fragments_are_one_message_that_does_not_end() {
        const COUNT: u32 = 10_000;
        let (mut attacker, mut server) = acting(Script::Fragments(COUNT));
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; COUNT as usize * FRAGMENT_BYTES];
            server.read_exact(&mut bytes).expect("all of them");
            server.set_nonblocking(true).unwrap();
            assert!(server.read(&mut [0]).is_err(), "and not one more");
            bytes
        });
        while !reader.is_finished() {
            attacker.send(b"", &fragments());
            std::thread::yield_now();
        }
        let bytes = reader.join().unwrap();
        assert_eq!(bytes[..FRAGMENT_BYTES], FIRST_FRAGMENT);
        assert!(bytes[FRAGMENT_BYTES..].chunks_exact(FRAGMENT_BYTES).all(|chunk| chunk == NEXT_FRAGMENT));
    }

    #[test]
    fn a_length_is_announced_once() {
        let (mut attacker, mut server) = acting(Script::Length);
        attacker.send(b"", &[]);
        attacker.send(b"", &[]);
        drop(attacker);
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, IMPOSSIBLE_LENGTH);
        assert_eq!(u64::from_be_bytes(bytes[2..10].try_into().unwrap()), (1 << 63) + 1);
    }

    #[test]
    fn a_dribbled_head_never_ends() {
        let (mut attacker, mut server) = pair(Script::Dribble);
        attacker.send(b"GET / HTTP/1.1\r\n\r\n", &[]);
        (0..30).for_each(|_| attacker.dribble(b"GET / HTTP/1.1\r\n\r\n"));
        drop(attacker);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("GET / HTTP/1.1\r\n{}", "x".repeat(14)));
    }

    #[test]
    fn each_end_has_its_name() {
        for (answer, outcome) in [
            (&b"HTTP/1.1 408 Request Timeout\r\n\r\n"[..], "408"),
            (b"", "eof"),
            (b"HTTP/1.1 101 S\r\n\r\n\x88\x02\x03\xf1", "1009"),
            (b"HTTP/1.1 101 S\r\n\r\n\x88\x00", "1005"),
            (b"HTTP/1.1 101 S\r\n\r\n\x87\x00", "unreadable"),
        ] {
            let (mut attacker, mut server) = pair(Script::Upgrade);
            server.write_all(answer).unwrap();
            drop(server);
            let mut ended = None;
            while ended.is_none() {
                ended = attacker.read(&mut [0; 1024]);
            }
            assert_eq!(ended.as_deref(), Some(outcome));
        }
    }
}
