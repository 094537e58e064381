//! A worker thread: one mio poll, one descriptor table, its share of all connections.
//!
//! It is built to cost little, because on loopback it shares the machine with what it measures: it
//! naps between sweeps rather than being woken for each message (a receiver asleep in `epoll_wait`
//! makes the *sender* 9 to 20 % slower), reads into one shared buffer, and compares instead of parsing.

mod compressed;
mod connection;
mod enveloped;
mod held;
mod inflating;
mod learned;
mod opening;
mod receive;
mod sipping;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::sources::Sources;
use crate::stats::{Latencies, Stats};
use crate::sys;
use crate::target::Target;
use crate::verify::{Gaps, owed};
use connection::{Connection, Detour};
pub use opening::{Begin, Opening, connect, reset_on_close};
use receive::{Desk, Ended};
use sipping::Sipping;

/// The waker's token; connections have their index.
pub const WAKER: Token = Token(usize::MAX);

/// Events taken in one sweep.
const EVENTS_MAX: usize = 4096;
/// Size of the one read buffer: fits in a core's cache, holds 32 messages of 4 KiB.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Longest sleep when nothing happens.
const IDLE_WAIT: Duration = Duration::from_millis(250);

/// What the controller tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Open connections.
    Open(Opening),
    /// Close connections to a target, by reset.
    Close { target: u16, which: Which },
    /// Hand over the latencies of a target and begin new ones.
    TakeLatencies { target: u16, reply: Sender<Latencies> },
    /// End the thread.
    Stop,
}

/// Which connections to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that read slowly or never.
    Stalled,
    /// So many of those that read.
    Some(usize),
}

/// Everything one thread owns.
#[derive(Debug)]
pub struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    targets: Vec<Arc<Target>>,
    desks: Vec<Desk>,
    published: Arc<Mutex<Vec<Stats>>>,
    sources: Arc<Sources>,
    nap: Duration,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    gaps: HashMap<usize, Gaps>,
    openings: Vec<Opening>,
    /// One connection each, in the order in which they are due.
    retries: VecDeque<Opening>,
    in_flight: usize,
    /// Of the newest opening.
    in_flight_max: usize,
    sipping: Sipping,
    /// Where the next choice of connections to close begins.
    next_victim: usize,
    buffer: Vec<u8>,
}

impl Worker {
    /// A worker without connections. `published` receives a snapshot of its counts after each sweep;
    /// `read_rate` is bytes per second of connections that are to read slowly, 0 for never.
    pub fn new(
        poll: Poll,
        commands: Receiver<Command>,
        targets: Vec<Arc<Target>>,
        published: Arc<Mutex<Vec<Stats>>>,
        sources: Arc<Sources>,
        nap: Duration,
        read_rate: u64,
    ) -> Self {
        let desks = targets.iter().map(|_| Desk::new()).collect();
        Self {
            poll,
            commands,
            targets,
            desks,
            published,
            sources,
            nap,
            connections: Vec::new(),
            vacant: Vec::new(),
            gaps: HashMap::new(),
            openings: Vec::new(),
            retries: VecDeque::new(),
            in_flight: 0,
            in_flight_max: 0,
            sipping: Sipping::new(read_rate),
            next_victim: 0,
            buffer: vec![0; READ_BUFFER_BYTES],
        }
    }

    /// Sweeps until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut is_busy = false;
        let mut last_sweep_ns = sys::monotonic_ns();
        while let Some(has_obeyed) = self.obey() {
            if has_obeyed {
                // Who waits for what a command has done does not wait for the next event.
                self.publish();
            }
            self.retry();
            self.open_more();
            self.sip();
            let timeout = if is_busy { Duration::ZERO } else { self.longest_wait() };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    self.desks[0].stats.fail(&format!("epoll_wait: {error}"));
                }
                _ => {}
            }
            let now_ns = sys::monotonic_ns();
            let count = events.iter().filter(|event| event.token() != WAKER).count();
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.handle(event);
            }
            if is_busy && count > 0 {
                self.note_lag(now_ns - last_sweep_ns, count);
            }
            last_sweep_ns = now_ns;
            self.publish();
            is_busy = count > 0 || self.in_flight > 0;
            if is_busy && count < EVENTS_MAX / 2 {
                std::thread::sleep(self.nap);
            }
        }
    }

    /// Notes how late the sockets were looked at, for every target: a worker serves them in one sweep.
    /// By so much may each of `count` sockets have waited.
    fn note_lag(&mut self, lag_ns: u64, count: usize) {
        for desk in &mut self.desks {
            desk.stats.lag_ns_max = desk.stats.lag_ns_max.max(lag_ns);
            desk.latencies.lag.saturating_record_n(lag_ns, count as u64);
        }
    }

    /// How long to sleep when nothing happens.
    fn longest_wait(&self) -> Duration {
        let is_paced = self.openings.iter().any(|opening| opening.pace_ns > 0);
        if is_paced || !self.retries.is_empty() || self.sipping.is_due_soon() { self.nap } else { IDLE_WAIT }
    }

    /// Carries out commands and says whether there were any; `None` ends the thread.
    fn obey(&mut self) -> Option<bool> {
        let mut has_obeyed = false;
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open(opening) => {
                    self.in_flight_max = opening.in_flight_max;
                    self.desks[usize::from(opening.target)].begin = opening.begin.clone();
                    self.openings.push(opening);
                }
                Command::Close { target, which } => self.close(target, which),
                Command::TakeLatencies { target, reply } => {
                    let latencies = &mut self.desks[usize::from(target)].latencies;
                    let _ = reply.send(std::mem::replace(latencies, Latencies::new()));
                }
                Command::Stop => return None,
            }
            has_obeyed = true;
        }
        Some(has_obeyed)
    }

    fn publish(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        for (out, desk) in published.iter_mut().zip(&self.desks) {
            out.clone_from(&desk.stats);
        }
    }

    fn handle(&mut self, event: &Event) {
        let index = event.token().0;
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return };
        let is_in_handshake = matches!(connection.detour.as_deref(), Some(Detour::Handshake(_)));
        if event.is_writable() && !is_in_handshake {
            // What TLS could not hand over, such as a pong. A broken connection is told when it is read.
            let _ = connection.stream.flush();
        }
        if connection.stalled && connection.is_upgraded {
            if event.is_read_closed() || event.is_error() {
                return self.end(index, "the server ended it");
            }
            return self.sipping.note(index);
        }
        if !connection.is_upgraded && event.is_writable() {
            self.ask(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    /// Reads until drained. A short read means drained, unless the end of the stream was announced.
    fn read(&mut self, index: usize, to_the_end: bool) {
        loop {
            let Some(connection) = self.connections[index].as_mut() else { return };
            let is_drained_by_less = connection.stream.short_means_drained();
            let result = match connection.stream.read(&mut self.buffer) {
                Ok(0) => Err(Ended("the server ended a connection without a close frame".into())),
                Ok(length) => {
                    let target = usize::from(connection.target);
                    let mut none = Gaps::default();
                    let gaps = self.gaps.get_mut(&index).unwrap_or(&mut none);
                    let now_ns = sys::monotonic_ns();
                    let bytes = &self.buffer[..length];
                    let was_upgraded = connection.is_upgraded;
                    let result =
                        self.desks[target].receive(&self.targets[target], connection, gaps, bytes, now_ns);
                    if connection.is_upgraded && !was_upgraded {
                        self.in_flight -= 1;
                    }
                    if !none.is_empty() {
                        self.gaps.insert(index, none);
                    }
                    result.map(|()| (length, is_drained_by_less))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(Ended(format!("the server broke a connection: {error}"))),
            };
            match result {
                Ok((length, true)) if length < self.buffer.len() && !to_the_end => return,
                Ok(_) => {}
                Err(Ended(cause)) => return self.end(index, &cause),
            }
        }
    }

    /// Drops a connection that ended by itself, and says why.
    fn end(&mut self, index: usize, cause: &str) {
        let Some(connection) = self.remove(index) else { return };
        if !connection.is_upgraded {
            return self.refuse(&Opening::of(&connection, self.in_flight_max), cause);
        }
        let stats = &mut self.desks[usize::from(connection.target)].stats;
        if connection.stalled {
            stats.given_up += 1;
        } else {
            stats.closed += 1;
            stats.fail(cause);
        }
    }

    fn remove(&mut self, index: usize) -> Option<Connection> {
        let connection = self.connections[index].take()?;
        self.vacant.push(index);
        self.gaps.remove(&index);
        let stats = &mut self.desks[usize::from(connection.target)].stats;
        if !connection.is_upgraded {
            self.in_flight -= 1;
        } else if connection.stalled {
            stats.stalled -= 1;
        } else {
            stats.live -= 1;
            stats.sequence_sum = stats.sequence_sum.wrapping_sub(owed(connection.position.sequence));
        }
        Some(connection)
    }

    fn close(&mut self, target: u16, which: Which) {
        if which == Which::All {
            self.openings.retain(|opening| opening.target != target);
            self.retries.retain(|opening| opening.target != target);
        }
        let count = self.connections.len();
        let mut left = if let Which::Some(number) = which { number } else { count };
        // One round from where the last choice ended, so that everyone has a turn.
        let first = self.next_victim;
        for step in 0..count {
            if left == 0 {
                break;
            }
            let index = (first + step) % count;
            let chosen = self.connections[index].as_ref().is_some_and(|connection| {
                connection.target == target
                    && match which {
                        Which::All => true,
                        Which::Stalled => connection.stalled,
                        Which::Some(_) => connection.is_upgraded && !connection.stalled,
                    }
            });
            if chosen && let Some(connection) = self.remove(index) {
                reset_on_close(connection.stream.socket());
                left -= 1;
                self.next_victim = index + 1;
            }
        }
    }
}
