//! A socket, in the clear or with TLS inside: what `read` and `write` mean is the same for both.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// One non-blocking connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP as it is.
    Clear(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream>),
}

/// A socket and the TLS session on it.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
}

impl Stream {
    /// Puts TLS over a socket that connects or is connected.
    ///
    /// # Errors
    /// What the session refused.
    pub fn secure(
        socket: TcpStream,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(TlsStream { socket, session })))
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(tls) => &tls.socket,
        }
    }

    /// The socket, to be registered.
    pub fn socket_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Clear(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        }
    }

    /// Whether a read of fewer bytes than the buffer has means that nothing is left.
    pub fn short_means_drained(&self) -> bool {
        matches!(self, Self::Clear(_))
    }

    /// Hands over what was written and did not fit, and goes on with the TLS handshake; nothing to do in the clear.
    /// To be called when the socket is writable again.
    ///
    /// # Errors
    /// As `write`.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(socket) => socket.write(bytes),
            Self::Tls(tls) => {
                let taken = tls.session.writer().write(bytes)?;
                tls.flush()?;
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::flush(self)
    }
}

impl TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                result => return result,
            }
            let came = self.session.read_tls(&mut self.socket)?;
            let processed = self.session.process_new_packets();
            // Its answer, be it the next step of the handshake or the alert that says what is wrong.
            let flushed = self.flush();
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("TLS: {error}")))?;
            flushed?;
            if came == 0 {
                return Ok(0);
            }
        }
    }

    /// Hands what the session has to say to the socket, as far as that takes it.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use mio::{Events, Interest, Poll, Token};
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::super::{Connection, Worker};
    use super::*;
    use crate::feed::{Feed, Position};
    use crate::protocol::Protocol;
    use crate::sources::Sources;
    use crate::stats::Stats;
    use crate::target::Target;

    type Peer = StreamOwned<ServerConnection, std::net::TcpStream>;

    /// Two ends of a TLS connection after the handshake, with a small send buffer at ours.
    fn pair() -> (Stream, Peer) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(vec![CertificateDer::from(made.cert)], key.into())
            })
            .expect("valid settings");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let socket = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        socket2::SockRef::from(&socket).set_send_buffer_size(4096).expect("a smaller buffer");
        let session = ServerConnection::new(Arc::new(settings)).expect("a session");
        let mut peer = StreamOwned::new(session, listener.accept().expect("connected").0);
        peer.sock.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let theirs = std::thread::spawn(move || {
            peer.conn.complete_io(&mut peer.sock).expect("a handshake");
            peer.write_all(b"x").expect("written");
            peer
        });
        // The first byte has come when the handshake is over at both ends.
        let config = crate::tls::config(None, true).expect("settings");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut session = ClientConnection::new(config, name).expect("a session");
        let mut blocking = socket;
        let mut first = [0];
        rustls::Stream::new(&mut session, &mut blocking).read_exact(&mut first).expect("the first byte");
        blocking.set_nonblocking(true).expect("non-blocking");
        let stream = Stream::Tls(Box::new(TlsStream { socket: TcpStream::from_std(blocking), session }));
        (stream, theirs.join().expect("no fault"))
    }

    /// Writes until the socket takes no more and some of it is left in the session. Returns the bytes written.
    fn fill(stream: &mut Stream) -> usize {
        let mut written = 0;
        while matches!(stream, Stream::Tls(tls) if !tls.session.wants_write()) {
            written += stream.write(&[7; 1000]).expect("open");
        }
        written
    }

    #[test]
    fn what_did_not_fit_is_sent_when_there_is_room_again() {
        let (mut stream, mut peer) = pair();
        let poll = Poll::new().expect("a poll");
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(stream.socket_mut(), Token(0), both).expect("registered");
        let written = fill(&mut stream);
        let target = Target {
            name: "server".into(),
            urls: Vec::new(),
            protocol: Protocol::plain(),
            tls: None,
            feed: Feed::new(1, Protocol::plain()),
            compression: false,
            publishes: false,
        };
        let (_commands, inbox) = channel();
        let published = Arc::new(Mutex::new(vec![Stats::default()]));
        let (targets, sources) = (vec![Arc::new(target)], Arc::new(Sources::default()));
        let mut worker = Worker::new(poll, inbox, targets, published, sources, Duration::ZERO, 0);
        let position = Position::at(0);
        worker.connections.push(Some(Connection {
            again: false,
            stream,
            target: 0,
            is_upgraded: true,
            stalled: false,
            position,
            detour: None,
        }));
        let reading = std::thread::spawn(move || peer.read_exact(&mut vec![0; written]).map(|()| peer));
        let mut events = Events::with_capacity(16);
        while !reading.is_finished() {
            worker.poll.poll(&mut events, Some(Duration::from_millis(10))).expect("polled");
            events.iter().for_each(|event| worker.handle(event));
        }
        let peer = reading.join().expect("no fault").expect("all that was written");
        drop(peer);
        assert!(worker.connections[0].is_some(), "the connection goes on");
    }

    #[test]
    fn a_fault_of_tls_is_told_though_nobody_is_left_to_hear_of_it() {
        let (mut stream, mut peer) = pair();
        let mut poll = Poll::new().expect("a poll");
        poll.registry().register(stream.socket_mut(), Token(0), Interest::READABLE).expect("registered");
        peer.sock.write_all(&[0xFF; 64]).expect("written");
        socket2::SockRef::from(&peer.sock)
            .set_linger(Some(Duration::ZERO))
            .expect("a reset instead of an end");
        drop(peer);
        let mut events = Events::with_capacity(16);
        while !events.iter().any(|event| event.is_error() || event.is_read_closed()) {
            poll.poll(&mut events, Some(Duration::from_secs(20))).expect("polled");
            assert!(!events.is_empty(), "the reset arrives");
        }
        let error = stream.read(&mut [0; 100]).expect_err("no TLS").to_string();
        assert!(error.starts_with("TLS: "), "{error}");
    }
}
