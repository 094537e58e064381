//! Listening sockets with every option that accepted sockets inherit.
//!
//! Set once here: TCP_NODELAY (the gateway batches itself), send and receive buffers (a stuck client otherwise pins
//! 0.9 MB of kernel memory), TCP_NOTSENT_LOWAT (lag becomes visible while it is small), TCP_USER_TIMEOUT.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;

/// A bound, listening, non-blocking socket; a shard makes it part of its loop.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
}

impl Listener {
    /// Where it listens, with the port the kernel chose if 0 was asked for.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Hands the socket to the event loop.
    pub fn into_std(self) -> std::net::TcpListener {
        self.socket
    }
}

/// Binds `address` with SO_REUSEPORT, so that every shard has a queue of its own.
///
/// # Errors
/// The address is in use, not local, or not permitted: name it to the operator.
pub fn bind(address: SocketAddr, config: &Config) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    if config.send_buffer > 0 {
        socket.set_send_buffer_size(config.send_buffer)?;
    }
    if config.receive_buffer > 0 {
        socket.set_recv_buffer_size(config.receive_buffer)?;
    }
    if config.notsent_lowat > 0 {
        socket.set_tcp_notsent_lowat(u32::try_from(config.notsent_lowat).unwrap_or(u32::MAX))?;
    }
    if !config.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(config.user_timeout))?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
    Ok(Listener { socket: socket.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let config = Config { send_buffer: 32 * 1024, ..Config::default() };
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &config).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = listener.into_std();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let accepted = Socket::from(listener.accept().unwrap().0);
        assert!(accepted.tcp_nodelay().unwrap());
        assert_eq!(accepted.send_buffer_size().unwrap(), 64 * 1024, "the kernel doubles it");
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 16 * 1024);
    }

    #[test]
    fn two_shards_share_a_port() {
        let config = Config::default();
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &config).unwrap();
        assert!(bind(first.local_addr().unwrap(), &config).is_ok());
    }
}
