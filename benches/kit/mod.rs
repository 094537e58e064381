//! One shard driven by hand: no thread and no event loop, sockets of the caller's choice, a clock that stands still.
//!
//! Everything between the bus and the sockets is the gateway's own. Used by the benches that drive a shard and by
//! `tests/budgets/main.rs`. `sink.rs` is a socket that takes everything.
#![allow(dead_code, reason = "each bench uses the part it needs")]

pub mod sink;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidegate::bus::{Bus, Publish, Wake};
use tidegate::config::Config;
use tidegate::config::limits::BUS_LANE_MESSAGES;
use tidegate::metrics::{MemoryBudget, ShardCounters};
use tidegate::model::{ChannelName, ConnectionId, PayloadKind, Publication, ShardId, Time};
use tidegate::net::{ConnectionBudget, Transport};
use tidegate::shard::reactor::{Accepted, Reactor, Readiness};
use tidegate::shard::{Shard, ShardParts};

/// A channel name that is known to be valid.
pub fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).expect("a valid name")
}

/// A text message of `size` bytes for `channel`, framed.
pub fn message(channel: &ChannelName, size: usize) -> Publication {
    Publication::encode(channel.clone(), PayloadKind::Text, &vec![b'x'; size], Time::ZERO, None)
}

/// The upgrade request of a subscriber of `channels`, separated by commas.
pub fn upgrade_request(channels: &str) -> Vec<u8> {
    format!(
        "GET /ws?channels={channels} HTTP/1.1\r\nHost: feed.example\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Wakes nobody: whoever drives the shard does not sleep.
pub struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// The shard's boundary: what is ready is what the caller says.
pub struct HandReactor<S> {
    /// The present moment.
    pub now: Time,
    backlog: VecDeque<S>,
    ready: Vec<Readiness>,
    registered: Vec<ConnectionId>,
    would_sleep: bool,
}

impl<S: Transport> Reactor for HandReactor<S> {
    type Socket = S;

    fn now(&mut self) -> Time {
        self.now
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Readiness>) -> io::Result<()> {
        self.would_sleep = timeout != Some(Duration::ZERO) && self.ready.is_empty();
        ready.append(&mut self.ready);
        Ok(())
    }

    fn may_accept(&self) -> bool {
        !self.backlog.is_empty()
    }

    fn accept(&mut self) -> io::Result<Option<Accepted<S>>> {
        Ok(self.backlog.pop_front().map(|socket| Accepted { socket, peer: None }))
    }

    fn accept_with_spare(&mut self) -> Option<S> {
        None
    }

    fn restore_spare(&mut self) {}

    fn register(&mut self, _: &mut S, connection: ConnectionId) -> io::Result<()> {
        self.registered.push(connection);
        self.report_readable(connection);
        Ok(())
    }

    fn stop_accepting(&mut self) {}

    fn random(&mut self) -> u64 {
        0
    }
}

impl<S> HandReactor<S> {
    fn report_readable(&mut self, connection: ConnectionId) {
        self.ready.push(Readiness {
            connection,
            is_readable: true,
            is_writable: false,
            is_read_closed: false,
        });
    }
}

/// A shard, the bus that leads to it, and its counters.
pub struct Rig<S: Transport> {
    /// The shard.
    pub shard: Shard<HandReactor<S>>,
    /// The way to it.
    pub bus: Bus,
    /// What it counts.
    pub counters: Arc<ShardCounters>,
}

impl<S: Transport> Rig<S> {
    /// A shard of its own process, with room for `connections_max`.
    pub fn new(config: Config, connections_max: usize) -> Self {
        let bus = Bus::new(vec![Box::new(NoWake) as Box<dyn Wake>], BUS_LANE_MESSAGES);
        let counters: Arc<ShardCounters> = Arc::default();
        let reactor = HandReactor {
            now: Time::from_millis(1000),
            backlog: VecDeque::new(),
            ready: Vec::new(),
            registered: Vec::new(),
            would_sleep: false,
        };
        let parts = ShardParts {
            id: ShardId(0),
            config: Arc::new(config),
            bus: bus.clone(),
            counters: Arc::clone(&counters),
            budget: ConnectionBudget::new(connections_max),
            memory: MemoryBudget::new(0),
            seed: 1,
        };
        Self { shard: Shard::new(parts, reactor), bus, counters }
    }

    /// Makes room for `count` sockets on the reactor's lists, so that they need no memory later.
    pub fn reserve(&mut self, count: usize) {
        let reactor = self.shard.reactor_mut();
        reactor.backlog.reserve(count);
        reactor.ready.reserve(count);
        reactor.registered.reserve(count);
    }

    /// Takes sockets in whose upgrade requests wait to be read, until each is a subscriber.
    pub fn admit(&mut self, sockets: impl IntoIterator<Item = S>) {
        self.offer(sockets);
        assert_eq!(self.counters.open.get(), self.shard.connection_count() as u64, "all are upgraded");
    }

    /// Takes sockets in and answers what waits to be read of them.
    pub fn offer(&mut self, sockets: impl IntoIterator<Item = S>) {
        self.shard.reactor_mut().backlog.extend(sockets);
        self.settle();
    }

    /// Puts a message on the bus.
    pub fn publish(&self, publication: &Publication) {
        let publish = Publish { publication: publication.clone(), on_receipt: None };
        self.bus.publish(publish).expect("the lane has room");
    }

    /// Reports that the `index`-th socket taken in has something to read.
    pub fn report_readable(&mut self, index: usize) {
        let reactor = self.shard.reactor_mut();
        let connection = reactor.registered[index];
        reactor.report_readable(connection);
    }

    /// Lets time pass, without a turn.
    pub fn pass_time(&mut self, duration: Duration) {
        let reactor = self.shard.reactor_mut();
        reactor.now = reactor.now.after(duration);
    }

    /// Turns until the shard would sleep.
    pub fn settle(&mut self) {
        loop {
            self.shard.turn().expect("a reactor that never fails");
            if self.shard.reactor_mut().would_sleep {
                return;
            }
        }
    }
}
