//! A worker thread: one mio poll, one descriptor table, its share of all connections.
//!
//! It is built to cost little, because on loopback it shares the machine with what it measures: it
//! naps between sweeps rather than being woken for each message (a receiver asleep in `epoll_wait`
//! makes the *sender* 9 to 20 % slower), reads into one shared buffer, and compares instead of parsing.

mod connection;
mod opening;
mod receive;

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use crate::feed::Position;
use crate::sources::Sources;
use crate::stats::{Latencies, Stats};
use crate::sys;
use crate::target::Target;
use crate::verify::Gaps;
use crate::wire::handshake;
use connection::{Connection, Detour, Handshake};
pub use opening::Opening;
use receive::{Desk, Ended};

/// The waker's token; connections have their index.
pub const WAKER: Token = Token(usize::MAX);

/// Events taken in one sweep.
const EVENTS_MAX: usize = 4096;
/// Size of the one read buffer: fits in a core's cache, holds 32 messages of 4 KiB.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Longest sleep when nothing happens.
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// How many connections may be in their handshake at once, per worker.
pub const HANDSHAKES_IN_FLIGHT_MAX: usize = 256;

/// What the controller tells a worker.
#[derive(Debug)]
pub enum Command {
    /// Open connections.
    Open(Opening),
    /// Close the connections to a target, by reset; only those that are never read if `stalled_only`.
    Close { target: u16, stalled_only: bool },
    /// Hand over the latencies of a target and begin new ones.
    TakeLatencies { target: u16, reply: Sender<Latencies> },
    /// End the thread.
    Stop,
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
    in_flight: usize,
    buffer: Vec<u8>,
}

impl Worker {
    /// A worker without connections. `published` receives a snapshot of its counts after each sweep.
    pub fn new(
        poll: Poll,
        commands: Receiver<Command>,
        targets: Vec<Arc<Target>>,
        published: Arc<Mutex<Vec<Stats>>>,
        sources: Arc<Sources>,
        nap: Duration,
    ) -> Self {
        let desk = || Desk { view: Default::default(), stats: Stats::default(), latencies: Latencies::new() };
        let desks = targets.iter().map(|_| desk()).collect();
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
            in_flight: 0,
            buffer: vec![0; READ_BUFFER_BYTES],
        }
    }

    /// Sweeps until told to stop.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut is_busy = false;
        let mut last_sweep_ns = sys::monotonic_ns();
        while self.obey() {
            self.open_more();
            let timeout = if is_busy { Duration::ZERO } else { IDLE_WAIT };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    self.desks[0].stats.failure.get_or_insert(format!("epoll_wait: {error}"));
                }
                _ => {}
            }
            let now_ns = sys::monotonic_ns();
            let count = events.iter().filter(|event| event.token() != WAKER).count();
            for event in events.iter().filter(|event| event.token() != WAKER) {
                self.handle(event);
            }
            if is_busy && count > 0 {
                let lag = &mut self.desks[0].stats.lag_ns_max;
                *lag = (*lag).max(now_ns - last_sweep_ns);
            }
            last_sweep_ns = now_ns;
            self.publish();
            is_busy = count > 0 || self.in_flight > 0;
            if is_busy && count < EVENTS_MAX / 2 {
                std::thread::sleep(self.nap);
            }
        }
    }

    /// Carries out commands; false ends the thread.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Open(opening) => self.openings.push(opening),
                Command::Close { target, stalled_only } => self.close(target, stalled_only),
                Command::TakeLatencies { target, reply } => {
                    let latencies = &mut self.desks[usize::from(target)].latencies;
                    let _ = reply.send(std::mem::replace(latencies, Latencies::new()));
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn publish(&self) {
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        for (out, desk) in published.iter_mut().zip(&self.desks) {
            out.clone_from(&desk.stats);
        }
    }

    fn open_more(&mut self) {
        while self.in_flight < HANDSHAKES_IN_FLIGHT_MAX {
            let Some(opening) = self.openings.last_mut() else { return };
            if opening.left == 0 {
                self.openings.pop();
                continue;
            }
            let (target, number, stalled) = (opening.target, opening.number, opening.stalled);
            opening.left -= 1;
            opening.number += opening.stride;
            if let Err(Ended(cause)) = self.open(target, number, stalled) {
                self.desks[usize::from(target)].stats.failure.get_or_insert(cause);
                self.openings.clear();
            }
        }
    }

    fn open(&mut self, target: u16, number: usize, stalled: bool) -> Result<(), Ended> {
        let urls = &self.targets[usize::from(target)].urls;
        let url = &urls[number % urls.len()];
        let started_ns = sys::monotonic_ns();
        let mut stream =
            opening::connect(url.address, number / urls.len(), stalled, &self.sources).map_err(Ended)?;
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Token(index), both);
        registered.map_err(|error| Ended(format!("epoll_ctl: {error}")))?;
        let key = handshake::key_from(started_ns ^ number as u64);
        let handshake = Handshake { key, is_sent: false, answer: Vec::new(), started_ns };
        let detour = Some(Box::new(Detour::Handshake(handshake)));
        // The number stands in for the sequence until the upgrade is done: it picks the URL again.
        let position = Position { sequence: number as u64, frame_bytes: 0 };
        self.connections[index] =
            Some(Connection { stream, target, is_upgraded: false, stalled, position, detour });
        self.in_flight += 1;
        self.send_request(index);
        Ok(())
    }

    fn send_request(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else { return };
        let Some(mut detour) = connection.detour.take() else { return };
        let Detour::Handshake(handshake) = detour.as_mut() else { return };
        let urls = &self.targets[usize::from(connection.target)].urls;
        let url = &urls[connection.position.sequence as usize % urls.len()];
        let result =
            if handshake.is_sent { Ok(true) } else { opening::send_request(connection, handshake, url) };
        connection.detour = Some(detour);
        if let Err(error) = result {
            let source = connection.stream.local_addr().ok().map(|address| address.ip());
            self.end(index, &opening::describe(&error, url.address, source));
        }
    }

    fn handle(&mut self, event: &Event) {
        let index = event.token().0;
        let Some(connection) = self.connections.get(index).and_then(Option::as_ref) else { return };
        if connection.stalled && connection.is_upgraded {
            return;
        }
        if !connection.is_upgraded && event.is_writable() {
            self.send_request(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    /// Reads until drained. A short read means drained, unless the end of the stream was announced.
    fn read(&mut self, index: usize, to_the_end: bool) {
        loop {
            let Some(connection) = self.connections[index].as_mut() else { return };
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
                    result.map(|()| length)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(Ended(format!("the server broke a connection: {error}"))),
            };
            match result {
                Ok(length) if length < self.buffer.len() && !to_the_end => return,
                Ok(_) => {}
                Err(Ended(cause)) => return self.end(index, &cause),
            }
        }
    }

    /// Drops a connection that ended by itself, and says why.
    fn end(&mut self, index: usize, cause: &str) {
        if let Some(connection) = self.remove(index) {
            let stats = &mut self.desks[usize::from(connection.target)].stats;
            stats.closed += 1;
            stats.failure.get_or_insert_with(|| cause.to_owned());
        }
    }

    fn remove(&mut self, index: usize) -> Option<Connection> {
        let connection = self.connections[index].take()?;
        self.vacant.push(index);
        self.gaps.remove(&index);
        let stats = &mut self.desks[usize::from(connection.target)].stats;
        if !connection.is_upgraded {
            self.in_flight -= 1;
            self.openings.retain(|opening| opening.target != connection.target);
        } else if connection.stalled {
            stats.stalled -= 1;
        } else {
            stats.live -= 1;
            stats.sequence_sum = stats.sequence_sum.wrapping_sub(connection.position.sequence);
        }
        Some(connection)
    }

    fn close(&mut self, target: u16, stalled_only: bool) {
        for index in 0..self.connections.len() {
            let chosen = self.connections[index].as_ref().is_some_and(|connection| {
                connection.target == target && (connection.stalled || !stalled_only)
            });
            if chosen && let Some(connection) = self.remove(index) {
                opening::reset_on_close(&connection.stream);
            }
        }
    }
}
