//! A fake TCP connection: bytes both ways, a bounded send buffer, edge-triggered readiness as epoll reports it.
//!
//! A read is short only when nothing more has arrived; a writable edge comes only after a write that was refused or
//! cut, once there is room. The client's end is driven by `client.rs`, the gateway's end is [`FakeSocket`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use tidegate::model::ConnectionId;
use tidegate::net::Transport;

/// How the gateway's end of a connection was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// In order: the client reads what was written, then the end.
    Finished,
    /// By a reset.
    Reset,
}

/// Connections of one reactor that have something to report, in the order in which they got it.
pub type ReadyQueue = Rc<RefCell<VecDeque<WireRef>>>;
/// Both ends hold it.
pub type WireRef = Rc<RefCell<Wire>>;

/// Both directions of one connection.
#[derive(Debug)]
pub struct Wire {
    me: Weak<RefCell<Wire>>,
    /// Sent by the client and not yet arrived.
    pub flight: VecDeque<u8>,
    /// The client's end follows what is in flight.
    pub is_finishing: bool,
    inbound: VecDeque<u8>,
    has_finished: bool,
    is_reset: bool,
    outbound: VecDeque<u8>,
    /// Bytes the send buffer holds.
    pub capacity: usize,
    /// Most bytes one write takes.
    pub write_max: usize,
    /// The next writes return `Ok(0)`, which no kernel does.
    pub takes_zero: bool,
    /// Bytes taken so far.
    pub taken: u64,
    /// Write calls so far, refused ones included.
    pub write_calls: u64,
    /// Most bytes that one write offered.
    pub offered_max: usize,
    /// The gateway has ended its side.
    pub is_shut_down: bool,
    /// The gateway has closed it.
    pub closed: Option<Closed>,
    wants_write: bool,
    registered: Option<(ConnectionId, ReadyQueue)>,
    is_listed: bool,
    address: SocketAddr,
}

impl Wire {
    /// A connection that waits in a backlog; `number` becomes part of its address.
    pub fn new(number: usize, capacity: usize) -> WireRef {
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                me: me.clone(),
                flight: VecDeque::new(),
                is_finishing: false,
                inbound: VecDeque::new(),
                has_finished: false,
                is_reset: false,
                outbound: VecDeque::new(),
                capacity,
                write_max: usize::MAX,
                takes_zero: false,
                taken: 0,
                write_calls: 0,
                offered_max: 0,
                is_shut_down: false,
                closed: None,
                wants_write: false,
                registered: None,
                is_listed: false,
                address: SocketAddr::from(([127, 0, (number >> 8) as u8, number as u8], 1024)),
            })
        })
    }

    /// Up to `count` bytes of the flight arrive; the client's end arrives with the last of them.
    pub fn arrive(&mut self, count: usize) {
        let count = count.min(self.flight.len());
        self.inbound.extend(self.flight.drain(..count));
        let finishes = self.is_finishing && self.flight.is_empty() && !self.has_finished;
        self.has_finished |= finishes;
        if count > 0 || finishes {
            self.raise();
        }
    }

    /// Whether something is still under way to the gateway.
    pub fn has_flight(&self) -> bool {
        !self.flight.is_empty() || (self.is_finishing && !self.has_finished)
    }

    /// The client takes up to `count` bytes out of the send buffer.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.outbound.len());
        let bytes = self.outbound.drain(..count).collect();
        self.offer_room();
        bytes
    }

    /// Changes how much the send buffer holds.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.offer_room();
    }

    /// Bytes the client can take.
    pub fn readable(&self) -> usize {
        self.outbound.len()
    }

    /// The client's host resets the connection: what is under way either way is lost.
    pub fn reset(&mut self) {
        self.is_reset = true;
        self.flight.clear();
        self.inbound.clear();
        self.raise();
    }

    /// The id it was registered under, if it was.
    pub fn id(&self) -> Option<ConnectionId> {
        self.registered.as_ref().map(|(id, _)| *id)
    }

    /// Adds it to a reactor's interest; what is ready already is reported.
    pub fn register(&mut self, id: ConnectionId, queue: ReadyQueue) {
        self.registered = Some((id, queue));
        self.raise();
    }

    /// Takes it off the list of those with news: readable, writable, read-closed as things are now.
    pub fn poll(&mut self) -> Option<(ConnectionId, bool, bool, bool)> {
        self.is_listed = false;
        let id = self.id().filter(|_| self.closed.is_none())?;
        let has_ended = self.has_finished || self.is_reset;
        Some((id, !self.inbound.is_empty() || has_ended, self.room() > 0 || self.is_reset, has_ended))
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.outbound.len())
    }

    fn offer_room(&mut self) {
        if self.wants_write && self.room() > 0 {
            self.wants_write = false;
            self.raise();
        }
    }

    fn raise(&mut self) {
        if let Some((_, queue)) = &self.registered
            && !self.is_listed
            && let Some(me) = self.me.upgrade()
        {
            self.is_listed = true;
            queue.borrow_mut().push_back(me);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if self.inbound.is_empty() {
            return if self.has_finished { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let count = buffer.len().min(self.inbound.len());
        for (place, byte) in buffer.iter_mut().zip(self.inbound.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.write_calls += 1;
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(offered > 0, "a write of nothing");
        self.offered_max = self.offered_max.max(offered);
        assert!(!self.is_shut_down, "a write after the end of our side");
        if self.is_reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.takes_zero {
            return Ok(0);
        }
        let count = offered.min(self.room()).min(self.write_max);
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        self.outbound.extend(bytes.take(count));
        self.taken += count as u64;
        if count < offered {
            self.wants_write = true;
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if count < offered {
            // Cut by the call's bound and not by the buffer: there is room again at once.
            self.offer_room();
        }
        Ok(count)
    }
}

/// The gateway's end. Dropping it closes the connection: a reset if unread bytes were left, as TCP does it.
#[derive(Debug)]
pub struct FakeSocket {
    /// The connection.
    pub wire: WireRef,
    resets: bool,
}

impl FakeSocket {
    /// The gateway's end of `wire`.
    pub fn new(wire: WireRef) -> Self {
        Self { wire, resets: false }
    }
}

impl Transport for FakeSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wire.borrow_mut().read(buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wire.borrow_mut().write(slices)
    }

    fn shutdown_write(&mut self) {
        self.wire.borrow_mut().is_shut_down = true;
    }

    fn reset_on_close(&mut self) {
        self.resets = true;
    }

    fn peer(&self) -> Option<SocketAddr> {
        Some(self.wire.borrow().address)
    }
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        let resets = self.resets || !wire.inbound.is_empty();
        wire.closed = Some(if resets { Closed::Reset } else { Closed::Finished });
    }
}
