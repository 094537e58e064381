//! Opening connections: source address, `connect`, and the upgrade request.

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};

use super::connection::{Connection, Handshake};
use crate::protocol::{Kind, Protocol};
use crate::sources::Sources;
use crate::sys;
use crate::wire::handshake;
use crate::wire::sse;
use crate::wire::url::Url;

/// Receive buffer of a connection that is never read: small, so that it fills soon.
const STALLED_RECEIVE_BUFFER_BYTES: usize = 4096;

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
    /// How many of this worker may be in their handshake at once.
    pub in_flight_max: usize,
    /// Time between two, nanoseconds; 0: as fast as it goes.
    pub pace_ns: u64,
    /// When the next is due, nanoseconds of `CLOCK_MONOTONIC`.
    pub due_ns: u64,
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
        _ => format!("connecting{from} to {address}: {error}"),
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
    protocol: &Protocol,
) -> io::Result<bool> {
    if let Some(error) = connection.stream.socket().take_error()? {
        return Err(error);
    }
    if handshake.is_sent {
        return connection.stream.flush().map(|()| true);
    }
    let request = match protocol.kind {
        Kind::Sse => sse::request(url),
        _ => handshake::request(url, &handshake.key, protocol.subprotocol()),
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
