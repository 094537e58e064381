//! The turn: seven phases in this order, each with a bound.
//!
//! Nothing writes to a socket outside *flush*, reads the clock outside *wait*, or frees a slot outside *reap*. What a
//! phase leaves over stays on a list and keeps the next *wait* from sleeping. Each phase is the file of its name.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::accept::AcceptState;
use super::clients::Clients;
use super::commands::Subscribing;
use super::connection::Connection;
use super::drain::Drain;
use super::echo::Echoes;
use super::ends::Ends;
use super::expire::Sweep;
use super::freeze::Freeze;
use super::group::Found;
use super::memory::Memory;
use super::occupancy::Occupancy;
use super::outbox::Outbox;
use super::pending::Pending;
use super::reactor::{Reactor, Readiness};
use super::ready::ReadyList;
use super::relay::Paused;
use super::runs::Runs;
use super::sample::Sampled;
use super::senders::Senders;
use super::slots::Slots;
use crate::bus::{Bus, Receiver};
use crate::clock::{Timer, Wheel};
use crate::config::limits::{OWN_FRAMES_BYTES_MAX, READ_BYTES_PER_TURN};
use crate::config::{Config, MessageType};
use crate::delivery::Feeds;
use crate::edge::Edge;
use crate::hub::{Hub, Retries};
use crate::metrics::{Histograms, MemoryBudget, ShardCounters};
use crate::model::{ChannelIndex, ConnectionId, Origin, ShardId, Time};
use crate::net::ConnectionBudget;
use crate::session::{Event, Inflater, LivenessRules, Phases, SessionLimits};

/// Slots that are reserved at the start, as address space: a hundred thousand connections, about 11 MiB.
const SLOTS_RESERVED_MAX: usize = 100_000;

/// What a shard is made of, the reactor aside.
pub struct ShardParts {
    /// Which shard.
    pub id: ShardId,
    /// What the operator asked for.
    pub config: Arc<Config>,
    /// The bridge to the others.
    pub bus: Bus,
    /// Where it counts.
    pub counters: Arc<ShardCounters>,
    /// How many connections the process may hold.
    pub budget: ConnectionBudget,
    /// How much memory the process may hold.
    pub memory: MemoryBudget,
    /// Start of its epochs.
    pub seed: u64,
}

/// One shard's state. Drive it with [`Shard::turn`] until [`Shard::is_stopped`].
pub struct Shard<R: Reactor> {
    pub(super) id: ShardId,
    pub(super) config: Arc<Config>,
    pub(super) counters: Arc<ShardCounters>,
    pub(super) histograms: Histograms,
    pub(super) bus: Bus,
    pub(super) receiver: Receiver,
    pub(super) budget: ConnectionBudget,
    pub(super) memory: Memory,
    pub(super) reactor: R,
    pub(super) now: Time,
    pub(super) slots: Slots<Connection<R::Socket>>,
    pub(super) wheel: Wheel,
    pub(super) hub: Hub,
    /// Of channels that are homed here.
    pub(super) retries: Retries,
    pub(super) feeds: Feeds,
    pub(super) edge: Edge,
    pub(super) liveness_rules: LivenessRules,
    pub(super) phases: Phases,
    pub(super) session_limits: SessionLimits,
    /// Sockets that may have more to read.
    pub(super) read_list: ReadyList,
    /// Connections with something of their own to write.
    pub(super) write_list: ReadyList,
    /// Channels in the middle of a pass.
    pub(super) news: VecDeque<ChannelIndex>,
    /// Channels whose pass waits for the batch window, and until when.
    pub(super) held_news: VecDeque<(Time, ChannelIndex)>,
    /// Channels that took more than their subscribers have had; while there are any the bus is not read.
    pub(super) congested: Vec<ChannelIndex>,
    /// Channels that may be forgotten.
    pub(super) maybe_idle: Vec<ChannelIndex>,
    /// Connections that ended in this turn, and their peers as far as they are known.
    pub(super) ended: Vec<(u32, Option<SocketAddr>)>,
    /// Payload bytes that were deflated in this turn.
    pub(super) deflated_bytes: usize,
    /// Request heads that may still be completed in this turn.
    pub(super) heads_left: usize,
    pub(super) outbox: Outbox,
    pub(super) paused: Paused,
    pub(super) senders: Senders,
    pub(super) subscribing: Subscribing,
    pub(super) found: Found,
    pub(super) sampled: Sampled,
    pub(super) occupancy: Occupancy,
    pub(super) accepting: AcceptState,
    pub(super) pending: Pending,
    pub(super) clients: Clients,
    pub(super) drain: Option<Drain>,
    pub(super) sweep: Sweep,
    pub(super) freeze: Freeze,
    pub(super) runs: Runs,
    pub(super) ends: Ends,
    pub(super) echoes: Echoes,
    pub(super) is_stopped: bool,
    pub(super) has_timers_left: bool,
    // Buffers that every turn uses again.
    pub(super) read_buffer: Vec<u8>,
    pub(super) replies: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    /// For what clients compress, a message at a time.
    pub(super) inflater: Inflater,
    pub(super) events: Vec<Event>,
    pub(super) readiness: Vec<Readiness>,
    pub(super) timers: Vec<Timer>,
}

impl<R: Reactor> Shard<R> {
    /// A shard without connections.
    pub fn new(parts: ShardParts, mut reactor: R) -> Self {
        let ShardParts { id, config, bus, counters, budget, memory, seed } = parts;
        let now = reactor.now();
        Self {
            id,
            counters,
            histograms: Histograms::default(),
            receiver: bus.receiver(id),
            reactor,
            now,
            slots: Slots::with_capacity(budget.max().min(SLOTS_RESERVED_MAX)),
            clients: Clients::default(),
            pending: Pending::new(config.pending_max(budget.max())),
            budget,
            memory: Memory::new(memory),
            wheel: Wheel::new(now),
            hub: Hub::new(id, bus.shard_count(), seed),
            retries: Retries::default(),
            feeds: Feeds::default(),
            edge: Edge::new(&config),
            liveness_rules: LivenessRules {
                ping_interval: config.ping_interval,
                pong_timeout: config.pong_timeout,
                idle_timeout: config.idle_timeout,
            },
            phases: Phases::starting_at(seed as u16),
            session_limits: SessionLimits {
                max_message: config.max_message,
                message_type: MessageType::Any,
                own_frames_bytes_max: if config.echo {
                    config.max_message.saturating_add(OWN_FRAMES_BYTES_MAX)
                } else {
                    OWN_FRAMES_BYTES_MAX
                },
                echoes: config.echo,
            },
            read_list: ReadyList::default(),
            write_list: ReadyList::default(),
            news: VecDeque::new(),
            held_news: VecDeque::new(),
            congested: Vec::new(),
            maybe_idle: Vec::new(),
            ended: Vec::new(),
            deflated_bytes: 0,
            heads_left: 0,
            outbox: Outbox::new(bus.shard_count()),
            paused: Paused::new(bus.shard_count()),
            senders: Senders::new(if config.echo { 0 } else { config.client_rate }),
            subscribing: Subscribing::new(),
            found: Found::EMPTY,
            sampled: Sampled::default(),
            occupancy: Occupancy::default(),
            accepting: AcceptState::default(),
            drain: None,
            sweep: Sweep::default(),
            freeze: Freeze::new(config.pong_timeout),
            runs: Runs::default(),
            ends: Ends::default(),
            echoes: Echoes::default(),
            is_stopped: false,
            has_timers_left: false,
            read_buffer: vec![0; READ_BYTES_PER_TURN],
            replies: Vec::new(),
            scratch: Vec::new(),
            inflater: Inflater::default(),
            events: Vec::new(),
            readiness: Vec::new(),
            timers: Vec::new(),
            bus,
            config,
        }
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// The event loop is broken; the shard cannot go on.
    pub fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        self.receive();
        self.accept();
        self.read();
        self.expire();
        self.flush();
        self.reap();
        Ok(())
    }

    /// Whether the shard was told to end.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// What lies behind the boundary; the simulation looks in here.
    pub fn reactor_mut(&mut self) -> &mut R {
        &mut self.reactor
    }

    /// Connections held.
    pub fn connection_count(&self) -> usize {
        self.slots.len()
    }

    /// Channels known.
    pub fn channel_count(&self) -> usize {
        self.hub.len()
    }

    /// The id of whoever is in `slot`, as the origin of what it sends.
    pub(super) fn origin_of(&self, slot: u32) -> Origin {
        Origin { shard: self.id, connection: self.slots.id(slot) }
    }

    /// Arms the wheel for `slot` if its nearest deadline is nearer than what it is armed for.
    pub(super) fn arm(&mut self, slot: u32) {
        let id: ConnectionId = self.slots.id(slot);
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let due = connection.next_look(self.now, &self.liveness_rules, &self.feeds);
        if self.wheel.is_before(due, connection.armed_tick) {
            connection.armed_tick = self.wheel.arm(id, due);
        }
    }

    /// Lists `slot` for writing.
    pub(super) fn list_write(&mut self, slot: u32) {
        if let Some(connection) = self.slots.get_mut(slot) {
            self.write_list.push(slot, &mut connection.is_write_listed);
        }
    }

    /// Lists `slot` for reading, if there may be something to read.
    pub(super) fn list_read(&mut self, slot: u32) {
        if let Some(connection) = self.slots.get_mut(slot)
            && connection.may_have_input
        {
            self.read_list.push(slot, &mut connection.is_read_listed);
        }
    }
}
