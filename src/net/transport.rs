//! What carries bytes to and from one client: TCP here, fakes in the simulation.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use super::sys;

/// A non-blocking byte stream. `WouldBlock` means "ask again when the event loop says so".
pub trait Transport {
    /// Reads what is there; `Ok(0)` is the peer's end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much of `slices`, in order, as the kernel takes: at least a byte.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; anything else ends the connection.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends our side: the peer reads what was written, then the end.
    fn shutdown_write(&mut self);

    /// Makes the coming close a reset, which frees the kernel's buffers at once.
    fn reset_on_close(&mut self);

    /// The other end's address, while it is known.
    fn peer(&self) -> Option<SocketAddr>;
}

/// A plain TCP connection.
#[derive(Debug)]
pub struct Tcp {
    stream: mio::net::TcpStream,
}

impl Tcp {
    /// Wraps an accepted socket, non-blocking already.
    pub fn new(stream: mio::net::TcpStream) -> Self {
        Self { stream }
    }

    /// Takes the next connection from a listener's queue, and the address it comes from.
    ///
    /// # Errors
    /// As `accept4(2)`: `WouldBlock` when the queue is empty.
    pub fn accept(listener: &mio::net::TcpListener) -> io::Result<(Self, Option<SocketAddr>)> {
        let (socket, peer) = sys::accept(listener.as_fd())?;
        Ok((Self::new(mio::net::TcpStream::from_std(socket.into())), peer))
    }

    /// For registering with the event loop.
    pub fn source(&mut self) -> &mut mio::net::TcpStream {
        &mut self.stream
    }
}

impl Transport for Tcp {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match sys::receive(self.stream.as_fd(), buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            let result = match slices {
                [one] => sys::send(self.stream.as_fd(), one),
                many => sys::send_pieces(self.stream.as_fd(), many),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn shutdown_write(&mut self) {
        // Fails only when the peer is gone already, which the next read reports.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn reset_on_close(&mut self) {
        // Fails only on a socket that is closed already.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}
