//! The boundary to the operating system: readiness, sockets, clock, randomness. The only file that knows `mio::Poll`.
//!
//! mio registers edge-triggered: readiness is reported once, so whoever does not drain a socket must remember it.
//! A listener at the descriptor limit goes deaf rather than spinning; a pending accept is therefore remembered here.
//! A spare descriptor is kept for answering when none is left.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::MutexGuard;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::bus::Wake;
use crate::clock::Clock;
use crate::model::{ConnectionId, Time};
use crate::net::{Listener, Tcp, Transport, spare};

/// Events fetched by one wait; the rest comes with the next.
const EVENTS_PER_WAIT: usize = 1024;
const WAKER: Token = Token(usize::MAX);
/// Listeners have the tokens right below the waker's; connections never get there (31-bit generations).
const LISTENERS_FROM: usize = usize::MAX - 1024;

/// What became ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// Whose socket.
    pub connection: ConnectionId,
    /// Bytes, or the end, can be read.
    pub is_readable: bool,
    /// The socket takes bytes again.
    pub is_writable: bool,
    /// The peer has ended its side or the socket failed: read on to the end.
    pub is_read_closed: bool,
}

/// A connection taken from a listener's queue.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its socket.
    pub socket: S,
    /// Where it comes from, if it has an address.
    pub peer: Option<SocketAddr>,
}

/// Everything the turn needs of the world.
pub trait Reactor {
    /// A client's socket.
    type Socket: Transport;

    /// The present moment.
    fn now(&mut self) -> Time;

    /// Sleeps until something is ready, the shard is woken, or `timeout` is over (`None`: no limit), and appends
    /// what is ready to `ready`.
    ///
    /// # Errors
    /// The event loop is broken; the shard cannot go on.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()>;

    /// Whether a listener has, or may have, a connection in its queue.
    fn may_accept(&self) -> bool;

    /// The next connection in a queue; `None` when all queues are empty.
    ///
    /// # Errors
    /// As accept(2); the queue stays marked as pending.
    fn accept(&mut self) -> io::Result<Option<Accepted<Self::Socket>>>;

    /// Takes one connection with the spare descriptor, to be answered and dropped at once; `None` when there is no
    /// queue or no spare.
    fn accept_with_spare(&mut self) -> Option<Self::Socket>;

    /// Opens the spare descriptor again if it is closed and one is free.
    fn restore_spare(&mut self);

    /// Whether a descriptor is free beside the spare one. Asked while descriptors are short.
    fn has_free_descriptor(&mut self) -> bool {
        true
    }

    /// Has readiness of `socket` reported under `connection`, in both directions, once for its life.
    ///
    /// # Errors
    /// As epoll_ctl(2); close the socket.
    fn register(&mut self, socket: &mut Self::Socket, connection: ConnectionId) -> io::Result<()>;

    /// Closes the listeners.
    fn stop_accepting(&mut self);

    /// The next random number of this shard.
    fn random(&mut self) -> u64;
}

/// A poll instance made before its shard's thread starts, so that wakers work whatever descriptor table it has.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
}

impl Poller {
    /// A new event queue.
    ///
    /// # Errors
    /// As epoll_create(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()? })
    }

    /// What ends a wait on this queue from other threads. Make one, before the shard starts.
    ///
    /// # Errors
    /// As eventfd(2).
    pub fn waker(&self) -> io::Result<Box<dyn Wake>> {
        Ok(Box::new(MioWaker(mio::Waker::new(self.poll.registry(), WAKER)?)))
    }
}

struct MioWaker(mio::Waker);

impl Wake for MioWaker {
    fn wake(&self) {
        if let Err(error) = self.0.wake() {
            tracing::error!(event = "wake_failed", %error);
        }
    }
}

struct Queue {
    listener: mio::net::TcpListener,
    may_have_more: bool,
}

/// The real thing: epoll, TCP, the monotonic clock.
pub struct MioReactor {
    poll: Poll,
    events: Events,
    queues: Vec<Queue>,
    spare: Option<File>,
    /// The spare one is in use.
    spare_in_use: Option<MutexGuard<'static, ()>>,
    /// The last accept found no descriptor.
    is_short: bool,
    clock: Clock,
    random: SmallRng,
}

impl MioReactor {
    /// Registers the listeners; call on the shard's own thread, after it took its descriptor table.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn new(poller: Poller, listeners: Vec<Listener>, clock: Clock, seed: u64) -> io::Result<Self> {
        let poll = poller.poll;
        let mut queues = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let listener: TcpListener = listener.into_std();
            let mut listener = mio::net::TcpListener::from_std(listener);
            poll.registry().register(&mut listener, Token(LISTENERS_FROM + index), Interest::READABLE)?;
            queues.push(Queue { listener, may_have_more: true });
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_PER_WAIT),
            queues,
            spare: spare::open(),
            spare_in_use: None,
            is_short: false,
            clock,
            random: SmallRng::seed_from_u64(seed),
        })
    }

    fn accept_from_queues(&mut self) -> io::Result<Option<Accepted<Tcp>>> {
        for queue in self.queues.iter_mut().filter(|queue| queue.may_have_more) {
            match Tcp::accept(&queue.listener) {
                Ok((socket, peer)) => return Ok(Some(Accepted { socket, peer })),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => queue.may_have_more = false,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

impl Reactor for MioReactor {
    type Socket = Tcp;

    fn now(&mut self) -> Time {
        self.clock.now()
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            match event.token() {
                WAKER => {}
                Token(token) if token >= LISTENERS_FROM => {
                    if let Some(queue) = self.queues.get_mut(token - LISTENERS_FROM) {
                        queue.may_have_more = true;
                    }
                }
                Token(token) => ready.push(Readiness {
                    connection: ConnectionId::unpack(token as u64),
                    is_readable: event.is_readable(),
                    is_writable: event.is_writable(),
                    is_read_closed: event.is_read_closed() || event.is_error(),
                }),
            }
        }
        Ok(())
    }

    fn may_accept(&self) -> bool {
        self.queues.iter().any(|queue| queue.may_have_more)
    }

    fn accept(&mut self) -> io::Result<Option<Accepted<Tcp>>> {
        let guard = self.is_short.then(spare::enter_shortage);
        let accepted = self.accept_from_queues();
        drop(guard);
        self.is_short = accepted.is_err();
        accepted
    }

    fn accept_with_spare(&mut self) -> Option<Tcp> {
        self.spare_in_use.get_or_insert_with(spare::enter_shortage);
        // Closes it; [`Reactor::restore_spare`] follows.
        self.spare.take()?;
        self.accept_from_queues().ok().flatten().map(|accepted| accepted.socket)
    }

    fn restore_spare(&mut self) {
        if self.spare.is_none() {
            let guard = self.spare_in_use.take().unwrap_or_else(spare::enter_shortage);
            self.spare = spare::open();
            drop(guard);
        }
        self.spare_in_use = None;
    }

    fn has_free_descriptor(&mut self) -> bool {
        let _guard = spare::enter_shortage();
        self.spare.is_some() && spare::open().is_some()
    }

    fn register(&mut self, socket: &mut Tcp, connection: ConnectionId) -> io::Result<()> {
        let token = Token(connection.pack() as usize);
        self.poll.registry().register(socket.source(), token, Interest::READABLE | Interest::WRITABLE)
    }

    fn stop_accepting(&mut self) {
        for queue in self.queues.drain(..) {
            // With private descriptor tables other threads hold copies: shutting down ends the queue in all of them.
            if let Err(error) = socket2::SockRef::from(&queue.listener).shutdown(std::net::Shutdown::Both) {
                tracing::debug!(event = "listener_shutdown_failed", %error);
            }
        }
    }

    fn random(&mut self) -> u64 {
        self.random.random()
    }
}
