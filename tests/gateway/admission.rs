//! Cases A1 and A23: clients that hold a connection and do not get to the end of a request head; case C5: very many at once.

use crate::kit::{Flock, Standing, connect};
use crate::support::http::upgrade_request;
use crate::support::{Gateway, Oracles, PATIENCE, RawClient, RawOptions, pause};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Between two bytes of every dribbler.
const DRIBBLE_GAP: Duration = Duration::from_millis(40);

/// A client that sends a head without end, a byte at a time.
struct Dribbler {
    stream: TcpStream,
    sent: usize,
    received: Vec<u8>,
    has_ended: bool,
}

impl Dribbler {
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow: ";

    fn connect(gateway: &Gateway) -> Dribbler {
        let stream = connect(gateway.clients);
        stream.set_nonblocking(true).expect("a connected socket");
        Dribbler { stream, sent: 0, received: Vec::new(), has_ended: false }
    }

    /// The next byte, and whatever has come back.
    fn step(&mut self) {
        let byte = Self::HEAD.get(self.sent).copied().unwrap_or(b'x');
        self.sent += usize::from(self.stream.write(&[byte]).is_ok());
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.has_ended = true,
                Ok(count) => {
                    self.received.extend_from_slice(&buffer[..count]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.has_ended = true,
            }
            return;
        }
    }
}

#[test]
fn a1_dribblers_are_gone_at_the_deadline_that_no_byte_extends() {
    const DRIBBLERS: usize = 300;
    let mut gateway = Gateway::start(&["--handshake-timeout", "3s"]);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut dribblers: Vec<Dribbler> = (0..DRIBBLERS).map(|_| Dribbler::connect(&gateway)).collect();

    let end = Instant::now() + PATIENCE;
    while dribblers.iter().any(|dribbler| !dribbler.has_ended) {
        assert!(Instant::now() < end, "some dribblers are still there");
        dribblers.iter_mut().filter(|dribbler| !dribbler.has_ended).for_each(Dribbler::step);
        gateway.join("/").close();
        pause(DRIBBLE_GAP);
    }

    for dribbler in &dribblers {
        let received = String::from_utf8_lossy(&dribbler.received);
        // Who goes on sending may be reset before it has read its answer.
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 408 "), "{received}");
    }
    let answered = dribblers.iter().filter(|dribbler| !dribbler.received.is_empty()).count();
    assert!(answered > DRIBBLERS / 2, "{answered} have read their answer");
    let late = standing.metric("tidegate_rejected_total", &["reason=\"head_timeout\""]);
    assert_eq!(late, DRIBBLERS as f64);
    drop((dribblers, standing));
    oracles.check(&mut gateway);
}

#[test]
fn a23_silent_sockets_take_no_place_from_those_who_join_and_stay() {
    const SILENT: usize = 600;
    const JOINERS: usize = 100;
    let options = ["--max-connections", "300", "--max-pending", "100", "--shards", "2"];
    let mut gateway = Gateway::start(&options);
    let oracles = Oracles::before(&gateway);
    let mut standing = Standing::open(&gateway);
    let mut early = Flock::join(&gateway, "/ws/feed", JOINERS / 2);

    // Twice as many as there may be connections.
    let silent: Vec<RawClient> = (0..SILENT).map(|_| gateway.raw()).collect();
    let mut late = Flock::join(&gateway, "/ws/feed", JOINERS / 2);

    standing.wait_metric("tidegate_connections_pending", &[], |pending| pending <= 100.0);
    let evicted = standing.closed("pending_evicted");
    assert!(evicted >= (SILENT - 100) as f64, "{evicted} were evicted");
    assert_eq!(standing.metric("tidegate_rejected_total", &["reason=\"conn_limit\""]), 0.0);
    assert_eq!(standing.publish_subscribers("feed"), JOINERS as u64);
    for flock in [&mut early, &mut late] {
        let seen = std::cell::Cell::new(0);
        let count = |_, _| seen.set(seen.get() + 1);
        flock.read_until("a message for each", count, || seen.get() == JOINERS / 2);
        assert_eq!(flock.connected(), JOINERS / 2);
    }
    drop((silent, early, late, standing));
    oracles.check(&mut gateway);
}

#[test]
fn c5_of_thousands_that_connect_at_once_each_is_served() {
    const THREADS: usize = 4;
    const CLIENTS: usize = 700;
    let mut gateway = Gateway::start(&["--shards", "2"]);
    let oracles = Oracles::before(&gateway);
    let address = gateway.clients;
    let storm = || {
        std::thread::spawn(move || {
            let request = upgrade_request("/", &address.to_string(), &[]);
            let mut clients: Vec<RawClient> = (0..CLIENTS)
                .map(|_| {
                    let mut client = RawClient::connect(address, RawOptions::default());
                    client.send(&request);
                    client
                })
                .collect();
            let served =
                clients.iter_mut().map(RawClient::response).filter(|answer| answer.status == 101).count();
            (served, clients)
        })
    };
    let storms: Vec<_> = (0..THREADS).map(|_| storm()).collect();
    let (served, clients): (Vec<usize>, Vec<_>) =
        storms.into_iter().map(|storm| storm.join().expect("each is answered")).unzip();
    assert_eq!(served, [CLIENTS; THREADS]);
    assert_eq!(gateway.metric("tidegate_connections_open"), (THREADS * CLIENTS + 1) as f64);
    drop(clients);
    oracles.check(&mut gateway);
}
