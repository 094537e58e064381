//! The built-in bare server: the kernel's own price, against which real servers are held.
//!
//! One thread, or several alike that share the port. Accepting: `accept4`, `epoll_ctl`, `recv` of the
//! request head, `send` of a 101; nothing is checked. Publishing: the control socket brings the finished
//! frames, and one `send(2)` per socket hands them to the kernel, in a plain loop. No channels, no
//! queues, no pings. What a socket refuses is owed to it up to a bound, so that healthy subscribers lose
//! nothing; the bytes are shared by all who are owed them. A socket that would be owed more is closed: never a
//! hole in its stream. Closing is what real servers do, tidegate by default and at the same bound, and the least
//! that can be done: to hold on costs memory and a look at each publication. So what a server pays beyond
//! this limit for those that never read is the price of its own choice.
//! `--plant` makes it break a promise on purpose, to test that the checks notice.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::iter;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sys;
use crate::wire::handshake;

const LISTENER: Token = Token(usize::MAX - 1);
const CONTROL_LISTENER: Token = Token(usize::MAX - 2);
const CONTROL: Token = Token(usize::MAX - 3);

/// Listen queue: as long as the kernel allows.
const BACKLOG: i32 = 4096;
/// Unsent bytes that a socket may be owed, if that is more than two of the publications; beyond, it is closed.
const OWED_BYTES_MAX: usize = 1024 * 1024;
/// The publication at which a planted fault happens, counted from 0.
const PLANTED_AT: u64 = 5;

/// Socket options and planted faults of the bare server.
#[derive(Args, Clone, Debug)]
pub struct BareOptions {
    /// SO_SNDBUF in bytes; 0 leaves the kernel's autotuning
    #[arg(long, default_value_t = 0)]
    pub send_buffer: usize,
    /// SO_RCVBUF in bytes; 0 leaves the kernel's autotuning
    #[arg(long, default_value_t = 0)]
    pub receive_buffer: usize,
    /// TCP_NOTSENT_LOWAT in bytes; 0 leaves the kernel's default
    #[arg(long, default_value_t = 0)]
    pub notsent_lowat: u32,
    /// Port of the bare server; 0: any free one
    #[arg(long, default_value_t = 0, hide = true)]
    pub bare_port: u16,
    /// Control port of the bare server's only thread; 0, and for several threads: any free one
    #[arg(long, default_value_t = 0, hide = true)]
    pub control_port: u16,
    /// Threads of the bare server, each with its own part of the connections
    #[arg(long, default_value_t = 1, hide = true)]
    pub bare_threads: usize,
    /// Break a promise towards one subscriber, to test the checks
    #[arg(long)]
    pub plant: Option<Plant>,
}

/// A fault made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// Leave out one publication.
    Drop,
    /// Send one publication twice.
    Duplicate,
    /// Send two publications in the wrong order.
    Swap,
    /// Change one byte.
    Corrupt,
}

/// Serves until the control connections close. Prints the port and each thread's control port on standard output.
///
/// # Errors
/// What the kernel refused.
pub fn serve(options: &BareOptions) -> io::Result<()> {
    sys::raise_descriptor_limit()?;
    let first = BareServer::bind(options, options.bare_port, options.control_port)?;
    let port = first.listener.local_addr()?.port();
    let others = (1..options.bare_threads).map(|_| BareServer::bind(options, port, 0));
    let others = others.collect::<io::Result<Vec<_>>>()?;
    let controls = iter::once(&first).chain(&others).map(BareServer::control_port);
    println!("listening {port} control {}", controls.collect::<io::Result<Vec<_>>>()?.join(" "));
    // The first runs here: a process of one thread pays the kernel less for each call, and that is the limit.
    let others: Vec<_> = others.into_iter().map(|server| std::thread::spawn(move || server.run())).collect();
    first.run()?;
    others.into_iter().try_for_each(|thread| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the bare server panicked")))
    })
}

fn listen(options: &BareOptions, port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.bare_threads > 1)?;
    if options.send_buffer > 0 {
        socket.set_send_buffer_size(options.send_buffer)?;
    }
    if options.receive_buffer > 0 {
        socket.set_recv_buffer_size(options.receive_buffer)?;
    }
    if options.notsent_lowat > 0 {
        sys::set_notsent_lowat(&socket, options.notsent_lowat)?;
    }
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

struct BareServer {
    poll: Poll,
    listener: TcpListener,
    control_listener: TcpListener,
    control: Option<TcpStream>,
    commands: Vec<u8>,
    sockets: Sockets,
}

impl BareServer {
    fn bind(options: &BareOptions, port: u16, control_port: u16) -> io::Result<Self> {
        let mut listener = listen(options, port)?;
        let mut control_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, control_port).into())?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry().register(&mut control_listener, CONTROL_LISTENER, Interest::READABLE)?;
        let sockets = Sockets { plant: options.plant, ..Sockets::default() };
        Ok(Self { poll, listener, control_listener, control: None, commands: Vec::new(), sockets })
    }

    fn control_port(&self) -> io::Result<String> {
        Ok(self.control_listener.local_addr()?.port().to_string())
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Err(error) = self.poll.poll(&mut events, None)
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(error);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    CONTROL_LISTENER => self.accept_control()?,
                    CONTROL => {
                        if !self.obey(&mut buffer)? {
                            return Ok(());
                        }
                    }
                    Token(index) => {
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.sockets.read(index, &mut buffer);
                        }
                        if event.is_writable() {
                            self.sockets.pay(index);
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                // One that cannot be watched is dropped, which its client sees.
                Ok((stream, _)) => drop(self.sockets.admit(stream, self.poll.registry())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn accept_control(&mut self) -> io::Result<()> {
        let (mut stream, _) = self.control_listener.accept()?;
        stream.set_nodelay(true)?;
        self.poll.registry().register(&mut stream, CONTROL, Interest::READABLE)?;
        self.control = Some(stream);
        Ok(())
    }

    /// Carries out what the control connection says: four bytes of length, then frames to be sent to
    /// all; the answer is the number of sockets, eight bytes. False when it has been closed.
    fn obey(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(control) = &mut self.control else { return Ok(true) };
        loop {
            match control.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => self.commands.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            while let Some((length, rest)) = self.commands.split_first_chunk::<4>() {
                let length = u32::from_le_bytes(*length) as usize;
                if rest.len() < length {
                    break;
                }
                let count = self.sockets.send_to_all(&rest[..length], self.poll.registry());
                self.commands.drain(..4 + length);
                control.write_all(&count.to_le_bytes())?;
            }
        }
    }
}

#[derive(Default)]
struct Sockets {
    all: Vec<Option<TcpStream>>,
    vacant: Vec<usize>,
    /// Whether the socket with that index has had its 101; nothing is published to it before.
    is_open: Vec<bool>,
    /// How many have not.
    waiting: usize,
    /// What a socket refused to take; rare.
    owed: HashMap<usize, Debt>,
    published: u64,
    plant: Option<Plant>,
    /// The publication that a planted swap holds back.
    held: Vec<u8>,
}

impl Sockets {
    /// Takes in a new socket and has it watched.
    fn admit(&mut self, mut stream: TcpStream, registry: &mio::Registry) -> io::Result<()> {
        let index = self.vacant.last().copied().unwrap_or(self.all.len());
        registry.register(&mut stream, Token(index), Interest::READABLE)?;
        if self.vacant.pop().is_none() {
            self.all.push(None);
            self.is_open.push(false);
        }
        self.all[index] = Some(stream);
        self.is_open[index] = false;
        self.waiting += 1;
        Ok(())
    }

    /// The loop that everything else is compared with.
    fn send_to_all(&mut self, frames: &[u8], registry: &mio::Registry) -> u64 {
        let mut count = 0;
        let mut kept = None;
        if let Some(plant) = self.plant {
            self.send_planted(plant, frames);
        }
        for index in usize::from(self.plant.is_some())..self.all.len() {
            let Some(stream) = &mut self.all[index] else { continue };
            if self.waiting > 0 && !self.is_open[index] {
                continue;
            }
            count += 1;
            if !self.owed.is_empty() && self.owed.contains_key(&index) {
                self.owe(index, keep(&mut kept, frames), 0, registry);
                continue;
            }
            match stream.write(frames) {
                Ok(sent) if sent == frames.len() => {}
                Ok(sent) => self.owe(index, keep(&mut kept, frames), sent, registry),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.owe(index, keep(&mut kept, frames), 0, registry);
                }
                Err(_) => self.remove(index),
            }
        }
        self.published += 1;
        count
    }

    /// Remembers a publication of which a socket took so many bytes; a socket that is owed too much is closed.
    fn owe(&mut self, index: usize, publication: Arc<[u8]>, sent: usize, registry: &mio::Registry) {
        let Some(stream) = &mut self.all[index] else { return };
        let debt = self.owed.entry(index).or_default();
        if debt.bytes + publication.len() - sent > OWED_BYTES_MAX.max(2 * publication.len()) {
            // By reset: what is in the kernel's buffers goes too, and a client that never reads is told.
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            return self.remove(index);
        }
        if debt.publications.is_empty() {
            let _ = registry.reregister(stream, Token(index), Interest::READABLE | Interest::WRITABLE);
            debt.sent = sent;
        }
        debt.bytes += publication.len() - sent;
        debt.publications.push_back(publication);
    }

    fn pay(&mut self, index: usize) {
        let Some(debt) = self.owed.get_mut(&index) else { return };
        let Some(stream) = &mut self.all[index] else { return };
        while let Some(publication) = debt.publications.front() {
            let Ok(sent) = stream.write(&publication[debt.sent..]) else { return };
            debt.bytes -= sent;
            debt.sent += sent;
            if debt.sent == publication.len() {
                debt.publications.pop_front();
                debt.sent = 0;
            }
        }
        self.owed.remove(&index);
    }

    /// Answers a request head; everything else that clients say is read and forgotten.
    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let Some(stream) = &mut self.all[index] else { return };
            match stream.read(buffer) {
                Ok(0) => return self.remove(index),
                Ok(length) => {
                    let head = &buffer[..length];
                    if head.starts_with(b"GET ")
                        && let Some(key) = handshake::header(head, "Sec-WebSocket-Key")
                    {
                        if stream.write(handshake::response(key).as_bytes()).is_err() {
                            return self.remove(index);
                        }
                        self.waiting -= usize::from(!self.is_open[index]);
                        self.is_open[index] = true;
                    }
                    if length < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.remove(index),
            }
        }
    }

    fn remove(&mut self, index: usize) {
        if self.all[index].take().is_some() {
            self.owed.remove(&index);
            self.waiting -= usize::from(!self.is_open[index]);
            self.vacant.push(index);
        }
    }

    /// What the first subscriber gets instead of this publication.
    fn send_planted(&mut self, plant: Plant, frames: &[u8]) {
        let is_now = self.published == PLANTED_AT;
        let bytes = match plant {
            Plant::Drop if is_now => Vec::new(),
            Plant::Duplicate if is_now => [frames, frames].concat(),
            Plant::Swap if is_now => {
                self.held = frames.to_vec();
                Vec::new()
            }
            Plant::Swap => [frames, &std::mem::take(&mut self.held)].concat(),
            Plant::Corrupt if is_now => {
                let mut bytes = frames.to_vec();
                bytes[frames.len() - 1] ^= 1;
                bytes
            }
            _ => frames.to_vec(),
        };
        if let Some(stream) = self.all.first_mut().and_then(Option::as_mut) {
            let _ = stream.write_all(&bytes);
        }
    }
}

/// What a socket has still to take.
#[derive(Default)]
struct Debt {
    publications: VecDeque<Arc<[u8]>>,
    /// Bytes of the first that it has taken.
    sent: usize,
    /// Bytes that it has not taken.
    bytes: usize,
}

/// The publication in a form that all who are owed it share; made for the first of them.
fn keep(kept: &mut Option<Arc<[u8]>>, frames: &[u8]) -> Arc<[u8]> {
    Arc::clone(kept.get_or_insert_with(|| frames.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sockets with one subscriber that is open, and the subscriber's end.
    fn one_subscriber(poll: &Poll) -> (Sockets, std::net::TcpStream) {
        let (client, stream) = connection();
        let mut sockets = Sockets::default();
        sockets.admit(stream, poll.registry()).unwrap();
        (sockets.is_open[0], sockets.waiting) = (true, 0);
        (sockets, client)
    }

    fn connection() -> (std::net::TcpStream, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, TcpStream::from_std(stream))
    }

    #[test]
    fn a_reader_of_any_delay_receives_whole_publications() {
        let poll = Poll::new().unwrap();
        let (mut sockets, mut client) = one_subscriber(&poll);
        let publication: Vec<u8> = (0..12_000_000_u32).map(|number| (number % 251) as u8).collect();
        assert_eq!(sockets.send_to_all(&publication, poll.registry()), 1);
        assert!(sockets.owed[&0].bytes > OWED_BYTES_MAX);
        let reader = std::thread::spawn(move || {
            let mut received = vec![0; 12_000_000];
            client.read_exact(&mut received).map(|()| received)
        });
        while sockets.owed.contains_key(&0) {
            sockets.pay(0);
        }
        assert!(reader.join().unwrap().unwrap() == publication);
    }

    #[test]
    fn a_socket_that_never_takes_anything_is_closed() {
        let poll = Poll::new().unwrap();
        let (mut sockets, mut client) = one_subscriber(&poll);
        let publication = vec![b'x'; 300_000];
        let mut published = 0;
        while sockets.all[0].is_some() {
            sockets.send_to_all(&publication, poll.registry());
            published += 1;
            assert!(published < 1000, "owed without end");
            let owed = sockets.owed.get(&0).map_or(0, |debt| debt.bytes);
            assert!(owed <= OWED_BYTES_MAX, "{owed}");
        }
        assert!(sockets.owed.is_empty() && sockets.vacant == [0]);
        let mut bytes = Vec::new();
        assert_eq!(
            client.read_to_end(&mut bytes).map_err(|error| error.kind()),
            Err(ErrorKind::ConnectionReset)
        );
    }

    #[test]
    fn a_socket_that_cannot_be_watched_leaves_its_place_to_the_next() {
        let poll = Poll::new().unwrap();
        let (mut sockets, _client) = one_subscriber(&poll);
        sockets.remove(0);
        let ((_one, mut watched), (_other, stream)) = (connection(), connection());
        // The kernel watches nothing twice.
        poll.registry().register(&mut watched, Token(77), Interest::READABLE).unwrap();
        assert!(sockets.admit(watched, poll.registry()).is_err());
        assert_eq!((sockets.vacant.as_slice(), sockets.waiting), ([0].as_slice(), 0));
        sockets.admit(stream, poll.registry()).unwrap();
        assert!(sockets.all[0].is_some() && sockets.all.len() == 1);
    }
}
