//! The simulation's side of the shard's boundary: readiness, backlog, clock, randomness, all under the driver's hand.
//!
//! A wait that would block ends the turn with an error before any phase has run, and remembers until when the shard
//! would have slept. The driver tries it again whenever something may have changed: a shard that forgets work of
//! its own therefore stays asleep, as the real one would.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tidegate::model::{ConnectionId, Time};
use tidegate::net::Transport;
use tidegate::shard::reactor::{Accepted, Reactor, Readiness};

use super::wire::{FakeSocket, ReadyQueue, WireRef};

/// Turns without sleep, event or passing time after which a shard is said to spin.
const SPINS_MAX: u32 = 5000;

/// What the driver and one shard's reactor share.
#[derive(Debug)]
pub struct Host {
    /// Connections that wait to be accepted.
    pub backlog: VecDeque<WireRef>,
    /// A connection came since the queue was last found empty.
    pub may_accept: bool,
    /// A connection came since the last wait: that ends a sleep once, as an edge does.
    has_arrival: bool,
    /// The listener was closed.
    pub has_stopped_accepting: bool,
    /// Calls of accept so far.
    pub accept_calls: u64,
    /// The errors that accept calls end with.
    pub accept_error: fn(u64) -> Option<i32>,
    /// Descriptors are short: every accept fails, the spare one excepted.
    pub is_exhausted: bool,
    has_spare: bool,
    /// Until when the shard sleeps; [`Time::NEVER`]: until something happens. `None` while it runs.
    pub asleep_until: Option<Time>,
    /// Events for connections that are gone, to be reported with the next ones.
    pub stale: Vec<Readiness>,
    /// Connections whose registration fails.
    pub refuses_registration: bool,
    /// Turns that ran.
    pub turns: u64,
    spins: u32,
    spun_at: Time,
    queue: ReadyQueue,
    random: SmallRng,
}

/// Shared by the driver and a reactor.
pub type HostRef = Rc<RefCell<Host>>;

impl Host {
    /// A host without connections.
    pub fn new(seed: u64) -> HostRef {
        Rc::new(RefCell::new(Self {
            backlog: VecDeque::new(),
            may_accept: true,
            has_arrival: false,
            has_stopped_accepting: false,
            accept_calls: 0,
            accept_error: |_| None,
            is_exhausted: false,
            has_spare: true,
            asleep_until: None,
            stale: Vec::new(),
            refuses_registration: false,
            turns: 0,
            spins: 0,
            spun_at: Time::ZERO,
            queue: ReadyQueue::default(),
            random: SmallRng::seed_from_u64(seed),
        }))
    }

    /// A client connects.
    pub fn connect(&mut self, wire: WireRef) {
        self.backlog.push_back(wire);
        if !self.has_stopped_accepting {
            self.may_accept = true;
            self.has_arrival = true;
        }
    }
}

/// A shard's reactor.
#[derive(Debug)]
pub struct SimReactor {
    /// What it shares with the driver.
    pub host: HostRef,
    /// The time of the whole simulation.
    pub clock: Rc<Cell<Time>>,
}

impl Reactor for SimReactor {
    type Socket = FakeSocket;

    fn now(&mut self) -> Time {
        self.clock.get()
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        let now = self.clock.get();
        let mut host = self.host.borrow_mut();
        let wires: Vec<WireRef> = host.queue.borrow_mut().drain(..).collect();
        for wire in wires {
            let Some((connection, is_readable, is_writable, is_read_closed)) = wire.borrow_mut().poll()
            else {
                continue;
            };
            if is_readable || is_writable || is_read_closed {
                ready.push(Readiness { connection, is_readable, is_writable, is_read_closed });
            }
        }
        ready.append(&mut host.stale);
        ready.shuffle(&mut host.random);
        let wake_at = timeout.map_or(Time::NEVER, |timeout| now.after(timeout));
        let has_news = std::mem::take(&mut host.has_arrival) || !ready.is_empty();
        let sleeps_until = host.asleep_until.map_or(wake_at, |until| until.min(wake_at));
        if !has_news && sleeps_until > now {
            host.asleep_until = Some(sleeps_until);
            return Err(io::ErrorKind::TimedOut.into());
        }
        host.asleep_until = None;
        host.turns += 1;
        let is_spinning = ready.is_empty() && host.spun_at == now;
        host.spins = if is_spinning { host.spins + 1 } else { 0 };
        host.spun_at = now;
        assert!(host.spins < SPINS_MAX, "a shard spins at {now:?}, time-out {timeout:?}");
        Ok(())
    }

    fn may_accept(&self) -> bool {
        let host = self.host.borrow();
        host.may_accept && !host.has_stopped_accepting
    }

    fn accept(&mut self) -> io::Result<Option<Accepted<FakeSocket>>> {
        let mut host = self.host.borrow_mut();
        if host.has_stopped_accepting {
            return Ok(None);
        }
        host.accept_calls += 1;
        if host.backlog.is_empty() {
            host.may_accept = false;
            return Ok(None);
        }
        if host.is_exhausted {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        if let Some(errno) = (host.accept_error)(host.accept_calls) {
            if errno == libc::ECONNABORTED {
                host.backlog.pop_front();
            }
            return Err(io::Error::from_raw_os_error(errno));
        }
        let socket = host.backlog.pop_front().map(FakeSocket::new);
        Ok(socket.map(|socket| Accepted { peer: socket.peer(), socket }))
    }

    fn accept_with_spare(&mut self) -> Option<FakeSocket> {
        let mut host = self.host.borrow_mut();
        if !std::mem::take(&mut host.has_spare) {
            return None;
        }
        host.backlog.pop_front().map(FakeSocket::new)
    }

    fn restore_spare(&mut self) {
        self.host.borrow_mut().has_spare = true;
    }

    fn register(&mut self, socket: &mut FakeSocket, connection: ConnectionId) -> io::Result<()> {
        let host = self.host.borrow();
        if host.refuses_registration {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        socket.wire.borrow_mut().register(connection, Rc::clone(&host.queue));
        Ok(())
    }

    fn stop_accepting(&mut self) {
        self.host.borrow_mut().has_stopped_accepting = true;
    }

    fn random(&mut self) -> u64 {
        self.host.borrow_mut().random.random()
    }
}
