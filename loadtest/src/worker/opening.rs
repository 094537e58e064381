//! Opening connections: source address, `connect`, and the upgrade request.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};
use rustls::pki_types::ServerName;
use socket2::{Domain, Socket, Type};

use super::Worker;
use super::connection::{Connection, Detour, Handshake, Joining};
use super::receive::Ended;
use super::stream::Stream;
use crate::feed::Position;
use crate::protocol::Kind;
use crate::sources::Sources;
use crate::sys;
use crate::target::Target;
use crate::wire::deflate;
use crate::wire::handshake;
use crate::wire::sse;
use crate::wire::url::Url;

/// How long a refused connection waits before it is tried again.
pub const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Receive buffer of a connection that is never read: small, so that it fills soon.
const STALLED_RECEIVE_BUFFER_BYTES: usize = 4096;

/// How subscribers begin who do not begin with the next message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// What the URL asks for: `name=value`.
    pub query: String,
    /// The message that they must receive first, by its sequence.
    pub sequence: u64,
}

/// An order to open connections, carried out over many sweeps.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Index of the target.
    pub target: u16,
    /// Connections that are still to be opened.
    pub left: usize,
    /// Whether they are never to be read.
    pub stalled: bool,
    /// Number of the next connection, unique in the run: picks URL and source address.
    pub number: usize,
    /// Distance between this worker's numbers.
    pub stride: usize,
    /// Whether messages are being published meanwhile.
    pub midway: bool,
    /// Whether who is refused tries again after a moment.
    pub again: bool,
    /// How many of this worker may be in their handshake at once.
    pub in_flight_max: usize,
    /// Time between two, nanoseconds; 0: as fast as it goes.
    pub pace_ns: u64,
    /// When the next is due, nanoseconds of `CLOCK_MONOTONIC`.
    pub due_ns: u64,
    /// Where they begin; holds for all connections to the target until the next order.
    pub begin: Option<Arc<Begin>>,
}

impl Opening {
    /// The same connection once more; it was not upgraded yet, so its number is where its position will be.
    pub fn of(connection: &Connection, in_flight_max: usize) -> Self {
        Self {
            target: connection.target,
            left: 1,
            stalled: connection.stalled,
            number: connection.position.sequence as usize,
            stride: 1,
            // Only whoever comes back into a running feed is tried again.
            midway: true,
            again: connection.again,
            in_flight_max,
            pace_ns: 0,
            due_ns: 0,
            begin: None,
        }
    }
}

impl Worker {
    /// Opens what is due and has room.
    pub(super) fn open_more(&mut self) {
        while let Some(opening) = self.openings.last_mut() {
            if self.in_flight >= opening.in_flight_max {
                return;
            }
            if opening.left == 0 {
                self.openings.pop();
                continue;
            }
            if opening.pace_ns > 0 {
                if sys::monotonic_ns() < opening.due_ns {
                    return;
                }
                opening.due_ns += opening.pace_ns;
            }
            let next = opening.clone();
            opening.left -= 1;
            opening.number += opening.stride;
            if let Err(Ended(cause)) = self.open(&next) {
                self.refuse(&next, &cause);
            }
        }
    }

    /// Counts a connection that did not come to be, or has it tried again.
    pub(super) fn refuse(&mut self, opening: &Opening, cause: &str) {
        let stats = &mut self.desks[usize::from(opening.target)].stats;
        if !opening.again {
            stats.refused += 1;
            return stats.fail(cause);
        }
        stats.retried += 1;
        stats.count_cause(cause, 1);
        let due_ns = sys::monotonic_ns() + RETRY_AFTER.as_nanos() as u64;
        self.retries.push_back(Opening { left: 1, pace_ns: 0, due_ns, ..opening.clone() });
    }

    /// Lets those try again whose moment has come.
    pub(super) fn retry(&mut self) {
        let now_ns = sys::monotonic_ns();
        let due = self.retries.partition_point(|opening| opening.due_ns <= now_ns);
        self.openings.extend(self.retries.drain(..due));
    }

    fn open(&mut self, opening: &Opening) -> Result<(), Ended> {
        let (target, number) = (&self.targets[usize::from(opening.target)], opening.number);
        let url = &target.urls[number % target.urls.len()];
        let joining = Joining { started_ns: sys::monotonic_ns(), midway: opening.midway };
        let socket = connect(url.address, number / target.urls.len(), opening.stalled, &self.sources);
        let socket = socket.map_err(Ended)?;
        let mut stream = match (&target.tls, url.is_tls) {
            (Some(config), true) => {
                let name = ServerName::try_from(url.host_name().to_owned());
                let name = name.map_err(|_| Ended(format!("'{}' is no name for TLS", url.host_name())))?;
                Stream::secure(socket, config, name).map_err(|error| Ended(format!("TLS: {error}")))?
            }
            _ => Stream::Clear(socket),
        };
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(stream.socket_mut(), Token(index), both);
        if let Err(error) = registered {
            self.vacant.push(index);
            return Err(Ended(format!("epoll_ctl: {error}")));
        }
        let key = handshake::key_from(joining.started_ns ^ number as u64);
        let handshake = Handshake { key, is_sent: false, answer: Vec::new(), joining };
        self.connections[index] = Some(Connection {
            stream,
            target: opening.target,
            is_upgraded: false,
            stalled: opening.stalled,
            again: opening.again,
            // The number stands in for the sequence until the upgrade is done: it picks the URL again.
            position: Position::at(number as u64),
            detour: Some(Box::new(Detour::Handshake(handshake))),
        });
        self.in_flight += 1;
        self.ask(index);
        Ok(())
    }

    /// Sends the request as soon as the connection stands.
    pub(super) fn ask(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let mut detour = connection.detour.take();
        if let Some(Detour::Handshake(handshake)) = detour.as_deref_mut() {
            let target = &self.targets[usize::from(connection.target)];
            let url = &target.urls[connection.position.sequence as usize % target.urls.len()];
            let begin = self.desks[usize::from(connection.target)].begin.as_deref();
            let asked = begin.map(|begin| url.asking(&begin.query));
            if let Err(error) = send_request(connection, handshake, asked.as_ref().unwrap_or(url), target) {
                let source = connection.stream.socket().local_addr().ok().map(|address| address.ip());
                return self.end(index, &describe(&error, url.address, source));
            }
        }
        connection.detour = detour;
    }
}

/// Starts a non-blocking connect.
///
/// # Errors
/// One line with the cause and the cure.
pub fn connect(
    address: SocketAddr,
    number: usize,
    stalled: bool,
    sources: &Sources,
) -> Result<TcpStream, String> {
    let source = sources.pick(number);
    open(address, source.map(|ip| SocketAddr::new(ip, 0)), stalled)
        .map_err(|error| describe(&error, address, source))
}

fn open(address: SocketAddr, source: Option<SocketAddr>, stalled: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking().cloexec(),
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    // Without it figures wander, on kernels that do not have it.
    let _ = sys::acknowledge_promptly(&socket);
    if stalled {
        socket.set_recv_buffer_size(STALLED_RECEIVE_BUFFER_BYTES)?;
    }
    if let Some(source) = source {
        sys::bind_address_only(&socket)?;
        socket.bind(&source.into())?;
    }
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(libc::EINPROGRESS) && error.kind() != ErrorKind::WouldBlock =>
        {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Says what a failed connect means to the user.
pub fn describe(error: &io::Error, address: SocketAddr, source: Option<std::net::IpAddr>) -> String {
    // Without the address where it says nothing: alike causes are counted as one.
    let from = source.map_or_else(String::new, |source| format!(" from {source}"));
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => format!("{address} refuses connections: is the server running?"),
        Some(libc::EADDRNOTAVAIL) => {
            format!(
                "no free local port{from} to {address}: give more --sources, or widen net.ipv4.ip_local_port_range"
            )
        }
        Some(libc::EMFILE) => {
            "this process may open no more descriptors: raise 'ulimit -n' or give more --threads".into()
        }
        Some(libc::ENFILE) => "the machine may open no more files: raise fs.file-max".into(),
        Some(libc::ECONNRESET) => {
            format!("{address} reset a connection during the handshake: see the server's log")
        }
        _ => format!("connecting to {address}: {error}"),
    }
}

/// Sends the request if the socket is connected; `Ok(false)` asks to be called again when it is writable.
///
/// # Errors
/// The failed connect.
pub fn send_request(
    connection: &mut Connection,
    handshake: &mut Handshake,
    url: &Url,
    target: &Target,
) -> io::Result<bool> {
    if let Some(error) = connection.stream.socket().take_error()? {
        return Err(error);
    }
    if handshake.is_sent {
        return connection.stream.flush().map(|()| true);
    }
    let extensions = target.compression.then_some(deflate::OFFER);
    let request = match target.protocol.kind {
        Kind::Sse => sse::request(url),
        _ => handshake::request(url, &handshake.key, target.protocol.subprotocol(), extensions),
    };
    match connection.stream.write(request.as_bytes()) {
        Ok(written) if written == request.len() => {
            handshake.is_sent = true;
            Ok(true)
        }
        Ok(_) => Err(io::Error::other("the upgrade request did not fit into an empty send buffer")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes closing the socket send a reset: no TIME_WAIT, no port that stays taken.
pub fn reset_on_close(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
