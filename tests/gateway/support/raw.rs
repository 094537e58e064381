//! A client down to single bytes: sends, pauses, dribbles, half-closes, resets, and reads as slowly as a test wants.

use super::http::Response;
use super::wait::{PATIENCE, pause};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What is set on the socket before it connects.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawOptions {
    /// Receive buffer asked of the kernel, in bytes; it doubles the number and has a floor of about 2 KiB.
    pub receive_buffer: Option<usize>,
    /// Address to connect from: any of 127.0.0.0/8.
    pub source: Option<IpAddr>,
}

/// How the gateway ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionEnd {
    /// In order, with FIN.
    Fin,
    /// With RST.
    Reset,
}

/// A TCP connection to the gateway and the bytes that came from it and were not taken yet.
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
    end: Option<ConnectionEnd>,
}

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// If the gateway does not accept within [`PATIENCE`].
    #[track_caller]
    pub fn connect(address: SocketAddr, options: RawOptions) -> RawClient {
        RawClient::try_connect(address, options)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects, or says why not.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn try_connect(address: SocketAddr, options: RawOptions) -> std::io::Result<RawClient> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(bytes) = options.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = options.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        Ok(RawClient { stream: socket.into(), received: Vec::new(), end: None })
    }

    /// The address that the gateway sees.
    pub fn local_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Sends all of `bytes`.
    ///
    /// # Panics
    /// If the gateway has closed; see [`RawClient::try_send`] for tests in which it may have.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("send {} bytes: {error}", bytes.len()));
    }

    /// Sends all of `bytes`, or says why not.
    ///
    /// # Errors
    /// What the operating system says, a send that is stuck for [`PATIENCE`] included.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(PATIENCE))?;
        self.stream.write_all(bytes)
    }

    /// Sends `bytes` in pieces of `piece` bytes with `gap` between them. Stops quietly if the gateway closes.
    pub fn dribble(&mut self, bytes: &[u8], piece: usize, gap: Duration) {
        for part in bytes.chunks(piece) {
            if self.try_send(part).is_err() {
                return;
            }
            pause(gap);
        }
    }

    /// Says that nothing more will be sent; reading goes on.
    pub fn half_close(&mut self) {
        // Fails only if the gateway has already reset the connection, which the test finds out by reading.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with RST: linger zero, then close.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a connected socket");
    }

    /// Bytes received and not taken yet.
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Reads until `take` finds what it looks for at the start of the received bytes, and removes what it took.
    ///
    /// `take` is told whether the connection has ended. It returns the value and its length in bytes.
    ///
    /// # Panics
    /// With `what` if that does not happen within `deadline`, or the connection ends first.
    #[track_caller]
    pub fn read_until<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut take: impl FnMut(&[u8], bool) -> Option<(T, usize)>,
    ) -> T {
        let limit = Instant::now() + deadline;
        loop {
            if let Some((value, taken)) = take(&self.received, self.end.is_some()) {
                self.received.drain(..taken);
                return value;
            }
            if let Some(end) = self.end {
                panic!("the gateway ended the connection ({end:?}) before {what}; received {}", self.shown());
            }
            assert!(self.read_some(limit), "no {what} within {deadline:?}; received {}", self.shown());
        }
    }

    /// Reads one HTTP response.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.read_until("response", PATIENCE, Response::parse)
    }

    /// Reads one HTTP response; none if the gateway ends the connection instead.
    #[track_caller]
    pub fn response_unless_ended(&mut self) -> Option<Response> {
        self.read_until("response or end", PATIENCE, |received, has_ended| {
            let response =
                Response::parse(received, has_ended).map(|(response, taken)| (Some(response), taken));
            response.or_else(|| has_ended.then_some((None, 0)))
        })
    }

    /// Reads on, dropping what comes, until the gateway ends the connection.
    ///
    /// # Panics
    /// If it has not done so within `deadline`.
    #[track_caller]
    pub fn wait_end(&mut self, deadline: Duration) -> ConnectionEnd {
        let limit = Instant::now() + deadline;
        loop {
            if let Some(end) = self.end {
                return end;
            }
            assert!(self.read_some(limit), "the gateway keeps the connection open after {deadline:?}");
            self.received.clear();
        }
    }

    /// Reads until the other side ends the connection, and counts the HTTP responses in what came.
    ///
    /// What follows a 101 belongs to another protocol and counts for nothing.
    ///
    /// # Panics
    /// If the connection has not ended within `deadline`.
    #[track_caller]
    pub fn count_responses(&mut self, deadline: Duration) -> usize {
        let (limit, mut count) = (Instant::now() + deadline, 0);
        loop {
            while let Some((response, taken)) = Response::parse(&self.received, self.end.is_some()) {
                self.received.drain(..taken);
                count += usize::from(response.status != 100);
                if response.status == 101 {
                    self.wait_end(deadline);
                    return count;
                }
                if self.received.is_empty() {
                    break;
                }
            }
            if self.end.is_some() {
                return count;
            }
            assert!(self.read_some(limit), "open after {deadline:?}; received {}", self.shown());
        }
    }

    /// True if nothing more has come, and the connection has not ended, after `time`.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        let (before, limit) = (self.received.len(), Instant::now() + time);
        while self.end.is_none() && self.received.len() == before && self.read_some(limit) {}
        self.end.is_none() && self.received.len() == before
    }

    /// Takes at most `count_max` bytes off the socket into the received bytes: a slow reader's sip.
    ///
    /// Returns how many came; 0 at the end, and if nothing did within [`PATIENCE`].
    pub fn sip(&mut self, count_max: usize) -> usize {
        let before = self.received.len();
        self.read_at_most(count_max, Instant::now() + PATIENCE);
        self.received.len() - before
    }

    /// Takes what has come and was not read yet into the received bytes, without waiting. Returns how much that was.
    pub fn sip_what_is_there(&mut self) -> usize {
        let before = self.received.len();
        self.stream.set_nonblocking(true).expect("a connected socket");
        while self.read_some(Instant::now() + PATIENCE) && self.end.is_none() {}
        self.stream.set_nonblocking(false).expect("a connected socket");
        self.received.len() - before
    }

    /// One read before `limit`; false if the time ran out.
    fn read_some(&mut self, limit: Instant) -> bool {
        self.read_at_most(64 * 1024, limit)
    }

    fn read_at_most(&mut self, count_max: usize, limit: Instant) -> bool {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        self.stream.set_read_timeout(Some(left)).expect("a time above zero");
        let before = self.received.len();
        self.received.resize(before + count_max, 0);
        let outcome = self.stream.read(&mut self.received[before..]);
        self.received.truncate(before + outcome.as_ref().copied().unwrap_or(0));
        match outcome {
            Ok(0) => self.end = Some(ConnectionEnd::Fin),
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return false,
                ErrorKind::Interrupted => {}
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => self.end = Some(ConnectionEnd::Reset),
                other => panic!("read: {other:?}"),
            },
        }
        true
    }

    fn shown(&self) -> String {
        let start = &self.received[..self.received.len().min(200)];
        format!("{} bytes: {}", self.received.len(), start.escape_ascii())
    }
}
